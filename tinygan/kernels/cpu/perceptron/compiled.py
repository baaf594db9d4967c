"""The Python function that runs the compiled kernels of the perceptron."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import KNOWN_FROM_RESULT
from tinygan.kernels.cpu.perceptron.kernels import Layer, Perceptron, Tasks, make, scratch_elements
from tinygan.kernels.cpu.runtime.arguments import packer, records
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import Scratch, contiguous, empty

Array = np.ndarray[Any, Any]
_packed = packer(Perceptron)
SHARED_FROM_PRODUCTS = 200_000
"""How many products (examples times weights) a task must have for the workers to help. With fewer, waking them takes longer
than they save."""


class Plan(NamedTuple):
    """The sizes of a perceptron, derived from its layers."""

    layers: Array
    """The records that the kernels read."""
    layers_at: int
    """Where these lie."""
    size: int
    """The number of weights, biases included."""
    widths: int
    """The number of outputs of all layers together."""
    widest: int
    """The largest number of inputs or outputs of any layer."""
    scratch: int
    """The elements of scratch memory that a part needs."""


@cache
def _plan(layers: tuple[Any, ...]) -> Plan:
    rows, size = [], 0
    for layer in layers:
        rows.append(Layer(inputs=layer.inputs, outputs=layer.outputs, activation=KNOWN_FROM_RESULT[layer.activation],
                          offset=size, slope=layer.slope))
        size += layer.outputs * (layer.inputs + 1)
    outputs = [layer.outputs for layer in layers]
    widths, widest = sum(outputs), max(layers[0].inputs, *outputs)
    table = records(rows, Layer)
    return Plan(table, address(table), size, widths, widest, scratch_elements(layers[0].inputs, widths, widest))


@cache
def _tasks(dtype: Any) -> Tasks:
    return make(REALS[dtype])


def multilayer(task: str, x: Array, weights: Array, layers: tuple[Any, ...], outputs: bool, by: tuple[bool, bool],
               g: Array | None = None, directions: Array | None = None, along: tuple[bool, bool] = (False, False)) -> Array:
    """Run a task ("forward", "gradient" or "second") on x (N, in), the weights and g (N, out).

    directions: that of x and that of the weights, one after another; `along` says which of the two are given. The results
    are also one array: first, if `outputs`, an array with the size of the outputs; then the gradients by x and by the
    weights, as far as `by` asks for them.
    """
    examples, dtype, plan = len(x), x.dtype, _plan(layers)
    size = plan.size
    parts = 1 if examples * size < SHARED_FROM_PRODUCTS else pool.size
    x, weights, item = contiguous(x), contiguous(weights), dtype.itemsize
    x_direction = direction = 0
    if g is not None:
        g = contiguous(g)
    if directions is not None:
        directions = contiguous(directions)
        x_direction = address(directions) if along[0] else 0
        direction = address(directions) + along[0] * x.size * item if along[1] else 0
    first = examples * layers[-1].outputs if outputs else 0
    last = first + x.size if by[0] else first
    out = empty((last + size if by[1] else last,), dtype)
    partial = out[last:] if parts == 1 or not by[1] else empty((parts, size), dtype)
    start, scratch_bytes = address(out), plan.scratch * item
    with Scratch(parts * scratch_bytes) as (memory,):
        out_x, out_weights = start + first * item if by[0] else 0, address(partial) if by[1] else 0
        pool.run(getattr(_tasks(dtype), task), _packed(
            x=address(x), weights=address(weights), g=0 if g is None else address(g), x_direction=x_direction,
            direction=direction, out=start, out_x=out_x, out_weights=out_weights, scratch=memory,
            scratch_bytes=scratch_bytes, examples=examples, layers=plan.layers_at, depth=len(layers), size=size,
            widths=plan.widths, widest=plan.widest), parts)
    if by[1] and parts > 1:
        np.add.reduce(partial, 0, out=out[last:])
    return out
