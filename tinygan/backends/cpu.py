"""The CPU backend: a table of what the rooms of `kernels/cpu` offer, NumPy's namespace, and the transfers.

Every function takes arrays of one floating-point dtype, returns a new one (or `out`), and relies on the ops' own checks of
shapes and dtypes. For small arrays a room uses NumPy, for large ones its compiled kernels. The other backends have the same
names, with the same arguments.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy as xp

from tinygan.kernels.activations import CODES, FUSED
from tinygan.kernels.cpu.arithmetic import add, multiply, subtract
from tinygan.kernels.cpu.batchnorm import (
    batch_norm,
    batch_norm_input_grad,
    batch_norm_input_grad_vjp,
    batch_norm_statistics,
    batch_norm_sums,
    batch_norm_sums_vjp,
)
from tinygan.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from tinygan.kernels.cpu.layout import channels_last, reshape
from tinygan.kernels.cpu.minibatch import minibatch_similarity, minibatch_similarity_grad, minibatch_similarity_second
from tinygan.kernels.cpu.random import random_bits, random_normal, random_uniform
from tinygan.kernels.cpu.reductions import add_at, log_softmax, logsumexp, mean, softmax, sum, sums_along
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import empty, empty_like, is_dense

name = "cpu"
array_type = np.ndarray
Array = np.ndarray[Any, Any]

__all__ = [
    "array_type", "name", "xp",
    "asarray", "empty", "feed", "to_numpy",
    "add", "multiply", "subtract",
    "channels_last", "reshape",
    "add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along",
    "dense", "dense_parameter_grads", "matmul",
    "mlp", "mlp_grad", "mlp_second",
    "conv2d", "conv2d_input_grad", "conv2d_weight_grad",
    "activation", "activation_grad",
    "bce_with_logits", "bce_with_logits_curvature", "bce_with_logits_grad",
    "batch_norm", "batch_norm_input_grad", "batch_norm_input_grad_vjp", "batch_norm_statistics", "batch_norm_sums",
    "batch_norm_sums_vjp",
    "minibatch_similarity", "minibatch_similarity_grad", "minibatch_similarity_second",
    "adam", "adam_grad", "rmsprop", "sgd",
    "random_bits", "random_normal", "random_uniform",
]


def to_numpy(array: Array) -> Array:
    """The array in the CPU's memory."""
    return np.asarray(array)


def asarray(array: Any) -> Array:
    """The array in this backend's memory."""
    return np.asarray(array)


def feed(value: Array | Callable[[], Array]) -> Array:
    """A small array of the host, or what a function makes of the host's state."""
    return value() if callable(value) else value


# What follows belongs to rooms that are being written: matmul, perceptron, conv, activations, losses, optimizers.

LARGE = 4096  # elements, or 64 times as many multiplications, from which the compiled kernels are faster than NumPy
FEW = 32  # numbers of which something costly is to be made, likewise (even fewer would not be slower, but need no compiler)
GROUP = 128  # numbers that are added one after another, at most
THIN = 4  # columns of the left matrix, up to which a product has a kernel of its own


def _native() -> Any:
    return loaded("tinygan.kernels.cpu.native")


# Matrix products


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b, leading axes broadcast."""
    if a.ndim == 2 and b.ndim == 2 and (out is None or out.flags.c_contiguous):
        if _is_thin(a, b.shape[1]):
            return _native().thin_product(a, b, out)
        if a.size * b.shape[1] > 64 * LARGE:
            return _native().product(a, b, out)
        if a.shape[1] == 1:  # an outer product, for which NumPy takes four times as long
            return np.multiply(a, b, out=out)
    return np.matmul(a, b, out=out)


def _is_thin(a: Array, columns: int) -> bool:
    """Whether a (N, few), times a matrix of so many columns, is a large product of few multiplications an element."""
    return 0 < a.shape[1] <= THIN and columns >= 4 * THIN and a.shape[0] * columns > LARGE


def dense(x: Array, weight: Array, bias: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), bias (out,) -> (N, out)."""
    fused = FUSED.get(activation_name)
    if _is_thin(x, weight.shape[0]) and (out is None or out.flags.c_contiguous):
        y = _native().thin_product(x, weight.T, out, bias, fused or 0, slope)
    elif x.size * weight.shape[0] > 64 * LARGE and (out is None or out.flags.c_contiguous):
        if weight.shape[0] <= _native().NARROW:
            y, fused = _native().product(x, weight.T, out), 0
            y += bias
        else:
            y = _native().product(x, weight.T, out, bias, fused or 0, slope)
    else:
        y = np.matmul(x, weight.T, out=out)
        y += bias
        fused = 0
    if fused is None or (fused == 0 and activation_name != "identity"):
        activation(y, activation_name, slope, out=y)
    return y


def dense_parameter_grads(x: Array, y: Array) -> Array:
    """y.T @ x and the sums of y's columns, one after the other: x (N, in), y (N, out) -> (out * in + out,). (Whoever keeps
    one keeps the memory of both.)"""
    both = empty((y.shape[1] * (x.shape[1] + 1),), y.dtype)
    weight, bias = both[:y.shape[1] * x.shape[1]], both[y.shape[1] * x.shape[1]:]
    matmul(y.T, x, out=weight.reshape(y.shape[1], x.shape[1]))
    if y.size > LARGE and y.flags.c_contiguous:
        bias[...] = loaded("tinygan.kernels.cpu.reductions.compiled").column_sums(y)
    elif len(y) > GROUP:
        bias[...] = sum(y, (0,), False)
    else:
        np.add.reduce(y, 0, out=bias)
    return both


# A multilayer perceptron, all weights in one array; `layers` are `fusion.MLPLayer`s


def mlp(x: Array, weights: Array, layers: Any) -> Array:
    """x (N, in) through dense layers and activations: (N, out)."""
    return _native().multilayer("forward", x, weights, layers, True, (False, False)).reshape(len(x), -1)


def mlp_grad(g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """For g (N, out), the gradients `by` x and by the weights, one behind the other."""
    return _native().multilayer("gradient", x, weights, layers, False, by, g)


def mlp_second(h: Array, g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """The gradients of the inner product of h and `mlp_grad` by g, x and the weights, one behind the other."""
    return _native().multilayer("second", x, weights, layers, True, (True, True), g, h, by)


# Activations


def _softplus(x: Array, slope: float, out: Array | None) -> Array:
    return np.add(np.maximum(x, 0), np.log1p(np.exp(-np.abs(x))), out=out)  # nothing overflows


def _sigmoid(x: Array, slope: float = 0.0, out: Array | None = None) -> Array:
    tail = np.exp(-np.abs(x))  # nothing overflows, and a small tail survives
    return np.divide(np.where(x < 0, tail, 1), 1 + tail, out=out)


def _leaky_relu(x: Array, slope: float, out: Array | None) -> Array:
    return np.multiply(x, np.where(x > 0, x.dtype.type(1), x.dtype.type(slope)), out=out)


def _elu(x: Array, slope: float, out: Array | None) -> Array:
    return np.add(np.maximum(x, 0), slope * np.expm1(np.minimum(x, 0)), out=out)


_IN_NUMPY: dict[str, Callable[[Array, float, Array | None], Array]] = {
    "identity": lambda x, slope, out: np.positive(x, out=out),
    "relu": lambda x, slope, out: np.maximum(x, 0, out=out),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "tanh": lambda x, slope, out: np.tanh(x, out=out),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}


def activation(x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """The activation of that name; leaky_relu and elu use `slope`."""
    compiled = activation_name in ("relu", "leaky_relu", "sigmoid") or (activation_name == "tanh" and x.dtype == np.float32)
    if x.size > (FEW if activation_name == "sigmoid" else LARGE) and compiled and is_dense(x):
        if out is None:
            out = empty_like(x)
        if out.strides == x.strides:
            return _native().activation_forward(x, CODES[activation_name], slope, out)
    return _IN_NUMPY[activation_name](x, slope, out)


def activation_grad(g: Array, x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """g times the activation's slope at x. (Of those in FUSED, the result tells it as well as x does.)"""
    kind = g.dtype.type
    if g.size > (LARGE if activation_name in FUSED else FEW) and activation_name != "identity" and is_dense(x):
        if out is None:
            out = empty_like(x)
        if out.strides == x.strides:
            if g.strides != x.strides:
                aligned = empty_like(x)
                aligned[...] = g
                g = aligned
            return _native().activation_backward(g, x, CODES[activation_name], slope, out)
    if activation_name == "tanh":
        slopes = 4 * _sigmoid_slope(2 * x)
    elif activation_name == "sigmoid":
        slopes = _sigmoid_slope(x)
    elif activation_name == "softplus":
        slopes = _sigmoid(x)
    elif activation_name == "elu":
        slopes = np.where(x > 0, kind(1), kind(slope) * np.exp(np.minimum(x, 0)))
    else:
        slopes = np.where(x > 0, kind(1), kind({"relu": 0.0, "leaky_relu": slope, "identity": 1.0}[activation_name]))
    return np.multiply(g, slopes, out=out)


def _sigmoid_slope(x: Array) -> Array:
    tails = np.exp(-np.abs(x))
    return tails / (1 + tails) ** 2  # (p (1 - p) would lose a small 1 - p)


# Losses


def bce_with_logits(logits: Array, targets: Any) -> Array:
    """mean(softplus(logits) - targets * logits) = mean(t |logits| + log(1 + exp(-|logits|))), where t is the target of a
    negative logit and 1 - target of another; t = 0 leaves nothing even of an infinite logit."""
    if logits.size > FEW:
        return _native().bce_with_logits(logits, targets)
    targets, sizes = np.asarray(targets, logits.dtype), np.abs(logits)
    factors = np.where(logits < 0, targets, 1 - targets)
    return np.mean(np.where(factors == 0, 0, sizes) * factors + np.log1p(np.exp(-sizes)))


def bce_with_logits_grad(g: Array, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number."""
    if logits.size > FEW:
        return _native().bce_with_logits_grad(g, logits, targets)
    # (1 - targets) * sigmoid(logits) - targets * sigmoid(-logits), where no small difference is lost
    slopes = (1 - targets) * _sigmoid(logits) - targets * _sigmoid(-logits)
    return slopes * (g / logits.dtype.type(logits.size))


def bce_with_logits_curvature(gg: Array, g: Array, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), for p = sigmoid(logits); g is one number."""
    if logits.size > FEW:
        return _native().bce_with_logits_curvature(gg, g, logits)
    return gg * (g / logits.dtype.type(logits.size)) * _sigmoid_slope(logits)


# Optimisers: in place, over lists of arrays; `settings` are float64


def _update(rule: str, settings: Array, parameters: list[Array], gradients: list[Array], *slots: list[Array]) -> None:
    """One task for all the arrays of a dtype."""
    for dtype in {p.dtype for p in parameters}:
        rows = [i for i, p in enumerate(parameters) if p.dtype == dtype]
        lists = [[arrays[i] for i in rows] for arrays in (parameters, gradients, *slots)]
        _native().optimizer_step(rule, settings, *lists)


def adam(parameters: list[Array], gradients: list[Array], m: list[Array], v: list[Array], settings: Array) -> None:
    """settings: learning rate, beta1, beta2, eps, weight decay, decoupled, 1 - beta1^t, 1 - beta2^t."""
    _update("adam", settings, parameters, gradients, m, v)


def rmsprop(parameters: list[Array], gradients: list[Array], square: list[Array], settings: Array) -> None:
    """settings: learning rate, decay, eps, weight decay."""
    _update("rmsprop", settings, parameters, gradients, square)


def sgd(parameters: list[Array], gradients: list[Array], velocity: list[Array], settings: Array) -> None:
    """settings: learning rate, momentum, nesterov, weight decay."""
    _update("sgd", settings, parameters, gradients, velocity)


def adam_grad(g: Array, packed: Array, gradient: Array, settings: Array) -> Array:
    """The derivative of `adam` without weight decay. From the gradient g (3, N) of what it makes of parameter, m and v,
    which are packed (3, N): those of packed, and behind them that of gradient (N,): (4, N). 0 through the root of v = 0."""
    return _native().adam_backward(g, packed, gradient, settings)
