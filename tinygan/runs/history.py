"""The history of a run, a row per step: in memory, as arrays in the checkpoint, and as text in `metrics.csv`."""
from __future__ import annotations

__all__ = ["History", "Row"]

import math
from array import array
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Row(NamedTuple):
    """One step: the losses, what the discriminator said of real and of generated images (see `gans.Stats`), and the seconds
    of training so far."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float
    seconds: float

    def broken(self) -> str | None:
        """A phrase that says which loss is not finite; None if both are."""
        for player, loss in (("discriminator", self.d_loss), ("generator", self.g_loss)):
            if not math.isfinite(loss):
                return f"the {player}'s loss is {loss}"
        return None


QUANTITIES = Row._fields[:-1]  # without the seconds
HEADER = ",".join(("epoch", "step", *Row._fields))


class History:
    """The rows of all steps so far. They are kept as float32 columns (the seconds as float64)."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._columns = {name: array("f") for name in QUANTITIES}
        self._seconds = array("d")

    def __len__(self) -> int:
        return len(self._seconds)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before the run was resumed."""
        return self._seconds[-1] if self._seconds else 0.0

    def append(self, row: Row) -> str:
        """Add a step; returns its line in the CSV."""
        for name, value in zip(QUANTITIES, row, strict=False):
            self._columns[name].append(value)
        self._seconds.append(round(row.seconds, 3))
        return self._line(len(self) - 1)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of one column, (steps,)."""
        return np.array(self._columns[name], dtype=np.float32)

    def mean(self, epoch: int) -> dict[str, float]:
        """The means over the steps made so far in an epoch (from 1)."""
        rows = slice((epoch - 1) * self.steps_per_epoch, epoch * self.steps_per_epoch)
        return {name: float(np.mean(self[name][rows], dtype=np.float64)) for name in QUANTITIES}

    def csv(self) -> str:
        """The content of `metrics.csv`."""
        return "\n".join([HEADER, *(self._line(i) for i in range(len(self)))]) + "\n"

    def _line(self, i: int) -> str:
        values = ",".join(f"{self._columns[name][i]:.9g}" for name in QUANTITIES)  # nine digits identify a float32
        return f"{i // self.steps_per_epoch + 1},{i + 1},{values},{self._seconds[i]:.3f}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as arrays for a checkpoint."""
        return {**{name: self[name] for name in QUANTITIES}, "seconds": np.array(self._seconds, dtype=np.float64)}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Load what `state` returned."""
        self._columns = {name: array("f", state[name].astype(np.float32).tobytes()) for name in QUANTITIES}
        self._seconds = array("d", state["seconds"].astype(np.float64).tobytes())
