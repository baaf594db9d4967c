"""Moving images between the two orders of memory: row-major (N, C, H, W) and channels-last (N, H, W, C)."""
from __future__ import annotations

from functools import cache
from typing import Any

from numba import carray

from tinygan.kernels import transform
from tinygan.kernels.compiling import kernel
from tinygan.kernels.gemm import pointer_to

SOURCE, TARGET, COUNT, ROWS, COLUMNS = range(5)  # what a task is told, by position


@cache
def make(real: Any) -> int:
    """The address of the task that transposes COUNT matrices of ROWS x COLUMNS."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    side = transform.lanes_of(real)
    square = transform.square_transpose(real)

    @kernel(str(real))
    def transpose(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        rows, columns = t[ROWS], t[COLUMNS]
        size = rows * columns
        for i in range(t[COUNT] * part // parts, t[COUNT] * (part + 1) // parts):
            begin, end = t[SOURCE] + i * size * item, t[TARGET] + i * size * item
            if rows >= side and columns >= side:
                for j in range(0, rows, side):
                    row = min(j, rows - side)  # the last squares do some elements once more
                    for k in range(0, columns, side):
                        column = min(k, columns - side)
                        square(begin + (row * columns + column) * item, columns * item,
                               end + (column * rows + row) * item, rows * item)
                continue
            source, target = carray(pointer(begin), (size,)), carray(pointer(end), (size,))
            for j in range(rows):
                for k in range(columns):
                    target[k * rows + j] = source[j * columns + k]

    return transpose
