"""NumPy and Tensors: arrays that become Tensors, and NumPy's functions called on Tensors. The ufuncs of operators work. A
function that would lose a gradient raises an error.

`np.asarray(tensor)` always works: it is an array of the values, which every function takes.
"""
from __future__ import annotations

__all__ = ["ArrayUfunc", "array_function", "array_ufunc", "copied", "holds_recorded", "of_numpy"]

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan import tensor as tensors  # (it imports this module, so its names can be used only inside functions)
from tinygan.backends import Array, backend_of
from tinygan.context import CONTEXT

OPERATORS = {
    np.add: ("__add__", "__radd__"), np.subtract: ("__sub__", "__rsub__"), np.multiply: ("__mul__", "__rmul__"),
    np.true_divide: ("__truediv__", "__rtruediv__"), np.power: ("__pow__", "__rpow__"),
    np.matmul: ("__matmul__", "__rmatmul__"), np.equal: ("__eq__", "__eq__"), np.not_equal: ("__ne__", "__ne__"),
    np.less: ("__lt__", "__gt__"), np.less_equal: ("__le__", "__ge__"), np.greater: ("__gt__", "__lt__"),
    np.greater_equal: ("__ge__", "__le__"),
}
"""The ufunc that NumPy calls for `array + tensor` and so on, and Tensor's methods: with the Tensor left, and right."""

HARMLESS = frozenset((
    "shape", "ndim", "size", "result_type", "can_cast", "min_scalar_type", "common_type", "isrealobj", "iscomplexobj",
    "may_share_memory", "shares_memory", "zeros_like", "ones_like", "empty_like", "full_like", "allclose", "isclose",
    "array_equal", "array_equiv", "isin", "in1d", "any", "all", "isreal", "iscomplex", "isneginf", "isposinf", "argmax",
    "argmin", "nanargmax", "nanargmin", "argsort", "argpartition", "lexsort", "searchsorted", "digitize", "nonzero",
    "flatnonzero", "argwhere", "count_nonzero", "bincount", "histogram", "histogram2d", "histogramdd",
    "histogram_bin_edges", "array2string", "array_repr", "array_str", "save", "savez", "savez_compressed", "savetxt",
    "copyto",
))
"""Functions of NumPy through which no gradient flows: they describe, compare, count, print, save or copy values."""

OTHER_NAMES = {
    "absolute": "abs", "add.accumulate": "cumsum", "add.reduce": "sum", "amax": "max", "amin": "min",
    "append": "concatenate", "around": "round", "array_split": "split", "atleast_1d": "reshape",
    "atleast_2d": "reshape", "atleast_3d": "reshape", "average": "mean", "block": "concatenate", "cbrt": "pow",
    "column_stack": "concatenate", "concat": "concatenate", "delete": "concatenate", "diagonal": "getitem", "diff": "sub",
    "divide": "div", "dot": "matmul", "dsplit": "split", "dstack": "concatenate", "exp2": "pow", "fabs": "abs",
    "fliplr": "flip", "flipud": "flip", "float_power": "pow", "fmax": "maximum", "fmin": "minimum", "hsplit": "split",
    "hstack": "concatenate", "inner": "einsum", "insert": "concatenate", "kron": "einsum", "log10": "log", "log2": "log",
    "logaddexp": "logsumexp", "matrix_transpose": "transpose", "maximum.reduce": "max", "minimum.reduce": "min",
    "moveaxis": "transpose", "multi_dot": "matmul", "multiply.reduce": "prod",
    "nan_to_num": "where", "negative": "neg", "outer": "einsum", "permute_dims": "transpose", "ravel": "reshape",
    "reciprocal": "div", "repeat": "getitem", "rint": "round", "roll": "concatenate", "rollaxis": "transpose",
    "row_stack": "concatenate", "select": "where", "square": "mul", "swapaxes": "transpose",
    "take": "getitem", "take_along_axis": "gather", "tensordot": "einsum", "tile": "concatenate", "trace": "einsum",
    "unstack": "split", "vdot": "einsum", "vecdot": "einsum", "vsplit": "split", "vstack": "concatenate",
}
"""Functions of NumPy, and the ops that do the same under another name. (Other ops have NumPy's names.)"""


_NUMBERS = frozenset((float, int, bool))


def copied(array: Any, dtype: Any = None) -> Array:
    """The array for `Tensor(array, dtype=dtype)`: a copy of an array or a Tensor, or a new array of a number or a list."""
    if isinstance(array, tensors.Tensor):
        array = array.array
    array = of_numpy("Tensor", array)
    if not hasattr(array, "dtype"):
        if holds_recorded(array):
            raise TypeError("Tensor: a list of Tensors would lose their gradients: use tinygan.stack, or tinygan.detach for "
                            "their values")
        array = np.asarray(array)
        if array.dtype.kind in "fiu" and dtype is None:
            dtype = np.float32  # Python's numbers have no precision of their own
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: expected real numbers, got an array of {array.dtype}")
    return backend_of(np.asarray(array) if np.isscalar(array) else array).xp.array(array, dtype=dtype, copy=True, order="C")


def of_numpy(caller: str, value: Any) -> Any:
    """value as a NumPy array, if it is an array of another library with a dtype of its own, such as PyTorch's tensor.
    Anything else is returned as it is."""
    if isinstance(getattr(value, "dtype", None), np.dtype | None):
        return value
    from tinygan.interop.foreign import as_numbers  # (it imports this module)

    return as_numbers(caller, value)


def holds_recorded(value: Any) -> bool:
    """Whether value is, or holds in lists, tuples and dicts, a Tensor that requires a gradient, while ops are recorded."""
    if isinstance(value, tensors.Tensor):
        return value.node is not None and CONTEXT.get().recording
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(type(part) not in _NUMBERS and holds_recorded(part) for part in value)


def array_function(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """`Tensor.__array_function__`: call the function on the values. Raises TypeError if that would lose a gradient."""
    if function.__name__ not in HARMLESS and holds_recorded((args, kwargs)):
        raise TypeError(f"{_name(function)} would lose the gradient of a Tensor: {_instead(function.__name__)}")
    return function(*_values(args), **_values(kwargs))


class ArrayUfunc:
    """`Tensor.__array_ufunc__`. NumPy reads it from the class and gets the function below. CuPy reads it from the object and
    gets None: so CuPy leaves `array + tensor` to Tensor."""

    def __get__(self, tensor: tensors.Tensor | None, kind: type[tensors.Tensor]) -> Any:
        return array_ufunc if tensor is None else None


def array_ufunc(tensor: tensors.Tensor, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
    """`array + tensor` and the other operators, for which NumPy calls ufuncs. Raises TypeError for any other use of a
    ufunc."""
    if out is not None:
        raise TypeError(f"{_name(ufunc)} of a Tensor into an array would lose its gradient: write array = array + tensor "
                        "instead of array += tensor, or use np.asarray(tensor) for its values")
    names = OPERATORS.get(ufunc)
    if names is None or method != "__call__" or options:
        method = "" if method == "__call__" else f".{method}"
        raise TypeError(f"{_name(ufunc)}{method} takes no Tensor: {_instead(ufunc.__name__ + method)}")
    on_left = tensor is inputs[0]
    result = getattr(tensor, names[not on_left])(inputs[on_left])
    if result is NotImplemented and ufunc in (np.equal, np.not_equal):
        return ufunc is np.not_equal  # what is not a number is not equal, as for Python's objects
    return result


def _values(value: Any) -> Any:
    """The value with arrays instead of Tensors."""
    if isinstance(value, tensors.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {name: _values(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_values(part) for part in value])
    return value


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or "numpy"  # (a ufunc of older versions has none)
    return f"{module}.{function.__name__}".replace("numpy", "np", 1)


def _instead(name: str) -> str:
    from tinygan import ops

    for choice in (name, OTHER_NAMES.get(name, "")):
        if callable(getattr(ops, choice, None)):
            return f"use tinygan.{choice}, or np.asarray(tensor) for its values"
    return "tinygan has no such function; np.asarray(tensor) gives its values"
