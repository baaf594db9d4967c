"""Batches where the networks are: the same images as on the CPU, resident or uploaded one ahead."""
import ctypes
import mmap
import os
import sys
import time

import numpy as np
import pytest

import tinygan as tg
from tinygan import devices
from tinygan.data import ahead, feeding
from tinygan.data.dataset import Dataset
from tinygan.random import Key


def dataset(kind):
    images = Key(3).integers((11, 1, 4, 5), 0, 256).astype(np.uint8)
    if kind == "float32":
        images = (images / 127.5 - 1).astype(np.float32)
    return Dataset("own", images, None, "sha256:0")


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("resident", [True, False])
def test_batches_are_those_of_the_data_set(device, kind, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(feeding, "SHARE", 0.0)
    backend, data = devices.device(device), dataset(kind)
    feeder = feeding.Feeder(data, backend)
    assert feeder.resident == (resident and backend.name != "cpu")
    order = Key(4).permutation(len(data))
    found = list(feeder.batches(order, 3))
    assert len(found) == 3
    for i, batch in enumerate(found):
        assert type(batch) is backend.array_type and batch.dtype == np.float32
        np.testing.assert_array_equal(backend.to_numpy(batch), data.batch(order[3 * i:3 * i + 3]))
    assert list(feeder.batches(order[:2], 3)) == []
    np.testing.assert_array_equal(tg.to_device(found[0], "cpu"), data.batch(order[:3]))


@pytest.mark.parametrize("resident", [True, False])
def test_labels_come_with_their_images(device, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(feeding, "SHARE", 0.0)
    backend, images = devices.device(device), dataset("uint8").images
    data = Dataset("own", images, np.arange(11) * 3 % 7, "sha256:0")
    order = Key(4).permutation(11)
    found = list(feeding.Feeder(data, backend, labelled=True).arguments(order, 3))
    assert len(found) == 3
    for i, (batch, labels) in enumerate(found):
        chosen = order[3 * i:3 * i + 3]
        assert type(labels) is backend.array_type and labels.dtype == np.int64
        np.testing.assert_array_equal(backend.to_numpy(labels), data.labels[chosen])
        np.testing.assert_array_equal(backend.to_numpy(batch), data.batch(chosen))
    plain = list(feeding.Feeder(data, backend).arguments(order, 3))
    assert all(len(arguments) == 1 for arguments in plain)
    np.testing.assert_array_equal(backend.to_numpy(plain[0][0]), data.batch(order[:3]))
    with pytest.raises(ValueError, match="own has no labels"):
        feeding.Feeder(dataset("uint8"), backend, labelled=True)


def in_memory(images):
    """Whether each page of the mapped file is in the system's memory."""
    pages = -(-images.nbytes // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    start = images.ctypes.data - images.ctypes.data % mmap.PAGESIZE
    assert not ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(images.nbytes), found)
    return np.array(found[:]) & 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are in memory")
def test_images_of_a_large_file_are_read_before_they_are_used(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    np.save(path, Key(5).integers((400, 3, 64, 64), 0, 256).astype(np.uint8))
    with path.open("rb") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    images = np.load(path, mmap_mode="r")
    chosen = np.array([300, 200, 250])
    pages = np.concatenate([np.arange(i * images[0].nbytes, (i + 1) * images[0].nbytes, 1000) for i in chosen]) // mmap.PAGESIZE
    if in_memory(images)[pages].any():
        pytest.skip("this file system keeps its files in memory")
    monkeypatch.setattr(ahead, "SHARE", 0.0)
    ahead.read_ahead(images[:350])(chosen)  # (as after `limit`)
    until = time.monotonic() + 10
    while not in_memory(images)[pages].all() and time.monotonic() < until:
        time.sleep(0.01)
    there = in_memory(images)
    assert there[pages].all() and there.mean() < 0.5
    data = Dataset("own", images, None, "sha256:0")
    order = Key(4).permutation(400)
    batches = list(feeding.Feeder(data, devices.device("cpu")).batches(order, 3))
    assert len(batches) == 133
    np.testing.assert_array_equal(np.concatenate(batches), data.batch(order[:399]))


def test_what_is_not_read_ahead(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    np.save(path, dataset("uint8").images)
    monkeypatch.setattr(ahead, "SHARE", 0.0)
    mapped = np.load(path, mmap_mode="r")
    assert ahead.read_ahead(mapped).__name__ == "expect"
    columns = np.asfortranarray(mapped)
    assert ahead.read_ahead(columns).__name__ == ahead.read_ahead(np.array(mapped)).__name__ == "<lambda>"
    monkeypatch.undo()
    assert ahead.read_ahead(mapped).__name__ == "<lambda>"  # it fits into memory
