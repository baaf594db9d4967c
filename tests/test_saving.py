"""Checkpoints: exact round trips, noticed damage, and atomic replacement."""
import errno
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import tiny_run

import tinygan as tg
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


# -- what people have ----------------------------------------------------------------------------------------------------


def counted(torch):
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    theirs(torch.randn(8, 3))
    return theirs


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_converted(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import save_file

    state = {name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
             for name, value in counted(torch).state_dict().items()}
    state["0.weight"][0] = torch.tensor([float("inf"), -0.0, 1e-30])  # what a conversion by its bits must get right
    save_file(state, tmp_path / "theirs")
    from_file, from_tensors = network(0), network(0).load_state_dict(state)
    saving.load_weights(from_file, tmp_path / "theirs")
    for ours in (from_file, from_tensors):
        for name, value in ours.state_dict().items():
            np.testing.assert_array_equal(value, state[name].float().numpy(), err_msg=name)
            assert value.dtype in (np.float32, np.int64)


@pytest.mark.oracle
def test_a_type_that_numpy_does_not_have_is_named(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3, 4).to(torch.float8_e4m3fn), "bias": torch.ones(3)}, tmp_path / "theirs")
    with pytest.raises(saving.CheckpointError, match=r"theirs: 'weight' has the type F8_E4M3, which NumPy does not have"):
        saving.load_weights(nn.Dense(4, 3), tmp_path / "theirs")


@pytest.mark.oracle
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_a_pytorch_file_is_named_and_its_way_works(tmp_path, old):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs, path = counted(torch), tmp_path / "weights.bin"  # by its content, not by its name
    torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=not old)
    for load in (lambda: saving.load_weights(network(0), path), lambda: saving.load(path)):
        with pytest.raises(saving.CheckpointError, match=r"weights\.bin is a pickled file, such as PyTorch's \.pth; .*torch\.load\('") as error:
            load()
    model = network(0)
    line = str(error.value).split("expected: ")[1].split(" loads it")[0]
    eval(line, {"network": model, "torch": torch})  # what it says, as it says it
    np.testing.assert_array_equal(model.state_dict()["0.weight"], theirs.state_dict()["0.weight"].numpy())


def test_an_npz_file_is_named_and_its_way_works(tmp_path):
    model, other = network(0), network(1)
    np.savez(tmp_path / "weights", **model.state_dict())
    with pytest.raises(saving.CheckpointError, match=r"weights\.npz is an \.npz file of NumPy arrays; .*numpy\.load\('") as error:
        saving.load_weights(other, tmp_path / "weights.npz")
    line = str(error.value).split("expected: ")[1].split(" loads it")[0]
    eval(line, {"network": other, "numpy": np})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)


@pytest.mark.parametrize("content, what", [
    (b"\x89HDF\r\n\x1a\n" + bytes(200), r"an HDF5 file \(such as Keras writes\); .* h5py"),
    (b"\x93NUMPY\x01\x00" + bytes(200), r"one NumPy array \(\.npy\)"),
    (pickle.dumps({"a": 1}), "a pickled file"),
    (b"PK\x03\x04" + bytes(100), "a truncated or damaged zip archive"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
    (b"\n<!DOCTYPE html><html></html>", "a web page"),
    (b"\x1f\x8b" + bytes(100), "compressed by gzip"),
    (bytes(257) + b"ustar" + bytes(100), "a tar archive"),
    (b"", "truncated or damaged"), (b"words", "truncated or damaged"),
])
def test_other_files_are_named_as_what_they_are(tmp_path, content, what):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(saving.CheckpointError, match=rf"weights\.safetensors is {what}"):
        saving.load_weights(network(0), path)


@pytest.mark.parametrize("name, what", [("model/data.pkl", "a pickled file"), ("model.weights.h5", "a Keras file"), ("a.txt", "a zip archive")])
def test_zip_archives_are_told_apart(tmp_path, name, what):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(saving.CheckpointError, match=f"a is {what}"):
        saving.load(tmp_path / "a")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(saving.CheckpointError):
        saving.load_weights(network(0), tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_the_checkpoint_of_a_run_points_to_open_run(tmp_path):
    tiny_run.tiny_train(tmp_path / "run", epochs=1)
    with pytest.raises(saving.CheckpointError, match=r"is the checkpoint of a run, .*open_run\('.*run'\)\.gan\.generator has them"):
        saving.load_weights(network(0), tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(saving.CheckpointError, match=r"is a folder; .*open_run\('.*run'\) opens the run in it"):
        saving.load_weights(network(0), tmp_path / "run")


def test_a_common_prefix_is_named_and_its_way_works():
    model, prefix = network(0), "net.main."
    state = {prefix + name: value for name, value in network(1).state_dict().items()}
    with pytest.raises(ValueError, match=rf"^load_state_dict of Sequential: every name begins with '{prefix}'") as error:
        model.load_state_dict(state)
    eval("model." + str(error.value).split("do not: ")[1].removesuffix(" removes it"), {"model": model, "state": state})
    np.testing.assert_array_equal(model.state_dict()["0.weight"], state[prefix + "0.weight"])
    with pytest.raises(ValueError, match=rf"every name of this network begins with '0\.{prefix}', which the state's do not") as error:
        inside = nn.Module()
        vars(inside).update({prefix[:-1]: network(0)})
        nn.Sequential(inside).load_state_dict(network(1).state_dict())
    assert eval(str(error.value).split("add it with ")[1], {"state": {"a": 1}}) == {f"0.{prefix}a": 1}
    with pytest.raises(ValueError, match=r"load_state_dict of Sequential: no name begins with the prefix 'main\.'; the names begin with 'net\.'$"):
        model.load_state_dict(state, prefix="main.")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_pytorchs_wrappers_put_before_every_name_is_removed(prefix):
    model, given = network(0), network(1).state_dict()
    del given["1.num_batches_tracked"]
    model.load_state_dict({prefix + name: value for name, value in given.items()})
    for name, value in given.items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
    with pytest.raises(ValueError, match=r"missing '0\.bias'; unexpected 'odd'$"):
        model.load_state_dict({f"{prefix}{name}": value for name, value in {**given, "odd": np.ones(1)}.items() if name != "0.bias"})

    class Wrapped(nn.Module):
        def __init__(self):
            self.module = network(0)

    own = Wrapped()  # here the prefix is the network's own
    own.load_state_dict({f"module.{name}": value for name, value in given.items()})
    np.testing.assert_array_equal(own.state_dict()["module.0.weight"], given["0.weight"])


def test_a_network_in_the_state_of_a_gan_is_named(tmp_path):
    states = {player: network(seed).state_dict() for seed, player in ((1, "generator"), (2, "discriminator"))}
    state = {f"{player}.{name}": value for player, own in states.items() for name, value in own.items()}
    model = network(0)
    with pytest.raises(ValueError, match=r"this network's entries are those whose names begin with 'generator\.': "
                                         r"load_state_dict\(state, prefix='generator\.'\) selects them$"):
        model.load_state_dict({**state, "steps": np.array(3)})
    saving.save(tmp_path / "both.safetensors", state)
    for player, load in (("generator", lambda: model.load_state_dict({**state, "steps": np.array(3)}, prefix="generator.")),
                         ("discriminator", lambda: saving.load_weights(model, tmp_path / "both.safetensors", "discriminator."))):
        load()
        for name, value in states[player].items():
            np.testing.assert_array_equal(model.state_dict()[name], value)
    with pytest.raises(ValueError, match=r"the network's state is inside this one: load state\['model'\]"):
        model.load_state_dict({"model": network(1).state_dict(), "epoch": 3})


def test_counts_of_batches_may_be_missing_or_there():
    model, state = network(0), network(1).state_dict()
    model[1].num_batches_tracked.assign(7)
    del state["1.num_batches_tracked"]
    model.load_state_dict({**state, "9.num_batches_tracked": np.array(4)})
    assert model.state_dict()["1.num_batches_tracked"] == 7
    np.testing.assert_array_equal(model.state_dict()["1.running_mean"], state["1.running_mean"])
    plain = nn.Sequential(nn.Dense(2, 2)).initialize(Key(0))
    plain.load_state_dict({**plain.state_dict(), "1.num_batches_tracked": np.array(4)})
    with pytest.raises(ValueError, match=r"missing '1\.running_mean'"):
        model.load_state_dict({name: value for name, value in state.items() if name != "1.running_mean"})
    prefixed = {f"net.{name}": value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"every name begins with 'net\.'"):
        model.load_state_dict(prefixed)
    model.load_state_dict(prefixed, prefix="net.")


@pytest.mark.parametrize("value, message", [
    ("text", "'0.bias' should be real numbers, got str"), ([[1.0], [2.0, 3.0]], "'0.bias' should be an array of real numbers, got list"),
    (np.ones(4) * 1j, "'0.bias' should be real numbers, got ndarray of complex128"), (None, "'0.bias' should be real numbers, got NoneType"),
])
def test_entries_that_are_no_numbers_are_named(value, message):
    model = network(0)
    before = model.state_dict()
    with pytest.raises(TypeError, match=message):
        model.load_state_dict({**network(1).state_dict(), "0.bias": value})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match="load_state_dict of Sequential: expected arrays by name, got str"):
        model.load_state_dict("weights.safetensors")


def test_lists_and_tensors_are_loaded():
    model, state = network(0), network(1).state_dict()
    model.load_state_dict({name: (tg.Tensor(value) if "weight" in name else value.tolist()) for name, value in state.items()})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_many_problems_are_not_all_listed():
    model = nn.Sequential(*[nn.Dense(1, 1) for _ in range(30)])
    with pytest.raises(ValueError, match=r"missing '0\.weight'; .*; and 41 more") as error:
        model.load_state_dict({"other": np.ones(1)})
    assert str(error.value).count("missing") == 20
