"""A training step recorded once and replayed: as one CUDA graph on a GPU, as a `Program` on the CPU.

    step = tg.capture(gan.step)
    for batch in batches:
        stats = step(batch)
    print(step.program)              # on the CPU: what one step executes

A training step of a small network runs hundreds of kernels, which take microseconds each. If Python starts them one by one,
they wait for Python. A recording starts them as a whole. Some values change from step to step: keys, learning rates, counts.
The recording notes how the host computes them. Before every replay it computes them again, and uploads together all that the
kernels read of them (`Recording.feed`).
"""
from __future__ import annotations

__all__ = ["Captured", "Recording", "capture"]

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygan.backends import Array, backend_of, cpu
from tinygan.context import CONTEXT, override
from tinygan.listening import is_recording_step
from tinygan.tensor import Tensor, as_array, wrap
from tinygan.versions import Derived, Version, forget_derived

FEED_BYTES = 1 << 20  # how much may be uploaded before a replay
_ALIGNMENT = 16


class Recording:
    """What the host did in a captured step, in order, and the memory from which the kernels read its values. It is the
    `tinygan.listening.Listener` that the engine calls."""

    def __init__(self, backend: Any, computes: bool) -> None:
        self.backend = backend
        self._computes = computes  # whether the step is computed while it is recorded
        self._actions: list[Callable[[], None]] = []
        self._watched: list[Callable[[], bool]] = []
        self._tensors: dict[int, tuple[Tensor, Array]] = {}
        self._constants: list[Array] = []
        self._derived: dict[Version, Derived] = {}
        self._upload = backend.device.upload
        self._host = np.zeros(FEED_BYTES, np.uint8)
        self._device = backend.device.twin(self._host)
        self._used = 0

    def relies_on(self, predicate: Callable[[], bool]) -> None:
        """Replays are valid only while `predicate()` is true. Otherwise the step is recorded again."""
        self._watched.append(predicate)

    def uses(self, tensor: Tensor) -> None:
        """Replays are valid only while this Parameter or Buffer keeps its memory. (`to` and `astype` give it new memory.)
        Until the recording ends, its array tells the recorder of its uses."""
        if id(tensor) in self._tensors:
            return
        here = backend_of(tensor.array)
        if here is not self.backend:
            raise RuntimeError(f"capture: a step on {self.backend.name} uses a Parameter or Buffer on {here.name}. The step "
                               "runs where its arguments are: give it an array that is there too")
        array = tensor.array
        self._tensors[id(tensor)] = (tensor, array)
        self._lend(tensor, self.backend.device.seen(array))

    def constant(self, array: Array) -> Array:
        """The array, which no op has computed, such as a table: it is kept as long as the recording, and tells of its
        uses."""
        if self.backend is not cpu:
            return array
        found = cpu.device.seen(array)
        self._constants.append(found)
        return found

    @staticmethod
    def _lend(tensor: Tensor, array: Array) -> None:
        if array is not tensor.array:
            tensor.array = array
            if tensor.version is not None:
                tensor.version.watch(array)

    def give_back(self) -> None:
        """The recording has ended: give every tensor its own array again."""
        for tensor, array in self._tensors.values():
            if tensor.array.shape == array.shape and backend_of(tensor.array) is self.backend:
                self._lend(tensor, array)

    def holds(self) -> bool:
        """Whether replays are still valid."""
        return all(tensor.array is array for tensor, array in self._tensors.values()) and all(f() for f in self._watched)

    def advanced(self, action: Callable[[], None]) -> None:
        """Do `action` before every replay. (For the step that is being recorded, it has been done already.)"""
        self._actions.append(action)

    def derived(self, version: Version) -> Derived:
        """The cache of what this recording computes from the memory whose writes `version` counts."""
        return self._derived.setdefault(version, Derived())

    def read_by_host(self, caller: str) -> None:
        """Raise RuntimeError: a result can be read only after the step."""
        raise RuntimeError(f"{caller} inside a capture reads a value, and a replay could not react to it: return the array, "
                           "and read it after the step")

    def feed(self, value: Any) -> Array:
        """An array on the device that holds the value. If `value` is a function, every replay calls it again."""
        first = np.asarray(value() if callable(value) else value)
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        self._used = start + first.nbytes
        if self._used > FEED_BYTES:
            raise RuntimeError(f"capture: a step can read at most {FEED_BYTES} bytes from the host, and this one reads more")
        slot = self._host[start:self._used].view(first.dtype).reshape(first.shape)
        slot[...] = first
        if callable(value):
            self.advanced(lambda: slot.__setitem__(..., value()))
        on_device = self._device[start:self._used]
        if self._computes:
            self._upload(on_device, slot)
        return on_device.view(first.dtype).reshape(first.shape)

    def act(self) -> None:
        """Do all noted actions again."""
        for action in self._actions:
            action()

    def upload(self) -> None:
        """Upload the present values of all arrays that `feed` has returned."""
        if self._used:
            self._upload(self._device[:self._used], self._host[:self._used])


class _Graph:
    """One recorded step: its arguments, its results, and the function that launches it again."""

    def __init__(self, backend: Any, function: Callable[..., Any], arrays: list[Array]) -> None:
        self._backend = backend
        inputs = [backend.device.slot(a) for a in arrays]
        self._slots = list(map(backend.device.plain, inputs))
        recorder = backend.device.recorder()
        self._recording = Recording(backend, recorder.computes)
        self.holds = self._recording.holds
        forget_derived()  # replays have results of their own, which may take this memory
        try:
            recorder.begin()
            with override(listener=self._recording):
                self._results = _Results(function(*inputs), backend)
            self.launch = recorder.end()
        except BaseException:
            _abandon(recorder)
            raise
        finally:
            try:
                self._recording.give_back()
            except BaseException:  # Ctrl-C, at this very moment
                self._recording.give_back()
                raise
        if not recorder.computes:
            self._recording.upload()
            self.launch()

    def results(self) -> Any:
        return self._results.read()

    def replay(self, arrays: list[Array]) -> Any:
        for slot, a in zip(self._slots, arrays, strict=True):
            slot[...] = a
        self._recording.act()
        self._recording.upload()
        self.launch()
        return self.results()


def _abandon(recorder: Any) -> None:
    try:
        recorder.end()
    except Exception:  # CUDA's error about the broken capture; the original error says more
        return


class _Results:
    """The results of a step, a tree of arrays and numbers. Its numbers are gathered in one array, so that one copy reads
    them all."""

    def __init__(self, tree: Any, backend: Any) -> None:
        self._tree, self._xp = tree, backend.xp
        self._arrays: list[Array] = []
        self._numbers: list[Array] = []
        self._rebuild = self._taken(tree)
        gathered = backend.xp.stack(self._numbers) if self._numbers else None
        # From here on nothing is recorded.
        self._gathered = None if gathered is None else backend.device.plain(gathered)
        self._arrays = list(map(backend.device.plain, self._arrays))

    def _taken(self, x: Any) -> Callable[[Any, list[Array]], Any]:
        """A function that makes x again from the copied numbers and arrays."""
        if isinstance(x, Tensor):
            inner = self._taken(x.array)
            return lambda numbers, arrays: wrap(self._xp.asarray(inner(numbers, arrays)))
        if isinstance(x, list | tuple):
            parts = [self._taken(part) for part in x]
            if hasattr(x, "_make"):
                return lambda numbers, arrays: x._make(part(numbers, arrays) for part in parts)
            return lambda numbers, arrays: type(x)(part(numbers, arrays) for part in parts)
        if not hasattr(x, "shape"):
            return lambda numbers, arrays: x
        kept = self._numbers if x.shape == () and x.dtype == np.float32 else self._arrays
        place = len(kept)
        kept.append(x)
        if kept is self._numbers:
            return lambda numbers, arrays: numbers[place]
        return lambda numbers, arrays: arrays[place] if arrays[place].shape else arrays[place][()]

    def read(self) -> Any:
        numbers = None if self._gathered is None else self._gathered.copy()
        return self._rebuild(numbers, [a.copy() for a in self._arrays])


class Captured:
    """What `capture` returns: it records `function` at the second call with arguments of the same shapes, then replays
    it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._seen: Any = None  # the shapes, dtypes, strides and the context of the last call
        self._context: Any = None
        self._deciding: Any = None
        self._graph: _Graph | None = None
        self._lock = threading.RLock()  # a step writes to its own memory, so threads run it one after another
        _EVERY.add(self)

    @property
    def program(self) -> Any:
        """What a replay does, a `Program`, which `print` lists; None before the step has been recorded. On a GPU it is the
        function that starts the graph."""
        return self._graph and self._graph.launch

    @contextmanager
    def launched_by(self, launch: Callable[[], Any]) -> Iterator[None]:
        """In the body, a replay calls `launch` instead of the program, as `profile` does to time its parts. All else is done
        as always. Raises RuntimeError if the step has not been recorded."""
        with self._lock:
            graph = self._graph
            if graph is None:
                raise RuntimeError("capture: the step has not been recorded yet: call it twice")
            program, graph.launch = graph.launch, launch
            try:
                yield
            finally:
                graph.launch = program

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            return self._run(*arguments)

    def _run(self, *arguments: Any) -> Any:
        arrays = [as_array(a) for a in arguments]
        for a in arrays:
            if not hasattr(a, "shape"):
                raise TypeError(f"capture: arguments should be arrays, got {type(a).__name__}")
        backend = backend_of(arrays[0]) if arrays else cpu
        if is_recording_step():
            raise RuntimeError("capture: a captured step cannot run inside another captured step")
        context = CONTEXT.get()
        if context.watcher is not None:  # it looks at every value
            return self.function(*arrays)
        if context is not self._context:
            self._context, self._deciding = context, context.what_decides_a_step()
        signature = (backend.name, self._deciding, *[(a.shape, a.dtype, a.strides) for a in arrays])
        moved = self._graph is not None and not self._graph.holds()
        if signature != self._seen or moved:
            # Run it once without recording: this compiles the kernels and makes the optimisers' slots. If the call fails, it
            # may not have done all of that. Then the next call is not recorded either.
            self._seen, self._graph = None, None
            result = self.function(*arrays)
            self._seen = signature
            return result
        if self._graph is None:
            self._graph = _Graph(backend, self.function, arrays)
            return self._graph.results()
        return self._graph.replay(arrays)


_EVERY: weakref.WeakSet[Captured] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child: a lock that another thread held would never be released, because the child has no such thread."""
    for captured in _EVERY:
        captured._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def capture(function: Callable[..., Any]) -> Captured:
    """`function` of arrays, which runs on a GPU as one CUDA graph and on the CPU as one program. The first call runs as
    usual, the second is recorded, and every further call replays the recording.

    A replay computes the same to the last bit, and returns copies. The function is recorded again for arguments of other
    shapes or strides, on another device or in another precision, after a module was moved or converted, and when the
    context has changed (by `no_grad` or `nn.mode`, say). Under `detect_anomaly` or another watcher every call runs as usual.

    The function may do all that training does: ops, `grad`, optimisers, keys. From the second call on it gets copies of its
    arguments. What changes from call to call must be an argument: other arrays keep the values that they had. Reading a
    result (`float`, `item`, `if x > 0`) is an error. All other work on the host is not replayed: `backward` into `.grad`,
    `train()` or `eval()` of a module, the value of a plain attribute, random numbers of NumPy's. Nor is what NumPy makes of
    an argument without telling it: `np.array(x)`, `np.asarray(x) + 1`, `np.eye(3)[x]`, `table[:] = x` for an array `table`.
    Use ops there, such as `tg.embedding(np.eye(3), x)`. Threads that call it run one after another. After an error during
    the recording, counts and keys are ahead of the weights: continue from a checkpoint.
    """
    return Captured(function)
