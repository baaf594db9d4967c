"""Elementwise ops with broadcasting: each forward with its gradient beside it, and the comparisons, which have none."""
from __future__ import annotations

__all__ = ["abs", "add", "astype", "ceil", "clip", "cos", "detach", "div", "equal", "exp", "floor", "greater",
           "greater_equal", "isfinite", "less", "less_equal", "log", "log1p", "maximum", "minimum", "mul", "neg",
           "not_equal", "round", "sign", "sin", "sqrt", "sub", "where"]

import math
from typing import Any, overload

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import Number, NumPyArray, Operand, X, binary, unary
from tinygan.tensor import FLOATS, Tensor, as_array, shape_of


@binary()
def add(B: Any, a: Any, b: Any) -> Any:
    """add(a, b): a + b, elementwise."""
    return B.add(a, b)


@add.vjp
def _(needs: Any, g: Any) -> Any:
    return g, g


@binary()
def sub(B: Any, a: Any, b: Any) -> Any:
    """sub(a, b): a - b, elementwise."""
    return B.subtract(a, b)


@sub.vjp
def _(needs: Any, g: Any) -> Any:
    return g, needs[1] and neg(g)


@binary(saves=(0, 1))
def mul(B: Any, a: Any, b: Any) -> Any:
    """mul(a, b): a * b, elementwise."""
    return B.multiply(a, b)


@mul.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:
    return needs[0] and mul(g, b), needs[1] and mul(g, a)


@binary(saves=(1, OUT))
def div(B: Any, a: Any, b: Any) -> Any:
    """div(a, b): a / b, elementwise."""
    return B.xp.true_divide(a, b)


@div.vjp
def _(needs: Any, g: Any, b: Any, y: Any) -> Any:
    ga = div(g, b)
    return ga, needs[1] and neg(mul(ga, y))


@unary()
def neg(B: Any, x: Any) -> Any:
    """neg(x): -x."""
    return B.xp.negative(x)


@neg.vjp
def _(needs: Any, g: Any) -> Any:
    return (neg(g),)


@unary(saves=(OUT,))
def exp(B: Any, x: Any) -> Any:
    """exp(x): e to the power x."""
    return B.xp.exp(x)


@exp.vjp
def _(needs: Any, g: Any, y: Any) -> Any:
    return (mul(g, y),)


@unary(saves=(0,))
def log(B: Any, x: Any) -> Any:
    """log(x): the natural logarithm."""
    return B.xp.log(x)


@log.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (div(g, x),)


@unary(saves=(0,))
def log1p(B: Any, x: Any) -> Any:
    """log1p(x): log(1 + x), exact for small x."""
    return B.xp.log1p(x)


@log1p.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (div(g, add(x, 1.0)),)


@unary(saves=(OUT,))
def sqrt(B: Any, x: Any) -> Any:
    """sqrt(x): the square root; its gradient at 0 is infinite."""
    return B.xp.sqrt(x)


@sqrt.vjp
def _(needs: Any, g: Any, y: Any) -> Any:
    return (div(mul(g, 0.5), y),)


@unary(saves=(0,), integers=True)
def sign(B: Any, x: Any) -> Any:
    """sign(x): -1, 0 or 1, in x's dtype; its gradient is 0, at 0 as well."""
    return B.xp.sign(x) if x.dtype.kind != "b" else x.copy()


@unary(saves=(0,), integers=True)
def floor(B: Any, x: Any) -> Any:
    """floor(x): the largest whole number that is not above x, in x's dtype; its gradient is 0."""
    return B.xp.floor(x) if x.dtype.kind == "f" else x.copy()


@unary(saves=(0,), integers=True)
def ceil(B: Any, x: Any) -> Any:
    """ceil(x): the smallest whole number that is not below x, in x's dtype; its gradient is 0."""
    return B.xp.ceil(x) if x.dtype.kind == "f" else x.copy()


@unary(saves=(0,), integers=True)
def round(B: Any, x: Any) -> Any:
    """round(x): the nearest whole number, of two the even one, in x's dtype; its gradient is 0."""
    return B.xp.rint(x) if x.dtype.kind == "f" else x.copy()


@sign.vjp
@floor.vjp
@ceil.vjp
@round.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (_zeros(g, x),)


@op(saves=(0, 1))
def _zeros(B: Any, g: Any, x: Any) -> Any:
    """Zeros, whatever g is: the gradient of a function of x that is constant but for its steps, and that gradient's own."""
    return B.xp.zeros(x.shape, x.dtype)


@_zeros.vjp
def _(needs: Any, h: Any, g: Any, x: Any) -> Any:
    return needs[0] and _zeros(h, g), needs[1] and _zeros(h, x)


@unary(saves=(0,))
def abs(B: Any, x: Any) -> Any:
    """abs(x): the magnitude; its gradient at 0 is 0."""
    return B.xp.abs(x)


@abs.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (mul(g, sign(x)),)


@unary(saves=(0,))
def sin(B: Any, x: Any) -> Any:
    """sin(x), x in radians."""
    return B.xp.sin(x)


@sin.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (mul(g, cos(x)),)


@unary(saves=(0,))
def cos(B: Any, x: Any) -> Any:
    """cos(x), x in radians."""
    return B.xp.cos(x)


@cos.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (neg(mul(g, sin(x))),)


@binary(saves=(0, 1))
def maximum(B: Any, a: Any, b: Any) -> Any:
    """maximum(a, b): the larger, elementwise; where both are equal each gets half of the gradient.

    Where one is NaN, so is the result, and both get the whole gradient, as in PyTorch. The one not taken gets the gradient
    0, and 0 times an infinite derivative is NaN: not `maximum(sqrt(x), 0.1)` but `sqrt(maximum(x, 0.01))`; or see `where`.
    """
    return B.xp.maximum(a, b)


@binary(saves=(0, 1))
def minimum(B: Any, a: Any, b: Any) -> Any:
    """minimum(a, b): the smaller, elementwise; where both are equal each gets half of the gradient.

    Where one is NaN, so is the result, and both get the whole gradient, as in PyTorch. The one not taken gets the gradient
    0, and 0 times an infinite derivative is NaN: see `maximum` and `where` for the way round.
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
    """x limited to [low, high] (None: no limit on that side). Gradient 1 inside, the limits included, else 0.

    A NaN stays NaN, with gradient 0. Where x is outside, x's own derivative is multiplied by 0, and 0 * inf is NaN: to clip
    a result is too late. So clip what the singular function is given: not `clip(log(x), -27, None)` but
    `log(clip(x, 1e-12, None))`; or see `where`.
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
    # np.where knows no weakly typed numbers: give them the dtype of the other branch.
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
    """a where condition holds, b elsewhere; all three broadcast. condition: booleans, an array or a Tensor.

    Both branches are computed everywhere. The branch not taken gets the gradient 0, but 0 times an infinite derivative is
    NaN: `where(x > 0, sqrt(x), 0.0)` has the gradient NaN at x = 0. The way round is a second `where` inside, which gives
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


@op()
def _astype(B: Any, x: Any, dtype: Any, original: Any) -> Any:
    return x.astype(dtype)


@_astype.vjp
def _(needs: Any, g: Any, dtype: Any, original: Any) -> Any:
    return (_astype(g, dtype=original, original=dtype),)


@op()
def _cast(B: Any, x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


def astype(x: X, dtype: Any) -> X:
    """x converted to dtype; differentiable between float32 and float64, a constant to `grad` otherwise."""
    dtype = np.dtype(dtype)
    shape_of("astype", x)
    if x.dtype in FLOATS and dtype in FLOATS:
        return _astype(x, dtype=dtype, original=x.dtype)
    return _cast(x, dtype=dtype)


def detach(x: X) -> X:
    """x as a constant to `grad`: the same values, the same memory."""
    return x.detach() if isinstance(x, Tensor) else x


# Without gradients: these take any dtype and return constants.


@unary()
def isfinite(B: Any, x: Any) -> Any:
    """isfinite(x): True where x is neither infinite nor NaN."""
    return B.xp.isfinite(x)


@binary()
def equal(B: Any, a: Any, b: Any) -> Any:
    """equal(a, b): a == b, elementwise."""
    return B.xp.equal(a, b)


@binary()
def not_equal(B: Any, a: Any, b: Any) -> Any:
    """not_equal(a, b): a != b, elementwise."""
    return B.xp.not_equal(a, b)


@binary()
def less(B: Any, a: Any, b: Any) -> Any:
    """less(a, b): a < b, elementwise."""
    return B.xp.less(a, b)


@binary()
def less_equal(B: Any, a: Any, b: Any) -> Any:
    """less_equal(a, b): a <= b, elementwise."""
    return B.xp.less_equal(a, b)


@binary()
def greater(B: Any, a: Any, b: Any) -> Any:
    """greater(a, b): a > b, elementwise."""
    return B.xp.greater(a, b)


@binary()
def greater_equal(B: Any, a: Any, b: Any) -> Any:
    """greater_equal(a, b): a >= b, elementwise."""
    return B.xp.greater_equal(a, b)
