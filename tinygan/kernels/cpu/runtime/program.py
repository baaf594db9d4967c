"""A step as a program: what the CPU has to do, in order, without the Python code that decided it.

A `Recorder` is told of every task of the pool and of every NumPy function that a step runs, while the step runs. The
`Program` that it makes runs them again, on the same memory, so the arguments of the tasks stay as they are. Tasks that
follow one another are one call of compiled code.

Memory is planned by recording. The arrays of the step get memory of their own, and an array that is freed leaves its
memory to the next one of its size, as in the step itself. Replayed in the same order, this is right again, and it takes as
much memory as the step does.
"""
from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.runtime import workspace
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.compiling import NAMES
from tinygan.kernels.cpu.runtime.lowering import BINARY, UNARY, lowered
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.recorded import ACTIVE, Array, RecordedArray, getitem, host

ABOUT_ARRAYS = frozenset(["broadcast_shapes", "can_cast", "common_type", "iscomplexobj", "isrealobj", "may_share_memory",
                          "min_scalar_type", "ndim", "result_type", "shape", "shares_memory", "size"])
"""NumPy's functions whose results depend on shapes and dtypes only. Their results are no arrays, and may be used at once."""
OF_ANY_SIZE = frozenset(["argwhere", "compress", "extract", "flatnonzero", "intersect1d", "nonzero", "setdiff1d",
                         "setxor1d", "trim_zeros", "union1d", "unique", "unique_all", "unique_counts", "unique_inverse",
                         "unique_values"])
"""NumPy's functions whose results have a size that depends on values."""

# Functions that a replay makes without a new array. (All others make one, which is then copied to its place.)
COPIES: frozenset[Any] = frozenset([np.array, np.ascontiguousarray, np.asarray, np.copy, np.ndarray.astype, np.ndarray.copy])
"""They copy their first argument."""
FILLS: frozenset[Any] = frozenset([np.full, np.ones, np.zeros])
"""They fill an array with one number."""
VIEWS: frozenset[Any] = frozenset([np.ndarray.reshape, np.ndarray.astype, np.ndarray.ravel, np.reshape, np.ravel,
                                   np.transpose, np.moveaxis, np.swapaxes, np.squeeze, np.expand_dims, np.broadcast_to,
                                   np.asarray, np.ascontiguousarray, np.array, getitem])
"""They may return an argument itself, and write to none."""
TAKE_OUT: frozenset[Any] = frozenset([np.concatenate, np.matmul, np.ndarray.sum, np.stack])
"""They write to an array `out`."""


class Place(NamedTuple):
    """An array in the memory of a recording. (A reference to the array would keep its memory from being used again.)"""

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        reach = [stride * (n - 1) for stride, n in zip(self.strides, self.shape, strict=True)]
        before = -sum(step for step in reach if step < 0)
        size = before + sum(step for step in reach if step > 0) + self.dtype.itemsize
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        memory = (ctypes.c_char * size).from_address(self.start - before)
        return np.ndarray(self.shape, self.dtype, memory, before, self.strides)  # type: ignore[arg-type]  # it is a buffer


class Task(NamedTuple):
    """A task of the pool. again: a function that makes the arguments anew for each replay, or None. instead_of: the function
    of NumPy whose work it does, or ""."""

    kernel: int
    arguments: bytes
    parts: int
    again: Callable[[], bytes] | None
    instead_of: str = ""

    @property
    def name(self) -> str:
        """The kernel: its room and its function, such as "matmul.gemm"; or "elementwise" and what it computes."""
        if self.instead_of:
            return f"elementwise.{self.instead_of.removesuffix('to')}"  # copyto
        return NAMES.get(self.kernel, "?")

    def __str__(self) -> str:
        return self.name + (f", {self.parts} parts" if self.parts > 1 else "")


class Call(NamedTuple):
    """A function of NumPy. targets: where its results are written, if the function does not write to `out` itself."""

    function: Callable[..., Any]
    arguments: Any
    options: Any
    targets: Any = None

    @property
    def name(self) -> str:
        """The function, as a user of NumPy calls it."""
        return f"numpy.{_called(self.function)}"

    def __str__(self) -> str:
        written = self.targets or _tuple(self.options.get("out", self.arguments[:1]))
        return f"{self.name}, writes {' and '.join(str(place.shape) for place in written)}"

    def bound(self) -> Callable[[], Any]:
        """A function that makes the call on the arrays themselves."""
        function, arguments, options, targets = self.function, *map(_at_places, self[1:])
        if targets is None:
            return lambda: function(*arguments, **options)

        def run() -> None:
            found = function(*arguments, **options)
            for target, value in zip(targets, found if len(targets) > 1 else [found], strict=True):
                target[...] = value

        return run


class Recorder:
    """Notes what the thread does from `begin` to `end`."""

    computes = True  # the step is computed while it is recorded

    def __init__(self) -> None:
        self._steps: list[Task | Call] = []
        self._entered = ExitStack()

    def begin(self) -> None:
        with ExitStack() as entering:
            self._memory = entering.enter_context(workspace.private(RecordedArray))
            self._entered = entering.pop_all()
        ACTIVE.recorder = self

    def end(self) -> Program:
        ACTIVE.recorder = None
        self._entered.close()
        return Program(self._steps, self._memory)

    def task(self, kernel: int, arguments: bytes, parts: int, again: Callable[[], bytes] | None) -> None:
        """The thread runs a task of the pool."""
        self._steps.append(Task(kernel, arguments, parts, again))

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a function of NumPy on recorded arrays, and note it. Its results are recorded arrays."""
        _refuse_results_of_any_size(function, args, options)
        if function is np.copyto and not args:
            options = dict(options)
            args = options.pop("dst"), options.pop("src")
        out = options.get("out")
        if isinstance(out, tuple) and None in [x if x is None else 0 for x in out]:
            raise RuntimeError(f"numpy.{_called(function)} inside a capture: give all arrays of `out`, or none")
        if function is np.empty or function is np.empty_like:
            return self._like(function(*host(args), **options))
        if not options and (target := self._target(function, args)) is not None:
            function(*host(args), out=host(target))
            self._note(function, args, {"out": target})
            return target
        given = {name: host(value) for name, value in options.items()}
        found = function(*host(args), **given)
        if found is None or out is not None:  # it has written to an array
            self._refuse_plain(function, out if out is not None else args[0])
            self._note(function, args, options)
            return out[0] if isinstance(out, tuple) and len(out) == 1 else out
        if isinstance(found, np.ndarray | np.generic):
            if isinstance(found, np.ndarray) and _is_view(found, (args, tuple(options.values()))):
                if function not in VIEWS and any(_is_same(found, x) for x in _arrays((args, tuple(options.values())))):
                    self._note(function, args, options)  # it may have written to an argument, which it returns
                return found.view(RecordedArray)
            target = self._like(found)
            if function in COPIES:
                self._note(np.copyto, (target, args[0]), {"casting": "unsafe"})
            elif function in FILLS:
                given_arrays = [x for x in (*args, *options.values()) if isinstance(x, np.ndarray)]
                number = found.flat[0] if found.size else 0
                self._note(np.copyto, (target, given_arrays[0] if given_arrays else number), {"casting": "unsafe"})
            elif _takes_out(function, options):
                self._note(function, args, {**options, "out": target})
            else:
                self._note(function, args, options, [target])
            return target
        if isinstance(found, tuple | list) and all(isinstance(part, np.ndarray | np.generic) for part in found):
            make = getattr(found, "_make", type(found))  # (the results of linalg are named tuples)
            if all(isinstance(part, np.ndarray) and (not part.size or _is_view(part, args)) for part in found):
                return make(part.view(RecordedArray) for part in found)
            targets = [self._like(part) for part in found]
            self._note(function, args, options, targets)
            return make(targets)
        name = getattr(function, "__name__", "")
        if name in ABOUT_ARRAYS:
            return found
        raise RuntimeError(f"numpy.{name} inside a capture reads values, and a replay could not react to them: return the "
                           "array, and read it after the step")

    def _refuse_plain(self, function: Callable[..., Any], target: Any) -> None:
        """Raise RuntimeError if the function writes to an array that NumPy itself has made, such as `np.zeros(3)`."""
        for array in target if isinstance(target, tuple) else (target,):
            if type(array) is np.ndarray and not self._memory.owns(_start(array)):
                raise RuntimeError(f"numpy.{_called(function)} inside a capture writes to an array that NumPy has made. A "
                                   "replay would not make it again, and so begin with its last values: use tinygan's ops, "
                                   "or x.copy() and zeros_like(x) of the step's own arrays")

    def _note(self, function: Callable[..., Any], args: Any, options: Any, targets: Any = None) -> None:
        tasks = [] if targets else self._lowered(function, args, options)
        if tasks:
            self._steps += tasks
        else:
            self._steps.append(Call(function, self._places(args), self._places(options), self._places(targets)))

    def _lowered(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> list[Task]:
        """The call as tasks of the pool, if there are some for it."""
        others = {name: host(value) for name, value in options.items() if name not in ("out", "casting")}
        out = args[0] if function is np.copyto else options.get("out")
        out = out[0] if isinstance(out, tuple) else out
        if not isinstance(out, np.ndarray):
            return []
        made = lowered(function, host(args), others, host(out))
        if made:
            self._memory.kept += [x for x in (*_arrays(args), out) if not self._memory.owns(_start(x))]
        return [Task(*task, None, _called(function)) for task in made]

    def _like(self, found: Any) -> Array:
        """A recorded array with the values and the order in memory of `found`."""
        found = np.asarray(found)
        target = self._empty_like(found)
        host(target)[...] = found
        return target

    def _empty_like(self, x: Array) -> Array:
        memory = workspace.empty((x.size,), x.dtype)
        return RecordedArray(x.shape, x.dtype, memory, 0, np.empty_like(host(x)).strides)

    def _target(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Array | None:
        """Memory for the result of simple arithmetic on arrays that are alike, so that NumPy need not make a large array
        first; else None."""
        if function not in BINARY and function not in UNARY:
            return None
        first, *others = [x for x in args if isinstance(x, np.ndarray)]
        alike = all((x.shape, x.strides, x.dtype) == (first.shape, first.strides, first.dtype) for x in others)
        numbers = all(type(x) in (int, float) for x in args if not isinstance(x, np.ndarray))
        return self._empty_like(first) if alike and numbers and first.dtype in REALS else None

    def _places(self, x: Any) -> Any:
        """x with a Place for every array in the recording's memory."""
        if isinstance(x, np.ndarray):
            start = _start(x)
            return Place(start, x.shape, x.strides, x.dtype) if self._memory.owns(start) else host(x)
        if isinstance(x, dict):
            return {name: self._places(value) for name, value in x.items()}
        if type(x) in (list, tuple):
            return type(x)(self._places(part) for part in x)
        return x


def _refuse_results_of_any_size(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise RuntimeError if the size of a result depends on values: a replay writes to memory of the recorded size."""
    name = getattr(function, "__name__", "")
    if function is getitem and _is_mask(args[1]):
        name = "x[mask]"
    elif name in OF_ANY_SIZE or (function is np.where and len(args) + len(options) == 1):
        name = f"numpy.{name}"
    else:
        return
    raise RuntimeError(f"{name} inside a capture: how many elements the result has depends on values, and a replay could "
                       "not react to them: use where(mask, x, 0.0), which keeps the shape, or do it after the step")


def _is_mask(index: Any) -> bool:
    """Whether an index selects by booleans that the step computes."""
    if isinstance(index, tuple):
        return any(map(_is_mask, index))
    return isinstance(index, RecordedArray) and index.dtype == np.bool_ and index.ndim > 0


def _called(function: Callable[..., Any]) -> str:
    """What a user of NumPy calls the function: "add", "add.reduce"."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "function")
    return f"{owner.__name__}.{name}" if isinstance(owner, np.ufunc) else name


def _start(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


def _arrays(x: Any) -> list[Array]:
    """The arrays in x, also those in lists and tuples."""
    if isinstance(x, list | tuple):
        return [array for part in x for array in _arrays(part)]
    return [host(x)] if isinstance(x, np.ndarray) else []


def _at_places(x: Any) -> Any:
    """x with the arrays at its places."""
    if isinstance(x, Place):
        return x.array()
    if isinstance(x, dict):
        return {name: _at_places(value) for name, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_at_places(part) for part in x)
    return x


def _tuple(x: Any) -> Any:
    return x if type(x) is tuple else (x,)


def _takes_out(function: Callable[..., Any], options: dict[str, Any]) -> bool:
    """Whether a replay can make the function write its result to its place."""
    is_of_ufunc = isinstance(getattr(function, "__self__", function), np.ufunc)
    return is_of_ufunc or (function in TAKE_OUT and "dtype" not in options)


def _is_same(found: Array, x: Array) -> bool:
    return _start(found) == _start(x) and found.shape == x.shape and found.strides == x.strides


def _is_view(found: Array, x: Any) -> bool:
    """Whether the array is a view of an array in x."""
    if isinstance(x, np.ndarray):
        return np.may_share_memory(found, x)
    return isinstance(x, list | tuple) and any(_is_view(found, part) for part in x)


class _Stretch:
    """Tasks that follow one another, as a table for `Pool.run_all`."""

    def __init__(self, tasks: list[Task]) -> None:
        self._size, self._is_shared = len(tasks), any(task.parts > 1 for task in tasks)
        starts = np.cumsum([0, *(-(-len(task.arguments) // 64) * 64 for task in tasks)])
        self._arguments = workspace.aligned(int(starts[-1]))
        first, view = address(self._arguments), memoryview(self._arguments)  # type: ignore[arg-type]  # it is a buffer
        self._again = []
        for task, start in zip(tasks, starts, strict=False):
            place = view[start:start + len(task.arguments)]
            place[:] = task.arguments
            if task.again is not None:
                self._again.append((place, task.again))
        self._table = np.array([(task.kernel, first + start, task.parts) for task, start in
                                zip(tasks, starts, strict=False)], np.int64)
        self._table_at = address(self._table)

    def __call__(self) -> None:
        for place, again in self._again:
            place[:] = again()
        pool.run_all(self._table_at, self._size, self._is_shared)


class Program:
    """What a step does, in order. Called, it does it again. `str` lists it.

    steps: the tasks and calls.
    """

    def __init__(self, steps: Iterable[Task | Call], memory: Any = None) -> None:
        self.steps = list(steps)
        self._memory = memory
        self._runs: list[Callable[[], Any]] = []
        stretch: list[Task] = []
        for step in [*self.steps, None]:
            if isinstance(step, Task):
                stretch.append(step)
                continue
            if stretch:
                self._runs.append(_Stretch(stretch))
                stretch = []
            if step is not None:
                self._runs.append(step.bound())

    def __call__(self) -> None:
        for run in self._runs:
            run()

    @property
    def calls(self) -> int:
        """How many calls from Python a replay makes: stretches of tasks, and functions of NumPy."""
        return len(self._runs)

    @property
    def memory_bytes(self) -> int:
        """The memory of the step's arrays."""
        return self._memory.bytes if self._memory is not None else 0

    def times(self) -> list[float]:
        """Run the program once, step by step. Returns the seconds that each step took."""
        found = []
        for step in self.steps:
            run = _Stretch([step]) if isinstance(step, Task) else step.bound()
            begin = time.perf_counter()
            run()
            found.append(time.perf_counter() - begin)
        return found

    def __str__(self) -> str:
        lines = [f"{number:5}  {step}" for number, step in enumerate(self.steps, 1)]
        tasks = sum(isinstance(step, Task) for step in self.steps)
        calls = f"{tasks} kernels and {len(self.steps) - tasks} functions of NumPy in {self.calls} calls from Python"
        return "\n".join([calls, *lines])
