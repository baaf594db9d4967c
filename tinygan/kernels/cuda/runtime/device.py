"""Where kernels run: the array namespace, memory, a launcher, and values from the host.

`runtime/gpu.py` makes a `Device` of a GPU, `emulator/device.py` one of the emulator.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinygan.context import CONTEXT
from tinygan.kernels.cuda.runtime.launcher import Dim, Launcher

Array = Any
HostValue = np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]]
THREADS = 256


class Recorder(Protocol):
    """Records the work of a device, and does it again."""

    def begin(self) -> None:
        """From here on, work is noted."""

    def end(self) -> Callable[[], None]:
        """The work as one function that does it again."""

    @property
    def computes(self) -> bool:
        """Whether the work is done while it is noted. (A CUDA graph only notes it.)"""


class Copies(Protocol):
    """A stream of uploads beside the computation."""

    def send(self, source: np.ndarray[Any, Any]) -> Any:
        """Start to upload; returns a ticket."""

    def arrived(self, ticket: Any) -> Array:
        """The array, on the device, for whatever is started from now on."""


class Device:
    """A GPU, or the emulated one.

    xp: the array namespace; array_type: the type of its arrays; address: where the first element of an array lies.
    recorder: makes a recorder for one capture.
    upload: copies an array of the host to a C-contiguous array of the device of as many bytes, without waiting. The host's
        array may be written to again at once.
    copies: makes a stream of uploads. free_memory: bytes. sms: multiprocessors, for which grids are chosen.
    """

    def __init__(self, name: str, xp: Any, array_type: type, launcher: Launcher, recorder: Callable[[], Recorder],
                 address: Callable[[Array], int], upload: Callable[[Array, np.ndarray[Any, Any]], None],
                 copies: Callable[[], Copies], free_memory: Callable[[], int], sms: int = 1,
                 tensor_cores: bool = False) -> None:
        self.name = name
        self.xp = xp
        self.array_type = array_type
        self.launcher = launcher
        self.recorder = recorder
        self.address = address
        self.upload = upload
        self.copies = copies
        self.free_memory = free_memory
        self.sms = sms
        self.tensor_cores = tensor_cores

    @property
    def precision(self) -> str:
        """How float32 matrices are multiplied: "tf32" if that was asked for and there are tensor cores, else "float32"."""
        return CONTEXT.get().matmul_precision if self.tensor_cores else "float32"

    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, *arguments: Any, dtype: Any, shared: int = 0,
               defines: tuple[str, ...] = ()) -> None:
        """Start a kernel; see `Launcher`. Arrays must be C-contiguous (or the kernel be told their strides)."""
        self.launcher.launch(file, kernel, grid, block, arguments, dtype, shared, defines)

    def each(self, file: str, kernel: str, count: int, *arguments: Any, dtype: Any, defines: tuple[str, ...] = ()) -> None:
        """Start a kernel with a thread for each of `count` elements; with none, start nothing."""
        if count:
            self.launch(file, kernel, -(-count // THREADS), THREADS, *arguments, dtype=dtype, defines=defines)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised memory, C-contiguous."""
        return self.xp.empty(shape, dtype)

    def feed(self, value: HostValue) -> Array:
        """A small array from the host's memory, or what a function makes of the host's state: uploaded now, and while a
        step is recorded again before each replay."""
        listener = CONTEXT.get().listener
        if listener is not None:
            return listener.feed(value)
        return self.xp.asarray(value() if callable(value) else value)
