"""The optimisers. Each keeps what its rule remembers of the bound parameters. `step` applies the rule in place by a kernel.

`rules` has the mathematics. `update` computes the same without a side effect, and `grad` can differentiate through it.
"""
from __future__ import annotations

__all__ = ["Adam", "AdamW", "Optimizer", "RMSProp", "SGD", "State"]

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from tinygan.backends import Array, backend_of
from tinygan.bound import Bound
from tinygan.counting import Count
from tinygan.devices import moved
from tinygan.kernels.optimizer_settings import AdamSettings, RMSPropSettings, Settings, SGDSettings
from tinygan.listening import is_recording_step, relies_on, seen
from tinygan.nn import Module
from tinygan.nn.state import check_state
from tinygan.ops import pack, unpacked
from tinygan.optim import rules
from tinygan.optim.packed import advance
from tinygan.optim.schedules import Schedule
from tinygan.parameters import Parameter
from tinygan.tensor import as_array

Betas = tuple[float | Schedule, float | Schedule]
"""beta1 and beta2 of Adam. Each is a number or a schedule."""


class State(NamedTuple):
    """What an optimiser remembers: how many updates it has made, and by slot name an array for every parameter."""

    updates: int
    slots: dict[str, list[Any]]


class Optimizer:
    """The base of the optimisers: it binds parameters and keeps the state. A subclass names its `rule`, or defines `step`.

    learning_rate: a positive number, or a schedule: the update's index (0, 1, ...) -> a number.

    If a bound optimiser is copied together with its network (`copy.deepcopy` of a GAN, or of a tuple of both), the copy
    updates the copied network. If it is copied alone, the copy raises an error at its first step. It can be bound again, and
    then continues with the copied state.
    """

    rule: rules.Rule

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls.__module__ == __name__:  # a subclass may have arguments of its own
            _refuse_habits(cls.__name__, args, kwargs)
        return super().__new__(cls)

    def __init__(self, learning_rate: float | Schedule, weight_decay: float = 0.0) -> None:
        if not hasattr(type(self), "rule") and type(self).step is Optimizer.step:
            raise TypeError(f"{type(self).__name__}: its class has no rule, such as rule = tinygan.optim.rules.ADAM")
        if not callable(learning_rate):
            _check_positive(type(self).__name__, "learning_rate", learning_rate)
        if weight_decay < 0:
            raise ValueError(f"{type(self).__name__}: weight_decay should not be negative, got {weight_decay}")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self._count = Count()
        self._target: Bound[Parameter] | None = None
        self._slots: dict[str, list[Array]] = {}

    def __copy__(self) -> Self:
        target = copy.copy(self._target)  # (a bound optimiser raises an error here)
        twin = super().__new__(type(self))
        twin.__dict__.update(vars(self), _target=target, _count=Count(self.count))
        return twin

    if not TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any:
            """Raise the error for an attribute that does not exist. If PyTorch has it, the error gives its name here."""
            if hasattr(type(self), name):  # a property: it raises an error of its own
                return object.__getattribute__(self, name)
            from tinygan.interop.torch_names import OPTIMIZER, missing

            raise missing(f"{type(self).__name__!r} object", name, OPTIMIZER, self)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    @property
    def count(self) -> int:
        """The number of updates made."""
        return self._count.value

    @count.setter
    def count(self, value: int) -> None:
        self._count.value = value

    def learning_rate_at(self, count: int) -> float:
        """The learning rate of update number `count` (from 0)."""
        return float(self.learning_rate(count) if callable(self.learning_rate) else self.learning_rate)

    @property
    def _is_scheduled(self) -> bool:
        """Whether a setting is a schedule."""
        return callable(self.learning_rate)

    def settings_at(self, count: int) -> Settings:
        """The settings that the rule gets for update number `count` (from 0)."""
        raise TypeError(f"{type(self).__name__} does not define settings_at")

    # -- the stateful half -----------------------------------------------------------------------------------------

    def bind(self, target: Module | Mapping[str, Parameter]) -> None:
        """Choose the parameters that `step` updates. target: a module, or a mapping from names to Parameters."""
        name = type(self).__name__
        if self._target is not None and self._target.found() is not None:
            raise ValueError(f"{name}: already bound; an optimiser keeps the state of one set of parameters")
        if not isinstance(target, Module | Mapping):
            raise TypeError(f"{name}: bind expects a module, or a mapping from names to Parameters, got "
                            f"{type(target).__name__}")
        parameters = dict(target.named_parameters() if isinstance(target, Module) else target)
        for path, p in parameters.items():
            if not isinstance(p, Parameter):
                raise TypeError(f"{name}: bind expects Parameters, got {type(p).__name__} under {path!r}")
        for slot, arrays in self._slots.items():  # (a copy has slots already, and continues with them)
            if [a.shape for a in arrays] != [p.shape for p in parameters.values()]:
                raise ValueError(f"{name}: bind: the state of this copy ({slot}) belongs to parameters of other shapes")
        self._target = Bound(name, parameters, "; or give it a network of its own, bind(network)")

    def step(self, gradients: Sequence[Any]) -> None:
        """Update the bound parameters in place. gradients: one for every parameter, in their order."""
        parameters = self._bound()
        _check_gradients(type(self).__name__, parameters, gradients)
        self._allocate(parameters)
        slots = self._slots
        relies_on(lambda: self._slots is slots)
        arrays = [p.writable() for p in parameters]
        if arrays:
            kernel = getattr(backend_of(arrays[0]), self.rule.kernel)
            kernel(arrays, [as_array(g) for g in gradients], *slots.values(), self.settings_of(self.count))
        self._count.advance()

    def settings_of(self, count: int) -> Callable[[], Settings]:
        """A function that returns `settings_at(count)`; the backends call it. When a recorded step is replayed, `self.count`
        has advanced. The function then returns the settings of an update that is as far from `self.count` as `count` is
        now."""
        ahead = count - self.count
        return lambda: self.settings_at(self.count + ahead)

    def _bound(self) -> list[Parameter]:
        return list(self._named().values())

    def _named(self) -> dict[str, Parameter]:
        if self._target is None:
            raise ValueError(f"{type(self).__name__}: not bound to parameters yet: call bind(module) first")
        return self._target.tensors

    @property
    def _slot_names(self) -> tuple[str, ...]:
        return self.rule.slots if hasattr(type(self), "rule") else ()

    def _allocate(self, parameters: list[Parameter]) -> None:
        """Make the slots at the first use. If the module has been converted or moved since then, convert or move them
        too."""
        if not self._slots:
            if is_recording_step():
                raise RuntimeError(f"{type(self).__name__}: its first step cannot be captured, because every replay would "
                                   "make a first step again; make one step before")
            self._slots = {name: [_zeros(p) for p in parameters] for name in self._slot_names}
        elif any(a.dtype != p.dtype or backend_of(a) is not backend_of(p.array)
                 for a, p in zip(next(iter(self._slots.values())), parameters, strict=True)):
            self._slots = {name: [moved(a.astype(p.dtype), backend_of(p.array))
                                  for a, p in zip(arrays, parameters, strict=True)]
                           for name, arrays in self._slots.items()}

    def state(self) -> State:
        """The state as the pure `update` takes it. The arrays are those that `step` writes to: copy what must last."""
        self._allocate(self._bound())
        return State(self.count, self._slots)

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of the state: "count", and "PARAMETER.SLOT" for every parameter."""
        state: dict[str, np.ndarray[Any, Any]] = {"count": np.array(self.count, np.int64)}
        for slot, arrays in self.state().slots.items():
            for path, array in zip(self._named(), arrays, strict=True):
                state[f"{path}.{slot}"] = np.array(backend_of(array).to_numpy(array), order="C")
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError naming the entries that do not fit, before any change."""
        self._allocate(self._bound())
        own = {f"{path}.{slot}": array for slot, arrays in self._slots.items()
               for path, array in zip(self._named(), arrays, strict=True)}
        arrays = check_state(type(self).__name__, {"count": np.array(0), **own}, state)
        self.count = int(arrays["count"])
        for name, array in own.items():
            array[...] = moved(arrays[name].astype(array.dtype), backend_of(array))

    # -- the pure half ---------------------------------------------------------------------------------------------

    def initial_state(self, parameters: Sequence[Any]) -> State:
        """The state before the first update, for the pure `update`."""
        return State(0, {name: [np.zeros_like(as_array(p)) for p in parameters] for name in self._slot_names})

    def update(self, parameters: Sequence[Any], gradients: Sequence[Any], state: State) -> tuple[list[Any], State]:
        """The new parameters and state, without a side effect and differentiable. All are Tensors or arrays."""
        settings = self.constants_at(state.updates)
        found = [self.rule.update(p, g, slots, settings) for p, g, *slots in
                 zip(parameters, gradients, *(state.slots[name] for name in self.rule.slots), strict=True)]
        slots = {name: [new[i] for new in found] for i, name in enumerate(self.rule.slots, start=1)}
        return [new[0] for new in found], State(state.updates + 1, slots)

    def constants_at(self, count: int) -> Settings:
        """`settings_at(count)` for the rule in ops, which takes them as constants. Inside a capture, raises RuntimeError if
        they change from update to update, because every replay would use the same ones."""
        settings = self.settings_at(count)
        if is_recording_step() and (self._is_scheduled or self.settings_at(count + 1) != settings):
            raise RuntimeError(f"{type(self).__name__}.update inside a capture: its settings change from update to update, "
                               "but every replay would use the same ones; use step, or advance without weight decay")
        return settings

    # -- the rule on packed parameters: all of them and their slots in one array, so that an update is one op --------

    def pack(self) -> Array:
        """The bound parameters and their state, copied into one array (1 + slots, elements of all parameters)."""
        parameters = self._bound()
        if len({p.dtype for p in parameters}) > 1:
            raise TypeError(f"{type(self).__name__}.pack: the parameters should have one dtype, got "
                            f"{', '.join(sorted({str(p.dtype) for p in parameters}))}")
        self._allocate(parameters)
        lists = [[as_array(p) for p in parameters], *([seen(a) for a in slot] for slot in self._slots.values())]
        xp = backend_of(lists[0][0]).xp
        return xp.stack([xp.concatenate([a.reshape(-1) for a in arrays]) for arrays in lists])

    def unpack(self, packed: Any) -> list[Any]:
        """The parameters in what `pack` or `advance` returned, in their shapes."""
        found, start = [], 0
        for p in self._bound():
            found.append(unpacked(packed, start, p.shape))
            start += p.size
        return found

    def advance(self, packed: Any, gradients: list[Any], count: int) -> Any:
        """Make update number `count` (from 0) by the kernel: packed (1 + slots, elements) -> the packed array after the
        update. gradients: one per parameter, or a single one for all parameters, packed. It is an op, and differentiable in
        all its inputs to any order."""
        return advance(packed, pack(gradients), optimizer=self, count=count)


class SGD(Optimizer):
    """Gradient descent: v = momentum * v + g; parameter -= learning_rate * v, or with nesterov * (g + momentum * v)
    (Sutskever et al. 2013, in PyTorch's form). weight_decay adds weight_decay * parameter to g."""

    rule = rules.SGD

    def __init__(self, learning_rate: float | Schedule, momentum: float = rules.SGD.defaults["momentum"],
                 nesterov: bool = rules.SGD.defaults["nesterov"],
                 weight_decay: float = rules.SGD.defaults["weight_decay"]) -> None:
        super().__init__(learning_rate, weight_decay)
        if not 0 <= momentum < 1 or (nesterov and not momentum):
            raise ValueError(f"SGD: momentum should be in [0, 1), and above 0 for nesterov, got {momentum}")
        self.momentum = momentum
        self.nesterov = nesterov

    def settings_at(self, count: int) -> SGDSettings:
        """The settings of `rules.sgd` for update number `count` (from 0)."""
        return SGDSettings(self.learning_rate_at(count), self.momentum, self.nesterov, self.weight_decay)


class RMSProp(Optimizer):
    """v = decay * v + (1 - decay) * g^2; parameter -= learning_rate * g / (sqrt(v) + eps) (Tieleman, Hinton 2012).
    weight_decay adds weight_decay * parameter to g."""

    rule = rules.RMSPROP

    def __init__(self, learning_rate: float | Schedule, decay: float = rules.RMSPROP.defaults["decay"],
                 eps: float = rules.RMSPROP.defaults["eps"],
                 weight_decay: float = rules.RMSPROP.defaults["weight_decay"]) -> None:
        super().__init__(learning_rate, weight_decay)
        if not 0 <= decay < 1:
            raise ValueError(f"RMSProp: decay should be in [0, 1), got {decay}")
        _check_positive("RMSProp", "eps", eps)
        self.decay = decay
        self.eps = eps

    def settings_at(self, count: int) -> RMSPropSettings:
        """The settings of `rules.rmsprop` for update number `count` (from 0)."""
        return RMSPropSettings(self.learning_rate_at(count), self.decay, self.eps, self.weight_decay)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; parameter -= learning_rate * m' / (sqrt(v') + eps), where
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) (Kingma, Ba 2015, algorithm 1). weight_decay adds weight_decay *
    parameter to g.

    betas: two numbers in [0, 1); each may also be a schedule, as the learning rate may. Then beta^t is the power of the
    present beta, as in PyTorch when the betas of a parameter group are changed between updates. The defaults are those of
    the DCGAN paper (section 4).
    """

    rule = rules.ADAM
    decoupled = False
    """Whether weight decay shrinks the parameter instead, as in AdamW."""

    def __init__(self, learning_rate: float | Schedule = rules.ADAM.defaults["learning_rate"],
                 betas: Betas = rules.ADAM.defaults["betas"], eps: float = rules.ADAM.defaults["eps"],
                 weight_decay: float = rules.ADAM.defaults["weight_decay"]) -> None:
        super().__init__(learning_rate, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2 or not all(callable(b) or 0 <= b < 1 for b in betas):
            raise ValueError(f"{type(self).__name__}: betas should be two numbers in [0, 1), or schedules, got {betas}")
        _check_positive(type(self).__name__, "eps", eps)
        self.betas = betas
        self.eps = eps

    @property
    def _is_scheduled(self) -> bool:
        return super()._is_scheduled or any(map(callable, self.betas))

    def betas_at(self, count: int) -> tuple[float, float]:
        """beta1 and beta2 of update number `count` (from 0). Raises ValueError if a schedule gives one outside [0, 1)."""
        beta1, beta2 = (float(beta(count) if callable(beta) else beta) for beta in self.betas)
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise ValueError(f"{type(self).__name__}: betas should be in [0, 1), got {beta1} and {beta2} at update {count}")
        return beta1, beta2

    def settings_at(self, count: int) -> AdamSettings:
        """The settings of `rules.adam` for update number `count` (from 0). In the paper, t = count + 1."""
        (beta1, beta2), t = self.betas_at(count), count + 1
        return AdamSettings(
            learning_rate=self.learning_rate_at(count), beta1=beta1, beta2=beta2, eps=self.eps,
            weight_decay=self.weight_decay, decoupled=self.decoupled, correction1=1 - beta1**t, correction2=1 - beta2**t)


class AdamW(Adam):
    """Adam with the weight decay apart from the gradient: parameter *= 1 - learning_rate * weight_decay (Loshchilov,
    Hutter 2019, algorithm 2)."""

    rule = rules.ADAMW
    decoupled = True

    def __init__(self, learning_rate: float | Schedule = rules.ADAMW.defaults["learning_rate"],
                 betas: Betas = rules.ADAMW.defaults["betas"], eps: float = rules.ADAMW.defaults["eps"],
                 weight_decay: float = rules.ADAMW.defaults["weight_decay"]) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay)


_OURS = "optimizer = {}(1e-3), then optimizer.bind(network), unless a GAN does it, and optimizer.step(gradients)"


def _refuse_habits(name: str, args: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Raise TypeError if the arguments are those of PyTorch's optimisers. The message says how to do it here."""
    first = args[0] if args else settings.get("learning_rate")
    if "params" in settings:
        raise TypeError(f"{name}: takes no 'params': {_OURS.format(name)}")
    if "lr" in settings:
        raise TypeError(f"{name}: 'lr' is learning_rate here: {_OURS.format(name)}")
    if isinstance(first, Module | Parameter | Mapping | Iterable) and not (hasattr(first, "shape") and first.shape == ()):
        raise TypeError(f"{name}: learning_rate should be a number or a schedule, got {type(first).__name__}: "
                        f"{_OURS.format(name)}")


def _zeros(parameter: Parameter) -> Array:
    """Zeros of the parameter's shape, aligned in memory as the kernels prefer it."""
    zeros = backend_of(parameter.array).empty(parameter.shape, parameter.dtype)
    zeros[...] = 0
    return zeros


def _check_positive(caller: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{caller}: {name} should be positive, got {value}")


def _check_gradients(caller: str, parameters: list[Parameter], gradients: Sequence[Any]) -> None:
    if len(gradients) != len(parameters):
        raise ValueError(f"{caller}: {len(parameters)} parameters but {len(gradients)} gradients")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if g.shape != p.shape or g.dtype != p.dtype:
            raise ValueError(f"{caller}: gradient {i} is {g.shape} {g.dtype}, its parameter {p.shape} {p.dtype}")
        if p.dtype != parameters[0].dtype:
            raise ValueError(f"{caller}: parameters of different precision ({parameters[0].dtype}, {p.dtype})")
