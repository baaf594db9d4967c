"""The order of images in the device's memory: row-major (N, C, H, W), as in users' arrays, or channels-last (N, H, W, C),
which the kernels prefer."""
from __future__ import annotations

from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["channels_last", "reshape"]


def channels_last(device: Device, x: Array) -> Array:
    """(N, C, ...) -> (N, ..., C), C-contiguous. A view if x is in this order already, else a copy."""
    return device.xp.ascontiguousarray(device.xp.moveaxis(x, 1, -1))


def reshape(device: Device, x: Array, shape: tuple[int, ...]) -> Array:
    """x with another shape and its elements in row-major order: a view if possible. But a batch of vectors that becomes
    images is copied, so that the images are channels-last in memory, which the kernels prefer."""
    if x.ndim == 2 and len(shape) == 4 and x.shape[0] == shape[0] and shape[1] > 1 and x.dtype.kind == "f" and x.size:
        n, c, height, width = shape
        images = device.xp.ascontiguousarray(x.reshape(n, c, height * width).transpose(0, 2, 1))
        return images.reshape(n, height, width, c).transpose(0, 3, 1, 2)
    return x.reshape(shape)
