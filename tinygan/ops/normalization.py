"""Normalisation over the batch, an example, groups of channels or the channels of a pixel, written in simple ops.
Derivatives of every order take into account that the mean and the variance depend on the input."""
from __future__ import annotations

__all__ = ["batch_norm", "batch_norm_inference", "batch_norm_with_statistics", "group_norm", "instance_norm", "layer_norm",
           "pixel_norm", "root_mean_square"]

import math
from typing import Any

from tinygan.context import CONTEXT
from tinygan.graph import op
from tinygan.making import X, weighted
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import checked_activation
from tinygan.ops.choosing import maximum
from tinygan.ops.composite import Composite
from tinygan.ops.elementwise import add, div, mul, sqrt, sub
from tinygan.ops.ranks import mean_over_ranks
from tinygan.ops.reduce import centred, largest_magnitude, mean
from tinygan.ops.shape import reshape
from tinygan.ops.windows import is_whole
from tinygan.pullback import pullback
from tinygan.tensor import as_array, shape_of

Statistics = tuple[Any, Any]


@Composite
def normalized(x: Any, weight: Any, bias: Any, eps: float, activation: str, slope: float) -> tuple[Any, Any, Any]:
    """activation(normalised x * weight + bias) per channel, and the mean and the biased variance (C,) of x, as arrays."""
    if CONTEXT.get().part is None:
        deviation = centred("batch_norm", x, axes_of(x))
        average = mean(as_array(x), axes_of(x))
    else:  # (the whole batch is that of all processes)
        found = mean_over_ranks(mean(x, axes_of(x), keepdims=True))
        deviation, average = sub(x, found), as_array(found).reshape(-1)
    variance = mean_over_ranks(mean(mul(deviation, deviation), axes_of(x), keepdims=True))
    normal = div(deviation, sqrt(add(variance, eps)))
    y = add(mul(normal, per_channel(weight, x)), per_channel(bias, x))
    return activate(y, activation, slope), as_array(average), as_array(variance).reshape(-1)


@weighted
def batch_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5, statistics: Statistics | None = None,
               activation: str = "identity", slope: float = 0.2) -> Any:
    """activation(normalised x * weight + bias), where each channel is normalised over the batch: x (N, C, ...), weight and
    bias (C,) (Ioffe, Szegedy 2015, algorithm 1).

    statistics: two arrays (C,) of x's dtype, into which the mean and the (biased) variance of the batch are written.
    activation, slope: as for `dense`. Raises ValueError for a batch of one value per channel, which has no useful variance.

    The statistics have x's precision, as in PyTorch. So if the rounding error of the mean is not small beside x's deviation,
    the result has an offset, at most the ratio of the two. If the variance is infinite in x's precision, the result is
    `bias`.
    """
    if statistics is not None:
        _check_statistics(statistics, x)
    y, *found = batch_norm_with_statistics(x, weight, bias, eps, activation, slope)
    for array, value in zip(statistics or (), found, strict=False):
        array[...] = value
    return y


def batch_norm_with_statistics(x: Any, weight: Any, bias: Any, eps: float = 1e-5, activation: str = "identity",
                               slope: float = 0.2) -> tuple[Any, Any, Any]:
    """The result of `batch_norm`, and the mean and the (biased) variance (C,) of x's channels, as arrays."""
    eps = check_batch("batch_norm", eps, x, weight, bias)
    checked_activation("batch_norm", activation, slope)
    return normalized(x, weight, bias, eps, activation, float(slope))


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
        deviation = sub(x, per_channel(mean, x))  # subtracted first: x * scale - mean * scale would lose a small difference
        return add(mul(deviation, per_channel(div(weight, sqrt(add(variance, eps))), x)), per_channel(bias, x))

    return pullback(definition, inputs, g, needs)


@weighted
def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """normalised x * weight + bias, where x is normalised over its last axes: as many as weight has (Ba, Kiros, Hinton
    2016). weight and bias have the shape of these axes."""
    eps = _check_eps("layer_norm", eps)
    for value in (x, weight, bias):
        shape_of("layer_norm", value)
    n = len(weight.shape)
    if not n or x.shape[len(x.shape) - n:] != weight.shape or bias.shape != weight.shape:
        raise ValueError(f"layer_norm: weight and bias should have the shape of the input's last axes (input {x.shape}, "
                         f"weight {weight.shape}, bias {bias.shape})")
    if not math.prod(weight.shape):
        raise ValueError(f"layer_norm: cannot normalise over axes of size 0 (input {x.shape})")
    axes = tuple(range(len(x.shape) - n, len(x.shape)))
    return add(mul(_standardized("layer_norm", x, axes, eps), weight), bias)


def group_norm(x: X, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> X:
    """normalised x * weight + bias, where the channels of x (N, C, ...) form groups of C / groups neighbours, and each group
    of each example is normalised over its channels and pixels (Wu, He 2018, section 3.1).

    weight, bias: (C,), or None for 1 and 0. Raises ValueError if groups does not divide C, and for groups of one value."""
    shape: tuple[int, ...] = _check_channels("group_norm", x, weight, bias)
    eps = _check_eps("group_norm", eps)
    if not is_whole(groups) or groups < 1 or shape[1] % groups or not shape[1]:
        raise ValueError(f"group_norm: groups should divide the {shape[1]} channels, got {groups} (input {shape})")
    _check_several("group_norm", shape[1] // groups * math.prod(shape[2:]), "group", shape)
    split = reshape(x, (shape[0], groups, shape[1] // groups, *shape[2:]))  # (only one axis is split: nothing is copied)
    normal = _standardized("group_norm", split, tuple(range(2, len(shape) + 1)), eps)
    return _scaled_and_shifted(reshape(normal, shape), weight, bias)


def instance_norm(x: X, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> X:
    """normalised x * weight + bias, where each channel of each example of x (N, C, ...) is normalised over its pixels
    (Ulyanov et al. 2016, equation 4).

    weight, bias: (C,), or None for 1 and 0. Raises ValueError for channels of one pixel, whose results would be 0."""
    shape = _check_channels("instance_norm", x, weight, bias)
    eps = _check_eps("instance_norm", eps)
    _check_several("instance_norm", math.prod(shape[2:]), "channel of an example", shape)
    return _scaled_and_shifted(_standardized("instance_norm", x, tuple(range(2, len(shape))), eps), weight, bias)


def pixel_norm(x: X, eps: float = 1e-8) -> X:
    """x / sqrt(the mean of x^2 over the channels + eps): x (N, C, ...) (Karras et al. 2018, "Progressive growing of GANs",
    section 4.2). For latent vectors (N, C) that is one number an example."""
    shape = _check_channels("pixel_norm", x)
    eps = _check_eps("pixel_norm", eps)
    if not shape[1]:
        raise ValueError(f"pixel_norm: expected at least one channel, got input {shape}")
    scaled, root, _ = root_mean_square(x, (1,), eps)
    return div(scaled, root)


def _standardized(caller: str, x: Any, axes: tuple[int, ...], eps: float) -> Any:
    """(x - mean) / sqrt(variance + eps), over the axes."""
    deviation, root, _ = root_mean_square(centred(caller, x, axes), axes, eps)
    return div(deviation, root)


def root_mean_square(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """(x / s, r / s, s) for r = sqrt(mean of x^2 over the axes + eps). The axes are kept, with size 1.

    s is the largest |x|, a constant, because the square of 1e20 is infinite in float32. It is at least sqrt(eps): so eps,
    divided by the square of s, is at most 1."""
    scale = maximum(largest_magnitude(x, axis=axes, keepdims=True), math.sqrt(eps))
    scaled = div(x, scale)
    share = div(math.sqrt(eps), scale)
    return scaled, sqrt(add(mean(mul(scaled, scaled), axes, keepdims=True), mul(share, share))), scale


def _scaled_and_shifted(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = mul(x, per_channel(weight, x))
    return x if bias is None else add(x, per_channel(bias, x))


def _check_channels(caller: str, x: Any, weight: Any = None, bias: Any = None) -> tuple[int, ...]:
    """The shape of x (N, C, ...). weight and bias are (C,) or None."""
    shape = shape_of(caller, x)
    if len(shape) < 2:
        raise ValueError(f"{caller}: expected input (N, C, ...), got input {shape}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and shape_of(caller, value) != shape[1:2]:
            raise ValueError(f"{caller}: {name} should be of shape {shape[1:2]} or None, got {value.shape} (input {shape})")
    return shape


def _check_several(caller: str, count: int, what: str, shape: tuple[int, ...]) -> None:
    if count < 2:
        raise ValueError(f"{caller}: expected more than one value per {what}, got input {shape}")


def check_batch(caller: str, eps: float, x: Any, weight: Any, bias: Any) -> float:
    """Check the arguments of a batch normalisation in training. Returns eps as a float."""
    eps = _check(caller, eps, x, weight, bias)
    if x.size // max(x.shape[1], 1) < 2 and CONTEXT.get().part is None:
        raise ValueError(f"{caller}: expected more than one value per channel in training, got input {x.shape}")
    return eps


def _check(caller: str, eps: float, x: Any, *per_channel: Any) -> float:
    shape, others = shape_of(caller, x), [shape_of(caller, value) for value in per_channel]
    if len(shape) < 2 or any(other != (shape[1],) for other in others):
        names = "weight, bias" if len(others) == 2 else "weight, bias, mean, variance"
        raise ValueError(f"{caller}: expected input (N, C, ...) with {names} (C,), got input {shape} with {names} "
                         f"{', '.join(map(str, others))}")
    return _check_eps(caller, eps)


def _check_eps(caller: str, eps: float) -> float:
    if not eps > 0:
        raise ValueError(f"{caller}: eps should be positive, got {eps}")
    return float(eps)


def _check_statistics(statistics: Statistics, x: Any) -> None:
    """Raise ValueError unless `statistics` are two arrays (C,) of x's dtype, for x's C channels."""
    shape = shape_of("batch_norm", x)
    if [(a.shape, a.dtype) for a in statistics] != [(shape[1:2], x.dtype)] * 2:
        raise ValueError(f"batch_norm: statistics should be two arrays of shape {shape[1:2]} and dtype {x.dtype}, got "
                         f"{', '.join(f'{a.shape} {a.dtype}' for a in statistics)} (input {shape})")


def axes_of(x: Any) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (0, *range(2, len(x.shape)))


def per_channel(value: Any, x: Any) -> Any:
    """value (C,) in a shape that broadcasts against x (N, C, ...)."""
    return reshape(value, (1, -1, *[1] * (len(x.shape) - 2)))
