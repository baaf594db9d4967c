"""A device that runs kernels: its array namespace, memory and launcher, and how values of the host reach it.

`runtime/gpu.py` makes the `Device` of a GPU, and `emulator/device.py` that of the emulator.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinygan.context import CONTEXT
from tinygan.kernels.cuda.runtime.launcher import Dim, Launcher

Array = Any
HostValue = np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]]
THREADS = 256  # threads of a block, in most kernels


class Recorder(Protocol):
    """Records the work of a device, to repeat it later."""

    def begin(self) -> None:
        """Start recording."""

    def end(self) -> Callable[[], None]:
        """Stop recording. Returns a function that repeats the recorded work."""

    @property
    def computes(self) -> bool:
        """Whether the work is also done while it is recorded. (A CUDA graph only records it.)"""


class Copies(Protocol):
    """A stream of uploads beside the computation."""

    def send(self, source: np.ndarray[Any, Any]) -> Any:
        """Start an upload. Returns a ticket for `arrived`."""

    def arrived(self, ticket: Any) -> Array:
        """The uploaded array. All work that is started from now on waits for the upload."""


class Exchange(Protocol):
    """What several processes exchange from the memory of their devices. All must call these in the same order."""

    def mean(self, x: Array) -> Array:
        """The mean over the processes of their arrays x."""

    def gather(self, x: Array) -> Array:
        """The arrays of all processes, (processes, *x.shape)."""


class Device:
    """A GPU, or the emulated one.

    xp: the array namespace. array_type: the type of its arrays. address: the address of the first element of an array.
    recorder: makes a recorder for one capture.
    upload: (target, source): copies an array of the host to a C-contiguous array of the device with the same number of
        bytes. It does not wait for the GPU, and the host's array may be changed as soon as it returns.
    copies: makes a stream of uploads. exchange: makes an exchange with the processes of a `World`. free_memory: the bytes of
        free memory. sms: the number of multiprocessors.
    """

    def __init__(self, name: str, xp: Any, array_type: type, launcher: Launcher, recorder: Callable[[], Recorder],
                 address: Callable[[Array], int], upload: Callable[[Array, np.ndarray[Any, Any]], None],
                 copies: Callable[[], Copies], exchange: Callable[[Any], Exchange], free_memory: Callable[[], int],
                 sms: int = 1, tensor_cores: bool = False) -> None:
        self.name = name
        self.xp = xp
        self.array_type = array_type
        self.launcher = launcher
        self.recorder = recorder
        self.address = address
        self.upload = upload
        self.copies = copies
        self.exchange = exchange
        self.free_memory = free_memory
        self.sms = sms
        self.tensor_cores = tensor_cores

    @property
    def precision(self) -> str:
        """How float32 matrices are multiplied: "tf32" if it was asked for and there are tensor cores, else "float32"."""
        return CONTEXT.get().matmul_precision if self.tensor_cores else "float32"

    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, *arguments: Any, dtype: Any, shared: int = 0,
               defines: tuple[str, ...] = ()) -> None:
        """Start a kernel; see `Launcher`. Arrays must be C-contiguous, unless the kernel takes their strides."""
        self.launcher.launch(file, kernel, grid, block, arguments, dtype, shared, defines)

    def each(self, file: str, kernel: str, count: int, *arguments: Any, dtype: Any, defines: tuple[str, ...] = ()) -> None:
        """Start a kernel with a thread for each of `count` elements. If count is 0, nothing is started."""
        if count:
            self.launch(file, kernel, -(-count // THREADS), THREADS, *arguments, dtype=dtype, defines=defines)

    def slot(self, array: Array) -> Array:
        """A copy of an argument, which the recorded step reads."""
        return self.xp.array(array)

    def seen(self, array: Array) -> Array:
        """The array as the recorded step uses it: as it is."""
        return array

    def plain(self, array: Array) -> Array:
        """The array outside of the recording: as it is."""
        return array

    def twin(self, memory: np.ndarray[Any, Any]) -> Array:
        """Memory on the device for the values that the host writes to `memory`."""
        return self.xp.zeros(memory.nbytes, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An uninitialised C-contiguous array."""
        return self.xp.empty(shape, dtype)

    def feed(self, value: HostValue) -> Array:
        """Upload a small array of the host, or the result of a function. If a step is being recorded, the upload is repeated
        before each replay, and the function is called again."""
        listener = CONTEXT.get().listener
        if listener is not None:
            return listener.feed(value)
        return self.xp.asarray(value() if callable(value) else value)
