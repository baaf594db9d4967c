"""Backends: a module each, with the array namespace `xp`, the kernel table and the transfers, under the same names."""
from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tinygan.backends import cpu

Array = Any  # numpy.ndarray or cupy.ndarray
Backend = ModuleType

BACKENDS: dict[type, Backend] = {np.ndarray: cpu}


def backend_of(array: Any) -> Backend:
    """The backend that an array's type belongs to. Raises TypeError for what is not an array."""
    try:
        return BACKENDS[type(array)]
    except KeyError:
        if isinstance(array, np.ndarray | np.generic):  # subclasses such as np.memmap, and NumPy scalars
            return cpu
        raise TypeError(f"expected a Tensor, an array or a number, got {type(array).__name__}") from None
