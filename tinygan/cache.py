"""The user's cache folder, and writing into it so that only whole files ever bear their final name."""

from __future__ import annotations

__all__ = ["cache_folder", "keep", "say"]

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def say(message: str) -> None:
    """Tell the user something they should know, on stderr."""
    print(f"tinygan: {message}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """`tinygan` in the user's cache folder, which need not exist: `$XDG_CACHE_HOME`, else what the operating system uses."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification has relative paths ignored
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
    except RuntimeError:  # a user without a home, as in some containers; what is kept is verified, so anywhere will do
        return Path(tempfile.gettempdir())


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Let `write` fill a temporary file beside `path`, then rename it; say so and return False where that is impossible."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
        with open(handle, "wb") as file:
            write(file)
        os.replace(temporary, path)
        temporary = None
        return True
    except OSError as error:
        say(f"could not keep {path} for the next start: {error.strerror or error}")
        return False
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
