"""A training step recorded once and replayed as one CUDA graph.

    step = tg.capture(gan.step)
    for batch in batches:
        stats = step(batch)          # batch: on the GPU

A small network's step is hundreds of kernels of microseconds each; started one by one from Python they wait for it. A graph
is started as a whole. What the host decides from step to step (keys, learning rates, counts) is noted as it happens and done
again before every replay, and what the kernels read of it is uploaded at once (`Device.feed`).
"""
from __future__ import annotations

__all__ = ["Captured", "Recording", "capture"]

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.backends import Array, backend_of, cpu
from tinygan.context import CONTEXT, override
from tinygan.listening import is_recording_step
from tinygan.tensor import Tensor, as_array, wrap
from tinygan.versions import Derived, Version

FEED_BYTES = 1 << 20  # what may be uploaded before a replay
_ALIGNMENT = 16


class Recording:
    """What the host did in a captured step, in order, and the memory that the kernels read of it. It is a
    `tinygan.listening.Listener`, which the engine tells."""

    def __init__(self, backend: Any, computes: bool) -> None:
        self._computes = computes  # whether the step is computed while it is recorded
        self._actions: list[Callable[[], None]] = []
        self._watched: list[Callable[[], bool]] = []
        self._tensors: dict[int, tuple[Tensor, Array]] = {}
        self._derived: dict[Version, Derived] = {}
        self._upload = backend.device.upload
        self._host = np.zeros(FEED_BYTES, np.uint8)
        self._device = backend.xp.zeros(FEED_BYTES, np.uint8)
        self._used = 0

    def relies_on(self, predicate: Callable[[], bool]) -> None:
        """A replay is good only while this holds: else the step is recorded again."""
        self._watched.append(predicate)

    def uses(self, tensor: Tensor) -> None:
        """The same for the memory of a Parameter or Buffer, which moves with `to` and `astype`."""
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = (tensor, tensor.array)

    def holds(self) -> bool:
        """Whether all memory that the kernels know is still where it was."""
        return all(tensor.array is array for tensor, array in self._tensors.values()) and all(f() for f in self._watched)

    def advanced(self, action: Callable[[], None]) -> None:
        """Do this again before every replay. (It has been done for the step that is being recorded.)"""
        self._actions.append(action)

    def derived(self, version: Version) -> Derived:
        """What is made in this recording of the memory that `version` counts the writes to."""
        return self._derived.setdefault(version, Derived())

    def read_by_host(self, caller: str) -> None:
        """A result can be read only after the step."""
        raise RuntimeError(f"{caller} inside a capture reads from the device, which has not computed anything yet: return "
                           "the array, and read it after the step")

    def feed(self, value: Any) -> Array:
        """An array on the device that holds the value, or what the function returns, at every replay anew."""
        first = np.asarray(value() if callable(value) else value)
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        self._used = start + first.nbytes
        if self._used > FEED_BYTES:
            raise RuntimeError(f"capture: a step that reads more than {FEED_BYTES} bytes from the host")
        slot = self._host[start:self._used].view(first.dtype).reshape(first.shape)
        slot[...] = first
        if callable(value):
            self.advanced(lambda: slot.__setitem__(..., value()))
        on_device = self._device[start:self._used]
        if self._computes:
            self._upload(on_device, slot)
        return on_device.view(first.dtype).reshape(first.shape)

    def act(self) -> None:
        """Everything noted, once more."""
        for action in self._actions:
            action()

    def upload(self) -> None:
        """What `feed` gave out, as it is now."""
        if self._used:
            self._upload(self._device[:self._used], self._host[:self._used])


class _Graph:
    """One recorded step: its arguments, its results, and what does it again."""

    def __init__(self, backend: Any, function: Callable[..., Any], arrays: list[Array]) -> None:
        self._backend = backend
        self._inputs = [backend.xp.array(a) for a in arrays]
        recorder = backend.device.recorder()
        self._recording = Recording(backend, recorder.computes)
        self.holds = self._recording.holds
        recorder.begin()
        try:
            with override(listener=self._recording):
                self._results = _Results(function(*self._inputs), backend)
        except BaseException:
            _abandon(recorder)
            raise
        self._launch = recorder.end()
        if not recorder.computes:
            self._recording.upload()
            self._launch()

    def results(self) -> Any:
        return self._results.read()

    def replay(self, arrays: list[Array]) -> Any:
        self._recording.act()
        for slot, a in zip(self._inputs, arrays, strict=True):
            slot[...] = a
        self._recording.upload()
        self._launch()
        return self.results()


def _abandon(recorder: Any) -> None:
    try:
        recorder.end()
    except Exception:  # CUDA's own complaint about the broken capture; the first error says more
        return


class _Results:
    """A tree of results: the numbers among them are gathered in one array, so that reading them is one copy."""

    def __init__(self, tree: Any, backend: Any) -> None:
        self._tree, self._xp = tree, backend.xp
        self._arrays: list[Array] = []
        self._numbers: list[Array] = []
        self._rebuild = self._taken(tree)
        self._gathered = backend.xp.stack(self._numbers) if self._numbers else None

    def _taken(self, x: Any) -> Callable[[Any, list[Array]], Any]:
        """How x is made again from the copied numbers and arrays."""
        if isinstance(x, Tensor):
            inner = self._taken(x.array)
            return lambda numbers, arrays: wrap(inner(numbers, arrays))
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
        return lambda numbers, arrays: arrays[place]

    def read(self) -> Any:
        numbers = None if self._gathered is None else self._gathered.copy()
        return self._rebuild(numbers, [a.copy() for a in self._arrays])


class Captured:
    """`function`, recorded at its second call with arguments of some shapes and replayed from then on. See `capture`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._seen: Any = None
        self._graph: _Graph | None = None

    def __call__(self, *arguments: Any) -> Any:
        arrays = [as_array(a) for a in arguments]
        for a in arrays:
            if not hasattr(a, "shape"):
                raise TypeError(f"capture: arguments should be arrays, got {type(a).__name__}")
        backend = backend_of(arrays[0]) if arrays else cpu
        if backend is cpu:
            return self.function(*arguments)
        if is_recording_step():
            raise RuntimeError("capture: a captured step inside another one")
        signature = (backend.name, CONTEXT.get().what_decides_a_step(), *((a.shape, a.dtype.str) for a in arrays))
        moved = self._graph is not None and not self._graph.holds()
        if signature != self._seen or moved:
            # Run it once without recording: that compiles the kernels and makes what optimisers remember. A call that fails
            # may not have come so far, so the next one is not recorded either.
            self._seen, self._graph = None, None
            result = self.function(*arrays)
            self._seen = signature
            return result
        if self._graph is None:
            self._graph = _Graph(backend, self.function, arrays)
            return self._graph.results()
        return self._graph.replay(arrays)


def capture(function: Callable[..., Any]) -> Captured:
    """`function` of arrays, on the GPU as one CUDA graph: its first call runs as usual, the second is recorded, and every
    further one replays the recording. On the CPU every call runs as usual.

    It computes the same to the last bit, and returns copies. It is recorded again for arguments of other shapes, on another
    device, at another precision, and after a module was moved or converted. It may do whatever training does: ops, `grad`,
    optimisers, keys. It may not read a result (`float`, `item`): that is an error. Whatever else it does on the host stays
    as it was when it was recorded: `backward` into `.grad`, a module's train or eval mode, a plain attribute that it looks
    at. Call it from one thread. After an error while recording, counts and keys are ahead of the weights: go on from a
    checkpoint.
    """
    return Captured(function)
