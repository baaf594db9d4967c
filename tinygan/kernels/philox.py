"""Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): random bits by counter."""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types

from tinygan.kernels.compiling import kernel
from tinygan.kernels.elementwise import share
from tinygan.kernels.gemm import pointer_to

KEY_LOW, KEY_HIGH, OUT, COUNT = range(4)


def make() -> int:
    """The address of the task that fills uint32 words: word i is word i % 4 of the block with counter i // 4."""
    pointer = pointer_to(types.uint32)

    @kernel()
    def bits(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (4,))
        out = carray(pointer(t[OUT]), (t[COUNT],))
        start, end = share(t[COUNT], part, parts)
        low32 = np.uint64(0xFFFFFFFF)
        for block in range(start // 4, (end + 3) // 4):
            c0, c1 = np.uint64(block) & low32, np.uint64(block) >> np.uint64(32)
            c2, c3 = np.uint64(0), np.uint64(0)
            k0, k1 = np.uint64(t[KEY_LOW]), np.uint64(t[KEY_HIGH])
            for _ in range(10):
                product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
                c0, c1, c2, c3 = (product1 >> np.uint64(32) ^ c1 ^ k0, product1 & low32,
                                  product0 >> np.uint64(32) ^ c3 ^ k1, product0 & low32)
                k0, k1 = k0 + np.uint64(0x9E3779B9) & low32, k1 + np.uint64(0xBB67AE85) & low32
            first = block * 4
            for word, value in enumerate((c0, c1, c2, c3)):
                if first + word < end:
                    out[first + word] = np.uint32(value)

    return bits
