"""Captured steps: the same to the last bit as steps that are not, whatever the host decides from step to step."""
import itertools

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.context import CONTEXT, override
from tinygan.distributed import Part
from tinygan.random import Key
from tinygan.watching import Watcher


def dense_players(dropout=0.0):
    extra = [nn.Dropout(dropout)] if dropout else []
    generator = nn.Sequential(nn.Dense(3, 6), nn.BatchNorm(6), nn.LeakyReLU(0.2), nn.Dense(6, 5), nn.Tanh())
    return generator, nn.Sequential(nn.Dense(5, 7), nn.LeakyReLU(0.2), *extra, nn.Dense(7, 1))


def conv_players():
    generator = nn.Sequential(nn.Dense(3, 4 * 4), nn.Reshape(4, 2, 2), nn.BatchNorm(4), nn.ReLU(),
                              nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh())
    return generator, nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Dense(16, 1))


def tile_players():
    """What is made of a weight for tiles is kept until the weight changes, which every replay has it do."""
    generator = nn.Sequential(nn.Dense(3, 4 * 4), nn.Reshape(4, 2, 2), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.BatchNorm(3),
                              nn.ReLU(), nn.ConvTranspose2d(3, 1, 4, 2, 1), nn.Tanh())
    return generator, nn.Sequential(nn.Conv2d(1, 3, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm(4),
                                    nn.LeakyReLU(0.2), nn.Flatten(), nn.Dense(16, 1))


def layered_players():
    generator = nn.Sequential(nn.Dense(3, 4 * 4), nn.Reshape(4, 2, 2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3, padding=1),
                              nn.Upsample(3, mode="bilinear"), nn.ELU())
    return generator, nn.Sequential(nn.Upsample(6), nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.MaxPool2d(2), nn.Softplus(),
                                    nn.AvgPool2d(2, 1), nn.Flatten(), nn.LayerNorm(16), nn.Dense(16, 1))


def pair_players():
    generator, discriminator = dense_players()
    return generator, nn.Sequential(*discriminator[:-1], nn.MinibatchDiscrimination(7, 3, 2), nn.Dense(10, 1))


GAMES = {
    "vanilla": lambda: tg.gans.VanillaGAN(*dense_players(), 3, key=Key(0), d_steps=2),
    "dropout": lambda: tg.gans.VanillaGAN(*dense_players(0.4), 3, key=Key(0), noise="uniform"),
    "schedules": lambda: tg.gans.VanillaGAN(
        *dense_players(), 3, key=Key(0), instance_noise=tg.optim.linear_decay(0.5, 0.0, 3),
        d_optimizer=tg.optim.RMSProp(tg.optim.step_decay(1e-3, 0.5, 2)), g_optimizer=tg.optim.SGD(tg.optim.warmup(1e-2, 5), 0.9)),
    "relativistic, r1 and r2": lambda: tg.gans.VanillaGAN(
        *conv_players(), 3, key=Key(0), cost="relativistic", d_steps=2,
        penalties={"r1": 0.5, "r2": tg.optim.cosine_decay(1.0, 0.1, 4)}),
    "wasserstein, gradient penalty": lambda: tg.gans.VanillaGAN(
        *conv_players(), 3, key=Key(0), cost="wasserstein", d_steps=2, penalties={"gradient-penalty": 10.0}),
    "unrolled, r2": lambda: tg.gans.UnrolledGAN(*dense_players(), 3, key=Key(0), unroll_steps=2, cost="relativistic",
                                                penalties={"r2": tg.optim.linear_decay(1.0, 0.0, 4)}),
    "convolutions": lambda: tg.gans.VanillaGAN(*conv_players(), 3, key=Key(0)),
    "other layers": lambda: tg.gans.VanillaGAN(*layered_players(), 3, key=Key(0)),
    "tiles": lambda: tg.gans.VanillaGAN(*tile_players(), 3, key=Key(0), d_steps=2),
    "pairs": lambda: tg.gans.VanillaGAN(*pair_players(), 3, key=Key(0), noise="bernoulli"),
    "unrolled": lambda: tg.gans.UnrolledGAN(*dense_players(0.3), 3, key=Key(0), unroll_steps=2),
    "spectral norm": lambda: tg.gans.VanillaGAN(
        dense_players()[0], nn.Sequential(nn.SpectralNorm(nn.Dense(5, 7)), nn.ReLU(), nn.Dense(7, 1)), 3, key=Key(0)),
    "unrolled, rmsprop": lambda: tg.gans.UnrolledGAN(*dense_players(), 3, key=Key(0), unroll_steps=2,
                                                     d_optimizer=tg.optim.RMSProp(1e-3)),
    "unrolled, recorded": lambda: tg.gans.UnrolledGAN(*dense_players(), 3, key=Key(0), unroll_steps=2, rematerialize=False,
                                                      d_optimizer=tg.optim.Adam(tg.optim.cosine_decay(1e-2, 0.0, 4))),
}


def batches(game, steps, device, n=4):
    shape = game.sample(1).shape[1:]
    return [tg.to_device(Key(7).fold(i).uniform((game.d_steps * n, *shape), -1.0, 1.0), device) for i in range(steps)]


def trained(name, steps, device, captured):
    game = GAMES[name]().to(device)
    step = tg.capture(game.step) if captured else game.step
    with tg.conv_algorithm("tiled" if name == "tiles" else "auto"):
        stats = [step(batch) for batch in batches(game, steps, device)]
    return game.state_dict(), [[float(value) for value in row] for row in stats]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("name", GAMES)
def test_captured_steps_are_the_same_to_the_last_bit(device, name):
    plain, plain_stats = trained(name, 6, device, captured=False)
    captured, captured_stats = trained(name, 6, device, captured=True)
    same(captured, plain)
    assert captured_stats == plain_stats


@pytest.mark.parametrize("name", ["vanilla", "convolutions"])
def test_the_cpu_trains_alike(other_device, name):
    there, stats = trained(name, 3, other_device, captured=True)
    here, expected = trained(name, 3, "cpu", captured=True)
    np.testing.assert_allclose(stats, expected, rtol=1e-4)
    for key, value in here.items():
        np.testing.assert_allclose(there[key], value, rtol=1e-3, atol=1e-4, err_msg=key)


def test_labels_are_told_anew_at_each_replay(device):
    def trained(captured):
        table, classify, optimizer = nn.Embedding(3, 4).to(device), nn.Dense(4, 3).to(device), tg.optim.Adam(0.1)
        table.initialize(Key(1)), classify.initialize(Key(2))
        weights = [*table.parameters(), *classify.parameters()]
        optimizer.bind({str(i): weight for i, weight in enumerate(weights)})

        def step(labels):
            loss = tg.softmax_cross_entropy(classify(table(labels)), labels)
            optimizer.step(tg.grad(loss, weights))
            return loss

        run = tg.capture(step) if captured else step
        losses = [float(run(tg.to_device(Key(7).fold(i).integers(5, 0, 3), device))) for i in range(5)]
        return losses, [weight.numpy() for weight in weights]

    plain, captured = trained(False), trained(True)
    assert captured[0] == plain[0]
    for expected, got in zip(plain[1], captured[1], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_other_shapes_are_recorded_again(device):
    plain, captured = GAMES["vanilla"]().to(device), GAMES["vanilla"]().to(device)
    step = tg.capture(captured.step)
    for n in (4, 4, 4, 2, 2, 2, 4, 4):
        real = batches(plain, 1, device, n)[0]
        expected = plain.step(real)
        assert [float(a) for a in step(real)] == [float(a) for a in expected]
    same(captured.state_dict(), plain.state_dict())


CHANGES = {"recording": False, "training": {}, "updating": frozenset(), "watcher": Watcher(), "conv_algorithm": "direct",
           "matmul_precision": "tf32", "fusion": not CONTEXT.get().fusion, "part": Part(None, 3)}


@pytest.mark.parametrize("field", CHANGES)
def test_under_a_changed_context_it_is_recorded_again(device, field):
    runs = []
    step, x = tg.capture(lambda x: runs.append(1) or tg.mul(x, 2.0)), tg.to_device(np.ones(3, np.float32), device)
    for _ in range(3):
        step(x)
    assert len(runs) == 2  # once as usual, once recorded
    with override(**{field: CHANGES[field]}):
        step(x)
    assert len(runs) == 3


def test_each_field_of_the_context_decides_a_step_or_is_known_not_to():
    assert set(CONTEXT.get()._fields) == {*CHANGES, "keys", "listener", "checkpoint_versions"}


def test_players_that_were_moved_or_converted_are_recorded_again(device):
    games = [GAMES["vanilla"]().to(device) for _ in range(2)]
    step = tg.capture(games[1].step)
    for real in batches(games[0], 6, device):
        games[0].step(real)
        step(real)
        for game in games:
            game.to("cpu").to(device)
    same(games[1].state_dict(), games[0].state_dict())


def test_an_optimisers_first_step_inside_is_an_error(device):
    weight = tg.Parameter(np.ones(3, np.float32))
    weight.move(tg.devices.device(device))
    optimizer, calls = tg.optim.Adam(), []
    optimizer.bind({"weight": weight})

    def step(x):
        calls.append(1)
        if len(calls) > 1:
            optimizer.step([x])
        return x

    captured, x = tg.capture(step), tg.to_device(np.ones(3, np.float32), device)
    captured(x)
    with pytest.raises(RuntimeError, match="its first step cannot be captured"):
        captured(x)


def test_a_state_loaded_in_between_counts(device):
    game = GAMES["vanilla"]().to(device)
    step = tg.capture(game.step)
    reals = batches(game, 3, device)
    for real in reals:
        step(real)
    state = game.state_dict()
    for real in reals:
        step(real)
    after = game.state_dict()
    game.load_state_dict(state)
    for real in reals:
        step(real)
    same(game.state_dict(), after)


def test_what_is_sampled_between_replays_is_new(device):
    game = GAMES["convolutions"]().to(device)
    step = tg.capture(game.step)
    seen = []
    for real in batches(game, 4, device):
        step(real)
        twin = GAMES["convolutions"]().to(device)
        twin.load_state_dict(game.state_dict())
        seen.append(game.sample(4))
        np.testing.assert_array_equal(seen[-1], twin.sample(4))
    assert all((a != b).any() for a, b in itertools.pairwise(seen))


def test_reading_inside_is_an_error(device):
    weight = tg.to_device(np.ones(3, np.float32), device)

    def step(x):
        return tg.mul(x, float(tg.sum(tg.mul(x, weight))))

    captured = tg.capture(step)
    captured(weight)
    with pytest.raises(Exception, match=r"capture|captur"):
        captured(weight)
    np.testing.assert_array_equal(tg.to_device(weight, "cpu"), np.ones(3))  # the device goes on working


def test_uploading_inside_is_an_error(other_device):
    def step(x):
        return tg.mul(x, tg.to_device(np.ones(3, np.float32), other_device))

    captured = tg.capture(step)
    x = tg.to_device(np.ones(3, np.float32), other_device)
    captured(x)
    with pytest.raises(RuntimeError, match="upload inside a capture"):
        captured(x)


def test_the_function_runs_twice_and_is_then_replayed(device):
    calls = []
    step = tg.capture(lambda x: calls.append(1) or tg.mul(x, 2.0))
    for value in range(4):
        found = step(tg.to_device(np.full(2, value, np.float32), device))
        np.testing.assert_array_equal(tg.to_device(found, "cpu"), np.full(2, 2 * value))
    assert len(calls) == 2


def test_results_are_copies(device):
    step = tg.capture(lambda x: (tg.sum(x), [tg.mul(x, 3.0)]))
    x = tg.to_device(np.ones((2, 2), np.float32), device)
    first = [step(x) for _ in range(3)][-1]
    step(tg.mul(x, 5.0))
    assert float(first[0]) == 4
    np.testing.assert_array_equal(tg.to_device(first[1][0], "cpu"), np.full((2, 2), 3))


def test_the_ops_beside_the_networks_are_captured(device):
    """Values and second-order gradients of ops that are made of several calls on arrays."""
    index = tg.to_device(np.array([[0, 2, 2], [1, 1, 0]]), device)

    def step(x):
        x = tg.Tensor(x, requires_grad=True)
        parts = [tg.norm(x, 1), tg.std(x, 0), tg.prod(x, 1), tg.cumsum(x, 0), tg.gather(x, 1, index), tg.tril(x), tg.round(x),
                 tg.pow(x, x), tg.pow(0.0, x), tg.max(x, 1), tg.mean(x > 0.5) * 2.0]
        g = tg.grad(sum((part * part).sum() for part in parts[:8]) + parts[9].sum(), x, create_graph=True)
        return [*parts, g, tg.grad((g * g).sum(), x)]

    for dtype in (np.float32, np.float64):
        captured, rng = tg.capture(step), np.random.default_rng(0)
        for _ in range(4):
            x = tg.to_device(rng.uniform(0.2, 2, (2, 3)).astype(dtype), device)
            for found, expected in zip(captured(x), step(x), strict=True):
                np.testing.assert_array_equal(found.numpy(), expected.numpy())
