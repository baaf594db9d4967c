"""The processes that train one GAN together, and the part of each batch that one of them has."""
from __future__ import annotations

__all__ = ["Part", "World", "join"]

import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.backends import Array, Backend, backend_of, cpu
from tinygan.errors import DeviceError, SettingsError, installing
from tinygan.kernels.cpu.runtime.recorded import told
from tinygan.kernels.cuda.runtime.device import Exchange
from tinygan.launched import end_all, size
from tinygan.listening import relies_on


class World:
    """Processes ("ranks") that train one GAN together over MPI. Each has its own part of every batch, and the same weights.

    comm: a communicator of mpi4py. By default, all processes that `mpirun` has started. `tinygan.training.train` works with
    all of them, or with one (`MPI.COMM_SELF`). Raises DeviceError if mpi4py or MPI is not installed.

    `mean` and `gather` are collective: every rank must call them, in the same order, with arrays of the same shape and
    dtype. The results are the same on every rank, to the last bit. With the same MPI library, on the same machines, they are
    the same in every run. Arrays may be on GPUs, one GPU for each rank. Then NCCL exchanges them.

    A World that is pickled comes back as None: in another program there are other processes.
    """

    def __init__(self, comm: Any = None) -> None:
        self._comm = _mpi().COMM_WORLD if comm is None else comm
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self._exchanges: dict[str, Exchange] = {}  # by the names of devices

    def __repr__(self) -> str:
        return f"World(rank {self.rank} of {self.size})"

    def __deepcopy__(self, memo: Any) -> World:
        return self  # a copy of a GAN trains with the same processes

    def __reduce__(self) -> Any:
        return type(None), ()

    def mean(self, x: Array) -> Array:
        """The mean over the ranks of their arrays x, which hold floating-point numbers."""
        if x.dtype.kind != "f":
            raise TypeError(f"World.mean: expected floating-point numbers, got {x.dtype}")
        backend = backend_of(x)
        return told(self.mean_on_host, (x,), {}) if backend is cpu else self._exchange(backend).mean(x)

    def gather(self, x: Array) -> Array:
        """The arrays x of all ranks, in the order of the ranks: (size, *x.shape)."""
        backend = backend_of(x)
        return told(self.gather_on_host, (x,), {}) if backend is cpu else self._exchange(backend).gather(x)

    def collect(self, value: Any) -> list[Any]:
        """The values of all ranks, any Python objects."""
        found: list[Any] = self._comm.allgather(value)
        return found

    def from_first(self, value: Any) -> Any:
        """The value of rank 0, any Python object."""
        return self._comm.bcast(value)

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """The largest of the ranks' numbers, for each of several."""
        found = np.empty(len(numbers), np.int64)
        self._comm.Allreduce(np.array(numbers, np.int64), found, _mpi().MAX)
        return tuple(map(int, found))

    def share(self, n: int) -> int:
        """How many of n examples each rank has. Raises SettingsError if the ranks cannot have equally many."""
        if n % self.size:
            raise SettingsError(f"a batch of {n} cannot be split evenly among {self.size} processes: choose a batch size "
                                f"that is a multiple of {self.size}, or another number of processes")
        return n // self.size

    def mean_on_host(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`mean` of NumPy's own arrays, over MPI."""
        total = np.empty(x.shape, x.dtype)
        self._comm.Allreduce(np.ascontiguousarray(x), total)
        total /= total.dtype.type(self.size)
        return total

    def gather_on_host(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`gather` of NumPy's own arrays, over MPI."""
        every = np.empty((self.size, *x.shape), x.dtype)
        self._comm.Allgather(np.ascontiguousarray(x), every)
        return every

    def _exchange(self, backend: Backend) -> Exchange:
        if backend.name not in self._exchanges:
            self._exchanges[backend.name] = backend.device.exchange(self)
        return self._exchanges[backend.name]


class Part(NamedTuple):
    """The part of a batch that this process has in a step. All ranks have equally many examples."""

    world: World
    examples: int
    """How many examples of an update this process has."""

    def places(self, n: int) -> list[int]:
        """Where n examples of this rank begin among those of all ranks. If n is a multiple of `examples`, as for real and
        generated images in one array, there are so many batches, one after the other, and of each the ranks have a part.
        Raises ValueError if it is none."""
        if n % self.examples:
            raise ValueError(f"on several processes, a step on {self.examples} examples can draw for a multiple of them, "
                             f"not for {n}")
        size, rank = self.world.size, self.world.rank
        return [(batch * size + rank) * self.examples for batch in range(n // self.examples)]

    def own(self, whole: Any) -> Any:
        """Of an array of all ranks' examples (size * n, ...), this rank's n (see `places`)."""
        n = whole.shape[0] // self.world.size
        blocks = whole.reshape(n // self.examples, self.world.size, self.examples, *whole.shape[1:])
        return blocks[:, self.world.rank].reshape(n, *whole.shape[1:])

    def joined(self, parts: Any) -> Any:
        """The reverse of `own`: from the arrays of all ranks (size, n, ...) that of all examples (size * n, ...)."""
        size, n, *shape = parts.shape
        blocks = parts.reshape(size, n // self.examples, self.examples, *shape)
        return blocks.swapaxes(0, 1).reshape(size * n, *shape)


def part_of(gan: Any, examples: int) -> Part | None:
    """The part of a batch that this process has in a step of the GAN on so many examples; None without other processes.
    Raises SettingsError if the processes have unequally many."""
    world: World | None = gan.world
    relies_on(lambda: gan.world is world)
    if world is None or world.size == 1:
        return None
    most, least = world.largest(examples, -examples)
    if most != -least:
        raise SettingsError(f"{type(gan).__name__}: a step has {-least} images on one process and {most} on another: give "
                            "each process equally many")
    return Part(world, examples)


def join() -> World | None:
    """The processes that `mpirun` has started with this one; None for a process alone. From here on, an error that nothing
    catches ends all of them. Raises DeviceError if mpi4py belongs to another MPI library than `mpirun`."""
    if size() == 1:
        return None
    sys.excepthook = end_all
    return _everybody()


@cache
def _everybody() -> World:
    world = World()
    if world.size != size():
        raise DeviceError(f"mpirun has started {size()} processes, but mpi4py finds {world.size}: it belongs to another MPI "
                          "library. Use the mpirun of that library (pip install mpich brings one), or build mpi4py for this "
                          "one: pip install --no-binary mpi4py mpi4py")
    return world


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise DeviceError(f"several processes need MPI: {installing('mpi')}, which installs mpi4py and MPICH. "
                          f"({error})") from error
    return MPI
