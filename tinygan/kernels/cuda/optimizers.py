"""The optimisers on the device: one launch for all the arrays of a dtype."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels.cuda.runtime.arrays import aligned, is_dense
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device, HostValue
from tinygan.kernels.squares import largest_gradient, largest_square

__all__ = ["adam", "adam_grad", "rmsprop", "sgd"]

CHUNK = 2048  # as optimizers.cu has it


def _update(device: Device, rule: str, settings: HostValue, parameters: list[Array], gradients: list[Array],
            *slots: list[Array]) -> None:
    """Parameters and slots are dense, a parameter's slots in its own order."""
    fed = device.feed(settings)
    for dtype in {p.dtype for p in parameters}:
        rows = [i for i, p in enumerate(parameters) if p.dtype == dtype and p.size]
        if not rows:
            continue
        kept = []  # gradients that had to be laid out anew live until the launch
        table = np.zeros((len(rows), 5), np.uint64)
        for row, i in zip(table, rows, strict=True):
            p = parameters[i]
            gradient = aligned(device, gradients[i], p)
            kept.append(gradient)
            arrays = [p, gradient, *(slot[i] for slot in slots)]
            if not is_dense(p) or any(a.strides != p.strides for a in arrays):
                raise ValueError(f"{rule}: a parameter of shape {p.shape} and its slots should lie in one order")
            row[:len(arrays)] = [device.address(a) for a in arrays]
            row[4] = p.size
        chunks = np.array([(row, start) for row, i in enumerate(rows) for start in range(0, parameters[i].size, CHUNK)],
                          np.int32)
        device.launch("optimizers", rule, len(chunks), THREADS, device.feed(table), device.feed(chunks), fed, dtype=dtype)


def adam(device: Device, parameters: list[Array], gradients: list[Array], m: list[Array], v: list[Array],
         settings: Any) -> None:
    """settings: learning rate, beta1, beta2, eps, weight decay, decoupled, 1 - beta1^t, 1 - beta2^t."""
    _update(device, "adam", settings, parameters, gradients, m, v)


def rmsprop(device: Device, parameters: list[Array], gradients: list[Array], square: list[Array], settings: Any) -> None:
    """settings: learning rate, decay, eps, weight decay."""
    _update(device, "rmsprop", settings, parameters, gradients, square)


def sgd(device: Device, parameters: list[Array], gradients: list[Array], velocity: list[Array], settings: Any) -> None:
    """settings: learning rate, momentum, nesterov, weight decay."""
    _update(device, "sgd", settings, parameters, gradients, velocity)


def adam_grad(device: Device, g: Array, packed: Array, gradient: Array, settings: Any) -> Array:
    """The derivative of `adam` without weight decay. From the gradient g (3, N) of what it makes of parameter, m and v,
    which are packed (3, N): those of packed, and behind them that of gradient (N,): (4, N). 0 through the root of v = 0."""
    xp, kind = device.xp, packed.dtype.type

    def factors() -> Any:
        rate, beta1, beta2, eps, _, _, correction1, correction2 = settings() if callable(settings) else settings
        return np.array([rate / correction1, 1 / math.sqrt(correction2), eps, beta1, 1 - beta1, beta2, math.sqrt(1 - beta2),
                         2 * (1 - beta2), largest_gradient(packed.dtype, 1 - beta2)], packed.dtype)

    fed = device.feed(factors)
    rate, scale, eps, beta1, rest1, beta2, part, twice, most = (fed[i] for i in range(9))
    inside = xp.abs(gradient) <= most
    gradient = xp.where(inside, gradient, xp.where(xp.isfinite(gradient), xp.sign(gradient) * most, gradient))
    by_p, by_m, by_v = g
    m = packed[1] * beta1 + gradient * rest1
    square = packed[2] * beta2 + xp.square(gradient * part)
    largest = kind(largest_square(packed.dtype))
    root = xp.sqrt(xp.where(square > largest, largest, square))
    moves = (square > 0) & (square <= largest)
    below = root * scale + eps
    step, ratio = by_p * rate / below, m / below * scale
    half = xp.where(moves, kind(0.5) / xp.where(root, root, kind(1)), kind(0))
    by_v = xp.where(square > largest, kind(0), by_v)
    by_m = by_m - step
    by_gradient = by_m * rest1 + (by_v * gradient + step * ratio * (gradient * half)) * twice
    return xp.stack([by_p, by_m * beta1, (by_v + step * ratio * half) * beta2, xp.where(inside, by_gradient, kind(0))])
