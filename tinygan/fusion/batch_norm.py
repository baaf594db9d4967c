"""Batch normalisation and a piecewise linear activation after it, as one op.

The forward pass is one kernel. The backward pass is two, which are ops: `_batch_norm_sums` and `_batch_norm_input_grad`.
Their gradients are computed by kernels too, unless they will be differentiated again. Then they are computed from the
definitions, in simple ops.
"""
from __future__ import annotations

__all__ = ["Statistics", "empty_statistics", "measured_batch_norm"]

from typing import Any, NamedTuple

import numpy as np

from tinygan.backends import Array, backend_of
from tinygan.context import CONTEXT, override
from tinygan.distributed.world import Part
from tinygan.fusion.activations import split
from tinygan.graph import OUT, op
from tinygan.kernels.activations import PIECEWISE_LINEAR
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad, checked_activation
from tinygan.ops.elementwise import add, div, mul, sqrt, sub
from tinygan.ops.normalization import axes_of, check_batch, normalized, per_channel
from tinygan.ops.reduce import centred, mean, var
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import stack
from tinygan.pullback import pullback
from tinygan.tensor import Tensor, as_array

Statistics = tuple[Array, Array]
"""The mean and the biased variance (C,) of each channel."""


class Settings(NamedTuple):
    """The settings of a batch normalisation and the activation after it.

    statistics: the mean and the biased variance (C,) of the input. The forward pass writes them, unless they have been
    `measured` already. The backward pass reads them."""

    eps: float
    statistics: Statistics
    activation: str
    slope: float
    measured: bool

    def told(self, weight: Any, bias: Any) -> tuple[Any, ...]:
        """The kernels' arguments after their arrays."""
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
    """The gradients of bias and weight, (2, C): the sums per channel of g' and of g' times the normalised x, where g' is the
    gradient before the activation."""
    return B.batch_norm_sums(g, x, *settings.told(weight, bias))


@_batch_norm_sums.vjp
def _(needs: Any, h: Any, g: Any, x: Any, weight: Any, bias: Any, sums: Any, settings: Settings) -> Any:
    if not isinstance(h, Tensor):  # (weight and bias get no gradient: only a sign depends on them)
        return *backend_of(h).batch_norm_sums_vjp(h, g, x, sums, *settings.told(weight, bias)), None, None

    def definition(g: Any, x: Any, weight: Any, bias: Any) -> Any:
        axes, normal = axes_of(x), _normalized(x, settings.eps)
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
        centred = sub(g, div(add(per_channel(sums[0], x), mul(normal, per_channel(sums[1], x))), count))
        deviation = sqrt(add(var(x, axes_of(x), keepdims=True), settings.eps))
        return mul(div(per_channel(weight, x), deviation), centred)

    return pullback(definition, (g, x, weight, bias, sums), h, needs)


def _before_activation(g: Any, normal: Any, weight: Any, bias: Any, settings: Settings) -> Any:
    """The gradient before the activation, from the gradient g after it. The slope of the activation is piecewise
    constant."""
    if settings.activation == "identity":
        return g
    z = add(mul(normal, per_channel(weight, normal)), per_channel(bias, normal))
    return activation_grad(g, z, activation=settings.activation, slope=settings.slope)


def _normalized(x: Any, eps: float) -> Any:
    deviation = centred("batch_norm", x, axes_of(x))
    return div(deviation, sqrt(add(mean(mul(deviation, deviation), axes_of(x), keepdims=True), eps)))


# With several processes, the statistics are those of the whole batch, of which this process has a part. All processes have
# equally many examples. So a sum over the whole batch, divided by its size, is the mean over the processes of the same
# quotient of each.


@op(saves=(0, 1, 2))
def _batch_norm_over_ranks(B: Any, x: Any, weight: Any, bias: Any, settings: Settings, part: Part) -> Any:
    mean, variance = settings.statistics
    if not settings.measured:
        B.batch_norm_statistics(x, mean, variance)
    # One reduction for both, in float64, where the difference of two large squares is exact enough.
    own = mean.astype(np.float64)
    whole = part.world.mean(B.xp.stack([own, own * own + variance]))
    mean[...] = whole[0]
    variance[...] = B.xp.maximum(whole[1] - whole[0] * whole[0], 0)
    return B.batch_norm(x, *settings.told(weight, bias))


@_batch_norm_over_ranks.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, bias: Any, settings: Settings, part: Part) -> Any:
    if isinstance(g, Tensor):  # it will be differentiated again
        def definition(x: Any, weight: Any, bias: Any) -> Any:
            with override(fusion=False):
                return normalized(x, weight, bias, settings.eps, settings.activation, settings.slope)[0]

        return pullback(definition, (x, weight, bias), g, needs)
    B = backend_of(g)
    sums = B.batch_norm_sums(g, x, *settings.told(weight, bias))
    gx = needs[0] and B.batch_norm_input_grad(g, x, part.world.mean(sums), *settings.told(weight, bias))
    return gx, needs[1] and sums[1], needs[2] and sums[0]


@normalized.fused
def _(x: Any, weight: Any, bias: Any, eps: float, activation: str, slope: float) -> tuple[Any, Any, Any]:
    statistics = empty_statistics(x, x.shape[1])
    return _activated(x, weight, bias, eps, statistics, activation, slope, False), *statistics


def measured_batch_norm(x: Any, weight: Any, bias: Any, eps: float, statistics: Statistics, activation: str = "identity",
                        slope: float = 0.2) -> Any:
    """`batch_norm` of x (N, C, ...) with known statistics. Do not write to these before the backward pass."""
    eps = check_batch("batch_norm", eps, x, weight, bias)
    checked_activation("batch_norm", activation, slope)
    return _activated(x, weight, bias, eps, statistics, activation, slope, True)


def _activated(x: Any, weight: Any, bias: Any, eps: float, statistics: Statistics, activation: str, slope: float,
               measured: bool) -> Any:
    within, after = split(activation, PIECEWISE_LINEAR)
    settings, part = Settings(eps, statistics, within, float(slope), measured), CONTEXT.get().part
    if part is None:
        y = _batch_norm(x, weight, bias, settings=settings)
    else:
        y = _batch_norm_over_ranks(x, weight, bias, settings=settings, part=part)
    return y if after == "identity" else activate(y, after, slope)


def empty_statistics(x: Any, channels: int) -> Statistics:
    """Two empty arrays (channels,) for the statistics, with x's dtype and on its device."""
    xp = backend_of(as_array(x)).xp
    return xp.empty(channels, x.dtype), xp.empty(channels, x.dtype)
