"""MNIST: the checksums of its content, and how to get it, verified, from the user's cache or from a mirror.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

from __future__ import annotations

__all__ = ["checksum", "differing", "fetch"]

import hashlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.cache import cache_folder, keep, say
from tinygan.data import idx
from tinygan.data.dataset import DataError, Dataset, Split
from tinygan.data.download import UnavailableError, download

MIRRORS: tuple[str, ...] = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

SHA256 = {  # of the decompressed content
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_KINDS: tuple[idx.Kind, idx.Kind] = ("images", "labels")  # the two files of a split
LARGEST = 1 << 26  # bytes; all files are smaller


def differing(images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, split: Split) -> list[idx.Kind]:
    """Which of images (N, H, W) or (N, 1, H, W) and labels (N,) are not MNIST's. labels may be None."""
    found: dict[idx.Kind, npt.NDArray[Any] | None] = {
        "images": images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images, "labels": labels}
    axes = {"images": 3, "labels": 1}
    return [kind for (kind, array), name in zip(found.items(), FILES[split], strict=True)
            if array is not None and not (array.ndim == axes[kind] and _sha256(array) == SHA256[name])]


def checksum(split: Split) -> str:
    """`Dataset.checksum` of MNIST: a checksum of its files' checksums."""
    return f"sha256:{hashlib.sha256(''.join(SHA256[name] for name in FILES[split]).encode()).hexdigest()}"


def _sha256(array: npt.NDArray[Any]) -> str:
    """The SHA-256 of the IDX file that would hold this array of bytes; "" if the array is not of bytes."""
    if array.dtype.kind not in "iu" or array.size == 0 or array.min() < 0 or array.max() > 255:
        return ""
    digest = hashlib.sha256(struct.pack(f">{1 + array.ndim}i", 2048 + array.ndim, *array.shape))
    digest.update(np.ascontiguousarray(array, np.uint8).data)
    return digest.hexdigest()


def fetch(split: Split) -> Dataset:
    """MNIST from the user's cache. Files that are not there are downloaded.

    Raises `UnavailableError` if that is impossible.
    """
    images, labels = (idx.parse(_fetch_file(name), name, kind)
                      for name, kind in zip(FILES[split], _KINDS, strict=True))
    return Dataset("mnist", images[:, None], labels.astype(np.int64), checksum(split))


def _fetch_file(name: str) -> bytes:
    path = cache_folder() / "mnist" / f"{name}.gz"
    if path.is_file():
        try:
            return _verified(path.read_bytes(), name, str(path))
        except (DataError, OSError) as error:
            say(f"{error}; downloading it again")
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            compressed = download(url)
            content = _verified(compressed, name, url)
        except (UnavailableError, DataError) as error:
            failures.append(str(error))
            continue
        if keep(path, lambda file, data=compressed: file.write(data)):  # type: ignore[misc]
            say(f"downloaded {url} to {path}")
        return content
    raise UnavailableError("; ".join(failures))


def _verified(stored: bytes, name: str, source: str) -> bytes:
    """The decompressed content of the file `name`. Raises DataError unless it is MNIST's, bit by bit."""
    content = idx.decompressed(stored, source, LARGEST)
    idx.parse(content, source, _KINDS["images" not in name])  # (its errors say more than a wrong checksum)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(f"{source}: not MNIST's {name}: SHA-256 of the content is {found}, expected {SHA256[name]}")
    return content
