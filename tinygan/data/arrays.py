"""Images from one `.npy` or `.npz` file."""

from __future__ import annotations

__all__ = ["read"]

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import DataError, Dataset, blocks, content_checksum


def read(path: Path) -> Dataset:
    """The images in a `.npy` file, or the array `images` (or the only one) and, if there, `labels` of a `.npz` file.

    Images: `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)` with 1 or 3 channels (channels first if both fit), either uint8,
    or floating point in [-1, 1]; floats of which none is negative count as [0, 1] and are rescaled to [-1, 1]. Labels:
    integers `(N,)`. Objects (pickles) are refused. A `.npy` file of uint8 or float32 in [-1, 1] is mapped, not copied.
    """
    images, labels = _load(path)
    images = _channels_first(images, path)
    if images.size == 0:
        raise DataError(f"{path}: images have shape {images.shape}, which holds none")
    images = _in_range(images, path)
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise DataError(f"{path}: labels are {labels.dtype} {labels.shape}, expected integers ({len(images)},)")
        labels = labels.astype(np.int64)
    return Dataset(f"array:{path.name}", images, labels, content_checksum(images, labels))


def _load(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return np.lib.format.open_memmap(path, mode="r"), None  # raises on objects, too
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            candidates = [name for name in archive.files if name != "labels"]
            if "images" in candidates:
                candidates = ["images"]
            if len(candidates) != 1:
                raise DataError(f"{path}: which array holds the images? Name it 'images' (found {archive.files})")
            return archive[candidates[0]], archive["labels"] if "labels" in archive.files else None
    except DataError:
        raise
    except Exception as error:  # a damaged file makes NumPy and zipfile raise almost anything
        raise DataError(f"{path}: cannot be read as an array file: {error}") from error


def _channels_first(images: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise DataError(f"{path}: images have shape {images.shape}, expected (N, H, W), (N, C, H, W) or (N, H, W, C) "
                    "with 1 or 3 channels")


def _in_range(images: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """uint8 as it is, floats as float32 in [-1, 1]; everything else is an error."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"{path}: images are {images.dtype}, expected uint8 in [0, 255] or floats in [-1, 1]")
    extremes = [(float(block.min()), float(block.max())) for block in blocks(images)]  # NaN propagates
    low, high = (float(value) for value in (np.min([low for low, _ in extremes]), np.max([high for _, high in extremes])))
    if not (low >= -1 and high <= 1):
        raise DataError(f"{path}: floating-point images must lie in [-1, 1] (or [0, 1]); found {low:g} to {high:g}")
    if low >= 0:
        return images.astype(np.float32) * np.float32(2) - np.float32(1)
    return images.astype(np.float32, copy=False)
