"""Grids of images as PNG files, and a GIF that shows several of them in turn."""
from __future__ import annotations

__all__ = ["animate", "draw_grid", "save_grid", "to_pixels"]

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinygan.saving import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

_BACKGROUND = 255
_LETTERS, _LINE, _MARGIN = 12, 14, 4  # the size of the caption's letters, the height of its lines, the space around it


def draw_grid(images: npt.ArrayLike, *, columns: int | None = None, caption: str = "") -> Image:
    """A grid of images with a caption below. columns: images in a row; by default the grid is as square as possible.

    images: (N, C, H, W) in [-1, 1]; values outside are clipped. The first three channels are drawn as colours. With fewer
    than three, the first channel is drawn in grey. Small images are enlarged by a whole factor, without smoothing.
    """
    from PIL import Image, ImageDraw, ImageFont

    pixels = _drawable(images, "draw_grid")
    grid = _tile(_to_bytes(pixels), columns or math.ceil(math.sqrt(len(pixels))))
    scale = max(1, 64 // max(pixels.shape[2:]))
    grid = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    picture = Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    if not caption:
        return picture
    font = ImageFont.load_default(_LETTERS)
    lines = _wrapped(caption, picture.width - 2 * _MARGIN, lambda text: ImageDraw.Draw(picture).textlength(text, font))
    framed = Image.new(picture.mode, (picture.width, picture.height + _LINE * len(lines) + _MARGIN), "white")
    framed.paste(picture, (0, 0))
    for i, line in enumerate(lines):
        ImageDraw.Draw(framed).text((_MARGIN, picture.height + 2 + i * _LINE), line, fill="black", font=font)
    return framed


def _wrapped(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    """The lines of a text, cut between words so that each is at most `width` long if its words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def to_pixels(images: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) in [-1, 1] -> (N, H, W, 3) in 0...255, in the colours of `draw_grid`."""
    pixels = _to_bytes(_drawable(images, "to_pixels")).transpose(0, 2, 3, 1)
    return pixels.repeat(3 // pixels.shape[3], axis=3)


def _drawable(images: npt.ArrayLike, caller: str) -> npt.NDArray[np.float32]:
    """The one or three channels that are drawn."""
    pixels = np.asarray(images, dtype=np.float32)
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(f"{caller}: images must be (N, C, H, W) with no empty axis, got {pixels.shape}")
    return pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1]


def _to_bytes(images: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """[-1, 1] -> 0...255, the inverse of `Dataset.batch`. NaN becomes mid-grey."""
    scaled = np.nan_to_num(images, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1) * 127.5 + 127.5
    return np.rint(scaled).astype(np.uint8)


def _tile(images: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.uint8]:
    """(N, C, H, W) -> one picture (rows * (H + 1) + 1, columns * (W + 1) + 1, C), with lines between the images."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height + 1, width + 1, channels), _BACKGROUND, np.uint8)
    cells[:n, 1:, 1:] = images.transpose(0, 2, 3, 1)
    cells = cells.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    body = cells.reshape(rows * (height + 1), columns * (width + 1), channels)
    return np.pad(body, ((0, 1), (0, 1), (0, 0)), constant_values=_BACKGROUND)


def save_grid(path: str | os.PathLike[str], images: npt.ArrayLike, *, title: str, columns: int | None = None) -> None:
    """Write `draw_grid(images)` as a PNG. `title`, which should name the data set, is its caption and in its metadata."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Title", title)
    notes.add_text("Software", "tinygan")
    buffer = io.BytesIO()
    draw_grid(images, columns=columns, caption=title).save(buffer, format="PNG", pnginfo=notes)
    write_atomically(path, buffer.getbuffer())


def animate(path: str | os.PathLike[str], pictures: Sequence[str | os.PathLike[str]], *, frames: int = 60) -> None:
    """Write a GIF that shows at most `frames` of the `pictures` in turn, in about 12 seconds. The last one is shown longest.

    A GIF has one size, that of the largest picture. The others get a white margin at their right and below.
    """
    from PIL import Image

    if not pictures:
        raise ValueError("animate: no pictures")
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(frames, len(pictures))).round().astype(int))
    loaded = []
    for i in chosen:
        with Image.open(Path(pictures[i])) as picture:
            loaded.append(picture.convert("L" if picture.mode == "L" else "RGB"))
    width, height = (max(picture.size[axis] for picture in loaded) for axis in (0, 1))
    mode = "L" if all(picture.mode == "L" for picture in loaded) else "RGB"
    loaded = [_on_white(picture, mode, width, height) for picture in loaded]
    duration = int(np.clip(12000 / len(loaded), 80, 600))
    buffer = io.BytesIO()
    loaded[0].save(buffer, format="GIF", save_all=True, append_images=loaded[1:], loop=0,
                   duration=[duration] * (len(loaded) - 1) + [2000])
    write_atomically(path, buffer.getbuffer())


def _on_white(picture: Image, mode: str, width: int, height: int) -> Image:
    from PIL import Image

    canvas = Image.new(mode, (width, height), "white")
    canvas.paste(picture.convert(mode), (0, 0))
    return canvas
