"""Module: a tree of layers with named parameters and buffers, and the functions that act on the whole tree."""
from __future__ import annotations

__all__ = ["Module", "check_state", "functional_call", "identities", "mode", "update_buffers_of", "with_parameters"]

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, ValuesView
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tinygan.context import CONTEXT, override
from tinygan.devices import device as find_device
from tinygan.nn.located import locate
from tinygan.nn.state import check_state, without_absent_counts, without_prefix
from tinygan.parameters import Buffer, Parameter
from tinygan.random import Key, as_key
from tinygan.tensor import Tensor


class Module:
    """A layer or a network. A subclass assigns Parameters, Buffers and other Modules to attributes, and defines `forward`.

    An attribute may also be a list, tuple or dict of these, nested if need be. A path joins attribute names, positions in
    lists and keys of dicts with dots ("0.weight", "blocks.2.down.bias"), as in PyTorch.

    The message of an error in `forward` begins with the path of the layer in which it arose."""

    couples_examples = True
    """Whether the output for one example may depend on the other examples of its batch. A layer whose output never does sets
    this to False. If all layers of a network do, several batches may be joined into one."""

    taken: ClassVar[tuple[int, str] | None] = None
    """For error messages: the axis of the input that must fit the weights, and what it counts, such as (-1, "features")."""

    _training = True
    _identity: object  # its key in the context's overrides; a copy by `with_parameters` has the same one

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name, value in vars(cls).items():
            for path, member in members(name, value):
                if not isinstance(member, Module) or any(True for _ in member._state()):
                    raise TypeError(f"{cls.__name__}: {path} is an attribute of the class, where it is not found: assign it "
                                    f"in __init__, as self.{name} = ...")

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        module._identity = object()
        return module

    def forward(self, x: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            watcher = CONTEXT.get().watcher
            if watcher is None:
                return self.forward(*args, **kwargs)
            watcher.entered(self, (*args, *kwargs.values()))
            result = self.forward(*args, **kwargs)
            watcher.left(self, result)
            return result
        except (ValueError, TypeError, IndexError) as error:
            locate(error, self, (*args, *kwargs.values()))
            raise

    if not TYPE_CHECKING:  # (a type checker that saw this would accept every attribute)
        def __getattr__(self, name: str) -> Any:
            """Raise the error for an attribute that does not exist. If PyTorch has it, the error gives its name here."""
            if hasattr(type(self), name):  # a property: it raises an error of its own
                return object.__getattribute__(self, name)
            from tinygan.interop.torch_names import MODULE, missing

            raise missing(f"'{type(self).__name__}' object", name, MODULE, self)

    # -- the tree ------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of every Module that is an attribute, or in a list, tuple or dict that is an attribute. Raises
        TypeError for a Module in a set or another container, or under a key that cannot be part of a path."""
        return ((name, value) for name, value in self._named_members() if isinstance(value, Module))

    def _named_members(self) -> Iterator[tuple[str, Member]]:
        """(name, value) of every Module, Parameter and Buffer in this module's attributes. Those of its modules are not
        included."""
        for name, value in vars(self).items():
            if type(value) in _PLAIN:
                continue
            yield from members(name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and of all modules in it, depth first."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type[Any] | tuple[type[Any], ...], once: bool = True) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules():
            for name, value in module._named_members():
                if isinstance(value, kind) and not (once and id(value) in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of every parameter. A parameter that two layers share comes once."""
        return self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer) of every buffer."""
        return self._named(Buffer)

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def initialize(self, key: Key) -> Self:
        """Draw the values of every parameter that has none yet. Each uses `key`, folded with the parameter's path."""
        key = as_key("initialize", key)
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
        """Move every parameter and buffer to that device ("cpu", "cuda", "cuda:1"), in place. Parameters without values will
        be drawn there. Raises DeviceError if there is no such device."""
        backend = find_device(device)
        for _, value in self._state():
            value.move(backend)
        return self

    # -- saving --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of every parameter and buffer by path, with PyTorch's names and shapes. A parameter that two layers share
        comes twice."""
        return {path: np.array(value.numpy(), order="C") for path, value in self._state()}

    def load_state_dict(self, state: Mapping[str, Any], prefix: str = "") -> Self:
        """Assign every parameter and buffer.

        state: arrays, Tensors or PyTorch's tensors by path. They may have any real type and are converted. Batch norm's
        count of batches, `num_batches_tracked`, may be missing in the state or in the network, because older PyTorch and
        other formats do not have it. prefix: load the entries whose names begin with it, such as "generator.", and no
        others. "module." and "_orig_mod." before every name, of PyTorch's DataParallel and torch.compile, need none.

        If entries are missing, unexpected, of another shape or not numbers, raises a ValueError or TypeError that names
        them, before anything is assigned."""
        own = dict(self._state())
        state = without_absent_counts(own, without_prefix(type(self).__name__, own, state, prefix))
        arrays = check_state(type(self).__name__, own, state)
        for path, array in arrays.items():
            own[path].assign(array)
        return self

    def _state(self) -> Iterator[tuple[str, Any]]:
        return self._named((Parameter, Buffer), once=False)

    # -- modes ---------------------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether layers such as Dropout and BatchNorm behave as in training."""
        overrides = CONTEXT.get().training
        return self._training if overrides is None else overrides.get(self._identity, self._training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode for this module and all modules in it, in every thread. `nn.mode` sets it for a block of
        code."""
        for _, module in self.named_modules():
            module._training = mode
        return self

    def eval(self) -> Self:
        """Leave training mode, in this module and all modules in it."""
        return self.train(False)

    @property
    def updates_buffers(self) -> bool:
        """Whether running statistics are updated now: in training, unless `nn.update_buffers_of` names other modules."""
        updating = CONTEXT.get().updating
        return updating is None or self._identity in updating

    # -- looking at it -------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The text in brackets after the layer's name."""
        return ""

    def __repr__(self) -> str:
        lines = []

        def add(module: Module, begin: str, indent: str) -> None:
            count = sum(p.size for p in module.parameters())
            lines.append((f"{begin}{type(module).__name__}({module.describe()})", f"{count:,}" if count else ""))
            for name, child in module.named_children():
                add(child, f"{indent}{name}: ", indent + "  ")

        add(self, "", "  ")
        width = max(len(line) for line, _ in lines)
        counts = max(len(count) for _, count in lines)
        return "\n".join(f"{line:<{width}}  {count:>{counts}}".rstrip() + (" parameters" if i == 0 and count else "")
                         for i, (line, count) in enumerate(lines))


def mode(*modules: Module, training: bool) -> AbstractContextManager[None]:
    """`with mode(generator, training=False):` puts these modules and all modules in them into that mode, in this thread or
    task."""
    changed = {m._identity: training for module in modules for _, m in module.named_modules()}
    return override(training={**(CONTEXT.get().training or {}), **changed})


def update_buffers_of(*modules: Module) -> AbstractContextManager[None]:
    """`with update_buffers_of(discriminator):` only these modules, and all modules in them, update their running
    statistics."""
    return override(updating=identities(*modules))


def identities(*modules: Module) -> frozenset[object]:
    """The keys by which the context knows these modules and all modules in them."""
    return frozenset(m._identity for module in modules for _, m in module.named_modules())


def functional_call(module: Module, parameters: Mapping[str, Tensor], *inputs: Any) -> Any:
    """`module(*inputs)` with other values for some parameters: see `with_parameters`."""
    return with_parameters(module, parameters)(*inputs)


def with_parameters(module: Module, parameters: Mapping[str, Tensor]) -> Module:
    """A copy of the module with other values for some parameters. parameters: the values by path.

    The module's own parameters are not changed, and gradients flow to the given values. Running statistics are shared with
    the module, and training updates them as usual (see `update_buffers_of`). Raises ValueError for a path that the module
    does not have, or for another shape.
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
    """x with other values for some Parameters. values: the new ones, by the id of the Parameter. Modules are copied, not
    changed."""
    if isinstance(x, Parameter):
        return values.get(id(x), x)
    if isinstance(x, Module):
        twin = copy.copy(x)
        for name, value in vars(x).items():
            if type(value) not in _PLAIN:
                object.__setattr__(twin, name, _with(values, value))
        return twin
    if isinstance(x, list | tuple):
        items = [_with(values, item) for item in x]
        if all(new is old for new, old in zip(items, x, strict=True)):
            return x
        if isinstance(x, tuple):
            return x._make(items) if hasattr(x, "_make") else type(x)(items)
        filled: Any = copy.copy(x)
        filled[:] = items
        return filled
    if isinstance(x, Mapping) and any(True for _ in members("", x)):
        filled = copy.copy(x)
        filled.update({key: _with(values, value) for key, value in x.items()})
        return filled
    return x


Member = Module | Parameter | Buffer
_MEMBERS = (Module, Parameter, Buffer)
_PLAIN = frozenset((type(None), bool, int, float, str, object))


def members(name: str, x: Any) -> Iterator[tuple[str, Member]]:
    """(path, member) of every Module, Parameter and Buffer that x is, or holds in lists, tuples and dicts. The paths begin
    with `name`."""
    if isinstance(x, _MEMBERS):
        yield name, x
    elif isinstance(x, list | tuple):
        for i, item in enumerate(x):
            if type(item) not in _PLAIN:
                yield from members(f"{name}.{i}", item)
    elif isinstance(x, Mapping):
        keys: dict[str, Any] = {}
        for key, item in x.items():
            for path, member in members(f"{name}.{key}", item):
                if not isinstance(key, str | int) or str(key) in ("", *keys) or "." in str(key):
                    raise TypeError(f"{path}: the keys of a dict of modules or parameters should be strings without dots or "
                                    f"whole numbers, and differ as strings, got {key!r}")
                yield path, member
            keys[str(key)] = key
    elif any(isinstance(item, _MEMBERS) for item in _others(x)):
        raise TypeError(f"{name}: modules or parameters in a {type(x).__name__} are not found: use a list or a dict")


def _others(x: Any) -> Iterable[Any]:
    """The values in x, if x is a container that `members` does not search."""
    if isinstance(x, set | frozenset | deque | ValuesView):
        return x
    if isinstance(x, np.ndarray) and x.dtype == object:
        return x.flat
    if isinstance(x, SimpleNamespace):
        return vars(x).values()
    if is_dataclass(x) and not isinstance(x, type):
        return [getattr(x, field.name, None) for field in fields(x)]
    return ()
