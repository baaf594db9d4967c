"""Values that go to other libraries and other processes: DLPack, pickle, deep copies; weights that come from PyTorch."""
from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_gans import SMALL, small_gan

import tinygan as tg
from tinygan import nn, saving
from tinygan.random import Key

A = np.array([[1.0, 2.0, 3.0], [0.5, 4.0, 1.0]], np.float32)


# -- DLPack ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [A, A.astype(np.float64), A > 1, np.arange(6), A[:, ::-1].T, A[:0], np.float32(2)],
                         ids=["float32", "float64", "bool", "int64", "strided", "empty", "scalar"])
def test_another_library_sees_the_same_memory_read_only(values: Any) -> None:
    tensor = tg.Tensor(values)
    seen = np.from_dlpack(tensor)
    np.testing.assert_array_equal(seen, values)
    assert seen.dtype == tensor.dtype and not seen.flags.writeable
    assert not seen.size or np.shares_memory(seen, tensor.array)
    assert tensor.__dlpack_device__() == (1, 0)  # kDLCPU


def test_a_gradient_is_not_lost_silently() -> None:
    leaf, parameter = tg.Tensor(A, requires_grad=True), tg.Parameter(A)
    for tensor in (leaf, leaf * 2, parameter):
        with pytest.raises(BufferError, match=r"this Tensor requires a gradient, which would be lost: use tensor\.detach\(\)"):
            np.from_dlpack(tensor)
    seen = np.from_dlpack(parameter.detach())
    parameter.assign(2 * A)
    np.testing.assert_array_equal(seen, 2 * A)  # the same memory
    assert not seen.flags.writeable
    np.testing.assert_array_equal(np.from_dlpack(tg.Buffer(A)), A)


def test_copies_where_they_are_asked_for_and_where_the_library_does_not_know_read_only_memory() -> None:
    class Old:
        """A library from before DLPack 1.0."""

        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

        def __dlpack__(self, **options: Any) -> Any:
            return self.tensor.__dlpack__()

        def __dlpack_device__(self) -> Any:
            return self.tensor.__dlpack_device__()

    tensor = tg.Tensor(A)
    for seen in (np.from_dlpack(tensor, copy=True), np.from_dlpack(Old(tensor))):
        np.testing.assert_array_equal(seen, A)
        assert not np.shares_memory(seen, tensor.array)
    with pytest.raises(BufferError, match="gets a copy"):
        tensor.__dlpack__(copy=False)


def test_a_step_that_is_recorded_cannot_give_its_values_away() -> None:
    x = tg.Tensor(A)
    step = tg.capture(lambda: float(np.from_dlpack(tg.exp(x).detach()).sum()))
    with pytest.raises(Exception, match=r"__dlpack__"):
        for _ in range(3):
            step()


@pytest.mark.oracle
def test_pytorch_reads_tensors_and_tinygan_reads_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    tensor = tg.Tensor(A)
    there = torch.from_dlpack(tensor)
    np.testing.assert_array_equal(there.numpy(), A)
    assert there.data_ptr() == tensor.array.ctypes.data
    np.testing.assert_array_equal(tg.Tensor(torch.from_dlpack(tg.exp(tensor))), np.exp(A))
    with pytest.raises(BufferError, match="requires a gradient"):
        torch.from_dlpack(tg.Parameter(A))


# -- pickle and deep copies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("name", SMALL)
def test_a_copy_of_every_gan_trains_on_by_itself(name: str, how: Any) -> None:
    gan = small_gan(name, 0)
    draw = np.random.default_rng(0)
    shape = SMALL[name][0][1]
    labels = [np.arange(4) % 10] if name == "conditional" else []
    real = [draw.uniform(-1, 1, (4 * gan.d_steps, *shape)).astype(np.float32) for _ in range(2)]
    labels = [np.arange(4 * gan.d_steps) % 10] if labels else []
    gan.step(real[0], *labels)
    twin = how(gan)
    gc.collect()
    before = gan.state_dict()
    stats = twin.step(real[1], *labels)
    assert any((value != before[path]).any() for path, value in twin.state_dict().items() if path.startswith("generator."))
    for path, value in gan.state_dict().items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert gan.step(real[1], *labels) == stats
    for path, value in gan.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[path], err_msg=path)


# -- weights from PyTorch --------------------------------------------------------------------------------------------------


def network(seed: int) -> nn.Sequential:
    return nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4), nn.LeakyReLU(0.2), nn.Dense(4, 1)).initialize(Key(seed))


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_state_of_pytorchs_tensors(kind: str, prefix: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.LeakyReLU(0.2), torch.nn.Linear(4, 1))
    theirs.eval()[1].running_mean.copy_(torch.tensor([0.3, -0.2, 0.1, 1.0]))
    state = {name: value.to(getattr(torch, kind)) if value.dtype.is_floating_point else value
             for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    theirs.load_state_dict(state, strict=False)
    prefixed = {prefix + name: value for name, value in state.items()}
    torch.save(prefixed, tmp_path / "w.pth")
    save_file({name: value.contiguous() for name, value in prefixed.items()}, tmp_path / "w.safetensors")
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    expected = theirs(torch.tensor(x)).detach().numpy()
    ways = {
        "tensors": lambda net: net.load_state_dict(prefixed),
        "the recipe for .pth files": lambda net: net.load_state_dict(torch.load(tmp_path / "w.pth", map_location="cpu", weights_only=True)),
        "safetensors": lambda net: saving.load_weights(net, tmp_path / "w.safetensors"),
    }
    for way, load in ways.items():
        net = network(3)
        load(net)
        assert net[0].weight.dtype == np.float32
        with nn.mode(net, training=False):
            np.testing.assert_allclose(np.array(net(x)), expected, rtol=0, atol=1e-6, err_msg=way)
