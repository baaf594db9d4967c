"""Reading a run back: its networks, its history, and what it recorded (see `recorder`)."""
from __future__ import annotations

__all__ = ["Absent", "Record", "Run", "discard_after", "read_records", "record_path"]

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.data import DataError, Dataset
from tinygan.runs.errors import RunError
from tinygan.runs.opening import open_run, own_cost, run_data, settings_of, untrained
from tinygan.runs.settings import Settings
from tinygan.runs.variants import VARIANTS
from tinygan.saving import CheckpointError, load

_PATTERN = "step_*.safetensors"


class Absent(NamedTuple):
    """Something that does not exist for this run. reason: one line that says why, and how to get it."""

    reason: str


def record_path(folder: Path, step: int) -> Path:
    """The file of the record after that many steps."""
    return folder / f"step_{step:07d}.safetensors"


class Record:
    """What a run recorded after `step` steps. `record["logits"]` is an array; they are read at the first use. Raises
    CheckpointError for a damaged file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step = int(path.stem.removeprefix("step_"))

    @cached_property
    def _content(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        arrays, metadata = load(self.path)
        try:
            return arrays, json.loads(metadata["record"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.path} is not a record of a run") from error

    @property
    def about(self) -> dict[str, Any]:
        """What the record says about its arrays: "step", "epoch" (None if there are none), "cost", "coupled", and the names
        of parameters and activations of each player."""
        return self._content[1]

    @property
    def epoch(self) -> float | None:
        """The number of epochs made, with a fraction; None in a training without epochs."""
        found: float | None = self.about["epoch"]
        return found

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._content[0][name]

    def __contains__(self, name: str) -> bool:
        return name in self._content[0]

    def __repr__(self) -> str:
        return f"Record({str(self.path)!r})"


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """The records in that folder, by step. Empty if there is no such folder."""
    return sorted(map(Record, Path(folder).glob(_PATTERN)), key=lambda record: record.step)


def discard_after(folder: Path, step: int) -> None:
    """Delete the records of later steps: a run that is resumed makes these steps again."""
    for record in read_records(folder):
        if record.step > step:
            record.path.unlink()


class Run:
    """A run in a folder, as the sections get it. Everything is read on the CPU.

    path: the folder. config: its `config.json`. settings: those of its variant, or None for a program's own. gan: with the
    state of the checkpoint; a section may compute with it, but must leave it as it is (`updates.unchanged`). history: the
    columns by name. rules: those that the run's program gave its GAN in place of the settings', in words; empty if that GAN
    is given. records: see `read_records`. gan, in the arguments: as for `training.open_run`. data_dir: where the run's data
    are (default: where they were).
    """

    def __init__(self, path: str | os.PathLike[str], gan: Any = None, data_dir: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self._data_dir = data_dir
        self.gan: Any
        self.gan, self.config, self.history = open_run(self.path, gan)
        if (own := own_cost(self.config)) is not None:
            raise RunError(f"{self.path} has a cost of a program's own, {own!r}, and the page shows what it does. In "
                           f"Python, add it to tinygan.gans.COSTS, then:  tinygan.teaching.explain({str(self.path)!r})")
        self.rules: dict[str, str] = {} if gan is not None else self.config.get("rules") or {}
        self.records = read_records(self.path / "recording")
        self.settings: Settings | None = None
        if self.config["variant"] in VARIANTS:
            self.settings = settings_of(self.path, self.config)

    @property
    def step(self) -> int:
        """How many steps the run has made."""
        return len(self.history["d_loss"])

    @property
    def steps_per_epoch(self) -> int | None:
        """How many steps an epoch has. (Runs of older versions do not say it.)"""
        found: int | None = self.config.get("steps_per_epoch")
        return found

    @property
    def epoch(self) -> float | None:
        """How many epochs the run has made, with a fraction."""
        return self.step / self.steps_per_epoch if self.steps_per_epoch else None

    def initial(self) -> Any:
        """The GAN with which the run began, untrained. Raises RunError if only the user's program can build it."""
        return untrained(self.path)

    @cached_property
    def _dataset(self) -> Dataset | Absent:
        try:
            return run_data(self.path, self.config, self._data_dir)
        except (RunError, DataError, OSError) as error:
            if self._data_dir is not None:  # a user has named these data
                raise
            return Absent(str(error))

    def dataset(self) -> Dataset | Absent:
        """The data, if they can be loaded."""
        return self._dataset

    def batch(self, n: int, start: int = 0) -> npt.NDArray[np.float32] | Absent:
        """n images of the data, beginning with number `start`."""
        data = self.dataset()
        return data if isinstance(data, Absent) else data.batch((start + np.arange(n)) % len(data))
