"""The CPU as the device of a capture (see `tinygan.capture`): where a recorded step finds its arguments and values."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.recorded import Array, RecordedArray


class Host:
    """The CPU. It has the methods of a GPU's `Device` that a capture needs."""

    @staticmethod
    def recorder() -> Any:
        """A new `program.Recorder`."""
        return loaded("tinygan.kernels.cpu.runtime.program").Recorder()

    @staticmethod
    def slot(array: Array) -> Array:
        """A copy of an argument, which the recorded step reads."""
        return np.array(array).view(RecordedArray)

    @staticmethod
    def seen(array: Array) -> Array:
        """The same memory as an array whose uses are recorded."""
        return array if isinstance(array, RecordedArray) else array.view(RecordedArray)

    @staticmethod
    def plain(array: Array) -> Array:
        """The same memory as an array whose uses are not recorded."""
        return array.view(np.ndarray)

    @staticmethod
    def twin(memory: Array) -> Array:
        """The memory from which kernels read the values that the host writes to `memory`: the same."""
        return memory.view(RecordedArray)

    @staticmethod
    def upload(target: Array, source: Array) -> None:
        """Nothing: what the host has written is there."""
