"""The processes of a run. The first one has the run's folder and prints. The others train with it, and write nothing."""
from __future__ import annotations

__all__ = ["Follower", "Team"]

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.data.files import counted
from tinygan.distributed import World
from tinygan.launched import local_size

from . import machine
from .errors import RunError
from .history import History
from .settings import Settings
from .trainable import TrainableGAN


class Team:
    """The processes that make a run together; world is None if this process is alone."""

    def __init__(self, world: World | None) -> None:
        self.world = world
        self.size = 1 if world is None else world.size
        self.leads = world is None or world.rank == 0

    def take_in(self, gan: TrainableGAN, settings: Settings) -> None:
        """Let the GAN train with all processes. Raises RunError or SettingsError if it cannot."""
        if self.world is None:
            return
        self.world.share(settings.batch_size)
        if ":" in settings.device and local_size() > 1:
            raise RunError(f"--device {settings.device} gives all processes the same GPU: with --device cuda, each has its "
                           "own")
        if settings.record:
            raise RunError("--record needs one process: record a short run without mpirun")
        if not hasattr(gan, "world"):
            raise RunError(f"{type(gan).__name__} cannot be trained by several processes: a GAN of your own should be a "
                           "subclass of tinygan.gans.GAN")
        gan.world = self.world

    def agree(self, dataset: Dataset, settings: Settings) -> None:
        """Raise RunError on all processes unless all have the same versions, data and settings."""
        if self.world is None:
            return
        found = {**machine.describe()["versions"], "data": dataset.checksum,
                 **{f"--{name.replace('_', '-')}": repr(value) for name, value in settings.deciding().items()}}
        every = self.world.collect(found)
        for rank, other in enumerate(every):
            for name, value in other.items():
                if value != every[0].get(name):
                    raise RunError(f"process {rank} has another {name} than process 0: {value}, not {every[0].get(name)}. "
                                   "All processes of a run need the same versions, data and settings")

    def follow(self, gan: TrainableGAN, history: History) -> None:
        """Give all processes the state and the history of the first one, which has read the checkpoint."""
        if self.world is None:
            return
        state = self.world.from_first((gan.state_dict(), history.state()) if self.leads and len(history) else None)
        if state is not None and not self.leads:
            gan.load_state_dict(state[0])
            history.load(state[1])

    def share(self, order: npt.NDArray[np.int64], per_step: int, updates: int) -> tuple[npt.NDArray[np.int64], int]:
        """Of the images in `order`, of which each step takes `per_step`, those of this process, and how many of them it
        takes in a step. updates: the discriminator's updates in a step; each has its part of the step's images."""
        if self.world is None:
            return order, per_step
        steps = len(order) // per_step
        batches = order[:steps * per_step].reshape(steps * updates, self.size, -1)
        return batches[:, self.world.rank].reshape(-1), per_step // self.size

    def told(self) -> str:
        """How many processes there are, for the line with which a run begins."""
        if self.world is None:
            return ""
        return f"; {self.size} processes of {counted(machine.describe()['machine']['threads'], 'thread')}"

    def heard(self, signal: int | None) -> int | None:
        """The signal that one of the processes has caught; None if none has."""
        if self.world is None:
            return signal
        return self.world.largest(signal or 0) or None


class Follower:
    """What a process has in place of the run's folder, if it is not the first one: nothing is read or written."""

    notes: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.path = Path(settings.run_dir)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def load(self, gan: TrainableGAN, history: History) -> bool:
        """Nothing: `Team.follow` brings the state."""
        return False

    def save(self, state: dict[str, npt.NDArray[Any]], history: History) -> None:
        """Nothing: the first process saves."""

    def vacate(self) -> None:
        """Nothing."""

    def last_good(self) -> str:
        """A phrase for error messages."""
        return "the first process says which is the last good checkpoint"
