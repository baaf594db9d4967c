"""Moving images between the two orders of memory: row-major (N, C, H, W) and channels-last (N, H, W, C)."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from tinygan.kernels.cpu.matmul.gemm import transposer
from tinygan.kernels.cpu.runtime.arguments import task


class Transposition(NamedTuple):
    """What the task is told: so many matrices (rows, columns), C-contiguous, one after the other, and where each goes."""

    source: int
    target: int
    matrices: int
    rows: int
    columns: int


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
