"""Parameter and Buffer: the Tensors of a module, whose values may change in place."""
from __future__ import annotations

__all__ = ["Buffer", "Parameter"]

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.backends import Array, Backend, backend_of, cpu
from tinygan.context import CONTEXT
from tinygan.devices import moved
from tinygan.graph import Leaf
from tinygan.interop.numpy_functions import of_numpy
from tinygan.random import Key, next_key
from tinygan.tensor import FLOATS, Tensor, as_array
from tinygan.versions import Version

Initializer = Callable[[Key, tuple[int, ...], Any], Array]


class _Variable(Tensor):
    """A Tensor whose values may change in place, but only through `assign`. Every write increases its version, which the
    backward pass checks."""

    __slots__ = ()
    version: Version

    def assign(self, value: Any) -> None:
        """Overwrite the values. value: an array or Tensor of the same shape; it is cast to this dtype."""
        value = of_numpy("assign: the value", as_array(value))
        if np.shape(value) != self.shape:
            raise ValueError(f"assign: the value has shape {np.shape(value)}, expected {self.shape}")
        backend = backend_of(self.array)
        if hasattr(value, "dtype"):
            value = moved(value, backend)
        elif backend.name != "cpu":
            value = backend.asarray(np.asarray(value, self.dtype))
        self.writable()[...] = value

    def convert(self, dtype: np.dtype[Any]) -> None:
        """Change the precision to float32 or float64. Integers and booleans stay as they are."""
        if dtype not in FLOATS:
            raise TypeError(f"{type(self).__name__}: expected float32 or float64, got {dtype}")
        if self.dtype in FLOATS and self.dtype != dtype:
            self._lie_in(self.writable().astype(dtype))

    def move(self, backend: Backend) -> None:
        """Move the values to another device."""
        if backend_of(self.array) is not backend:
            self._lie_in(moved(self.writable(), backend))

    def writable(self) -> Array:
        """The array, for a kernel that is about to write to it. The version is increased, so that a graph which saved the
        old values does not use the new ones."""
        self._count_write()
        listener = CONTEXT.get().listener
        if listener is not None:
            listener.uses(self)
            listener.advanced(self._count_write)
        return self.array

    def _count_write(self) -> None:
        self.version.count += 1

    def _lie_in(self, array: Array) -> None:
        """Use this array as the memory of the values."""
        self.array = array
        self.version.watch(array)

    def __copy__(self) -> Tensor:
        return type(self)(self.array)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return type(self)(self.array)

    def __reduce__(self) -> Any:
        return type(self), (self.numpy(),)


class Buffer(_Variable):
    """State of a module that is saved but not trained, such as a running mean. It never requires a gradient."""

    __slots__ = ()

    def __init__(self, array: Any, dtype: Any = None) -> None:
        super().__init__(array, dtype=dtype)
        self.version = Version()
        self.version.watch(self.array)


class Parameter(_Variable):
    """An array that is trained. `Parameter(array)` has values at once. `Parameter(shape=..., initializer=...)` gets them
    later: from `module.initialize(key)`, by loading, or at first use, when they are drawn from the context's key.

    initializer: `(key, shape, dtype) -> array`, one of `tinygan.nn.initializers`.
    """

    __slots__ = ("_backend", "_dtype", "_shape", "initializer")

    def __init__(self, array: Any = None, *, shape: tuple[int, ...] = (), initializer: Initializer | None = None,
                 dtype: Any = np.float32) -> None:
        self.initializer = initializer
        if initializer is None:
            super().__init__(array, requires_grad=True)
            self._shape, self._dtype = self.array.shape, self.array.dtype
            self._backend = backend_of(self.array)
            self.version = Version()
            self.version.watch(self.array)
        else:
            # `array` stays unset until it is first read: see __getattr__.
            self._shape, self._dtype = tuple(shape), np.dtype(dtype)
            self._backend = cpu
            self.node = Leaf()
            self.version = Version()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def size(self) -> int:
        return int(np.prod(self._shape))

    @property
    def initialized(self) -> bool:
        """Whether the values have been drawn or loaded."""
        try:
            object.__getattribute__(self, "array")
        except AttributeError:
            return False
        return True

    def initialize(self, key: Key) -> None:
        """Draw the values from `key`."""
        assert self.initializer is not None
        self._set(self.initializer(key, self._shape, self._dtype))

    def assign(self, value: Any) -> None:
        """Overwrite the values, or set the first ones. value: an array or Tensor of the same shape; it is cast to this
        dtype."""
        if self.initialized:
            super().assign(value)
            return
        value = as_array(value)
        if np.shape(value) != self._shape:
            raise ValueError(f"assign: the value has shape {np.shape(value)}, expected {self._shape}")
        self._set(value if hasattr(value, "dtype") else np.asarray(value, self._dtype))

    def convert(self, dtype: np.dtype[Any]) -> None:
        """Change the precision, float32 or float64."""
        if self.initialized:
            super().convert(dtype)
        self._dtype = dtype

    def move(self, backend: Backend) -> None:
        """Move the values to another device. If there are none yet, they will be drawn there."""
        if self.initialized:
            super().move(backend)
        self._backend = backend

    def _set(self, array: Array) -> None:
        if self.initialized:
            super().assign(array)
        else:
            if np.shape(array) != self._shape:
                raise ValueError(f"Parameter: the initializer made shape {np.shape(array)}, expected {self._shape}")
            # The parameter has memory of its own, in C order, because optimisers write to it. `empty` aligns it for kernels.
            self._lie_in(self._backend.empty(self._shape, self._dtype))
            self.array[...] = moved(array, self._backend)

    def __getattr__(self, name: str) -> Any:
        # Python comes here only when the slot is unset, so reading `array` costs nothing once there are values.
        if name != "array":
            return super().__getattr__(name)  # type: ignore[misc]
        self.initialize(next_key())
        return self.array

    def __deepcopy__(self, memo: Any) -> Tensor:
        if self.initialized:
            return super().__deepcopy__(memo)
        assert self.initializer is not None
        twin = _undrawn(self._shape, copy.deepcopy(self.initializer, memo), self._dtype)
        twin._backend = self._backend
        return twin

    def __reduce__(self) -> Any:
        if self.initialized:
            return super().__reduce__()
        # The initializer is an argument, so that it is pickled too: that of SpectralNorm refers to the module's Buffers.
        return _undrawn, (self._shape, self.initializer, self._dtype)


def _undrawn(shape: tuple[int, ...], initializer: Initializer, dtype: Any) -> Parameter:
    return Parameter(shape=shape, initializer=initializer, dtype=dtype)
