"""IDX files, the format of MNIST and similar data sets: a header, then an array.

The format is described by LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

__all__ = ["contents", "decompressed", "parse"]

import math
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import DataError

Kind = Literal["images", "labels"]

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_START = 64  # so many bytes hold the header


def contents(path: Path) -> bytes:
    """The bytes of an IDX file, decompressed if it is gzipped."""
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decompressed(stored, str(path))


def decompressed(stored: bytes, source: str, most: int | None = None) -> bytes:
    """`stored`, decompressed if it is a gzip file. The IDX header in it says how many bytes there are; decompression stops
    soon after that number.

    `most`: the largest number of bytes that is accepted.
    """
    if stored[:2] != b"\x1f\x8b":
        return stored
    stream = zlib.decompressobj(wbits=31)
    try:
        asked = _START
        content = part = stream.decompress(stored, asked)
        if len(part) == asked:
            promised = _promised(content)
            if most is not None and promised > most:
                raise DataError(f"{source}: decompresses to {promised} bytes, too many: at most {most} are expected")
            asked = max(1, promised + 1 - len(content))  # (one byte more than promised, to notice it if there is one)
            part = stream.decompress(stream.unconsumed_tail, asked)
            content += part
    except zlib.error as error:
        raise DataError(f"{source}: damaged gzip file: {error}") from error
    if len(part) < asked and not stream.eof:
        raise DataError(f"{source}: truncated gzip file ({len(stored)} bytes hold only {len(content)} bytes of content)")
    return content


def _promised(content: bytes) -> int:
    """How many bytes an IDX file that begins with `content` should have; 0 if it is not an IDX file."""
    header = _header(content)
    return 0 if header is None else 4 + 4 * len(header[1]) + math.prod(header[1]) * header[0].itemsize


def _header(content: bytes) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """(dtype, shape) from the header of an IDX file: two zeros, the code of the dtype, the number of axes, and the length of
    each axis as a big-endian int32. None if it is not an IDX file."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES or len(content) < 4 + 4 * content[3]:
        return None
    shape = np.frombuffer(content[4:4 + 4 * content[3]], ">i4").tolist()
    return np.dtype(TYPES[content[2]]), tuple(shape)


def parse(content: bytes, source: str, kind: Kind) -> npt.NDArray[Any]:
    """The array of an IDX file, read-only: images `(N, H, W)` or with a fourth axis for the channels, or labels `(N,)`."""
    axes = 3 if kind == "images" else 1
    if len(content) < 4 + 4 * axes:
        raise DataError(f"{source}: {len(content)} bytes, too few for an IDX header of {4 + 4 * axes}")
    header = _header(content)
    if header is None or len(header[1]) not in ((2, 3, 4) if kind == "images" else (1, 2)):
        raise DataError(f"{source}: magic number {int.from_bytes(content[:4], 'big', signed=True)}, expected {2048 + axes} "
                        f"(an IDX file of {kind})")
    dtype, shape = header
    if min(shape) < 0 or len(content) != _promised(content):
        raise DataError(f"{source}: {len(content)} bytes, but its header promises {_promised(content)} "
                        f"({dtype.newbyteorder('=')} {shape})")
    array: npt.NDArray[Any] = np.frombuffer(content, dtype, offset=4 + 4 * len(shape)).reshape(shape)
    if kind == "labels" and array.ndim == 2 and shape[1:] != (0,):
        return array[:, 0]  # (a row of QMNIST's labels: the class, then the writer and more)
    return array
