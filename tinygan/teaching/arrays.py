"""Arrays and numbers as JSON, for the page."""
from __future__ import annotations

__all__ = ["numbers", "packed", "unpacked"]

import base64
import math
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "f16": np.dtype("<f2"), "f32": np.dtype("<f4")}


def packed(array: npt.NDArray[Any], dtype: str) -> dict[str, Any]:
    """An array as {"shape", "dtype", "data"}: its bytes, little endian, in base64. dtype: "u8", "f16" or "f32"."""
    with np.errstate(over="ignore"):  # (beyond float16's range is infinity)
        converted = np.ascontiguousarray(array, dtype=_TYPES[dtype])
    return {"shape": list(array.shape), "dtype": dtype, "data": base64.b64encode(converted.tobytes()).decode()}


def unpacked(found: dict[str, Any]) -> npt.NDArray[Any]:
    """The array that `packed` made JSON of."""
    content, kind = base64.b64decode(found["data"]), _TYPES[found["dtype"]]
    array: npt.NDArray[Any] = np.frombuffer(content, dtype=kind).reshape(found["shape"])
    return array


def numbers(values: Any, digits: int = 5) -> Any:
    """Numbers, in lists if `values` is an array, with so many significant digits. JSON has no NaN and no infinity, so these
    become None."""
    if isinstance(values, np.ndarray | list | tuple):
        return [numbers(value, digits) for value in values]
    if values is None or not math.isfinite(values):
        return None
    return float(f"{float(values):.{digits}g}")
