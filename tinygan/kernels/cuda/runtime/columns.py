"""How blocks share a matrix whose columns are summed or mapped: the host's side of columns.cuh."""
from __future__ import annotations

from typing import NamedTuple

from tinygan.kernels.cuda.runtime.device import THREADS, Device


class Cut(NamedTuple):
    """How the rows of a matrix are cut into parts, one for each block below the first."""

    least_rows: int
    """Of a thread, if there are so many."""
    most_blocks: int
    """For each multiprocessor."""


SUM = Cut(least_rows=16, most_blocks=6)
"""As many blocks as run at once, since the sums of the parts must be added."""
MAP = Cut(least_rows=4, most_blocks=24)


def column_grid(device: Device, shape: tuple[int, ...], cut: Cut) -> tuple[int, tuple[int, int]]:
    """For a matrix (rows, columns): (the columns of a block, the grid), the grid being (blocks side by side, parts)."""
    rows, columns = shape
    width = min(32, 1 << (columns - 1).bit_length())
    blocks = -(-columns // width)
    parts = min(-(-rows // (THREADS // width * cut.least_rows)), -(-cut.most_blocks * device.sms // blocks))
    return width, (blocks, max(parts, 1))
