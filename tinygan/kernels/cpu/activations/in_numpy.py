"""The activations as functions of whole arrays in NumPy, made from their records."""
from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tinygan.kernels.activations import BY_NAME
from tinygan.kernels.expressions import DEFINITIONS, Body, FunctionalWriter, body, parsed, python_function

Array = np.ndarray[Any, Any]


def _choose(condition: Array, a: Any, b: Any, out: Array | None = None) -> Array:
    found = np.where(condition, a, b)
    if out is None:
        return found
    out[...] = found
    return out


def _decay(t: Array, out: Array | None = None) -> Array:
    return np.exp(np.negative(t), out=out)


_FUNCTIONS: dict[str, Any] = {
    "abs": np.abs, "max": np.maximum, "decay": _decay, "expm1": np.expm1, "log1p": np.log1p, "tanh": np.tanh,
    "choose": _choose, "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "negative": np.negative, "positive": np.positive, "greater": np.greater, "greater_equal": np.greater_equal,
    "less": np.less, "less_equal": np.less_equal,
}


def _function(name: str, parameters: str, tree: ast.expr, argument: str) -> Callable[..., Any]:
    """The function of a formula: (argument, ..., out) -> array. The last operation writes to `out`."""
    variables, result = body(tree, FunctionalWriter())
    result = f"{result[:-1]}, out=out)" if result.endswith(")") else f"positive({result}, out=out)"
    text = python_function(name, f"{parameters}, out=None", Body(variables, result))
    if "kind(" in text:
        text = text.replace("\n", f"\n    kind = {argument}.dtype.type\n", 1)
    namespace = dict(_FUNCTIONS)
    exec(text, namespace)
    function: Callable[..., Any] = namespace[name]
    return _quiet(function) if _computes_what_it_drops(tree) else function


def _computes_what_it_drops(tree: ast.expr) -> bool:
    """Whether NumPy computes both branches of a choice, and the one that it drops may overflow."""
    branches = [branch for node in ast.walk(tree) if isinstance(node, ast.IfExp) for branch in (node.body, node.orelse)]
    return any(isinstance(node, ast.Call | ast.BinOp) for branch in branches for node in ast.walk(branch))


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    def without_warnings(*args: Any, **out: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **out)

    return without_warnings


for _name, _text in DEFINITIONS.items():
    _FUNCTIONS[_name] = _function(_name, "x", parsed(_text, ("x",)), "x")


@cache
def formula(name: str, which: str) -> Callable[..., Any]:
    """The function (argument, slope, out=None) that computes a formula of the activation's record: its "value", "slope",
    "curvature", "slope_from_result" or "curvature_from_result". A constant formula gives an array all the same."""
    record = BY_NAME[name]
    tree, argument = record.tree(which), record.argument(which)
    if isinstance(tree, ast.Constant):
        constant = ast.literal_eval(tree)
        return lambda x, slope, out=None: np.multiply(np.ones_like(x), constant, out=out)
    return _function(which, f"{argument}, slope", tree, argument)


sigmoid: Callable[..., Any] = _FUNCTIONS["sigmoid"]
sigmoid_slope: Callable[..., Any] = _FUNCTIONS["sigmoid_slope"]
