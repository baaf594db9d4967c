"""Schedules stated in images, and Adam's betas as schedules: against PyTorch, resumed, captured, and looked ahead at."""
import math
import pickle

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, optim
from tinygan.context import override
from tinygan.random import Key

BURN_IN = 60  # images: ten steps of six
N = 6


def cosine(start, end, seen, burn_in=BURN_IN):
    """R3GAN's burn-in: half a cosine over the burn-in, then the end."""
    return end + (start - end) * (1 + math.cos(math.pi * min(seen / burn_in, 1))) / 2


def scheduled(start, end, images=N):
    return optim.by_images(optim.cosine_decay(start, end, BURN_IN), images)


def adam(images=N, kind=optim.Adam, **more):
    return kind(scheduled(2e-3, 5e-4, images), betas=(scheduled(0.5, 0.0, images), scheduled(0.9, 0.99, images)), **more)


def half_life():
    return optim.half_life(optim.cosine_decay(0, 50, BURN_IN), N)


# -- the functions -------------------------------------------------------------------------------------------------------


def test_a_schedule_in_images_takes_those_seen_before_the_update():
    schedule = optim.by_images(optim.cosine_decay(0.9, 0.99, 2_000_000), 512)
    for count in (0, 1, 1000, 3906, 3907, 10**6):
        assert schedule(count) == pytest.approx(cosine(0.9, 0.99, 512 * count, 2_000_000), rel=1e-14)
    assert (schedule(0), schedule(3907)) == (0.9, 0.99) != (schedule(0), schedule(3906))


def test_the_decay_of_a_half_life():
    decay = optim.half_life(500_000, 500)
    assert decay**1000 == pytest.approx(0.5, rel=1e-12)  # after 500,000 images
    schedule = optim.half_life(optim.cosine_decay(0, 500_000, 2_000_000), 500)
    assert schedule(0) == 0 and schedule(4000) == schedule(10**6) == decay
    assert schedule(2000) == pytest.approx(0.5 ** (500 / 250_000), rel=1e-12)
    assert optim.half_life(0, 64) == 0
    assert optim.half_life(1e-6, 64) == 0  # (the power underflows)


@pytest.mark.parametrize("make, message", [
    (lambda: optim.by_images(optim.cosine_decay(1, 0, 10), 0), "by_images: images should be at least 1, got 0"),
    (lambda: optim.half_life(100, 0), "half_life: batch_size should be at least 1, got 0"),
    (lambda: optim.half_life(-1, 8), "half_life: images should be a number of at least 0, got -1"),
    (lambda: optim.half_life(math.inf, 8), "half_life: images should be a number of at least 0, got inf"),
    (lambda: optim.half_life(lambda seen: math.nan, 8)(3), "half_life: images should be a number of at least 0, got nan"),
    (lambda: optim.Adam(betas=(0.5, 1.0)), r"Adam: betas should be two numbers in \[0, 1\), or schedules, got \(0.5, 1.0\)"),
    (lambda: optim.Adam(betas=(0.5, 0.9, scheduled(0.1, 0.2))), "Adam: betas should be two numbers"),
    (lambda: optim.AdamW(betas=(0.5, lambda count: 0.9 + count / 10)).settings_at(1),
     r"AdamW: betas should be in \[0, 1\), got 0.5 and 1.0 at update 1")])
def test_settings_without_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_as_betas_give_the_settings_that_they_gave():
    assert optim.Adam(1e-3, betas=(0.5, 0.9)).settings_at(2) == (1e-3, 0.5, 0.9, 1e-8, 0.0, False, 1 - 0.5**3, 1 - 0.9**3)


# -- Adam ----------------------------------------------------------------------------------------------------------------


def set_group(optimizer, seen):
    """What the schedules of `adam` say, in PyTorch's optimiser."""
    optimizer.param_groups[0].update(lr=cosine(2e-3, 5e-4, seen), betas=(cosine(0.5, 0.0, seen), cosine(0.9, 0.99, seen)))


@pytest.mark.oracle
@pytest.mark.parametrize("kind, more", [("Adam", {}), ("Adam", {"weight_decay": 0.1}), ("AdamW", {"weight_decay": 0.1})])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_adam_does_what_pytorch_does_when_the_betas_change(kind, more, dtype):
    torch = pytest.importorskip("torch")
    start = [Key(0).fold(i).normal(shape, dtype) for i, shape in enumerate([(3, 4), (5,), ()])]
    parameters = {str(i): tg.Parameter(a) for i, a in enumerate(start)}
    ours = adam(kind=getattr(optim, kind), **more)
    ours.bind(parameters)
    others = [torch.tensor(a, requires_grad=True) for a in start]
    theirs = getattr(torch.optim, kind)(others, **more)
    for i in range(20):
        gradients = [Key(1).fold(i).fold(p).normal(np.shape(a), dtype) for p, a in enumerate(start)]
        ours.step(gradients)
        set_group(theirs, i * N)
        for p, g in zip(others, gradients, strict=True):
            p.grad = torch.tensor(g)
        theirs.step()
    for p, other in zip(parameters.values(), others, strict=True):
        np.testing.assert_allclose(p.numpy(), other.detach().numpy(), rtol=1e-11 if dtype == np.float64 else 2e-5, atol=1e-12 if dtype == np.float64 else 2e-6)


class Remembering(tg.gans.VanillaGAN):
    """It keeps the latent vectors that it draws."""

    def latent(self, n, key=None):
        z = super().latent(n, key)
        self.drawn = [*getattr(self, "drawn", []), np.array(z)]
        return z


@pytest.mark.oracle
def test_a_gan_trains_as_in_pytorch_with_the_same_schedules():
    """Weights of both players and the generator's average over 20 steps: 10 of burn-in, and 10 after it."""
    torch = pytest.importorskip("torch")
    softplus = torch.nn.functional.softplus
    gan = Remembering(nn.Sequential(nn.Dense(3, 8), nn.Tanh(), nn.Dense(8, 5)), nn.Sequential(nn.Dense(5, 7), nn.Tanh(), nn.Dense(7, 1)),
                      3, key=Key(0), g_optimizer=adam(), d_optimizer=adam(), ema=half_life())
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    g, d = ([torch.tensor(p.numpy(), requires_grad=True) for p in ps] for ps in (gan.g_parameters, gan.d_parameters))
    average = [p.detach().clone() for p in g]
    g_adam, d_adam = (torch.optim.Adam(ps) for ps in (g, d))

    def network(p, x):
        return torch.tanh(x @ p[0].T + p[1]) @ p[2].T + p[3]

    def update(optimizer, i, loss):
        set_group(optimizer, i * N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for i in range(20):
        real = Key(5).fold(i).uniform((N, 5), -1.0, 1.0, np.float64)
        gan.drawn = []
        gan.step(real)
        z_d, z_g = map(torch.tensor, gan.drawn)
        update(d_adam, i, softplus(-network(d, torch.tensor(real))).mean() + softplus(network(d, network(g, z_d).detach())).mean())
        update(g_adam, i, softplus(-network(d, network(g, z_g))).mean())
        half = cosine(0, 50, i * N)
        decay = 0.5 ** (N / half) if half else 0.0
        for a, p in zip(average, g, strict=True):
            a.mul_(decay).add_(p.detach(), alpha=1 - decay)
    for ours, theirs in ((gan.g_parameters, g), (gan.d_parameters, d), (gan.average.module.parameters(), average)):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-8, atol=1e-10)


def make(kind="vanilla", d_steps=1):
    players = (nn.Sequential(nn.Dense(3, 8), nn.Tanh(), nn.Dense(8, 5)), nn.Sequential(nn.Dense(5, 7), nn.Tanh(), nn.Dense(7, 1)))
    settings = {"key": Key(0), "g_optimizer": adam(d_steps * N), "d_optimizer": adam(), "d_steps": d_steps, "ema": half_life()}
    if kind == "vanilla":
        return tg.gans.VanillaGAN(*players, 3, **settings)
    return tg.gans.UnrolledGAN(*players, 3, unroll_steps=3, rematerialize=kind == "unrolled", **settings)


def train(gan, steps, start=0, captured=False):
    step = tg.capture(gan.step) if captured else gan.step
    for i in range(start, start + steps):
        step(tg.to_device(Key(7).fold(i).uniform((gan.d_steps * N, 5), -1.0, 1.0), gan.g_parameters[0].device))
    return gan


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("kind, d_steps", [("vanilla", 1), ("vanilla", 3), ("unrolled", 1)])
def test_a_captured_step_is_the_same_to_the_last_bit(device, kind, d_steps):
    plain, captured = (train(make(kind, d_steps).to(device), 14, captured=captured) for captured in (False, True))
    same(captured.state_dict(), plain.state_dict())


@pytest.mark.parametrize("captured", [False, True])
def test_a_restored_gan_goes_on_to_the_last_bit(captured):
    whole, half, other = train(make(), 14, captured=captured), train(make(), 5), make()
    other.load_state_dict(half.state_dict())
    same(train(other, 9, 5, captured).state_dict(), whole.state_dict())


def test_a_record_whose_betas_change_is_no_part_of_a_captured_update():
    class Recorder:
        def constant(self, array):
            return array

    optimizer, ones = optim.Adam(0.1, betas=(lambda count: 0.0 if count < 9 else 0.5, 0.0)), [np.ones(2)]
    with override(listener=Recorder()), pytest.raises(RuntimeError, match=r"Adam\.update inside a capture: its settings change"):
        optimizer.update(ones, ones, optim.State(0, {"m": ones, "v": ones}))  # (the settings of updates 0 and 1 are equal)


# -- the updates ahead -------------------------------------------------------------------------------------------------------


def test_updates_ahead_are_those_that_the_optimiser_makes():
    """At the count at which they would be made, with the betas of that count."""
    gan = train(make("unrolled"), 4)
    optimizer, ahead = gan.d_optimizer, 5
    gradients = [[Key(i).fold(j).normal(p.shape) for j, p in enumerate(gan.d_parameters)] for i in range(ahead)]
    point = optimizer.pack()
    for i, given in enumerate(gradients):
        point = optimizer.advance(point, given, optimizer.count + i)
    found = [np.array(p) for p in optimizer.unpack(point)]
    for given in gradients:
        optimizer.step(given)
    for a, p in zip(found, gan.d_parameters, strict=True):
        np.testing.assert_array_equal(a, p.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("rematerialize", [True, False])
def test_an_unrolled_gradient_through_changing_betas_is_pytorchs(rematerialize):
    torch = pytest.importorskip("torch")
    softplus = torch.nn.functional.softplus
    gan = make("unrolled")
    gan.rematerialize = rematerialize
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    for i in range(3):
        gan.step(Key(7).fold(i).uniform((N, 5), -1.0, 1.0, np.float64))
    real, z = Key(2).uniform((N, 5), -1.0, 1.0, np.float64), Key(1).normal((4, 3), np.float64)
    loss, gradients = gan.unrolled_gradients(real, z)
    d, g = ([torch.tensor(p.numpy(), requires_grad=True) for p in ps] for ps in (gan.d_parameters, gan.g_parameters))
    fake = torch.tanh(torch.tensor(z) @ g[0].T + g[1]) @ g[2].T + g[3]

    def logits(x):
        return torch.tanh(x @ d[0].T + d[1]) @ d[2].T + d[3]

    slots = gan.d_optimizer.state().slots
    m, v = ([torch.tensor(a) for a in slots[name]] for name in ("m", "v"))
    for step in range(3):
        d_loss = softplus(-logits(torch.tensor(real))).mean() + softplus(logits(fake)).mean()
        by_d = torch.autograd.grad(d_loss, d, create_graph=True)
        count = 3 + step
        rate, b1, b2 = (cosine(*ends, count * N) for ends in ((2e-3, 5e-4), (0.5, 0.0), (0.9, 0.99)))
        m = [b1 * a + (1 - b1) * x for a, x in zip(m, by_d, strict=True)]
        v = [b2 * a + (1 - b2) * x**2 for a, x in zip(v, by_d, strict=True)]
        t = count + 1
        d = [p - rate * (a / (1 - b1**t)) / ((b / (1 - b2**t)).sqrt() + 1e-8) for p, a, b in zip(d, m, v, strict=True)]
    expected = -softplus(logits(fake)).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-11)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, g), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-8, atol=1e-11)


def test_schedules_can_be_pickled():
    burn = optim.cosine_decay(0.9, 0.99, 100)
    for schedule in (optim.step_decay(0.1, 0.5, 3), optim.exponential_decay(0.1, 0.9), optim.linear_decay(0.1, 0.01, 7), burn,
                     optim.warmup(0.3, 5), optim.warmup(burn, 5), optim.by_images(burn, 8), optim.half_life(burn, 8)):
        again = pickle.loads(pickle.dumps(schedule))
        assert [again(count) for count in range(30)] == [schedule(count) for count in range(30)]
