"""Images from a folder of PNG and JPEG files."""

from __future__ import annotations

__all__ = ["find", "read"]

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import DataError, Dataset, content_checksum

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def find(folder: Path) -> list[Path]:
    """Every PNG and JPEG file in `folder` and below, without the hidden ones, in an order that is the same everywhere."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    visible = (path for path in found if not any(part.startswith(".") for part in path.parts))
    return [folder / path for path in sorted(visible, key=lambda path: path.parts) if (folder / path).is_file()]


def read(folder: Path, paths: list[Path], size: int | None = None, channels: int | None = None) -> Dataset:
    """The image files `paths` in `folder` as one data set.

    `size`: crop the middle square and resize it to `(size, size)`; None: all must have one size already. `channels`: 1
    for grey, 3 for RGB; None: as the first image is, and then all must be. Transparent pixels become black. Labels: if
    every file lies in a sub-folder, the sub-folders of `folder` in alphabetical order are the classes 0, 1, ...
    Raises `DataError` naming the first file that cannot be read or does not fit.
    """
    from tqdm import tqdm

    images = None
    for index, path in enumerate(tqdm(paths, desc=f"reading {folder.name}", unit="image", leave=False, disable=None)):
        pixels = _read_file(path, size, channels)
        if images is None:
            images = np.empty((len(paths), *pixels.shape), np.uint8)
        elif pixels.shape != images.shape[1:]:
            raise DataError(f"{path}: {_describe(pixels.shape)}, but {paths[0]} is {_describe(images.shape[1:])}; "
                            "load(..., size=, channels=) makes them alike")
        images[index] = pixels
    if images is None:
        raise DataError(f"{folder}: no PNG or JPEG file")
    below = [path.relative_to(folder).parts for path in paths]
    labels = None
    if all(len(parts) > 1 for parts in below):
        labels = np.unique([parts[0] for parts in below], return_inverse=True)[1].astype(np.int64)
    return Dataset(f"images:{folder.resolve().name}", images, labels, content_checksum(images, labels))


def _read_file(path: Path, size: int | None, channels: int | None) -> npt.NDArray[np.uint8]:
    """One image as `(C, H, W)`."""
    import PIL.Image
    import PIL.ImageOps

    try:
        with PIL.Image.open(path) as opened:
            if opened.mode not in GREY + COLOUR:
                raise DataError(f"{path}: pixels of kind {opened.mode!r}; expected 8-bit grey or colour")
            grey = channels == 1 or (channels is None and opened.mode in GREY)
            image = _opaque(PIL.ImageOps.exif_transpose(opened)).convert("L" if grey else "RGB")
        if size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side)).resize((size, size), PIL.Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything: OSError, SyntaxError, struct.error
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _opaque(image: PIL.Image.Image) -> PIL.Image.Image:
    """`image` over black, where it is transparent."""
    import PIL.Image

    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (0, 0, 0, 255)), image)


def _describe(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
