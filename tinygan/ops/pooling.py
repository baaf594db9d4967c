"""Pooling: the largest or the mean element of every window of an image.

For each place in a window there is a view that holds the pixels at this place in all windows. So every step is vectorised
over images, channels and windows. `max_pool2d` first finds the indices of the largest elements and then picks these: the
gradient goes back to these indices. `avg_pool2d` is a pair of linear ops, each the adjoint of the other.
"""
from __future__ import annotations

__all__ = ["Windows", "avg_pool2d", "max_pool2d"]

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.indexing import getitem
from tinygan.ops.shape import reshape, transpose
from tinygan.ops.windows import Pair, image_shape, pair


class Windows(NamedTuple):
    """The sizes of pooling, each (vertical, horizontal)."""

    input: Pair
    kernel: Pair
    output: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def frame(self) -> Pair:
        """The size of the image with its padding. With ceil_mode, windows may reach beyond it; these pixels are included."""
        vertical, horizontal = (max((self.output[i] - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1,
                                    self.input[i] + 2 * self.padding[i]) for i in (0, 1))
        return vertical, horizontal

    @property
    def image(self) -> tuple[slice, slice]:
        """The place of the image in the frame."""
        top, left = self.padding
        return slice(top, top + self.input[0]), slice(left, left + self.input[1])

    def places(self) -> Iterator[tuple[slice, slice]]:
        """For each place in a window, row by row: where the frame has the pixels that lie at this place in all windows."""
        for row in range(0, self.kernel[0] * self.dilation[0], self.dilation[0]):
            for column in range(0, self.kernel[1] * self.dilation[1], self.dilation[1]):
                yield (slice(row, row + (self.output[0] - 1) * self.stride[0] + 1, self.stride[0]),
                       slice(column, column + (self.output[1] - 1) * self.stride[1] + 1, self.stride[1]))


def _framed(B: Any, x: Any, w: Windows, value: float) -> Any:
    """x (N, C, H, W) with a frame of `value` around it, channels-last."""
    framed = B.xp.full((x.shape[0], *w.frame, x.shape[1]), value, x.dtype)
    framed[(slice(None), *w.image)] = x.transpose(0, 2, 3, 1)
    return framed


@op()
def _largest(B: Any, x: Any, windows: Windows) -> Any:
    """The index of each window's largest element, (N, OH, OW, C). It counts the elements of x in the order (N, H, W, C).
    Of equal elements the first is taken. A NaN counts as the largest, as in PyTorch."""
    xp = B.xp
    framed = _framed(B, x, windows, -xp.inf)
    pixel = xp.full(windows.frame, -1)
    pixel[windows.image] = xp.arange(windows.input[0] * windows.input[1]).reshape(windows.input)
    n, c = x.shape[:2]
    best = xp.full((n, *windows.output, c), -xp.inf, x.dtype)
    where = xp.full(best.shape, -1)
    for place in windows.places():
        here, at = framed[(slice(None), *place)], pixel[place][..., None]
        better = (at >= 0) & ((here > best) | (where < 0) | xp.isnan(here))
        best, where = xp.where(better, here, best), xp.where(better, at, where)
    images = xp.arange(n).reshape(n, 1, 1, 1) * (windows.input[0] * windows.input[1])
    return (images + where) * c + xp.arange(c)


def max_pool2d(x: X, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
               padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, ceil_mode: bool = False) -> X:
    """The largest element of every window of x (N, C, H, W) -> (N, C, OH, OW), as in PyTorch, with
    OH = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1.

    stride: kernel_size by default. padding: at most half of a window; elements of the padding are never the largest.
    ceil_mode: the last window may reach beyond the end if it begins inside. Of equally large elements, the first gets the
    gradient. Raises ValueError for sizes that don't fit, and if a dilated window would hold only padding.
    """
    windows = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    for i in (0, 1):
        last = (windows.output[i] - 1) * windows.stride[i] - windows.padding[i]
        for start in range(-windows.padding[i], min(last, -1) + 1, windows.stride[i]):  # windows that begin in the padding
            if not any(0 <= start + j * windows.dilation[i] < windows.input[i] for j in range(windows.kernel[i])):
                raise ValueError(f"max_pool2d: with kernel_size {windows.kernel} and dilation {windows.dilation} a window "
                                 f"would hold nothing but padding (input {x.shape})")
    index = _largest(x, windows=windows)
    chosen = getitem(reshape(transpose(x, (0, 2, 3, 1)), -1), index.reshape(-1))
    return transpose(reshape(chosen, index.shape), (0, 3, 1, 2))


@op()
def _means(B: Any, x: Any, windows: Windows, count_include_pad: bool) -> Any:
    framed = _framed(B, x, windows, 0.0)
    places = list(windows.places())
    # (A sum of many numbers in float32 would lose digits.)
    total = framed[(slice(None), *places[0])].astype(x.dtype if len(places) <= 128 else np.float64)
    for place in places[1:]:
        total = B.xp.add(total, framed[(slice(None), *place)], out=total)
    total *= _shares(B, x.dtype, windows, count_include_pad)
    return total.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


@op()
def _means_grad(B: Any, g: Any, windows: Windows, count_include_pad: bool) -> Any:
    part = g.transpose(0, 2, 3, 1) * _shares(B, g.dtype, windows, count_include_pad)
    framed = B.xp.zeros((g.shape[0], *windows.frame, g.shape[1]), g.dtype)
    for place in windows.places():
        framed[(slice(None), *place)] += part
    return B.xp.ascontiguousarray(framed[(slice(None), *windows.image)]).transpose(0, 3, 1, 2)


@_means.vjp
def _(needs: Any, g: Any, windows: Windows, count_include_pad: bool) -> Any:
    return (_means_grad(g, windows=windows, count_include_pad=count_include_pad),)


@_means_grad.vjp
def _(needs: Any, g: Any, windows: Windows, count_include_pad: bool) -> Any:
    return (_means(g, windows=windows, count_include_pad=count_include_pad),)


def _shares(B: Any, dtype: Any, w: Windows, count_include_pad: bool) -> Any:
    """1 / the number of elements in each window, (OH, OW, 1)."""
    counts = B.xp.zeros(w.frame, dtype)
    if count_include_pad:
        counts[:w.input[0] + 2 * w.padding[0], :w.input[1] + 2 * w.padding[1]] = 1
    else:
        counts[w.image] = 1
    return 1 / sum(counts[place] for place in w.places())[..., None]


def avg_pool2d(x: X, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
               padding: int | Sequence[int] = 0, ceil_mode: bool = False, count_include_pad: bool = True) -> X:
    """The mean of every window of x (N, C, H, W) -> (N, C, OH, OW), as in PyTorch; sizes as for `max_pool2d`.

    count_include_pad: whether the zeros of the padding count as elements. Pixels beyond the padding (ceil_mode) never do.
    """
    windows = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    return _means(x, windows=windows, count_include_pad=bool(count_include_pad))


def _windows(name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    size = image_shape(name, x)[2:]
    shapes = f" (input {x.shape})"
    kernel = pair(name, "kernel_size", kernel_size, 1, shapes)
    steps = kernel if stride is None else pair(name, "stride", stride, 1, shapes)
    padding, dilation = pair(name, "padding", padding, 0, shapes), pair(name, "dilation", dilation, 1, shapes)
    output = []
    for i in (0, 1):
        reach = dilation[i] * (kernel[i] - 1) + 1
        if padding[i] > reach // 2:
            raise ValueError(f"{name}: padding {padding} should be at most half of kernel_size {kernel}{shapes}")
        room = size[i] + 2 * padding[i] - reach
        count = (room + (steps[i] - 1 if ceil_mode else 0)) // steps[i] + 1
        if ceil_mode and (count - 1) * steps[i] >= size[i] + padding[i]:
            count -= 1  # the last window would begin beyond the image
        if count < 1:
            raise ValueError(f"{name}: kernel_size {kernel} is larger than the input with its padding of {padding}{shapes}")
        output.append(count)
    return Windows((size[0], size[1]), kernel, (output[0], output[1]), steps, padding, dilation)
