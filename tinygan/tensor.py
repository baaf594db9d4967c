"""Tensor: an array and, if it was computed, the node that computed it.

Its operators and methods are the ops of `tinygan.ops` (see `tinygan.ops.methods`). This file, `tinygan.graph` and
`tinygan.ops` import each other: that is the one import cycle in tinygan. Parameter and Buffer, whose values may change, are
in `tinygan.parameters`. Such a Tensor has a version, which counts the writes to its memory: so `grad` notices if values
that it needs have been overwritten.
"""
from __future__ import annotations

__all__ = ["Tensor", "as_array", "shape_of", "wrap"]

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tinygan.backends import Array, backend_of
from tinygan.devices import device as find_device
from tinygan.devices import moved
from tinygan.interop.numpy_functions import ArrayUfunc, array_function, copied
from tinygan.listening import read_by_host, used

if TYPE_CHECKING:
    from tinygan.graph import Leaf, Node
    from tinygan.ops.methods import Methods
    from tinygan.versions import Version
else:
    Methods = object  # (`methods.give` adds the methods at the end of this file)

Axis = int | tuple[int, ...] | None
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Tensor(Methods):
    """A float32 or float64 array that `grad` can differentiate through. Integers and booleans have no gradients.

    `Tensor(array, requires_grad=False, dtype=None)` copies the array. Arrays (PyTorch's tensors too) and NumPy scalars keep
    their dtype. Python's numbers and lists of numbers become float32, integers too; booleans stay booleans. `dtype` changes
    that. So give labels and indices as plain lists, as integer arrays, or as a Tensor with `dtype=int`.

    `np.asarray(tensor)` is a read-only view. `tensor.array` is the array itself; write to it only through
    `Parameter.assign`. A bare array beside a Tensor (`tensor * array`) is kept for the backward pass without a copy. If you
    overwrite it before that pass, the gradient is computed from the new values. `detect_anomaly` notices this.

    In arithmetic a boolean array or Tensor counts as 0 and 1 (`x * (x > 0)`). NumPy's functions take a Tensor as the array
    of its values. If this would lose a recorded Tensor's gradient, they raise a TypeError that names tinygan's function.
    """

    __slots__ = ("__weakref__", "array", "node", "version")
    __array_ufunc__ = ArrayUfunc()

    array: Array
    node: Node | None
    version: Version | None

    def __init__(self, array: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.array = copied(array, dtype)
        self.node = None
        self.version = None  # counts the writes to this memory, a Parameter's or Buffer's; None: nobody overwrites it
        if requires_grad:
            if self.array.dtype not in FLOATS:
                raise TypeError(f"Tensor: requires_grad needs float32 or float64, got {self.array.dtype}")
            self.node = graph.Leaf()  # (`graph` is imported at the end of this file)

    if not TYPE_CHECKING:  # (a type checker that saw this would accept every attribute)
        def __getattr__(self, name: str) -> Any:
            """Raise the error for an attribute that does not exist. If PyTorch has it, the error gives its name here."""
            if name[:2] == "__":  # NumPy and Python look for such names at every use
                raise AttributeError(name)
            if hasattr(type(self), name):  # a slot without a value, or a property: they raise errors of their own
                return object.__getattribute__(self, name)
            from tinygan.interop.torch_names import TENSOR, missing

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
        return transpose(self)

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
        read_by_host("print or repr()")
        values = np.array2string(self._values(), precision=4, threshold=20, edgeitems=2, separator=", ")
        if self.node is None:
            origin = ""
        elif self.node.op is None:
            origin = ", requires_grad=True"
        else:
            origin = f", op={self.node.op.name}"
        return f"{type(self).__name__}({values}, shape={self.shape}, dtype={self.dtype}{origin})"

    # -- to NumPy and to Python ---------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a read-only NumPy array: a view on the CPU, a copy from a GPU."""
        read_by_host("numpy()")  # an error while `tinygan.capture` records a step: a replay could not react to the values
        return self._values()

    def _values(self) -> np.ndarray[Any, Any]:
        view = backend_of(self.array).to_numpy(self.array).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        read_by_host("np.asarray, or another function of NumPy,")
        view = self._values()
        if dtype is not None and np.dtype(dtype) != view.dtype:
            if copy is False:
                raise ValueError(f"np.asarray: {np.dtype(dtype)} of a Tensor of {view.dtype} needs a copy")
            return view.astype(dtype)
        return view.copy() if copy else view

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None,
                   dl_device: tuple[Any, int] | None = None, copy: bool | None = None) -> Any:
        """The values for another library, `torch.from_dlpack(tensor)`: the same memory, without a copy, read-only. As in
        PyTorch, a Tensor that requires a gradient raises BufferError, because the gradient would be lost: use
        `tensor.detach()`. A library that does not know read-only memory gets a copy. (PyTorch ignores that the memory is
        read-only: do not write to it.)"""
        if self.node is not None:
            raise BufferError("__dlpack__: this Tensor requires a gradient, which would be lost: use tensor.detach()")
        read_by_host("__dlpack__, or another library's from_dlpack,")
        if self.device != "cpu":
            return self.array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)
        if max_version is None or max_version < (1, 0):
            if copy is False:
                raise BufferError("__dlpack__: a library that asks for no version of DLPack, or one before 1.0, gets a copy")
            return self.array.copy().__dlpack__(dl_device=dl_device)
        return self._values().__dlpack__(max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The kind of device and its number, as DLPack counts them."""
        return self.array.__dlpack_device__()

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(function, args, kwargs)

    def to(self, device: str) -> Tensor:
        """The same values on another device, a constant to `grad`. If they are there already, this Tensor itself."""
        backend = find_device(device)
        return self if backend_of(self.array) is backend else wrap(moved(self.array, backend))

    def item(self) -> Any:
        """The one element, as a Python number."""
        return self._number("item()")

    def _number(self, caller: str) -> Any:
        if self.size != 1:
            raise ValueError(f"item: needs one element, got shape {self.shape}")
        read_by_host(caller)
        return self.array.item()

    def __float__(self) -> float:
        return float(self._number("float()"))

    def __int__(self) -> int:
        return int(self._number("int()"))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"bool: a Tensor of shape {self.shape} is not one truth value: use tinygan.any or tinygan.all")
        return bool(self._number("a truth value (`if`, `and`, `max`, bool())"))

    def __format__(self, spec: str) -> str:
        return format(self._number("a number in a text"), spec) if spec else repr(self)

    def tolist(self) -> Any:
        read_by_host("tolist()")
        return self.array.tolist()

    def __copy__(self) -> Tensor:
        return type(self)(self.array, self.is_leaf and self.requires_grad)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.__copy__()  # on the same device, without the graph

    def __reduce__(self) -> Any:
        # Pickled without the graph: a computed Tensor comes back as a constant.
        return type(self), (self.numpy(), self.is_leaf and self.requires_grad)

    @property
    def is_leaf(self) -> bool:
        """Whether no op computed this Tensor."""
        return self.node is None or self.node.op is None

    # -- gradients ----------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """The sum of the gradients that `backward` has computed for this leaf. Set it to None to start again."""
        return self.node.grad if isinstance(self.node, graph.Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self.node, graph.Leaf):
            raise AttributeError("grad: only a leaf with requires_grad=True has one; see tinygan.grad for others")
        if value is not None and not (isinstance(value, Tensor) and value.shape == self.shape and value.dtype == self.dtype):
            raise TypeError(f"grad: expected None or a Tensor of shape {self.shape} and {self.dtype}, got "
                            f"{repr(value) if isinstance(value, Tensor) else type(value).__name__}")
        self.node.grad = value

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Compute this Tensor's gradient with respect to every leaf that requires one, and add it to the leaf's `.grad`.

        gradient: weights for the elements, of this Tensor's shape. A Tensor of one element needs none."""
        start, = checks.nodes("backward", "", [self])  # this Tensor's node, or an error if it has none
        seed, = checks.seeds("backward", [self], None if gradient is None else [gradient], create_graph=False)
        below = graph.reachable([start], oldest=-1)  # however old
        leaves: dict[Node, Leaf] = {node: node for node in below if isinstance(node, graph.Leaf)}
        found = graph.watched_walk([(start, seed)], leaves, create_graph=False, retain_graph=retain_graph)
        for node, g in found.items():  # (bare arrays, as there is no graph of them)
            leaf = leaves[node]
            leaf.grad = wrap(g if leaf.grad is None else leaf.grad.array + g)

    def detach(self) -> Tensor:
        """The same values (the same memory) as a constant to `grad`."""
        return wrap(self.array, None, self.version)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("a Tensor cannot be written to in place (its graph would go stale): build a new one with "
                        "tinygan.where or tinygan.concatenate, or use Parameter.assign")

    def __hash__(self) -> int:
        return id(self)


def wrap(array: Array, node: Node | None = None, version: Version | None = None) -> Tensor:
    """A Tensor around `array` itself, without a copy."""
    tensor = Tensor.__new__(Tensor)
    tensor.array = array
    tensor.node = node
    tensor.version = version
    return tensor


def as_array(value: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    if value.version is not None:
        used(value)
    return value.array


def shape_of(caller: str, value: Any) -> tuple[int, ...]:
    """The shape of a Tensor or an array; a TypeError that names the caller for anything else."""
    try:
        return value.shape
    except AttributeError:
        raise TypeError(f"{caller}: expected a Tensor or an array, got {type(value).__name__}") from None


from tinygan import checks, graph  # (the import cycle: Tensor is defined now, so these can import it)
from tinygan.ops import methods, transpose

methods.give(Tensor)
