"""An ONNX model of what a network computes. The nodes of each op are in `onnx_ops`."""
from __future__ import annotations

__all__ = ["OPSET", "Graph", "onnx_model"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygan.errors import installing
from tinygan.exporting.tracing import Batch, Size, Step, Trace, Value, flat, needed, trace, values_in

OPSET = 18
"""The version of ONNX's operators. onnxruntime has it since 1.14, of 2023."""
_IR_VERSION = 8  # the version of the file format that belongs to this opset


def onnx_model(caller: str, network: Callable[..., Any], examples: Sequence[Any], input_names: Sequence[str] | None,
               output_names: Sequence[str] | None, notes: Mapping[str, str]) -> Any:
    """The model as an `onnx.ModelProto` (see `saving.export_onnx`). caller: for error messages."""
    onnx = imported(caller)
    inputs = _names(caller, "input", input_names, len(examples))
    traced = trace(caller, network, examples, inputs)
    results = list(values_in(traced.result))
    outputs = _names(caller, "output", output_names, len(results))
    if not results:
        raise ValueError(f"{caller}: the network should return a Tensor, or a tuple, list or dict of Tensors")
    if set(inputs) & set(outputs):
        raise ValueError(f"{caller}: an input and an output have the same name, {sorted(set(inputs) & set(outputs))[0]!r}")
    graph = Graph(caller, traced, outputs)
    for step in needed([step for step in flat(traced.body) if step.out.varies], traced.result):
        graph.step(step)
    for name, value in zip(outputs, results, strict=True):
        graph.add("Identity", graph.of(value), out=name)
    given = [graph.described(name, value) for name, value in zip(inputs, traced.inputs, strict=True)]
    results = [graph.described(name, value) for name, value in zip(outputs, results, strict=True)]
    made = onnx.helper.make_graph(graph.nodes, type(network).__name__, given, results, graph.constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION,
                                   producer_name="tinygan")
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    return model


def imported(caller: str) -> Any:
    """The package onnx, or an ImportError that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"{caller}: needs the package onnx: {installing('onnx')}") from error
    return onnx


def _names(caller: str, what: str, given: Sequence[str] | None, count: int) -> list[str]:
    names = list(given or ([what] if count == 1 else [f"{what}_{i}" for i in range(count)]))
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{caller}: {what}_names should be {count} different names, got {names}")
    return names


class Graph:
    """The nodes and constants of a model that is being written. Arrays are known by their names in it."""

    def __init__(self, caller: str, traced: Trace, reserved: Sequence[str]) -> None:
        self.caller = caller
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._helper = imported(caller).helper
        self._to_constant = imported(caller).numpy_helper.from_array
        self._taken = set(reserved)
        self._names = {id(value): self._free(value.name) for value in traced.inputs}
        self._same: dict[Any, str] = {}  # small constants
        self._batch = ""
        self._first = traced.inputs[0]

    def step(self, step: Step) -> None:
        """Add the nodes of an op."""
        from tinygan.exporting.onnx_ops import rule_of

        names = [self._as(x, dtype, step) for x, dtype in zip(step.inputs, step.dtypes, strict=True)]
        self._names[id(step.out)] = rule_of(self.caller, step.op)(self, step, *names)

    def _as(self, x: Any, dtype: Any, step: Step) -> str:
        """The name of an op's input, in the precision in which the op took it."""
        if isinstance(x, Value):
            return self.cast(self.of(x), dtype) if x.dtype != dtype else self.of(x)
        return self.constant(np.array(x, next((d for d in step.dtypes if d is not None), step.out.dtype)))

    def of(self, value: Value) -> str:
        """The name of a Value. One that was not computed from the inputs is a constant."""
        if id(value) not in self._names:
            self._names[id(value)] = self.constant(value.numpy(), value.name)
        return self._names[id(value)]

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node. Returns the name of its result: `out`, or a new name."""
        return self._node(kind, inputs, [out or self._free(kind.lower())], attributes)[0]

    def add_several(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """As `add`, for a node with so many results."""
        return self._node(kind, inputs, [self._free(kind.lower()) for _ in range(count)], attributes)

    def _node(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: Mapping[str, Any]) -> list[str]:
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(self._helper.make_node(kind, list(inputs), outputs, **given))
        return outputs

    def constant(self, array: Any, name: str = "") -> str:
        """The name of a constant. name: the name that it gets, if it is free."""
        array = np.asarray(array)
        key = None if name or array.size > 64 else (array.dtype.str, array.shape, array.tobytes())
        if key not in self._same or key is None:
            free = self._free(name or "constant")
            self.constants.append(self._to_constant(np.ascontiguousarray(array).reshape(array.shape), free))
            if key is None:
                return free
            self._same[key] = free
        return self._same[key]

    def integers(self, *numbers: int) -> str:
        """The name of a constant (n,), which ONNX takes in place of sizes, axes and places."""
        return self.constant(np.array(numbers, np.int64))

    def cast(self, name: str, dtype: Any) -> str:
        return self.add("Cast", name, to=self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def sizes(self, shape: Sequence[Size], one_open: bool = False) -> str:
        """The name of a shape. one_open: a single size that depends on the batch may be -1, as Reshape takes it."""
        if one_open and 0 not in shape and sum(isinstance(size, Batch) for size in shape) == 1:
            shape = [-1 if isinstance(size, Batch) else size for size in shape]
        if not any(isinstance(size, Batch) for size in shape):
            return self.integers(*[int(size) for size in shape])  # type: ignore[arg-type]
        if not self._batch:
            whole = self.add("Shape", self.of(self._first), start=0, end=1)
            self._batch = whole
        parts = []
        for size in shape:
            if isinstance(size, Batch):
                part = self.add("Mul", self._batch, self.integers(size.multiple.numerator))
                parts.append(self.add("Div", part, self.integers(size.multiple.denominator)))
            else:
                parts.append(self.integers(size))
        return self.add("Concat", *parts, axis=0)

    def described(self, name: str, value: Value) -> Any:
        """The type and shape of an input or output of the model."""
        def size(n: Size) -> Any:
            return n if isinstance(n, int) else "batch" if n.multiple == 1 else f"batch * {n.multiple}"

        kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return self._helper.make_tensor_value_info(name, kind, [size(n) for n in value.shape])

    def _free(self, name: str) -> str:
        free, i = name, 1
        while free in self._taken:
            free, i = f"{name}_{i}", i + 1
        self._taken.add(free)
        return free
