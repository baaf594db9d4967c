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
    batchnorm,
    conv,
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
    matmul, conv, activations, batchnorm, reductions, losses, minibatch, perceptron, optimizers, random,
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
        self.add, self.subtract, self.multiply = device.xp.add, device.xp.subtract, device.xp.multiply
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

    def channels_last(self, x: Array) -> Array:
        """(N, C, ...) -> (N, ..., C), C-contiguous: a view if x lies channels-last."""
        return self.xp.ascontiguousarray(self.xp.moveaxis(x, 1, -1))

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The elements in row-major order under another shape: a view if possible. A batch of vectors that becomes images is
        copied, so that the images lie channels-last, as the kernels want them."""
        if x.ndim == 2 and len(shape) == 4 and x.shape[0] == shape[0] and shape[1] > 1 and x.dtype.kind == "f" and x.size:
            n, c, height, width = shape
            images = self.xp.ascontiguousarray(x.reshape(n, c, height * width).transpose(0, 2, 1))
            return images.reshape(n, height, width, c).transpose(0, 3, 1, 2)
        return x.reshape(shape)


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
