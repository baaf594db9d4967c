"""Spectral normalisation: a layer whose weight is divided by its largest singular value."""
from __future__ import annotations

__all__ = ["SpectralNorm"]

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygan import ops
from tinygan.backends import backend_of, cpu
from tinygan.nn.conv import ConvTranspose2d
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module, members
from tinygan.ops.reduce import largest_magnitude
from tinygan.parameters import Buffer, Parameter
from tinygan.random import Key, next_key
from tinygan.tensor import as_array

_ORIGINAL, _U, _V = "parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"
_FIRST_ITERATIONS = 15  # from a random vector, as PyTorch does when it wraps a layer


class SpectralNorm(Module):
    """`layer` (Dense, Conv2d, ConvTranspose2d or another with a `weight`) with the weight W / sigma(W), sigma the largest
    singular value of W as a matrix (outputs, everything else) (Miyato, Kataoka, Koyama, Yoshida 2018, algorithm 1).

    sigma = u^T W v, where u and v follow W by `n_power_iterations` power iterations in every forward pass in training
    that updates buffers; to gradients they are constants. State under the names that PyTorch's
    `parametrizations.spectral_norm` gives it. eps: the least norm that a vector is divided by, after its largest element was
    made 1 (PyTorch does not do that, and calls a small weight zeros). Raises ValueError for a layer without a weight of two
    axes or more, and for a weight of zeros when it is used; on a GPU, which is not waited for, the result is NaN instead.
    """

    couples_examples = False

    def __init__(self, layer: Module, n_power_iterations: int = 1, eps: float = 1e-12) -> None:
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Parameter) or len(weight.shape) < 2:
            raise ValueError(f"SpectralNorm: expected a layer with a weight of two axes or more, got {layer!r}")
        if n_power_iterations < 1 or not eps > 0:
            raise ValueError(f"SpectralNorm: n_power_iterations should be 1 or more and eps positive, got "
                             f"{n_power_iterations} and {eps}")
        self.n_power_iterations, self.eps = n_power_iterations, eps
        self.couples_examples = layer.couples_examples
        self._layer = copy.copy(layer)
        self._layer.__dict__["weight"] = None
        self._outputs = 1 if isinstance(layer, ConvTranspose2d) else 0  # the weight's axis of them
        for name, value in vars(self._layer).items():
            if any(True for _ in members(name, value)):
                setattr(self, name, value)  # state and modules of its own are found here
        rows = weight.shape[self._outputs]
        u, v = (Buffer(np.full(n, n**-0.5, np.float32)) for n in (rows, weight.size // max(rows, 1)))
        for path, tensor in ((_ORIGINAL, weight), (_U, u), (_V, v)):  # (PyTorch's names have dots, which vars don't mind)
            setattr(self, path, tensor)
        begin = partial(_begin, u, v, self._outputs, eps)
        if weight.initialized:
            begin(next_key(), weight.array)
        else:
            assert weight.initializer is not None
            weight.initializer = partial(_draw, weight.initializer, begin)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((name, module) for name, module in super().named_children() if module is not self._layer)

    @property
    def weight(self) -> Any:
        """The weight, divided by sigma as u and v give it now."""
        original = getattr(self, _ORIGINAL)
        # Copies: u and v may move before the backward pass.
        u, v = (getattr(self, path).array.astype(original.dtype) for path in (_U, _V))
        sigma = ops.sum(ops.mul(u, ops.matmul(_matrix(original, self._outputs), v)))
        if backend_of(as_array(sigma)) is cpu and as_array(sigma) == 0:
            raise ValueError(f"SpectralNorm: a weight of zeros cannot be divided by its singular value (weight "
                             f"{original.shape}), nor one to which the vectors u and v do not belong")
        return ops.div(original, sigma)

    def forward(self, *inputs: Any) -> Any:
        return self.normalized().forward(*inputs)

    def normalized(self) -> Module:
        """The layer with the normalised weight. In training that updates buffers, u and v move first."""
        if self.training and self.updates_buffers:
            _iterate(as_array(getattr(self, _ORIGINAL)), getattr(self, _U), getattr(self, _V), self._outputs, self.eps,
                     self.n_power_iterations)
        return self._with(self.weight)

    @property
    def iteration(self) -> Callable[[Any, Buffer, Buffer], None]:
        """The power iterations of a forward pass in training, as a function of a weight and its vectors u and v."""
        return partial(_iterate, outputs=self._outputs, eps=self.eps, count=self.n_power_iterations)

    @property
    def paths(self) -> tuple[str, str, str]:
        """The names of the weight and of the vectors u and v in the state."""
        return _ORIGINAL, _U, _V

    def _with(self, weight: Any) -> Module:
        layer = copy.copy(self._layer)
        layer.__dict__.update(weight=weight, _training=self._training, _identity=self._identity)  # its mode is this one's
        return layer

    @property
    def taken(self) -> tuple[int, str] | None:  # type: ignore[override]
        return self._layer.taken

    def describe(self) -> str:
        return f"{type(self._layer).__name__}: {self._with(getattr(self, _ORIGINAL)).describe()}"


def _matrix(weight: Any, outputs: int) -> Any:
    """weight, a Tensor or an array, as (outputs, everything else)."""
    if outputs:
        weight = ops.transpose(weight, (outputs, 0, *range(2, len(weight.shape))))
    return ops.reshape(weight, (weight.shape[0], -1))


def _iterate(weight: Any, u: Buffer, v: Buffer, outputs: int, eps: float, count: int) -> None:
    """`count` power iterations: u and v come closer to the singular vectors of the largest singular value."""
    matrix = _matrix(weight, outputs)
    backend = backend_of(matrix)

    def unit(x: Any) -> Any:
        """x / |x|. It is divided by its largest magnitude first, so that no square overflows or vanishes."""
        largest = largest_magnitude(x)
        if backend is cpu and largest == 0:  # (a GPU is not waited for: there the loss becomes NaN)
            raise ValueError(f"SpectralNorm: a weight of zeros has no singular vectors (weight {weight.shape})")
        x = x / largest
        return x / backend.xp.maximum(backend.xp.sqrt((x * x).sum()), eps)

    right = v.array.astype(matrix.dtype)
    for _ in range(count):
        left = unit(backend.matmul(matrix, right[:, None])[:, 0])
        right = unit(backend.matmul(matrix.T, left[:, None])[:, 0])
    u.assign(left)
    v.assign(right)


def _begin(u: Buffer, v: Buffer, outputs: int, eps: float, key: Key, weight: Any) -> None:
    v.assign(key.fold("v").normal(v.shape))
    _iterate(weight, u, v, outputs, eps, _FIRST_ITERATIONS)


def _draw(initializer: Initializer, begin: Any, key: Key, shape: tuple[int, ...], dtype: Any) -> Any:
    """An initial weight, and u and v for it."""
    weight = initializer(key, shape, dtype)
    begin(key, weight)
    return weight
