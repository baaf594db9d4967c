"""Backends: an array namespace `xp`, a kernel table and the transfers, under the same names for the CPU and for GPUs."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.backends import cpu

Array = Any  # numpy.ndarray or cupy.ndarray
Backend = Any  # the module `cpu`, or a `cuda.Cuda`

BACKENDS: dict[type, Backend] = {np.ndarray: cpu}
"""By the type of an array. (CuPy's arrays have one type, whichever GPU they lie on.)"""


def backend_of(array: Any) -> Backend:
    """The backend that an array's type belongs to. Raises TypeError for what is not an array."""
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
