"""The updates of the optimisers on the device. One launch updates all arrays of a dtype."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels.cuda.runtime.arrays import aligned, is_dense
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device
from tinygan.kernels.optimizer_settings import SETTINGS, AdamSettings, HostSettings, as_array, struct_members
from tinygan.kernels.squares import MARGIN, largest_gradient, largest_square

__all__ = ["adam", "adam_grad", "rmsprop", "sgd"]

CHUNK = 2048  # how many elements a block updates


def defines() -> tuple[str, ...]:
    """The macros for optimizers.cu: the names of the settings, and the constants that Python and CUDA share."""
    return (*map(struct_members, SETTINGS), f"CHUNK={CHUNK}", f"MARGIN={MARGIN}")


DEFINES = defines()


def _update(device: Device, rule: str, settings: HostSettings, parameters: list[Array], gradients: list[Array],
            *slots: list[Array]) -> None:
    """Run the kernel of a rule. Each parameter and its slots (arrays of state) are dense, with elements in the same order.
    Raises ValueError otherwise."""
    fed = device.feed(lambda: as_array(settings))
    for dtype in {p.dtype for p in parameters}:
        rows = [i for i, p in enumerate(parameters) if p.dtype == dtype and p.size]
        if not rows:
            continue
        kept = []  # keeps copies of gradients alive until the launch
        table = np.zeros((len(rows), 5), np.uint64)
        for row, i in zip(table, rows, strict=True):
            p = parameters[i]
            gradient = aligned(device, gradients[i], p)
            kept.append(gradient)
            arrays = [p, gradient, *(slot[i] for slot in slots)]
            if not is_dense(p) or any(a.strides != p.strides for a in arrays):
                raise ValueError(f"{rule}: a parameter of shape {p.shape} and its slots differ in memory order or have "
                                 "gaps; expected dense arrays in one order")
            row[:len(arrays)] = [device.address(a) for a in arrays]
            row[4] = p.size
        chunks = np.array([(row, start) for row, i in enumerate(rows) for start in range(0, parameters[i].size, CHUNK)],
                          np.int32)
        device.launch("optimizers", rule, len(chunks), THREADS, device.feed(table), device.feed(chunks), fed, dtype=dtype,
                      defines=DEFINES)


def adam(device: Device, parameters: list[Array], gradients: list[Array], m: list[Array], v: list[Array],
         settings: HostSettings) -> None:
    """`rules.adam` in place. settings: `AdamSettings`."""
    _update(device, "adam", settings, parameters, gradients, m, v)


def rmsprop(device: Device, parameters: list[Array], gradients: list[Array], square: list[Array],
            settings: HostSettings) -> None:
    """`rules.rmsprop` in place. settings: `RMSPropSettings`."""
    _update(device, "rmsprop", settings, parameters, gradients, square)


def sgd(device: Device, parameters: list[Array], gradients: list[Array], velocity: list[Array],
        settings: HostSettings) -> None:
    """`rules.sgd` in place. settings: `SGDSettings`."""
    _update(device, "sgd", settings, parameters, gradients, velocity)


def adam_grad(device: Device, g: Array, packed: Array, gradient: Array, settings: HostSettings) -> Array:
    """The gradients of one `adam` update without weight decay.

    packed (3, N): the parameters, m and v before the update. gradient (N,): the gradient that the update used. g (3, N): the
    gradients of the parameters, m and v after the update. Returns (4, N): the gradients of `packed` and of `gradient`. The
    derivative of the square root of v is taken as 0 where v is 0.
    """
    xp, kind = device.xp, packed.dtype.type

    def factors() -> Any:
        s = AdamSettings(*as_array(settings))
        most = largest_gradient(packed.dtype, 1 - s.beta2)
        return np.array([s.learning_rate / s.correction1, 1 / math.sqrt(s.correction2), s.eps, s.beta1, 1 - s.beta1, s.beta2,
                         math.sqrt(1 - s.beta2), 2 * (1 - s.beta2), most], packed.dtype)

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
