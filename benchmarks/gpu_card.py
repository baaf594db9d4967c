"""The GPU that `gpu.py` measures: its clock, its memory, and its peak rates. Or the emulated GPU."""
from __future__ import annotations

import gc
import importlib.util
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import devices

MIB = 2**20
TURN, SHORT_TURN = 0.2, 0.02  # how many seconds one turn of a timing takes, about: for a step, and for a kernel
MOST = 1000  # calls in a turn
PARTS_PER_REPLAY = 20  # so many calls of a kernel are recorded in one graph, so that the start of the graph costs little
COPIED = 2**28  # so many float32 numbers (1 GiB) are copied, which is far more than any cache holds
SIDE = 8192  # the size of the matrices whose product measures the card's peak


class NotHereError(RuntimeError):
    """Something cannot be measured on this machine. It is left out, and the reason is reported."""


class Card:
    """A GPU. device: its name. torch_device: PyTorch's name for it; None if PyTorch cannot use it (`no_torch` says why)."""

    def __init__(self, device: str) -> None:
        self.backend = devices.device(device)
        self.device: str = self.backend.name
        self.emulated = self.device == "emulated"
        self.xp = self.backend.xp
        self.torch_device, self.no_torch = _torch_device(self.device)
        if not self.emulated:
            import cupy

            self._cupy = cupy

    def milliseconds(self, work: Callable[[], Any], repeats: int = 1) -> float:
        """The mean time of a call by the GPU's own clock, from events before the first call and after the last one."""
        if self.emulated:
            begin = time.perf_counter()
            for _ in range(repeats):
                work()
            return 1e3 * (time.perf_counter() - begin) / repeats
        begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        begin.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(begin, end)) / repeats

    def repeats(self, work: Callable[[], Any], seconds: float = TURN) -> int:
        """How many calls take about `seconds`."""
        if self.emulated:
            return 1
        self.milliseconds(work, 2)
        return int(min(max(1e3 * seconds / max(self.milliseconds(work, 3), 1e-4), 2), MOST))

    def of_one_call(self, function: Callable[[], Any], rounds: int = 5) -> float:
        """The milliseconds that the GPU needs for one call of the function, without Python's time. For that, many calls are
        recorded as one graph."""
        calls = 1 if self.emulated else PARTS_PER_REPLAY

        def many(tick: Any) -> None:
            for _ in range(calls):
                function()

        replayed, tick = tg.capture(many), self.xp.zeros(1, np.float32)
        for _ in range(2):  # the first call runs as usual, the second is recorded
            replayed(tick)
        repeats = self.repeats(lambda: replayed(tick), SHORT_TURN)
        return statistics.median(
            self.milliseconds(lambda: replayed(tick), repeats) / calls for _ in range(1 if self.emulated else rounds)
        )

    def free(self) -> None:
        """Free unused memory of the card, also PyTorch's."""
        gc.collect()
        if self.emulated:
            return
        self._cupy.cuda.Device().synchronize()
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()
        if self.torch_device is not None:
            import torch

            torch.cuda.empty_cache()

    def used_mib(self) -> float | None:
        """How much of the card's memory is used, by all processes together. None for the emulated GPU."""
        if self.emulated:
            return None
        self._cupy.cuda.Device().synchronize()
        free, whole = self._cupy.cuda.runtime.memGetInfo()
        return (whole - free) / MIB

    def gpus(self) -> int:
        """How many GPUs this machine has. As many emulated ones as anybody wants: 2 here."""
        return 2 if self.emulated else int(self._cupy.cuda.runtime.getDeviceCount())

    def describe(self) -> dict[str, Any]:
        """The card's name, and the software that runs on it."""
        found: dict[str, Any] = {"device": self.device, "torch": self.no_torch or _torch_version()}
        if self.emulated:
            return {**found, "name": "emulated: times mean nothing"}
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(runtime.getDevice())
        return {
            **found, "name": properties["name"].decode(), "compute_capability": self._cupy.cuda.Device().compute_capability,
            "multiprocessors": properties["multiProcessorCount"], "memory_mib": properties["totalGlobalMem"] // MIB,
            "l2_mib": properties["l2CacheSize"] / MIB, "driver_cuda": runtime.driverGetVersion(),
            "runtime_cuda": runtime.runtimeGetVersion(),
        }  # fmt: skip

    def rates(self) -> dict[str, float]:
        """The rates that a large copy and a large product of cuBLAS reach on this card: "bytes" read and written per second,
        and multiplications and additions per second in "float32" and, with tensor cores, in "tf32"."""
        size, side = (2**16, 64) if self.emulated else (COPIED, SIDE)
        found = {"bytes": 2 * 4 * size / (1e-3 * self._copy(size))}
        self.free()
        for precision in ("float32", "tf32"):
            if precision == "float32" or self.emulated or self.backend.device.tensor_cores:
                found[precision] = 2 * side**3 / (1e-3 * self._product(side, precision))
        self.free()
        return found

    def _best(self, work: Callable[[], Any]) -> float:
        repeats = self.repeats(work)
        return min(self.milliseconds(work, repeats) for _ in range(3))

    def _copy(self, size: int) -> float:
        """Milliseconds."""
        a, b = self.xp.zeros(size, np.float32), self.xp.zeros(size, np.float32)

        def copy() -> None:
            b[...] = a

        return self._best(copy)

    def _product(self, side: int, precision: str) -> float:
        """The milliseconds of a product by CuPy's cuBLAS, or by PyTorch's if CuPy finds none."""
        rng = np.random.default_rng(0)
        values = [rng.standard_normal((side, side), np.float32) for _ in range(2)]
        if self.emulated:
            return self._best(lambda: np.matmul(*values))
        try:
            from cupy._core import _routines_linalg as linalg

            a, b = (self._cupy.asarray(value) for value in values)
            out = self._cupy.empty_like(a)
            before = linalg.get_compute_type(np.float32)
            linalg.set_compute_type(
                np.float32, linalg.COMPUTE_TYPE_TF32 if precision == "tf32" else linalg.COMPUTE_TYPE_FP32
            )
            try:
                return self._best(lambda: self._cupy.matmul(a, b, out=out))
            finally:
                linalg.set_compute_type(np.float32, before)
        except Exception:
            if self.torch_device is None:
                raise
            import gpu_torch
            import torch

            x, y = (torch.tensor(value, device=self.torch_device) for value in values)
            with gpu_torch.precision(precision):
                return self._best(lambda: torch.matmul(x, y))


def looked_at(card: Card) -> dict[str, Any]:
    """The card's description and its rates. If something cannot be found out, it is left out, and the reason is noted."""
    found: dict[str, Any] = {"name": card.device, "torch": card.no_torch, "rates": {}, "errors": []}
    for look in (card.describe, lambda: {"rates": card.rates()}):
        try:
            found |= look()
        except Exception:
            found["errors"].append(traceback.format_exc())
    return found


def _torch_device(device: str) -> tuple[str | None, str]:
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed"
    import torch

    if device == "emulated":
        return "cpu", ""
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} finds no GPU"
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    return device, ""


def _torch_version() -> str:
    import torch

    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
