"""Ops that choose between numbers: `where`, `maximum`, `minimum` and `clip`. And comparisons, which have no gradients."""
from __future__ import annotations

__all__ = ["clip", "equal", "greater", "greater_equal", "isfinite", "less", "less_equal", "maximum", "minimum", "not_equal",
           "where"]

import math
from typing import Any, overload

import numpy as np

from tinygan.graph import op
from tinygan.making import Number, NumPyArray, Operand, X, binary, unary
from tinygan.ops.elementwise import mul
from tinygan.tensor import Tensor, as_array, shape_of


@binary(saves=(0, 1))
def maximum(B: Any, a: Any, b: Any) -> Any:
    """The larger of a and b, elementwise. If they are equal, each gets half of the gradient.

    If one is NaN, the result is NaN, and both get the whole gradient, as in PyTorch. The smaller one gets the gradient 0,
    and 0 times an infinite derivative is NaN. So write `sqrt(maximum(x, 0.01))` and not `maximum(sqrt(x), 0.1)`, or see
    `where`.
    """
    return B.xp.maximum(a, b)


@binary(saves=(0, 1))
def minimum(B: Any, a: Any, b: Any) -> Any:
    """The smaller of a and b, elementwise. If they are equal, each gets half of the gradient.

    If one is NaN, the result is NaN, and both get the whole gradient, as in PyTorch. The larger one gets the gradient 0,
    and 0 times an infinite derivative is NaN: `maximum` and `where` show how to avoid that.
    """
    return B.xp.minimum(a, b)


@maximum.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:
    return needs[0] and mul(g, _preference(a, b)), needs[1] and mul(g, _preference(b, a))


@minimum.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:
    return needs[0] and mul(g, _preference(b, a)), needs[1] and mul(g, _preference(a, b))


@op()
def _preference(B: Any, a: Any, b: Any) -> Any:
    """0 where a < b, 1/2 where they are equal, else 1."""
    dtype = getattr(a, "dtype", None) or b.dtype
    return 1 - B.xp.add(B.xp.less(a, b), B.xp.less_equal(a, b), dtype=dtype) * 0.5


@op(saves=(0,))
def _clip(B: Any, x: Any, low: float, high: float) -> Any:
    return B.xp.clip(x, low, high)


@_clip.vjp
def _(needs: Any, g: Any, x: Any, low: float, high: float) -> Any:
    return (mul(g, _inside(x, low=low, high=high)),)


@op()
def _inside(B: Any, x: Any, low: float, high: float) -> Any:
    return ((x >= low) & (x <= high)).astype(x.dtype)


def clip(x: X, low: float | None = None, high: float | None = None) -> X:
    """x limited to [low, high]; None means no limit on that side. The gradient is 1 inside and at the limits, 0 outside.

    A NaN stays NaN, with gradient 0. Outside the limits, the derivative of whatever computed x is multiplied by 0, and 0 *
    inf is NaN. So clip the argument of a singular function, not its result: `log(clip(x, 1e-12, None))`, not
    `clip(log(x), -27, None)`. Or see `where`.
    """
    for name, limit in (("low", low), ("high", high)):
        if not (limit is None or isinstance(limit, int | float | np.integer | np.floating)):
            raise TypeError(f"clip: {name} should be a number or None, got {type(limit).__name__}")
    low = -math.inf if low is None else float(low)
    high = math.inf if high is None else float(high)
    if not low <= high:
        raise ValueError(f"clip: low should not be above high, got {low} and {high}")
    return _clip(x, low=low, high=high)


@op(broadcasts=True)
def _where(B: Any, a: Any, b: Any, condition: Any) -> Any:
    # np.where gives a Python number a dtype of its own: so give it the dtype of the other branch.
    if not hasattr(a, "dtype"):
        a = b.dtype.type(a)
    elif not hasattr(b, "dtype"):
        b = a.dtype.type(b)
    return B.xp.where(condition, a, b)


@_where.vjp
def _(needs: Any, g: Any, condition: Any) -> Any:
    return needs[0] and _where(g, 0.0, condition=condition), needs[1] and _where(0.0, g, condition=condition)


@overload
def where(condition: Any, a: Tensor, b: Operand) -> Tensor: ...


@overload
def where(condition: Any, a: Operand, b: Tensor) -> Tensor: ...


@overload
def where(condition: Tensor, a: Operand, b: Operand) -> Tensor: ...


@overload
def where(condition: NumPyArray | list[Any] | bool, a: NumPyArray | Number, b: NumPyArray | Number) -> NumPyArray: ...


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition is True, b elsewhere; all three broadcast. condition: booleans, an array or a Tensor.

    Both branches are computed everywhere. The branch that is not chosen gets the gradient 0, but 0 times an infinite
    derivative is NaN: `where(x > 0, sqrt(x), 0.0)` has the gradient NaN at x = 0. A second `where` inside helps. It gives
    the singular function a harmless number there:

        where(x > 0, sqrt(where(x > 0, x, 1.0)), 0.0)
    """
    if isinstance(condition, Tensor) and not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = Tensor(a if hasattr(a, "dtype") else float(a))  # a Tensor in, a Tensor out
    condition = np.asarray(condition) if isinstance(condition, list | bool) else as_array(condition)
    shape_of("where", condition)
    if condition.dtype.kind != "b":
        raise TypeError(f"where: condition should be booleans (such as x > 0), got {condition.dtype}")
    return _where(a, b, condition=condition)


# These have no gradients: they take any dtype and return constants.


@unary()
def isfinite(B: Any, x: Any) -> Any:
    """True where x is neither infinite nor NaN."""
    return B.xp.isfinite(x)


@binary()
def equal(B: Any, a: Any, b: Any) -> Any:
    """a == b, elementwise."""
    return B.xp.equal(a, b)


@binary()
def not_equal(B: Any, a: Any, b: Any) -> Any:
    """a != b, elementwise."""
    return B.xp.not_equal(a, b)


@binary()
def less(B: Any, a: Any, b: Any) -> Any:
    """a < b, elementwise."""
    return B.xp.less(a, b)


@binary()
def less_equal(B: Any, a: Any, b: Any) -> Any:
    """a <= b, elementwise."""
    return B.xp.less_equal(a, b)


@binary()
def greater(B: Any, a: Any, b: Any) -> Any:
    """a > b, elementwise."""
    return B.xp.greater(a, b)


@binary()
def greater_equal(B: Any, a: Any, b: Any) -> Any:
    """a >= b, elementwise."""
    return B.xp.greater_equal(a, b)
