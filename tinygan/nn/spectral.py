"""Spectral normalisation: a layer whose weight is divided by the weight's largest singular value."""
from __future__ import annotations

__all__ = ["SpectralNorm"]

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygan import ops
from tinygan.backends import backend_of, cpu
from tinygan.devices import is_readable
from tinygan.nn.conv import ConvTranspose2d
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module, members
from tinygan.ops.reduce import largest_magnitude
from tinygan.parameters import Buffer, Parameter
from tinygan.random import Key, next_key
from tinygan.tensor import as_array

_ORIGINAL, _U, _V = "parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"
_FIRST_ITERATIONS = 15  # starting from a random vector; PyTorch makes as many when it wraps a layer


class SpectralNorm(Module):
    """`layer` (Dense, Conv2d, ConvTranspose2d or another with a `weight`) with the weight W / sigma. sigma is the largest
    singular value of W as a matrix (outputs, everything else) (Miyato, Kataoka, Koyama, Yoshida 2018, algorithm 1).

    sigma = u^T W v. In training, every forward pass that updates buffers moves u and v by `n_power_iterations` power
    iterations. For gradients they are constants. The state has the same names as in PyTorch's
    `parametrizations.spectral_norm`. eps: the smallest norm by which a vector is divided. The vector is scaled first, so
    that its largest element is 1. (PyTorch does not scale, and so takes a small weight for zeros.)

    Raises ValueError for a layer without a weight of two axes or more, and, when the layer is used, for a weight of zeros.
    On a GPU a weight of zeros gives NaN instead, because an error would have to wait for the GPU.
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
        self._outputs = 1 if isinstance(layer, ConvTranspose2d) else 0  # the axis of the outputs in the weight
        for name, value in vars(self._layer).items():
            if any(True for _ in members(name, value)):
                setattr(self, name, value)  # so that its other state and modules are found here
        rows = weight.shape[self._outputs]
        u, v = (Buffer(np.full(n, n**-0.5, np.float32)) for n in (rows, weight.size // max(rows, 1)))
        for path, tensor in ((_ORIGINAL, weight), (_U, u), (_V, v)):  # (PyTorch's names have dots; vars accepts them)
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
        """The weight divided by sigma, with the present u and v."""
        original = getattr(self, _ORIGINAL)
        # Copies, because u and v may change before the backward pass.
        u, v = (as_array(getattr(self, path)).astype(original.dtype) for path in (_U, _V))
        sigma = ops.sum(ops.mul(u, ops.matmul(_matrix(original, self._outputs), v)))
        if _may_check(as_array(sigma)) and as_array(sigma) == 0:
            raise ValueError(f"SpectralNorm: u^T W v is 0, and the weight (of shape {original.shape}) cannot be divided by "
                             "it: the weight is zeros, or the vectors u and v belong to another weight")
        return ops.div(original, sigma)

    def forward(self, *inputs: Any) -> Any:
        return self.normalized().forward(*inputs)

    def normalized(self) -> Module:
        """The layer with the normalised weight. In training, if buffers are updated, u and v are moved first."""
        if self.training and self.updates_buffers:
            _iterate(as_array(getattr(self, _ORIGINAL)), getattr(self, _U), getattr(self, _V), self._outputs, self.eps,
                     self.n_power_iterations)
        return self._with(self.weight)

    @property
    def iteration(self) -> Callable[[Any, Buffer, Buffer], None]:
        """The power iterations of one forward pass in training, as a function of a weight and its vectors u and v."""
        return partial(_iterate, outputs=self._outputs, eps=self.eps, count=self.n_power_iterations)

    @property
    def paths(self) -> tuple[str, str, str]:
        """The names of the weight and of the vectors u and v in the state."""
        return _ORIGINAL, _U, _V

    def _with(self, weight: Any) -> Module:
        layer = copy.copy(self._layer)
        layer.__dict__.update(weight=weight, _training=self._training, _identity=self._identity)  # with this module's mode
        return layer

    @property
    def taken(self) -> tuple[int, str] | None:  # type: ignore[override]
        """That of the layer itself."""
        return self._layer.taken

    def describe(self) -> str:
        return f"{type(self._layer).__name__}: {self._with(getattr(self, _ORIGINAL)).describe()}"


def _matrix(weight: Any, outputs: int) -> Any:
    """weight, a Tensor or an array, as (outputs, everything else)."""
    if outputs:
        weight = ops.transpose(weight, (outputs, 0, *range(2, len(weight.shape))))
    return ops.reshape(weight, (weight.shape[0], -1))


def _may_check(x: Any) -> bool:
    """Whether x may be looked at. On a GPU that would have to wait; there the loss becomes NaN. A step that is being
    recorded was checked when it ran for the first time."""
    return backend_of(x) is cpu and is_readable(x)


def _iterate(weight: Any, u: Buffer, v: Buffer, outputs: int, eps: float, count: int) -> None:
    """Make `count` power iterations, which move u and v towards the singular vectors of the largest singular value."""
    matrix = _matrix(weight, outputs)
    backend = backend_of(matrix)

    def unit(x: Any) -> Any:
        """x / |x|. It is divided by its largest magnitude first, so that no square overflows or vanishes."""
        largest = largest_magnitude(x)
        if _may_check(largest) and largest == 0:
            raise ValueError(f"SpectralNorm: a weight of zeros has no singular vectors (weight {weight.shape})")
        x = x / largest
        return x / backend.xp.maximum(backend.xp.sqrt((x * x).sum()), eps)

    right = as_array(v).astype(matrix.dtype)
    for _ in range(count):
        left = unit(backend.matmul(matrix, right[:, None])[:, 0])
        right = unit(backend.matmul(matrix.T, left[:, None])[:, 0])
    u.assign(left)
    v.assign(right)


def _begin(u: Buffer, v: Buffer, outputs: int, eps: float, key: Key, weight: Any) -> None:
    v.assign(key.fold("v").normal(v.shape))
    _iterate(weight, u, v, outputs, eps, _FIRST_ITERATIONS)


def _draw(initializer: Initializer, begin: Any, key: Key, shape: tuple[int, ...], dtype: Any) -> Any:
    """Draw the weight, and begin u and v for it."""
    weight = initializer(key, shape, dtype)
    begin(key, weight)
    return weight
