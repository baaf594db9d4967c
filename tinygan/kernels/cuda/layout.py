"""How images lie in the device's memory: row-major (N, C, H, W), as the user's arrays do, or channels-last (N, H, W, C), as
the kernels want them."""
from __future__ import annotations

from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["channels_last", "reshape"]


def channels_last(device: Device, x: Array) -> Array:
    """(N, C, ...) -> (N, ..., C), C-contiguous: a view if x lies channels-last."""
    return device.xp.ascontiguousarray(device.xp.moveaxis(x, 1, -1))


def reshape(device: Device, x: Array, shape: tuple[int, ...]) -> Array:
    """The elements in row-major order under another shape: a view if possible. A batch of vectors that becomes images is
    copied, so that the images lie channels-last, as the kernels want them."""
    if x.ndim == 2 and len(shape) == 4 and x.shape[0] == shape[0] and shape[1] > 1 and x.dtype.kind == "f" and x.size:
        n, c, height, width = shape
        images = device.xp.ascontiguousarray(x.reshape(n, c, height * width).transpose(0, 2, 1))
        return images.reshape(n, height, width, c).transpose(0, 3, 1, 2)
    return x.reshape(shape)
