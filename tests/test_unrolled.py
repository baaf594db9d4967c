"""The unrolled GAN: its gradient against the plainly recorded graph, finite differences and PyTorch; what it leaves alone;
and how much memory it takes."""
import itertools
import tracemalloc

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key

OPTIMIZERS = {
    "sgd": lambda: tg.optim.SGD(0.1),
    "momentum": lambda: tg.optim.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: tg.optim.Adam(0.05, betas=(0.5, 0.9)),
    "adamw": lambda: tg.optim.AdamW(0.05, betas=(0.5, 0.9), weight_decay=0.1),
    "rmsprop": lambda: tg.optim.RMSProp(0.05),
}


def dense_players(activation=nn.Tanh, norm=False):
    """Smooth networks, so that finite differences are exact."""
    norms = [nn.BatchNorm(6)] if norm else []
    generator = nn.Sequential(nn.Dense(3, 6), activation(), nn.Dense(6, 4))
    return generator, nn.Sequential(nn.Dense(4, 6), *norms, activation(), nn.Dense(6, 1))


def conv_players(activation=nn.Softplus):
    generator = nn.Sequential(nn.Dense(3, 8 * 2 * 2), nn.Reshape(8, 2, 2), nn.BatchNorm(8), activation(),
                              nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())
    discriminator = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), activation(), nn.Conv2d(4, 6, 2, 1, 0, bias=False),
                                  nn.BatchNorm(6), activation(), nn.Flatten(), nn.Dense(6, 1))
    return generator, discriminator


PLAYERS = {"dense": dense_players, "dense with batch norm": lambda: dense_players(norm=True), "convolutions": conv_players}


def make(players=dense_players, optimizer="adam", dtype=np.float64, **settings):
    gan = tg.gans.UnrolledGAN(*players(), 3, **{
        "key": Key(0), "unroll_steps": 3, "d_optimizer": OPTIMIZERS[optimizer](), "g_optimizer": tg.optim.SGD(0.1), **settings})
    gan.generator.astype(dtype), gan.discriminator.astype(dtype)
    return gan


def images(gan, n, seed=0):
    shape = gan.generator(np.zeros((2, 3), gan.g_parameters[0].dtype)).shape[1:]
    return Key(seed).fold("real").uniform((n, *shape), -1.0, 1.0, gan.g_parameters[0].dtype)


def gradients_of(gan, real, z):
    loss, gradients = gan.unrolled_gradients(real, z)
    return loss.item(), [np.asarray(g) for g in gradients]


def close(got, expected, rtol):
    """Relative to the largest element of all: batch norm makes the gradient of a bias before it zero."""
    scale = max(np.abs(e).max() for e in expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=rtol * scale)


# -- exactness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5, 10])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("players", PLAYERS)
def test_rematerialised_gradients_are_those_of_the_recorded_graph(players, optimizer, steps):
    gan = make(PLAYERS[players], optimizer, unroll_steps=steps)
    real, z = images(gan, 6), Key(1).normal((5, 3), np.float64)
    gan.step(images(gan, 6, 1))  # the moments are not zero, and the count is 1
    loss, gradients = gradients_of(gan, real, z)
    gan.rematerialize = False
    expected_loss, expected = gradients_of(gan, real, z)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    close(gradients, expected, 1e-10)


def test_all_steps_see_the_same_instance_noise():
    gan = make(PLAYERS[next(iter(PLAYERS))], "adam", unroll_steps=3, instance_noise=0.3)
    real, z, keys = images(gan, 6), Key(1).normal((5, 3), np.float64), gan.keys
    results = []
    for rematerialize in (True, False):
        gan.keys, gan.rematerialize = tg.random.KeyStream(keys.key, keys.count), rematerialize
        results.append(gradients_of(gan, real, z))
    close(results[0][1], results[1][1], 1e-10)
    gan.instance_noise = 0.0
    assert abs(gradients_of(gan, real, z)[0] - results[0][0]) > 1e-3  # and it is there


@pytest.mark.parametrize("steps", [1, 5, 10])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("players", PLAYERS)
def test_gradients_are_the_slopes_of_the_loss(players, optimizer, steps):
    gan = make(PLAYERS[players], optimizer, unroll_steps=steps)
    gan.step(images(gan, 6, 1))
    real, z = images(gan, 6), Key(1).normal((5, 3), np.float64)
    _, gradients = gradients_of(gan, real, z)
    directions = [Key(2).fold(i).normal(p.shape, np.float64) for i, p in enumerate(gan.g_parameters)]
    starts = [p.numpy().copy() for p in gan.g_parameters]

    def loss_at(t):
        for p, start, direction in zip(gan.g_parameters, starts, directions, strict=True):
            p.assign(start + t * direction)
        return gan.unrolled_gradients(real, z)[0].item()

    h = 1e-4
    slope = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h)
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert slope == pytest.approx(expected, rel=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("cost", ["minimax", "non-saturating"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradients_are_pytorchs(optimizer, cost):
    torch = pytest.importorskip("torch")
    gan = make(dense_players, optimizer, unroll_steps=4, cost=cost)
    for i in range(2):
        gan.step(images(gan, 6, i + 1))
    real, z = images(gan, 6), Key(1).normal((5, 3), np.float64)
    loss, gradients = gradients_of(gan, real, z)
    d = [torch.tensor(p.numpy(), requires_grad=True) for p in gan.d_parameters]
    g = [torch.tensor(p.numpy(), requires_grad=True) for p in gan.g_parameters]
    fake = torch.tanh(torch.tensor(z) @ g[0].T + g[1]) @ g[2].T + g[3]

    def logits(x):
        return torch.tanh(x @ d[0].T + d[1]) @ d[2].T + d[3]

    softplus = torch.nn.functional.softplus
    state = gan.d_optimizer.state()
    slots = {name: [torch.tensor(a) for a in arrays] for name, arrays in state.slots.items()}
    for step in range(4):
        d_loss = softplus(-logits(torch.tensor(real))).mean() + softplus(logits(fake)).mean()
        by_d = torch.autograd.grad(d_loss, d, create_graph=True)
        if optimizer == "sgd":
            d = [p - 0.1 * dp for p, dp in zip(d, by_d, strict=True)]
            continue
        t = state.updates + step + 1
        m = slots["m"] = [0.5 * m + 0.5 * dp for m, dp in zip(slots["m"], by_d, strict=True)]
        v = slots["v"] = [0.9 * v + 0.1 * dp**2 for v, dp in zip(slots["v"], by_d, strict=True)]
        d = [p - 0.05 * (mi / (1 - 0.5**t)) / ((vi / (1 - 0.9**t)).sqrt() + 1e-8)
             for p, mi, vi in zip(d, m, v, strict=True)]
    expected = -softplus(logits(fake)).mean() if cost == "minimax" else softplus(-logits(fake)).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    close(gradients, [e.numpy() for e in torch.autograd.grad(expected, g)], 1e-10)


def test_no_steps_ahead_is_the_vanilla_gan():
    gan = make(unroll_steps=0)
    real, z = images(gan, 6), Key(1).normal((5, 3), np.float64)
    loss, gradients = gradients_of(gan, real, z)
    expected_loss, expected = gan.g_gradients(z)
    assert loss == expected_loss.item()
    close(gradients, [np.asarray(e) for e in expected], 1e-12)


def test_a_dead_unit_with_fresh_moments_gives_no_nan():
    """Adam divides by the root of the second moment, whose slope at zero is infinite."""
    for rematerialize in (True, False):
        gan = make(lambda: dense_players(nn.ReLU), "adam", rematerialize=rematerialize)
        weight, bias = gan.discriminator[0].weight, gan.discriminator[0].bias
        weight.assign(np.where(np.arange(6)[:, None] == 2, 0.0, weight.numpy()))
        bias.assign(np.where(np.arange(6) == 2, -10.0, bias.numpy()))  # this unit never fires
        _, gradients = gradients_of(gan, images(gan, 6), Key(1).normal((5, 3), np.float64))
        assert all(np.isfinite(g).all() for g in gradients)
        assert any(np.abs(g).max() > 0 for g in gradients)


@pytest.mark.parametrize("rematerialize", [True, False])
def test_truncation_stops_the_gradient_where_it_says(rematerialize):
    full, none, two = (make(unroll_steps=4, truncate=truncate, rematerialize=rematerialize) for truncate in (4, 0, 2))
    real, z = images(full, 6), Key(1).normal((5, 3), np.float64)
    exact = make(unroll_steps=4)
    assert {gradients_of(gan, real, z)[0] for gan in (full, none, two, exact)} == {gradients_of(exact, real, z)[0]}
    close(gradients_of(full, real, z)[1], gradients_of(exact, real, z)[1], 1e-12)
    # Without any step to go back through, it is the gradient against the discriminator of four updates later.
    later = make(unroll_steps=0)
    fake = later.generator(z).detach()
    for _ in range(4):
        later.d_optimizer.step(tg.grad(later.d_loss(later.discriminator, later.discriminator_batch(real, fake))[0], later.d_parameters))
    close(gradients_of(none, real, z)[1], gradients_of(later, real, z)[1], 1e-12)
    # Two steps are those from the discriminator of two updates later.
    fake = two.generator(z).detach()
    later = make(unroll_steps=2)
    for _ in range(2):
        later.d_optimizer.step(tg.grad(later.d_loss(later.discriminator, later.discriminator_batch(real, fake))[0], later.d_parameters))
    close(gradients_of(two, real, z)[1], gradients_of(later, real, z)[1], 1e-12)


# -- what it leaves alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rematerialize", [True, False])
def test_looking_ahead_leaves_no_trace(rematerialize):
    gan = make(conv_players, rematerialize=rematerialize)
    gan.step(images(gan, 6))
    before, count = gan.state_dict(), gan.keys.count
    z = Key(1).normal((5, 3), np.float64)
    gan.unrolled_gradients(images(gan, 6), z)
    after = gan.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"generator.2.running_mean", "generator.2.running_var", "generator.2.num_batches_tracked", "key_count"}
    assert gan.keys.count == count + 1


def test_who_looks_ahead_alone_moves_no_running_statistics_either():
    gan = make(conv_players)
    real, fake = images(gan, 6), images(gan, 5, 1)
    before = gan.state_dict()
    gan.look_ahead(real).rematerialized(fake)
    gan.look_ahead(real).recorded(tg.Tensor(fake, requires_grad=True))
    after = gan.state_dict()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"key_count"}


def test_all_steps_see_the_same_dropout():
    def players():
        generator, _ = dense_players()
        return generator, nn.Sequential(nn.Dense(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Dense(6, 1))

    seen = []
    gan = make(players, unroll_steps=3)
    gan.discriminator[2].forward = lambda x, forward=gan.discriminator[2].forward: seen.append(forward(x)) or seen[-1]
    real, z = images(gan, 5), Key(1).normal((5, 3), np.float64)
    gan.unrolled_gradients(real, z)
    masks = [np.asarray(y) == 0 for y in seen]
    assert len({mask.shape for mask in masks}) == 2  # both batches as one, and at the end the generated images alone
    steps = [mask for mask in masks if len(mask) == 10]
    assert len(steps) == 6  # three forward, and three again on the way back
    for first, second in itertools.pairwise(steps):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("order", tg.gans.ORDERS)
def test_a_round_in_each_order_is_the_updates_made_by_hand(order):
    """Latent vectors are given, not drawn, so that nothing but the order tells the three apart."""
    gan, by_hand = (make(order=order) for _ in range(2))
    real, z = images(gan, 8), Key(5).normal((8, 3), np.float64)
    gan.latent = lambda n: z
    gan.step(real)

    if order == "discriminator-first":
        by_hand.d_optimizer.step(by_hand.d_gradients(real, z)[1])
        by_hand.g_optimizer.step(by_hand.unrolled_gradients(real, z)[1])
    elif order == "generator-first":
        by_hand.g_optimizer.step(by_hand.unrolled_gradients(real, z)[1])
        by_hand.d_optimizer.step(by_hand.d_gradients(real, z)[1])
    else:
        ahead = by_hand.unrolled_gradients(real, z)[1]
        by_hand.d_optimizer.step(by_hand.d_gradients(real, z)[1])
        by_hand.g_optimizer.step(ahead)
    for got, expected in zip((*gan.d_parameters, *gan.g_parameters), (*by_hand.d_parameters, *by_hand.g_parameters), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-12)


def test_memory_grows_by_the_parameters_and_moments_of_a_step_and_no_more():
    def peak(steps, rematerialize):
        gan = make(conv_players, dtype=np.float32, unroll_steps=steps, rematerialize=rematerialize)
        real, z = images(gan, 512), Key(1).normal((512, 3))
        gan.step(real)
        tracemalloc.start()
        try:
            gan.unrolled_gradients(real, z)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def sets(steps):  # parameters and two moments of each step
        return steps * 3 * sum(p.array.nbytes for p in make(conv_players, dtype=np.float32).d_parameters)

    one, twenty = (peak(k, True) - sets(k) for k in (1, 20))
    assert twenty <= 1.05 * one and one <= 1.4 * peak(1, False)
    assert peak(5, False) > 2 * peak(5, True)  # what it would be with the graphs of all steps


def test_the_same_run_in_two_halves():
    def run(*parts):
        gan = make(conv_players, dtype=np.float32)
        for steps in parts:
            fresh = make(conv_players, dtype=np.float32)
            fresh.load_state_dict(gan.state_dict())
            gan = fresh
            for _ in range(steps):
                gan.step(images(gan, 6, gan.steps))
        return gan.state_dict()

    once, twice = run(4), run(2, 2)
    for name, value in once.items():
        np.testing.assert_array_equal(value, twice[name], err_msg=name)


@pytest.mark.parametrize("settings, message", [
    ({"unroll_steps": -1}, "unroll_steps should be 0 or more, got -1"),
    ({"unroll_steps": 1.5}, "unroll_steps should be 0 or more, got 1.5"),
    ({"unroll_steps": 2, "truncate": 1.5}, r"truncate should be from 0 to unroll_steps \(2\), got 1.5"),
    ({"unroll_steps": 2, "truncate": 3}, r"truncate should be from 0 to unroll_steps \(2\), got 3"),
    ({"order": "both"}, "unknown order 'both', expected one of discriminator-first"),
])
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
