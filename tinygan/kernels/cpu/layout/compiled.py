"""The compiled transposition of matrices, which moves images between row-major and channels-last order."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.matmul.packing import transposer
from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import empty

Array = np.ndarray[Any, Any]


class Transposition(NamedTuple):
    """The arguments of the task: the addresses of the source and the target, and the number and size of the matrices (rows,
    columns). They are C-contiguous and follow one after another."""

    source: int
    target: int
    matrices: int
    rows: int
    columns: int


_packed = packer(Transposition)


@cache
def make(real: Any) -> int:
    """The address of the task that transposes matrices."""
    item = real.bitwidth // 8
    turn = transposer(real)

    @task(Transposition, str(real))
    def transpose(t: Any, part: Any, parts: Any) -> Any:
        rows, columns = t.rows, t.columns
        for i in range(t.matrices * part // parts, t.matrices * (part + 1) // parts):
            place = i * rows * columns * item
            turn(t.source + place, columns, rows, columns, t.target + place, rows)

    return transpose


def transposed(matrices: Array) -> Array:
    """(N, rows, columns), C-contiguous -> (N, columns, rows), C-contiguous."""
    n, rows, columns = matrices.shape
    out = empty((n, columns, rows), matrices.dtype)
    pool.run(make(REALS[matrices.dtype]), _packed(
        source=address(matrices), target=address(out), matrices=n, rows=rows, columns=columns), pool.parts(matrices.size))
    return out
