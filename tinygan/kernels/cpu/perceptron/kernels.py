"""A small multilayer perceptron in one pass, with its first and second derivatives. A few examples at a time go through all
layers, forward and backward, so that all their intermediate values stay in the caches of one core.

Let h_0 = x, a_l = h_{l-1} W_l^T + b_l and h_l = f_l(a_l) for l = 1 .. L, and let g be the gradient of h_L.

gradient   The gradient e_l of a_l is e_L = g f_L'(a_L) and e_l = (e_{l+1} W_{l+1}) f_l'(a_l). The gradient of W_l is
           e_l^T h_{l-1}, that of b_l is the sum of e_l over the examples, and that of x is e_1 W_1.
second     Given directions k of x, K of W and c of b, let S be the inner product of (k, K, c) with these gradients. S is
           <g, t_L>, where t_l is the derivative of h_l in this direction (Pearlmutter 1994, "Fast exact multiplication by
           the Hessian"): t_0 = k, u_l = t_{l-1} W_l^T + h_{l-1} K_l^T + c_l, t_l = u_l f_l'(a_l). So t_L is the gradient of
           S by g. The gradients of S by x, W and b follow from backpropagation through both h and t.

f' and f'' are computed from f(a), not from a. That needs neither exponentials nor more memory. But their absolute error is
as large as that of f(a): 6e-8 in float32, where slopes are at most 1 (for ELU both are alpha times as large). The slope of a
saturated unit, if it is below 6e-8, may come out as 0. The sums over a batch have rounding errors of that size anyway. The
op `dense` computes exact slopes.

All weights are in one array, layer after layer: first the weight (out, in) of a layer, then its bias. In scratch memory
EXAMPLES_AT_ONCE examples are stored side by side; missing examples are zeros, which add nothing. So all loops except those
over features consist of whole vectors, and the compiler knows how many. For the gradients of the weights each part of a task
keeps sums of its own, and the caller adds them up.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.cpu.perceptron.rows import EXAMPLES_AT_ONCE, activations, moves, sums_of_products
from tinygan.kernels.cpu.runtime.arguments import dtype_of, record_at, task
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline


class Perceptron(NamedTuple):
    """The arguments of the tasks. The address 0 means that a direction is zero, or that a result is not wanted."""

    x: int
    """Address of (examples, inputs)."""
    weights: int
    g: int
    """Address of (examples, outputs)."""
    x_direction: int
    direction: int
    """Address of the direction of the weights."""
    out: int
    """Address of the result of `forward`; in `second`, of the gradient by g."""
    out_x: int
    """Address of the gradient by x."""
    out_weights: int
    """Address of the gradients by the weights: `size` numbers for each part."""
    scratch: int
    """Address of the scratch memory of all parts."""
    scratch_bytes: int
    """Bytes of scratch memory for each part."""
    examples: int
    layers: int
    """Address of the records of the layers, an array of dtype LAYERS."""
    depth: int
    """The number of layers."""
    size: int
    """The number of weights, biases included."""
    widths: int
    """The number of outputs of all layers together."""
    widest: int
    """The largest number of inputs or outputs of any layer."""


class Layer(NamedTuple):
    """A dense layer and its activation."""

    inputs: int
    outputs: int
    activation: int
    offset: int
    """The index of its first weight."""
    slope: float


LAYERS = dtype_of(Layer)
"""The dtype of an array of layers."""


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    forward: int
    gradient: int
    second: int


def scratch_elements(inputs: int, widths: int, widest: int) -> int:
    """The elements of scratch memory that a part needs. widths, widest: as in `Perceptron`."""
    return EXAMPLES_AT_ONCE * (2 * inputs + 3 * widths + 4 * widest)


@cache
def _steps(real: Any) -> tuple[Any, Any, Any]:
    """Three functions for kernels.

    layer(t, index): the inputs, outputs, activation and slope of a layer, and the index of its first weight.
    share(t, part, parts): the examples of a part, (first, end). They are whole blocks of EXAMPLES_AT_ONCE.
    rise(t, all_h): the forward pass. `all_h` is the address of x; h_1 to h_L are written after it. Returns that of h_L.
    """
    pointer, layer_at = pointer_to(real), record_at(Layer)
    item, layer_bytes = real.bitwidth // 8, LAYERS.itemsize
    row_bytes = EXAMPLES_AT_ONCE * item
    combine, activate = sums_of_products(real)[0], activations(real)[0]

    @inline
    def layer(t: Any, index: Any) -> Any:
        found = layer_at(t.layers + index * layer_bytes)
        return found.inputs, found.outputs, found.activation, real(found.slope), found.offset

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        blocks = -(-t.examples // EXAMPLES_AT_ONCE)
        return blocks * part // parts * EXAMPLES_AT_ONCE, min(blocks * (part + 1) // parts * EXAMPLES_AT_ONCE, t.examples)

    @inline
    def rise(t: Any, all_h: Any) -> Any:
        before = all_h
        for index in range(t.depth):
            k, n, activation, slope, offset = layer(t, index)
            after, weights = before + k * row_bytes, t.weights + offset * item
            biases = carray(pointer(weights + n * k * item), (n,))
            for j in range(n):
                combine(after + j * row_bytes, False, biases[j], weights + j * k * item, item, before, k)
            activate(activation, after, n * EXAMPLES_AT_ONCE, slope)
            before = after
        return before

    return layer, share, rise


def _make_forward(real: Any) -> int:
    """The address of the task that computes h_L."""
    _, _, turn_in, turn_out = moves(real)
    layer, share, rise = _steps(real)

    @task(Perceptron, str(real))
    def forward(t: Any, part: Any, parts: Any) -> None:
        all_h = t.scratch + part * t.scratch_bytes
        inputs, outputs = layer(t, 0)[0], layer(t, t.depth - 1)[1]
        start, end = share(t, part, parts)
        for first in range(start, end, EXAMPLES_AT_ONCE):
            turn_in(t.x, first, end, inputs, all_h)
            turn_out(rise(t, all_h), first, end, outputs, t.out)

    return forward


def _make_gradient(real: Any) -> int:
    """The address of the task that computes the gradients by x and by the weights."""
    item = real.bitwidth // 8
    row_bytes = EXAMPLES_AT_ONCE * item
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
        for first in range(start, end, EXAMPLES_AT_ONCE):
            turn_in(t.x, first, end, inputs, all_h)
            after = rise(t, all_h)
            turn_in(t.g, first, end, outputs, e_at)
            for index in range(t.depth - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, sums = after - k * row_bytes, all_sums + offset * item
                descend(activation, e_at, after, n * EXAMPLES_AT_ONCE, slope)
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
    """A function for kernels, (t, all_h, all_t): the forward pass of the directions.

    `all_h` is the address of h_0 to h_L, `all_t` that of t_0 (if x has a direction). t_1 to t_L are written after t_0, and
    u_1 to u_L after t_L. Returns the addresses of h_L and t_L.
    """
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    row_bytes = EXAMPLES_AT_ONCE * item
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
            copy(moved_after + to_u, n * EXAMPLES_AT_ONCE, moved_after)
            descend(activation, moved_after, after, n * EXAMPLES_AT_ONCE, slope)
            before, moved = after, moved_after
        return before, moved

    return move


def _make_second(real: Any) -> int:
    """The address of the task that computes the gradients of S by g, by x and by the weights."""
    item = real.bitwidth // 8
    row_bytes = EXAMPLES_AT_ONCE * item
    combine, add_products, add_up = sums_of_products(real)
    fill, _, turn_in, turn_out = moves(real)
    _, descend, bend = activations(real)
    (layer, share, rise), move = _steps(real), _moving(real)

    @task(Perceptron, str(real))
    def second(t: Any, part: Any, parts: Any) -> None:
        inputs, outputs = layer(t, 0)[0], layer(t, t.depth - 1)[1]
        all_h = t.scratch + part * t.scratch_bytes
        all_t = all_h + (inputs + t.widths) * row_bytes
        to_u = t.widths * row_bytes  # the distance from t_l to u_l
        e_at = all_t + (inputs + 2 * t.widths) * row_bytes  # e: the gradients of t_l and u_l; d: those of h_l and a_l
        under_e = e_at + t.widest * row_bytes
        d_at, under_d = under_e + t.widest * row_bytes, under_e + 2 * t.widest * row_bytes
        all_sums = t.out_weights + part * t.size * item
        fill(all_sums, t.size, real(0))
        start, end = share(t, part, parts)
        for first in range(start, end, EXAMPLES_AT_ONCE):
            turn_in(t.x, first, end, inputs, all_h)
            if t.x_direction:
                turn_in(t.x_direction, first, end, inputs, all_t)
            rise(t, all_h)
            after, moved_after = move(t, all_h, all_t)
            turn_out(moved_after, first, end, outputs, t.out)
            turn_in(t.g, first, end, outputs, e_at)
            fill(d_at, outputs * EXAMPLES_AT_ONCE, real(0))
            for index in range(t.depth - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, moved, sums = after - k * row_bytes, moved_after - k * row_bytes, all_sums + offset * item
                descend(activation, d_at, after, n * EXAMPLES_AT_ONCE, slope)
                bend(activation, d_at, e_at, moved_after + to_u, after, n * EXAMPLES_AT_ONCE, slope)
                descend(activation, e_at, after, n * EXAMPLES_AT_ONCE, slope)
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
