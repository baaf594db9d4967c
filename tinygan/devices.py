"""Devices, which hold arrays and run kernels: "cpu", "cuda" (the first GPU), "cuda:1" and so on. "emulated" runs the CUDA
kernels slowly on the CPU, for tests."""
from __future__ import annotations

__all__ = ["DeviceError", "device", "inspect", "is_readable", "matmul_precision", "moved", "to_device"]

import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tinygan.backends import BACKENDS, Array, Backend, backend_of, cpu
from tinygan.context import CONTEXT, override
from tinygan.errors import DeviceError, installing
from tinygan.launched import local_rank, local_size
from tinygan.listening import advanced

PRECISIONS = ("float32", "tf32")
NAME = re.compile(r"auto|cpu|emulated|cuda(?::(\d+))?")


def device(name: str) -> Backend:
    """The backend of a device. A GPU also becomes this thread's current GPU. "auto" is the first GPU, or the CPU if there is
    no GPU. With several processes, "cuda" and "auto" give each process on a machine a GPU of its own. If a GPU cannot be
    used, raises a DeviceError that says why. Raises ValueError for an unknown name."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    if name == "cpu":
        return cpu
    if name == "auto":
        return cpu if _missing() else _own_gpu()
    if name == "emulated":
        if sys.platform != "linux":
            raise DeviceError(f"device emulated: the emulated GPU needs Linux and g++, and this is {sys.platform}")
        from tinygan.backends.cuda import emulated_backend

        backend = emulated_backend()
        BACKENDS[backend.array_type] = backend
        return backend
    missing = _missing()
    if missing:
        raise DeviceError(f"device {name}: {missing}")
    return _own_gpu() if match[1] is None else _gpu(int(match[1]))


def _missing() -> str:
    """Why no GPU can be used; "" if one can."""
    try:
        import cupy
    except ImportError:
        return (f"CuPy is not installed: {installing('cuda12', 'cuda13')}, whichever is the driver's CUDA version "
                "(nvidia-smi shows it)")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy {cupy.__version__} finds no usable NVIDIA driver ({error})"
    return "" if count else "there is no NVIDIA GPU"


def _own_gpu() -> Backend:
    """The first GPU, or with several processes on this machine one for each."""
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if count == 1:  # the launcher may let each process see only its own
        return _gpu(0)
    if local_rank() >= count:
        raise DeviceError(f"device cuda: {local_size()} processes run on this machine, which has {count} GPUs: start at "
                          "most one process for each GPU")
    return _gpu(local_rank())


def _gpu(index: int) -> Backend:
    import cupy

    from tinygan.backends.cuda import gpu_backend

    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device cuda:{index}: there {'is' if count == 1 else 'are'} {count} (from cuda:0 on)")
    cupy.cuda.Device(index).use()  # for this thread: CuPy makes arrays on the thread's current GPU
    return gpu_backend(index)


def to_device(array: Any, name: str) -> Array:
    """The array on that device: a copy, unless it is already there."""
    return moved(array, device(name))


def moved(array: Array, backend: Backend) -> Array:
    """The array on that backend's device: a copy, unless it is already there."""
    here = backend_of(array)
    if here is backend:
        return array
    return backend.asarray(here.to_numpy(array))


def is_readable(array: Array) -> bool:
    """Whether the host may look at the array's values now. While a step is recorded, a GPU has not computed them yet."""
    listener = CONTEXT.get().listener
    return listener is None or listener.backend is not backend_of(array)


def inspect(array: Array, check: Callable[[Array], None]) -> None:
    """Call `check`, which looks at the values of an argument of a step. While the step is recorded on the CPU, the check
    also comes at the start of every replay. On a GPU there is none then, because it would have to wait for the GPU."""
    if is_readable(array):
        check(array)
    elif backend_of(array) is cpu:
        check(cpu.device.plain(array))
        advanced(lambda: check(array))


def matmul_precision(name: str) -> AbstractContextManager[None]:
    """`with matmul_precision("tf32"):` sets the precision in which GPUs compute float32 matrix products and convolutions,
    forward and backward: "float32" (the default) or "tf32". "tf32" uses tensor cores, from compute capability 8.0 on.
    Operands keep 10 bits of their fraction and sums stay float32, so errors are about 3e-4 of the largest result. The CPU
    always computes in float32."""
    if name not in PRECISIONS:
        raise ValueError(f"matmul_precision: expected one of {', '.join(PRECISIONS)}, got {name!r}")
    return override(matmul_precision=name)
