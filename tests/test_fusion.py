"""Fusion changes no result beyond rounding: networks, both players' gradients and whole games with it on and off."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.context import CONTEXT
from tinygan.fusion import TABLE, Row, as_function, batch_norm, conv, dense, perceptron, table
from tinygan.fusion.networks import Layers, Perceptron
from tinygan.random import Key

FUSED_OPS = [value for module in (batch_norm, conv, dense, perceptron) for value in vars(module).values()
             if isinstance(value, tg.Op) and value.forward.__module__ == module.__name__]
RTOL = 1e-10  # relative to the largest element


def close(on, off, told=""):
    """Two lists of arrays. (Batch norm makes the gradient of a bias before it zero, hence one scale for all.)"""
    assert len(on) == len(off)
    on, off = [np.asarray(a) for a in on], [np.asarray(a) for a in off]
    scale = max(np.abs(b).max(initial=0) for b in off)
    for a, b in zip(on, off, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=RTOL * scale, err_msg=told)


def drawn(network, key):
    """The network in float64 with weights that are not small, biases and scales that are not 0 and 1."""
    network.initialize(key).astype(np.float64)
    for path, parameter in network.named_parameters():
        parameter.assign(key.fold(path).uniform(parameter.shape, 0.3, 1.0, np.float64) *
                         np.sign(key.fold(f"{path}'s signs").normal(parameter.shape, np.float64)))
    return network


# -- the table -------------------------------------------------------------------------------------------------------

MAKE = {
    nn.Dense: lambda channels: nn.Dense(channels, 5),
    nn.Conv2d: lambda channels: nn.Conv2d(channels, 4, 3, 2, 1),
    nn.ConvTranspose2d: lambda channels: nn.ConvTranspose2d(channels, 4, 4, 2, 1),
    nn.BatchNorm: lambda channels: nn.BatchNorm(channels),
    nn.SpectralNorm: lambda channels: nn.SpectralNorm(nn.Conv2d(channels, 4, 3)),
    nn.Activation: lambda channels: nn.LeakyReLU(0.3),
}
"""One of every class that may stand in the table, for the channels that it gets."""

INPUTS = {nn.Dense: (6, 3), nn.BatchNorm: (6, 3)}
"""The shape of the input of a row that begins with the class; images for the others."""


def network_of(row, activation=None):
    layers, channels = [], 3
    for kind in row.layers:
        layers.append(activation if activation and kind is nn.Activation else MAKE[kind](channels))
        channels = {nn.Dense: 5, nn.BatchNorm: channels}.get(kind, 4)
    return nn.Sequential(*layers), INPUTS.get(row.layers[0], (3, 3, 5, 6))


def name_of(row):
    return "-".join(kind.__name__ for kind in row.layers)


@pytest.fixture
def used(monkeypatch):
    """The rows of the table that are run, as they are."""
    rows = []

    def observed(row):
        return Row(row.layers, lambda *inputs: (rows.append(row), row.run(*inputs))[1])

    monkeypatch.setattr(table, "TABLE", tuple(map(observed, TABLE)))
    table.plan.cache_clear()
    yield rows
    table.plan.cache_clear()


def derivatives(network, x, fused):
    """The output, the gradients of its inner product with a direction by the input and the parameters, and those of the
    squared norm of them all; then the buffers, which a second run has moved."""
    with tg.fusion(fused):
        x = tg.Tensor(x, requires_grad=True)
        wanted = [x, *network.parameters()]
        y = network(x)
        first = tg.grad(y, wanted, Key(3).normal(y.shape, np.float64), create_graph=True)
        second = tg.grad(sum(tg.sum(g * g) for g in first), wanted)
        network(x)
    return [y.numpy()], [g.numpy() for g in first], [g.numpy() for g in second], [b.numpy() for _, b in network.named_buffers()]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.Tanh(), nn.Softplus()], ids=lambda a: a.name)
@pytest.mark.parametrize("row", TABLE, ids=name_of)
def test_every_row_gives_what_its_layers_give(row, activation, training, used):
    (on, shape), (off, _) = (network_of(row, activation) for _ in range(2))
    x = Key(0).normal(shape, np.float64)
    for network in (on, off):
        drawn(network, Key(1)).train(training)
    found = derivatives(on, x, True)
    assert used and used[0] == row
    count = len(used)
    expected = derivatives(off, x, False)
    assert len(used) == count
    for kind, a, b in zip(("values", "gradients", "second gradients", "buffers"), found, expected, strict=True):
        if b:
            close(a, b, kind)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [lambda bias: nn.Dense(3, 5, bias=bias), lambda bias: nn.Conv2d(3, 4, 3, bias=bias),
                                  lambda bias: nn.ConvTranspose2d(3, 4, 3, bias=bias), lambda bias: nn.BatchNorm(3)],
                         ids=["Dense", "Conv2d", "ConvTranspose2d", "BatchNorm"])
def test_a_layer_that_stands_alone(make, bias, used):
    on, off = (drawn(nn.Sequential(make(bias)), Key(1)) for _ in range(2))
    shape = (6, 3) if isinstance(on[0], nn.Dense) else (3, 3, 5, 6)
    x = Key(0).normal(shape, np.float64)
    for a, b in zip(derivatives(on, x, True), derivatives(off, x, False), strict=True):
        if b:
            close(a, b)
    assert used == []


@pytest.mark.parametrize("row", TABLE, ids=name_of)
@pytest.mark.parametrize("wrong", ["channels", "axes"])
def test_errors_name_the_same_layer(row, wrong):
    network, shape = network_of(row)
    network.initialize(Key(0))
    x = np.ones((shape[0], shape[1] + 1, *shape[2:]) if wrong == "channels" else (4,), np.float32)
    messages = []
    for fused in (True, False):
        with tg.fusion(fused), pytest.raises(ValueError) as raised:
            network(x)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"layer 0, {row.layers[0].__name__}")


@pytest.mark.parametrize("row", [row for row in TABLE if nn.BatchNorm in row.layers[1:]], ids=name_of)
def test_errors_of_a_norm_behind_a_convolution_name_the_norm(row):
    network, shape = network_of(row)
    network.layers = (network[0], nn.BatchNorm(7), *network.layers[2:])
    network.initialize(Key(0))
    messages = []
    for fused in (True, False):
        with tg.fusion(fused), pytest.raises(ValueError) as raised:
            network(np.ones(shape, np.float32))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("layer 1, BatchNorm(7), got 4 channels")


def test_ops_and_layers_know_nothing_of_it():
    folder = Path(tg.__file__).parent
    files = [*folder.glob("ops/*.py"), *folder.glob("nn/*.py")]
    assert len(files) > 30
    assert [path.name for path in files if re.search(r"^\s*(from|import) tinygan.fusion", path.read_text(), re.MULTILINE)] == []


def test_a_forward_of_ones_own_is_called(used):
    class Doubled(nn.Dense):
        def forward(self, x):
            return super().forward(x) * 2.0

    class Renamed(nn.Dense):
        pass

    x = Key(0).normal((4, 3))
    doubled, renamed, changed = (nn.Sequential(kind(3, 3), nn.ReLU()).initialize(Key(1)) for kind in (Doubled, Renamed, nn.Dense))
    changed[0].forward = lambda x: tg.Tensor(-np.ones((4, 3), np.float32))
    with tg.fusion(True):
        expected = renamed(x).numpy()
        assert len(used) == 1
        np.testing.assert_array_equal(doubled(x).numpy(), 2 * expected)
        assert changed(x).numpy().max() == 0
        assert len(used) == 1


def test_a_forward_of_ones_own_inside_spectral_norm_is_called():
    dense = nn.Dense(3, 3)
    dense.forward = lambda x: x * 2.0
    network = nn.Sequential(nn.SpectralNorm(dense), nn.ReLU()).initialize(Key(1))
    x = Key(0).normal((4, 3))
    with tg.fusion(True):
        np.testing.assert_array_equal(tg.tensor.as_array(network(x)), np.maximum(2 * x, 0))


def test_a_function_that_a_program_replaces_is_called(monkeypatch):
    """As a profiler does, after the network has run."""
    class Own(nn.Conv2d):
        pass

    network = nn.Sequential(Own(2, 3, 1), nn.BatchNorm(3), nn.ReLU(), nn.Flatten(), nn.Dense(12, 3), nn.Tanh()).initialize(Key(1))
    x, seen = Key(0).normal((4, 2, 2, 2)), []

    def counted(function):
        def counting(layer, *arguments):
            seen.append(type(layer).__name__)
            return function(layer, *arguments)
        return counting

    with tg.fusion(True):
        expected = network(x).numpy()
        for owner, name in ((Own, "forward"), (nn.Dense, "forward"), (nn.Activation, "forward")):
            monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
        np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-5, atol=1e-6)
        assert seen == ["Own", "ReLU", "Dense", "Tanh"]
        monkeypatch.undo()
        seen.clear()
        monkeypatch.setattr(nn.Module, "__call__", counted(nn.Module.__call__))
        np.testing.assert_allclose(network(x).numpy(), expected, rtol=1e-5, atol=1e-6)
        assert seen == ["Sequential", "Own", "BatchNorm", "ReLU", "Flatten", "Dense", "Tanh"]


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 1), nn.ConvTranspose2d(2, 3, 1)])
def test_a_slope_that_became_negative_is_an_error(layer):
    network = nn.Sequential(layer, nn.BatchNorm(3), nn.LeakyReLU(0.2)).initialize(Key(1))
    network[2].slope = -1.0
    for on in (True, False):
        with tg.fusion(on), pytest.raises(ValueError, match="slope for negative inputs should be 0 or more, got -1"):
            network(Key(0).normal((4, 2, 2, 2)))


def test_a_sequential_asks_once_for_a_structure():
    make = lambda: nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 4), nn.ReLU(), nn.Softplus()).initialize(Key(0))  # noqa: E731
    table.plan.cache_clear()
    for network in (make(), make()):
        for _ in range(3):
            with tg.fusion(True):
                network(np.ones((2, 3), np.float32))
    assert table.plan.cache_info().misses == 1
    with tg.fusion(False):
        make()(np.ones((2, 3), np.float32))
    assert table.plan.cache_info().hits == 5


# -- games -----------------------------------------------------------------------------------------------------------

# No bias stands before a batch norm: its gradient is 0 up to rounding, and Adam makes a whole step of that.


def vanilla():
    generator = nn.Sequential(nn.Dense(3, 6, bias=False), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 4), nn.Tanh())
    return tg.gans.VanillaGAN, generator, nn.Sequential(nn.Dense(4, 6), nn.LeakyReLU(0.2), nn.Dense(6, 1)), {}


def minibatch():
    _, generator, _, settings = vanilla()
    discriminator = nn.Sequential(nn.Dense(4, 6), nn.LeakyReLU(0.2), nn.MinibatchDiscrimination(6, 3, 2), nn.Dense(9, 1))
    return tg.gans.VanillaGAN, generator, discriminator, settings


def dcgan():
    return tg.gans.VanillaGAN, *tg.gans.dcgan_networks((1, 28, 28), 3, 2), {}


def convolutions():
    """What DCGAN does not have: transposed convolutions that nothing normalises, norms without an activation, and spectral
    norm."""
    generator = nn.Sequential(nn.Dense(3, 12), nn.Reshape(3, 2, 2), nn.ConvTranspose2d(3, 3, 4, 2, 1), nn.ReLU(),
                              nn.ConvTranspose2d(3, 2, 3, 1, 1, bias=False), nn.BatchNorm(2), nn.Dropout(0.1),
                              nn.BatchNorm(2), nn.ReLU(), nn.ConvTranspose2d(2, 1, 3, 1, 1), nn.Tanh())
    discriminator = nn.Sequential(nn.SpectralNorm(nn.Conv2d(1, 3, 3)), nn.LeakyReLU(0.2), nn.Conv2d(3, 2, 2, bias=False),
                                  nn.BatchNorm(2), nn.Dropout(0.1), nn.Flatten(), nn.Dense(2, 1))
    return tg.gans.VanillaGAN, generator, discriminator, {}


def unrolled():
    _, generator, discriminator, _ = vanilla()
    return tg.gans.UnrolledGAN, generator, discriminator, {"unroll_steps": 2}


def unrolled_recorded():
    kind, *players, settings = unrolled()
    return kind, *players, {**settings, "rematerialize": False}


def unrolled_convolutions():
    generator = nn.Sequential(nn.Dense(3, 16), nn.Reshape(1, 4, 4), nn.Tanh())
    discriminator = nn.Sequential(nn.Conv2d(1, 3, 2, bias=False), nn.BatchNorm(3), nn.LeakyReLU(0.2), nn.Conv2d(3, 2, 2), nn.Softplus(),
                                  nn.Flatten(), nn.Dense(8, 1))
    return tg.gans.UnrolledGAN, generator, discriminator, {"unroll_steps": 2}


GAMES = (vanilla, minibatch, dcgan, convolutions, unrolled, unrolled_recorded, unrolled_convolutions)


def played(game, fused, steps=3):
    """The losses and both players' gradients at every step of the game, and all its state behind the last."""
    kind, generator, discriminator, settings = game()
    found = []
    with tg.fusion(fused):
        gan = kind(generator, discriminator, 3, key=Key(0), **settings)
        for network in (gan.generator, gan.discriminator):
            network.astype(np.float64)
        real = Key(1).uniform((6, *gan.sample(z=np.zeros((2, 3))).shape[1:]), -1.0, 1.0, np.float64)
        for i in range(steps):
            z = Key(2).fold(i).normal((6, 3), np.float64)
            with tg.random.use_key(Key(3).fold(i)):
                d_loss, d_gradients, *_ = gan.d_gradients(real, z)
                unrolled_gan = isinstance(gan, tg.gans.UnrolledGAN)
                g_loss, g_gradients = gan.unrolled_gradients(real, z) if unrolled_gan else gan.g_gradients(z)
            stats = gan.step(real)
            found += [[d_loss.numpy(), g_loss.numpy(), stats.d_loss, stats.g_loss], d_gradients, g_gradients]
    return [*found, list(gan.generator.state_dict().values()), list(gan.discriminator.state_dict().values())]


@pytest.mark.parametrize("game", GAMES)
def test_games_are_played_alike(game):
    for i, (on, off) in enumerate(zip(played(game, True), played(game, False), strict=True)):
        close(on, off, f"entry {i}")


@pytest.fixture
def run(monkeypatch):
    """The names of the ops of `tinygan.fusion` that are run."""
    names = set()

    def observe(op, forward):
        monkeypatch.setattr(op, "forward", lambda *inputs, **static: (names.add(op.name), forward(*inputs, **static))[1])

    for op in FUSED_OPS:
        observe(op, op.forward)
    return names


def test_the_games_run_every_fused_op_or_none(run):
    for game in GAMES:
        played(game, False, steps=1)
    assert run == set()
    for game in GAMES:
        played(game, True, steps=1)
    assert run == {op.name for op in FUSED_OPS} - {"batch_norm_over_ranks"}  # (which several processes run: see test_distributed)


def test_the_games_exercise_every_row(used):
    for game in GAMES:
        played(game, True, steps=1)
    assert set(used) == set(TABLE)


@pytest.mark.parametrize("game", [vanilla, minibatch, dcgan, convolutions])
def test_gradients_of_gradients_of_a_discriminator(game):
    """As a gradient penalty takes them."""
    found = []
    for fused in (True, False):
        _, generator, discriminator, _ = game()
        generator.initialize(Key(0)).astype(np.float64)
        drawn(discriminator, Key(1))
        with tg.fusion(fused), tg.random.use_key(Key(3)):
            x = tg.Tensor(generator(Key(2).normal((4, 3), np.float64)), requires_grad=True)
            logits = discriminator(x)
            slopes = tg.grad(logits, x, Key(4).normal(logits.shape, np.float64), create_graph=True)
            found.append([slopes, *tg.grad(tg.sum(slopes * slopes), [x, *discriminator.parameters()])])
    close(*found)


def test_a_small_perceptron_is_one_function_of_its_parameters():
    network = drawn(nn.Sequential(nn.Flatten(), nn.Dense(4, 3), nn.Tanh(), nn.Dense(3, 1)), Key(0))
    x, packed = Key(1).normal((5, 2, 2), np.float64), np.concatenate([p.numpy().ravel() for p in network.parameters()])
    with tg.fusion(True):
        one = as_function(network)
    with tg.fusion(False):
        layers = as_function(network)
    assert isinstance(one, Perceptron) and isinstance(layers, Layers)
    assert [p.shape for p in one.parameters(packed)] == [packed.shape]
    assert [p.shape for p in layers.parameters(packed)] == [p.shape for p in network.parameters()]
    for function in (one, layers):
        given = [tg.Tensor(p) for p in function.parameters(2 * packed)]
        twice = nn.functional_call(network, {path: tg.Tensor(2 * p.numpy()) for path, p in network.named_parameters()}, x)
        np.testing.assert_allclose(function(given)(x).numpy(), twice.numpy(), rtol=1e-12)


class Bounded(nn.Dense):
    """A dense layer whose weight is computed."""

    def __init__(self, inputs, outputs):
        self.raw = tg.Parameter(Key(inputs).normal((outputs, inputs), np.float64))
        self.bias = tg.Parameter(np.zeros(outputs))

    @property
    def weight(self):
        return tg.tanh(self.raw)


class BiasFirst(nn.Dense):
    """A dense layer whose parameters stand in another order."""

    def __init__(self, inputs, outputs):
        self.bias = tg.Parameter(np.ones(outputs))
        self.weight = tg.Parameter(Key(inputs).normal((outputs, inputs), np.float64))


def twice(x):
    return x * 2.0


@pytest.mark.parametrize("change", [
    lambda network: nn.Sequential(Bounded(4, 3), nn.Tanh(), Bounded(3, 1)),
    lambda network: nn.Sequential(BiasFirst(4, 3), nn.Tanh(), BiasFirst(3, 1)),
    lambda network: setattr(network[0], "forward", twice) or network,
    lambda network: setattr(network, "forward", twice) or network,
])
def test_what_is_no_perceptron_is_not_taken_for_one(change):
    network = change(nn.Sequential(nn.Dense(4, 3), nn.Tanh(), nn.Dense(3, 1)))
    with tg.fusion(True):
        assert isinstance(as_function(network), Layers)


# -- the switch ------------------------------------------------------------------------------------------------------


def is_fusing():
    return CONTEXT.get().fusion


def in_a_process_of_its_own(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=60, check=False)


def test_it_is_turned_off_by_a_call_or_for_a_body():
    before = is_fusing()
    with tg.fusion(True):
        assert is_fusing()
        with tg.fusion(False):
            assert not is_fusing()
            seen = []
            thread = threading.Thread(target=lambda: (tg.fusion(False), seen.append(is_fusing())))
            thread.start()
            thread.join()
            assert seen == [False]
        assert is_fusing()
        tg.fusion(False)
        assert not is_fusing()
        with pytest.raises(ZeroDivisionError), tg.fusion(True):
            1 / 0  # noqa: B018
        assert not is_fusing()
    assert is_fusing() == before
    with pytest.raises(TypeError, match="fusion: expected True or False, got 0"):
        tg.fusion(0)


@pytest.mark.parametrize("chosen, ops", [("1", "dense"), ("0", "add")])
def test_the_environment_turns_it_off(chosen, ops):
    code = ("import numpy as np, tinygan as tg; x = np.ones((2, 2), np.float32); "
            "print(tg.dense(x, tg.Tensor(x, requires_grad=True), x[0]).node.op.name)")
    done = in_a_process_of_its_own(code, TINYGAN_FUSION=chosen)
    assert (done.stdout.strip(), done.stderr) == (ops, "")


def test_an_unknown_value_in_the_environment_is_an_error():
    done = in_a_process_of_its_own("import tinygan", TINYGAN_FUSION="off")
    assert "ValueError: TINYGAN_FUSION: expected 0 or 1, got 'off'" in done.stderr
