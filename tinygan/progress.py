"""Progress bars: on a terminal, on stderr, gone when they are done; nowhere else."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["bar", "chunks", "hidden"]

_HIDDEN: ContextVar[bool] = ContextVar("tinygan_progress_hidden", default=False)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Within this, a bar. Gives the function that moves it on, by so many of `total`."""
    if _HIDDEN.get():
        yield lambda n: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, disable=None, dynamic_ncols=True) as shown:
        yield shown.update


def chunks(total: int, size: int, label: str, unit: str = "img") -> Iterator[slice]:
    """Slices of `size` that cover `range(total)`, with a bar over them while they are gone through."""
    with bar(label, total, unit) as move:
        for start in range(0, total, size):
            part = slice(start, min(start + size, total))
            yield part
            move(part.stop - start)


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """Within this there are no bars (`--quiet`)."""
    token = _HIDDEN.set(hide or _HIDDEN.get())
    try:
        yield
    finally:
        _HIDDEN.reset(token)
