"""Images from one `.npy` or `.npz` file."""

from __future__ import annotations

__all__ = ["read"]

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.cache import say
from tinygan.data import mnist
from tinygan.data.dataset import DataError, Dataset, Split, blocks, content_checksum, reshaping

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]


def read(path: Path, split: Split) -> Dataset:
    """The images in a `.npy` or `.npz` file. A `.npz` file holds the images as `images`, or as its only array, and may hold
    `labels`. It may also have two splits, as Keras' `mnist.npz`: `x_train` and `y_train`, `x_test` and `y_test`.

    Images: `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)` with 1 or 3 channels (channels first if both fit). They are uint8,
    or floating point in [-1, 1]. Floats without a negative value count as [0, 1] and are rescaled to [-1, 1]. Labels:
    integers `(N,)`. Objects (pickles) are refused. A `.npy` file of uint8 or float32 in [-1, 1] is mapped, not copied. If
    the content is that of MNIST, the data set is called "mnist".
    """
    images, labels = _load(path, split)
    dataset = dataset_of(f"array:{path.name}", images, labels, str(path), split)
    if path.stem.lower() == "mnist" and dataset.name != "mnist":
        say(f"{path}: its content is not MNIST's, so the data set is called {dataset.name!r}")
    return dataset


def dataset_of(name: str, images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, source: str, split: Split) -> Dataset:
    """The data set of `images` and `labels`, which have the forms that `read` accepts. It is called `name`, or "mnist" if
    its content is that of MNIST.

    `source`: the name for error messages.
    """
    images = _channels_first(images, source)
    if images.size == 0:
        raise DataError(f"{source}: images have shape {images.shape}, which holds no image")
    images = _in_range(images, source)
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise DataError(f"{source}: labels are {labels.dtype} {labels.shape}, expected integers ({len(images)},)")
        labels = labels.astype(np.int64)
        if not mnist.differing(images, labels, split):
            return Dataset("mnist", images, labels, mnist.checksum(split))
    return Dataset(name, images, labels, content_checksum(images, labels))


def _load(path: Path, split: Split) -> Arrays:
    try:
        with path.open("rb") as file:
            mapped = file.read(2) != b"PK"
            if not mapped:
                file.seek(0)
                return _of_archive(np.load(file, allow_pickle=False), path, split)
            images = np.lib.format.open_memmap(path, mode="r")  # (raises for objects too)
    except DataError:
        raise
    except Exception as error:  # for a damaged file, NumPy and zipfile may raise almost any error
        raise DataError(f"{path}: cannot be read as an array file: {error}") from error
    _only_train(path, split)
    return images, None


def _of_archive(archive: Any, path: Path, split: Split) -> Arrays:
    names = set(archive.files)
    if {"x_train", "x_test"} & names and "images" not in names:
        if f"x_{split}" not in names:
            raise DataError(f"{path}: holds no array 'x_{split}' (found {', '.join(archive.files)})")
        labels = archive[f"y_{split}"] if f"y_{split}" in names else None
        if labels is not None and labels.shape[1:] == (1,):  # as in Keras' CIFAR
            labels = labels[:, 0]
        return archive[f"x_{split}"], labels
    _only_train(path, split)
    candidates = ["images"] if "images" in names else [name for name in archive.files if name != "labels"]
    if len(candidates) != 1:
        raise DataError(f"{path}: which array holds the images? Name it 'images' (found {archive.files})")
    return archive[candidates[0]], archive["labels"] if "labels" in names else None


def _only_train(path: Path, split: Split) -> None:
    if split != "train":
        raise DataError(f"{path}: holds no {split!r} split; of array files only a .npz with x_train and x_test has one")


def _channels_first(images: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise DataError(f"{source}: images have shape {images.shape}, expected (N, H, W), (N, C, H, W) or (N, H, W, C) "
                    f"with 1 or 3 channels{reshaping(images.shape)}")


def _in_range(images: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    """uint8 images as they are, floats as float32 in [-1, 1]. Everything else is an error."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"{source}: images are {images.dtype}, expected uint8 in [0, 255] or floats in [-1, 1]")
    extremes = [(float(block.min()), float(block.max())) for block in blocks(images)]  # NaN propagates
    low, high = (float(value) for value in (np.min([low for low, _ in extremes]), np.max([high for _, high in extremes])))
    if not (low >= -1 and high <= 1):
        raise DataError(f"{source}: floating-point images must lie in [-1, 1] (or [0, 1]); found {low:g} to {high:g}")
    if low >= 0:
        return images.astype(np.float32) * np.float32(2) - np.float32(1)
    return images.astype(np.float32, copy=False)
