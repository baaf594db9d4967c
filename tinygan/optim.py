"""Optimisers. Each rule is written twice, side by side: `update`, a pure function in ops that can be differentiated
through (an unrolled GAN does), and `step`, the same in place by a fused kernel.

    optimizer = Adam(2e-4, betas=(0.5, 0.999))
    optimizer.bind(network)
    optimizer.step(grad(loss, network.parameters()))
"""
from __future__ import annotations

__all__ = ["Optimizer", "SGD", "RMSProp", "Adam", "AdamW", "State", "Schedule", "step_decay", "exponential_decay",
           "linear_decay", "cosine_decay", "warmup", "clip_by_value", "clip_by_norm", "ExponentialMovingAverage"]

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from tinygan.backends import Array, backend_of
from tinygan.bound import Bound
from tinygan.devices import moved
from tinygan.graph import op
from tinygan.kernels.squares import largest_gradient, largest_square
from tinygan.listening import advanced, is_recording_step, relies_on
from tinygan.nn import Module, SpectralNorm
from tinygan.nn.state import check_state
from tinygan.ops import abs as absolute
from tinygan.ops import (
    add,
    clip,
    concatenate,
    div,
    equal,
    expand_dims,
    getitem,
    less_equal,
    maximum,
    minimum,
    mul,
    pack,
    sqrt,
    stack,
    sub,
    unpacked,
    where,
)
from tinygan.ops import sum as sum_over
from tinygan.ops.reduce import largest_magnitude
from tinygan.parameters import Buffer, Parameter
from tinygan.pullback import pullback
from tinygan.tensor import Tensor, as_array

Schedule = Callable[[int], float]


class State(NamedTuple):
    """What an optimiser remembers: how many updates there were, and by slot name an array for every parameter."""

    updates: int
    slots: dict[str, list[Any]]


@op(saves=(0, 1))
def _advance(B: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    new = packed.copy()
    slots = {name: [new[i]] for i, name in enumerate(optimizer.slot_names, start=1)}
    optimizer._kernel(B, [new[0]], [gradient], slots, count)
    return new


@_advance.vjp
def _(needs: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    both = _advance_grad(g, packed, gradient, optimizer=optimizer, count=count)
    return needs[0] and getitem(both, slice(0, -1)), needs[1] and getitem(both, -1)


@op(saves=(0, 1, 2))
def _advance_grad(B: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    return optimizer._pulled_back(g, packed, gradient, count)


@_advance_grad.vjp
def _(needs: Any, h: Any, g: Any, packed: Any, gradient: Any, optimizer: Optimizer, count: int) -> Any:
    def definition(g: Any, packed: Any, gradient: Any) -> Any:
        return Optimizer._pulled_back(optimizer, g, packed, gradient, count)

    return pullback(definition, (g, packed, gradient), h, needs)


class Optimizer:
    """Base of the optimisers: the binding to parameters, the state and its saving; the subclasses have the rule.

    learning_rate: a positive number, or a schedule: the update's index (0, 1, ...) -> a number.

    A copy of a bound optimiser belongs to the network that was copied with it (`copy.deepcopy` of a GAN, or of a tuple of
    both); one that was copied alone says so at its first step, and goes on with what it remembers once it is bound again.
    """

    slot_names: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls.__module__ == __name__:  # (a subclass may have arguments of its own)
            _refuse_habits(cls.__name__, args, kwargs)
        return super().__new__(cls)

    def __init__(self, learning_rate: float | Schedule, weight_decay: float = 0.0) -> None:
        if not callable(learning_rate):
            _check_positive(type(self).__name__, "learning_rate", learning_rate)
        if weight_decay < 0:
            raise ValueError(f"{type(self).__name__}: weight_decay should not be negative, got {weight_decay}")
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.count = 0
        self._target: Bound[Parameter] | None = None
        self._slots: dict[str, list[Array]] = {}

    def __copy__(self) -> Self:
        twin = super().__new__(type(self))
        twin.__dict__.update(vars(self), _target=copy.copy(self._target))  # (refused where it is bound)
        return twin

    if not TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any:
            """For what is missing."""
            if hasattr(type(self), name):  # a property, whose own error says what is missing
                return object.__getattribute__(self, name)
            from tinygan.torch_names import OPTIMIZER, missing

            raise missing(f"{type(self).__name__!r} object", name, OPTIMIZER, self)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "count"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"

    def learning_rate_at(self, count: int) -> float:
        """The learning rate of the update of that index."""
        return float(self.learning_rate(count) if callable(self.learning_rate) else self.learning_rate)

    def _constant_rate(self, count: int, changes: bool = False) -> float:
        """The learning rate for `update`, which writes it into the graph; changes: so it does with what depends on the
        count. Neither can be part of a capture."""
        if is_recording_step() and (changes or callable(self.learning_rate)):
            raise RuntimeError(f"{type(self).__name__}.update inside a capture: what changes from update to update would be "
                               "repeated as it is; use step, or advance without weight decay and recorded once")
        return self.learning_rate_at(count)

    # -- the stateful half ---------------------------------------------------------------------------------------

    def bind(self, target: Module | Mapping[str, Parameter]) -> None:
        """Choose the parameters that `step` updates: those that a module has now, or a mapping from names."""
        name = type(self).__name__
        if self._target is not None and self._target.found() is not None:
            raise ValueError(f"{name}: already bound; an optimiser remembers one set of parameters")
        if not isinstance(target, Module | Mapping):
            raise TypeError(f"{name}: bind expects a module, or a mapping from names to Parameters, got "
                            f"{type(target).__name__}")
        parameters = dict(target.named_parameters() if isinstance(target, Module) else target)
        for path, p in parameters.items():
            if not isinstance(p, Parameter):
                raise TypeError(f"{name}: bind expects Parameters, got {type(p).__name__} under {path!r}")
        for slot, arrays in self._slots.items():  # a copy's, which goes on with them
            if [a.shape for a in arrays] != [p.shape for p in parameters.values()]:
                raise ValueError(f"{name}: bind: what this copy remembers ({slot}) is of parameters of other shapes")
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
            self._kernel(backend_of(arrays[0]), arrays, [as_array(g) for g in gradients], self._slots, self.count)
        self._counted()

    def _counted(self) -> None:
        self.count += 1
        advanced(self._counted)

    def _settings(self, count: int) -> Any:
        """What the kernel is told of update number `count`, float64. Inside a capture a function: at each replay the update
        is as much ahead of `self.count` as it is now."""
        if not is_recording_step():
            return np.array(self._numbers(count))
        ahead = count - self.count
        return lambda: np.array(self._numbers(self.count + ahead))

    def _numbers(self, count: int) -> list[float]:
        """The settings of update number `count`, as the kernel takes them."""
        raise TypeError(f"{type(self).__name__} does not define a kernel")

    def _bound(self) -> list[Parameter]:
        return list(self._named().values())

    def _named(self) -> dict[str, Parameter]:
        if self._target is None:
            raise ValueError(f"{type(self).__name__}: not bound to parameters yet: call bind(module) first")
        return self._target.tensors

    def _allocate(self, parameters: list[Parameter]) -> None:
        if not self._slots:
            if is_recording_step():
                raise RuntimeError(f"{type(self).__name__}: its first step inside a capture would begin anew at every "
                                   "replay; make one before")
            self._slots = {name: [_zeros(p) for p in parameters] for name in self.slot_names}
        elif any(a.dtype != p.dtype or backend_of(a) is not backend_of(p.array)
                 for a, p in zip(self._slots[self.slot_names[0]], parameters, strict=True)):
            # The module was converted or moved in between.
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
        """Restore what `state_dict` returned. Raises ValueError naming the entries that do not fit, before a change."""
        self._allocate(self._bound())
        own = {f"{path}.{slot}": array for slot, arrays in self._slots.items()
               for path, array in zip(self._named(), arrays, strict=True)}
        arrays = check_state(type(self).__name__, {"count": np.array(0), **own}, state)
        self.count = int(arrays["count"])
        for name, array in own.items():
            array[...] = moved(arrays[name].astype(array.dtype), backend_of(array))

    # -- the rule ------------------------------------------------------------------------------------------------

    def initial_state(self, parameters: Sequence[Any]) -> State:
        """The state before the first update, for the pure `update`."""
        return State(0, {name: [np.zeros_like(as_array(p)) for p in parameters] for name in self.slot_names})

    def update(self, parameters: Sequence[Any], gradients: Sequence[Any], state: State) -> tuple[list[Any], State]:
        """The new parameters and state, without a side effect and differentiable. All are Tensors or arrays."""
        raise TypeError(f"{type(self).__name__} does not define update")

    # -- the rule on packed parameters: each with its slots in one array (1 + slots, *shape), so that an update is one op

    def pack(self) -> Array:
        """The bound parameters and their state, copied into one array (1 + slots, elements of all parameters)."""
        parameters = self._bound()
        if len({p.dtype for p in parameters}) > 1:
            raise TypeError(f"{type(self).__name__}.pack: the parameters should have one dtype, got "
                            f"{', '.join(sorted({str(p.dtype) for p in parameters}))}")
        self._allocate(parameters)
        xp = backend_of(parameters[0].array).xp
        lists = [[p.array for p in parameters], *(self._slots[name] for name in self.slot_names)]
        return xp.stack([xp.concatenate([a.reshape(-1) for a in arrays]) for arrays in lists])

    def unpack(self, packed: Any) -> list[Any]:
        """The parameters in what `pack` or `advance` returned, in their shapes."""
        found, start = [], 0
        for p in self._bound():
            found.append(unpacked(packed, start, p.shape))
            start += p.size
        return found

    def advance(self, packed: Any, gradients: list[Any], count: int) -> Any:
        """Update number `count` (from 0), by the kernel: packed (1 + slots, elements) -> the same anew. gradients: by each
        parameter, or one by all of them, packed. An op like any other, differentiable in all its inputs to any order."""
        return _advance(packed, pack(gradients), optimizer=self, count=count)

    def _updated(self, packed: Any, gradient: Any, count: int) -> Any:
        """`advance` by the definition."""
        parameter, *slots = (getitem(packed, i) for i in range(1 + len(self.slot_names)))
        state = State(count, {name: [slot] for name, slot in zip(self.slot_names, slots, strict=True)})
        (new,), after = self.update([parameter], [gradient], state)
        return stack([new, *(after.slots[name][0] for name in self.slot_names)])

    def _pulled_back(self, g: Any, packed: Any, gradient: Any, count: int) -> Any:
        """The vjp of `advance`: the gradient of packed, and behind it that of the gradient, (1 + slots + 1, *shape)."""
        def updated(packed: Any, gradient: Any) -> Any:
            return self._updated(packed, gradient, count)

        parts = pullback(updated, (packed, gradient), g, (True, True))
        return concatenate([parts[0], expand_dims(parts[1], 0)])

    def _kernel(self, backend: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]],
                count: int) -> None:
        """Update number `count` (from 0), in place."""
        raise TypeError(f"{type(self).__name__} does not define a kernel")


class SGD(Optimizer):
    """Gradient descent: v = momentum * v + g; parameter -= learning_rate * v, or with nesterov * (g + momentum * v)
    (Sutskever et al. 2013, in PyTorch's form). weight_decay adds weight_decay * parameter to g."""

    slot_names = ("velocity",)

    def __init__(self, learning_rate: float | Schedule, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float = 0.0) -> None:
        super().__init__(learning_rate, weight_decay)
        if not 0 <= momentum < 1 or (nesterov and not momentum):
            raise ValueError(f"SGD: momentum should be in [0, 1), and above 0 for nesterov, got {momentum}")
        self.momentum = momentum
        self.nesterov = nesterov

    def update(self, parameters: Sequence[Any], gradients: Sequence[Any], state: State) -> tuple[list[Any], State]:
        rate = self._constant_rate(state.updates)
        new, velocities = [], []
        for p, g, v in zip(parameters, gradients, state.slots["velocity"], strict=True):
            if self.weight_decay:
                g = add(g, mul(p, self.weight_decay))
            v = add(mul(v, self.momentum), g)
            step = add(g, mul(v, self.momentum)) if self.nesterov else v
            new.append(sub(p, mul(step, rate)))
            velocities.append(v)
        return new, State(state.updates + 1, {"velocity": velocities})

    def _kernel(self, backend: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]],
                count: int) -> None:
        backend.sgd(parameters, gradients, slots["velocity"], self._settings(count))

    def _numbers(self, count: int) -> list[float]:
        return [self.learning_rate_at(count), self.momentum, self.nesterov, self.weight_decay]


class RMSProp(Optimizer):
    """v = decay * v + (1 - decay) * g^2; parameter -= learning_rate * g / (sqrt(v) + eps) (Tieleman, Hinton 2012)."""

    slot_names = ("square",)

    def __init__(self, learning_rate: float | Schedule, decay: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(learning_rate, weight_decay)
        if not 0 <= decay < 1:
            raise ValueError(f"RMSProp: decay should be in [0, 1), got {decay}")
        _check_positive("RMSProp", "eps", eps)
        self.decay = decay
        self.eps = eps

    def update(self, parameters: Sequence[Any], gradients: Sequence[Any], state: State) -> tuple[list[Any], State]:
        rate = self._constant_rate(state.updates)
        new, squares = [], []
        for p, g, v in zip(parameters, gradients, state.slots["square"], strict=True):
            if self.weight_decay:
                g = add(g, mul(p, self.weight_decay))
            g, v = _mean_square(g, v, self.decay)
            new.append(sub(p, div(mul(g, rate), add(_root(v), self.eps))))
            squares.append(v)
        return new, State(state.updates + 1, {"square": squares})

    def _kernel(self, backend: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]],
                count: int) -> None:
        backend.rmsprop(parameters, gradients, slots["square"], self._settings(count))

    def _numbers(self, count: int) -> list[float]:
        return [self.learning_rate_at(count), self.decay, self.eps, self.weight_decay]


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; with both divided by 1 - beta^t,
    parameter -= learning_rate * m / (sqrt(v) + eps) (Kingma, Ba 2015, algorithm 1). weight_decay: added to g.

    The defaults are those of the DCGAN paper (section 4).
    """

    slot_names = ("m", "v")
    decoupled = False

    def __init__(self, learning_rate: float | Schedule = 2e-4, betas: tuple[float, float] = (0.5, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(learning_rate, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: betas should be two numbers in [0, 1), got {betas}")
        _check_positive(type(self).__name__, "eps", eps)
        self.betas = betas
        self.eps = eps

    def update(self, parameters: Sequence[Any], gradients: Sequence[Any], state: State) -> tuple[list[Any], State]:
        rate, (beta1, beta2), t = self._constant_rate(state.updates, changes=True), self.betas, state.updates + 1
        new, ms, vs = [], [], []
        for p, g, m, v in zip(parameters, gradients, state.slots["m"], state.slots["v"], strict=True):
            if self.weight_decay and not self.decoupled:
                g = add(g, mul(p, self.weight_decay))
            g, v = _mean_square(g, v, beta2)
            m = add(mul(m, beta1), mul(g, 1 - beta1))
            step = div(mul(m, rate / (1 - beta1**t)), add(mul(_root(v), 1 / math.sqrt(1 - beta2**t)), self.eps))
            if self.weight_decay and self.decoupled:
                p = mul(p, 1 - rate * self.weight_decay)
            new.append(sub(p, step))
            ms.append(m)
            vs.append(v)
        return new, State(t, {"m": ms, "v": vs})

    def _kernel(self, backend: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]],
                count: int) -> None:
        backend.adam(parameters, gradients, slots["m"], slots["v"], self._settings(count))

    def _numbers(self, count: int) -> list[float]:
        (beta1, beta2), t = self.betas, count + 1
        return [self.learning_rate_at(count), beta1, beta2, self.eps, self.weight_decay, self.decoupled, 1 - beta1**t,
                1 - beta2**t]

    def _pulled_back(self, g: Any, packed: Any, gradient: Any, count: int) -> Any:
        if self.weight_decay or isinstance(g, Tensor):
            return super()._pulled_back(g, packed, gradient, count)
        return backend_of(packed).adam_grad(g, packed, gradient, self._settings(count))


class AdamW(Adam):
    """Adam with the weight decay apart from the gradient: parameter *= 1 - learning_rate * weight_decay (Loshchilov,
    Hutter 2019, algorithm 2)."""

    decoupled = True

    def __init__(self, learning_rate: float | Schedule = 2e-4, betas: tuple[float, float] = (0.5, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay)


def _refuse_habits(name: str, args: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """PyTorch's way to make an optimiser, told what it is here."""
    first = args[0] if args else settings.get("learning_rate")
    if "params" in settings:
        raise TypeError(f"{name}: takes no 'params': {_OURS.format(name)}")
    if "lr" in settings:
        raise TypeError(f"{name}: 'lr' is learning_rate here: {_OURS.format(name)}")
    if isinstance(first, Module | Parameter | Mapping | Iterable) and not (hasattr(first, "shape") and first.shape == ()):
        raise TypeError(f"{name}: learning_rate should be a number or a schedule, got {type(first).__name__}: "
                        f"{_OURS.format(name)}")


_OURS = "optimizer = {}(1e-3), then optimizer.bind(network), unless a GAN does it, and optimizer.step(gradients)"


def _zeros(parameter: Parameter) -> Any:
    """Of its shape, in memory as kernels like it."""
    zeros = backend_of(parameter.array).empty(parameter.shape, parameter.dtype)
    zeros[...] = 0
    return zeros


@op(saves=(0,))
def _limited(B: Any, x: Any, limit: float) -> Any:
    """x, its finite elements limited to [-limit, limit]."""
    return B.xp.where(B.xp.isfinite(x), B.xp.clip(x, -limit, limit), x)


@_limited.vjp
def _(needs: Any, g: Any, x: Any, limit: float) -> Any:
    return (where(less_equal(absolute(x), limit), g, 0.0),)


def _mean_square(g: Any, v: Any, decay: float) -> tuple[Any, Any]:
    """The gradient, limited so that its square is finite (see `kernels.squares`), and decay * v + (1 - decay) * g^2."""
    dtype = np.dtype(g.dtype)
    g = _limited(g, limit=largest_gradient(dtype, 1 - decay))
    part = mul(g, math.sqrt(1 - decay))  # (g * g might overflow)
    square = mul(part, part)
    return g, add(minimum(mul(v, decay), sub(largest_square(dtype), square)), square)


def _root(v: Any) -> Any:
    """sqrt(v), with the gradient 0 where v is 0. There the square root's own is infinite, and the g = 0 that it meets
    further down would make it NaN: one dead unit with fresh moments would spoil every gradient through an update."""
    zero = equal(v, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, v)))


def _check_positive(caller: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{caller}: {name} should be positive, got {value}")


def _check_count(caller: str, name: str, value: int) -> None:
    if not value >= 1:
        raise ValueError(f"{caller}: {name} should be at least 1, got {value}")


def _check_gradients(caller: str, parameters: list[Parameter], gradients: Sequence[Any]) -> None:
    if len(gradients) != len(parameters):
        raise ValueError(f"{caller}: {len(parameters)} parameters but {len(gradients)} gradients")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if g.shape != p.shape or g.dtype != p.dtype:
            raise ValueError(f"{caller}: gradient {i} is {g.shape} {g.dtype}, its parameter {p.shape} {p.dtype}")
        if p.dtype != parameters[0].dtype:
            raise ValueError(f"{caller}: parameters of different precision ({parameters[0].dtype}, {p.dtype})")


# Learning-rate schedules: from the index of an update (0, 1, ...) to the learning rate.


def step_decay(start: float, factor: float, every: int) -> Schedule:
    """start, multiplied by `factor` after every `every` updates (at least 1)."""
    _check_count("step_decay", "every", every)
    return lambda count: start * factor ** (count // every)


def exponential_decay(start: float, factor: float) -> Schedule:
    """start * factor^count."""
    return lambda count: start * factor**count


def linear_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end in a straight line over that many updates (at least 1), then end."""
    _check_count("linear_decay", "updates", updates)
    return lambda count: _between(start, end, min(count / updates, 1.0))


def cosine_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end along half a cosine over that many updates (at least 1), then end (Loshchilov, Hutter 2017)."""
    _check_count("cosine_decay", "updates", updates)
    return lambda count: _between(start, end, (1 - math.cos(math.pi * min(count / updates, 1.0))) / 2)


def _between(start: float, end: float, share: float) -> float:
    """At a share of the way from start to end; the ends exactly (start + share * (end - start) loses the smaller one)."""
    return (1 - share) * start + share * end


def warmup(schedule: float | Schedule, updates: int) -> Schedule:
    """A straight line from near 0 up to `schedule` over the first updates (at least 1), then `schedule`."""
    _check_count("warmup", "updates", updates)
    return lambda count: (schedule(count) if callable(schedule) else schedule) * min((count + 1) / updates, 1.0)


def clip_by_value(gradients: Sequence[Any], limit: float) -> list[Any]:
    """Every element limited to [-limit, limit]; differentiable."""
    _check_positive("clip_by_value", "limit", limit)
    return [clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Sequence[Any], limit: float) -> tuple[list[Any], Any]:
    """All gradients scaled by one factor, so that their joint L2 norm is at most `limit`; and the norm before.
    Differentiable (Pascanu et al. 2013, algorithm 1). With a limit of infinity nothing is scaled.

    The squares are those of the gradients divided by the largest magnitude, so that none overflows or vanishes. With an
    infinity or a NaN among the gradients the norm and all that is returned is NaN: on a GPU nobody waits to see it.
    """
    _check_positive("clip_by_norm", "limit", limit)
    scale = _largest(gradients)
    if scale is None:
        return list(gradients), 0.0
    total: Any = 0.0
    for g in gradients:
        part = div(g, scale)
        total = add(total, sum_over(mul(part, part)))
    root = _root(total)
    norm = mul(root, scale)
    limit = min(limit, float(np.finfo(np.dtype(norm.dtype)).max))  # (of infinity the factor would be inf / inf)
    inside = less_equal(norm, limit)
    divisor = where(inside, 1.0, scale)
    factor = where(inside, 1.0, div(limit, where(inside, 1.0, root)))  # (one number of divisor and factor might vanish)
    return [mul(div(g, divisor), factor) for g in gradients], norm


def _largest(gradients: Sequence[Any]) -> Any:
    """The largest magnitude in any of them, a constant to `grad`, to divide by: at least the smallest normal number, below
    which a GPU takes numbers for 0. None: they have no elements."""
    scale: Any = None
    for g in gradients:
        if g.size:
            largest = largest_magnitude(g)
            scale = largest if scale is None else maximum(scale, largest)
    return scale if scale is None else maximum(scale, float(np.finfo(scale.dtype).tiny))


class ExponentialMovingAverage:
    """A running average of a module's state: average = decay * average + (1 - decay) * value at `update`.

    So it is with parameters and with running statistics, which are those of the averaged weights as nearly as averages
    tell. Whole numbers, such as counts, are copied. The vectors of SpectralNorm are not averaged, since a mean of vectors
    is none of length 1: they follow the averaged weight by power iterations of their own, as in training they follow the
    weight. `module.load_state_dict(average.state_dict())` makes the averages the module's own.
    """

    def __init__(self, module: Module, decay: float = 0.999) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ExponentialMovingAverage: module should be a Module, got {type(module).__name__}")
        if not 0 <= decay < 1:
            raise ValueError(f"ExponentialMovingAverage: decay should be in [0, 1), got {decay}")
        self.decay = decay
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._module = Bound("ExponentialMovingAverage", tensors)
        self._averages = {path: Buffer(tensor.array) for path, tensor in tensors.items()}
        spectral = {tuple(f"{prefix}.{path}" if prefix else path for path in layer.paths): layer.iteration
                    for prefix, layer in module.named_modules() if isinstance(layer, SpectralNorm)}
        self._spectral = {paths: iteration for paths, iteration in spectral.items() if paths[0] in tensors}

    def _pairs(self) -> Iterator[tuple[str, Any, Buffer]]:
        """(path, the module's tensor, its average), in the tensor's precision and on its device."""
        for path, tensor in self._module.tensors.items():
            average = self._averages[path]
            if tensor.dtype.kind == "f":
                average.convert(tensor.dtype)
            average.move(backend_of(tensor.array))
            yield path, tensor, average

    def update(self) -> None:
        """Take the module's present values in."""
        following = {path for _, *vectors in self._spectral for path in vectors}
        for path, tensor, average in self._pairs():
            if tensor.dtype.kind != "f":
                average.assign(tensor.array)
            elif path not in following:
                array = average.writable()
                array += (tensor.array - array) * array.dtype.type(1 - self.decay)
        for (weight, u, v), iterate in self._spectral.items():
            iterate(self._averages[weight].array, self._averages[u], self._averages[v])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """`with average.applied():` the module has the averaged values; its own come back at the end."""
        pairs = list(self._pairs())
        own = [tensor.array.copy() for _, tensor, _ in pairs]
        try:
            for _, tensor, average in pairs:
                tensor.assign(average.array)
            yield
        finally:
            for (_, tensor, _), array in zip(pairs, own, strict=True):
                tensor.assign(array)

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of the averages by path."""
        return {path: np.array(average.numpy(), order="C") for path, average in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Of a state that has parameters alone, as older ones do, the rest is taken from
        the module as it is. Raises ValueError naming the entries that do not fit, before a change."""
        tensors = self._module.tensors
        own = {path: average for path, average in self._averages.items() if isinstance(tensors[path], Parameter)}
        if not isinstance(state, Mapping) or any(path in state for path in self._averages.keys() - own.keys()):
            own = self._averages
        arrays = check_state("ExponentialMovingAverage", own, state)
        for path, tensor, average in self._pairs():
            average.assign(arrays.get(path, tensor.array))


if not TYPE_CHECKING:
    def __getattr__(name: str) -> None:
        """For what is missing: PyTorch's names are told ours."""
        from tinygan.torch_names import OPTIM, missing

        raise missing(f"module {__name__!r}", name, OPTIM, None)
