"""The checks of lesson 2: values by NumPy, gradients of first and second order by central differences."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

import numpy as np

from tinygan.gradcheck import GradientError, check_gradients
from tinygan.graph import Op, grad
from tinygan.ops import mul
from tinygan.ops import sum as sum_over
from tinygan.tensor import Tensor

from .judging import AnswerError, Exercise, close


def _op(name: str, value: Any) -> Op:
    if not isinstance(value, Op):
        raise AnswerError(f"{name} should be an op, made with @tg.op. Found a value of type {type(value).__name__}.")
    if value.vjp_rule is None:
        raise AnswerError(f"{name} has no vjp. It follows the forward, under @{name}.vjp.")
    return value


def _gradients(name: str, op: Op, *inputs: Any) -> None:
    """Check both orders one after the other, so that the message says which of them is wrong."""
    for order in (1, 2):
        try:
            check_gradients(op, *inputs, order=order)
        except GradientError as error:
            raise AnswerError(f"The values of {name} are right, but not its vjp: {error}.") from None


def _log_cosh(value: Any) -> None:
    op, x = _op("log_cosh", value), np.array([-2.0, 0.0, 0.5, 3.0])
    close(f"log_cosh({x.tolist()})", op(Tensor(x)), np.log(np.cosh(x)), rtol=1e-9)
    _gradients("log_cosh", op, x)
    far = np.array([-800.0, 800.0])
    with np.errstate(over="ignore", invalid="ignore"):
        leaf = Tensor(far, requires_grad=True)
        result = op(leaf)
        close("log_cosh([-800, 800])", result, np.abs(far) - np.log(2), rtol=1e-9)
        close("The gradient of log_cosh at [-800, 800]", grad(sum_over(result), leaf), np.sign(far), rtol=1e-9)


def _distance(value: Any) -> None:
    op, a, b = _op("distance", value), np.array([3.0, -1.0, 0.5]), np.array([4.0, 1.0, -1.2])
    close(f"distance({a.tolist()}, {b.tolist()})", op(Tensor(a), Tensor(b)), np.hypot(a, b), rtol=1e-9)
    _gradients("distance", op, a, b)


def _reverse(value: Any) -> None:
    op, x = _op("reverse", value), np.array([2.0, -3.0])
    close(f"reverse({x.tolist()})", op(Tensor(x)), x, rtol=1e-12)
    leaf = Tensor(x, requires_grad=True)
    y = op(leaf)
    first = grad(sum_over(mul(y, y)), leaf, create_graph=True)
    close(f"The gradient of sum(reverse(x)^2) at x = {x.tolist()}", first, -2 * x)
    if not first.requires_grad:
        raise AnswerError("The gradient of reverse is a constant to tg.grad. Write its vjp in ops, such as tg.neg.")
    close("The gradient of the sum of this gradient (it is reversed twice)", grad(sum_over(first), leaf), [2.0, 2.0])


EXERCISES = (Exercise("log_cosh", "log_cosh(x)", _log_cosh), Exercise("distance", "distance(a, b)", _distance),
             Exercise("reverse", "reverse(x)", _reverse))
