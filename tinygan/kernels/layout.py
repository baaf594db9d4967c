"""Moving images between the two orders of memory: row-major (N, C, H, W) and channels-last (N, H, W, C)."""
from __future__ import annotations

from functools import cache
from typing import Any

from numba import carray

from tinygan.kernels.compiling import kernel
from tinygan.kernels.gemm import transposer

SOURCE, TARGET, COUNT, ROWS, COLUMNS = range(5)  # what a task is told, by position


@cache
def make(real: Any) -> int:
    """The address of the task that transposes COUNT matrices of ROWS x COLUMNS."""
    item = real.bitwidth // 8
    turn = transposer(real)

    @kernel(str(real))
    def transpose(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        rows, columns = t[ROWS], t[COLUMNS]
        for i in range(t[COUNT] * part // parts, t[COUNT] * (part + 1) // parts):
            place = i * rows * columns * item
            turn(t[SOURCE] + place, columns, rows, columns, t[TARGET] + place, rows)

    return transpose
