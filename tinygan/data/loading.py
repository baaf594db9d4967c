"""`load`: which data set a run gets."""

from __future__ import annotations

__all__ = ["load"]

import os
from pathlib import Path
from typing import get_args

from tinygan.cache import cache_folder, say
from tinygan.data import arrays, glyphs, images, mnist
from tinygan.data.dataset import DataError, Dataset, Split
from tinygan.data.download import UnavailableError


def load(data_dir: str | os.PathLike[str] | None = None, *, split: Split = "train", size: int | None = None,
         channels: int | None = None) -> Dataset:
    """The data set that was asked for, or MNIST, or what there is without it.

    `data_dir`, else the environment variable `TINYGAN_DATA`: a folder with MNIST's files (gzipped or not), a folder of
    PNG and JPEG files (`tinygan.data.images.read`), or one `.npy` or `.npz` file (`tinygan.data.arrays.read`). What was
    given is used or refused with a `DataError` that names the file and what is wrong; nothing else is tried.
    Otherwise MNIST from the user's cache, downloaded there if need be; otherwise `glyphs`, saying so on stderr.

    `split`: "train" or "test"; own images are "train". `size` (pixels a side) and `channels` (1 or 3) convert the images
    of a folder; any other data set must have them already.
    """
    if split not in get_args(Split):
        raise ValueError(f"load: split must be 'train' or 'test', got {split!r}")
    if size is not None and size < 1:
        raise ValueError(f"load: size must be at least 1, got {size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"load: channels must be 1, 3 or None, got {channels}")
    given = os.environ.get("TINYGAN_DATA") or None if data_dir is None else data_dir
    dataset = _mnist_or_glyphs(split) if given is None else _read(Path(given).expanduser(), split, size, channels)
    found = dataset.image_shape
    wanted = (channels or found[0], size or found[1], size or found[2])
    if found != wanted:
        raise DataError(f"load: {dataset.name} has images of shape {found}, not {wanted}; size and channels convert "
                        "only folders of PNG or JPEG files")
    return dataset


def _mnist_or_glyphs(split: Split) -> Dataset:
    try:
        return mnist.fetch(split)
    except UnavailableError as error:
        say(f"no MNIST: it is neither in {cache_folder() / 'mnist'} nor could it be downloaded ({error}). Going on with "
            "'glyphs', digits drawn from fonts. To use MNIST, put its four files into a folder and name it "
            "(--data-dir or TINYGAN_DATA).")
        return glyphs.load(split)


def _read(path: Path, split: Split, size: int | None, channels: int | None) -> Dataset:
    if path.is_dir() and mnist.is_mnist(path):
        return mnist.read(path, split)
    if split != "train":
        raise DataError(f"{path}: only MNIST and glyphs have a {split!r} split")
    if path.is_file():
        if path.suffix.lower() not in (".npy", ".npz"):
            raise DataError(f"{path}: not a .npy or .npz file; image and MNIST files are given as the folder they lie in")
        return arrays.read(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = images.find(path)
    if not found:
        raise DataError(f"{path}: holds neither MNIST ({', '.join(mnist.SHA256)}; gzipped or not) nor PNG or JPEG files")
    return images.read(path, found, size, channels)
