"""Activations and their gradients on the device."""
from __future__ import annotations

from tinygan.kernels.activations import CODES
from tinygan.kernels.cuda.runtime.arrays import aligned, empty_like, is_dense
from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["activation", "activation_grad"]


def activation(device: Device, x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """The activation of that name; leaky_relu and elu use `slope`."""
    if not is_dense(x):
        x = device.xp.ascontiguousarray(x)
    y = out if out is not None and out.strides == x.strides else empty_like(device, x)
    device.each("activations", "activation", x.size, x, y, x.size, CODES[activation_name], float(slope), dtype=x.dtype)
    return _into(out, y)


def activation_grad(device: Device, g: Array, x: Array, activation_name: str, slope: float,
                    out: Array | None = None) -> Array:
    """g times the activation's slope. x: what backward keeps, the result of a fused activation or the input of any other."""
    return _times_slope(device, "activation_grad", g, x, activation_name, slope, out)


def activation_grad_from_result(device: Device, g: Array, y: Array, activation_name: str, slope: float) -> Array:
    """g times the activation's slope, computed from its result y. The error is as large as that of y, so a small slope is
    lost."""
    return _times_slope(device, "activation_grad_from_result", g, y, activation_name, slope, None)


def curvature_from_result(device: Device, y: Array, activation_name: str, slope: float) -> Array:
    """The activation's second derivative, computed from its result y, which is C-contiguous."""
    out = device.empty(y.shape, y.dtype)
    device.each("activations", "curvature", y.size, y, out, y.size, CODES[activation_name], float(slope), dtype=y.dtype)
    return out


def _times_slope(device: Device, kernel: str, g: Array, at: Array, activation_name: str, slope: float,
                 out: Array | None) -> Array:
    if not is_dense(at):
        at = device.xp.ascontiguousarray(at)
    g = aligned(device, g, at)
    found = out if out is not None and out.strides == at.strides else empty_like(device, at)
    device.each("activations", kernel, at.size, g, at, found, at.size, CODES[activation_name], float(slope), dtype=at.dtype)
    return _into(out, found)


def _into(out: Array | None, result: Array) -> Array:
    """The result. It is copied to `out` if that is another array."""
    if out is None or out is result:
        return result
    out[...] = result
    return out
