"""Module: a tree of layers with named parameters and buffers, and what one does to the whole tree."""
from __future__ import annotations

__all__ = ["Module", "check_state", "functional_call", "identities", "mode", "update_buffers_of", "with_parameters"]

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

import numpy as np

from tinygan.context import CONTEXT, override
from tinygan.devices import device as find_device
from tinygan.random import Key
from tinygan.tensor import Buffer, Parameter, Tensor


class Module:
    """A layer or a network: subclasses assign Parameters, Buffers and other Modules as attributes, and define
    `forward`. Paths join attribute names with dots ("0.weight"), as PyTorch's do."""

    couples_examples = True
    """Whether one example's output may depend on the others in its batch. Where no layer does, several batches may go
    through a network as one; a subclass that knows so sets this to False."""

    _training = True
    _identity: object  # what the context's overrides know this module by; a functional copy shares it

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        module._identity = object()
        return module

    def forward(self, x: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # -- the tree ------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of every Module that is an attribute, or stands in a list or tuple that is one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and everything below it, depth first."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type[Any], once: bool = True) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind) and not (once and id(value) in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), each parameter once even if two layers share it."""
        return self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer)."""
        return self._named(Buffer)

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def initialize(self, key: Key) -> Self:
        """Draw every parameter that has no values yet from `key` folded with the parameter's path."""
        for path, parameter in self.named_parameters():
            if not parameter.initialized:
                parameter.initialize(key.fold(path))
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert every parameter and every floating-point buffer to float32 or float64, in place."""
        for _, value in self._state():
            value.convert(np.dtype(dtype))
        return self

    def to(self, device: str) -> Self:
        """Bring every parameter and buffer to that device ("cpu", "cuda", "cuda:1"), in place; what is not initialised yet
        will be there. Raises DeviceError where there is none."""
        backend = find_device(device)
        for _, value in self._state():
            value.move(backend)
        return self

    # -- saving --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of every parameter and buffer by path, under the names and in the shapes that PyTorch uses (what two
        layers share stands there twice)."""
        return {path: np.array(value.numpy(), order="C") for path, value in self._state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """Assign every parameter and buffer. Raises ValueError, before anything is assigned, naming the entries that
        are missing, unexpected or of another shape."""
        own = dict(self._state())
        check_state(type(self).__name__, own, state)
        for path, value in own.items():
            value.assign(np.asarray(state[path]))
        return self

    def _state(self) -> Iterator[tuple[str, Any]]:
        return self._named(Parameter | Buffer, once=False)  # type: ignore[arg-type]

    # -- modes ---------------------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether layers such as Dropout and BatchNorm behave as in training."""
        overrides = CONTEXT.get().training
        return self._training if overrides is None else overrides.get(self._identity, self._training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below, for every thread; `nn.mode` does it for one block of code."""
        for _, module in self.named_modules():
            module._training = mode
        return self

    def eval(self) -> Self:
        """Leave training mode here and below."""
        return self.train(False)

    @property
    def updates_buffers(self) -> bool:
        """Whether running statistics may move now: in training, unless `nn.update_buffers_of` names other modules."""
        updating = CONTEXT.get().updating
        return updating is None or self._identity in updating

    # -- looking at it -------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What stands in brackets behind the layer's name."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for path, module in self.named_modules():
            depth = path.count(".") + 1 if path else 0
            name = f"{path.rpartition('.')[2]}: " if path else ""
            count = sum(p.size for p in module.parameters())
            line = f"{'  ' * depth}{name}{type(module).__name__}({module.describe()})"
            lines.append((line, f"{count:,}" if count else ""))
        width = max(len(line) for line, _ in lines)
        counts = max(len(count) for _, count in lines)
        return "\n".join(f"{line:<{width}}  {count:>{counts}}".rstrip() + (" parameters" if i == 0 and count else "")
                         for i, (line, count) in enumerate(lines))


def check_state(owner: str, own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise ValueError if `state` has not exactly the names and shapes of `own`, naming every entry that differs."""
    problems = [f"missing {name!r}" for name in own if name not in state]
    problems += [f"unexpected {name!r}" for name in state if name not in own]
    problems += [f"{name!r} has shape {tuple(np.shape(state[name]))}, expected {value.shape}"
                 for name, value in own.items() if name in state and tuple(np.shape(state[name])) != value.shape]
    if problems:
        raise ValueError(f"load_state_dict of {owner}: {'; '.join(problems)}")


def mode(*modules: Module, training: bool) -> AbstractContextManager[None]:
    """`with mode(generator, training=False):` these modules and all below are in that mode, in this thread or task."""
    changed = {m._identity: training for module in modules for _, m in module.named_modules()}
    return override(training={**(CONTEXT.get().training or {}), **changed})


def update_buffers_of(*modules: Module) -> AbstractContextManager[None]:
    """`with update_buffers_of(discriminator):` no running statistics move but those of these modules and all below."""
    return override(updating=identities(*modules))


def identities(*modules: Module) -> frozenset[object]:
    """What the context knows these modules and all below by."""
    return frozenset(m._identity for module in modules for _, m in module.named_modules())


def functional_call(module: Module, parameters: Mapping[str, Tensor], *inputs: Any) -> Any:
    """`module(*inputs)` with other values in the place of some parameters: see `with_parameters`."""
    return with_parameters(module, parameters)(*inputs)


def with_parameters(module: Module, parameters: Mapping[str, Tensor]) -> Module:
    """The same module with other values in the place of some parameters, by path; its own are not touched (running
    statistics are shared with it, and move in training as ever: see `update_buffers_of`).

    Gradients flow to the given values. Raises ValueError for a path that the module does not have, or another shape.
    """
    own = dict(module.named_parameters())
    for path, value in parameters.items():
        if path not in own:
            raise ValueError(f"with_parameters: the module has no parameter {path!r}")
        if value.shape != own[path].shape:
            raise ValueError(f"with_parameters: {path!r} has shape {own[path].shape}, got {value.shape}")
    twin: Module = _with({id(own[path]): value for path, value in parameters.items()}, module)
    return twin


def _with(values: dict[int, Tensor], x: Any) -> Any:
    """x with other values for some Parameters, given by their identity: modules are copied, not changed."""
    if isinstance(x, Parameter):
        return values.get(id(x), x)
    if isinstance(x, list | tuple) and any(isinstance(item, Module) for item in x):
        return type(x)([_with(values, item) for item in x])
    if not isinstance(x, Module):
        return x
    twin = copy.copy(x)
    for name, value in vars(x).items():
        object.__setattr__(twin, name, _with(values, value))
    return twin
