"""How a program ends: errors as one clear line, signals and closed pipes as exit statuses."""
from __future__ import annotations

__all__ = ["end_together", "guarded"]

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator

from tinygan.data import DataError
from tinygan.errors import DeviceError, SettingsError
from tinygan.launched import abort, end_all, rank, size, tell
from tinygan.saving import CheckpointError

from .errors import Interrupted, RunError

FIRST_REPORTS = 30.0
"""How many seconds the other processes wait before they report an error that all should have. The first one closes its
files, reports the error and ends all. If it has not done so by then, it does not have the error."""


def guarded(action: Callable[[], object]) -> int:
    """Run `action`. An error that the user can correct becomes a line on stderr and an exit status. It ends all processes
    that `mpirun` has started together."""
    try:
        with _printable():
            action()
            print(end="", flush=True)  # a closed pipe raises its error here, and not when the interpreter ends
    except BaseException as error:
        status = _report(error)
        if status is None:
            raise
        return status
    return 0


def end_together(error: BaseException) -> None:
    """Report an error with which one of several processes leaves a training, and end all."""
    if _report(error) is None:
        if isinstance(error, SystemExit):
            _end_by_exit(error)
        end_all(type(error), error, error.__traceback__)


def _report(error: BaseException) -> int | None:
    """Print an error that the user can correct, and end all processes. Returns the exit status; None if it is another
    error."""
    if isinstance(error, Interrupted):
        return error.exit_status  # (all processes have stopped after the same step)
    if isinstance(error, OSError) and _is_closed_pipe(error):
        _discard_output()
        return _ended(128 + 13)  # the status of a process that SIGPIPE has ended
    if isinstance(error, (RunError, SettingsError, CheckpointError, DataError, DeviceError, OSError)):
        if getattr(error, "shared", False) and rank():
            time.sleep(FIRST_REPORTS)
        message = (error.strerror if isinstance(error, OSError) and error.filename is None else None) or str(error)
        tell(f"tinygan: error: {message}")
        return _ended(getattr(error, "exit_status", 2))
    if isinstance(error, MemoryError):
        tell(f"tinygan: error: out of memory ({error}): smaller batches or networks need less")
        return _ended(2)
    if isinstance(error, KeyboardInterrupt):
        print("tinygan: interrupted", file=sys.stderr)
        return _ended(130)
    if isinstance(error, SystemExit) and error.code and size() > 1:
        _end_by_exit(error)
    return None


def _end_by_exit(error: SystemExit) -> None:
    """End all processes, because one of several has called `sys.exit`."""
    tell(error.code if isinstance(error.code, str) else f"tinygan: the program called sys.exit({error.code!r})")
    abort(error.code if isinstance(error.code, int) and error.code else 1)


def _ended(status: int) -> int:
    """End the other processes. Returns the status."""
    abort(status)
    return status


@contextlib.contextmanager
def _printable() -> Iterator[None]:
    """Inside, standard output writes characters that its encoding lacks as escapes, as standard error always does. (On
    Windows the encoding of a pipe has 256 characters, and the name of a file or a class may have others.)"""
    output = sys.stdout
    before = getattr(output, "errors", None)
    if before != "strict" or not isinstance(output, io.TextIOWrapper):
        yield
        return
    output.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # its reader is gone, or it is closed
            output.reconfigure(errors=before)


def _is_closed_pipe(error: OSError) -> bool:
    """Whether the reader of standard output has gone. Windows calls that an invalid argument."""
    windows = os.name == "nt" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or windows


def _discard_output() -> None:
    """Discard what is still in the buffer of standard output. Otherwise the interpreter reports an error when it ends."""
    with contextlib.suppress(OSError, ValueError):  # a standard output that is not a file holds nothing
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)
