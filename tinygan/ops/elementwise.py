"""Elementwise mathematics with broadcasting: each forward with its gradient beside it.

How to read an op: `@binary` or `@unary` makes it from its forward, which computes on arrays. The function under `@name.vjp`
computes its gradient: g is the gradient of the output, and the values named by `saves` follow (0 and 1 are the inputs, OUT
is the output). It returns one gradient per input. `needs[1] and neg(g)` computes input 1's only if it is needed.

B is the backend. It has functions of its own where it is faster than the array library, such as `B.add`; `B.xp` is the array
library, NumPy or CuPy.
"""
from __future__ import annotations

__all__ = ["abs", "add", "astype", "ceil", "cos", "detach", "div", "exp", "floor", "log", "log1p", "mul", "neg", "round",
           "sign", "sin", "sqrt", "sub"]

from typing import Any

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import X, binary, unary
from tinygan.tensor import FLOATS, Tensor, shape_of


@binary()
def add(B: Any, a: Any, b: Any) -> Any:
    """a + b, elementwise."""
    return B.add(a, b)


@add.vjp
def _(needs: Any, g: Any) -> Any:
    return g, g


@binary()
def sub(B: Any, a: Any, b: Any) -> Any:
    """a - b, elementwise."""
    return B.subtract(a, b)


@sub.vjp
def _(needs: Any, g: Any) -> Any:
    return g, needs[1] and neg(g)


@binary(saves=(0, 1))
def mul(B: Any, a: Any, b: Any) -> Any:
    """a * b, elementwise."""
    return B.multiply(a, b)


@mul.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:
    return needs[0] and mul(g, b), needs[1] and mul(g, a)


@binary(saves=(1, OUT))
def div(B: Any, a: Any, b: Any) -> Any:
    """a / b, elementwise."""
    return B.xp.true_divide(a, b)


@div.vjp
def _(needs: Any, g: Any, b: Any, y: Any) -> Any:
    ga = div(g, b)
    return ga, needs[1] and neg(mul(ga, y))


@unary()
def neg(B: Any, x: Any) -> Any:
    """-x."""
    return B.xp.negative(x)


@neg.vjp
def _(needs: Any, g: Any) -> Any:
    return (neg(g),)


@unary(saves=(OUT,))
def exp(B: Any, x: Any) -> Any:
    """e to the power x."""
    return B.xp.exp(x)


@exp.vjp
def _(needs: Any, g: Any, y: Any) -> Any:
    return (mul(g, y),)


@unary(saves=(0,))
def log(B: Any, x: Any) -> Any:
    """The natural logarithm of x."""
    return B.xp.log(x)


@log.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (div(g, x),)


@unary(saves=(0,))
def log1p(B: Any, x: Any) -> Any:
    """log(1 + x), exact for small x."""
    return B.xp.log1p(x)


@log1p.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (div(g, add(x, 1.0)),)


@unary(saves=(OUT,))
def sqrt(B: Any, x: Any) -> Any:
    """The square root of x; its gradient at 0 is infinite."""
    return B.xp.sqrt(x)


@sqrt.vjp
def _(needs: Any, g: Any, y: Any) -> Any:
    return (div(mul(g, 0.5), y),)


@unary(saves=(0,), integers=True)
def sign(B: Any, x: Any) -> Any:
    """-1, 0 or 1, in x's dtype; its gradient is 0 everywhere."""
    return B.xp.sign(x) if x.dtype.kind != "b" else x.copy()


@unary(saves=(0,), integers=True)
def floor(B: Any, x: Any) -> Any:
    """The largest whole number that is not above x, in x's dtype; its gradient is 0."""
    return B.xp.floor(x) if x.dtype.kind == "f" else x.copy()


@unary(saves=(0,), integers=True)
def ceil(B: Any, x: Any) -> Any:
    """The smallest whole number that is not below x, in x's dtype; its gradient is 0."""
    return B.xp.ceil(x) if x.dtype.kind == "f" else x.copy()


@unary(saves=(0,), integers=True)
def round(B: Any, x: Any) -> Any:
    """The nearest whole number, in x's dtype; halfway between two, the even one. Its gradient is 0."""
    return B.xp.rint(x) if x.dtype.kind == "f" else x.copy()


@sign.vjp
@floor.vjp
@ceil.vjp
@round.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (_zeros(g, x),)


@op(saves=(0, 1))
def _zeros(B: Any, g: Any, x: Any) -> Any:
    """Zeros: the gradient of a step function of x. (g is an input so that this gradient is in the graph too.)"""
    return B.xp.zeros(x.shape, x.dtype)


@_zeros.vjp
def _(needs: Any, h: Any, g: Any, x: Any) -> Any:
    return needs[0] and _zeros(h, g), needs[1] and _zeros(h, x)


@unary(saves=(0,))
def abs(B: Any, x: Any) -> Any:
    """The magnitude of x; its gradient at 0 is 0."""
    return B.xp.abs(x)


@abs.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (mul(g, sign(x)),)


@unary(saves=(0,))
def sin(B: Any, x: Any) -> Any:
    """The sine of x, in radians."""
    return B.xp.sin(x)


@sin.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (mul(g, cos(x)),)


@unary(saves=(0,))
def cos(B: Any, x: Any) -> Any:
    """The cosine of x, in radians."""
    return B.xp.cos(x)


@cos.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (neg(mul(g, sin(x))),)


@op()
def _astype(B: Any, x: Any, dtype: Any, original: Any) -> Any:
    return x.astype(dtype)


@_astype.vjp
def _(needs: Any, g: Any, dtype: Any, original: Any) -> Any:  # (original: the dtype of x)
    return (_astype(g, dtype=original, original=dtype),)


@op()
def _cast(B: Any, x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


def astype(x: X, dtype: Any) -> X:
    """x converted to dtype. It is differentiable between float32 and float64, and a constant to `grad` otherwise."""
    dtype = np.dtype(dtype)
    shape_of("astype", x)
    if x.dtype in FLOATS and dtype in FLOATS:
        return _astype(x, dtype=dtype, original=x.dtype)
    return _cast(x, dtype=dtype)


def detach(x: X) -> X:
    """x as a constant to `grad`: the same values, the same memory."""
    return x.detach() if isinstance(x, Tensor) else x
