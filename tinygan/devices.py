"""Where arrays lie and kernels run: "cpu", "cuda" (the first GPU), "cuda:1" ...; "emulated" runs the CUDA kernels on the
CPU, slowly, for tests."""
from __future__ import annotations

__all__ = ["DeviceError", "device", "matmul_precision", "moved", "to_device"]

import re
from contextlib import AbstractContextManager
from typing import Any

from tinygan.backends import BACKENDS, Array, Backend, backend_of, cpu
from tinygan.context import override
from tinygan.errors import DeviceError

PRECISIONS = ("float32", "tf32")
NAME = re.compile(r"auto|cpu|emulated|cuda(?::(\d+))?")


def device(name: str) -> Backend:
    """The backend of that name; a GPU becomes this thread's current one. "auto": the first GPU if there is one, else the
    CPU. Raises DeviceError, saying why, for a GPU that cannot be used, ValueError for a name that is none."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if name == "cpu":
        return cpu
    if name == "auto":
        return cpu if _missing() else _gpu(0)
    if name == "emulated":
        from tinygan.backends.cuda import emulated_backend

        backend = emulated_backend()
        BACKENDS[backend.array_type] = backend
        return backend
    missing = _missing()
    if missing:
        raise DeviceError(f"device {name}: {missing}")
    return _gpu(int(match[1] or 0))


def _missing() -> str:
    """Why there is no GPU here; empty if there is one."""
    try:
        import cupy
    except ImportError:
        return ("CuPy is not installed: pip install 'tinygan[cuda12]' or 'tinygan[cuda13]', as the driver's CUDA version is "
                "(nvidia-smi shows it)")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy {cupy.__version__} finds no usable NVIDIA driver ({error})"
    return "" if count else "there is no NVIDIA GPU"


def _gpu(index: int) -> Backend:
    import cupy

    from tinygan.backends.cuda import gpu_backend

    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device cuda:{index}: there {'is' if count == 1 else 'are'} {count} (from cuda:0 on)")
    cupy.cuda.Device(index).use()  # this thread's: CuPy makes arrays where the thread is
    return gpu_backend(index)


def to_device(array: Any, name: str) -> Array:
    """An array on that device: a copy, unless it lies there."""
    return moved(array, device(name))


def moved(array: Array, backend: Backend) -> Array:
    """An array on that backend's device: a copy, unless it lies there."""
    here = backend_of(array)
    if here is backend:
        return array
    return backend.asarray(here.to_numpy(array))


def matmul_precision(name: str) -> AbstractContextManager[None]:
    """`with matmul_precision("tf32"):` what GPUs compute float32 matrix products and convolutions in, forward and backward:
    "float32" (the default), or "tf32" on tensor cores, from compute capability 8.0 on: operands keep 10 bits of their
    fraction, so that results are off by about 3e-4 of the largest one; sums stay float32. The CPU computes in float32."""
    if name not in PRECISIONS:
        raise ValueError(f"matmul_precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
    return override(matmul_precision=name)
