"""Batches of a data set, on the networks' device."""
from __future__ import annotations

__all__ = ["Feeder"]

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from tinygan.backends import Backend
from tinygan.data.ahead import read_ahead
from tinygan.data.dataset import Dataset

SHARE = 0.5  # how much of a GPU's free memory a data set may take


class Feeder:
    """Reads a data set in batches on a backend's device. If the data set fits into the GPU's memory, it is uploaded once, as
    it is (bytes stay bytes), and the GPU gathers the batches. Otherwise each batch is uploaded while the GPU works on the
    one before. Images in a file that does not fit into memory are read from the disk one batch ahead. labelled: whether the
    labels of the images come with them; then the data set must have labels."""

    def __init__(self, dataset: Dataset, backend: Backend, labelled: bool = False) -> None:
        self._dataset, self._backend = dataset, backend
        self._labels: Any = None
        if labelled:
            if dataset.labels is None:
                raise ValueError(f"Feeder: {dataset.name} has no labels")
            self._labels = backend.asarray(dataset.labels)
        self._expect = read_ahead(dataset.images)
        self._images: Any = None
        if backend.name != "cpu" and dataset.images.nbytes <= SHARE * backend.device.free_memory():
            self._images = backend.asarray(np.ascontiguousarray(dataset.images))

    @property
    def resident(self) -> bool:
        """Whether the whole data set is on the GPU."""
        return self._images is not None

    def arguments(self, order: Any, size: int) -> Iterator[tuple[Any, ...]]:
        """What each step takes: the images of `batches`, and their labels, int64 (size,), if the feeder is `labelled`."""
        with closing(self.batches(order, size)) as found:
            if self._labels is None:
                yield from ((images,) for images in found)
            else:
                places = self._backend.asarray(np.ascontiguousarray(order))
                for i, images in enumerate(found):
                    yield images, self._labels.take(places[i * size:(i + 1) * size])

    def batches(self, order: Any, size: int) -> Generator[Any]:
        """The images at order[:size], order[size:2 * size], ... as float32 (size, C, H, W) in [-1, 1]. If the last batch
        would be smaller, it is left out."""
        starts = range(0, len(order) - size + 1, size)
        if self._backend.name == "cpu":
            yield from self._read(order, size, starts)
        elif self.resident:
            places = self._backend.asarray(np.ascontiguousarray(order))
            for start in starts:
                yield self._gathered(places[start:start + size])
        else:
            stream = self._backend.device.copies()
            under_way: list[Any] = []
            try:
                for batch in self._read(order, size, starts):
                    under_way.append(stream.send(batch))
                    if len(under_way) > 1:
                        yield stream.arrived(under_way.pop(0))
                if under_way:
                    yield stream.arrived(under_way.pop(0))
            finally:
                for ticket in under_way:  # after an early end: the next user of this memory has to wait for the upload
                    stream.arrived(ticket)

    def _read(self, order: Any, size: int, starts: Iterable[int]) -> Iterator[Any]:
        """The batches in the memory of the host. While one is used, the next is read from the disk."""
        for start in starts:
            self._expect(order[start + size:start + 2 * size])
            yield self._dataset.batch(order[start:start + size])

    def _gathered(self, places: Any) -> Any:
        """As `Dataset.batch`, on the device."""
        chosen = self._images.take(places, axis=0).astype(np.float32)
        if self._images.dtype == np.uint8:
            chosen /= np.float32(127.5)
            chosen -= np.float32(1)
        return chosen
