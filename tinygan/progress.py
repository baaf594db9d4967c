"""Progress bars on stderr. They are shown only on a terminal, and disappear when they are done."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["bar", "chunks", "hidden"]

_HIDDEN: ContextVar[bool] = ContextVar("tinygan_progress_hidden", default=False)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """`with bar(...) as advance:` shows a bar in the body. `advance(n)` moves it on by n of `total`."""
    if _HIDDEN.get():
        yield lambda n: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, disable=None, dynamic_ncols=True) as shown:
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
