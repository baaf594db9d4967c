"""Numbers in any form that a user may have: lists, arrays of any type, PyTorch's tensors. Anything else is an error."""
from __future__ import annotations

__all__ = ["as_numbers"]

from typing import Any

import numpy as np

from tinygan.backends import Array, backend_of, cpu
from tinygan.tensor import as_array


def as_numbers(label: str, value: Any) -> Array:
    """value as an array of real numbers. An array on any device, or the array inside a Tensor, is returned as it is.
    Anything that `np.asarray` takes, and PyTorch's tensors, are converted; types that NumPy does not have (bfloat16) become
    float32. For anything else raises a TypeError that begins with `label`."""
    array = as_array(value)
    try:
        here = backend_of(array)
    except TypeError:
        here = cpu
    if here is cpu:
        array = _on_host(label, array)
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.name.startswith(("bfloat16", "float8")):  # (types of the package ml_dtypes)
        return array.astype(np.float32)
    raise TypeError(f"{label} should be real numbers, got {type(value).__name__} of {array.dtype}")


def _on_host(label: str, value: Any) -> Array:
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype).startswith(("torch.bfloat16", "torch.float8")):
            value = value.float()
    try:
        return cpu.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{label} should be an array of real numbers, got {type(value).__name__}: {error}") from error
