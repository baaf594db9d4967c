"""Binary cross-entropy on the device."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cuda.reductions import column_totals
from tinygan.kernels.cuda.runtime.arrays import contiguous
from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["bce_with_logits", "bce_with_logits_curvature", "bce_with_logits_grad"]


def is_array(device: Device, x: Any) -> bool:
    """Whether x is an array of the device."""
    return isinstance(x, device.array_type)


def _targets(device: Device, targets: Any, logits: Array) -> tuple[Array | None, int, float]:
    """The targets as the kernels take them: (an array or None, its step from logit to logit, the number if None)."""
    if not is_array(device, targets):
        return None, 0, float(targets)
    if targets.dtype != logits.dtype:
        targets = targets.astype(logits.dtype)
    if targets.size == 1:
        return targets, 0, 0.0
    if targets.shape != logits.shape:
        targets = device.xp.broadcast_to(targets, logits.shape)
    return contiguous(device, targets), 1, 0.0


def bce_with_logits(device: Device, logits: Array, targets: Any) -> Array:
    """mean(softplus(logits) - targets * logits), as an array without axes."""
    logits = contiguous(device, logits)
    told = (logits, *_targets(device, targets, logits))
    return column_totals(device, "losses", "bce_with_logits", 1, (logits.size, 1), told, logits.dtype).reshape(())


def bce_with_logits_grad(device: Device, g: Any, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number, of Python or on the device."""
    logits = contiguous(device, logits)
    told = (logits, *_targets(device, targets, logits))
    out = device.empty(logits.shape, logits.dtype)
    device.each("losses", "bce_with_logits_grad", out.size, *_number(device, g), *told, out, out.size, dtype=out.dtype)
    return out


def bce_with_logits_curvature(device: Device, gg: Array, g: Any, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), where p = sigmoid(logits); g is one number, of Python or on the device."""
    logits, out = contiguous(device, logits), device.empty(logits.shape, logits.dtype)
    told = (contiguous(device, gg), *_number(device, g), logits)
    device.each("losses", "bce_with_logits_curvature", out.size, *told, out, out.size, dtype=out.dtype)
    return out


def _number(device: Device, g: Any) -> tuple[Any, float]:
    """One number as the kernels take it: (an array of the device or None, the number if None)."""
    return (g, 0.0) if is_array(device, g) else (None, float(g))
