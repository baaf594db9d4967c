"""Running averages of a network's weights and statistics."""
from __future__ import annotations

__all__ = ["ExponentialMovingAverage"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.bound import Bound
from tinygan.nn import Module, SpectralNorm
from tinygan.nn.state import check_state
from tinygan.parameters import Buffer, Parameter
from tinygan.tensor import as_array


class ExponentialMovingAverage:
    """A running average of a module's state: average = decay * average + (1 - decay) * value at `update`.

    Parameters and running statistics are averaged. Whole numbers, such as counts, are copied. The vectors of SpectralNorm
    have length 1, but a mean of them would not. So power iterations with the averaged weight update them, as in training
    with the weight. `module.load_state_dict(average.state_dict())` gives the averages to the module.
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
        """Move the averages towards the module's present values."""
        following = {path for _, *vectors in self._spectral for path in vectors}
        for path, tensor, average in self._pairs():
            if tensor.dtype.kind != "f":
                average.assign(tensor)
            elif path not in following:
                array = average.writable()
                array += (as_array(tensor) - array) * array.dtype.type(1 - self.decay)
        for (weight, u, v), iterate in self._spectral.items():
            iterate(as_array(self._averages[weight]), self._averages[u], self._averages[v])

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
        """A copy of the averages by path."""
        return {path: np.array(average.numpy(), order="C") for path, average in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError naming the entries that do not fit, before any change.

        An older state has parameters only. Then the module's present buffers become the averages of the buffers.
        """
        tensors = self._module.tensors
        own = {path: average for path, average in self._averages.items() if isinstance(tensors[path], Parameter)}
        if not isinstance(state, Mapping) or any(path in state for path in self._averages.keys() - own.keys()):
            own = self._averages
        arrays = check_state("ExponentialMovingAverage", own, state)
        for path, tensor, average in self._pairs():
            average.assign(arrays.get(path, tensor.array))
