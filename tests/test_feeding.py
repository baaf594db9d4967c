"""Batches where the networks are: the same images as on the CPU, resident or uploaded one ahead."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import devices
from tinygan.data import feeding
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
