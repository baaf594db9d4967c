"""The activations as functions of whole arrays in NumPy, made from their records."""
from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from tinygan.kernels.activations import BY_NAME
from tinygan.kernels.expressions import (
    POLYNOMIALS,
    Body,
    FunctionalWriter,
    array_function,
    body,
    expanded,
    in_calls,
    is_number,
    parsed,
)

Array = np.ndarray[Any, Any]


def _choose(condition: Array, a: Any, b: Any, out: Array | None = None) -> Array:
    found = np.where(condition, a, b)
    if out is None:
        return found
    out[...] = found
    return out


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule."""
    found = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        found += coefficient
        found *= x
    return found + coefficients[-1]


_FUNCTIONS: dict[str, Any] = {
    "abs": np.abs, "max": np.maximum, "exp": np.exp, "expm1": np.expm1, "log1p": np.log1p, "tanh": np.tanh,
    "choose": _choose, "kind_of": lambda x: x.dtype.type,
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "negative": np.negative, "positive": np.positive, "greater": np.greater, "greater_equal": np.greater_equal,
    "less": np.less, "less_equal": np.less_equal,
    **{name: partial(_polynomial, coefficients) for name, coefficients in POLYNOMIALS.items()},
}


class _Writer(FunctionalWriter):
    """Writes calls of the functions in _FUNCTIONS."""

    def call(self, name: str, arguments: list[str]) -> str:
        return f"exp(negative({arguments[0]}))" if name == "decay" else super().call(name, arguments)


def _function(parameters: str, tree: ast.expr) -> Callable[..., Any]:
    """The NumPy function for a formula, (argument, ..., out) -> array. Its last operation writes to `out`."""
    variables, result = body(expanded(tree), _Writer())
    result = f"{result[:-1]}, out=out)" if result.endswith(")") else f"positive({result}, out=out)"
    namespace = dict(_FUNCTIONS)
    exec(array_function("function", f"{parameters}, out=None", Body(variables, result)), namespace)
    function: Callable[..., Any] = namespace["function"]
    return function


@cache
def formula(name: str, which: str) -> Callable[..., Any]:
    """The NumPy function (argument, slope, out=None) for a formula of an activation's record. which: "value", "slope",
    "curvature", "slope_from_result" or "curvature_from_result". A constant formula gives an array, too."""
    record = BY_NAME[name]
    tree = record.tree(which)
    if is_number(tree):
        number = in_calls(expanded(tree), ("slope",), _FUNCTIONS, _Writer())
        return lambda x, slope, out=None: np.multiply(np.ones_like(x), number(slope), out=out)
    return _function(f"{record.argument(which)}, slope", tree)


VALUES = {name: formula(name, "value") for name in BY_NAME}
KEPT_SLOPES = {name: formula(name, record.kept_slope) for name, record in BY_NAME.items()}
"""The slopes, computed from what backward keeps."""

sigmoid = _function("x", parsed("sigmoid(x)", ("x",)))
sigmoid_slope = _function("x", parsed("sigmoid_slope(x)", ("x",)))
