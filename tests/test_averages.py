"""Averages of whole networks, and copies of what belongs to a network: optimisers and averages."""
from __future__ import annotations

import copy
import gc
import math
import pickle

import numpy as np
import pytest
from test_spectral_norm import ORIGINAL, U, V

import tinygan as tg
from tinygan import nn, optim
from tinygan.devices import to_device
from tinygan.random import Key

COUNT = "1.num_batches_tracked"


def network():
    return nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.SpectralNorm(nn.Dense(8, 8)), nn.Tanh(),
                         nn.SpectralNorm(nn.Dense(8, 4, bias=False))).initialize(Key(0))


def moved(model, i):
    """As training leaves it after another step: other weights, statistics and vectors."""
    for path, p in model.named_parameters():
        p.assign(p.numpy() + 0.3 * Key(i).fold(path).normal(p.shape))
    weight = model[0].weight
    model(tg.to_device(Key(i).fold("x").normal((16, 3), weight.dtype) * (1 + i) + i, weight.device))


def averaged(decay=0.8, steps=12, dtype=np.float32):
    """A network after some steps, its average, and the averages of its state by a plain loop in float64."""
    model = network().astype(dtype)
    average = optim.ExponentialMovingAverage(model, decay)
    expected = {path: value.astype(np.float64) for path, value in model.state_dict().items()}
    for i in range(steps):
        moved(model, i)
        average.update()
        for path, value in model.state_dict().items():
            expected[path] = decay * expected[path] + (1 - decay) * value
    return model, average, expected


def largest_singular_value(weight):
    return np.linalg.svd(weight, compute_uv=False)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_are_averaged_and_counts_copied(dtype):
    model, average, expected = averaged(dtype=dtype)
    state = average.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert state[COUNT] == model.state_dict()[COUNT] == 12 and state[COUNT].dtype == np.int64
    for path, value in expected.items():
        if path != COUNT and path.rpartition(".")[2] not in ("_u", "_v"):
            np.testing.assert_allclose(state[path], value, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6, err_msg=path)
            assert state[path].dtype == dtype


def test_the_vectors_of_spectral_norm_fit_the_averaged_weight():
    _, average, expected = averaged(steps=40)
    for _ in range(30):
        average.update()  # the vectors follow; now the weights rest
    state = average.state_dict()
    for layer in ("3", "5"):
        weight, u, v = (state[f"{layer}.{name}"].astype(np.float64) for name in (ORIGINAL, U, V))
        assert np.linalg.norm(u) == pytest.approx(1, rel=1e-5) and np.linalg.norm(v) == pytest.approx(1, rel=1e-5)
        assert u @ weight @ v == pytest.approx(largest_singular_value(weight), rel=1e-3)
    assert np.linalg.norm(expected[f"3.{U}"]) != pytest.approx(1, abs=1e-3)  # a mean of vectors is none of them


def test_they_are_near_it_at_every_step():
    model = network()
    average = optim.ExponentialMovingAverage(model, 0.95)
    for i in range(60):
        moved(model, i % 7)
        average.update()
        if i > 5:
            state = average.state_dict()
            weight, u, v = (state[f"3.{name}"] for name in (ORIGINAL, U, V))
            assert u @ weight @ v == pytest.approx(largest_singular_value(weight), rel=0.1)


def test_what_is_sampled_from_averages_is_what_they_say():
    """By the definition of each layer in NumPy, from the averaged state."""
    model, average, _ = averaged()
    state = {path: value.astype(np.float64) for path, value in average.state_dict().items()}
    own = model.state_dict()
    x = Key(5).normal((6, 3))
    y = x @ state["0.weight"].T + state["0.bias"]
    y = (y - state["1.running_mean"]) / np.sqrt(state["1.running_var"] + 1e-5) * state["1.weight"] + state["1.bias"]
    y = np.maximum(y, 0)
    for layer in ("3", "5"):
        weight, u, v = (state[f"{layer}.{name}"] for name in (ORIGINAL, U, V))
        y = y @ (weight / (u @ weight @ v)).T + state.get(f"{layer}.bias", 0)
        y = np.tanh(y) if layer == "3" else y
    with average.applied(), nn.mode(model, training=False):
        np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value, own[path], err_msg=path)
    fresh = network().load_state_dict(average.state_dict()).eval()
    np.testing.assert_allclose(fresh(x), y, rtol=1e-4, atol=1e-5)


def test_a_generator_with_batch_norm_is_sampled_with_averaged_statistics():
    generator = nn.Sequential(nn.Dense(2, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 3))
    gan = tg.gans.VanillaGAN(generator, nn.Sequential(nn.Dense(3, 1)), 2, key=Key(0), g_optimizer=optim.Adam(0.05))
    average = optim.ExponentialMovingAverage(gan.generator, 0.9)
    mean = np.zeros(6)
    for i in range(20):
        gan.step(Key(i).uniform((8, 3), -1, 1))
        average.update()
        mean = 0.9 * mean + 0.1 * gan.generator[1].running_mean.numpy()
    with average.applied():
        np.testing.assert_allclose(gan.generator[1].running_mean, mean, rtol=1e-5, atol=1e-6)
        assert np.isfinite(gan.sample(4)).all()
    assert np.abs(gan.generator[1].running_mean.numpy() - mean).max() > 1e-3


def test_averages_are_saved_and_go_on(tmp_path):
    model, average, _ = averaged()
    other_model = network()
    other_model.load_state_dict(model.state_dict())
    other = optim.ExponentialMovingAverage(other_model, 0.8)
    other.load_state_dict(average.state_dict())
    for i in range(3):
        moved(model, i), moved(other_model, i)
        average.update(), other.update()
    for a, b in zip(average.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"load_state_dict of ExponentialMovingAverage: missing '1\.running_mean'"):
        other.load_state_dict({path: value for path, value in average.state_dict().items() if path != "1.running_mean"})


def test_averages_of_parameters_alone_as_older_ones_are():
    model, average, _ = averaged()
    old = {path: average.state_dict()[path] for path, _ in model.named_parameters()}
    other = optim.ExponentialMovingAverage(model, 0.8)
    moved(model, 3)
    other.load_state_dict(old)
    state = other.state_dict()
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(state[path], old.get(path, value), err_msg=path)


def test_averages_follow_the_module_to_another_device_and_precision(device):
    model, average, _ = averaged()
    expected = average.state_dict()
    model.to(device)
    with average.applied():
        for path, value in model.state_dict().items():
            np.testing.assert_array_equal(value, expected[path])
    moved(model, 1)
    average.update()
    values = {path: 0.8 * expected[path] + 0.2 * value for path, value in model.state_dict().items() if "weight" in path}
    state = average.state_dict()
    for path in ("0.weight", "1.weight"):
        np.testing.assert_allclose(state[path], values[path], rtol=1e-5, atol=1e-6)
    model.astype(np.float64)
    average.update()
    assert average.state_dict()["0.weight"].dtype == np.float64 and average.state_dict()[COUNT].dtype == np.int64


def test_an_average_is_taken_in_a_captured_step(other_device):
    def trained(wrap):
        generator = nn.Sequential(nn.Dense(2, 4), nn.BatchNorm(4), nn.SpectralNorm(nn.Dense(4, 3)))
        gan = tg.gans.VanillaGAN(generator, nn.Sequential(nn.Dense(3, 1)), 2, key=Key(0)).to(other_device)
        average = optim.ExponentialMovingAverage(gan.generator, 0.7)

        def step(real):
            stats = gan.step(real)
            average.update()
            return stats

        step = wrap(step)
        for i in range(5):
            step(to_device(Key(i).uniform((4, 3), -1, 1), other_device))
        return average.state_dict()

    for a, b in zip(trained(tg.capture).values(), trained(lambda f: f).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_shared_layer_has_one_average():
    shared = nn.SpectralNorm(nn.Dense(3, 3))
    model = nn.Sequential(shared, nn.Tanh(), shared).initialize(Key(0))
    average = optim.ExponentialMovingAverage(model, 0.5)
    average.update()
    assert set(average.state_dict()) == {f"0.{name}" for name in (ORIGINAL, U, V, "bias")}


# -- copies ----------------------------------------------------------------------------------------------------------------

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}
OPTIMIZERS = [optim.SGD(0.1, 0.9), optim.RMSProp(0.01), optim.Adam(0.01), optim.AdamW(0.01)]


def bound(optimizer):
    model = nn.Sequential(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 1)).initialize(Key(0))
    optimizer = copy.copy(optimizer)
    optimizer.bind(model)
    train(model, optimizer)
    return model, optimizer


def train(model, optimizer, seed=0):
    optimizer.step(tg.grad(tg.sum(model(Key(seed).normal((5, 2)))), model.parameters()))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_an_optimiser_that_was_copied_without_its_network_says_so(optimizer, copied):
    model, optimizer = bound(optimizer)
    twin = copied(optimizer)
    gradients = [np.ones(p.shape, np.float32) for p in model.parameters()]
    for call in (lambda: twin.step(gradients), twin.state_dict, twin.state, twin.pack, lambda: twin.load_state_dict({})):
        with pytest.raises(RuntimeError, match=rf"{type(optimizer).__name__}: this copy was made without its network"):
            call()
    with pytest.raises(RuntimeError, match="without its network"):
        copied(twin).step(gradients)
    train(model, optimizer)  # the original goes on


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("order", [lambda m, o: (m, o), lambda m, o: (o, m), lambda m, o: {"o": o, "p": m.parameters()}],
                         ids=["the network first", "the optimiser first", "its parameters"])
def test_one_that_was_copied_with_its_network_trains_the_copy(copied, order):
    model, optimizer = bound(optim.Adam(0.01))
    before = model.state_dict()
    parts = order(model, optimizer)
    twins = copied(parts)
    gc.collect()
    values = list(twins.values()) if isinstance(twins, dict) else list(twins)
    twin = next(x for x in values if isinstance(x, optim.Optimizer))
    owner = next(x for x in values if not isinstance(x, optim.Optimizer))
    parameters = owner.parameters() if isinstance(owner, nn.Module) else owner
    gradients = tg.grad(tg.sum(model(Key(1).normal((5, 2)))), model.parameters())
    twin.step(gradients)
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[path])
    optimizer.step(gradients)
    for p, q in zip(model.parameters(), parameters, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert copied((twin, owner))[0].count == 2  # and may be copied again


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_a_copied_gan_trains_its_own_networks(copied, kind):
    gan = kind(nn.Sequential(nn.Dense(2, 4), nn.BatchNorm(4), nn.Dense(4, 3)), nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1)),
               2, key=Key(0))
    real = [Key(i).uniform((6, 3), -1, 1) for i in range(3)]
    gan.step(real[0])
    twin = copied(gan)
    gc.collect()
    before = gan.state_dict()
    stats = twin.step(real[1])
    for path, value in gan.state_dict().items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert gan.step(real[1]) == stats
    for path, value in gan.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[path], err_msg=path)


def test_a_copied_optimiser_may_be_bound_to_a_copied_network():
    model, optimizer = bound(optim.Adam(0.01))
    net, twin = copy.deepcopy(model), copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match="Adam: bind: the state of this copy"):
        twin.bind(nn.Dense(2, 2))
    twin.bind(net)
    train(model, optimizer, 3)
    train(net, twin, 3)
    for a, b in zip(model.parameters(), net.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match="Adam: already bound"):
        twin.bind(net)
    both = copy.deepcopy((model, optimizer))
    with pytest.raises(ValueError, match="Adam: already bound"):
        both[1].bind(net)


def test_a_shallow_copy_is_refused_once_it_is_bound():
    unbound = copy.copy(optim.Adam(0.3, betas=(0.1, 0.2)))
    assert (unbound.learning_rate, unbound.betas, unbound.count) == (0.3, (0.1, 0.2), 0)
    model, optimizer = bound(unbound)
    assert unbound.count == 0  # bound() copies it
    with pytest.raises(TypeError, match="Adam: a shallow copy would share the state of each parameter"):
        copy.copy(optimizer)
    assert copy.deepcopy(unbound).learning_rate == 0.3
    train(model, optimizer)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_so_do_averages(copied):
    model, average, _ = averaged()
    alone = copied(average)
    with pytest.raises(RuntimeError, match=r"ExponentialMovingAverage: this copy was made without.* or the whole GAN$"):
        alone.update()
    np.testing.assert_array_equal(alone.state_dict()["0.weight"], average.state_dict()["0.weight"])
    other_model, other = copied((model, average))
    for net, mean in ((model, average), (other_model, other)):
        moved(net, 1)
        mean.update()
    for a, b in zip(average.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert math.isfinite(float(np.sum(other.state_dict()["0.weight"])))
