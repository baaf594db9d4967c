"""A GPU as a `Device`, through CuPy."""
from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from tinygan.kernels.cuda.runtime.device import Device
from tinygan.kernels.cuda.runtime.launcher import CupyLauncher
from tinygan.kernels.cuda.runtime.nccl import Nccl


class Namespace:
    """CuPy's functions, with a few replaced. In CuPy these upload behind the scenes, and a replay of a capture would upload
    from memory that is gone. Here they only copy on the device."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        setattr(self, name, found)
        return found

    def concatenate(self, arrays: Any, axis: int | None = 0) -> Any:
        """As NumPy's."""
        if axis is None:
            arrays, axis = [a.reshape(-1) for a in arrays], 0
        axis %= arrays[0].ndim
        shape = list(arrays[0].shape)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        out = self._cupy.empty(shape, self._cupy.result_type(*arrays))
        start = 0
        for a in arrays:
            out[(slice(None),) * axis + (slice(start, start + a.shape[axis]),)] = a
            start += a.shape[axis]
        return out

    def stack(self, arrays: Any, axis: int = 0) -> Any:
        """As NumPy's."""
        return self.concatenate([self._cupy.expand_dims(a, axis) for a in arrays], axis)

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        """As NumPy's. Raises RuntimeError if it would upload inside a capture."""
        if not isinstance(a, self._cupy.ndarray) and self._cupy.cuda.get_current_stream().is_capturing():
            raise RuntimeError("an upload inside a capture would be repeated with the same values: make the array before "
                               "the step")
        return self._cupy.asarray(a, dtype)


class GraphRecorder:
    """Records work as a CUDA graph. The work is recorded from a stream of its own. Its memory comes from a pool that lives
    as long as the graph."""

    computes = False

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool(self._allocated)
        self._entered = ExitStack()

    def _allocated(self, size: int) -> Any:
        """New memory for the pool. Raises MemoryError instead of CUDA's own error. After CUDA's error the pool would free
        its unused blocks and try again, but the kernels that are already recorded use these blocks."""
        try:
            return self._cupy.cuda.memory._malloc(size)
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            raise MemoryError(f"capture: no memory left on the GPU for {size} bytes more ({error})") from None

    def begin(self) -> None:
        cuda = self._cupy.cuda
        cuda.get_current_stream().synchronize()
        self._cupy.get_default_memory_pool().free_all_blocks()  # make room for the graph's pool
        with ExitStack() as entering:
            entering.enter_context(self._stream)
            entering.enter_context(cuda.using_allocator(self._pool.malloc))
            self._stream.begin_capture(cuda.runtime.streamCaptureModeRelaxed)
            self._entered = entering.pop_all()

    def end(self) -> Callable[[], None]:
        with self._entered:
            graph = self._stream.end_capture()
        pool = self._pool

        def launch() -> None:
            graph.launch()
            assert pool is not None  # (this keeps the pool alive: the graph writes to its memory)

        return launch


class Uploads:
    """Copies from the host through pinned memory. A few copies can be in flight at the same time."""

    MOST_STAGED = 4  # pieces of pinned memory

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._staged: list[tuple[Any, Any]] = []  # (pinned memory, the event that fires when it has been read)
        self._lock = threading.Lock()

    def __call__(self, target: Any, source: np.ndarray[Any, Any]) -> None:
        runtime, stream = self._cupy.cuda.runtime, self._cupy.cuda.get_current_stream()
        with self._lock:
            memory, read = self._free(source.nbytes)
            np.frombuffer(memory, np.uint8, source.nbytes)[...] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
            runtime.memcpyAsync(target.data.ptr, memory.ptr, source.nbytes, runtime.memcpyHostToDevice, stream.ptr)
            read.record(stream)
            self._staged.append((memory, read))

    def _free(self, size: int) -> tuple[Any, Any]:
        """(pinned memory of at least that many bytes, its event). If the memory was used before, its last copy has ended."""
        if len(self._staged) >= self.MOST_STAGED:
            memory, read = self._staged.pop(0)
            read.synchronize()
            if memory.size() >= size:
                return memory, read
        return self._cupy.cuda.alloc_pinned_memory(size), self._cupy.cuda.Event(disable_timing=True)


class CopyStream:
    """Uploads on a stream of their own. The computation waits for an upload only when it needs the array."""

    def __init__(self, cupy: Any, uploads: Uploads) -> None:
        self._cupy, self._uploads = cupy, uploads
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def send(self, source: np.ndarray[Any, Any]) -> Any:
        target = self._cupy.empty(source.shape, source.dtype)  # allocated on the computation's stream, which uses it later
        target_is_free = self._cupy.cuda.get_current_stream().record()
        with self._stream:
            self._stream.wait_event(target_is_free)
            self._uploads(target, source)
            return target, self._stream.record()

    def arrived(self, ticket: Any) -> Any:
        target, event = ticket
        self._cupy.cuda.get_current_stream().wait_event(event)
        return target


def gpu(cupy: Any, index: int) -> Device:
    """The device of the GPU with that index."""
    with cupy.cuda.Device(index) as chosen:
        major = int(chosen.compute_capability[:-1])
        sms = chosen.attributes["MultiProcessorCount"]
    uploads = Uploads(cupy)

    def free_memory() -> int:
        with cupy.cuda.Device(index) as chosen:
            return int(chosen.mem_info[0])

    return Device(f"cuda:{index}", Namespace(cupy), cupy.ndarray, CupyLauncher(cupy, index), lambda: GraphRecorder(cupy),
                  lambda array: array.data.ptr, uploads, lambda: CopyStream(cupy, uploads),
                  lambda world: Nccl(cupy, world), free_memory, sms, tensor_cores=major >= 8)
