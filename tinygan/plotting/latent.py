"""Figures of the latent space: numbered samples to choose from, and arithmetic with latent vectors."""
from __future__ import annotations

__all__ = ["save_arithmetic", "save_candidates"]

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import write_figure
from .grids import to_pixels

_CELL = 0.62
_WORDS = 0.3
_MARGIN = 0.2


def save_candidates(path: str | os.PathLike[str], images: npt.ArrayLike, *, title: str, columns: int = 8) -> None:
    """Draw a grid of images (N, C, H, W) in [-1, 1], each with its number below it."""
    pixels = to_pixels(images)
    rows = -(-len(pixels) // columns)
    figure, axes = _canvas(columns, rows * (1 + _WORDS), title)
    for i, image in enumerate(pixels):
        x, y = i % columns, (i // columns) * (1 + _WORDS)
        _draw(axes, image, x, y)
        axes.text(x + 0.5, y + 1.0, str(i), ha="center", va="top", size=7, color="#333333")
    write_figure(path, figure, title)


def save_arithmetic(path: str | os.PathLike[str], groups: list[npt.NDArray[Any]], means: npt.NDArray[Any],
                    around: npt.NDArray[Any], in_pixels: npt.NDArray[Any], *, names: list[str], title: str) -> None:
    """Draw A - B + C like figure 7 of the DCGAN paper. There are three columns with the images of each group and, below
    them, the image of the group's mean vector. Then come 3 x 3 images: that of A - B + C in the middle, and those of its
    neighbourhood around it. Last comes A - B + C computed from the pixels.

    groups: three arrays (n, C, H, W) in [-1, 1]; means: (3, C, H, W); around: (9, C, H, W); in_pixels: (C, H, W).
    names: the texts above the columns.
    """
    rows = max(2, *map(len, groups))
    gap, above = 0.75, _WORDS
    figure, axes = _canvas(3 * (1 + gap) + 3 + gap + 1, above + rows + 1.25 + 2 * _WORDS, title)
    signs = ("\N{MINUS SIGN}", "+", "=")
    for column, (group, mean, name, sign) in enumerate(zip(groups, to_pixels(means), names, signs, strict=True)):
        x = column * (1 + gap)
        axes.text(x + 0.5, above - 0.05, name, ha="center", va="bottom", size=8)
        for row, image in enumerate(to_pixels(group)):
            _draw(axes, image, x, above + row)
        _draw(axes, mean, x, above + rows + 0.25)
        axes.text(x + 0.5, above + rows + 1.3, "mean", ha="center", va="top", size=8)
        axes.text(x + 1 + gap / 2, above + rows + 0.75, sign, ha="center", va="center", size=14)
    x = 3 * (1 + gap)
    top = above + rows + 1.25 - 3
    axes.text(x + 1.5, top - 0.05, "sum of the vectors, and around it", ha="center", va="bottom", size=8)
    for i, image in enumerate(to_pixels(around)):
        _draw(axes, image, x + i % 3, top + i // 3, marked=i == 4)
    x += 3 + gap
    _draw(axes, to_pixels(in_pixels[None])[0], x, above + rows + 0.25)
    axes.text(x + 0.5, above + rows + 1.3, "sum of\nthe pixels", ha="center", va="top", size=8)
    write_figure(path, figure, title)


def _canvas(columns: float, rows: float, title: str) -> tuple[Any, Any]:
    """A figure with a title. Its axes count images, from the upper left corner."""
    from matplotlib.figure import Figure

    top = -2 * _WORDS - _MARGIN
    figure = Figure(figsize=((columns + 2 * _MARGIN) * _CELL, (rows + _MARGIN - top) * _CELL))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, columns + _MARGIN), ylim=(rows + _MARGIN, top))
    axes.axis("off")
    axes.text(columns / 2, top + _MARGIN, title, ha="center", va="top", size=9)
    return figure, axes


def _draw(axes: Any, image: npt.NDArray[np.uint8], x: float, y: float, marked: bool = False) -> None:
    """Draw an image (H, W, 3) in the cell whose upper left corner is (x, y)."""
    from matplotlib.patches import Rectangle

    pad = 0.03
    extent = (x + pad, x + 1 - pad, y + 1 - pad, y + pad)
    axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto", zorder=1)
    if marked:
        axes.add_patch(Rectangle((x + pad, y + pad), 1 - 2 * pad, 1 - 2 * pad, fill=False, edgecolor="#c0392b",
                                 linewidth=1.6, zorder=2))
