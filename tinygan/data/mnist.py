"""MNIST in its original IDX files: found in a folder or downloaded, verified, parsed.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

from __future__ import annotations

__all__ = ["fetch", "is_mnist", "read"]

import hashlib
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinygan.cache import cache_folder, keep, say
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

SIDE = 28
LARGEST = 1 << 26  # bytes; more than any of the files holds


def is_mnist(folder: Path) -> bool:
    """Whether any of the four files lies in `folder`, under one of the names it goes by."""
    return any(path.is_file() for name in SHA256 for path in _names(folder, name))


def read(folder: Path, split: Split) -> Dataset:
    """MNIST from the files in `folder`, verified; `DataError` names the file that is missing or damaged."""
    contents = []
    for name in FILES[split]:
        path = next((path for path in _names(folder, name) if path.is_file()), None)
        if path is None:
            raise DataError(f"{folder}: {name}.gz (or {name}) is missing")
        contents.append(_read_file(path, name))
    return _dataset(contents, split)


def fetch(split: Split) -> Dataset:
    """MNIST from the user's cache, downloaded into it where it is not there yet.

    Raises `UnavailableError` if that is impossible.
    """
    return _dataset([_fetch_file(name) for name in FILES[split]], split)


def _names(folder: Path, name: str) -> tuple[Path, ...]:
    return folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")


def _fetch_file(name: str) -> bytes:
    path = cache_folder() / "mnist" / f"{name}.gz"
    if path.is_file():
        try:
            return _read_file(path, name)
        except DataError as error:
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


def _read_file(path: Path, name: str) -> bytes:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _verified(stored, name, str(path))


def _verified(stored: bytes, name: str, source: str) -> bytes:
    """The decompressed content of the file `name`, if it is what it should be, as far as to its last bit."""
    content = _decompressed(stored, source) if stored[:2] == b"\x1f\x8b" else stored
    _parse(content, source, is_images="images" in name)  # says more about what is wrong than a checksum can
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(f"{source}: not MNIST's {name}: SHA-256 of the content is {found}, expected {SHA256[name]} "
                        "(other data sets in this format can be given as one .npz file)")
    return content


def _decompressed(stored: bytes, source: str) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(stored, LARGEST)
    except zlib.error as error:
        raise DataError(f"{source}: damaged gzip file: {error}") from error
    if stream.unconsumed_tail:
        raise DataError(f"{source}: decompresses to more than {LARGEST} bytes, too many for a file of MNIST")
    if not stream.eof:
        raise DataError(f"{source}: truncated gzip file ({len(stored)} bytes hold only {len(content)} bytes of content)")
    return content


def _parse(content: bytes, source: str, is_images: bool) -> npt.NDArray[np.uint8]:
    """An IDX file's array: images `(N, 1, 28, 28)` or labels `(N,)`.

    The file is a magic number (2048 plus the number of axes, for bytes), the length of each axis, all big-endian int32,
    and the bytes.
    """
    axes = 3 if is_images else 1
    header = np.frombuffer(content[:4 + 4 * axes], ">i4") if len(content) >= 4 + 4 * axes else None
    if header is None:
        raise DataError(f"{source}: {len(content)} bytes, too few for an IDX header of {4 + 4 * axes}")
    magic, *shape = header.tolist()
    if magic != 2048 + axes:
        raise DataError(f"{source}: magic number {magic}, expected {2048 + axes} (an IDX file of "
                        f"{'images' if is_images else 'labels'})")
    if is_images and shape[1:] != [SIDE, SIDE]:
        raise DataError(f"{source}: images of {shape[1]}x{shape[2]}, expected {SIDE}x{SIDE}")
    expected = header.nbytes + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{source}: {len(content)} bytes, but its header promises {expected}")
    array = np.frombuffer(content, np.uint8, offset=header.nbytes)
    return array.reshape(-1, 1, SIDE, SIDE) if is_images else array


def _dataset(contents: list[bytes], split: Split) -> Dataset:
    names = FILES[split]
    images, labels = (_parse(content, name, "images" in name) for content, name in zip(contents, names, strict=True))
    if len(images) != len(labels):
        raise DataError(f"{names[0]} holds {len(images)} images, {names[1]} {len(labels)} labels")
    # The contents are verified, so these sums stand for them.
    checksum = hashlib.sha256("".join(SHA256[name] for name in names).encode()).hexdigest()
    return Dataset("mnist", images, labels.astype(np.int64), f"sha256:{checksum}")
