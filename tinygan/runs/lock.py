"""A lock, so that only one run writes to a folder. The operating system releases it when the process ends, in whatever
way."""
from __future__ import annotations

__all__ = ["FolderLock"]

import errno
import os
import sys
from pathlib import Path
from types import TracebackType

from .errors import RunError

NAME = ".lock"


class FolderLock:
    """Holds the lock on `FOLDER/.lock` inside `with`. Raises RunError if another process or run holds it.

    The file is not deleted: otherwise two processes could lock two files of the same name.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise RunError(f"{self._path.parent} is in use by another run (process {self._holder()}): wait for it, "
                               "stop it, or choose another --run-dir") from None
            advice = "" if error.errno == errno.ENOSYS else "; put the run on a local disk (--run-dir)"
            raise OSError(error.errno, f"cannot lock {self._path}: {error.strerror}{advice}") from error
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor is not None:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _holder(self) -> str:
        try:
            return self._path.read_text(encoding="ascii").strip() or "unknown"
        except (OSError, ValueError):
            return "unknown"


def in_use(folder: Path) -> bool:
    """Whether a run holds the folder's lock now. Writes nothing to the folder."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(descriptor)
        _unlock(descriptor)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    finally:
        os.close(descriptor)
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        _on_its_byte(descriptor, msvcrt.LK_NBLCK)

    def _unlock(descriptor: int) -> None:
        _on_its_byte(descriptor, msvcrt.LK_UNLCK)  # when a file is closed, Windows unlocks it, but not at once

    def _on_its_byte(descriptor: int, mode: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # nobody can read a locked byte: lock one behind the text
        try:
            msvcrt.locking(descriptor, mode, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # a system without locks, such as WebAssembly

        def _lock(descriptor: int) -> None:
            raise OSError(errno.ENOSYS, "this system has no file locks")
    else:

        def _lock(descriptor: int) -> None:
            flock(descriptor, LOCK_EX | LOCK_NB)

    def _unlock(descriptor: int) -> None:
        """Nothing: closing the file unlocks it."""
