"""How fast this machine multiplies with a library, and how fast it copies: what a floor is measured by."""
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import floor
import numpy as np
from models import Model

SIDE = 1024  # of the matrices of a large product
COPIED = 1 << 27  # bytes, beyond any cache
LEAST_CALLS = 3


def tinygan_product(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], Any]:
    import kernels_loaded  # noqa: F401

    import tinygan as tg

    return lambda: tg.matmul(a, b)


def numpy_product(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], Any]:
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def torch_product(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    left, right, out = torch.from_numpy(a), torch.from_numpy(b), torch.empty(a.shape)
    return lambda: torch.mm(left, right, out=out)


PRODUCTS = {"tinygan": tinygan_product, "numpy": numpy_product, "torch": torch_product}
"""By library, how many threads multiply is settled by the worker's environment or by the function."""


def shortest(call: Callable[[], Any], seconds: float) -> float:
    """The seconds of the shortest call. They are repeated for that long, and at least three times, after an untimed one."""
    call()
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < seconds:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


class Subject:
    """The product of one library; for "copy" a copy, which as many threads share."""

    def __init__(self, library: str, threads: int) -> None:
        self.count = threads
        if library == "copy":
            self._call, self._work = self._copy(), 2 * COPIED / 1e9
        else:
            rng = np.random.default_rng(0)
            a, b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
            self._call, self._work = PRODUCTS[library](a, b, threads), 2 * SIDE**3 / 1e9

    def _copy(self) -> Callable[[], Any]:
        source, target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)
        shares = [slice(COPIED * i // self.count, COPIED * (i + 1) // self.count) for i in range(self.count)]
        pool = ThreadPoolExecutor(self.count)
        return lambda: list(pool.map(lambda share: np.copyto(target[share], source[share]), shares))

    def rate(self, seconds: float) -> float:
        """GFLOP/s, or GB/s read and written."""
        return self._work / shortest(self._call, seconds)

    def operations(self, model: Model, batch: int) -> dict[str, int]:
        """See `floor.operations`. (The benchmark's own process does not import tinygan.)"""
        return floor.operations(model, batch)

    def threads(self) -> int:
        return self.count

    def blas(self) -> list[str]:
        return []
