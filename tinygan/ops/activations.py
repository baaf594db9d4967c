"""Activations. The slope of the piecewise linear ones follows from their *output*: backward keeps that, and the input can be
freed. Of the others backward keeps the input: where tanh rounds to 1, its slope is small but not 0."""
from __future__ import annotations

__all__ = ["activation", "activation_grad", "elu", "leaky_relu", "relu", "sigmoid", "softplus", "tanh"]

from typing import Any

from tinygan.graph import OUT, Op, op
from tinygan.kernels.activations import FUSED
from tinygan.making import X
from tinygan.ops.elementwise import mul, neg, sub

NAMES = ("identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus")


def checked_activation(caller: str, activation: str, slope: float) -> None:
    if activation not in NAMES:
        raise ValueError(f"{caller}: unknown activation {activation!r}, expected one of {', '.join(NAMES)}")
    if not slope >= 0:  # the output's sign would no longer tell the input's
        raise ValueError(f"{caller}: the slope where the input is negative should be 0 or more, got {slope}")


@op(saves=(0,))
def _activation(B: Any, x: Any, activation: str, slope: float) -> Any:
    return B.activation(x, activation, slope)


_piecewise_linear: Op = op(saves=(OUT,))(_activation.forward)


@_activation.vjp
@_piecewise_linear.vjp
def _(needs: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    return (activation_grad(g, x, activation=activation, slope=slope),)


@op(saves=(0, 1))
def activation_grad(B: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    """activation_grad(g, x, activation=..., slope=...): g times the activation's slope at x. For relu and leaky_relu their
    output may stand in the place of x: both have one sign."""
    return B.activation_grad(g, x, activation, slope)


@activation_grad.vjp
def _(needs: Any, gg: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    gx = None
    if needs[1] and activation not in FUSED:  # (those have a slope that is piecewise constant)
        product = mul(gg, g)
        if activation == "tanh":  # its second derivative is -2 tanh(x) times the first
            gx = activation_grad(mul(product, mul(tanh(x), -2.0)), x, activation="tanh", slope=0.0)
        elif activation == "sigmoid":  # 1 - 2 sigmoid(x), which is -tanh(x / 2), times the first
            gx = activation_grad(mul(product, neg(tanh(mul(x, 0.5)))), x, activation="sigmoid", slope=0.0)
        elif activation == "softplus":  # the slope is sigmoid(x)
            gx = activation_grad(product, x, activation="sigmoid", slope=0.0)
        else:  # elu: the first itself, but 0 where x > 0
            curved = sub(product, activation_grad(product, x, activation="relu", slope=0.0))
            gx = activation_grad(curved, x, activation="elu", slope=slope)
    return needs[0] and activation_grad(gg, x, activation=activation, slope=slope), gx


def relu(x: X) -> X:
    """max(x, 0); its gradient at 0 is 0."""
    return _piecewise_linear(x, activation="relu", slope=0.0)


def leaky_relu(x: X, slope: float = 0.2) -> X:
    """x where positive, slope * x elsewhere; slope >= 0."""
    checked_activation("leaky_relu", "leaky_relu", slope)
    return _piecewise_linear(x, activation="leaky_relu", slope=float(slope))


def elu(x: X, alpha: float = 1.0) -> X:
    """x where positive, alpha * (exp(x) - 1) elsewhere; alpha >= 0 (Clevert et al. 2016)."""
    checked_activation("elu", "elu", alpha)
    return _activation(x, activation="elu", slope=float(alpha))


def tanh(x: X) -> X:
    """The hyperbolic tangent."""
    return _activation(x, activation="tanh", slope=0.0)


def sigmoid(x: X) -> X:
    """1 / (1 + exp(-x)), without overflow."""
    return _activation(x, activation="sigmoid", slope=0.0)


def softplus(x: X) -> X:
    """log(1 + exp(x)), without overflow."""
    return _activation(x, activation="softplus", slope=0.0)


def activation(x: X, name: str, slope: float = 0.2) -> X:
    """The activation of that name: identity, relu, leaky_relu, elu (with `slope`), tanh, sigmoid or softplus."""
    checked_activation("activation", name, slope)
    if name == "identity":
        return x
    return (_piecewise_linear if name in FUSED else _activation)(x, activation=name, slope=float(slope))
