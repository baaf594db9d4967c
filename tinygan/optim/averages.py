"""Running averages of a network's weights and statistics."""
from __future__ import annotations

__all__ = ["ExponentialMovingAverage"]

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygan.backends import Backend, backend_of
from tinygan.bound import Bound
from tinygan.counting import Count
from tinygan.nn import Module, SpectralNorm
from tinygan.nn.state import check_state
from tinygan.optim.schedules import Schedule
from tinygan.parameters import Parameter
from tinygan.tensor import as_array

_COUNT = "count"  # in the state of an average whose decay is a schedule


class ExponentialMovingAverage:
    """A running average of a module's state: average = decay * average + (1 - decay) * value at `update`.

    decay: in [0, 1), how much of the average each update keeps: a number, or a schedule, a function of the number of updates
    made (such as `optim.half_life`). The average starts from the module's present values.

    `average.module` is a copy of the module, in evaluation mode, that holds the averages. Parameters and running statistics
    are averaged. Whole numbers, such as counts, are copied. The vectors of SpectralNorm have length 1, but a mean
    of them would not. So power iterations with the averaged weight update them, as in training with the weight.
    `module.load_state_dict(average.module.state_dict())` gives the averages to the module.
    """

    def __init__(self, module: Module, decay: float | Schedule = 0.999) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ExponentialMovingAverage: module should be a Module, got {type(module).__name__}")
        if not callable(decay):
            _check_decay(decay)
        self.decay = decay
        tensors = _tensors(module)
        for tensor in tensors.values():
            as_array(tensor)  # parameters without values draw them here, so that the copy has the same ones
        if callable(decay) and _COUNT in tensors:
            raise ValueError(f"ExponentialMovingAverage: a parameter or buffer of the module is called {_COUNT!r}, which in "
                             "the state is the number of updates if the decay is a schedule: give it another name")
        self._bound = Bound("ExponentialMovingAverage", tensors)
        self._count = Count()
        self._copy = copy.deepcopy(module).eval()
        self._averages = _tensors(self._copy)
        spectral = {tuple(f"{prefix}.{path}" if prefix else path for path in layer.paths): layer.iteration
                    for prefix, layer in module.named_modules() if isinstance(layer, SpectralNorm)}
        self._spectral = {paths: iteration for paths, iteration in spectral.items() if paths[0] in tensors}

    @property
    def module(self) -> Module:
        """The copy of the module that holds the averages, in the module's precision and on its device. It is always the same
        object, and `update` changes its values."""
        self.follow()
        return self._copy

    @property
    def count(self) -> int:
        """The number of updates made. It can be set, and a schedule of the decay continues from there."""
        return self._count.value

    @count.setter
    def count(self, value: int) -> None:
        self._count.value = value

    def decay_at(self, count: int) -> float:
        """The decay of update number `count` (from 0). Raises ValueError if the schedule gives one outside [0, 1)."""
        if not callable(self.decay):
            return float(self.decay)
        decay = float(self.decay(count))
        _check_decay(decay, f" at update {count}")
        return decay

    def follow(self) -> None:
        """Convert and move the averages to the precision and the device that the module has now. `update` and `module` do it
        too."""
        for path, tensor in self._bound.tensors.items():
            average = self._averages[path]
            if tensor.dtype.kind == "f":
                average.convert(tensor.dtype)
            average.move(backend_of(tensor.array))

    def _pairs(self) -> Iterator[tuple[str, Any, Any]]:
        """(path, the module's tensor, its average), in the tensor's precision and on its device."""
        self.follow()
        return ((path, tensor, self._averages[path]) for path, tensor in self._bound.tensors.items())

    def update(self) -> None:
        """Move the averages towards the module's present values."""
        following = {path for _, *vectors in self._spectral for path in vectors}
        rests: dict[Any, Any] = {}  # 1 - decay, by precision and device
        for path, tensor, average in self._pairs():
            if tensor.dtype.kind != "f":
                average.assign(tensor)
            elif path not in following:
                array = average.writable()
                backend = backend_of(array)
                if (array.dtype, backend) not in rests:
                    rests[array.dtype, backend] = self._rest(array.dtype, backend)
                array += (as_array(tensor) - array) * rests[array.dtype, backend]
        for (weight, u, v), iterate in self._spectral.items():
            iterate(as_array(self._averages[weight]), self._averages[u], self._averages[v])
        self._count.advance()

    def _rest(self, dtype: np.dtype[Any], backend: Backend) -> Any:
        """1 - decay for the next update. A recorded step computes it anew in every replay."""
        if not callable(self.decay):
            return dtype.type(1 - self.decay)
        return backend.feed(lambda: np.array(1 - self.decay_at(self.count), dtype))

    def reset(self) -> None:
        """Start again: the module's present values become the averages."""
        for _, tensor, average in self._pairs():
            average.assign(tensor)
        self.count = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """`with average.applied():` the module has the averaged values inside, and its own again after it."""
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
        """A copy of the averages by path and, if the decay is a schedule, the number of updates made, "count"."""
        state = {path: np.array(average.numpy(), order="C") for path, average in self._averages.items()}
        return {**state, _COUNT: np.array(self.count, np.int64)} if callable(self.decay) else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError naming the entries that do not fit, before any change.

        An older state has parameters only. Then the module's present buffers become the averages of the buffers.
        """
        tensors = self._bound.tensors
        own: dict[str, Any] = {path: average for path, average in self._averages.items()
                               if isinstance(tensors[path], Parameter)}
        if not isinstance(state, Mapping) or any(path in state for path in self._averages.keys() - own.keys()):
            own = dict(self._averages)
        if callable(self.decay):
            own[_COUNT] = np.array(0)
        arrays = check_state("ExponentialMovingAverage", own, state)
        if callable(self.decay):
            self.count = int(arrays.pop(_COUNT))
        for path, tensor, average in self._pairs():
            average.assign(arrays.get(path, tensor.array))


def _tensors(module: Module) -> dict[str, Any]:
    """All parameters and buffers by path. One that two layers share comes once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _check_decay(decay: float, where: str = "") -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"ExponentialMovingAverage: decay should be in [0, 1), got {decay}{where}")
