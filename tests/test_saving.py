"""Checkpoints: exact round trips, noticed damage, and atomic replacement."""
import errno
import os

import numpy as np
import pytest
import safetensors.numpy

from tinygan import nn, saving
from tinygan.random import Key

ARRAYS = {
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "strided": np.arange(20, dtype=np.float64)[::3],
    "scalar": np.array(7, dtype=np.int64),
    "key": np.array([1, 2**32 - 1], dtype=np.uint32),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "flag": np.array(True),
}


def test_round_trip_keeps_values_types_and_shapes(tmp_path):
    saving.save(tmp_path / "a.safetensors", ARRAYS, {"note": "ä"})
    arrays, metadata = saving.load(tmp_path / "a.safetensors")
    assert metadata == {"note": "ä"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].flags.writeable


def test_the_file_is_plain_safetensors(tmp_path):
    saving.save(tmp_path / "a.safetensors", ARRAYS)
    for name, array in safetensors.numpy.load_file(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_every_truncation_and_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    saving.save(path, {"x": np.arange(5, dtype=np.float32)}, {"note": "n"})
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1:] for i in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(saving.CheckpointError, match=r"a\.safetensors"):
            saving.load(path)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        saving.load(tmp_path / "absent")
    with pytest.raises(saving.CheckpointError, match="is a folder"):
        saving.load(tmp_path)
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(saving.CheckpointError, match="foreign states no format version"):
        saving.load(tmp_path / "foreign")
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "future", metadata={"tinygan_format": "99"})
    with pytest.raises(saving.CheckpointError, match=r"format version 99.*reads version 1"):
        saving.load(tmp_path / "future")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_previous_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "a"
    saving.write_atomically(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving.os, broken, fail)
    with pytest.raises(OSError, match=r"cannot write .*a: No space left on device; the previous one is intact") as caught:
        saving.write_atomically(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_size_limit_leaves_the_previous_file_and_nothing_else(tmp_path):
    resource = pytest.importorskip("resource", reason="needs POSIX resource limits")
    path = tmp_path / "a"
    saving.save(path, {"x": np.zeros(10)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*the previous one is intact"):
            saving.save(path, {"x": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert saving.load(path)[0]["x"].shape == (10,)
    assert os.listdir(tmp_path) == ["a"]


def test_strays_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    for name in (".a.123.tmp", "a.tmp", ".hidden", "a"):
        (tmp_path / name).touch()
    assert saving.remove_strays(tmp_path) == [tmp_path / ".a.123.tmp"]
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a", "a.tmp"]


def network(key: int) -> nn.Module:
    return nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), nn.ReLU(), nn.Dense(4, 2)).initialize(Key(key))


def test_weights_round_trip(tmp_path):
    first, second = network(0), network(1)
    saving.save_weights(first, tmp_path / "weights")
    saving.load_weights(second, tmp_path / "weights")
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(array, second.state_dict()[name])


def test_weights_of_another_network_are_refused(tmp_path):
    saving.save_weights(nn.Dense(3, 4).initialize(Key(0)), tmp_path / "weights")
    with pytest.raises(ValueError, match="weight"):
        saving.load_weights(network(0), tmp_path / "weights")


@pytest.mark.oracle
def test_weights_move_to_pytorch_and_back(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_file

    ours = network(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    theirs.eval()
    x = Key(5).normal((6, 3))
    saving.save_weights(ours, tmp_path / "ours")
    theirs.load_state_dict(load_file(tmp_path / "ours"))
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    with nn.mode(ours, training=False):
        np.testing.assert_allclose(np.asarray(ours(x)), expected, atol=1e-6)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.5)
    save_file(theirs.state_dict(), tmp_path / "theirs")
    saving.load_weights(ours, tmp_path / "theirs")
    with nn.mode(ours, training=False):
        np.testing.assert_allclose(np.asarray(ours(x)), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
