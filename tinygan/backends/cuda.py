"""The CUDA backend: the kernel table of `cpu.py` on a GPU, or on the emulated one, for tests.

A backend is a table of the rooms in `kernels/cuda`: their functions, whose first argument is one device. CuPy does the rest.
"""
from __future__ import annotations

from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from tinygan.kernels.cuda import (
    activations,
    arithmetic,
    batchnorm,
    conv,
    layout,
    losses,
    matmul,
    minibatch,
    optimizers,
    perceptron,
    random,
    reductions,
)
from tinygan.kernels.cuda.runtime.device import Device, HostValue

Array = Any
ROOMS: tuple[ModuleType, ...] = (
    arithmetic, layout, reductions, matmul, conv, activations, batchnorm, losses, minibatch, perceptron, optimizers, random,
)


class Cuda:
    """A device as a backend: the names and arguments of `backends/cpu.py`."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.name = device.name
        self.array_type = device.array_type
        self.xp = device.xp
        self.empty = device.empty
        self.feed = device.feed
        for room in ROOMS:
            for name in room.__all__:
                setattr(self, name, partial(getattr(room, name), device))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the CUDA backend has no {name!r}")

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy in the CPU's memory."""
        return array.get()

    def asarray(self, array: Any) -> Array:
        """The array on this device: itself if it is there, else a copy."""
        return self.xp.asarray(array)


@cache
def gpu_backend(index: int = 0) -> Cuda:
    """The GPU of that index, by CuPy."""
    import cupy

    from tinygan.kernels.cuda.runtime.gpu import gpu

    return Cuda(gpu(cupy, index))


@cache
def emulated_backend() -> Cuda:
    """The emulated device: kernels compiled by g++, arrays in the CPU's memory."""
    from tinygan.kernels.cuda.emulator.device import emulated_device

    return Cuda(emulated_device())


def backend_of_cupy(array: Any) -> Cuda:
    """The backend of the GPU that a CuPy array lies on."""
    return gpu_backend(array.data.device_id)


__all__ = ["Cuda", "HostValue", "backend_of_cupy", "emulated_backend", "gpu_backend"]
