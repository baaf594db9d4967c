"""The optimisers on the device: one launch for all the arrays of a dtype."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cuda.device import THREADS, Array, Device, HostValue
from tinygan.kernels.cuda.elementwise import aligned, is_dense

__all__ = ["adam", "rmsprop", "sgd"]

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
