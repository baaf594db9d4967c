"""The emulated device: a `Device` for tests without a GPU.

Its arrays have a type of their own and are in the CPU's memory. `emulator/launcher.py` runs its kernels. It refuses what
CuPy refuses. It raises TypeError if arrays of the host and of the device are mixed. Inside a capture it raises RuntimeError
for calls of libraries that cannot be captured, for waiting for the device, and for uploads (see `REFUSED`).
"""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.kernels.cuda.emulator.launcher import Emulator
from tinygan.kernels.cuda.runtime.device import Device

_recorder: list[Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None]] = []
"""Functions that are called with every call on emulated arrays. While a capture is recorded, this is its `_tell`."""


_BLAS = "dot vdot inner matmul vecdot tensordot einsum cov corrcoef"
_SORTS = """sort argsort lexsort msort sort_complex partition argpartition median nanmedian percentile nanpercentile quantile
nanquantile unique unique_all unique_counts unique_inverse unique_values union1d intersect1d setdiff1d setxor1d in1d isin"""
_WAITS = """nonzero flatnonzero argwhere compress extract place put choose delete trim_zeros mask_indices ravel_multi_index
unravel_index histogram histogram2d histogramdd bincount nanmin nanmax average gradient array2string array_repr array_str"""
REFUSED = {name: why for why, names in (("calls cuBLAS", _BLAS), ("sorts by Thrust, which waits for the device", _SORTS),
                                        ("waits for the device", _WAITS)) for name in names.split()}  # fmt: skip
"""The functions that CuPy 14 refuses inside a capture, or that end the capture. Keys are NumPy's names, values the reasons,
taken from CuPy's source. All functions in `linalg` (cuBLAS, cuSOLVER) and `random` (cuRAND) are refused, too. Those in `fft`
can be captured."""


class EmulatedArray(np.ndarray[Any, Any]):
    """An array of the emulated device."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if any(getattr(x, "__array_ufunc__", self) is None for x in inputs):
            return NotImplemented  # as in CuPy, so that Tensor computes `array + tensor`
        if out is not None:
            options["out"] = tuple(_host(o) for o in out)
        _refuse(ufunc)
        return _call(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _call(function, args, kwargs)

    def __setitem__(self, index: Any, value: Any) -> None:
        _call(_set, (self, index, value), {})

    def __getitem__(self, index: Any) -> Any:
        return _call(_get, (self, index), {})

    def __bool__(self) -> bool:
        _read("bool()")
        return bool(self.view(np.ndarray))

    def __float__(self) -> float:
        _read("float()")
        return float(self.view(np.ndarray))

    def __int__(self) -> int:
        _read("int()")
        return int(self.view(np.ndarray))

    def __index__(self) -> int:
        _read("an array as a Python index")
        return int(self.view(np.ndarray))

    def item(self, *args: Any) -> Any:
        _read("item()")
        return self.view(np.ndarray).item(*args)

    def tolist(self) -> Any:
        _read("tolist()")
        return self.view(np.ndarray).tolist()

    def copy(self, order: Any = "C") -> Any:
        return _call(np.copy, (self,), {"order": order})

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return _call(np.ndarray.astype, (self, dtype, *args), kwargs)

    def fill(self, value: Any) -> None:
        self[...] = value

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        return _call(np.ndarray.reshape, (self, *shape), kwargs)

    def take(self, *args: Any, **kwargs: Any) -> Any:
        return _call(np.ndarray.take, (self, *args), kwargs)

    def get(self) -> np.ndarray[Any, Any]:
        """A copy in the host's memory, like CuPy's `get`."""
        _read("get()")
        return np.array(self.view(np.ndarray), order="K")


def _method(name: str) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _call(getattr(np.ndarray, name), (self, *args), kwargs)

    return call


for _name in ("sum", "mean", "min", "max", "argmax", "argmin", "std", "var", "any", "all", "prod", "round", "clip", "dot",
              "sort", "argsort", "partition", "argpartition", "nonzero", "compress", "put", "choose", "cumsum", "cumprod",
              "repeat", "diagonal", "trace"):
    setattr(EmulatedArray, _name, _method(_name))


def _read(how: str) -> None:
    if _recorder:
        raise RuntimeError(f"{how} inside a capture reads from the device, which has not computed the value yet: return the "
                           "array, and read it after the step")


def _refuse(function: Any) -> None:
    """Raises RuntimeError if a capture is being recorded and the function cannot be captured."""
    name = getattr(function, "__name__", "")
    why = "calls cuSOLVER" if getattr(function, "__module__", None) == "numpy.linalg" else REFUSED.get(name)
    if _recorder and why is not None:
        raise RuntimeError(f"{name} inside a capture {why}, and CuPy refuses that: use tinygan's ops")


def _refuse_index(index: Any) -> None:
    """Raises RuntimeError for an index that CuPy would have to upload, and for a mask, because CuPy would have to read how
    many elements it selects."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, list) or type(part) is np.ndarray:
            raise RuntimeError("an index of the host inside a capture is an upload, and every replay would upload the same "
                               "values: make the index on the device before the step")
        if isinstance(part, EmulatedArray) and part.dtype == bool:
            raise RuntimeError("a mask as an index inside a capture waits for the device, which has to count its elements: "
                               "use tinygan.where")


def _set(array: Any, index: Any, value: Any) -> None:
    array[index] = value


def _get(array: Any, index: Any) -> Any:
    return array[index]


def _host(x: Any) -> Any:
    """An emulated array, or all emulated arrays in a container, as NumPy arrays."""
    if isinstance(x, EmulatedArray):
        return x.view(np.ndarray)
    if isinstance(x, list | tuple):
        return type(x)(_host(part) for part in x)
    return x


def _device(x: Any) -> Any:
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x).view(EmulatedArray)
    if isinstance(x, list | tuple):
        parts = map(_device, x)
        return x._make(parts) if hasattr(x, "_make") else type(x)(parts)  # the results of linalg are named tuples
    return x


def _check(x: Any) -> None:
    if type(x) is np.ndarray and x.dtype != object:
        raise TypeError(f"an array of the host, of shape {x.shape}, among arrays of the device: upload it first")
    if isinstance(x, list | tuple):
        for part in x:
            _check(part)


def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if _recorder:
        _refuse(function)
        if function is _get:
            _refuse_index(args[1])
        if getattr(function, "__name__", "") == "where" and len(args) == 1:
            _read("where() of a condition alone")
    if function is not _get:
        _check([a for a in args if not isinstance(a, slice)])
    found = function(*_host(args), **{name: _host(value) for name, value in kwargs.items()})
    out = _device(found)
    for tell in _recorder:
        tell(function, _host(args), {name: _host(value) for name, value in kwargs.items()}, _host(out))
    return out


class _Ufunc:
    """A NumPy ufunc on emulated arrays."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _call(self._ufunc, args, kwargs)

    def at(self, *args: Any) -> None:
        _call(self._ufunc.at, args, {})


class Namespace:
    """NumPy's functions on emulated arrays."""

    def __getattr__(self, name: str) -> Any:
        if _recorder and name in ("linalg", "random"):
            library = "cuSOLVER" if name == "linalg" else "cuRAND"
            raise RuntimeError(f"{name} inside a capture calls {library}, and CuPy refuses that: use tinygan's ops and keys")
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found
        if isinstance(found, np.ufunc):
            return _Ufunc(found)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in ("asarray", "array", "ascontiguousarray", "copy"):
                return _call(found, [_upload(args[0]), *args[1:]], kwargs)
            return _call(found, args, kwargs)

        return call


def _upload(x: Any) -> Any:
    if _recorder and not isinstance(x, EmulatedArray):
        raise RuntimeError("an upload inside a capture would be repeated with the same values: make the array before the "
                           "step")
    return x.view(EmulatedArray) if isinstance(x, np.ndarray) else x


class _RecordedEmulator(Emulator):
    """An emulator that refuses arrays of the host, as CuPy does, and passes each launch to a capture that is recorded."""

    def launch(self, *told: Any, **options: Any) -> None:
        _check([a for a in told[4] if isinstance(a, np.ndarray) and a.size != 1])  # (CuPy passes one number by value)
        super().launch(*told, **options)
        for tell in _recorder:
            tell(super().launch, told, options, None)


class TapeRecorder:
    """Records every call with its arrays, and repeats these calls, like a CUDA graph."""

    computes = True

    def __init__(self) -> None:
        self._tape: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def _tell(self, *call: Any) -> None:
        self._tape.append(call)

    def begin(self) -> None:
        _recorder.append(self._tell)

    def end(self) -> Callable[[], None]:
        _recorder.remove(self._tell)
        return self._replay

    def _replay(self) -> None:
        for function, args, kwargs, out in self._tape:
            found = function(*args, **kwargs)
            # Copy the new result to the array that was returned before. This is not needed if that array is a view of an
            # argument, or if the function has written to it.
            if isinstance(out, np.ndarray) and function is not np.empty and not _shares(out, [found, *args]):
                out[...] = found


def _shares(out: Any, x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(_shares(out, part) for part in x)
    return isinstance(x, np.ndarray) and np.may_share_memory(out, x)


def _upload_into(target: EmulatedArray, source: np.ndarray[Any, Any]) -> None:
    target.view(np.ndarray).reshape(-1).view(np.uint8)[...] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)


class EmulatedCopies:
    """The emulator's stream of uploads, which copies at once."""

    def send(self, source: np.ndarray[Any, Any]) -> Any:
        return source.copy().view(EmulatedArray)

    def arrived(self, ticket: Any) -> Any:
        return ticket


class EmulatedExchange:
    """Exchanges of the processes in `world`, a `distributed.World`, over MPI."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def mean(self, x: Any) -> Any:
        return _call(self._world.mean_on_host, (x,), {})

    def gather(self, x: Any) -> Any:
        return _call(self._world.gather_on_host, (x,), {})


def emulated_device() -> Device:
    """A new emulated device. The environment variable TINYGAN_EMULATOR_SANITIZE chooses a sanitizer: see `Emulator`."""
    def address(array: EmulatedArray) -> int:
        return int(array.ctypes.data)

    sanitize = os.environ.get("TINYGAN_EMULATOR_SANITIZE") or None
    return Device("emulated", Namespace(), EmulatedArray, _RecordedEmulator(sanitize), TapeRecorder, address, _upload_into,
                  EmulatedCopies, EmulatedExchange, lambda: 1 << 20, sms=2, tensor_cores=True)
