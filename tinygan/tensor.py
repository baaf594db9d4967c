"""Tensor: an array and, if it was computed, the node that computed it. Parameter and Buffer: the two that may change.

The operators are the ops of `tinygan.ops`; that package knows Tensor and Tensor knows it: the one cycle in the house.
"""
from __future__ import annotations

__all__ = ["Buffer", "Parameter", "Tensor", "as_array", "shape_of", "wrap"]

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tinygan.backends import Array, Backend, backend_of, cpu
from tinygan.context import CONTEXT
from tinygan.devices import device as find_device
from tinygan.devices import moved
from tinygan.interop import ArrayUfunc, array_function, holds_recorded
from tinygan.versions import Version

if TYPE_CHECKING:
    from tinygan.graph import Node
    from tinygan.random import Key

    Initializer = Callable[[Key, tuple[int, ...], Any], Array]

Axis = int | tuple[int, ...] | None
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Tensor:
    """A float32 or float64 array that `grad` can differentiate through (integers and booleans: without gradients).

    `Tensor(array, requires_grad=False, dtype=None)` copies the array. Arrays (PyTorch's tensors too) and NumPy scalars keep
    their dtype. Python numbers, integers too, and lists of numbers become float32, and booleans stay booleans, unless
    `dtype` says otherwise: labels and indices are given as plain lists, as integer arrays, or with `dtype=int`.

    `np.asarray(tensor)` is a read-only view; `tensor.array` is the array itself: write to it only through
    `Parameter.assign`. A bare array beside a Tensor (`tensor * array`) is kept for the backward pass as it is, not copied:
    whoever overwrites it before gets the gradient for the new values. `detect_anomaly` notices it.

    A boolean array or Tensor beside numbers is 0 and 1 (`x * (x > 0)`). NumPy's functions take a Tensor as the array of its
    values; where that would cut off a Tensor that is being recorded they raise a TypeError that names tinygan's function.
    """

    __slots__ = ("__weakref__", "array", "node", "version")
    __array_ufunc__ = ArrayUfunc()

    array: Array
    node: Node | None
    version: Version | None

    def __init__(self, array: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.array = _copied(array, dtype)
        self.node = None
        self.version = None
        if requires_grad:
            if self.array.dtype not in FLOATS:
                raise TypeError(f"Tensor: requires_grad needs float32 or float64, got {self.array.dtype}")
            self.node = _graph.Leaf()

    if not TYPE_CHECKING:  # (else every attribute would have a type)
        def __getattr__(self, name: str) -> Any:
            """For what is missing."""
            if name[:2] == "__":  # a protocol that NumPy or Python asks for, at every use
                raise AttributeError(name)
            if hasattr(type(self), name):  # a slot without a value, or a property, whose own error says what is missing
                return object.__getattribute__(self, name)
            from tinygan.torch_names import TENSOR, missing

            raise missing(f"{type(self).__name__!r} object", name, TENSOR, self)

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def requires_grad(self) -> bool:
        """Whether `grad` can reach this Tensor."""
        return self.node is not None

    @property
    def T(self) -> Tensor:
        return ops.transpose(self)

    @property
    def device(self) -> str:
        return backend_of(self.array).name

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a Tensor without axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, threshold=20, edgeitems=2, separator=", ")
        if self.node is None:
            origin = ""
        elif self.node.op is None:
            origin = ", requires_grad=True"
        else:
            origin = f", op={self.node.op.name}"
        return f"{type(self).__name__}({values}, shape={self.shape}, dtype={self.dtype}{origin})"

    # -- to NumPy and to Python ---------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """A read-only view on the CPU; a copy if the Tensor lies on a GPU."""
        view = backend_of(self.array).to_numpy(self.array).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        view = self.numpy()
        if dtype is not None and np.dtype(dtype) != view.dtype:
            if copy is False:
                raise ValueError(f"np.asarray: {np.dtype(dtype)} of a Tensor of {view.dtype} needs a copy")
            return view.astype(dtype)
        return view.copy() if copy else view

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(function, args, kwargs)

    def to(self, device: str) -> Tensor:
        """The same values on another device, as a constant to `grad`; this Tensor if they lie there."""
        backend = find_device(device)
        return self if backend_of(self.array) is backend else wrap(moved(self.array, backend))

    def item(self) -> Any:
        """The one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: needs one element, got shape {self.shape}")
        return self.array.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"bool: a Tensor of shape {self.shape} is not one truth value: use tinygan.any or tinygan.all")
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def tolist(self) -> Any:
        return self.array.tolist()

    def __copy__(self) -> Tensor:
        return _rebuild(type(self), self.array, self.is_leaf and self.requires_grad)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return _rebuild(type(self), self.array, self.is_leaf and self.requires_grad)  # on its device, without the graph

    def __reduce__(self) -> Any:
        # Pickled without the graph: a computed Tensor comes back as a constant.
        return _rebuild, (type(self), self.numpy(), self.is_leaf and self.requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no op computed this Tensor."""
        return self.node is None or self.node.op is None

    # -- gradients ----------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """What `backward` has added up for this leaf; set it to None to start again."""
        return self.node.grad if isinstance(self.node, _graph.Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self.node, _graph.Leaf):
            raise AttributeError("grad: only a leaf with requires_grad=True has one; see tinygan.grad for others")
        if value is not None and not (isinstance(value, Tensor) and value.shape == self.shape and value.dtype == self.dtype):
            raise TypeError(f"grad: expected None or a Tensor of shape {self.shape} and {self.dtype}, got "
                            f"{repr(value) if isinstance(value, Tensor) else type(value).__name__}")
        self.node.grad = value

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add to `.grad` of every leaf that requires a gradient (a Tensor, of the leaf's shape) the gradient of this
        Tensor; `gradient` (same shape) weighs the elements, and may be left out where there is one element."""
        _graph.backward(self, gradient, retain_graph)

    def detach(self) -> Tensor:
        """The same values (the same memory) as a constant to `grad`."""
        return wrap(self.array, None, self.version)

    # -- operators and the usual ops as methods -------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("a Tensor cannot be written to in place (its graph would go stale): build a new one with "
                        "tinygan.where or tinygan.concatenate, or use Parameter.assign")

    def __lt__(self, other: Any) -> Tensor:
        return ops.less(self, other) if _is_number(other) else NotImplemented

    def __le__(self, other: Any) -> Tensor:
        return ops.less_equal(self, other) if _is_number(other) else NotImplemented

    def __gt__(self, other: Any) -> Tensor:
        return ops.greater(self, other) if _is_number(other) else NotImplemented

    def __ge__(self, other: Any) -> Tensor:
        return ops.greater_equal(self, other) if _is_number(other) else NotImplemented

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other) if _is_number(other) else NotImplemented

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other) if _is_number(other) else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
        return ops.var(self, axis, keepdims, ddof)

    def std(self, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
        return ops.std(self, axis, keepdims, ddof)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def norm(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.norm(self, axis, keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.prod(self, axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        return ops.cumsum(self, axis)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.any(self, axis, keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.all(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        return ops.argmax(self, axis)

    def argmin(self, axis: int | None = None) -> Tensor:
        return ops.argmin(self, axis)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.logsumexp(self, axis, keepdims)

    def softmax(self, axis: int = -1) -> Tensor:
        return ops.softmax(self, axis)

    def log_softmax(self, axis: int = -1) -> Tensor:
        return ops.log_softmax(self, axis)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self, start: int = 0) -> Tensor:
        return ops.flatten(self, start)

    def squeeze(self, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis)

    def transpose(self, *axes: Any) -> Tensor:
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def gather(self, axis: int, index: Any) -> Tensor:
        return ops.gather(self, axis, index)

    def abs(self) -> Tensor:
        return ops.abs(self)

    def sign(self) -> Tensor:
        return ops.sign(self)

    def floor(self) -> Tensor:
        return ops.floor(self)

    def ceil(self) -> Tensor:
        return ops.ceil(self)

    def round(self) -> Tensor:
        return ops.round(self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        return ops.clip(self, low, high)

    def pow(self, exponent: Any) -> Tensor:
        return ops.pow(self, exponent)

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def sin(self) -> Tensor:
        return ops.sin(self)

    def cos(self) -> Tensor:
        return ops.cos(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        return ops.relu(self)

    def astype(self, dtype: Any) -> Tensor:
        return ops.astype(self, dtype)


def wrap(array: Array, node: Node | None = None, version: Version | None = None) -> Tensor:
    """A Tensor around `array` itself, without a copy."""
    tensor = Tensor.__new__(Tensor)
    tensor.array = array
    tensor.node = node
    tensor.version = version
    return tensor


def as_array(value: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    return value.array if isinstance(value, Tensor) else value


def shape_of(caller: str, value: Any) -> tuple[int, ...]:
    """The shape of a Tensor or an array; a TypeError that names the caller for anything else."""
    try:
        return value.shape
    except AttributeError:
        raise TypeError(f"{caller}: expected a Tensor or an array, got {type(value).__name__}") from None


def _is_number(value: Any) -> bool:
    """Whether a Tensor can be compared with it: a Tensor, a real number, or an array of real numbers."""
    if isinstance(value, Tensor | int | float):
        return True
    try:
        backend_of(value)
    except TypeError:
        return False
    return value.dtype.kind in "fiub"


def _of_numpy(caller: str, value: Any) -> Any:
    """An array whose dtype is none of NumPy's, such as PyTorch's tensor, as one of NumPy; anything else as it is."""
    if isinstance(getattr(value, "dtype", None), np.dtype | None):
        return value
    from tinygan.foreign import as_numbers  # (which imports this module)

    return as_numbers(caller, value)


def _copied(array: Any, dtype: Any) -> Array:
    if isinstance(array, Tensor):
        array = array.array
    array = _of_numpy("Tensor", array)
    if not hasattr(array, "dtype"):
        if holds_recorded(array):
            raise TypeError("Tensor: a list of Tensors would lose their gradients: use tinygan.stack, or tinygan.detach for "
                            "their values")
        array = np.asarray(array)
        if array.dtype.kind in "fiu" and dtype is None:
            dtype = np.float32  # Python's numbers carry no precision of their own
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: expected real numbers, got an array of {array.dtype}")
    return backend_of(np.asarray(array) if np.isscalar(array) else array).xp.array(array, dtype=dtype, copy=True, order="C")


def _rebuild(kind: type[Tensor], array: Any, requires_grad: bool) -> Tensor:
    return kind(array) if issubclass(kind, _Variable) else kind(array, requires_grad)


class _Variable(Tensor):
    """A Tensor whose values may change, in place, through `assign` alone; backward checks the version it bumps."""

    __slots__ = ()

    def assign(self, value: Any) -> None:
        """Overwrite the values. value: an array or Tensor of the same shape; it is cast to this dtype."""
        value = _of_numpy("assign: the value", as_array(value))
        if np.shape(value) != self.shape:
            raise ValueError(f"assign: the value has shape {np.shape(value)}, expected {self.shape}")
        backend = backend_of(self.array)
        if hasattr(value, "dtype"):
            value = moved(value, backend)
        elif backend.name != "cpu":
            value = backend.asarray(np.asarray(value, self.dtype))
        self.writable()[...] = value

    def convert(self, dtype: np.dtype[Any]) -> None:
        """Change the precision, float32 or float64. What is no floating-point number stays as it is."""
        if dtype not in FLOATS:
            raise TypeError(f"{type(self).__name__}: expected float32 or float64, got {dtype}")
        if self.dtype in FLOATS and self.dtype != dtype:
            self._lies_in(self.writable().astype(dtype))

    def _lies_in(self, array: Array) -> None:
        """The values' memory from now on."""
        assert self.version is not None
        self.array = array
        self.version.watch(array)

    def writable(self) -> Array:
        """The array, for a kernel that is about to write to it: bumps the version, so that a graph which saved the old
        values refuses to use the new ones."""
        assert self.version is not None
        self.version.count += 1
        listener = CONTEXT.get().listener
        if listener is not None:
            listener.uses(self)
            listener.advanced(self._written_again)
        return self.array

    def _written_again(self) -> None:
        """A replay is about to write."""
        assert self.version is not None
        self.version.count += 1

    def move(self, backend: Backend) -> None:
        """Bring the values to another device."""
        if backend_of(self.array) is not backend:
            self._lies_in(moved(self.writable(), backend))


class Buffer(_Variable):
    """State of a module that is saved with it but not trained, such as a running mean. Never requires a gradient."""

    __slots__ = ()

    def __init__(self, array: Any, dtype: Any = None) -> None:
        super().__init__(array, dtype=dtype)
        self.version = Version()
        self.version.watch(self.array)


class Parameter(_Variable):
    """What a module trains. `Parameter(array)`, or `Parameter(shape=..., initializer=...)`, which draws the values
    later: by `module.initialize(key)`, by loading, or at first use from the context's key.

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
        else:
            # `array` stays unset until somebody asks for it: see __getattr__.
            self._shape, self._dtype = tuple(shape), np.dtype(dtype)
            self._backend = cpu
            self.node = _graph.Leaf()
        self.version = Version()
        if initializer is None:
            self.version.watch(self.array)

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
        if self.initialized:
            super().assign(value)
            return
        value = as_array(value)
        if np.shape(value) != self._shape:
            raise ValueError(f"assign: the value has shape {np.shape(value)}, expected {self._shape}")
        self._set(value if hasattr(value, "dtype") else np.asarray(value, self._dtype))

    def convert(self, dtype: np.dtype[Any]) -> None:
        if self.initialized:
            super().convert(dtype)
        self._dtype = dtype

    def move(self, backend: Backend) -> None:
        if self.initialized:
            super().move(backend)
        self._backend = backend

    def _set(self, array: Array) -> None:
        if self.initialized:
            super().assign(array)
        else:
            if np.shape(array) != self._shape:
                raise ValueError(f"Parameter: the initializer made shape {np.shape(array)}, expected {self._shape}")
            # Memory of its own, in C order, which optimisers write to; kernels like how `empty` aligns it.
            self._lies_in(self._backend.empty(self._shape, self._dtype))
            self.array[...] = moved(array, self._backend)

    def __getattr__(self, name: str) -> Any:
        # Python comes here only when the slot is unset, so reading `array` costs nothing once there are values.
        if name != "array":
            return super().__getattr__(name)  # type: ignore[misc]
        from tinygan.random import next_key

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
        # As an argument, so that a deep copy is deep: SpectralNorm's initializer writes to the Buffers beside it.
        return _undrawn, (self._shape, self.initializer, self._dtype)


def _undrawn(shape: tuple[int, ...], initializer: Initializer, dtype: Any) -> Parameter:
    return Parameter(shape=shape, initializer=initializer, dtype=dtype)


from tinygan import graph as _graph  # (the cycle named above: Tensor stands, so these can now be read)
from tinygan import ops
