"""`with_slopes`: outputs and the gradients of each by its example, as one op, against the definition. (Against PyTorch it is
tested with the penalties of GANs, in `test_penalties.py` and `test_modern.py`.)"""
from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, ops
from tinygan.backends import cpu
from tinygan.higher_order import with_slopes
from tinygan.random import Key

SLOPES = sys.modules["tinygan.fusion.slopes"]  # (`tinygan.fusion` is the function)
N = 4


class Through(nn.Module):
    """A layer that computes a given function of ops."""

    couples_examples = False

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def scaled(factor: Any) -> nn.Module:
    return Through(lambda x: ops.mul(x, factor))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(8, 4, 1, bias=False), nn.LeakyReLU(0.3), nn.AvgPool2d(2), nn.Flatten(), nn.Dense(16, 1)),
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Dense(128, 16), nn.LeakyReLU(0.2), nn.Dense(16, 8, bias=False), nn.ReLU(), nn.Dense(8, 1)),
    "modern": lambda: tg.gans.modern_networks((2, 28, 28), 3, 8)[1],
    "spectral norm": lambda: nn.Sequential(
        nn.SpectralNorm(nn.Conv2d(2, 4, 3)), nn.LeakyReLU(0.2), nn.Flatten(), nn.SpectralNorm(nn.Dense(144, 1))),
    "factors": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), scaled(0.5), scaled(np.arange(1.0, 4 * N + 1).reshape(N, 4, 1, 1)), nn.ReLU(), nn.Flatten(),
        nn.Dense(144, 1)),
    "a layer twice": lambda: (lambda layer: nn.Sequential(
        layer, nn.LeakyReLU(0.2), layer, nn.ReLU(), nn.Flatten(), nn.Dense(128, 1)))(nn.Conv2d(2, 2, 3, padding=1)),
    "a vector of scores": lambda: nn.Sequential(
        nn.Flatten(), nn.Dense(128, 5), nn.ReLU(), Through(lambda x: ops.sum(x, -1))),
}
"""Piecewise linear networks that keep the examples apart."""

OTHERS: dict[str, Callable[[], nn.Module]] = {
    "not piecewise linear": lambda: nn.Sequential(nn.Flatten(), nn.Dense(128, 6), nn.Tanh(), nn.Dense(6, 1)),
    "an op without a rule": lambda: nn.Sequential(nn.Flatten(), nn.Dense(128, 6), Through(lambda x: ops.abs(x)), nn.Dense(6, 1)),
    "a constant": lambda: nn.Sequential(nn.Flatten(), nn.Dense(128, 6), Through(lambda x: ops.add(x, 1.0)), nn.Dense(6, 1)),
    "a square": lambda: nn.Sequential(nn.Flatten(), nn.Dense(128, 6), Through(lambda x: ops.mul(x, x)), nn.Dense(6, 1)),
    "a factor that repeats examples": lambda: nn.Sequential(
        nn.Flatten(), nn.Dense(128, 6), Through(lambda x: ops.reshape(x, (N, 1, 6))), scaled(np.ones((N, 3, 6))),
        Through(lambda x: ops.sum(x, 1)), nn.Dense(6, 1)),
    "another shape in between": lambda: nn.Sequential(
        nn.Flatten(), nn.Dense(128, 6), nn.ReLU(), Through(lambda x: ops.reshape(x, (2 * N, 3))), nn.Dense(3, 5),
        Through(lambda x: ops.reshape(x, (N, 10))), nn.Dense(10, 1)),
}
"""Those for which the definition must run."""


def made(name: str) -> nn.Module:
    network = {**NETWORKS, **OTHERS}[name]().initialize(Key(0)).astype(np.float64)
    for i, (_, parameter) in enumerate(network.named_parameters()):  # no bias and no weight is 0
        parameter.assign(parameter.numpy() + 0.2 * Key(1).fold(i).normal(parameter.shape, np.float64))
    return network


def images(name: str) -> tg.Tensor:
    size = 28 if name == "modern" else 8
    return tg.Tensor(Key(2).normal((N, 2, size, size), np.float64), requires_grad=True)


def loss_of(network: nn.Module, x: tg.Tensor) -> Any:
    """Something that depends on outputs and slopes together, and on some examples not at all by the outputs."""
    outputs, slopes = with_slopes(network(x), x)
    cost = ops.sum(ops.mul(ops.softplus(outputs), np.array([1.0, 0.0, -2.0, 0.5]).reshape(outputs.shape)))
    square = ops.mul(slopes, slopes)
    return ops.add(cost, ops.add(ops.mean(square), ops.mean(ops.mul(ops.sum(square, (1, 2, 3)), ops.reshape(outputs, (N,))))))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes which way the gradients are computed."""
    noted: list[str] = []
    for name in ("by_weights", "in_graph"):
        function = getattr(SLOPES._Layers, name)
        monkeypatch.setattr(SLOPES._Layers, name, lambda *a, function=function, name=name: (noted.append(name), function(*a))[1])
    return noted


def close(got: Any, expected: Any) -> None:
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(g), np.asarray(e), rtol=0, atol=1e-11 * max(np.abs(np.asarray(e)).max(), 1e-3))
        assert np.abs(np.asarray(e)).max() > 0


@pytest.mark.parametrize("name", [*NETWORKS, *OTHERS])
def test_the_gradients_are_the_definitions(name: str, runs: list[str]) -> None:
    network, x = made(name), images(name)
    wanted = [x, *network.parameters()]
    found, losses = [], []
    for fused in (True, False):
        with tg.fusion(fused), nn.mode(network, training=False):
            losses.append(loss_of(network, x))
            found.append(tg.grad(losses[-1], wanted))
    assert runs == (["by_weights"] if name in NETWORKS else [])
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    close(*found)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "modern"])
def test_the_gradients_of_gradients_are_the_definitions(name: str, runs: list[str]) -> None:
    network, x = made(name), images(name)
    wanted, found = [x, *network.parameters()], []
    for fused in (True, False):
        with tg.fusion(fused), nn.mode(network, training=False):
            first = tg.grad(loss_of(network, x), wanted, create_graph=True)
            total = ops.sum(ops.mul(first[0], first[0]))
            for i, g in enumerate(first[1:]):
                total = ops.add(total, ops.sum(ops.mul(g, ops.mul(g, 1.0 + i))))
            found.append([*first, *tg.grad(total, wanted)])
    assert runs[0] == "in_graph"
    close(*found)


def test_only_some_gradients(runs: list[str]) -> None:
    network, x = made("convolutions"), images("convolutions")
    weight, bias = network.parameters()[2:4]
    for wanted in ([weight], [bias], [x]):
        with tg.fusion(False):
            expected = tg.grad(loss_of(network, x), wanted)
        close(tg.grad(loss_of(network, x), wanted), expected)
    assert len(runs) == 3


def test_one_pass_back_and_one_product_for_each_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[Counter[str]] = []
    for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        function = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *a, function=function, name=name, **k: (counts[-1].update([name]), function(*a, **k))[1])
    network, x = made("convolutions"), images("convolutions")
    for fused in (True, False):
        counts.append(Counter())
        with tg.fusion(fused):
            tg.grad(loss_of(network, x), list(network.parameters()))
    assert counts[0] == {"conv2d": 3 + 3, "conv2d_input_grad": 3, "conv2d_weight_grad": 3}
    assert counts[1] == {"conv2d": 3 + 3, "conv2d_input_grad": 3 + 2, "conv2d_weight_grad": 3 + 3}


def test_under_detect_anomaly_the_definition_runs(runs: list[str]) -> None:
    network, x = made("convolutions"), images("convolutions")
    with tg.detect_anomaly():
        tg.grad(loss_of(network, x), list(network.parameters()))
    assert runs == []


def test_a_weight_that_was_overwritten_is_an_error() -> None:
    network, x = made("convolutions"), images("convolutions")
    loss = loss_of(network, x)
    network.parameters()[2].assign(np.zeros((8, 3, 3, 3)))
    with pytest.raises(RuntimeError, match="have been overwritten since"):
        tg.grad(loss, list(network.parameters()))


def test_the_graph_is_kept_only_if_asked() -> None:
    network, x = made("convolutions"), images("convolutions")
    loss = loss_of(network, x)
    first = tg.grad(loss, list(network.parameters()), retain_graph=True)
    second = tg.grad(loss, list(network.parameters()))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(loss, list(network.parameters()))
