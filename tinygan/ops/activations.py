"""The activations. Each has one record of formulas in `kernels/activations.py`, from which all kernels are made:

    Activation("leaky_relu", value="x * (1 if x > 0 else slope)", slope="1 if x > 0 else slope", curvature="0", fused=True)
    Activation("softplus", value="max(x, 0) + log1p(decay(abs(x)))", slope="sigmoid(x)", curvature="sigmoid_slope(x)", ...)

`value`, `slope` and `curvature` are f(x), f'(x) and f''(x); decay(t) is exp(-t), and sigmoid_slope is the sigmoid's f'. A
record may also give f' in terms of the output y, as `slope_from_result`. Inside a formula, `slope` is the number that the
user chooses: leaky_relu's slope for x < 0, or elu's alpha. Three tables come from the records:

    BY_NAME             all records, by the activation's name
    FUSED               those that matrix products and convolutions apply themselves: now identity, relu, leaky_relu
    PIECEWISE_LINEAR    those of FUSED whose f'' is 0

A fused activation has a slope that follows from the *output*. So backward keeps the output, and the input can be freed. For
the others backward keeps the input: where tanh rounds to 1, its slope is small but not 0."""
from __future__ import annotations

__all__ = ["activation", "activation_grad", "elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus", "tanh"]

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from tinygan.backends import backend_of
from tinygan.graph import OUT, Op, op
from tinygan.kernels.activations import BY_NAME, FUSED, PIECEWISE_LINEAR
from tinygan.kernels.expressions import in_calls
from tinygan.making import X
from tinygan.ops.choosing import clip, greater, greater_equal, less, less_equal, maximum, where
from tinygan.ops.elementwise import abs, add, div, exp, log1p, mul, neg, sub
from tinygan.pullback import pullback
from tinygan.tensor import as_array


def checked_activation(caller: str, activation: str, slope: float) -> None:
    if activation not in BY_NAME:
        raise ValueError(f"{caller}: unknown activation {activation!r}, expected one of {', '.join(BY_NAME)}")
    if not slope >= 0:  # the sign of the output would no longer show the sign of the input
        raise ValueError(f"{caller}: the slope for negative inputs should be 0 or more, got {slope}")


@op(saves=(0,))
def _activation(B: Any, x: Any, activation: str, slope: float) -> Any:
    return B.activation(x, activation, slope)


KEEPS_OUTPUT = FUSED
"""The activations whose slope follows from their output. (Fused ops apply just these, because only the output is left.)"""

_activation_keeping_output: Op = op(saves=(OUT,))(_activation.forward)
_OPS = {name: _activation_keeping_output if name in KEEPS_OUTPUT else _activation for name in BY_NAME}


@_activation.vjp
@_activation_keeping_output.vjp
def _(needs: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    return (activation_grad(g, x, activation=activation, slope=slope),)


@op(saves=(0, 1))
def activation_grad(B: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    """activation_grad(g, x, activation=..., slope=...): g times the activation's slope at x. If backward keeps the
    activation's output, x is that output."""
    return B.activation_grad(g, x, activation, slope)


@activation_grad.vjp
def _(needs: Any, gg: Any, g: Any, x: Any, activation: str, slope: float) -> Any:
    gx = None  # piecewise linear: the slope does not change with x
    if needs[1] and activation in KEEPS_OUTPUT and activation not in PIECEWISE_LINEAR:  # x is the output (none so far)
        slope_from_result = _formula(activation, "slope_from_result")  # (`pullback`: the vjp of a function written in ops)
        gx = pullback(lambda y: mul(g, slope_from_result(y, slope)), (x,), gg, (True,))[0]
    elif needs[1] and activation not in PIECEWISE_LINEAR:
        gx = mul(mul(gg, g), _formula(activation, "curvature")(x, slope))
    return needs[0] and activation_grad(gg, x, activation=activation, slope=slope), gx


@cache
def _formula(activation: str, which: str) -> Callable[[Any, float], Any]:
    """A formula of the activation's record as a function of (x, slope), written in ops: so it has derivatives of every
    order. For example, "sigmoid_slope(x)" becomes mul(sigmoid(x), sigmoid(neg(x)))."""
    return in_calls(BY_NAME[activation].tree(which), (BY_NAME[activation].argument(which), "slope"), {
        "add": add, "subtract": sub, "multiply": mul, "divide": div, "negative": neg, "greater": greater, "less": less,
        "greater_equal": greater_equal, "less_equal": less_equal, "choose": where, "kind_of": lambda x: partial(_filled, x),
        "abs": abs, "max": maximum, "decay": lambda t: exp(neg(t)), "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid,
        "sigmoid_slope": lambda x: mul(sigmoid(x), sigmoid(neg(x))), "limited": lambda x: clip(x, -800.0, 800.0),
        "normal_density": _normal_density})


def _normal_density(x: Any) -> Any:
    x = clip(x, -800.0, 800.0)
    return mul(exp(mul(mul(x, x), -0.5)), 0.3989422804014327)


def _filled(x: Any, number: float) -> Any:
    """An array like x, full of one number of a formula."""
    array = as_array(x)
    return backend_of(array).xp.full_like(array, number)


def relu(x: X) -> X:
    """max(x, 0); its gradient at 0 is 0."""
    return _OPS["relu"](x, activation="relu", slope=0.0)


def leaky_relu(x: X, slope: float = 0.2) -> X:
    """x where positive, slope * x elsewhere; slope >= 0."""
    checked_activation("leaky_relu", "leaky_relu", slope)
    return _OPS["leaky_relu"](x, activation="leaky_relu", slope=float(slope))


def elu(x: X, alpha: float = 1.0) -> X:
    """x where positive, alpha * (exp(x) - 1) elsewhere; alpha >= 0 (Clevert et al. 2016)."""
    checked_activation("elu", "elu", alpha)
    return _OPS["elu"](x, activation="elu", slope=float(alpha))


def tanh(x: X) -> X:
    """The hyperbolic tangent."""
    return _OPS["tanh"](x, activation="tanh", slope=0.0)


def sigmoid(x: X) -> X:
    """1 / (1 + exp(-x)), without overflow."""
    return _OPS["sigmoid"](x, activation="sigmoid", slope=0.0)


def softplus(x: X) -> X:
    """log(1 + exp(x)), without overflow."""
    return _OPS["softplus"](x, activation="softplus", slope=0.0)


def silu(x: X) -> X:
    """x * sigmoid(x), also known as swish (Hendrycks, Gimpel 2016; Elfwing et al. 2018)."""
    return _OPS["silu"](x, activation="silu", slope=0.0)


GELUS = {"none": "gelu", "tanh": "gelu_tanh"}
"""The activations' names by the argument `approximate`."""


def gelu(x: X, approximate: str = "none") -> X:
    """x times the standard normal distribution function at x (Hendrycks, Gimpel 2016). approximate="tanh": an approximation
    of it, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    name = GELUS.get(approximate)
    if name is None:
        raise ValueError(f"gelu: unknown approximate {approximate!r}, expected one of {', '.join(GELUS)}")
    return _OPS[name](x, activation=name, slope=0.0)


def activation(x: X, name: str, slope: float = 0.2) -> X:
    """The activation of that name: identity, relu, leaky_relu, elu, tanh, sigmoid, softplus, silu, gelu or gelu_tanh. slope:
    that of leaky_relu, or alpha of elu."""
    checked_activation("activation", name, slope)
    if name == "identity":
        return x
    return _OPS[name](x, activation=name, slope=float(slope))
