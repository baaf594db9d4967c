"""What processes exchange from GPU to GPU, through NCCL."""
from __future__ import annotations

from typing import Any

from tinygan.errors import DeviceError, installing


class Nccl:
    """Exchanges of the processes in `world`, a `distributed.World`. Each of them has a GPU of its own, the thread's current
    one. The work is put on CuPy's current stream, and the host does not wait for it. So a CUDA graph can record it.

    Raises DeviceError if nccl4py is not installed, or if NCCL cannot connect the GPUs.
    """

    def __init__(self, cupy: Any, world: Any) -> None:
        try:
            from nccl import core
        except ImportError as error:
            raise DeviceError(f"several processes on GPUs need NCCL: {installing('nccl12', 'nccl13')}, as for CuPy "
                              f"({error})") from error
        self._cupy, self._sum, self._size = cupy, core.SUM, world.size
        try:
            name = world.from_first(bytes(core.get_unique_id()) if world.rank == 0 else None)
            self._comm = core.Communicator.init(world.size, world.rank, core.UniqueId.from_bytes(name))
        except Exception as error:  # (NCCL has a class of its own)
            raise DeviceError(f"NCCL cannot connect the GPUs of the {world.size} processes: each needs one of its own, and "
                              f"NCCL_DEBUG=INFO tells more ({error})") from error
        # NCCL connects the GPUs at the first exchange of each kind. That must not happen while a graph is recorded.
        self.mean(cupy.zeros(1, "float32"))
        self.gather(cupy.zeros(1, "float32"))

    def mean(self, x: Any) -> Any:
        """The mean over the processes of their arrays x."""
        total = self._cupy.empty(x.shape, x.dtype)
        self._comm.allreduce(self._cupy.ascontiguousarray(x), total, self._sum, stream=self._stream())
        total /= total.dtype.type(self._size)
        return total

    def gather(self, x: Any) -> Any:
        """The arrays of all processes, (processes, *x.shape)."""
        every = self._cupy.empty((self._size, *x.shape), x.dtype)
        self._comm.allgather(self._cupy.ascontiguousarray(x), every, stream=self._stream())
        return every

    def _stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)
