"""The run folder: its lock, its files, and what must stay the same when a run is resumed."""
from __future__ import annotations

__all__ = ["RunFolder", "digest", "read_checkpoint", "refuse_moved_data", "refuse_occupied", "refuse_other_data",
           "refuse_own_samples_as_data"]

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data.files import absolute
from tinygan.saving import CheckpointError, load, remove_strays, save, write_atomically

from . import advice, config_file, machine
from .errors import RunError
from .history import History
from .lock import NAME as LOCK_NAME
from .lock import FolderLock
from .settings import CONFIG, Resume, Settings, first_names, read_config
from .trainable import TrainableGAN
from .variants import is_younger, on_resume

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.csv"
_MAY_CHANGE = {"data_dir", "name", "bad_files", "classes"}  # of what is noted about the data


class RunFolder:
    """A context manager that holds the folder's lock. It knows the files of a run, and writes its settings and
    checkpoint; the loggers write the others (see `writers`).

    Entering it creates the folder or, with `settings.resume`, continues the run in it. Raises RunError if that is not
    possible. If a run has several processes, only one of them may have a `RunFolder`. networks: the networks in words, if
    they are the user's own. rules: the GAN's rules that are not those of the settings (see `own_rules`); None: not known.
    """

    def __init__(self, settings: Settings, dataset: Any, device: str = "cpu",
                 steps_per_epoch: int = 1, networks: Mapping[str, str] | None = None,
                 rules: Mapping[str, str] | None = None) -> None:
        self.path = Path(settings.run_dir)
        self.checkpoint = self.path / CHECKPOINT
        self.metrics = self.path / METRICS
        self.losses = self.path / "losses.png"
        self.quality = self.path / "quality.json"
        self.animation = self.path / "samples.gif"
        self.repeat = self.path / config_file.NAME
        self.recording = self.path / "recording"
        self.notes: list[str] = []
        self._settings = settings
        self._config = {**_configuration(settings, dataset, device), "steps_per_epoch": steps_per_epoch,
                        **({"networks": dict(networks)} if networks else {}),
                        **({} if rules is None else {"rules": dict(rules)})}
        self._read: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._fresh = False
        self._closing = ExitStack()

    def __enter__(self) -> RunFolder:
        refuse_occupied(self._settings)
        try:
            (self.path / "samples").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"cannot create the run folder {self.path}: {error.strerror}") from error
        with ExitStack() as opening:
            opening.enter_context(FolderLock(self.path))
            refuse_occupied(self._settings)  # checked again: now, with the lock, no other run can write there
            for folder in (self.path, self.path / "samples", self.recording):
                remove_strays(folder)
            stored = read_config(self.path)
            self._fresh = stored is None
            if stored is not None:
                self._agree_with(stored)
            write_atomically(self.path / CONFIG, (json.dumps(self._config, indent=2) + "\n").encode())
            self._write_repeat()
            self._closing = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.close()

    def _write_repeat(self) -> None:
        """Write `run.toml`, unless it is there already."""
        content = config_file.written(self._settings, self._config["data"]["data_dir"],
                                      advice.repeat(self._settings, self.repeat)).encode()
        if not self.repeat.is_file() or self.repeat.read_bytes() != content:
            write_atomically(self.repeat, content)

    def sample_path(self, epoch: int) -> Path:
        """The file of the grid of samples after `epoch` (from 1)."""
        return self.path / "samples" / f"epoch_{epoch:04d}.png"

    def vacate(self) -> None:
        """Delete the files of a new run that failed before its first step. Its user can then correct the reason and start it
        again in the same folder."""
        if self._fresh and not self.checkpoint.exists():
            for path in (self.metrics, self.repeat, self.path / CONFIG, *self.recording.glob("step_*.safetensors")):
                path.unlink(missing_ok=True)

    def _agree_with(self, stored: dict[str, Any]) -> None:
        """Refuse to continue a run with other settings, other data or fewer epochs than it has made. Note if the machine or
        the name of the data has changed. Before the first checkpoint, settings and data may change."""
        new = self._config
        if self.checkpoint.exists():
            # Version 0.1.0 also called networks a program's own if only its latent vectors or its average were.
            rules = new.get("rules", {})
            same = rules == stored.get("rules") and bool({"noise", "latent_dim", "average"} & rules.keys())
            if "networks" in stored and "networks" not in new and not same:
                self._refuse(f"its networks are not those of {new['variant']!r}: only the program that began the run can "
                             "continue it")
            for kind, name, old, value in _changes(stored, new, self._settings):
                advice = "name the run's own data with --data-dir, or start" if kind == "data" else "start"
                old, value = ("not given" if one is None else one for one in (old, value))
                self._refuse(f"{name} was {old}, now {value}; it must stay the same: {advice} another run with another "
                             "--run-dir")
            self._refuse_other_rules(stored.get("rules", {}), new.get("rules", {}), "rules" in stored and "rules" in new)
            self._read = read_checkpoint(self.checkpoint, new)
            self._refuse_fewer_epochs(len(self._read[1]["seconds"]))
        if stored["data"]["name"] != new["data"]["name"]:
            self.notes.append(f"the data are called {new['data']['name']} now, and were {stored['data']['name']}; their "
                              "content is the same")
        changed = machine.differences(stored, new)
        if changed:
            self.notes.append(f"resuming on another machine or with other versions ({'; '.join(changed)}): the results will "
                              "not be bit for bit those of an uninterrupted run")
            now = {name: new[name] for name in ("versions", "machine")}
            earlier = stored.get("resumed", [])
            new["resumed"] = earlier if now in earlier[-1:] else [*earlier, now]
            new.update({name: stored[name] for name in ("versions", "machine") if name in stored})
        elif "resumed" in stored:
            new["resumed"] = stored["resumed"]

    def _refuse_other_rules(self, old: Mapping[str, str], new: Mapping[str, str], known: bool) -> None:
        for name in sorted(old.keys() | new.keys()) if known else ():
            if old.get(name) != new.get(name):
                usual = "that of the settings"
                self._refuse(f"the GAN's {name} was {old.get(name, usual)}, now it is {new.get(name, usual)}. A program "
                             "gave its GAN other rules than the settings have: only that program can continue the run")

    def _refuse_fewer_epochs(self, done: int) -> None:
        epochs, more = divmod(done, self._config["steps_per_epoch"])
        least = epochs + (more > 0)
        if least > self._settings.epochs:
            told = f"{epochs} epoch{'s' if epochs > 1 else ''}" + (f" and {more} steps of the next" if more else "")
            self._refuse(f"{told} are done: --epochs must be at least {least}, got {self._settings.epochs}")

    def _refuse(self, why: str) -> None:
        raise RunError(f"cannot resume {self.path}: {why}")

    def save(self, state: dict[str, npt.NDArray[Any]], history: History) -> None:
        """Write the checkpoint: the GAN's state, the history, and the position in the data, which follows from the
        history."""
        arrays: dict[str, npt.NDArray[Any]] = {f"gan.{name}": values for name, values in state.items()}
        arrays |= {f"history.{name}": column for name, column in history.state().items()}
        arrays["cursor"] = np.array(divmod(len(history), history.steps_per_epoch), dtype=np.int64)  # epochs, steps
        save(self.checkpoint, arrays, {"config": digest(self._config), "data": str(self._config["data"]["name"])})

    def load(self, gan: TrainableGAN, history: History) -> bool:
        """Load the checkpoint into `gan` and `history`. False if there is none yet."""
        if self._read is None:
            return False
        (state, past), self._read = self._read, None
        try:
            gan.load_state_dict(state)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.checkpoint} does not fit this GAN: {error}") from error
        history.load(past)
        return True

    def last_good(self) -> str:
        """A phrase for error messages: which checkpoint there is."""
        if not self.checkpoint.exists():
            return "there is no checkpoint yet"
        with suppress(CheckpointError, OSError, KeyError):
            epochs, steps = load(self.checkpoint)[0]["cursor"].tolist()
            after = f"epoch {epochs}" + (f" and {steps} steps" if steps else "")
            return f"the last good checkpoint is {self.checkpoint}, after {after}"
        return f"{self.checkpoint} cannot be read"


def refuse_occupied(settings: Settings) -> None:
    """Refuse a new run in a folder that is not empty, and resuming in a folder without a run of the same variant."""
    path = Path(settings.run_dir)
    if not settings.run_dir:
        raise RunError("a run needs a folder: --run-dir DIR (in Python: run_dir in its settings)")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file: a run needs a folder (--run-dir)")
    if settings.resume and not path.is_dir():
        raise RunError(f"{path} does not exist, so there is nothing to resume: leave out --resume, or name the run's "
                       "folder with --run-dir")
    stored = read_config(path) if settings.resume else None
    if stored is not None and stored["variant"] != settings.variant:
        raise RunError(f"cannot resume {path}: it is a run of {stored['variant']!r}, not of {settings.variant!r}")
    if settings.resume and stored is None and not _is_vacant(path):
        raise RunError(f"cannot resume {path}: it is not a run folder, or its {CONFIG} was deleted")
    if not settings.resume and path.is_dir() and not _is_vacant(path):
        in_python = advice.origin().kind == "train"
        resume, run_dir = ("resume=True", "run_dir") if in_python else ("--resume", "--run-dir")
        is_run = (path / CONFIG).is_file()
        raise RunError(f"{path} already holds {'a run' if is_run else 'other files'}: "
                       + f"{resume} continues it, " * is_run + f"another {run_dir} starts a new one")


def refuse_moved_data(run_dir: str | Path, data_dir: str | None) -> None:
    """Raise RunError if a run's data are no longer at the place that its `config.json` names. The message says what to
    do."""
    if data_dir is not None and not Path(data_dir).exists():
        raise RunError(f"the data of {run_dir} are no longer at {data_dir}: say with --data-dir where they are now "
                       "(they may have another name, but must have the same content)")


def refuse_other_data(settings: Settings, dataset: Any) -> None:
    """Refuse to continue a run with other data than its own. (A `RunFolder` refuses them too, and all other changes.)"""
    stored = read_config(Path(settings.run_dir)) if settings.resume else None
    if stored is not None and stored["data"].get("checksum") != dataset.checksum:
        raise RunError(f"cannot resume {settings.run_dir}: its data were {stored['data']['name']}, and these are "
                       f"{dataset.name}: name the run's own data with --data-dir, or start another run with another "
                       "--run-dir")


def refuse_own_samples_as_data(settings: Settings, dataset: Any) -> None:
    """Refuse a new run inside the folder of its images: when it is resumed, its samples would be read as images."""
    data_dir = settings.data_dir or os.environ.get("TINYGAN_DATA")
    if data_dir and not settings.resume and dataset.name.startswith("images:"):
        images = Path(data_dir).expanduser().resolve()
        if Path(settings.run_dir).resolve().is_relative_to(images):
            raise RunError(f"{settings.run_dir} is inside the folder of the images, {images}, so the run's samples would be "
                           "read as images: choose another --run-dir")


def read_checkpoint(path: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the GAN's state, the history's state) from a run's checkpoint. The checkpoint must belong to `config`."""
    arrays, metadata = load(path)
    # The data's name is part of the digest, but may have changed since. The checksum says whether they are the same data.
    named = {**config, "data": {**config["data"], "name": metadata.get("data")}}
    if metadata.get("config") != digest(named):
        raise CheckpointError(f"{path} and {path.parent / CONFIG} belong to different runs")
    parts: dict[str, dict[str, Any]] = {"gan": {}, "history": {}}
    for name, values in arrays.items():
        part, dot, rest = name.partition(".")
        if dot:
            parts[part][rest] = values
    return parts["gan"], parts["history"]


def digest(config: dict[str, Any]) -> str:
    """A SHA-256 of everything that must stay the same when a run is resumed."""
    settings = {name: value for name, value in config["settings"].items()
                if on_resume(name) is Resume.FIXED and not (is_younger(name) and value is None)}
    settings = first_names(settings)
    data = {name: value for name, value in config["data"].items() if name not in _MAY_CHANGE - {"name"}}
    return hashlib.sha256(json.dumps([config["variant"], settings, data], sort_keys=True).encode()).hexdigest()


def _configuration(settings: Settings, dataset: Any, device: str) -> dict[str, Any]:
    source = settings.data_dir or dataset.source
    data_dir = None if source is None else str(absolute(source))
    return {
        "variant": settings.variant,
        "settings": settings.deciding(),
        "device": device,
        "data": {"name": dataset.name, "images": len(dataset), "image_shape": list(dataset.image_shape),
                 "checksum": dataset.checksum, "data_dir": data_dir,
                 **({"bad_files": dataset.bad_files} if dataset.bad_files else {}),
                 **({"classes": list(dataset.class_names)} if dataset.class_names else {})},
        **machine.describe(),
    }


def _changes(stored: dict[str, Any], new: dict[str, Any], settings: Settings) -> Iterator[tuple[str, str, Any, Any]]:
    """("settings" or "data", name, old value, new value) of every difference that would change the results.

    If the run is older than a setting, the setting had its default value then. Data with the same checksum are the same
    data, no matter what they are called and how they are read."""
    defaults = {item.name: item.default for item in fields(settings)}
    same_images = stored["data"].get("checksum") == new["data"]["checksum"]
    for group, prefix, separator in (("settings", "--", "-"), ("data", "the data set's ", " ")):
        for name in sorted(stored[group].keys() | new[group].keys()):
            if _may_change(group, name, same_images):
                continue
            old, value = stored[group].get(name, defaults.get(name)), new[group].get(name)
            if old != value:
                yield group, prefix + name.replace("_", separator), old, value


def _may_change(group: str, name: str, same_images: bool) -> bool:
    """Whether that setting, or that entry about the data, may change when a run is resumed."""
    if group == "data":
        return name in _MAY_CHANGE
    rule = on_resume(name)
    return rule is Resume.FREE or (rule is Resume.SAME_IMAGES and same_images)


def _is_vacant(folder: Path) -> bool:
    """Whether the folder is empty, or holds only remains of a run that was killed before it wrote its settings."""
    for path in folder.iterdir():
        if path.name in ("samples", "recording") and path.is_dir():
            if not _is_vacant(path):
                return False
        elif path.name != LOCK_NAME and not path.name.endswith(".tmp"):
            return False
    return True
