"""Activations. All are monotonic, so their slope can be read off their *output*: backward keeps that and nothing else."""
from __future__ import annotations

__all__ = ["activation", "activation_grad", "elu", "leaky_relu", "relu", "sigmoid", "softplus", "tanh"]

from typing import Any

from tinygan.graph import OUT, op
from tinygan.ops.elementwise import exp, mul, neg, sub

NAMES = ("identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus")


def checked_activation(caller: str, activation: str, slope: float) -> None:
    if activation not in NAMES:
        raise ValueError(f"{caller}: unknown activation {activation!r}, expected one of {', '.join(NAMES)}")
    if not slope >= 0:  # the output's sign would no longer tell the input's
        raise ValueError(f"{caller}: the slope where the input is negative should be 0 or more, got {slope}")


@op(saves=(OUT,))
def _activation(B: Any, x: Any, activation: str, slope: float) -> Any:
    return B.activation(x, activation, slope)


@_activation.vjp
def _(needs: Any, g: Any, y: Any, activation: str, slope: float) -> Any:
    return (activation_grad(g, y, activation=activation, slope=slope),)


@op(saves=(0, 1))
def activation_grad(B: Any, g: Any, y: Any, activation: str, slope: float) -> Any:
    """activation_grad(g, y, activation=..., slope=...): g times the activation's slope where its output is y."""
    return B.activation_grad(g, y, activation, slope)


@activation_grad.vjp
def _(needs: Any, gg: Any, g: Any, y: Any, activation: str, slope: float) -> Any:
    gy = None
    if needs[1] and activation in ("tanh", "sigmoid", "softplus", "elu"):
        product = mul(gg, g)
        if activation == "tanh":  # the slope is 1 - y^2
            gy = mul(product, mul(y, -2.0))
        elif activation == "sigmoid":  # y (1 - y)
            gy = mul(product, sub(1.0, mul(y, 2.0)))
        elif activation == "softplus":  # 1 - exp(-y)
            gy = mul(product, exp(neg(y)))
        else:  # 1 where y > 0, else y + slope
            gy = sub(product, activation_grad(product, y, activation="relu", slope=0.0))
    # the others' slopes are piecewise constant
    return needs[0] and activation_grad(gg, y, activation=activation, slope=slope), gy


def relu(x: Any) -> Any:
    """max(x, 0); its gradient at 0 is 0."""
    return _activation(x, activation="relu", slope=0.0)


def leaky_relu(x: Any, slope: float = 0.2) -> Any:
    """x where positive, slope * x elsewhere; slope >= 0."""
    checked_activation("leaky_relu", "leaky_relu", slope)
    return _activation(x, activation="leaky_relu", slope=float(slope))


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, alpha * (exp(x) - 1) elsewhere; alpha >= 0 (Clevert et al. 2016)."""
    checked_activation("elu", "elu", alpha)
    return _activation(x, activation="elu", slope=float(alpha))


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _activation(x, activation="tanh", slope=0.0)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return _activation(x, activation="sigmoid", slope=0.0)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return _activation(x, activation="softplus", slope=0.0)


def activation(x: Any, name: str, slope: float = 0.2) -> Any:
    """The activation of that name: identity, relu, leaky_relu, elu (with `slope`), tanh, sigmoid or softplus."""
    checked_activation("activation", name, slope)
    return x if name == "identity" else _activation(x, activation=name, slope=float(slope))
