"""The run folder: who may write there, what lies there, and what a resumed run must agree with."""
from __future__ import annotations

__all__ = ["RunFolder", "digest", "read_checkpoint", "refuse_occupied"]

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tinygan.saving import CheckpointError, load, remove_strays, save, write_atomically

from . import machine
from .errors import RunError
from .history import History
from .lock import NAME as LOCK_NAME
from .lock import FolderLock
from .settings import Settings, read_config
from .variants import GAN

_FLUSH_SECONDS = 1.0


class RunFolder:
    """A context manager that holds the folder's lock; everything a run writes goes through it.

    Entering creates the folder, or takes up the run in it (`settings.resume`), or refuses with a `RunError`. In a run
    over several processes only one may have a `RunFolder`.
    """

    def __init__(self, settings: Settings, dataset: Any, device: str = "cpu") -> None:
        self.path = Path(settings.run_dir)
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.metrics = self.path / "metrics.csv"
        self.losses = self.path / "losses.png"
        self.quality = self.path / "quality.json"
        self.animation = self.path / "samples.gif"
        self.notes: list[str] = []
        self._settings = settings
        self._config = _configuration(settings, dataset, device)
        self._closing = ExitStack()
        self._csv: IO[str] | None = None
        self._flushed = float("-inf")

    def __enter__(self) -> RunFolder:
        refuse_occupied(self._settings)
        try:
            (self.path / "samples").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"cannot create the run folder {self.path}: {error.strerror}") from error
        with ExitStack() as opening:
            opening.enter_context(FolderLock(self.path))
            refuse_occupied(self._settings)  # again: now nobody else can fill it in between
            for folder in (self.path, self.path / "samples"):
                remove_strays(folder)
            stored = read_config(self.path)
            if stored is not None:
                self._agree_with(stored)
            write_atomically(self.path / "config.json", (json.dumps(self._config, indent=2) + "\n").encode())
            self._closing = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._csv is not None:
            with suppress(OSError):  # a full disk has been reported already, or the history has every row anyway
                self._csv.close()
            self._csv = None
        self._closing.close()

    def sample_path(self, epoch: int) -> Path:
        """Where the grid after `epoch` (from 1) lies."""
        return self.path / "samples" / f"epoch_{epoch:04d}.png"

    def _agree_with(self, stored: dict[str, Any]) -> None:
        """Refuse to go on with a run under other settings or other data; note another machine."""
        new = self._config
        for name, old, value in _changes(stored, new):
            if name == "--evaluate" or (name == "--epochs" and int(value) > int(old)):
                continue
            advice = "it is the total and may only grow" if name == "--epochs" else \
                "it must stay the same: start another run with another --run-dir"
            raise RunError(f"cannot resume {self.path}: {name} was {old}, now {value}; {advice}")
        changed = machine.differences(stored, new)
        if changed:
            self.notes.append(f"resuming on another machine or other versions ({'; '.join(changed)}): the run goes on, "
                              "but bit for bit as if uninterrupted it will not be")
            new["resumed"] = [*stored.get("resumed", []), {name: new[name] for name in ("versions", "machine")}]
            new.update({name: stored[name] for name in ("versions", "machine") if name in stored})
        elif "resumed" in stored:
            new["resumed"] = stored["resumed"]

    def save(self, state: dict[str, npt.NDArray[Any]], history: History) -> None:
        """Write the checkpoint: the GAN's state, the history, and from that the data cursor."""
        arrays: dict[str, npt.NDArray[Any]] = {f"gan.{name}": values for name, values in state.items()}
        arrays |= {f"history.{name}": column for name, column in history.state().items()}
        arrays["cursor"] = np.array(divmod(len(history), history.steps_per_epoch), dtype=np.int64)  # epochs, steps
        save(self.checkpoint, arrays, {"config": digest(self._config), "data": str(self._config["data"]["name"])})

    def load(self, gan: GAN, history: History) -> bool:
        """Take `gan` and `history` to where the checkpoint left them; False if there is none yet."""
        if not self.checkpoint.exists():
            return False
        state, past = read_checkpoint(self.checkpoint, self._config)
        try:
            gan.load_state_dict(state)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.checkpoint} does not fit this GAN: {error}") from error
        history.load(past)
        return True

    def last_good(self) -> str:
        """A phrase that says which checkpoint there is."""
        if not self.checkpoint.exists():
            return "there is no checkpoint yet"
        with suppress(CheckpointError, OSError, KeyError):
            epochs, steps = load(self.checkpoint)[0]["cursor"].tolist()
            after = f"epoch {epochs}" + (f" and {steps} steps" if steps else "")
            return f"the last good checkpoint is {self.checkpoint}, after {after}"
        return f"{self.checkpoint} cannot be read"

    def start_metrics(self, history: History) -> None:
        """(Re)write `metrics.csv` from the history, which drops rows later than the checkpoint, and go on below it."""
        write_atomically(self.metrics, history.csv().encode())
        self._csv = open(self.metrics, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed in __exit__)

    def append_metrics(self, line: str, seconds: float) -> None:
        """Add a row, and hand rows to the operating system about once a second."""
        assert self._csv is not None
        self._csv.write(line + "\n")
        if seconds - self._flushed >= _FLUSH_SECONDS:
            self.flush_metrics()
            self._flushed = seconds

    def flush_metrics(self) -> None:
        """Hand all rows to the operating system."""
        if self._csv is not None:
            try:
                self._csv.flush()
            except OSError as error:
                raise OSError(error.errno, f"cannot write {self.metrics}: {error.strerror}; {self.last_good()}") from error


def refuse_occupied(settings: Settings) -> None:
    """Refuse a new run into a folder that holds something, and a resumed run from a folder that does not exist."""
    path = Path(settings.run_dir)
    if not settings.run_dir:
        raise RunError("a run needs a folder: --run-dir DIR")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file: a run needs a folder (--run-dir)")
    if settings.resume and not path.is_dir():
        raise RunError(f"{path} does not exist, so there is nothing to resume: leave out --resume, or name the run's "
                       "folder with --run-dir")
    if not settings.resume and path.is_dir() and not _is_vacant(path):
        advice = "--resume goes on with it, " if (path / "config.json").is_file() else ""
        what = "a run" if advice else "other files"
        raise RunError(f"{path} already holds {what}: {advice}another --run-dir starts a new one")


def read_checkpoint(path: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the GAN's state, the history's) from a run's checkpoint, which must belong to `config`."""
    arrays, metadata = load(path)
    if metadata.get("config") != digest(config):
        raise CheckpointError(f"{path} belongs to another run than {path.parent / 'config.json'}")
    parts: dict[str, dict[str, Any]] = {"gan": {}, "history": {}}
    for name, values in arrays.items():
        part, dot, rest = name.partition(".")
        if dot:
            parts[part][rest] = values
    return parts["gan"], parts["history"]


def digest(config: dict[str, Any]) -> str:
    """A SHA-256 over what must stay the same when a run is resumed."""
    left_out = ("epochs", "evaluate", "image_size", "channels")  # the last two: see the data's shape and checksum
    younger = ("g_learning_rate", "precision")  # than some runs: counts where it is set
    settings = {name: value for name, value in config["settings"].items()
                if name not in left_out and not (name in younger and value is None)}
    data = {name: value for name, value in config["data"].items() if name != "data_dir"}
    return hashlib.sha256(json.dumps([config["variant"], settings, data], sort_keys=True).encode()).hexdigest()


def _configuration(settings: Settings, dataset: Any, device: str) -> dict[str, Any]:
    every = asdict(settings)
    return {
        "variant": settings.variant,
        "settings": settings.deciding(),
        "device": device,
        "data": {"name": dataset.name, "images": len(dataset), "image_shape": list(dataset.image_shape),
                 "checksum": dataset.checksum, "data_dir": every["data_dir"]},
        **machine.describe(),
    }


def _changes(stored: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, old value, new value) of everything that decides what is computed and differs."""
    if stored["variant"] != new["variant"]:
        yield "the variant", stored["variant"], new["variant"]
    for group, prefix, separator in (("settings", "--", "-"), ("data", "the data set's ", " ")):
        for name in sorted((stored[group].keys() | new[group].keys()) - {"data_dir"}):
            old, value = stored[group].get(name), new[group].get(name)
            if old != value:
                yield prefix + name.replace("_", separator), old, value


def _is_vacant(folder: Path) -> bool:
    """Whether nothing lies there, or only what a run leaves that was killed before it wrote its settings."""
    for path in folder.iterdir():
        if path.name == "samples" and path.is_dir():
            if not _is_vacant(path):
                return False
        elif path.name != LOCK_NAME and not path.name.endswith(".tmp"):
            return False
    return True
