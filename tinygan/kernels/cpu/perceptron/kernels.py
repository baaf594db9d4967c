"""A small multilayer perceptron in one pass, with its first and second derivatives: a few examples go through all layers,
forward and back, while what they leave on the way lies in a core's caches.

With h_0 = x, a_l = h_{l-1} W_l^T + b_l, h_l = f_l(a_l), and the gradient g of the last h:
    gradient   e_l = (e_{l+1} W_{l+1}) f_l'(a_l), from e_L = g f_L'(a_L) on; of W_l: e_l^T h_{l-1}, of b_l: the sums of e_l,
               of x: e_1 W_1
    second     for directions k of x and K, c of W and b, the gradients of S = the inner product of (k, K, c) with the above.
               S is <g, t_L>, where t is the derivative of h in that direction (Pearlmutter 1994, "Fast exact
               multiplication by the Hessian"): t_0 = k, u_l = t_{l-1} W_l^T + h_{l-1} K_l^T + c_l, t_l = u_l f_l'(a_l).
               So t_L is the gradient by g, and those by x, W and b come from going back through both h and t.
f' and f'' are computed from f(a), not from a: that takes neither exponentials nor more memory. So their absolute error is
that of f(a): in float32 6e-8, where a slope is 1 at most (for ELU both times alpha). A saturated unit's slope, below 6e-8,
may come out as 0. The sums over a batch have roundings of that size anyway. After `dense` the slopes are exact.
All weights lie in one array, layer after layer, each weight (out, in) before its bias. Neighbours in memory are examples,
always ROWS of them (behind the last one are zeros, which add nothing). So every loop but those over features is made of
whole vectors, and the compiler knows how many. Each part of a task keeps sums of its own for the gradients of the weights,
which the caller adds up.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.cpu.perceptron.rows import ROWS, activations, moves, sums_of_products
from tinygan.kernels.cpu.runtime.arguments import dtype_of, record_at, task
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline


class Perceptron(NamedTuple):
    """What the tasks are told. An address of 0: all zeros (of a direction), or not wanted (of a result)."""

    x: int
    """Address of (examples, inputs)."""
    weights: int
    g: int
    """Address of (examples, outputs)."""
    x_direction: int
    direction: int
    """That of the weights."""
    out: int
    """The result of `forward`; in `second` the gradient by g."""
    out_x: int
    """The gradient by x."""
    out_weights: int
    """The gradients by the weights: for each part, `size` numbers."""
    scratch: int
    """Address of the parts' memory."""
    scratch_bytes: int
    """Of each part."""
    examples: int
    layers: int
    """Address of the records (LAYERS)."""
    depth: int
    """How many layers."""
    size: int
    """How many weights."""
    widths: int
    """How many outputs all layers have."""
    widest: int
    """The most inputs or outputs that a layer has."""


class Layer(NamedTuple):
    """A dense layer and its activation."""

    inputs: int
    outputs: int
    activation: int
    offset: int
    """Where its weights begin."""
    slope: float


LAYERS = dtype_of(Layer)
"""The dtype of an array of layers."""


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    forward: int
    gradient: int
    second: int


def scratch_elements(inputs: int, widths: int, widest: int) -> int:
    """How much memory a part needs, for that many inputs, layers of those widths, in all and at most."""
    return ROWS * (2 * inputs + 3 * widths + 4 * widest)


@cache
def _steps(real: Any) -> tuple[Any, Any, Any]:
    """Three functions for kernels.

    layer(t, index): the layer's inputs, outputs, activation, slope and where its weights begin.
    share(t, part, parts): the first example of the part, and the first that is not: whole blocks.
    rise(t, all_h): forward. With x at `all_h`, h_1 to h_L behind it. Returns where h_L begins.
    """
    pointer, layer_at = pointer_to(real), record_at(Layer)
    item, layer_bytes = real.bitwidth // 8, LAYERS.itemsize
    row_bytes = ROWS * item
    combine, activate = sums_of_products(real)[0], activations(real)[0]

    @inline
    def layer(t: Any, index: Any) -> Any:
        found = layer_at(t.layers + index * layer_bytes)
        return found.inputs, found.outputs, found.activation, real(found.slope), found.offset

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        blocks = -(-t.examples // ROWS)
        return blocks * part // parts * ROWS, min(blocks * (part + 1) // parts * ROWS, t.examples)

    @inline
    def rise(t: Any, all_h: Any) -> Any:
        before = all_h
        for index in range(t.depth):
            k, n, activation, slope, offset = layer(t, index)
            after, weights = before + k * row_bytes, t.weights + offset * item
            biases = carray(pointer(weights + n * k * item), (n,))
            for j in range(n):
                combine(after + j * row_bytes, False, biases[j], weights + j * k * item, item, before, k)
            activate(activation, after, n * ROWS, slope)
            before = after
        return before

    return layer, share, rise


def _make_forward(real: Any) -> int:
    """The address of the task for the last h."""
    _, _, turn_in, turn_out = moves(real)
    layer, share, rise = _steps(real)

    @task(Perceptron, str(real))
    def forward(t: Any, part: Any, parts: Any) -> None:
        all_h = t.scratch + part * t.scratch_bytes
        inputs, outputs = layer(t, 0)[0], layer(t, t.depth - 1)[1]
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t.x, first, end, inputs, all_h)
            turn_out(rise(t, all_h), first, end, outputs, t.out)

    return forward


def _make_gradient(real: Any) -> int:
    """The address of the task for the gradients by x and by the weights."""
    item = real.bitwidth // 8
    row_bytes = ROWS * item
    combine, add_products, add_up = sums_of_products(real)
    fill, _, turn_in, turn_out = moves(real)
    _, descend, _ = activations(real)
    layer, share, rise = _steps(real)

    @task(Perceptron, str(real))
    def gradient(t: Any, part: Any, parts: Any) -> None:
        inputs, outputs = layer(t, 0)[0], layer(t, t.depth - 1)[1]
        all_h = t.scratch + part * t.scratch_bytes
        e_at = all_h + (inputs + t.widths) * row_bytes
        below_at = e_at + t.widest * row_bytes
        all_sums = t.out_weights + part * t.size * item
        if t.out_weights:
            fill(all_sums, t.size, real(0))
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t.x, first, end, inputs, all_h)
            after = rise(t, all_h)
            turn_in(t.g, first, end, outputs, e_at)
            for index in range(t.depth - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, sums = after - k * row_bytes, all_sums + offset * item
                descend(activation, e_at, after, n * ROWS, slope)
                if t.out_weights:
                    for j in range(n):
                        add_up(sums + (n * k + j) * item, e_at + j * row_bytes)
                        add_products(sums + j * k * item, e_at + j * row_bytes, before, k)
                if index or t.out_x:
                    for i in range(k):
                        column = t.weights + (offset + i) * item
                        combine(below_at + i * row_bytes, False, real(0), column, k * item, e_at, n)
                after, e_at, below_at = before, below_at, e_at
            if t.out_x:
                turn_out(e_at, first, end, inputs, t.out_x)

    return gradient


@cache
def _moving(real: Any) -> Any:
    """A function for kernels, (t, all_h, all_t): forward along the directions. With h_0 to h_L at `all_h` and t_0 at `all_t`
    (if x has a direction), t_1 to t_L behind it, and u_1 to u_L behind those. Returns where h_L and t_L begin."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    row_bytes = ROWS * item
    combine, (_, copy, _, _), (_, descend, _) = sums_of_products(real)[0], moves(real), activations(real)
    layer, _, _ = _steps(real)

    @inline
    def move(t: Any, all_h: Any, all_t: Any) -> Any:
        before, moved, to_u = all_h, all_t, t.widths * row_bytes
        for index in range(t.depth):
            k, n, activation, slope, offset = layer(t, index)
            after, moved_after = before + k * row_bytes, moved + k * row_bytes
            weights, turned = t.weights + offset * item, t.direction + offset * item
            moves = index + t.x_direction != 0
            for j in range(n):
                u = moved_after + to_u + j * row_bytes
                bias = carray(pointer(turned + (n * k + j) * item), (1,))[0] if t.direction else real(0)
                if moves:
                    combine(u, False, bias, weights + j * k * item, item, moved, k)
                if t.direction:
                    combine(u, moves, bias, turned + j * k * item, item, before, k)
            copy(moved_after + to_u, n * ROWS, moved_after)
            descend(activation, moved_after, after, n * ROWS, slope)
            before, moved = after, moved_after
        return before, moved

    return move


def _make_second(real: Any) -> int:
    """The address of the task for the gradients by g, by x and by the weights of S above."""
    item = real.bitwidth // 8
    row_bytes = ROWS * item
    combine, add_products, add_up = sums_of_products(real)
    fill, _, turn_in, turn_out = moves(real)
    _, descend, bend = activations(real)
    (layer, share, rise), move = _steps(real), _moving(real)

    @task(Perceptron, str(real))
    def second(t: Any, part: Any, parts: Any) -> None:
        inputs, outputs = layer(t, 0)[0], layer(t, t.depth - 1)[1]
        all_h = t.scratch + part * t.scratch_bytes
        all_t = all_h + (inputs + t.widths) * row_bytes
        to_u = t.widths * row_bytes  # from where t_l lies to where u_l lies
        e_at = all_t + (inputs + 2 * t.widths) * row_bytes  # the gradients of t, and of h
        under_e = e_at + t.widest * row_bytes
        d_at, under_d = under_e + t.widest * row_bytes, under_e + 2 * t.widest * row_bytes
        all_sums = t.out_weights + part * t.size * item
        fill(all_sums, t.size, real(0))
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t.x, first, end, inputs, all_h)
            if t.x_direction:
                turn_in(t.x_direction, first, end, inputs, all_t)
            rise(t, all_h)
            after, moved_after = move(t, all_h, all_t)
            turn_out(moved_after, first, end, outputs, t.out)
            turn_in(t.g, first, end, outputs, e_at)
            fill(d_at, outputs * ROWS, real(0))
            for index in range(t.depth - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, moved, sums = after - k * row_bytes, moved_after - k * row_bytes, all_sums + offset * item
                descend(activation, d_at, after, n * ROWS, slope)
                bend(activation, d_at, e_at, moved_after + to_u, after, n * ROWS, slope)
                descend(activation, e_at, after, n * ROWS, slope)
                for j in range(n):
                    add_up(sums + (n * k + j) * item, d_at + j * row_bytes)
                    add_products(sums + j * k * item, d_at + j * row_bytes, before, k)
                    if index or t.x_direction:
                        add_products(sums + j * k * item, e_at + j * row_bytes, moved, k)
                for i in range(k):
                    below, column = under_d + i * row_bytes, (offset + i) * item
                    combine(below, False, real(0), t.weights + column, k * item, d_at, n)
                    if t.direction:
                        combine(below, True, real(0), t.direction + column, k * item, e_at, n)
                    if index:
                        combine(under_e + i * row_bytes, False, real(0), t.weights + column, k * item, e_at, n)
                after, moved_after = before, moved
                e_at, under_e = under_e, e_at
                d_at, under_d = under_d, d_at
            turn_out(d_at, first, end, inputs, t.out_x)

    return second


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    return Tasks(_make_forward(real), _make_gradient(real), _make_second(real))
