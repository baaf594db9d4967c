"""`load` chooses and reads the data set of a run."""

from __future__ import annotations

__all__ = ["load"]

import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tinygan.cache import cache_folder, say
from tinygan.data import arrays, files, glyphs, idx_folder, images, mnist
from tinygan.data.dataset import DataError, Dataset, Split
from tinygan.data.download import UnavailableError


def load(data_dir: str | os.PathLike[str] | None = None, *, split: Split = "train", size: int | None = None,
         channels: int | None = None, background: str | None = None, skip_bad_files: bool = False,
         fallback: bool = True) -> Dataset:
    """The data set in `data_dir`. Without one, MNIST, or `glyphs` if MNIST is not available.

    `data_dir`, by default the environment variable `TINYGAN_DATA`, is one of these:
    - a folder with IDX files, gzipped or not, of MNIST or a similar data set (`tinygan.data.idx_folder.read`). The folders
      that torchvision makes work too.
    - a folder of PNG, JPEG and other images (`tinygan.data.images.read`).
    - one `.npy` or `.npz` file, such as Keras' `mnist.npz` (`tinygan.data.arrays.read`).
    If it cannot be used, a `DataError` names the file and what is wrong; nothing else is tried. If no `data_dir` is given,
    MNIST comes from the user's cache, and is downloaded if it is not there. If that fails, `glyphs` is used, and a message
    on stderr says so.

    `split`: "train" or "test"; own images are "train". `size` (pixels per side) and `channels` (1 or 3) convert the images
    of a folder; any other data set must have them already. `background`: the colour behind transparent images of a folder, a
    name or "#rrggbb" (default: black). `skip_bad_files`: leave out the files of a folder that cannot be read. `fallback`:
    whether `glyphs` may take the place of MNIST; if not, a `DataError` says why there is no MNIST.
    """
    if split not in get_args(Split):
        raise ValueError(f"load: split must be 'train' or 'test', got {split!r}")
    if size is not None and size < 1:
        raise ValueError(f"load: size must be at least 1, got {size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"load: channels must be 1, 3 or None, got {channels}")
    if background is not None:
        try:
            images.colour(background)
        except ValueError as error:
            raise ValueError(f"load: background must be a colour such as 'white' or '#ff8000': {error}") from None
    given = os.environ.get("TINYGAN_DATA") or None if data_dir is None else data_dir
    if given is None:
        dataset = _mnist_or_glyphs(split, fallback)
    else:
        path = Path(given).expanduser()
        dataset = _known(path, split) or _photographs(path, split, size, channels, background or "black", skip_bad_files)
    found = dataset.image_shape
    wanted = (channels or found[0], size or found[1], size or found[2])
    if found != wanted:
        raise DataError(f"load: {dataset.name} has images of shape {found}, not {wanted}; --image-size and "
                        "--channels (load(..., size=, channels=)) convert only folders of image files")
    return dataset if data_dir is None else replace(dataset, source=str(files.absolute(data_dir)))


def _mnist_or_glyphs(split: Split, fallback: bool) -> Dataset:
    try:
        return mnist.fetch(split)
    except UnavailableError as error:
        missing = f"no MNIST: it is not in {cache_folder() / 'mnist'}, and it could not be downloaded ({error})"
        advice = "To use MNIST, put its four files into a folder and name that folder (--data-dir or TINYGAN_DATA)"
        if not fallback:
            raise DataError(f"{missing}. {advice}") from error
        say(f"{missing}. Going on with 'glyphs', digits drawn from fonts. {advice}.")
        return glyphs.load(split)


def _known(path: Path, split: Split) -> Dataset | None:
    """The data set in the IDX files or the array file at `path`. None if `path` is a folder without such files."""
    if path.is_file():
        if path.suffix.lower() in (".npy", ".npz"):
            return arrays.read(path, split)
        role = idx_folder.role(path)
        if role is None:
            raise DataError(f"{path}: neither a .npy or .npz file nor an IDX file; for image files, give the folder that "
                            "they are in")
        return idx_folder.read(path.parent, split, role.family)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    places = idx_folder.places(path)
    if places:
        if len(places) > 1:
            if places[0].parent.name != "MNIST":
                raise DataError(f"{path}: holds several data sets, name one of them: {', '.join(map(str, places))}")
            say(f"{path}: MNIST was taken; to use another data set there, name it: {', '.join(map(str, places[1:]))}")
        return idx_folder.read(places[0], split)
    if (path / "mnist.npz").is_file():
        return arrays.read(path / "mnist.npz", split)
    return None


def _photographs(path: Path, split: Split, size: int | None, channels: int | None, background: str,
                 skip_bad_files: bool) -> Dataset:
    if split != "train":
        raise DataError(f"{path}: holds no {split!r} split; MNIST and other IDX files, Keras' mnist.npz and glyphs have one")
    found = files.find(path)
    if not found.images and not found.unreadable:
        left_out = files.about_left_out(path, found)
        advice = "; an array file is given by its own name" * any(
            file.suffix.lower() in (".npy", ".npz") for file in found.left_out)
        raise DataError(f"{path}: holds neither MNIST ({', '.join(mnist.SHA256)}; gzipped or not) nor other IDX files nor "
                        f"images ({', '.join(files.SUFFIXES)})" + f"; found {left_out}" * bool(left_out) + advice)
    return images.read(path, found, size, channels, background, skip_bad_files)
