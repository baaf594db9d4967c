"""Backends. Each has an array namespace `xp`, a table of kernels and the transfers, under the same names for CPU and GPU."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.backends import cpu

Array = Any  # numpy.ndarray or cupy.ndarray
Backend = Any  # the module `cpu`, or a `cuda.Cuda`

BACKENDS: dict[type, Backend] = {np.ndarray: cpu}
"""The backend of each array type. (CuPy has one array type for all GPUs, so `backend_of` asks the array for its GPU.)"""


def backend_of(array: Any) -> Backend:
    """The backend of an array. Raises TypeError if it is not an array."""
    kind = type(array)
    backend = BACKENDS.get(kind)
    if backend is not None:
        return backend
    if kind.__module__.partition(".")[0] == "cupy" and kind.__name__ == "ndarray":
        from tinygan.backends import cuda

        return cuda.backend_of_cupy(array)
    if isinstance(array, np.ndarray | np.generic):  # subclasses such as np.memmap, and NumPy scalars
        return cpu
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"expected a Tensor, an array or a number, got {name}")
