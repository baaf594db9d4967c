"""`glyphs`: a substitute for MNIST that needs no download. Its digits are drawn from the fonts that come with matplotlib.

An image is made from the signed distance field of a digit's outline: a random affine map moves the field, and a random
threshold sets the width of the strokes. Every byte is the same on every machine. For the outlines are the fonts' integers
(unscaled, unhinted), the random draws are integers, and floating-point computations use only correctly rounded operations
(+ - * / sqrt, one at a time).
"""

from __future__ import annotations

__all__ = ["draw", "load"]

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinygan.cache import cache_folder, keep, say
from tinygan.data.dataset import Dataset, Split, content_checksum
from tinygan.random import Key

SIZES: dict[Split, int] = {"train": 60_000, "test": 10_000}

CHECKSUMS: dict[Split, str] = {
    "train": "sha256:1061354c4c9b9afd8521af4356e49bb6e57be06a4055009c139e1d89266e6d4a",
    "test": "sha256:f9bfb173a531153e68a7f3563f2cd4efeae9519d0de6d65453b75d6f65c39902",
}

FONTS = (  # fonts with upright digits of one height; not DejaVu Sans Mono, whose zero has a dot
    "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-Bold", "DejaVuSans-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmtt10",
)

SIDE = 28     # pixels per side of an image
HEIGHT = 48   # the height of a digit, in cells of the distance field
GRID = 64     # cells per side of the distance field: 8 are left above and below a digit
UNIT = 256    # units per cell: distances and positions are counted in units
PIXEL = 614   # units per pixel, before scaling: a digit is 20 pixels high, as in MNIST


def load(split: Split) -> Dataset:
    """`glyphs` from the user's cache. If it is missing or damaged there, it is drawn and saved."""
    path = cache_folder() / f"glyphs-{split}.npz"
    cached = _read(path, split)
    if cached is not None:
        return cached
    say("drawing the data set 'glyphs' (only this once; it takes some seconds)")
    images, labels = draw(split)
    dataset = Dataset("glyphs", images, labels, content_checksum(images, labels))
    if dataset.checksum == CHECKSUMS[split]:
        keep(path, lambda file: np.savez(file, images=images, labels=labels))
    else:
        say(f"these glyphs are not the usual ones ({dataset.checksum} instead of {CHECKSUMS[split]}): does this "
            "matplotlib come with other fonts?")
    return dataset


def _read(path: Path, split: Split) -> Dataset | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
        checksum = content_checksum(images, labels)
    except Exception:  # missing or damaged: draw it again
        return None
    return Dataset("glyphs", images, labels, checksum) if checksum == CHECKSUMS[split] else None


def draw(split: Split, count: int | None = None) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The first `count` (None: all) images `(count, 1, 28, 28)` and labels `(count,)` of a split."""
    key = Key(0).fold("glyphs").fold(split)
    drawn = {name: key.fold(name).integers((SIZES[split],), low, high)[:count].astype(np.int32) for name, low, high in (
        ("digit", 0, 10),
        ("font", 0, len(FONTS)),
        ("width", 52, 78),        # the font's width over the digit's, in 64ths: 0.81 to 1.2
        ("height", 60, 74),       # the same for the height: 0.94 to 1.14
        ("rotation", -14, 15),    # its tangent in 64ths: up to 12 degrees to either side
        ("shear", -16, 23),       # its tangent in 64ths: more often to the right, as in handwriting
        ("right", -32, 33),       # a shift in 16ths of a pixel: up to 2 pixels
        ("down", -32, 33),
        ("stroke", 750, 1200),    # half the width of the widest stroke, in units: the stroke is 2.4 to 3.9 pixels wide
    )}
    fields = _distance_fields()
    images = np.empty((len(drawn["digit"]), 1, SIDE, SIDE), np.uint8)
    for start in range(0, len(images), 256):  # so few images at a time that they fit into the processor's cache
        part = slice(start, start + 256)
        images[part, 0] = _render(fields, {name: values[part, None, None] for name, values in drawn.items()})
    return images, drawn["digit"].astype(np.int64)


def _render(fields: npt.NDArray[np.int32], drawn: dict[str, npt.NDArray[np.int32]]) -> npt.NDArray[np.uint8]:
    """Images `(n, 28, 28)`: distance fields, moved by random maps. All is computed in integers of at most 31 bits."""
    glyph = drawn["font"] * 10 + drawn["digit"]
    steps = np.arange(SIDE, dtype=np.int32) * 16 - (SIDE - 1) * 8  # 16ths of a pixel from the middle
    x, y = steps - drawn["right"], steps[:, None] - drawn["down"]
    rotation, shear = drawn["rotation"], drawn["shear"]
    # The map from the image's pixels to the field's cells: rotate, then shear, then scale; in 1024ths of a unit.
    u = (drawn["width"] * (4096 - shear * rotation) * PIXEL >> 12) * x + (
        drawn["width"] * (rotation + shear) * PIXEL >> 6) * y
    v = drawn["height"] * PIXEL * y - (drawn["height"] * rotation * PIXEL >> 6) * x
    u, v = (u >> 10) + (GRID - 1) * UNIT // 2, (v >> 10) + (GRID - 1) * UNIT // 2
    column, row = np.clip(u // UNIT, 0, GRID - 2), np.clip(v // UNIT, 0, GRID - 2)
    u, v = np.clip(u - column * UNIT, 0, UNIT), np.clip(v - row * UNIT, 0, UNIT)
    flat = fields.reshape(-1)
    corner = (glyph * GRID + row) * GRID + column
    upper = flat[corner] * (UNIT - u) + flat[corner + 1] * u
    lower = flat[corner + GRID] * (UNIT - u) + flat[corner + GRID + 1] * u
    distance = (upper * (UNIT - v) + lower * v) // (UNIT * UNIT)
    # Make bold digits thinner and light ones thicker, but keep thin lines visible and holes open.
    widest = fields.reshape(len(fields), -1).max(axis=1)[glyph]
    distance += np.clip(drawn["stroke"] - widest, -PIXEL // 2, PIXEL * 4 // 5)
    images: npt.NDArray[np.uint8] = np.clip(distance * 255 // PIXEL + 128, 0, 255).astype(np.uint8)
    return images


@functools.cache
def _distance_fields() -> npt.NDArray[np.int32]:
    """The distance fields of all digits. That of digit d in font f has the index 10 f + d."""
    return np.stack([_distance_field(outline) for font in FONTS for outline in _outlines(font)])


def _outlines(font: str) -> list[npt.NDArray[np.float64]]:
    """The ten digits of a font as closed polygons: line segments `(S, 2, 2)` from point to point, in font units."""
    import matplotlib
    from matplotlib.ft2font import FT2Font, LoadFlags

    face = FT2Font(f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf")
    outlines = []
    for digit in "0123456789":
        face.load_char(ord(digit), flags=LoadFlags.NO_SCALE | LoadFlags.NO_HINTING | LoadFlags.IGNORE_TRANSFORM)
        outlines.append(_flatten(*face.get_path()))
    return outlines


def _flatten(points: npt.NDArray[np.float64], codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """The line segments of a path of lines and quadratic curves (TrueType has no other curves). A curve becomes 8
    segments."""
    from matplotlib.path import Path as Outline

    pieces = []
    rest = zip(points, codes, strict=True)
    for point, code in rest:
        if code == Outline.MOVETO:
            first = last = point
            continue
        ends = [point]
        if code == Outline.CLOSEPOLY:
            ends = [first]
        elif code == Outline.CURVE3:  # two entries: the control point, then the end
            end, _ = next(rest)
            ends = [((8 - k) ** 2 * last + 2 * k * (8 - k) * point + k * k * end) / 64 for k in range(1, 9)]
        for end in ends:
            pieces.append((last, end))
            last = end
    return np.array(pieces)


def _distance_field(outline: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """The distance from every cell's centre to the outline, `(GRID, GRID)` in units. It is positive inside (non-zero winding
    rule). The digit is `HEIGHT` cells high and centred.
    """
    low, high = outline.min(axis=(0, 1)), outline.max(axis=(0, 1))
    cell = (high[1] - low[1]) / HEIGHT
    places = (np.arange(GRID) - (GRID - 1) / 2) * cell
    x = (low[0] + high[0]) / 2 + places
    y = ((low[1] + high[1]) / 2 - places)[:, None]  # fonts count upwards, images downwards
    nearest = np.full((GRID, GRID), np.inf)
    winding = np.zeros((GRID, GRID), np.int32)
    for (x0, y0), (x1, y1) in outline:
        dx, dy = x1 - x0, y1 - y0
        length = dx * dx + dy * dy
        if length == 0:
            continue
        from_x, from_y = x - x0, y - y0
        along = np.clip((from_x * dx + from_y * dy) / length, 0, 1)
        off_x, off_y = from_x - along * dx, from_y - along * dy
        np.minimum(nearest, off_x * off_x + off_y * off_y, out=nearest)
        left = dx * from_y - dy * from_x
        winding += (y0 <= y) & (y < y1) & (left > 0)
        winding -= (y1 <= y) & (y < y0) & (left < 0)
    distance: npt.NDArray[np.int32] = np.floor(np.sqrt(nearest) * UNIT / cell + 0.5).astype(np.int32)
    distance[winding == 0] *= -1
    return distance
