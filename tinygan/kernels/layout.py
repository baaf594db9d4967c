"""Moving images between the two orders of memory: row-major (N, C, H, W) and channels-last (N, H, W, C)."""
from __future__ import annotations

from functools import cache
from typing import Any

from numba import carray

from tinygan.kernels.compiling import kernel
from tinygan.kernels.gemm import pointer_to

SOURCE, TARGET, COUNT, ROWS, COLUMNS = range(5)  # what a task is told, by position
BLOCK = 16  # columns at a time, so that their cache lines are still there when the next row needs them


@cache
def make(real: Any) -> int:
    """The address of the task that transposes COUNT matrices of ROWS x COLUMNS."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8

    @kernel(str(real))
    def transpose(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        rows, columns = t[ROWS], t[COLUMNS]
        size = rows * columns
        for i in range(t[COUNT] * part // parts, t[COUNT] * (part + 1) // parts):
            source = carray(pointer(t[SOURCE] + i * size * item), (size,))
            target = carray(pointer(t[TARGET] + i * size * item), (size,))
            for first in range(0, columns, BLOCK):
                for j in range(rows):
                    for k in range(first, min(first + BLOCK, columns)):
                        target[k * rows + j] = source[j * columns + k]

    return transpose
