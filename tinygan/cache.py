"""The user's cache folder, and a way to write files there. A file gets its final name only when it is complete."""

from __future__ import annotations

__all__ = ["cache_folder", "keep", "replace", "say"]

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO


def say(message: str) -> None:
    """Print a message to the user, on stderr."""
    print(f"tinygan: {message}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """The folder `tinygan` in `$XDG_CACHE_HOME` or, by default, in the operating system's folder for caches. It may not
    exist yet."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification says that relative paths are ignored
        return Path(chosen) / "tinygan"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "tinygan"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "tinygan"
    return _home() / ".cache" / "tinygan"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # in some containers the user has no home; cached files are verified, so any folder will do
        return Path(tempfile.gettempdir())


def replace(temporary: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Rename `temporary` to `path`, in place of a file that may be there.

    Windows refuses this while another program has the old file open, as virus scanners and viewers do for a moment. So there
    it is tried again for two seconds.
    """
    tries = _TRIES_ON_WINDOWS if os.name == "nt" else 1
    for left in reversed(range(tries)):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if not left:
                raise
            time.sleep(_SECONDS_BETWEEN)


_TRIES_ON_WINDOWS, _SECONDS_BETWEEN = 41, 0.05


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`. If that is impossible, say so and return
    False."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
        with open(handle, "wb") as file:
            write(file)
        replace(temporary, path)
        temporary = None
        return True
    except OSError as error:
        say(f"could not save {path} for the next start: {error.strerror or error}")
        return False
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
