"""Progress bars. They are shown on a terminal, by stderr, and in Jupyter, and disappear when they are done."""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["bar", "chunks", "hidden", "in_jupyter", "is_shown", "new_bar"]

_HIDDEN: ContextVar[bool] = ContextVar("tinygan_progress_hidden", default=False)


def in_jupyter() -> bool:
    """Whether this process is the kernel of a notebook, which shows pictures. (IPython in a terminal does not.)"""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and getattr(shell(), "kernel", None) is not None


def is_shown() -> bool:
    """Whether somebody sees bars."""
    return in_jupyter() or sys.stderr.isatty()


def new_bar(**options: Any) -> Any:
    """A bar of tqdm with those options. In Jupyter ipywidgets draws it; without them it is text."""
    from tqdm import tqdm

    if in_jupyter() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    elif in_jupyter():
        options["file"] = sys.stdout  # (a notebook shows stderr in red)
    return tqdm(**options)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """`with bar(...) as advance:` shows a bar in the body. `advance(n)` moves it on by n of `total`."""
    if _HIDDEN.get() or not is_shown():
        yield lambda n: None
        return
    with new_bar(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True) as shown:
        yield shown.update


def chunks(total: int, size: int, label: str, unit: str = "img") -> Iterator[slice]:
    """Slices of length `size` that cover `range(total)`, with a bar that shows how many have been taken."""
    with bar(label, total, unit) as move:
        for start in range(0, total, size):
            part = slice(start, min(start + size, total))
            yield part
            move(part.stop - start)


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """`with hidden():` shows no bars in the body (`--quiet`)."""
    token = _HIDDEN.set(hide or _HIDDEN.get())
    try:
        yield
    finally:
        _HIDDEN.reset(token)
