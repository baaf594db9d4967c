"""Arrays that tell a recorder what is done with them.

While a step is recorded (see `program`), its arrays are of the type `RecordedArray`. NumPy calls the methods below for every
function of such an array, and they pass the call to the recorder of this thread. Without a recorder they compute as for any
other array, so an array that outlives the recording does no harm.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinygan.kernels.cpu.runtime.program import Recorder

Array = np.ndarray[Any, Any]


class _Active(threading.local):
    recorder: Recorder | None = None


ACTIVE = _Active()
"""The recorder of this thread; None: nothing is being recorded."""


class RecordedArray(np.ndarray[Any, Any]):
    """An array of a step that is being recorded."""

    __numba_array_subtype_dispatch__ = True  # Numba asks `arrays.numba_type`, instead of taking it for NumPy's

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(getattr(x, "__array_ufunc__", self) is None for x in inputs):
            return NotImplemented  # so that Tensor computes `array + tensor`
        return told(ufunc if method == "__call__" else getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return told(function, args, kwargs)

    def __getitem__(self, index: Any) -> Any:
        if not _is_view(index):
            return told(getitem, (self, index), {})
        found = super().__getitem__(index)
        if isinstance(found, np.ndarray):
            return found
        return super().__getitem__((*index, ...) if isinstance(index, tuple) else (index, ...))

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is ... or _is_view(index):
            target = self if index is ... else self[index]
            while isinstance(value, np.ndarray) and value.ndim > target.ndim and len(value) == 1:
                value = value[0, ...]  # (an assignment allows what copyto does not)
            told(np.copyto, (target, value), {"casting": "unsafe"})
        else:
            told(setitem, (self, index, value), {})

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(read_by_host(self, "a truth value (`if`, `and`, `max`, bool())"))

    def __float__(self) -> float:
        return float(read_by_host(self, "float()"))

    def __int__(self) -> int:
        return int(read_by_host(self, "int()"))

    def __index__(self) -> int:
        return int(read_by_host(self, "an array as a Python index"))

    def __complex__(self) -> complex:
        return complex(read_by_host(self, "complex()").item())

    def __round__(self, digits: int | None = None) -> Any:
        return round(read_by_host(self, "round()").item(), digits)

    def __format__(self, spec: str) -> str:
        return format(read_by_host(self, "a number in a text")[()], spec)

    def __str__(self) -> str:
        return str(read_by_host(self, "print or str()"))

    def __repr__(self) -> str:
        return repr(read_by_host(self, "repr()"))

    @property
    def flat(self) -> Any:
        return read_by_host(self, "flat").flat

    def setfield(self, *args: Any) -> None:
        refuse_write(self, "setfield")
        super().setfield(*args)

    @property
    def real(self) -> Any:
        return told(np.real, (self,), {})

    @real.setter
    def real(self, value: Any) -> None:
        self[...] = value

    def fill(self, value: Any) -> None:
        self[...] = value

    def reshape(self, *shape: Any, **options: Any) -> Any:
        return told(np.ndarray.reshape, (self, *shape), options)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        return read_by_host(self, "pickle").__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return read_by_host(self, "pickle").__reduce_ex__(protocol)


def _method(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def call(self: Any, *args: Any, **options: Any) -> Any:
        return told(function, (self, *args), options)

    return call


def _reader(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def read(self: Any, *args: Any, **options: Any) -> Any:
        return function(read_by_host(self, f"{name}()"), *args, **options)

    return read


for _name in ("dump", "dumps", "item", "tobytes", "tofile", "tolist"):
    setattr(RecordedArray, _name, _reader(_name))
for _name in ("all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "choose", "clip",
              "compress", "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max", "mean", "min", "nonzero",
              "partition", "prod", "put", "ravel", "repeat", "round", "searchsorted", "sort", "std", "sum", "take", "trace",
              "var"):
    setattr(RecordedArray, _name, _method(_name))


def host(x: Any) -> Any:
    """x as NumPy's own arrays: a recorded array, or all of them in a list, tuple or dict."""
    if isinstance(x, RecordedArray):
        return x.view(np.ndarray)
    if type(x) is list or type(x) is tuple:
        return type(x)(host(part) for part in x)
    return x


def read_by_host(array: Array, how: str) -> Array:
    """The array, for Python to read its values. Raises RuntimeError while a step is recorded."""
    if ACTIVE.recorder is not None:
        raise RuntimeError(f"{how} inside a capture reads a value, and a replay could not react to it: return the array, "
                           "and read it after the step")
    return host(array)


def refuse_write(array: Array, how: str) -> None:
    """Raise RuntimeError while a step is recorded: a replay would not repeat this way of writing."""
    if ACTIVE.recorder is not None:
        raise RuntimeError(f"{how} inside a capture writes in a way that no replay would repeat: use x[...] = value")


def _is_view(index: Any) -> bool:
    """Whether an array at this index is a view of the array."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or (isinstance(part, slice | int | np.integer) and not isinstance(part, bool))
               for part in parts)


def getitem(array: Array, index: Any) -> Any:
    """array[index]"""
    return array[index]


def setitem(array: Array, index: Any, value: Any) -> None:
    """array[index] = value"""
    array[index] = value


def told(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call the function on NumPy's own arrays, and tell the recorder."""
    recorder = ACTIVE.recorder
    if recorder is not None:
        return recorder.call(function, args, options)
    return function(*host(args), **{name: host(value) for name, value in options.items()})
