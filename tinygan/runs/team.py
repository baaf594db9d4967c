"""The processes of a run. The first one has the run's folder and prints. The others train with it, and write nothing."""
from __future__ import annotations

__all__ = ["Follower", "Team"]

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.data.files import counted
from tinygan.distributed import World, join
from tinygan.launched import local_size

from . import machine
from .errors import RunError
from .guarding import end_together
from .history import History
from .settings import Settings
from .trainable import TrainableGAN


class Team:
    """The processes that make a run together; world is None if this process is alone."""

    def __init__(self, world: World | None) -> None:
        self.world = world
        self.size = 1 if world is None else world.size
        self.leads = world is None or world.rank == 0

    @classmethod
    def of(cls, gan: TrainableGAN) -> Team:
        """The processes of the GAN's `world`, if it has one; by default, all that `mpirun` has started."""
        return cls(getattr(gan, "world", None) or join())

    def settle(self, choose: Callable[[], Settings]) -> Settings:
        """What `choose()` returns on the first process, for all of them. It may read the run's folder, which the others need
        not have."""
        if self.world is None:
            return choose()
        found: Settings = self.world.from_first(choose() if self.leads else None)
        return found

    @contextmanager
    def taking_in(self, gan: Any, settings: Settings) -> Iterator[None]:
        """In the body, the GAN trains with all processes. Raises RunError or SettingsError if it cannot.

        An error that leaves the body ends all processes, even if the program would have caught it: the others might wait for
        this process for ever. A `shared` error does not, since all processes have it.
        """
        if self.world is None:
            yield
            return
        self._check(gan, settings)
        before = gan.world
        gan.world = self.world
        try:
            yield
        except BaseException as error:
            if self.size > 1 and not getattr(error, "shared", False):
                end_together(error)
            raise
        finally:
            gan.world = before

    def _check(self, gan: Any, settings: Settings) -> None:
        assert self.world is not None
        self.world.share(settings.batch_size)
        if ":" in settings.device and local_size() > 1:
            raise RunError(f"--device {settings.device} gives all processes the same GPU: with --device cuda, each has its "
                           "own")
        if not hasattr(gan, "world"):
            raise RunError(f"{type(gan).__name__} cannot be trained by several processes: a GAN of your own should be a "
                           "subclass of tinygan.gans.GAN")

    def agree(self, dataset: Dataset, settings: Settings, device: str) -> None:
        """Raise RunError on all processes unless all have the same versions, data, settings and kind of device."""
        if self.world is None:
            return
        found = {**machine.describe()["versions"], "data": dataset.checksum, "device": device.partition(":")[0],
                 "--run-dir": settings.run_dir,
                 **{f"--{name.replace('_', '-')}": repr(value) for name, value in settings.deciding().items()}}
        every = self.world.collect(found)
        for rank, other in enumerate(every):
            for name in every[0] | other:
                if other.get(name) != every[0].get(name):
                    raise RunError(f"process {rank} has another {name} than process 0: {other.get(name)}, not "
                                   f"{every[0].get(name)}. All processes of a run need the same versions, data and settings",
                                   shared=True)

    def follow(self, gan: TrainableGAN, history: History) -> None:
        """Give all processes the state and the history of the first one. Raises RunError on all if they have other
        networks."""
        if self.world is None:
            return
        state = gan.state_dict()
        shapes = {name: array.shape for name, array in state.items()}
        if self.differ(shapes):
            raise RunError("the processes have different networks: all have to build the same GAN", shared=True)
        found = self.world.from_first((state, history.state()) if self.leads else None)
        if not self.leads:
            gan.load_state_dict(found[0])
            history.load(found[1])

    def differ(self, value: Any) -> bool:
        """Whether the processes have different values, any Python objects."""
        if self.world is None:
            return False
        return any(other != value for other in self.world.collect(value))

    def refuse_other_weights(self, gan: TrainableGAN, step: int) -> None:
        """Raise RunError on all processes if their GANs have different states."""
        if self.world is None:
            return
        digest, state = hashlib.sha256(), gan.state_dict()
        for name in sorted(state):
            digest.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
        if self.differ(digest.digest()):
            raise RunError(f"after step {step} the processes have different weights. A `step` or a loss of your own has to "
                           "exchange what depends on the whole batch (see tinygan/ops/ranks.py). Machines with other types "
                           "of processor may round differently, too", shared=True)

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

    def heard(self, signal: int | None, due: bool) -> tuple[int | None, bool]:
        """The signal that one of the processes has caught, None if none has. And whether it is time to save, which the first
        process decides."""
        if self.world is None:
            return signal, due
        found, save = self.world.largest(signal or 0, due and self.leads)
        return found or None, bool(save)


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
