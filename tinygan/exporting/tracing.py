"""The ops that a network computes, and how its sizes depend on the batch.

`trace` runs the network twice, the second time on a batch of twice the size, and compares the two runs. A size that doubled
belongs to the batch. An array that no op computed is a constant, such as a weight; if it differs between the runs, NumPy
computed it from the inputs or it was drawn at random, and that is an error.
"""
from __future__ import annotations

__all__ = ["Batch", "Call", "Size", "Step", "Trace", "Value", "flat", "needed", "trace"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tinygan.backends import backend_of
from tinygan.context import no_grad, override
from tinygan.devices import moved
from tinygan.graph import Op
from tinygan.nn import Module, mode
from tinygan.tensor import Tensor, as_array
from tinygan.watching import Watcher, watching

SIZES = frozenset(("original", "shape", "sizes", "whole"))
"""Arguments of ops that repeat what the shapes of the inputs and of the result say. They may depend on the batch."""


class Batch(NamedTuple):
    """A size that depends on the batch: this many times the number of examples."""

    multiple: Fraction


Size = int | Batch


@dataclass(eq=False)
class Value:
    """An array of the computation. name: a parameter's or buffer's path, or the name of an input; "" for other arrays.
    varies: whether it depends on the inputs."""

    array: Any
    name: str = ""
    varies: bool = False
    shape: tuple[Size, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.array(backend_of(self.array).to_numpy(self.array), order="C")


@dataclass(eq=False)
class Step:
    """An op that ran. inputs: Values and numbers. dtypes: those that the op computed with, of the Values. static: the op's
    other arguments, with Values in place of arrays."""

    op: Op
    inputs: tuple[Any, ...]
    dtypes: tuple[Any, ...]
    static: dict[str, Any]
    out: Value

    def uses(self) -> Iterator[Value]:
        """All arrays that the op took."""
        yield from values_in((*self.inputs, *self.static.values()))


@dataclass(eq=False)
class Call:
    """A module that was called: the Values among its arguments, what ran inside, and what it returned."""

    module: Any
    inputs: tuple[Value, ...]
    body: list[Step | Call] = field(default_factory=list)
    result: Any = None

    def uses(self) -> Iterator[Value]:
        yield from self.inputs


@dataclass(eq=False)
class Trace:
    """A network's computation. result: what it returned, with Values in place of Tensors."""

    inputs: tuple[Value, ...]
    body: list[Step | Call]
    result: Any


def values_in(x: Any) -> Iterator[Value]:
    """The Values that x is, or holds in tuples, lists and dicts."""
    if isinstance(x, Value):
        yield x
    elif isinstance(x, tuple | list):
        for item in x:
            yield from values_in(item)
    elif isinstance(x, Mapping):
        yield from values_in(list(x.values()))


def flat(body: Sequence[Step | Call]) -> Iterator[Step]:
    """The ops in the order in which they ran, whatever module they were in."""
    for part in body:
        if isinstance(part, Step):
            yield part
        else:
            yield from flat(part.body)


def needed(steps: Sequence[Any], result: Any) -> list[Any]:
    """Those of the steps (or calls of modules) on which the result depends, in their order."""
    wanted = {id(value) for value in values_in(result)}
    kept = []
    for step in reversed(steps):
        if any(id(value) in wanted for value in values_in(step.out if isinstance(step, Step) else step.result)):
            kept.append(step)
            wanted.update(id(value) for value in step.uses())
    return kept[::-1]


def trace(caller: str, network: Callable[..., Any], examples: Sequence[Any], names: Sequence[str]) -> Trace:
    """What `network` computes for inputs like the examples: arrays or Tensors, whose first axis is the batch. A Module runs
    in evaluation mode. names: of the inputs. caller: for error messages.

    Raises ValueError if the computation is not the same for batches of two sizes."""
    arrays = [as_array(x) if hasattr(x, "dtype") else np.asarray(x, np.float32) for x in examples]
    sizes = {a.shape[0] if a.ndim else 0 for a in arrays}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"{caller}: the examples should have a common first axis, the batch, got shapes "
                         f"{', '.join(str(tuple(a.shape)) for a in arrays) or 'none'}")
    members: dict[str, Any] = {}
    if isinstance(network, Module):
        members = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    paths = {id(as_array(tensor)): path for path, tensor in members.items()}  # (this draws values that are not there yet)
    for tensor in members.values():
        arrays = [moved(a, backend_of(tensor.array)) for a in arrays]
    count, = sizes
    runs = []
    for given in (arrays, [_twice(a) for a in arrays]):
        recorder = _Recorder(paths)
        tensors = [Tensor(a) for a in given]
        inputs = tuple([recorder.input(t, name) for t, name in zip(tensors, names, strict=True)])
        evaluated = mode(network, training=False) if isinstance(network, Module) else nullcontext()
        with no_grad(), override(fusion=False), evaluated, watching(recorder):
            result = network(*tensors)
        runs.append(Trace(inputs, recorder.body, recorder.known(result)))
    _Comparison(caller, count).traces(*runs)
    return runs[0]


def _twice(a: Any) -> Any:
    """A batch of twice the size, with other values: so what was computed from them differs. (Whole numbers, such as labels,
    only change their order, because others might not be allowed.)"""
    halves = [a, a[::-1]]
    if a.dtype.kind == "f":
        scales = ((0.75, 0.0715), (0.5, 0.1935))  # (no usual number, such as 0 or 1, stays what it is)
        halves = [half * a.dtype.type(scale) + a.dtype.type(shift)
                  for half, (scale, shift) in zip(halves, scales, strict=True)]
    return backend_of(a).xp.concatenate(halves)


class _Recorder(Watcher):
    """Writes down the ops and the calls of modules."""

    def __init__(self, paths: Mapping[int, str]) -> None:
        self._paths = paths
        self._values: dict[int, Value] = {}  # by the id of the array, which the Value keeps alive
        self._alive: list[Any] = []
        self._open: list[list[Step | Call]] = [[]]
        self._calls: list[Call] = []

    @property
    def body(self) -> list[Step | Call]:
        return self._open[0]

    def input(self, tensor: Tensor, name: str) -> Value:
        return self._new(tensor.array, name, True)

    def _new(self, array: Any, name: str, varies: bool) -> Value:
        value = self._values[id(array)] = Value(array, name, varies)
        self._alive.append(array)
        return value

    def known(self, x: Any) -> Any:
        """x with Values in place of arrays and Tensors, also in tuples, lists and dicts."""
        if isinstance(x, tuple | list):
            items = [self.known(item) for item in x]
            return x._make(items) if hasattr(x, "_make") else type(x)(items)
        if isinstance(x, dict):
            return {key: self.known(item) for key, item in x.items()}
        array = as_array(x)
        if not (hasattr(array, "shape") and hasattr(array, "dtype")) or isinstance(array, np.generic | type):
            return array
        found = self._values.get(id(array))
        return found if found is not None else self._new(array, self._paths.get(id(array), ""), False)

    def computed(self, op: Op, out: Any, arrays: list[Any], inputs: Sequence[Any], static: dict[str, Any]) -> None:
        taken = self.known(tuple(inputs))
        options = {name: self.known(value) for name, value in static.items()}
        varies = any(value.varies for value in values_in((taken, list(options.values()))))
        dtypes = tuple([getattr(array, "dtype", None) for array in arrays])
        self._open[-1].append(Step(op, taken, dtypes, options, self._new(out, "", varies)))

    def entered(self, module: Any, inputs: Sequence[Any]) -> None:
        call = Call(module, tuple([x for x in self.known(tuple(inputs)) if isinstance(x, Value)]))
        self._open[-1].append(call)
        self._open.append(call.body)
        self._calls.append(call)

    def left(self, module: Any, result: Any) -> None:
        self._open.pop()
        self._calls.pop().result = self.known(result)


class _Comparison:
    """Compares two runs, of `count` and of 2 * count examples, and gives the first run's Values their shapes."""

    def __init__(self, caller: str, count: int) -> None:
        self._caller, self._count = caller, count
        self._pairs: dict[int, Value] = {}  # the second run's Values, by the id of the first run's
        self._kept: list[Value] = []

    def traces(self, first: Trace, second: Trace) -> None:
        for one, other in zip(first.inputs, second.inputs, strict=True):
            self._pair("the input", one, other)
        self._bodies(first.body, second.body)
        self._same("the result", first.result, second.result)

    def _bodies(self, first: list[Any], second: list[Any]) -> None:
        kinds = [[part.op.name if isinstance(part, Step) else type(part.module).__name__ for part in body]
                 for body in (first, second)]
        if kinds[0] != kinds[1]:
            ours, theirs = next(((a, b) for a, b in zip(*kinds, strict=False) if a != b), ("no more", "more"))
            raise ValueError(f"{self._caller}: the network should compute the same for batches of any size, but {ours} for "
                             f"{self._count} examples becomes {theirs} for {2 * self._count}")
        for one, other in zip(first, second, strict=True):
            if isinstance(one, Call):
                self._same(type(one.module).__name__, one.inputs, other.inputs)
                self._bodies(one.body, other.body)
                self._same(type(one.module).__name__, one.result, other.result)
            else:
                self._same(one.op.name, one.inputs, other.inputs)
                for name, value in one.static.items():
                    if name not in SIZES:
                        self._same(f"{one.op.name}: {name}", value, other.static[name])
                self._pair(one.op.name, one.out, other.out)

    def _same(self, where: str, one: Any, other: Any) -> None:
        if isinstance(one, Value) and isinstance(other, Value):
            if id(one) not in self._pairs:
                self._constant(where, one, other)
            elif self._pairs[id(one)] is not other:
                raise ValueError(f"{self._caller}: {where}: takes another array if the batch is larger")
        elif isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
            for a, b in zip(one, other, strict=True):
                self._same(where, a, b)
        elif isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
            self._same(where, list(one.values()), list(other.values()))
        elif one != other and not (one != one and other != other):
            raise ValueError(f"{self._caller}: {where}: {one!r} for {self._count} examples becomes {other!r} for "
                             f"{2 * self._count}: a number that depends on the batch cannot be exported; compute it with "
                             "tinygan's ops")

    def _constant(self, where: str, one: Value, other: Value) -> None:
        if one.array is not other.array and not (
                one.array.shape == other.array.shape and np.array_equal(one.numpy(), other.numpy(), one.dtype.kind == "f")):
            raise ValueError(f"{self._caller}: {where}: takes an array {tuple(one.array.shape)} that changes with the inputs"
                             " or with every call, but no op of tinygan computed it: compute it with tinygan's ops, or "
                             "give it as an input")
        self._pair(where, one, other)

    def _pair(self, where: str, one: Value, other: Value) -> None:
        self._pairs[id(one)] = other
        self._kept.append(one)
        if one.array.ndim != other.array.ndim:
            raise ValueError(f"{self._caller}: {where}: the result has {one.array.ndim} axes for {self._count} examples, "
                             f"and {other.array.ndim} for {2 * self._count}")
        one.shape = tuple([self._size(where, a, b) for a, b in zip(one.array.shape, other.array.shape, strict=True)])

    def _size(self, where: str, one: int, other: int) -> Size:
        if one == other:
            return one
        if other != 2 * one:
            raise ValueError(f"{self._caller}: {where}: an axis of {one} for {self._count} examples becomes {other} for "
                             f"{2 * self._count}: only sizes that do not change, or grow with the batch, can be exported")
        return Batch(Fraction(one, self._count))
