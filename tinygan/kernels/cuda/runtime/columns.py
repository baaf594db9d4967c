"""Chooses the grid for kernels that sum or map the columns of a matrix. columns.cuh says how its blocks share the matrix."""
from __future__ import annotations

from typing import NamedTuple

from tinygan.kernels.cuda.runtime.device import THREADS, Device


class Cut(NamedTuple):
    """Limits for cutting the rows of a matrix into parts. There is one part for each blockIdx.y."""

    least_rows: int
    """A thread should have at least this many rows."""
    most_blocks: int
    """There should be at most this many blocks for each multiprocessor."""


SUM = Cut(least_rows=16, most_blocks=6)
"""Only as many blocks as run at the same time, because their sums must still be added."""
MAP = Cut(least_rows=4, most_blocks=24)


def column_grid(device: Device, shape: tuple[int, ...], cut: Cut) -> tuple[int, tuple[int, int]]:
    """(width, grid) for a matrix (rows, columns). width: the columns of a block. grid: (groups of columns, parts of the
    rows)."""
    rows, columns = shape
    width = min(32, 1 << (columns - 1).bit_length())
    blocks = -(-columns // width)
    parts = min(-(-rows // (THREADS // width * cut.least_rows)), -(-cut.most_blocks * device.sms // blocks))
    return width, (blocks, max(parts, 1))
