"""The CUDA backend: the names of `cpu.py`, for a GPU or for the emulated device of the tests.

The functions of the rooms in `kernels/cuda` take a device as their first argument. A backend is a table of these functions
for one device. Its array namespace is CuPy; the emulated device has an imitation of it.
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
    """The backend of one device, with the names and arguments of `backends/cpu.py`."""

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
        """The array on this device: the array itself if it is there already, else a copy."""
        return self.xp.asarray(array)


@cache
def gpu_backend(index: int = 0) -> Cuda:
    """The backend of the GPU of that index, which CuPy runs."""
    import cupy

    from tinygan.kernels.cuda.runtime.gpu import gpu

    return Cuda(gpu(cupy, index))


@cache
def emulated_backend() -> Cuda:
    """The backend of the emulated device: g++ compiles its kernels, and its arrays are in the CPU's memory."""
    from tinygan.kernels.cuda.emulator.device import emulated_device

    return Cuda(emulated_device())


def backend_of_cupy(array: Any) -> Cuda:
    """The backend of the GPU that holds a CuPy array."""
    return gpu_backend(array.data.device_id)


__all__ = ["Cuda", "HostValue", "backend_of_cupy", "emulated_backend", "gpu_backend"]
