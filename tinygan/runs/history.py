"""The history of a run, a row per step: in memory, as arrays in the checkpoint, and as text in `metrics.csv`."""
from __future__ import annotations

__all__ = ["History", "Row"]

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Row(NamedTuple):
    """One step: the losses, what the discriminator said of real and of generated images (see `gans.Stats`), the seconds of
    training so far, and what the GAN reports beside these (its `measures`)."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float
    seconds: float
    measures: tuple[float, ...] = ()

    def broken(self) -> str | None:
        """A phrase that says which loss is not finite; None if both are."""
        for player, loss in (("discriminator", self.d_loss), ("generator", self.g_loss)):
            if not math.isfinite(loss):
                return f"the {player}'s loss is {loss}"
        return None


QUANTITIES = Row._fields[:4]  # what every run keeps of a step, but for the seconds


class History:
    """The rows of all steps so far. They are kept as float32 columns (the seconds as float64). measures: the names of what
    the GAN reports beside the quantities of every run; they are columns of their own, before the seconds."""

    def __init__(self, steps_per_epoch: int, measures: Sequence[str] = ()) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.measures = tuple(measures)
        self._columns = {name: array("f") for name in (*QUANTITIES, *self.measures)}
        self._seconds = array("d")

    def __len__(self) -> int:
        return len(self._seconds)

    def __repr__(self) -> str:
        return f"History({len(self):,} steps, {len(self) / self.steps_per_epoch:.3g} epochs)"

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before the run was resumed."""
        return self._seconds[-1] if self._seconds else 0.0

    def append(self, row: Row) -> None:
        """Add a step."""
        values = row.d_loss, row.g_loss, row.d_real, row.d_fake, *row.measures
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self._seconds.append(round(row.seconds, 3))

    def last(self) -> dict[str, float]:
        """The last step, by the names of the columns, without the seconds."""
        return {name: column[-1] for name, column in self._columns.items()}

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of one column, (steps,)."""
        return np.array(self._columns[name], dtype=np.float32)

    def mean(self, epoch: int) -> dict[str, float]:
        """The means over the steps made so far in an epoch (from 1)."""
        rows = slice((epoch - 1) * self.steps_per_epoch, epoch * self.steps_per_epoch)
        return {name: float(np.mean(self[name][rows], dtype=np.float64)) for name in self._columns}

    def csv(self) -> str:
        """The content of `metrics.csv`."""
        header = ",".join(("epoch", "step", *self._columns, "seconds"))
        return "\n".join([header, *(self.line(step) for step in range(1, len(self) + 1))]) + "\n"

    def line(self, step: int) -> str:
        """The line of a step (from 1) in the CSV."""
        i = step - 1
        values = ",".join(f"{column[i]:.9g}" for column in self._columns.values())  # nine digits identify a float32
        return f"{i // self.steps_per_epoch + 1},{step},{values},{self._seconds[i]:.3f}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as arrays for a checkpoint."""
        return {**{name: self[name] for name in self._columns}, "seconds": np.array(self._seconds, dtype=np.float64)}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Load what `state` returned."""
        self._columns = {name: array("f", state[name].astype(np.float32).tobytes()) for name in self._columns}
        self._seconds = array("d", state["seconds"].astype(np.float64).tobytes())
