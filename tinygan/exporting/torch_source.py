"""A program that builds a network in PyTorch and loads its weights.

Layers that PyTorch has too are PyTorch's. A module of another class becomes a class: its layers and parameters have the
names that they have here, and its `forward` holds the ops that it was seen to compute.
"""
from __future__ import annotations

__all__ = ["torch_code"]

import inspect
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tinygan import nn
from tinygan.exporting.torch_layers import layer_source
from tinygan.exporting.torch_ops import expression
from tinygan.exporting.tracing import Batch, Call, Size, Step, Value, needed, trace, values_in
from tinygan.nn.module import members
from tinygan.parameters import Buffer, Parameter
from tinygan.tensor import as_array

_WIDTH = 110


def torch_code(network: nn.Module, *examples: Any, name: str = "network", file: str = "network.safetensors") -> str:
    """The text of a Python program that builds the network in PyTorch and loads its weights from `file`, which
    `save_weights(network, file)` has written.

    examples: an array or Tensor for each of the network's inputs; their first axis is the batch. name: the variable that
    holds the module. Raises ValueError for an op that has no counterpart in PyTorch here, and as `export_onnx` does for a
    network that does not compute the same for every batch."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"torch_code: expected a Module, got {type(network).__name__}")
    traced = trace("torch_code", network, examples, [f"input {i}" for i in range(len(examples))])
    writer = _Writer(traced.body)
    made = writer.layer(network)
    loading = f"{name}.load_state_dict(load_file({json.dumps(file)}))\n{name}.eval()\n"
    text = "\n\n".join([*writer.classes, f"{name} = {made}\n{loading}"])
    functional = "import torch.nn.functional as F\n" if "F." in text else ""
    return f"import torch\n{functional}from safetensors.torch import load_file\nfrom torch import nn\n\n\n{text}"


class _Writer:
    """Writes modules. classes: the texts of the classes so far."""

    def __init__(self, body: Sequence[Step | Call]) -> None:
        self.classes: list[str] = []
        self._names: dict[str, str] = {}  # of the classes, by their texts without the name
        self._calls: dict[int, Call] = {}  # the first call of each module, by its id
        self._note(body)

    def _note(self, body: Sequence[Step | Call]) -> None:
        for part in body:
            if isinstance(part, Call):
                self._calls.setdefault(id(part.module), part)
                self._note(part.body)

    def layer(self, module: nn.Module, axes: int = 2) -> str:
        """The expression that makes a module. axes: how many axes its input has, if it was not called."""
        call = self._calls.get(id(module))
        if call is not None and call.inputs:
            axes = len(call.inputs[0].shape)
        source = layer_source(module, axes)
        if source is not None:
            return source
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            return self._sequential(module, axes)
        return f"{self._class_of(module)}()"

    def _sequential(self, module: nn.Sequential, axes: int) -> str:
        layers = []
        for layer in module:
            layers.append(self.layer(layer, axes))
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Parameter) and len(weight.shape) >= 2:
                axes = len(weight.shape)  # (a guess for the next layer, if the network does not call it)
        return _joined("nn.Sequential(", layers, ")")

    def _class_of(self, module: nn.Module) -> str:
        """The name of the class of a module that PyTorch does not have."""
        kind = type(module)
        if id(module) not in self._calls:
            raise ValueError(f"torch_code: the network does not call its {kind.__name__}, so what that computes is not "
                             "known")
        if kind.named_children is not nn.Module.named_children:
            raise ValueError(f"torch_code: {kind.__name__} names its layers in its own way, which PyTorch cannot repeat")
        made = [line for name, value in vars(module).items() if any(True for _ in members(name, value))
                for line in self._attribute(name, value)]
        text = ("    def __init__(self):\n        super().__init__()\n" + textwrap.indent("\n".join(made), " " * 8) + "\n\n"
                if made else "") + self._forward(module, self._calls[id(module)])
        if text not in self._names:
            same = [name for name in self._names.values() if kind.__name__ in (name, name.rpartition("_")[0])]
            self._names[text] = kind.__name__ + (f"_{len(same) + 1}" if same else "")
            self.classes.append(f"class {self._names[text]}(nn.Module):\n{text}")
        return self._names[text]

    def _attribute(self, name: str, value: Any) -> list[str]:
        if isinstance(value, Buffer):
            return [f"self.register_buffer({name!r}, {_empty(value)})"]
        return [f"self.{name} = {self._member(name, value)}"]

    def _member(self, name: str, value: Any) -> str:
        if isinstance(value, nn.Module):
            return self.layer(value)
        if isinstance(value, Parameter):
            return f"nn.Parameter({_empty(value)})"
        items = list(value.values()) if isinstance(value, Mapping) else list(value)
        kinds = {"Parameter" if isinstance(item, Parameter) else "" if isinstance(item, Buffer) else "Module"
                 for item in items}
        if len(kinds) != 1 or "" in kinds or (kinds == {"Parameter"} and isinstance(value, Mapping)):
            raise ValueError(f"torch_code: {name}: a list or dict should hold modules only, or a list parameters only")
        kind, = kinds
        if isinstance(value, Mapping):
            entries = [f"{str(key)!r}: {self._member(name, item)}" for key, item in value.items()]
            return _joined("nn.ModuleDict({", entries, "})")
        return _joined(f"nn.{kind}List([", [self._member(name, item) for item in items], "])")

    # -- forward ---------------------------------------------------------------------------------------------------------

    def _forward(self, module: nn.Module, call: Call) -> str:
        arguments = list(inspect.signature(module.forward).parameters)[:len(call.inputs)]
        scope = _Scope(module, arguments, call.inputs)
        lines = []
        for part in needed(list(self._inlined(call.body, scope)), call.result):
            if isinstance(part, Step):
                source = expression("torch_code", part, scope.write)
                lines.append(f"{scope.new(part.out)} = {source}")
            else:
                source = f"{scope.modules[id(part.module)]}({', '.join(map(scope.write, part.inputs))})"
                lines.append(f"{', '.join(map(scope.new, values_in(part.result)))} = {source}")
        results = [scope.write(value) for value in values_in(call.result)]
        if not isinstance(call.result, Value | tuple | list):
            raise ValueError(f"torch_code: {type(module).__name__} should return a Tensor or a tuple of Tensors")
        if lines and len(results) == 1 and lines[-1].startswith(f"{results[0]} = "):
            lines[-1] = "return " + lines[-1].removeprefix(f"{results[0]} = ")
        else:
            lines.append(f"return {', '.join(results)}")
        return (f"    def forward(self, {', '.join(arguments)}):\n" + textwrap.indent("\n".join(lines), " " * 8) + "\n")

    def _inlined(self, body: Sequence[Step | Call], scope: _Scope) -> Any:
        """The steps and calls of a module. A call of what is not among its modules is replaced by what happens inside."""
        for part in body:
            if isinstance(part, Step) or id(part.module) in scope.modules:
                yield part
            else:
                yield from self._inlined(part.body, scope)


class _Scope:
    """The names inside a `forward`. modules: the module's own ones, by id."""

    def __init__(self, module: nn.Module, arguments: Sequence[str], inputs: Sequence[Value]) -> None:
        self.modules = {id(one): _path(path) for path, one in module.named_modules() if path}
        self._arrays = {id(as_array(tensor)): _path(path) for path, tensor in module._state()}
        self._variables = {id(value): name for value, name in zip(inputs, arguments, strict=True)}
        self._first = next(((name, value) for value, name in zip(inputs, arguments, strict=True)
                            if value.shape and isinstance(value.shape[0], Batch)), None)
        self._taken = set(arguments)

    def new(self, value: Value) -> str:
        """A new variable, for a result."""
        i = 1
        while f"x{i}" in self._taken:
            i += 1
        self._taken.add(f"x{i}")
        self._variables[id(value)] = f"x{i}"
        return f"x{i}"

    def write(self, x: Any) -> str:
        if isinstance(x, Value):
            return self._value(x)
        if isinstance(x, tuple):
            return f"({', '.join(map(self._size, x))}{',' if len(x) == 1 else ''})"
        if isinstance(x, float) and abs(x) == float("inf"):
            return f'float("{x}")'
        return repr(x)

    def _value(self, value: Value) -> str:
        if id(value) in self._variables:
            return self._variables[id(value)]
        if id(value.array) in self._arrays:
            return self._arrays[id(value.array)]
        if value.array.size > 16:
            raise ValueError(f"torch_code: an array {tuple(value.array.shape)} is neither computed nor a parameter or buffer"
                             ": make it a Buffer of the module that uses it")
        return f"torch.tensor({value.numpy().tolist()!r}, dtype=torch.{value.dtype.name})"

    def _size(self, size: Size) -> str:
        if not isinstance(size, Batch):
            return str(size)
        if self._first is None:
            raise ValueError("torch_code: a size depends on the batch, but none of the inputs of the module does")
        name, value = self._first
        whole = value.shape[0]
        assert isinstance(whole, Batch)
        multiple = size.multiple / whole.multiple
        text = f"{name}.shape[0]" if multiple.numerator == 1 else f"{multiple.numerator} * {name}.shape[0]"
        return text if multiple.denominator == 1 else f"{text} // {multiple.denominator}"


def _path(path: str) -> str:
    """"blocks.0.down" -> self.blocks[0].down"""
    text = "self"
    for part in path.split("."):
        text += f"[{part}]" if part.isdecimal() else f".{part}" if part.isidentifier() else f"[{part!r}]"
    return text


def _empty(tensor: Any) -> str:
    return f"torch.zeros({tuple(tensor.shape)!r}{'' if tensor.dtype == 'float32' else f', dtype=torch.{tensor.dtype.name}'})"


def _joined(start: str, items: Sequence[str], end: str) -> str:
    line = start + ", ".join(items) + end
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    return start + "\n" + textwrap.indent(",\n".join(items), "    ") + ",\n" + end
