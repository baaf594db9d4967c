"""Batch and layer normalisation.

Batch normalisation is fused, with a piecewise linear activation after it: one kernel forward, and backward two kernels
that are ops themselves, `_batch_norm_sums` and `_batch_norm_input_grad`. Their own gradients are kernels, too, where nobody
asks for more; otherwise they are derived from their definitions in simple ops. Nothing is held constant: the mean and
the variance depend on the input at every order.
"""
from __future__ import annotations

__all__ = ["Settings", "batch_norm", "batch_norm_inference", "check_statistics", "empty_statistics", "layer_norm"]

import math
from typing import Any, NamedTuple

from tinygan.backends import backend_of
from tinygan.graph import OUT, op
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad, checked_activation, split_activation
from tinygan.ops.choosing import maximum
from tinygan.ops.elementwise import add, div, mul, sqrt, sub
from tinygan.ops.reduce import centred, largest_magnitude, mean, var
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import reshape, stack
from tinygan.pullback import pullback
from tinygan.tensor import Tensor, as_array, shape_of

Statistics = tuple[Any, Any]


class Settings(NamedTuple):
    """Of batch normalisation and the activation after it; the statistics are written forward, unless they were measured
    before, and read backward."""

    eps: float
    statistics: Statistics
    activation: str
    slope: float
    measured: bool

    def told(self, weight: Any, bias: Any) -> tuple[Any, ...]:
        """What the kernels take behind their arrays."""
        return weight, bias, self.eps, *self.statistics, self.activation, self.slope


@op(saves=(0, 1, 2))
def _batch_norm(B: Any, x: Any, weight: Any, bias: Any, settings: Settings) -> Any:
    if not settings.measured:
        B.batch_norm_statistics(x, *settings.statistics)
    return B.batch_norm(x, *settings.told(weight, bias))


@_batch_norm.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, bias: Any, settings: Settings) -> Any:
    sums = _batch_norm_sums(g, x, weight, bias, settings=settings)
    gx = needs[0] and _batch_norm_input_grad(g, x, weight, bias, sums, settings=settings)
    return gx, needs[1] and sums[1], needs[2] and sums[0]


@op(saves=(0, 1, 2, 3, OUT))
def _batch_norm_sums(B: Any, g: Any, x: Any, weight: Any, bias: Any, settings: Settings) -> Any:
    """The sums per channel of the gradient before the activation, and of that times the normalised x -> (2, C): the
    gradients of bias and weight."""
    return B.batch_norm_sums(g, x, *settings.told(weight, bias))


@_batch_norm_sums.vjp
def _(needs: Any, h: Any, g: Any, x: Any, weight: Any, bias: Any, sums: Any, settings: Settings) -> Any:
    if not isinstance(h, Tensor):  # what the sign of z depends on has no gradient
        return *backend_of(h).batch_norm_sums_vjp(h, g, x, sums, *settings.told(weight, bias)), None, None

    def definition(g: Any, x: Any, weight: Any, bias: Any) -> Any:
        axes, normal = _axes(x), _normalized(x, settings.eps)
        g = _before_activation(g, normal, weight, bias, settings)
        return stack([sum_over(g, axes), sum_over(mul(g, normal), axes)])

    return pullback(definition, (g, x, weight, bias), h, needs)


@op(saves=(0, 1, 2, 3, 4))
def _batch_norm_input_grad(B: Any, g: Any, x: Any, weight: Any, bias: Any, sums: Any, settings: Settings) -> Any:
    return B.batch_norm_input_grad(g, x, sums, *settings.told(weight, bias))


@_batch_norm_input_grad.vjp
def _(needs: Any, h: Any, g: Any, x: Any, weight: Any, bias: Any, sums: Any, settings: Settings) -> Any:
    if not isinstance(h, Tensor):
        by_g, by_x, by_weight, by_sums = backend_of(h).batch_norm_input_grad_vjp(
            h, g, x, sums, *settings.told(weight, bias))
        return by_g, by_x, by_weight, None, by_sums

    def definition(g: Any, x: Any, weight: Any, bias: Any, sums: Any) -> Any:
        count, normal = x.size // x.shape[1], _normalized(x, settings.eps)
        g = _before_activation(g, normal, weight, bias, settings)
        centred = sub(g, div(add(_per_channel(sums[0], x), mul(normal, _per_channel(sums[1], x))), count))
        deviation = sqrt(add(var(x, _axes(x), keepdims=True), settings.eps))
        return mul(div(_per_channel(weight, x), deviation), centred)

    return pullback(definition, (g, x, weight, bias, sums), h, needs)


def _before_activation(g: Any, normal: Any, weight: Any, bias: Any, settings: Settings) -> Any:
    """The gradient g before the activation, whose slope is constant wherever it has one."""
    if settings.activation == "identity":
        return g
    z = add(mul(normal, _per_channel(weight, normal)), _per_channel(bias, normal))
    return activation_grad(g, z, activation=settings.activation, slope=settings.slope)


def batch_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5, statistics: Statistics | None = None,
               activation: str = "identity", slope: float = 0.2, measured: bool = False) -> Any:
    """activation(x normalised per channel over the batch, scaled and shifted): x (N, C, ...), weight, bias (C,) (Ioffe,
    Szegedy 2015, algorithm 1).

    statistics: two arrays (C,) of x's dtype, into which the mean and the (biased) variance of the batch are written; the
    backward pass reads them there, so leave them alone until then. measured: they hold them already, as `conv2d` wrote
    them. activation: as for `dense`. Raises ValueError for a batch of one value per channel, whose variance says nothing.

    The statistics have x's precision, as in PyTorch. So where x's deviation is close to the rounding of its mean, the result
    has an offset, which is the ratio of the two at most; and a variance that is infinite in x's precision gives `bias`.
    """
    eps = _check("batch_norm", eps, x, weight, bias)
    checked_activation("batch_norm", activation, slope)
    if x.size // max(x.shape[1], 1) < 2:
        raise ValueError(f"batch_norm: expected more than one value per channel in training, got input {x.shape}")
    if statistics is None:
        if measured:
            raise ValueError("batch_norm: measured says that the statistics are there, and there are none")
        statistics = empty_statistics(x, x.shape[1])
    check_statistics("batch_norm", statistics, x.shape[1], x.dtype, f" (input {x.shape})")
    within, after = split_activation(activation)
    settings = Settings(eps, statistics, within, float(slope), measured)
    return activate(_batch_norm(x, weight, bias, settings=settings), after, slope)


def batch_norm_inference(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """x (N, C, ...) normalised by a given mean and variance (C,), then scaled and shifted by weight and bias (C,)."""
    eps = _check("batch_norm_inference", eps, x, weight, bias, mean, variance)
    return _batch_norm_inference(x, mean, variance, weight, bias, eps=eps)


@op(saves=(0, 1, 2, 3, 4))
def _batch_norm_inference(B: Any, x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Any:
    return B.batch_norm(x, weight, bias, eps, mean, variance, "identity", 0.0)


@_batch_norm_inference.vjp
def _(needs: Any, g: Any, *inputs: Any, eps: float) -> Any:
    def definition(x: Any, mean: Any, variance: Any, weight: Any, bias: Any) -> Any:
        deviation = sub(x, _per_channel(mean, x))  # first: x * scale - mean * scale would lose what they differ by
        return add(mul(deviation, _per_channel(div(weight, sqrt(add(variance, eps))), x)), _per_channel(bias, x))

    return pullback(definition, inputs, g, needs)


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """x normalised over its last axes, those of weight's shape, then scaled and shifted (Ba, Kiros, Hinton 2016)."""
    eps = _check_eps("layer_norm", eps)
    for value in (x, weight, bias):
        shape_of("layer_norm", value)
    n = len(weight.shape)
    if not n or x.shape[len(x.shape) - n:] != weight.shape or bias.shape != weight.shape:
        raise ValueError(f"layer_norm: weight and bias should have the shape of the input's last axes (input {x.shape}, "
                         f"weight {weight.shape}, bias {bias.shape})")
    if not math.prod(weight.shape):
        raise ValueError(f"layer_norm: nothing to normalise in axes of size 0 (input {x.shape})")
    axes = tuple(range(len(x.shape) - n, len(x.shape)))
    deviation = centred("layer_norm", x, axes)
    # Both sides of the division are taken by their scale, a constant: the square of 1e20 is infinite in float32. It is at
    # least the root of eps, so that of small numbers eps stays the larger part.
    scale = maximum(largest_magnitude(deviation, axis=axes, keepdims=True), math.sqrt(eps))
    deviation = div(deviation, scale)
    variance = mean(mul(deviation, deviation), axes, keepdims=True)
    share = div(math.sqrt(eps), scale)
    return add(mul(div(deviation, sqrt(add(variance, mul(share, share)))), weight), bias)


def _check(caller: str, eps: float, x: Any, *per_channel: Any) -> float:
    shape, others = shape_of(caller, x), [shape_of(caller, value) for value in per_channel]
    if len(shape) < 2 or any(other != (shape[1],) for other in others):
        names = "weight, bias" if len(others) == 2 else "weight, bias, mean, variance"
        raise ValueError(f"{caller}: input (N, C, ...) with {names} (C,) expected, got input {shape} with {names} "
                         f"{', '.join(map(str, others))}")
    return _check_eps(caller, eps)


def _check_eps(caller: str, eps: float) -> float:
    if not eps > 0:
        raise ValueError(f"{caller}: eps should be positive, got {eps}")
    return float(eps)


def empty_statistics(x: Any, channels: int) -> Statistics:
    """Of so many channels, of x's dtype and beside it."""
    xp = backend_of(as_array(x)).xp
    return xp.empty(channels, x.dtype), xp.empty(channels, x.dtype)


def check_statistics(caller: str, statistics: Statistics, channels: int, dtype: Any, shapes: str) -> None:
    """ValueError for what is not two arrays (channels,) of that dtype."""
    if [(a.shape, a.dtype) for a in statistics] != [((channels,), dtype)] * 2:
        raise ValueError(f"{caller}: statistics should be two arrays of shape ({channels},) and dtype {dtype}, got "
                         f"{', '.join(f'{a.shape} {a.dtype}' for a in statistics)}{shapes}")


def _axes(x: Any) -> tuple[int, ...]:
    """All axes but the channels'."""
    return (0, *range(2, len(x.shape)))


def _per_channel(value: Any, x: Any) -> Any:
    """value (C,) in a shape that broadcasts against x (N, C, ...)."""
    return reshape(value, (1, -1, *[1] * (len(x.shape) - 2)))


def _normalized(x: Any, eps: float) -> Any:
    deviation = centred("batch_norm", x, _axes(x))
    return div(deviation, sqrt(add(mean(mul(deviation, deviation), _axes(x), keepdims=True), eps)))
