"""The optimisers' updates, in place, over a whole list of arrays in one task: each element is read and written once."""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types

from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel
from tinygan.kernels.cpu.runtime.shares import share
from tinygan.kernels.squares import MARGIN, largest_square

# A task is told the address of a table with a row (parameter, gradient, first slot, second slot, size) an array, the
# number of rows, the total number of elements, and the address of the settings (float64).
TABLE, ARRAYS, TOTAL, SETTINGS = range(4)
P, G, FIRST, SECOND, SIZE, COLUMNS = range(6)


def make_limited(real: Any) -> Any:
    """A function (number, most): the number, limited to [-most, most] if it is finite (see `squares`)."""
    largest = largest_square(str(real))

    @inline
    def limited(x: Any, most: Any) -> Any:
        low = most if x > most else x
        both = -most if low < -most else low
        return both if abs(x) <= real(largest) else x

    return limited


def make(rule: str, real: Any) -> int:
    """The address of the task for one rule: "adam", "rmsprop" or "sgd"."""
    pointer, integers, settings_of = pointer_to(real), pointer_to(types.int64), pointer_to(types.float64)
    largest = largest_square(str(real))
    limited = make_limited(real)

    def update_adam(p: Any, g: Any, m: Any, v: Any, s: Any) -> Any:
        rate, decay, decoupled = s[0], s[4], s[5] != 0
        beta1, beta2, eps = real(s[1]), real(s[2]), real(s[3])
        rest1, rest2 = real(1 - s[1]), real(np.sqrt(1 - s[2]))  # (its square at once might overflow)
        most = real(MARGIN * np.sqrt(largest) / np.sqrt(1 - s[2]))
        step, root = real(rate / s[6]), real(1 / np.sqrt(s[7]))
        keep = real(1 - rate * decay) if decoupled else real(1)
        added = real(0) if decoupled else real(decay)
        for i in range(p.size):
            gi = limited(g[i] + added * p[i], most)
            m[i] = beta1 * m[i] + rest1 * gi
            part = rest2 * gi
            square = beta2 * v[i] + part * part
            v[i] = real(largest) if square > real(largest) else square
            p[i] = keep * p[i] - step * m[i] / (np.sqrt(v[i]) * root + eps)

    def update_rmsprop(p: Any, g: Any, v: Any, unused: Any, s: Any) -> Any:
        rate, decay, rest, eps, added = real(s[0]), real(s[1]), real(np.sqrt(1 - s[1])), real(s[2]), real(s[3])
        most = real(MARGIN * np.sqrt(largest) / np.sqrt(1 - s[1]))
        for i in range(p.size):
            gi = limited(g[i] + added * p[i], most)
            part = rest * gi
            square = decay * v[i] + part * part
            v[i] = real(largest) if square > real(largest) else square
            p[i] -= rate * gi / (np.sqrt(v[i]) + eps)

    def update_sgd(p: Any, g: Any, v: Any, unused: Any, s: Any) -> Any:
        rate, momentum, nesterov, added = real(s[0]), real(s[1]), s[2] != 0, real(s[3])
        for i in range(p.size):
            gi = g[i] + added * p[i]
            v[i] = momentum * v[i] + gi
            p[i] -= rate * (gi + momentum * v[i] if nesterov else v[i])

    update = inline({"adam": update_adam, "rmsprop": update_rmsprop, "sgd": update_sgd}[rule])

    @kernel(f"{rule}-{real}")
    def step(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (4,))
        table = carray(integers(t[TABLE]), (t[ARRAYS], COLUMNS))
        settings = carray(settings_of(t[SETTINGS]), (8,))
        start, end = share(t[TOTAL], part, parts)
        offset = np.int64(0)
        for row in range(t[ARRAYS]):
            size = table[row, SIZE]
            low, high = max(start - offset, np.int64(0)), min(end - offset, size)
            if low < high:
                update(carray(pointer(table[row, P]), (size,))[low:high], carray(pointer(table[row, G]), (size,))[low:high],
                       carray(pointer(table[row, FIRST]), (size,))[low:high],
                       carray(pointer(table[row, SECOND]), (size,))[low:high], settings)
            offset += size

    return step


def make_adam_grad(real: Any) -> int:
    """The address of the task that `backends.cpu.adam_grad` describes: told the addresses of g, packed, gradient and out, N,
    and the address of the settings."""
    pointer, settings_of = pointer_to(real), pointer_to(types.float64)
    largest = largest_square(str(real))
    limited = make_limited(real)

    @kernel(str(real))
    def adam_grad(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (6,))
        n, s = t[4], carray(settings_of(t[5]), (8,))
        start, end = share(n, part, parts)
        g, packed, out = carray(pointer(t[0]), (3 * n,)), carray(pointer(t[1]), (3 * n,)), carray(pointer(t[3]), (4 * n,))
        gradient = carray(pointer(t[2]), (n,))[start:end]
        of_p, of_m, of_v = g[start:end], g[n + start:n + end], g[2 * n + start:2 * n + end]
        ms, vs = packed[n + start:n + end], packed[2 * n + start:2 * n + end]
        by_p, by_m = out[start:end], out[n + start:n + end]
        by_v, by_gradient = out[2 * n + start:2 * n + end], out[3 * n + start:3 * n + end]
        beta1, beta2, rest1, rest2 = real(s[1]), real(s[2]), real(1 - s[1]), real(1 - s[2])
        part_of, most = real(np.sqrt(1 - s[2])), real(MARGIN * np.sqrt(largest) / np.sqrt(1 - s[2]))
        rate, scale, eps = real(s[0] / s[6]), real(1 / np.sqrt(s[7])), real(s[3])
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
