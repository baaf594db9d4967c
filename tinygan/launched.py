"""How this process was started: alone, or by `mpirun` as one of several. The answers come from environment variables, so MPI
is not loaded for them.

`mpirun` starts the same program several times. The first process ("rank 0") speaks for all: it prints, and has the run's
folder. If a process fails, it ends all the others.
"""
from __future__ import annotations

__all__ = ["abort", "local_rank", "local_size", "rank", "silence_followers", "size", "tell"]

import os
import sys
import time

# The variables of MPICH (and Intel MPI), of Open MPI, and of MVAPICH.
_RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_RANK = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
_LOCAL_SIZE = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
FIRST_SPEAKS = 2.0
"""How many seconds the other processes wait before they tell an error. If the first one has the same error, it has told it
by then, and has ended all."""
PASSED_ON = 0.7
"""How many seconds `mpirun` gets to pass on what was printed, before it has to end all processes."""


def _number(names: tuple[str, ...], default: int) -> int:
    found = [os.environ[name] for name in names if os.environ.get(name, "").isdigit()]
    return int(found[0]) if found else default


def rank() -> int:
    """The number of this process, from 0 on; 0 for a process alone."""
    return _number(_RANK, 0)


def size() -> int:
    """How many processes `mpirun` has started together; 1 for a process alone."""
    return max(_number(_SIZE, 1), 1)


def local_size() -> int:
    """How many of them are on this machine."""
    return max(_number(_LOCAL_SIZE, 1), 1)


def local_rank() -> int:
    """The number of this process among those on this machine, from 0 on."""
    return _number(_LOCAL_RANK, 0)


def silence_followers() -> None:
    """Make this process print nothing from here on, unless it is the first one or alone. (Its own errors are told by
    `tell`.)"""
    if rank():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for the rest of the process)


def tell(message: str) -> None:
    """Print an error. Processes that are not the first one wait, and say which they are (see `FIRST_SPEAKS`)."""
    if rank():
        time.sleep(FIRST_SPEAKS)
        message = f"process {rank()} of {size()}: {message}"
    print(message, file=sys.__stderr__ if rank() else sys.stderr, flush=True)


def abort(status: int) -> None:
    """End all processes that were started together, with an exit status that is not 0. Does nothing for a process alone."""
    if size() > 1:
        from mpi4py import MPI

        for stream in (sys.stdout, sys.__stderr__):
            if stream is not None:
                stream.flush()
        time.sleep(PASSED_ON)
        MPI.COMM_WORLD.Abort(status)
