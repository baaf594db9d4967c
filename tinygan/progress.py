"""Progress bars: on a terminal, on stderr, gone when they are done; nowhere else."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["bar", "hidden", "stages"]

T = TypeVar("T")

_HIDDEN: ContextVar[bool] = ContextVar("tinygan_progress_hidden", default=False)


def bar(items: Iterable[T], label: str, unit: str, *, scale: int = 1) -> Iterable[T]:
    """`items`, with a bar over them while they are gone through. scale: what one of them counts."""
    if _HIDDEN.get():
        return items
    from tqdm import tqdm

    shown: Iterable[T] = tqdm(items, desc=label, unit=unit, unit_scale=scale if scale > 1 else False, leave=False,
                              disable=None, dynamic_ncols=True)
    return shown


@contextmanager
def stages(label: str, count: int) -> Iterator[Callable[[], object]]:
    """Gives a function to call after each of `count` stages of something; a bar counts them."""
    if _HIDDEN.get():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=count, desc=label, unit="stage", leave=False, disable=None, dynamic_ncols=True) as shown:
        yield shown.update


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """Within this there are no bars (`--quiet`)."""
    token = _HIDDEN.set(hide or _HIDDEN.get())
    try:
        yield
    finally:
        _HIDDEN.reset(token)
