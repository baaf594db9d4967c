"""Upsampling: images at another size. Along each axis, a new pixel is a weighted mean of the one or two nearest pixels.

Each axis is resampled in turn. `_resample` and `_resample_grad` are each other's adjoint. Twice and half the size, which
networks mostly need, are sums of a few strided slices (`_moved`), whose adjoints are such sums too.
"""
from __future__ import annotations

__all__ = ["Taps", "upsample"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.windows import image_shape, pair

MODES = ("nearest", "bilinear")


class Taps(NamedTuple):
    """How the new pixels along an axis are computed: (1 - share) * pixel[low] + share * pixel[high], or just pixel[low] if
    `high` is empty. size: how many pixels the axis had before."""

    size: int
    low: tuple[int, ...]
    high: tuple[int, ...] = ()
    share: tuple[float, ...] = ()


@op()
def _resample(B: Any, x: Any, axis: int, taps: Taps) -> Any:
    """x (N, C, H, W), resampled along axis 2 or 3 (channels-last in memory)."""
    pixels = x.transpose(0, 2, 3, 1)
    y = pixels.take(B.feed(np.array(taps.low)), axis - 1)
    if taps.high:
        share = _along(B, taps.share, axis, x.dtype)
        y *= 1 - share
        y += pixels.take(B.feed(np.array(taps.high)), axis - 1) * share
    return y.transpose(0, 3, 1, 2)


@op()
def _resample_grad(B: Any, g: Any, axis: int, taps: Taps) -> Any:
    pixels = g.transpose(0, 2, 3, 1)
    shape = list(pixels.shape)
    shape[axis - 1] = taps.size
    out = B.xp.zeros(shape, g.dtype)
    target, source = out.swapaxes(0, axis - 1), pixels.swapaxes(0, axis - 1)  # the resampled axis first
    for i, place in enumerate(taps.low):
        target[place] += source[i] * g.dtype.type(1 - taps.share[i]) if taps.high else source[i]
    for i, place in enumerate(taps.high):
        target[place] += source[i] * g.dtype.type(taps.share[i])
    return out.transpose(0, 3, 1, 2)


@_resample.vjp
def _(needs: Any, g: Any, axis: int, taps: Taps) -> Any:
    return (_resample_grad(g, axis=axis, taps=taps),)


@_resample_grad.vjp
def _(needs: Any, g: Any, axis: int, taps: Taps) -> Any:
    return (_resample(g, axis=axis, taps=taps),)


Moves = tuple[tuple[slice, slice, float], ...]
"""A linear map along an axis: to each first slice of the result, the second slice of the input times the number is added."""


@op()
def _moved(B: Any, x: Any, axis: int, moves: Moves, size: int, original: int) -> Any:
    """x (N, C, H, W), mapped along axis 2 or 3 (channels-last in memory), whose size becomes `size`. It was `original`."""
    pixels = x.transpose(0, 2, 3, 1)
    shape = list(pixels.shape)
    shape[axis - 1] = size
    out = B.xp.zeros(shape, x.dtype)
    before = (slice(None),) * (axis - 1)
    for target, source, factor in moves:
        part = pixels[(*before, source)]
        out[(*before, target)] += part if factor == 1 else part * x.dtype.type(factor)
    return out.transpose(0, 3, 1, 2)


@_moved.vjp
def _(needs: Any, g: Any, axis: int, moves: Moves, size: int, original: int) -> Any:
    back = tuple([(source, target, factor) for target, source, factor in moves])
    return (_moved(g, axis=axis, moves=back, size=original, original=size),)


def _moves(size: int, count: int, mode: str) -> Moves | None:
    """The moves that double an axis of that size or halve it, where places are measured at the pixels' centres. None if
    `count` is neither twice nor half the size."""
    if count == 2 * size:
        copies = [(slice(side, None, 2), slice(None), 1.0) for side in (0, 1)]
        if mode == "nearest":
            return tuple(copies)
        # Beyond the edge, the pixel at the edge counts.
        neighbours = [(slice(2, None, 2), slice(None, -1)), (slice(0, 1), slice(0, 1)),
                      (slice(1, -1, 2), slice(1, None)), (slice(-1, None), slice(-1, None))]
        return (*[(target, source, 0.75) for target, source, _ in copies],
                *[(target, source, 0.25) for target, source in neighbours])
    if 2 * count == size and mode == "bilinear":
        return tuple([(slice(None), slice(side, None, 2), 0.5) for side in (0, 1)])
    return None


def _along(B: Any, values: Sequence[float], axis: int, dtype: Any) -> Any:
    """values in a shape that broadcasts along that axis of channels-last images."""
    return B.feed(np.array(values, dtype)).reshape((-1, 1, 1) if axis == 2 else (-1, 1))


def upsample(x: X, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
             mode: str = "nearest", align_corners: bool = False) -> X:
    """Images x (N, C, H, W) at another size -> (N, C, OH, OW), as in PyTorch's `interpolate`.

    Give either size, (OH, OW), or scale_factor, with OH = floor(H scale_factor): one number or (vertical, horizontal).
    mode: for row i, "nearest" copies row floor(i H / OH). "bilinear" takes the weighted mean of the two rows around
    (i + 1/2) H / OH - 1/2, or with align_corners around i (H - 1) / (OH - 1), so that the corners keep their values. Columns
    are treated in the same way. So half the size, "bilinear", is the mean of four pixels, and a smaller size skips pixels.
    """
    name = "upsample"
    shape = image_shape(name, x)
    if mode not in MODES:
        raise ValueError(f"{name}: unknown mode {mode!r}, expected one of {', '.join(MODES)}")
    if align_corners and mode == "nearest":
        raise ValueError(f'{name}: align_corners is for mode "bilinear"')
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: expected either size or scale_factor, got size {size} and scale_factor {scale_factor}")
    steps: tuple[float | None, float | None] = (None, None)
    if size is not None:
        output = pair(name, "size", size, 1, f" (input {shape})")
    else:
        output, steps = _scaled(name, scale_factor, shape)
    for axis, count, step in zip((2, 3), output, steps, strict=True):
        if count == shape[axis]:
            continue
        even = mode == "nearest" or (not align_corners and step in (None, shape[axis] / count))
        moves = _moves(shape[axis], count, mode) if even else None
        if moves:
            x = _moved(x, axis=axis, moves=moves, size=count, original=shape[axis])
        else:
            taps = _nearest if mode == "nearest" else _bilinear
            x = _resample(x, axis=axis, taps=taps(shape[axis], count, step, align_corners))
    return x


def _scaled(name: str, scale_factor: Any, shape: Sequence[int]) -> tuple[tuple[int, int], tuple[float, float]]:
    """The output's size, and how far apart in the input the centres of two neighbouring output pixels lie."""
    factors = tuple(scale_factor) if isinstance(scale_factor, Sequence) else (scale_factor,) * 2
    if len(factors) != 2 or not all(isinstance(f, int | float | np.number) and 0 < f < math.inf for f in factors):
        raise ValueError(f"{name}: scale_factor should be one or two positive numbers, got {scale_factor!r} (input {shape})")
    output = int(shape[2] * factors[0]), int(shape[3] * factors[1])
    if min(output) < 1:
        raise ValueError(f"{name}: scale_factor {scale_factor} leaves nothing of the input {shape}")
    return output, (1 / float(factors[0]), 1 / float(factors[1]))


def _nearest(size: int, count: int, step: float | None, align_corners: bool) -> Taps:
    if step is None or count == 2 * size:
        step = size / count
    # In float32, as in PyTorch: if i * size / count should be a whole number, rounding decides which pixel is taken.
    places = np.arange(count, dtype=np.float32) * np.float32(step)
    return Taps(size, tuple(np.minimum(places.astype(int), size - 1).tolist()))


def _bilinear(size: int, count: int, step: float | None, align_corners: bool) -> Taps:
    if align_corners:
        places = np.arange(count) * ((size - 1) / max(count - 1, 1))
    else:
        places = np.maximum((np.arange(count) + 0.5) * (size / count if step is None else step) - 0.5, 0.0)
    low = np.minimum(places.astype(int), size - 1)
    high, share = np.minimum(low + 1, size - 1), np.clip(places - low, 0.0, 1.0)
    return Taps(size, tuple(low.tolist()), tuple(high.tolist()), tuple(share.tolist()))
