"""The figure of a network: a block for the output of each layer. The shapes come from the network as it runs."""
from __future__ import annotations

__all__ = ["save_architecture"]

import math
import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.nn.conv import Conv2d, ConvTranspose2d
from tinygan.nn.module import Module
from tinygan.nn.stages import Stage, stages

from .figures import write_figure
from .grids import to_pixels

# Inches. The edges of a block grow with the square root of the sizes. These are the lengths for the largest sizes.
_HEIGHT, _THICKNESS, _BAR, _BAR_WIDTH = 1.7, 1.15, 1.5, 0.14
_THINNEST = 0.05
_DEPTH = np.array([0.46, 0.34])  # the direction of a block's depth; its length for an image as wide as the largest is high
_GAP, _MARGIN, _ABOVE, _CAPTION, _LINE = 1.18, 0.35, 0.62, 0.32, 0.148
_TEXT = 8.5
_TIMES = "\N{MULTIPLICATION SIGN}"
_FRONT, _TOP, _SIDE, _EDGE, _ACCENT = "#c6d9ee", "#e3edf7", "#9dbbdb", "#33536f", "#c0392b"


class _Block(NamedTuple):
    """The block of one output: the shape without the batch axis, and the measures in inches. A vector has no depth."""

    shape: tuple[int, ...]
    thickness: float
    height: float
    depth: npt.NDArray[np.float64]

    @property
    def reach(self) -> float:
        """How far the block extends to the right."""
        return self.thickness + float(self.depth[0])


def save_architecture(path: str | os.PathLike[str], network: Module, x: Any, *, title: str, names: tuple[str, str]) -> None:
    """Draw the outputs of `network`, a Sequential, for x (1, ...), like figure 1 of the DCGAN paper (Radford, Metz, Chintala
    2015). The output of every dense or convolution layer is a block. Its height, depth and thickness show the numbers of
    rows, columns and channels. Between the blocks there is a caption for each layer.

    path: a .png, .pdf or .svg file. names: names of the input and the output, such as ("z", "G(z)"). An output of one or
    three channels is shown as an image.
    """
    from matplotlib.figure import Figure

    found = stages(network, x)
    values = [np.asarray(x)[0], *(np.asarray(stage.output)[0] for stage in found)]
    values = [value.ravel() if value.ndim != 3 or value.shape[1:] == (1, 1) else value for value in values]
    blocks = _measure([value.shape for value in values])

    half = max(block.height + block.depth[1] for block in blocks) / 2
    left = np.cumsum([0.0, *(block.reach + _GAP for block in blocks[:-1])])
    lines = max(_caption(stage).count("\n") + 1 for stage in found)
    width, low, high = left[-1] + blocks[-1].reach, -half - _CAPTION - _LINE * lines - 0.1, half + _ABOVE
    figure = Figure(figsize=(width + 2 * _MARGIN, high - low))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, width + _MARGIN), ylim=(low, high))
    axes.axis("off")
    for i, (block, start, value) in enumerate(zip(blocks, left, values, strict=True)):
        is_image = value.ndim == 3 and value.shape[0] in (1, 3) and i in (0, len(found))
        _draw_block(axes, block, start, 4 * i + 2, value if is_image else None)
        if i:
            _draw_stage(axes, found[i - 1], blocks[i - 1], left[i - 1], block, start, 4 * i - 1, -half - _CAPTION)
    for name, block, start in ((names[0], blocks[0], left[0]), (names[1], blocks[-1], left[-1])):
        axes.text(start + block.reach / 2, (block.height + block.depth[1]) / 2 + 0.1, name, ha="center", va="bottom",
                  style="italic", size=_TEXT + 2.5)
    axes.text(width / 2, high - 0.1, title, ha="center", va="top", size=_TEXT + 2)
    write_figure(path, figure, title)


def _measure(shapes: list[tuple[int, ...]]) -> list[_Block]:
    channels = max([s[0] for s in shapes if len(s) == 3] + [32])  # so that an image has a thin block
    pixels = max((max(s[1:]) for s in shapes if len(s) == 3), default=1)
    units = max([s[0] for s in shapes if len(s) == 1] + [1024])
    blocks = []
    for shape in shapes:
        if len(shape) == 3:
            blocks.append(_Block(shape, max(_THINNEST, _THICKNESS * math.sqrt(shape[0] / channels)),
                                 _HEIGHT * math.sqrt(shape[1] / pixels), _DEPTH * _HEIGHT * math.sqrt(shape[2] / pixels)))
        else:
            height = max(_BAR_WIDTH, _BAR * math.sqrt(shape[0] / units))
            blocks.append(_Block(shape, _BAR_WIDTH, height, np.zeros(2)))
    return blocks


def _corners(block: _Block, start: float) -> tuple[npt.NDArray[np.float64], ...]:
    """The corners of the front, anticlockwise from the lower left. The middle of the block is at height 0."""
    bottom = -(block.height + block.depth[1]) / 2
    right, top = start + block.thickness, bottom + block.height
    return np.array([start, bottom]), np.array([right, bottom]), np.array([right, top]), np.array([start, top])


def _draw_block(axes: Any, block: _Block, start: float, level: int, image: npt.NDArray[np.float32] | None) -> None:
    a, b, c, d = _corners(block, start)
    depth = block.depth
    faces = [([a, b, c, d], _FRONT)]
    if depth[0]:
        faces += [([d, c, c + depth, d + depth], _TOP), ([b, b + depth, c + depth, c], _SIDE)]
    for outline, colour in faces:
        _polygon(axes, outline, level, facecolor=colour, edgecolor=_EDGE, linewidth=0.8, joinstyle="round")
    if image is not None:
        _draw_image(axes, image, c, b + depth - b, b - c, level)
        _polygon(axes, [b, b + depth, c + depth, c], level + 1, fill=False, edgecolor=_EDGE, linewidth=0.8)
    if len(block.shape) == 1:
        axes.text(*(a + b) / 2 - (0, 0.07), f"{block.shape[0]:,}", ha="center", va="top", size=_TEXT, zorder=level + 2)
        return
    channels, rows, columns = block.shape
    axes.text(*(a + b) / 2 - (0, 0.07), f"{channels:,}", ha="center", va="top", size=_TEXT, zorder=level + 2)
    axes.text(a[0] - 0.05, a[1], str(rows), ha="right", va="bottom", size=_TEXT, zorder=level + 2)
    axes.text(*(b + depth / 2 + (0.05, -0.03)), str(columns), ha="left", va="top", size=_TEXT, zorder=level + 2)


def _draw_image(axes: Any, image: npt.NDArray[np.float32], corner: Any, across: Any, down: Any, level: int) -> None:
    """Draw an image (C, H, W) in [-1, 1] as the parallelogram with the upper left corner `corner` and the edges `across` and
    `down`."""
    from matplotlib.transforms import Affine2D

    rows, columns = image.shape[1:]
    onto = Affine2D(np.array([[across[0] / columns, down[0] / rows, corner[0]],
                              [across[1] / columns, down[1] / rows, corner[1]], [0, 0, 1]]))
    axes.imshow(to_pixels(image[None])[0], extent=(0, columns, rows, 0), transform=onto + axes.transData,
                interpolation="nearest", aspect="auto", zorder=level + 0.5)


def _draw_stage(axes: Any, stage: Stage, block: _Block, start: float, following: _Block, target: float, level: int,
                text: float) -> None:
    """Draw what is between two blocks: rays from the pixels that a kernel reads to the pixel that it writes, and a caption
    at the height `text`."""
    layer, end = stage.layers[0], start + block.reach
    if isinstance(layer, Conv2d | ConvTranspose2d) and len(block.shape) == 3:
        kernel, transposed = layer.weight.shape[2:], isinstance(layer, ConvTranspose2d)
        reading = _patch(block, start + block.thickness, (1, 1) if transposed else kernel)
        writing = _patch(following, target, kernel if transposed else (1, 1))
        _polygon(axes, reading, level + 1, facecolor=_ACCENT, alpha=0.25)
        _polygon(axes, reading, level + 1, fill=False, edgecolor=_ACCENT, linewidth=0.8)
        for (x, y), (u, v) in zip(reading, writing, strict=True):  # (the rays end behind the next block)
            axes.plot((x, u), (y, v), color=_ACCENT, linewidth=0.6, zorder=level + 1)
    else:
        axes.annotate("", (target - 0.22, 0), (end + 0.1, 0), zorder=level,
                      arrowprops={"arrowstyle": "-|>", "color": _ACCENT, "linewidth": 1.0})
    axes.text((end + target) / 2, text, _caption(stage), ha="center", va="top", size=_TEXT - 1, linespacing=1.35)


def _patch(block: _Block, x: float, size: tuple[int, ...]) -> list[npt.NDArray[np.float64]]:
    """The corners of a patch of size[0] x size[1] pixels, in the middle of the front of a block that starts at x."""
    if len(block.shape) != 3:
        return [np.array([x, 0.0])] * 4
    _, rows, columns = block.shape
    corner = np.array([x, (block.height - block.depth[1]) / 2])
    down, across = np.array([0, -block.height / rows]), block.depth / columns
    high, wide = min(size[0], rows), min(size[1], columns)
    first = corner + down * ((rows - high) // 2) + across * ((columns - wide) // 2)
    return [first, first + across * wide, first + across * wide + down * high, first + down * high]


_NAMES = {"Dense": "dense", "Conv2d": "convolution", "ConvTranspose2d": "transposed\nconvolution", "BatchNorm": "batch norm",
          "LayerNorm": "layer norm", "GroupNorm": "group norm", "InstanceNorm2d": "instance norm", "PixelNorm": "pixel norm",
          "MinibatchStd": "minibatch\nstandard deviation",
          "LeakyReLU": "leaky ReLU", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus",
          "Reshape": "reshape", "Flatten": "flatten", "Dropout": "dropout"}


def _caption(stage: Stage) -> str:
    first, *rest = (_NAMES.get(type(layer).__name__, type(layer).__name__) for layer in stage.layers)
    layer = stage.layers[0]
    if isinstance(layer, Conv2d | ConvTranspose2d):
        stride = layer.stride if isinstance(layer.stride, int) else _TIMES.join(map(str, layer.stride))
        first += f"\n{_TIMES.join(map(str, layer.weight.shape[2:]))}, stride {stride}"
    return "\n".join([first, *rest])


def _polygon(axes: Any, corners: list[Any], level: float, **style: Any) -> None:
    from matplotlib.patches import Polygon

    axes.add_patch(Polygon(np.array(corners), closed=True, zorder=level, **style))
