"""The checks of lesson 9: slopes of a small network in closed form, and their derivatives by central differences."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan import nn
from tinygan.graph import grad
from tinygan.ops import matmul, tanh
from tinygan.parameters import Parameter
from tinygan.random import Key

from .judging import Array, Exercise, close, finite_differences, function, listed, tensor

_KEY = Key(9)
_REAL, _FAKE = (_KEY.fold(name).normal((6, 2), dtype=np.float64) for name in ("real", "fake"))
_E = _KEY.fold("e").uniform((6, 1), dtype=np.float64)
_FIRST, _LAST = (_KEY.fold(str(shape)).normal(shape, dtype=np.float64) for shape in ((2, 4), (4, 1)))


class _Discriminator(nn.Module):
    """tanh(x first) last, in float64."""

    couples_examples = False

    def __init__(self) -> None:
        self.first, self.last = Parameter(_FIRST), Parameter(_LAST)

    def forward(self, x: Any) -> Any:
        return matmul(tanh(matmul(x, self.first)), self.last)


def _slopes(first: Array, x: Array) -> Array:
    """The gradients of the logits with respect to the points x (N, 2)."""
    return (1 - np.tanh(x @ first) ** 2) * _LAST[:, 0] @ first.T


def _judge(call: str, found: Any, of: Callable[[Array], float], d: _Discriminator) -> None:
    """Compare a penalty and its gradient with respect to the first weight with `of`, a function of that weight."""
    close(call, found, of(_FIRST))
    value = tensor(f"The value of {call} is right, but it", found)
    close(f"The gradient of {call} with respect to D's first weight", grad(value, d.first),
          finite_differences(of, _FIRST), rtol=1e-5,
          hint="The value is right. Is every part of it differentiable (create_graph=True)?")


def _r1(value: Any) -> None:
    answer, d = function("r1(D, real)", value), _Discriminator()
    _judge("r1(D, real)", answer(d, _REAL.copy()), lambda first: float((_slopes(first, _REAL) ** 2).sum(1).mean() / 2), d)


def _gradient_penalty(value: Any) -> None:
    answer, d = function("gradient_penalty(D, real, fake, e)", value), _Discriminator()
    between = _E * _REAL + (1 - _E) * _FAKE
    _judge("gradient_penalty(D, real, fake, e)", answer(d, _REAL.copy(), _FAKE.copy(), _E.copy()),
           lambda first: float(((np.linalg.norm(_slopes(first, between), axis=1) - 1) ** 2).mean()), d)


def _unrolled_gradients(value: Any) -> None:
    answer = function("unrolled_gradients(psi, theta, rate, K)", value)
    for psi, theta, rate, steps in ((0.5, 2.0, 0.1, 0), (0.5, 2.0, 0.1, 1), (-0.3, 0.8, 0.25, 4)):
        last = psi - steps * rate * theta
        both = -last + steps * rate * theta  # L_G = -(psi - K rate theta) theta
        names = ("with psi_K as a constant", "both parts")
        call = f"unrolled_gradients({psi}, {theta}, {rate}, {steps})"
        found = listed(call, answer(psi, theta, rate, steps), names)
        for name, ours, right in zip(names, found, (-last, both), strict=True):
            close(f"{call}, {name}", ours, right)


EXERCISES = (Exercise("r1", "r1(D, real)", _r1),
             Exercise("gradient_penalty", "gradient_penalty(D, real, fake, e)", _gradient_penalty),
             Exercise("unrolled_gradients", "unrolled_gradients(psi, theta, rate, K)", _unrolled_gradients))
