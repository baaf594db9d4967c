"""How this process was started: alone, or by `mpirun` as one of several. The answers come from environment variables, so MPI
is not loaded for them.

`mpirun` starts the same program several times. The first process ("rank 0") speaks for all: it prints, and has the run's
folder. If a process fails, it ends all the others.
"""
from __future__ import annotations

__all__ = ["abort", "cores", "end_all", "first_speaks", "local_rank", "local_size", "on_several_machines", "rank",
           "size", "tell"]

import os
import re
import sys
import time
import traceback
from types import TracebackType
from typing import Any, NamedTuple


class _Launcher(NamedTuple):
    """The environment variables that tell the rank and the number of processes: of all, and of those on this machine."""

    rank: str
    size: str
    local_rank: str
    local_size: str

    def knows(self, *names: str) -> bool:
        return all(_number(getattr(self, name)) is not None for name in names)


_LAUNCHERS = (
    _Launcher("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    _Launcher("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    _Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH and Intel MPI
    _Launcher("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),  # srun
    _Launcher("PMI_RANK", "PMI_SIZE", "", ""),
)
"""The first one whose variables are all there has started this process."""

FIRST_SPEAKS = 2.0
"""How many seconds the other processes wait before they tell an error. If the first one has the same error, it has told it
by then, and has ended all."""
PASSED_ON = 0.7
"""How many seconds `mpirun` gets to pass on what was printed, before it has to end all processes."""


def _number(name: str) -> int | None:
    """The number with which a variable begins: srun writes "2(x3)" for two processes on each of three machines."""
    found = re.match(r"\d+", os.environ.get(name, ""))
    return int(found[0]) if found else None


def _told(name: str, alone: int) -> int:
    """What the launcher says; `alone` if there is none, or if it does not say it."""
    launcher = next((one for one in _LAUNCHERS if one.knows(*(n for n in one._fields if getattr(one, n)))), None)
    found = None if launcher is None else _number(getattr(launcher, name))
    return alone if found is None else found


def rank() -> int:
    """The number of this process, from 0 on; 0 for a process alone."""
    return _told("rank", 0)


def size() -> int:
    """How many processes `mpirun` has started together; 1 for a process alone."""
    return max(_told("size", 1), 1)


def local_rank() -> int:
    """The number of this process among those on this machine, from 0 on."""
    return _told("local_rank", 0)


def local_size() -> int:
    """How many of them are on this machine."""
    return max(_told("local_size", 1), 1)


def on_several_machines() -> bool:
    """Whether they are known to be on more than one machine."""
    return _told("local_size", size()) < size()


def cores() -> int:
    """How many cores this process may use. Several processes on a machine share the cores, unless the launcher has given
    each its own: then a process may use fewer cores than its parent, the launcher."""
    if not hasattr(os, "sched_getaffinity"):
        return max((os.cpu_count() or 1) // local_size(), 1)
    mine = os.sched_getaffinity(0)
    try:
        shared = mine == os.sched_getaffinity(os.getppid())
    except OSError:  # the parent has ended
        shared = True
    return max(len(mine) // local_size(), 1) if shared else len(mine)


def first_speaks() -> None:
    """From here on, this process prints nothing, unless it is the first one or alone. An error that nothing catches is told,
    and ends all processes."""
    if size() > 1:
        sys.excepthook = end_all
        if rank():
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for the rest of the process)


def end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    """A `sys.excepthook`: tell the error, and end all processes."""
    tell("".join(traceback.format_exception(kind, error, trace)).rstrip())
    abort(1)


def tell(message: str) -> None:
    """Print an error. Processes that are not the first one wait, and say which they are (see `FIRST_SPEAKS`)."""
    if rank():
        time.sleep(FIRST_SPEAKS)
        message = f"process {rank()} of {size()}: {message}"
    print(message, file=sys.__stderr__ if rank() else sys.stderr, flush=True)


def abort(status: int) -> None:
    """End all processes that were started together, with an exit status that is not 0. Does nothing for a process alone, or
    without MPI."""
    if size() == 1:
        return
    try:
        from mpi4py import MPI
    except ImportError:
        return
    for stream in (sys.stdout, sys.__stderr__):
        if stream is not None:
            stream.flush()
    time.sleep(PASSED_ON)
    MPI.COMM_WORLD.Abort(status)
    os._exit(status)  # (it may return before `mpirun` has ended this process)
