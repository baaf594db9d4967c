"""Data sets in folders of IDX files: MNIST, Fashion-MNIST, EMNIST (Cohen, Afshar, Tapson and van Schaik 2017), own ones."""

from __future__ import annotations

__all__ = ["Role", "find", "places", "read", "role"]

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygan.cache import say
from tinygan.data import idx, mnist
from tinygan.data.arrays import dataset_of
from tinygan.data.dataset import DataError, Dataset, Split

Families = dict[str, dict[tuple[Split, idx.Kind], Path]]
"""The IDX files of each data set. The first key is the data set ("" for MNIST, or such as "emnist-letters"), the second the
file's part in it."""

ENDING = re.compile(r"[-._]idx(\d?)([-._](ubyte|byte|short|int|float|double))?$")
SPLITS: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test", "t10k": "test"}


class Role(NamedTuple):
    """What the name of a file says."""

    family: str
    split: Split
    kind: idx.Kind


def role(path: Path) -> Role | None:
    """The role of an IDX file, from its name, such as "fashion-train-images-idx3-ubyte.gz". None if it is not an IDX
    file."""
    name = path.name.lower().removesuffix(".gz")
    ending = ENDING.search(name)
    if ending is None:
        return None
    words = [word for word in re.split(r"[-._ ]", name[:ending.start()]) if word]
    kind: idx.Kind | None = {"1": "labels", "2": "labels", "3": "images", "4": "images"}.get(ending[1])  # type: ignore[assignment]
    split: Split = "train"
    rest = []
    for word in words:
        if word in ("image", "images", "label", "labels"):
            kind = "images" if word.startswith("image") else "labels"
        elif word in SPLITS:
            split = SPLITS[word]
        else:
            rest.append(word)
    return None if kind is None else Role("-".join(rest), split, kind)


def find(folder: Path) -> Families:
    """The IDX files in `folder`, without sub-folders, by data set. If a file is there in several spellings, the plain file
    is preferred to the gzipped one, and "-idx" to ".idx"."""
    families: Families = {}
    if not folder.is_dir():
        return families
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".gz", path.name)):
        if not path.name.startswith(".") and (found := role(path)) is not None and path.is_file():
            families.setdefault(found.family, {}).setdefault((found.split, found.kind), path)
    return {family: files for family, files in families.items()
            if family == "" or any(kind == "images" for _, kind in files)}


def places(folder: Path) -> list[Path]:
    """The folders that hold IDX files: `folder` itself, its sub-folder `raw`, or `NAME/raw`, which torchvision makes.
    MNIST's come first."""
    for place in (folder, folder / "raw"):
        if find(place):
            return [place]
    return [place for place in sorted(folder.glob("*/raw"), key=lambda place: (place.parent.name != "MNIST", place.parts))
            if find(place)]


def read(folder: Path, split: Split, family: str | None = None) -> Dataset:
    """The data set in the IDX files of `folder`: "mnist" if its content is MNIST's, else "idx:FOLDER".

    `family`: which data set, if there are several (see `Role`). It is then part of the data set's name. Images may have any
    size. Labels may be missing, except for MNIST. EMNIST's images are stored with rows and columns exchanged: in files whose
    names begin with "emnist" they are exchanged back, and a message says so. Raises a `DataError` that names the missing or
    damaged file.
    """
    families = find(folder)
    name = f"idx:{_shown_name(folder)}"
    if family is None:
        family = "" if "" in families else min(families)
        if "" not in families and len(families) > 1:
            example = families[family].get((split, "images")) or next(iter(families[family].values()))
            raise DataError(f"{folder}: holds several data sets in IDX files ({', '.join(sorted(families))}): name a file "
                            f"of the one you mean, such as {example}")
    elif len(families) > 1 and family:
        name += f"/{family}"
    files = families.get(family, {})
    wanted = mnist.FILES[split]
    path = files.get((split, "images"))
    if path is None:
        there = ", ".join(path.name for path in files.values())
        missing = f"{wanted[0]}.gz (or {wanted[0]}) is missing" if family == "" else f"the {split} images are missing"
        raise DataError(f"{folder}: {missing}" + f" (found {there})" * bool(there))
    images = idx.parse(idx.contents(path), str(path), "images")
    labels_path = files.get((split, "labels"))
    labels = None if labels_path is None else idx.parse(idx.contents(labels_path), str(labels_path), "labels")
    if labels is None and not mnist.differing(images, None, split):
        raise DataError(f"{folder}: {wanted[1]}.gz (or {wanted[1]}) is missing")
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{path} holds {len(images)} images, {labels_path} {len(labels)} labels")
    if family.startswith("emnist"):
        images = np.ascontiguousarray(images.swapaxes(1, 2))
        say(f"{path}: EMNIST stores its images with rows and columns exchanged; they are turned back")
    dataset = dataset_of(name, images, labels, str(path), split)
    if dataset.name != "mnist" and path.name.lower().removesuffix(".gz").replace(".idx", "-idx") == wanted[0]:
        differing = mnist.differing(images, labels, split)
        other = [str(file) for file, kind in ((path, "images"), (labels_path, "labels")) if kind in differing]
        say(f"{' and '.join(other)}: not MNIST's content, so the data set is called {name!r} (if it should be MNIST, the "
            "file is damaged)")
    return dataset


def _shown_name(folder: Path) -> str:
    """The name for the data in `folder`: that of the folder or, for torchvision's FashionMNIST/raw, that of its parent."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "raw" else folder.name
