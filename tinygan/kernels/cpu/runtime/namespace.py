"""NumPy's functions, as the array namespace of the CPU."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.recorded import ACTIVE, RecordedArray


def _made(name: str) -> Callable[..., Any]:
    """NumPy's function of that name, which makes an array of shapes and numbers. If a step is being recorded, every replay
    makes the array again, because the step may write to it."""
    function = getattr(np, name)

    def make(*args: Any, **options: Any) -> Any:
        recorder = ACTIVE.recorder
        return function(*args, **options) if recorder is None else recorder.call(function, args, options)

    return make


def _converted(name: str) -> Callable[..., Any]:
    """NumPy's function of that name, which makes an array of an array. A recorded array stays one."""
    function = getattr(np, name)

    def convert(x: Any, *args: Any, **options: Any) -> Any:
        if isinstance(x, RecordedArray):
            return ACTIVE.recorder.call(function, (x, *args), options) if ACTIVE.recorder else x
        return function(x, *args, **options)

    return convert


class Namespace:
    """NumPy, but the recorder is also told of the functions that make arrays. (Of functions of a recorded array NumPy itself
    tells it.)"""

    def __init__(self) -> None:
        for name in ("arange", "empty", "eye", "full", "linspace", "ones", "tri", "zeros"):
            setattr(self, name, _made(name))
        for name in ("array", "asarray", "ascontiguousarray"):
            setattr(self, name, _converted(name))

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        setattr(self, name, found)
        return found
