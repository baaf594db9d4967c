"""`Dataset`: images, labels, and a checksum that identifies their content."""

from __future__ import annotations

__all__ = ["DataError", "Dataset", "blocks", "content_checksum"]

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "test"]


class DataError(ValueError):
    """Data cannot be used: they are missing, damaged or of the wrong kind. The message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images for training, all of one shape.

    `name`: "mnist", "glyphs", "idx:FOLDER", "images:FOLDER" or "array:FILE". `images` `(N, C, H, W)`: uint8, or float32 in
    [-1, 1]. `labels`: int64 `(N,)`, or None. `checksum` ("sha256:...") identifies the whole content, before any `limit`.
    `bad_files`: how many files were left out because they could not be read. `class_names`: the names of the labels 0, 1,
    ..., or None. `source`: the absolute path that `load` was given, or None.
    """

    name: str
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    checksum: str
    bad_files: int = 0
    class_names: tuple[str, ...] | None = None
    source: str | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        labels = f", {self.classes} classes" if self.classes else ""
        return f"Dataset({self.name}: {len(self):,} images of {shape}, {self.images.dtype}{labels})"

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32) or len(self.images) == 0:
            raise ValueError(f"Dataset {self.name}: images must be uint8 or float32 of shape (N, C, H, W) with N > 0, "
                             f"got {self.images.dtype} {self.images.shape}{reshaping(self.images.shape)}")
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise ValueError(f"Dataset {self.name}: {len(self.images)} images, but labels have shape "
                             f"{self.labels.shape}; expected ({len(self.images)},)")

    @property
    def classes(self) -> int:
        """How many classes there are: one more than the largest label, or as many as have names. 0 if there are no
        labels."""
        if self.labels is None:
            return 0
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def batch(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The images at `indices` `(B,)`, as a new float32 array `(B, C, H, W)` in [-1, 1]. A byte x becomes x / 127.5 -
        1."""
        chosen: npt.NDArray[np.float32] = self.images[np.asarray(indices)].astype(np.float32, order="C")
        if self.images.dtype == np.uint8:
            chosen /= np.float32(127.5)
            chosen -= np.float32(1)
        return chosen

    def limit(self, n: int | None) -> Dataset:
        """The first `n` images (all of them if `n` is None or larger), with the same name and checksum."""
        if n is None:
            return self
        if n < 1:
            raise ValueError(f"Dataset.limit: n must be at least 1, got {n}")
        return replace(self, images=self.images[:n], labels=None if self.labels is None else self.labels[:n])


def content_checksum(images: npt.NDArray[Any], labels: npt.NDArray[np.int64] | None) -> str:
    """"sha256:..." of the images' dtype, shape and bytes, then of the labels'."""
    digest = hashlib.sha256()
    for array in (images, labels):
        if array is None:
            continue
        digest.update(f"{array.dtype.newbyteorder('<').str}{array.shape}".encode())
        for part in blocks(array):
            little_endian = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
            digest.update(little_endian.data if little_endian.size else b"")
    return f"sha256:{digest.hexdigest()}"


def blocks(array: npt.NDArray[Any], size: int = 1 << 24) -> list[npt.NDArray[Any]]:
    """Views of about `size` bytes that cover `array` along its first axis. With them, a mapped file is never in memory as a
    whole."""
    rows = max(1, size * len(array) // max(1, array.nbytes))
    return [array[start:start + rows] for start in range(0, len(array), rows)]


def reshaping(shape: tuple[int, ...]) -> str:
    """Advice for images of `shape`, if each of them is one row of pixels: "; ... images.reshape(-1, 1, 28, 28)". Otherwise
    ""."""
    if len(shape) == 2:
        for channels in (1, 3):
            side = math.isqrt(shape[1] // channels)
            if side and channels * side * side == shape[1]:
                return f"; if every row is an image, give images.reshape(-1, {channels}, {side}, {side})"
    return ""
