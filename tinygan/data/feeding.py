"""Batches of a data set where the networks are."""
from __future__ import annotations

__all__ = ["Feeder"]

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygan.backends import Backend
from tinygan.data.dataset import Dataset

SHARE = 0.5  # of a GPU's free memory that a data set may take


class Feeder:
    """Reads a data set in batches on a backend's device. A data set that fits lies on the GPU as it is (bytes stay bytes),
    and batches are gathered there; of a larger one, the next batch is uploaded while the GPU works on this one."""

    def __init__(self, dataset: Dataset, backend: Backend) -> None:
        self._dataset, self._backend = dataset, backend
        self._images: Any = None
        if backend.name != "cpu" and dataset.images.nbytes <= SHARE * backend.device.free_memory():
            self._images = backend.asarray(np.ascontiguousarray(dataset.images))

    @property
    def resident(self) -> bool:
        """Whether the whole data set lies on the GPU."""
        return self._images is not None

    def batches(self, order: Any, size: int) -> Iterator[Any]:
        """The images at order[:size], order[size:2 * size], ... as float32 (size, C, H, W) in [-1, 1]; a last part that is
        smaller is left out."""
        starts = range(0, len(order) - size + 1, size)
        if self._backend.name == "cpu":
            for start in starts:
                yield self._dataset.batch(order[start:start + size])
        elif self.resident:
            places = self._backend.asarray(np.ascontiguousarray(order))
            for start in starts:
                yield self._gathered(places[start:start + size])
        else:
            stream = self._backend.device.copies()
            under_way: list[Any] = []
            try:
                for start in starts:
                    under_way.append(stream.send(self._dataset.batch(order[start:start + size])))
                    if len(under_way) > 1:
                        yield stream.arrived(under_way.pop(0))
                if under_way:
                    yield stream.arrived(under_way.pop(0))
            finally:
                for ticket in under_way:  # left before the end: whatever gets that memory next waits for the upload
                    stream.arrived(ticket)

    def _gathered(self, places: Any) -> Any:
        """As `Dataset.batch`, on the device."""
        chosen = self._images.take(places, axis=0).astype(np.float32)
        if self._images.dtype == np.uint8:
            chosen /= np.float32(127.5)
            chosen -= np.float32(1)
        return chosen
