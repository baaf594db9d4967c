"""The operators and methods of Tensor. Each is an op, or a short function that calls one."""
from __future__ import annotations

__all__ = ["Methods", "give"]

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tinygan import ops
from tinygan.backends import backend_of
from tinygan.graph import Op, apply
from tinygan.making import NumPyArray, Operand
from tinygan.tensor import Tensor


def _is_number(value: Any) -> bool:
    """Whether a Tensor can be compared with it: a Tensor, a real number, or an array of real numbers."""
    if isinstance(value, Tensor | int | float):
        return True
    try:
        backend_of(value)
    except TypeError:
        return False
    return value.dtype.kind in "fiub"


class Methods:
    """The attributes that `give` adds to the class Tensor."""

    __add__ = ops.add
    __sub__ = ops.sub
    __mul__ = ops.mul
    __truediv__ = ops.div
    __pow__ = ops.pow
    __neg__ = ops.neg
    __abs__ = ops.abs
    __getitem__ = ops.getitem

    def __radd__(self: Any, other: Operand) -> Tensor:
        return ops.add(other, self)

    def __rsub__(self: Any, other: Operand) -> Tensor:
        return ops.sub(other, self)

    def __rmul__(self: Any, other: Operand) -> Tensor:
        return ops.mul(other, self)

    def __rtruediv__(self: Any, other: Operand) -> Tensor:
        return ops.div(other, self)

    def __rpow__(self: Any, other: Operand) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self: Any, other: Tensor | NumPyArray) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self: Any, other: NumPyArray) -> Tensor:
        return ops.matmul(other, self)

    def __lt__(self: Any, other: Operand) -> Tensor:  # type: ignore[misc]
        return ops.less(self, other) if _is_number(other) else NotImplemented

    def __le__(self: Any, other: Operand) -> Tensor:  # type: ignore[misc]
        return ops.less_equal(self, other) if _is_number(other) else NotImplemented

    def __gt__(self: Any, other: Operand) -> Tensor:  # type: ignore[misc]
        return ops.greater(self, other) if _is_number(other) else NotImplemented

    def __ge__(self: Any, other: Operand) -> Tensor:  # type: ignore[misc]
        return ops.greater_equal(self, other) if _is_number(other) else NotImplemented

    def __eq__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other) if _is_number(other) else NotImplemented

    def __ne__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other) if _is_number(other) else NotImplemented

    sum = ops.sum
    mean = ops.mean
    var = ops.var
    std = ops.std
    max = ops.max
    min = ops.min
    norm = ops.norm
    prod = ops.prod
    cumsum = ops.cumsum
    any = ops.any
    all = ops.all
    argmax = ops.argmax
    argmin = ops.argmin
    logsumexp = ops.logsumexp
    softmax = ops.softmax
    log_softmax = ops.log_softmax

    flatten = ops.flatten
    squeeze = ops.squeeze
    gather = ops.gather
    astype = ops.astype

    def reshape(self: Any, *shape: Any) -> Tensor:
        """As `tinygan.reshape`; the shape may also be given as separate integers."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self: Any, *axes: Any) -> Tensor:
        """As `tinygan.transpose`; the axes may also be given as separate integers."""
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def pow(self: Any, exponent: Operand) -> Tensor:
        """As `tinygan.pow`."""
        return ops.pow(self, exponent)

    abs = ops.abs
    sign = ops.sign
    floor = ops.floor
    ceil = ops.ceil
    round = ops.round
    exp = ops.exp
    log = ops.log
    sqrt = ops.sqrt
    sin = ops.sin
    cos = ops.cos
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu
    clip = ops.clip


def give(kind: type[Tensor]) -> None:
    """Add the attributes of `Methods` to the class `kind`."""
    for name, value in vars(Methods).items():
        if callable(value):
            method = _method(value) if isinstance(value, Op) else value
            if "." in method.__qualname__:  # no function of `ops`: Python's errors begin with this name
                method.__qualname__ = f"{kind.__name__}.{name}"
            setattr(kind, name, method)


def _method(op: Op) -> Callable[..., Any]:
    """The op as a plain function. Python binds and calls a function faster than another object."""
    def unary(self: Tensor) -> Any:
        return apply(op, self)

    def binary(self: Tensor, other: Any) -> Any:
        return apply(op, self, other)

    method: Callable[..., Any] = binary if len(inspect.signature(op).parameters) == 2 else unary
    return functools.update_wrapper(method, op, updated=())  # (reading `vars(op)` would make the op slower from then on)
