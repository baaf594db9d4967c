"""The activations for a reader: each as a formula, with its slope and curvature, for one number.

`kernels/activations.py` has the records that the engine computes with. These functions state the same independently, so that
the numbers that a reader is shown are checked against it.
"""
from __future__ import annotations

__all__ = ["SLOPES", "Slope", "sigmoid"]

import math
from collections.abc import Callable
from typing import NamedTuple


class Slope(NamedTuple):
    """An activation: the formula of y and of its slope (@ stands for the parameter), and the slope and curvature at x, for
    a parameter."""

    name: str
    forward: str
    formula: str
    slope: Callable[[float, float], float]
    curvature: Callable[[float, float], float]


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _tanh(x: float) -> float:
    return 1 / math.cosh(x) ** 2 if abs(x) < 300 else 0.0


def _phi(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _below(x: float) -> float:
    """The standard normal distribution function."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _gelu_tanh(x: float) -> tuple[float, float]:
    """Slope and curvature of x (1 + tanh(u)) / 2, u = c (x + 0.044715 x^3)."""
    c = math.sqrt(2 / math.pi)
    u, u1, u2 = c * (x + 0.044715 * x**3), c * (1 + 3 * 0.044715 * x * x), c * 6 * 0.044715 * x
    t, t1 = math.tanh(u), _tanh(u)
    return (1 + t) / 2 + x * t1 * u1 / 2, t1 * u1 + x * (t1 * u2 - 2 * t * t1 * u1 * u1) / 2


SLOPES = {slope.name: slope for slope in (
    Slope("identity", "y = x", "1", lambda x, a: 1.0, lambda x, a: 0.0),
    Slope("relu", "y = x if x > 0, else 0", "1 if x > 0, else 0", lambda x, a: float(x > 0), lambda x, a: 0.0),
    Slope("leaky_relu", "y = x if x > 0, else @ x", "1 if x > 0, else @", lambda x, a: 1.0 if x > 0 else a,
          lambda x, a: 0.0),
    Slope("elu", "y = x if x > 0, else @ (eˣ − 1)", "1 if x > 0, else @ eˣ", lambda x, a: 1.0 if x > 0 else a * math.exp(x),
          lambda x, a: 0.0 if x > 0 else a * math.exp(x)),
    Slope("tanh", "y = tanh x", "1 − y²", lambda x, a: _tanh(x), lambda x, a: -2 * math.tanh(x) * _tanh(x)),
    Slope("sigmoid", "y = 1 / (1 + e⁻ˣ)", "y (1 − y)", lambda x, a: sigmoid(x) * sigmoid(-x),
          lambda x, a: sigmoid(x) * sigmoid(-x) * (1 - 2 * sigmoid(x))),
    Slope("softplus", "y = log(1 + eˣ)", "1 / (1 + e⁻ˣ)", lambda x, a: sigmoid(x), lambda x, a: sigmoid(x) * sigmoid(-x)),
    Slope("silu", "y = x p, p = 1 / (1 + e⁻ˣ)", "p (1 + x (1 − p))", lambda x, a: sigmoid(x) * (1 + x * sigmoid(-x)),
          lambda x, a: sigmoid(x) * sigmoid(-x) * (2 + x * (1 - 2 * sigmoid(x)))),
    Slope("gelu", "y = x Φ(x), Φ the normal distribution function", "Φ(x) + x φ(x)", lambda x, a: _below(x) + x * _phi(x),
          lambda x, a: _phi(x) * (2 - x * x)),
    Slope("gelu_tanh", "y = x (1 + tanh u) / 2, u = 0.798 (x + 0.0447 x³)", "(1 + tanh u) / 2 + x (1 − tanh² u) u′ / 2",
          lambda x, a: _gelu_tanh(x)[0], lambda x, a: _gelu_tanh(x)[1]),
)}
"""The activations by name."""
