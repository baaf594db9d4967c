"""The updates of the optimisers, for a whole list of arrays in one task. Each element is read and written once.

All arithmetic is in the precision of the arrays. `optim.rules` states the rules as mathematics.
"""
from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.cpu.runtime.arguments import Arguments, packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.feeding import fed
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.shares import share
from tinygan.kernels.cpu.runtime.workspace import contiguous, empty, kept
from tinygan.kernels.optimizer_settings import HostSettings, fields
from tinygan.kernels.squares import MARGIN, largest_square

Array = np.ndarray[Any, Any]

PARAMETER, GRADIENT, FIRST, SECOND, SIZE, COLUMNS = range(6)
"""The columns of a task's table. A row describes one parameter: the addresses of the parameter, of its gradient and of its
two slots (arrays of state), and their size."""


def step(rule: str, settings: HostSettings, parameters: list[Array], gradients: list[Array], *slots: list[Array]) -> None:
    """Update parameters and slots (the optimiser's state) in place. All are C-contiguous. One task updates all arrays of a
    dtype."""
    gradients = [contiguous(g) for g in gradients]
    arrays = list(zip(parameters, gradients, slots[0], slots[-1], strict=True))  # a single slot fills both columns
    for dtype in {p.dtype for p in parameters}:
        table = kept(np.array([[address(p), address(g), address(a), address(b), p.size] for p, g, a, b in arrays
                               if p.dtype == dtype], np.int64))
        elements = sum([p.size for p in parameters if p.dtype == dtype])
        pack = partial(packer(arguments_of_step(rule)), address(table), len(table), elements)
        pool.run(compile_step(rule, dtype), fed(settings, pack), pool.parts(elements))


def adam_grad(g: Array, packed: Array, gradient: Array, settings: HostSettings) -> Array:
    """See `adam_grad` in `__init__.py`."""
    g, packed, gradient = contiguous(g), contiguous(packed), contiguous(gradient)
    out = empty((4, *packed.shape[1:]), packed.dtype)
    pack = partial(packer(arguments_of_adam_grad()), address(g), address(packed), address(gradient), address(out),
                   gradient.size)
    pool.run(_adam_grad(packed.dtype), fed(settings, pack), pool.parts(gradient.size))
    return out


@cache
def arguments_of_step(rule: str) -> type[Arguments]:
    """The arguments of a rule's task: the address of the table, its number of rows, the number of elements in all arrays,
    and the settings of the rule."""
    return _arguments(rule, "table", "rows", "elements")


@cache
def arguments_of_adam_grad() -> type[Arguments]:
    """The arguments of the task `adam_grad`: the addresses of its arrays, N, and the settings of Adam."""
    return _arguments("adam", "g", "packed", "gradient", "out", "elements")


def _arguments(rule: str, *integers: str) -> type[Arguments]:
    """A NamedTuple class with these whole numbers and the settings of a rule as fields."""
    members = [*((integer, int) for integer in integers), *((field, float) for field in fields(rule))]
    arguments: Any = NamedTuple("Arguments", members)  # type: ignore[misc]  # mypy cannot know the fields
    return arguments


@cache
def compile_step(rule: str, dtype: Any) -> int:
    """The address of a rule's task, which is compiled or loaded at its first use."""
    return make(rule, REALS[dtype])


@cache
def _adam_grad(dtype: Any) -> int:
    return make_adam_grad(REALS[dtype])


def make_limited(real: Any) -> Any:
    """A function for kernels, (x, most): a finite x limited to [-most, most]; an infinite or NaN x unchanged (see
    `squares`)."""
    largest = largest_square(str(real))

    @inline
    def limited(x: Any, most: Any) -> Any:
        low = most if x > most else x
        both = -most if low < -most else low
        return both if abs(x) <= real(largest) else x

    return limited


def make(rule: str, real: Any) -> int:
    """The address of a rule's task. rule: "adam", "rmsprop" or "sgd"."""
    arguments, pointer, integers = arguments_of_step(rule), pointer_to(real), pointer_to(types.int64)
    largest = largest_square(str(real))
    limited = make_limited(real)

    def adam(p: Any, g: Any, m: Any, v: Any, s: Any) -> Any:
        decoupled = s.decoupled != 0
        beta1, beta2, eps = real(s.beta1), real(s.beta2), real(s.eps)
        rest1, rest2 = real(1 - s.beta1), real(np.sqrt(1 - s.beta2))  # (rest2 * g is squared: g * g might overflow)
        most = real(MARGIN * np.sqrt(largest) / np.sqrt(1 - s.beta2))
        rate, root = real(s.learning_rate / s.correction1), real(1 / np.sqrt(s.correction2))
        keep = real(1 - s.learning_rate * s.weight_decay) if decoupled else real(1)
        added = real(0) if decoupled else real(s.weight_decay)
        for i in range(p.size):
            gi = limited(g[i] + added * p[i], most)
            m[i] = beta1 * m[i] + rest1 * gi
            part = rest2 * gi
            square = beta2 * v[i] + part * part
            v[i] = real(largest) if square > real(largest) else square
            p[i] = keep * p[i] - rate * m[i] / (np.sqrt(v[i]) * root + eps)

    def rmsprop(p: Any, g: Any, v: Any, unused: Any, s: Any) -> Any:
        rate, decay, eps, added = real(s.learning_rate), real(s.decay), real(s.eps), real(s.weight_decay)
        rest, most = real(np.sqrt(1 - s.decay)), real(MARGIN * np.sqrt(largest) / np.sqrt(1 - s.decay))
        for i in range(p.size):
            gi = limited(g[i] + added * p[i], most)
            part = rest * gi
            square = decay * v[i] + part * part
            v[i] = real(largest) if square > real(largest) else square
            p[i] -= rate * gi / (np.sqrt(v[i]) + eps)

    def sgd(p: Any, g: Any, v: Any, unused: Any, s: Any) -> Any:
        rate, momentum, nesterov = real(s.learning_rate), real(s.momentum), s.nesterov != 0
        added = real(s.weight_decay)
        for i in range(p.size):
            gi = g[i] + added * p[i]
            v[i] = momentum * v[i] + gi
            p[i] -= rate * (gi + momentum * v[i] if nesterov else v[i])

    update = inline({"adam": adam, "rmsprop": rmsprop, "sgd": sgd}[rule])

    @task(arguments, f"{rule}-{real}")
    def step(t: Any, part: Any, parts: Any) -> Any:
        table = carray(integers(t.table), (t.rows, COLUMNS))
        start, end = share(t.elements, part, parts)
        offset = np.int64(0)
        for row in range(t.rows):
            size = table[row, SIZE]
            low, high = max(start - offset, np.int64(0)), min(end - offset, size)
            if low < high:
                update(carray(pointer(table[row, PARAMETER]), (size,))[low:high],
                       carray(pointer(table[row, GRADIENT]), (size,))[low:high],
                       carray(pointer(table[row, FIRST]), (size,))[low:high],
                       carray(pointer(table[row, SECOND]), (size,))[low:high], t)
            offset += size

    return step


def make_adam_grad(real: Any) -> int:
    """The address of the task `adam_grad`."""
    pointer = pointer_to(real)
    largest = largest_square(str(real))
    limited = make_limited(real)

    @task(arguments_of_adam_grad(), str(real))
    def adam_grad(t: Any, part: Any, parts: Any) -> Any:
        n = t.elements
        start, end = share(n, part, parts)
        g, packed = carray(pointer(t.g), (3 * n,)), carray(pointer(t.packed), (3 * n,))
        out = carray(pointer(t.out), (4 * n,))
        gradient = carray(pointer(t.gradient), (n,))[start:end]
        of_p, of_m, of_v = g[start:end], g[n + start:n + end], g[2 * n + start:2 * n + end]
        ms, vs = packed[n + start:n + end], packed[2 * n + start:2 * n + end]
        by_p, by_m = out[start:end], out[n + start:n + end]
        by_v, by_gradient = out[2 * n + start:2 * n + end], out[3 * n + start:3 * n + end]
        beta1, beta2, rest1, rest2 = real(t.beta1), real(t.beta2), real(1 - t.beta1), real(1 - t.beta2)
        part_of, most = real(np.sqrt(1 - t.beta2)), real(MARGIN * np.sqrt(largest) / np.sqrt(1 - t.beta2))
        rate, scale, eps = real(t.learning_rate / t.correction1), real(1 / np.sqrt(t.correction2)), real(t.eps)
        for i in range(gradient.size):
            gi = limited(gradient[i], most)
            part = part_of * gi
            square = beta2 * vs[i] + part * part
            held = square > real(largest)
            m, root = beta1 * ms[i] + rest1 * gi, np.sqrt(real(largest) if held else square)
            below = real(1) / (root * scale + eps)
            half = real(0.5) / root if root > 0 and not held else real(0)
            ratio = m * below * scale
            step = of_p[i] * rate * below
            plain = real(0) if held else of_v[i]
            pulled = of_m[i] - step
            by_p[i], by_m[i], by_v[i] = of_p[i], pulled * beta1, (plain + step * ratio * half) * beta2
            bent = pulled * rest1 + (plain * gi + step * ratio * (gi * half)) * (2 * rest2)
            by_gradient[i] = real(0) if abs(gradient[i]) > most else bent

    return adam_grad


compile_step("adam", np.dtype(np.float32))  # every training needs it
