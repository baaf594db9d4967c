"""Devices by name, and moving what lies on one to another."""
import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, devices, nn
from tinygan.backends import cuda
from tinygan.random import Key
from tinygan.runs import machine


def without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ImportError


def test_inputs_on_two_devices_are_refused(other_device):
    here, there = np.ones((16, 16), np.float32), tg.to_device(np.ones((16, 16), np.float32), other_device)
    for call in (tg.mul, tg.matmul, lambda a, b: tg.dense(a, b), lambda a, b: tg.mul(tg.Tensor(a), b)):
        for a, b in ((here, there), (there, here)):
            with pytest.raises(TypeError, match=rf"inputs on (cpu and on {other_device}|{other_device}.* and on cpu)"):
                call(a, b)
    np.testing.assert_array_equal(tg.to_device(tg.mul(there, 2.0), "cpu"), here * 2)


def test_a_missing_gpu_is_one_clear_line(monkeypatch, capsys, tmp_path):
    without_cupy(monkeypatch)
    assert cli.main(["train", "vanilla", "--device", "cuda", "--run-dir", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tinygan: error: device cuda: CuPy is not installed: in a copy of the repository, pip install '.[cuda12]'")
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_auto_takes_the_cpu_without_a_gpu(monkeypatch):
    without_cupy(monkeypatch)
    assert devices.device("auto").name == "cpu"


def test_a_gpu_that_is_not_there(monkeypatch):
    def count():
        raise RuntimeError("cudaErrorInsufficientDriver")

    runtime = SimpleNamespace(getDeviceCount=count)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(__version__="14", cuda=SimpleNamespace(runtime=runtime)))
    with pytest.raises(tg.DeviceError, match=r"device cuda:1: CuPy 14 finds no usable NVIDIA driver \(cudaErrorInsuff"):
        devices.device("cuda:1")
    assert devices.device("auto").name == "cpu"


def test_processes_of_one_machine_take_a_gpu_each(monkeypatch):
    runtime = SimpleNamespace(getDeviceCount=lambda: 2)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(
        runtime=runtime, Device=lambda index: SimpleNamespace(use=lambda: used.append(index)))))
    monkeypatch.setattr(cuda, "gpu_backend", lambda index: f"the GPU of index {index}")
    used = []
    monkeypatch.setattr(devices, "local_size", lambda: 3)
    for rank in range(2):
        monkeypatch.setattr(devices, "local_rank", lambda rank=rank: rank)
        assert devices.device("cuda") == devices.device("auto") == f"the GPU of index {rank}"
    assert devices.device("cuda:0") == "the GPU of index 0"
    assert used == [0, 0, 1, 1, 0]
    monkeypatch.setattr(devices, "local_rank", lambda: 2)
    for name in ("cuda", "auto"):
        with pytest.raises(tg.DeviceError, match="3 processes run on this machine, which has 2 GPUs: start at most one"):
            devices.device(name)
    monkeypatch.setattr(runtime, "getDeviceCount", lambda: 1)  # the launcher lets each process see its own GPU only
    assert devices.device("cuda") == "the GPU of index 0"


def test_info_names_the_gpu_or_says_why_there_is_none(monkeypatch):
    runtime = SimpleNamespace(getDeviceProperties=lambda index: {"name": b"NVIDIA H200", "totalGlobalMem": 139 * 2**30},
                              driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 12090)
    backend = SimpleNamespace(xp=SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    monkeypatch.setattr(devices, "device", lambda name: backend)
    assert machine.gpu() == "NVIDIA H200, 139 GiB, CUDA 12.9 (driver 13.0)"
    monkeypatch.undo()
    without_cupy(monkeypatch)
    assert machine.gpu().startswith("none: CuPy is not installed")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CUDA", ""])
def test_a_name_that_is_none(name):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        devices.device(name)


def test_a_precision_that_is_none():
    with pytest.raises(ValueError, match="expected one of float32, tf32"):
        tg.matmul_precision("float16")


def test_modules_and_optimisers_move(other_device):
    def network():
        return nn.Sequential(nn.Dense(3, 4, bias=False), nn.BatchNorm(4), nn.Tanh(), nn.Dense(4, 2))

    here, there = network().initialize(Key(1)), network().to(other_device).initialize(Key(1))
    assert there.parameters()[0].device == devices.device(other_device).name
    x = Key(2).normal((5, 3))
    optimizers = [tg.optim.Adam(0.01), tg.optim.Adam(0.01)]
    for module, optimizer, data in ((here, optimizers[0], x), (there, optimizers[1], tg.to_device(x, other_device))):
        optimizer.bind(module)
        for _ in range(3):
            optimizer.step(tg.grad((module(data) * module(data)).mean(), module.parameters()))
    for name, value in here.state_dict().items():
        np.testing.assert_allclose(there.state_dict()[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    moved = tg.optim.Adam(0.01)
    there.to("cpu")
    moved.bind(there)
    moved.load_state_dict(optimizers[1].state_dict())
    optimizers[1].step(tg.grad(there(x).mean(), there.parameters()))  # its slots follow the parameters
    assert there.parameters()[0].device == "cpu"


def test_a_deep_copy_stays_where_it_is(other_device):
    module = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3)).to(other_device)
    undrawn = copy.deepcopy(module)
    module.initialize(Key(1))
    twin = copy.deepcopy(module)
    undrawn.initialize(Key(1))
    for other in (twin, undrawn):
        assert {p.device for p in other.parameters()} == {devices.device(other_device).name}
        for name, value in module.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[name], value, err_msg=name)
    twin.parameters()[0].assign(np.zeros((3, 2), np.float32))
    assert module.parameters()[0].numpy().any()


def test_a_tensor_moves(other_device):
    x = tg.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    y = x.to(other_device)
    assert y.device == devices.device(other_device).name
    assert y.to(other_device) is y
    np.testing.assert_array_equal(y.to("cpu").array, x.array)
