"""The compiled loops of binary cross-entropy. A batch has few logits, so each loop runs in one part."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.cpu.activations.functions import function
from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import contiguous, empty, kept, of_dtype

Array = np.ndarray[Any, Any]


class Logits(NamedTuple):
    """The arguments of the tasks."""

    logits: int
    """Address of `size` numbers."""
    others: int
    """Address of the targets. For `curvature`: of gg, the gradient of the gradient."""
    g: int
    """Address of one number. For `loss`: 0."""
    out: int
    """Address of the result. The result of `loss` is one float64."""
    size: int


_packed = packer(Logits)


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    loss: int
    gradient: int
    curvature: int


def _make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    pointer, double = pointer_to(real), pointer_to(types.float64)
    decay, log1p, sigmoid_slope = function("decay", real), function("log1p", real), function("sigmoid_slope", real)

    @task(Logits, str(real))
    def loss(t: Any, part: Any, parts: Any) -> None:
        logits, targets = carray(pointer(t.logits), (t.size,)), carray(pointer(t.others), (t.size,))
        total, tails = 0.0, 0.0  # two sums, so that large logits do not swallow small losses
        for i in range(logits.size):
            size = abs(logits[i])
            factor = targets[i] if logits[i] < 0 else real(1) - targets[i]
            total += np.float64(factor * size if factor != 0 else real(0))  # (0 times infinity must be 0 here)
            tails += np.float64(log1p(decay(size)))
        carray(double(t.out), (1,))[0] = (total + tails) / logits.size

    @task(Logits, str(real))
    def gradient(t: Any, part: Any, parts: Any) -> None:
        logits, targets = carray(pointer(t.logits), (t.size,)), carray(pointer(t.others), (t.size,))
        out = carray(pointer(t.out), (t.size,))
        scale = carray(pointer(t.g), (1,))[0] / real(t.size)
        one = real(1)
        for i in range(out.size):  # (1 - target) sigmoid(x) - target sigmoid(-x): exact also if it is nearly 0
            tail = decay(abs(logits[i]))
            above, below = (tail if logits[i] < 0 else one), (one if logits[i] < 0 else tail)
            out[i] = ((one - targets[i]) * above - targets[i] * below) / (one + tail) * scale

    @task(Logits, str(real))
    def curvature(t: Any, part: Any, parts: Any) -> None:
        logits, gg = carray(pointer(t.logits), (t.size,)), carray(pointer(t.others), (t.size,))
        out = carray(pointer(t.out), (t.size,))
        scale = carray(pointer(t.g), (1,))[0] / real(t.size)
        for i in range(out.size):
            out[i] = gg[i] * scale * sigmoid_slope(logits[i])

    return Tasks(loss, gradient, curvature)


@cache
def _tasks(dtype: Any) -> Tasks:
    return _make(REALS[dtype])


def _filled(targets: Any, logits: Array) -> Array:
    """The targets as an array with the shape and dtype of the logits."""
    if isinstance(targets, np.ndarray) and targets.shape == logits.shape:
        return contiguous(of_dtype(targets, logits.dtype))
    filled = empty(logits.shape, logits.dtype)
    filled[...] = targets
    return filled


def bce_with_logits(logits: Array, targets: Any) -> Any:
    """mean(softplus(logits) - targets * logits), for an array of targets or one number."""
    logits, mean = contiguous(logits), empty((1,), np.float64)
    targets = _filled(targets, logits)
    pool.run(_tasks(logits.dtype).loss, _packed(
        logits=address(logits), others=address(targets), g=0, out=address(mean), size=logits.size))
    return mean[0].astype(logits.dtype)


def bce_with_logits_grad(g: Array, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number."""
    return _elementwise(_tasks(logits.dtype).gradient, g, logits, _filled(targets, logits))


def bce_with_logits_curvature(gg: Array, g: Array, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), where p = sigmoid(logits); g is one number."""
    return _elementwise(_tasks(logits.dtype).curvature, g, logits, contiguous(gg))


def _elementwise(kernel: int, g: Array, logits: Array, others: Array) -> Array:
    logits, out, g = contiguous(logits), empty(logits.shape, logits.dtype), kept(of_dtype(g, logits.dtype))
    pool.run(kernel, _packed(
        logits=address(logits), others=address(others), g=address(g), out=address(out), size=logits.size))
    return out
