"""Costs and penalties in a GAN: both players' updates against PyTorch, also unrolled; the passes that they need; what is
refused before training; captured and resumed steps."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.errors import SettingsError
from tinygan.random import Key, KeyStream, use_key

SETS: dict[str, dict[str, float]] = {
    "none": {}, "r1": {"r1": 2.0}, "r2": {"r2": 0.5}, "r1 and r2": {"r1": 0.7, "r2": 1.5},
    "gradient penalty": {"gradient-penalty": 10.0}, "all": {"gradient-penalty": 3.0, "r2": 0.5, "r1": 0.25},
}


def dense_players(activation: Callable[[], nn.Module] = nn.Tanh) -> tuple[nn.Sequential, nn.Sequential]:
    generator = nn.Sequential(nn.Dense(3, 6), activation(), nn.Dense(6, 4))
    return generator, nn.Sequential(nn.Dense(4, 6), activation(), nn.Dense(6, 1))


def conv_players() -> tuple[nn.Sequential, nn.Sequential]:
    """Batch norm in the generator, whose images are constants in the discriminator's update."""
    generator = nn.Sequential(nn.Dense(3, 8 * 4 * 4), nn.Reshape(8, 4, 4), nn.BatchNorm(8), nn.ReLU(),
                              nn.ConvTranspose2d(8, 2, 4, 2, 1), nn.Tanh())
    discriminator = nn.Sequential(nn.Conv2d(2, 5, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(5, 6, 4, 2, 1), nn.Tanh(), nn.Flatten(),
                                  nn.Dense(6 * 2 * 2, 1))
    return generator, discriminator


def piecewise_linear_players() -> tuple[nn.Sequential, nn.Sequential]:
    """Scores and their slopes run as one op (`fusion/slopes.py`)."""
    generator, _ = conv_players()
    return generator, nn.Sequential(nn.Conv2d(2, 5, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(5, 6, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                                    nn.Dense(6 * 2 * 2, 7), nn.LeakyReLU(0.2), nn.Dense(7, 1))


PLAYERS = {"dense": dense_players, "convolutions": conv_players, "piecewise linear": piecewise_linear_players}


def make(players: Callable[[], Any] = dense_players, kind: Any = tg.gans.VanillaGAN, dtype: Any = np.float64,
         **settings: Any) -> Any:
    gan = kind(*players(), 3, **{"key": Key(0), "d_optimizer": tg.optim.Adam(0.05, betas=(0.5, 0.9)), **settings})
    gan.generator.astype(dtype), gan.discriminator.astype(dtype)
    for i, parameter in enumerate(gan.d_parameters):  # no bias is 0
        parameter.assign(parameter.numpy() + 0.1 * Key(9).fold(i).normal(parameter.shape, dtype))
    return gan


def images(gan: Any, n: int, seed: int = 0) -> Any:
    return Key(seed).fold("real").uniform((n, *gan.sample(1).shape[1:]), -1.0, 1.0, gan.g_parameters[0].dtype)


def latent(n: int) -> Any:
    return Key(1).normal((n, 3), np.float64)


def close(got: Any, expected: Any, rtol: float = 1e-10) -> None:
    """Relative to the largest element of all."""
    expected = [np.asarray(e) for e in expected]
    scale = max(float(np.abs(e).max()) for e in expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(g), e, rtol=0, atol=rtol * scale)


# -- the same games in PyTorch, from the papers' formulas -------------------------------------------------------------------


class Torch:
    """The two networks of a GAN in PyTorch, as functions of lists of parameters."""

    def __init__(self, gan: Any) -> None:
        self.torch = pytest.importorskip("torch")
        self.gan = gan
        self.g, self.d = ([self.torch.tensor(np.array(p), requires_grad=True) for p in parameters]
                          for parameters in (gan.g_parameters, gan.d_parameters))

    def run(self, network: Any, parameters: Any, x: Any) -> Any:
        torch, left = self.torch, list(parameters)
        for layer in network:
            if isinstance(layer, nn.Dense):
                x = torch.nn.functional.linear(x, left.pop(0), left.pop(0))
            elif isinstance(layer, nn.ConvTranspose2d):
                x = torch.nn.functional.conv_transpose2d(x, left.pop(0), left.pop(0), 2, 1)
            elif isinstance(layer, nn.Conv2d):
                x = torch.nn.functional.conv2d(x, left.pop(0), left.pop(0), 2, 1)
            elif isinstance(layer, nn.BatchNorm):
                x = torch.nn.functional.batch_norm(x, None, None, left.pop(0), left.pop(0), training=True)
            elif isinstance(layer, nn.Reshape):
                x = x.reshape(len(x), 8, 4, 4)
            elif isinstance(layer, nn.Flatten):
                x = x.flatten(1)
            else:
                x = {"tanh": torch.tanh, "relu": torch.relu, "softplus": torch.nn.functional.softplus,
                     "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.2)}[layer.name](x)
        return x

    def fake(self, z: Any) -> Any:
        return self.run(self.gan.generator, self.g, self.torch.tensor(z))

    def scores(self, x: Any, d: Any = None) -> Any:
        return self.run(self.gan.discriminator, self.d if d is None else d, x)

    def d_loss(self, real: Any, fake: Any, e: Any, d: Any = None) -> Any:
        torch, gan, t = self.torch, self.gan, 1 - self.gan.label_smoothing
        # A copy, because in an unrolled GAN d depends on `fake` too, and the penalties' gradients are for a fixed d.
        fake = fake.clone() if fake.requires_grad else fake.clone().requires_grad_()
        real = torch.tensor(real, requires_grad=True)
        r, f = self.scores(real, d), self.scores(fake, d)
        log = torch.nn.functional.logsigmoid
        entropy = lambda: -(t * log(r) + (1 - t) * log(-r)).mean() - log(-f).mean()  # noqa: E731
        loss = {
            "minimax": entropy, "non-saturating": entropy, "maximum-likelihood": entropy,
            "least-squares": lambda: ((r - t)**2).mean() / 2 + (f**2).mean() / 2, "wasserstein": lambda: f.mean() - r.mean(),
            "hinge": lambda: torch.relu(1 - r).mean() + torch.relu(1 + f).mean(),
            "relativistic": lambda: torch.nn.functional.softplus(f - r).mean(),
        }[gan.cost]()
        for name, weight in gan.penalties.items():
            if name == "gradient-penalty":
                x = torch.tensor(e) * real + (1 - torch.tensor(e)) * fake
                g, = torch.autograd.grad(self.scores(x, d).sum(), x, create_graph=True)
                loss = loss + weight * ((g.flatten(1).norm(dim=1) - 1)**2).mean()
            else:
                g, = torch.autograd.grad(*((r.sum(), real) if name == "r1" else (f.sum(), fake)), create_graph=True)
                loss = loss + weight / 2 * (g**2).flatten(1).sum(1).mean()
        return loss

    def g_loss(self, real: Any, fake: Any, d: Any = None) -> Any:
        torch = self.torch
        f, r = self.scores(fake, d), self.scores(torch.tensor(real), d)
        p = torch.sigmoid(f)
        return {
            "minimax": lambda: torch.log(1 - p).mean(), "non-saturating": lambda: -torch.log(p).mean(),
            "maximum-likelihood": lambda: -(p / (1 - p)).mean(), "least-squares": lambda: ((f - 1)**2).mean() / 2,
            "wasserstein": lambda: -f.mean(), "hinge": lambda: -f.mean(),
            "relativistic": lambda: torch.nn.functional.softplus(r - f).mean(),
        }[self.gan.cost]()

    def slopes(self, loss: Any, parameters: Any) -> list[Any]:
        return [g.numpy() for g in self.torch.autograd.grad(loss, parameters, materialize_grads=True)]


def factors(key: Key, real: Any) -> Any:
    """The interpolation factors that the next gradient penalty draws: one for each image."""
    return KeyStream(key).next_key().uniform((len(real), *[1] * (real.ndim - 1)), dtype=real.dtype)


@pytest.mark.oracle
@pytest.mark.parametrize("cost", tg.gans.COSTS)
@pytest.mark.parametrize("penalties", SETS)
@pytest.mark.parametrize("players", PLAYERS)
def test_the_discriminators_update_is_pytorchs(players: str, penalties: str, cost: str) -> None:
    gan = make(PLAYERS[players], cost=cost, penalties=SETS[penalties])
    if tg.gans.COSTS[cost].targets:
        gan.label_smoothing = 0.1
    real, z = images(gan, 5), latent(5)
    with use_key(KeyStream(Key(5))):
        loss, gradients, real_scores, fake_scores = gan.d_gradients(real, z)
    torch = Torch(gan)
    fake = torch.fake(z).detach()
    expected = torch.d_loss(real, fake, factors(Key(5), real))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    close(gradients, torch.slopes(expected, torch.d))
    close([real_scores, fake_scores], [torch.scores(x).detach().numpy() for x in (torch.torch.tensor(real), fake)])


@pytest.mark.oracle
@pytest.mark.parametrize("cost", tg.gans.COSTS)
@pytest.mark.parametrize("players", PLAYERS)
def test_the_generators_update_is_pytorchs(players: str, cost: str) -> None:
    gan = make(PLAYERS[players], cost=cost, penalties={"r1": 1.0})  # (a penalty is no part of it)
    real, z = images(gan, 5), latent(5)
    loss, gradients = gan.g_gradients(z, real)
    torch = Torch(gan)
    expected = torch.g_loss(real, torch.fake(z))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    close(gradients, torch.slopes(expected, torch.g))
    assert max(float(np.abs(np.asarray(g)).max()) for g in gradients) > 1e-3


@pytest.mark.oracle
@pytest.mark.parametrize("rematerialize", [True, False])
@pytest.mark.parametrize("cost, penalties", [
    *((cost, "none") for cost in tg.gans.COSTS), *(("non-saturating", name) for name in SETS), ("wasserstein", "gradient penalty"),
    ("relativistic", "r1 and r2")])
def test_the_unrolled_gradient_is_pytorchs(cost: str, penalties: str, rematerialize: bool) -> None:
    """Through three of Adam's updates, each with its penalties: third derivatives."""
    gan = make(kind=tg.gans.UnrolledGAN, cost=cost, penalties=SETS[penalties], unroll_steps=3, rematerialize=rematerialize)
    for i in range(2):
        gan.step(images(gan, 5, i + 1))  # (the moments are not zero)
    real, z = images(gan, 5), latent(5)
    draws = KeyStream(gan.keys.key, gan.keys.count).next_key()  # of all updates ahead
    loss, gradients = gan.unrolled_gradients(real, z)
    torch = Torch(gan)
    fake, d, state = torch.fake(z), torch.d, gan.d_optimizer.state()
    m, v = ([torch.torch.tensor(a) for a in state.slots[name]] for name in "mv")
    for step in range(3):
        by_d = torch.torch.autograd.grad(torch.d_loss(real, fake, factors(draws, real), d), d, create_graph=True,
                                         materialize_grads=True)
        t = state.updates + step + 1
        m = [0.5 * a + 0.5 * g for a, g in zip(m, by_d, strict=True)]
        v = [0.9 * a + 0.1 * g**2 for a, g in zip(v, by_d, strict=True)]
        d = [p - 0.05 * (a / (1 - 0.5**t)) / ((b / (1 - 0.9**t)).sqrt() + 1e-8) for p, a, b in zip(d, m, v, strict=True)]
    expected = torch.g_loss(real, fake, d)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    close(gradients, torch.slopes(expected, torch.g), 1e-8)


@pytest.mark.parametrize("players", [
    lambda: (conv_players()[0], nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.Softplus(), nn.Flatten(), nn.Dense(64, 1))),
    lambda: dense_players(lambda: nn.LeakyReLU(0.2))], ids=["convolutions", "piecewise linear, as one op"])
@pytest.mark.parametrize("penalties", ["r1 and r2", "gradient penalty"])
def test_the_unrolled_gradient_is_the_slope_of_its_loss(players: Any, penalties: str) -> None:
    gan = make(players, tg.gans.UnrolledGAN, cost="relativistic", penalties=SETS[penalties], unroll_steps=2,
               d_optimizer=tg.optim.SGD(0.1))
    real, z, keys = images(gan, 4), latent(4), gan.keys
    start = [p.numpy().copy() for p in gan.g_parameters]
    directions = [Key(2).fold(i).normal(p.shape, np.float64) for i, p in enumerate(gan.g_parameters)]

    def at(t: float) -> Any:
        gan.keys = KeyStream(keys.key, keys.count)
        for p, s, direction in zip(gan.g_parameters, start, directions, strict=True):
            p.assign(s + t * direction)
        return gan.unrolled_gradients(real, z)

    gradients, h = at(0.0)[1], 1e-5
    slope = (at(h)[0].item() - at(-h)[0].item()) / (2 * h)
    expected = sum(float((g.array * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert slope == pytest.approx(expected, rel=1e-6)


# -- what is computed ------------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A layer that notes how many images each pass through it has, and whether it is recorded."""

    couples_examples = False

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []

    def forward(self, x: Any) -> Any:
        self.passes.append(len(x))
        return x


@pytest.mark.parametrize("penalties, passes", [
    ("none", [10]), ("r1 and r2", [10]), ("r1", [5, 5]), ("r2", [5, 5]), ("gradient penalty", [10, 5]), ("all", [10, 5])])
def test_the_images_go_through_the_discriminator_once(penalties: str, passes: list[int]) -> None:
    watched = Watched()
    gan = make(lambda: (dense_players()[0], nn.Sequential(watched, *dense_players()[1])), penalties=SETS[penalties])
    gan.d_gradients(images(gan, 5), latent(5))
    assert watched.passes == passes


@pytest.mark.parametrize("cost", tg.gans.COSTS)
def test_only_a_cost_that_pairs_images_looks_at_real_ones_in_the_generators_update(cost: str) -> None:
    watched = Watched()
    gan = make(lambda: (dense_players()[0], nn.Sequential(watched, *dense_players()[1])), cost=cost, d_steps=2)
    gan.step(images(gan, 10))
    assert watched.passes == [10, 10] + [5] * (1 + tg.gans.COSTS[cost].pairs)


def test_the_real_images_of_the_generators_update_are_the_last_ones() -> None:
    gan, twin = make(cost="relativistic", d_steps=2), make(cost="relativistic", d_steps=2)
    real = images(gan, 10)
    stats = gan.step(real)
    twin._update_discriminator(twin._batch(real))
    with use_key(twin.keys):
        loss, gradients = twin.g_gradients(twin.latent(5), real[5:])
    assert stats.g_loss == loss.item()
    twin.g_optimizer.step(gradients)
    for a, b in zip(gan.g_parameters, twin.g_parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_factor_for_each_image_and_not_for_each_value() -> None:
    """Between images of zeros and of ones every value of a point is its factor."""
    seen: list[Any] = []

    class See(Watched):
        def forward(self, x: Any) -> Any:
            seen.append(np.asarray(tg.tensor.as_array(x)))
            return x

    gan = make(lambda: (nn.Sequential(nn.Dense(3, 4, initializer=nn.initializers.zeros)), nn.Sequential(See(), nn.Dense(4, 1))),
               penalties={"gradient-penalty": 1.0})
    gan.d_gradients(np.ones((200, 4)), latent(200))
    points = seen[-1]
    assert points.shape == (200, 4) and (points == points[:, :1]).all()
    assert points.min() < 0.05 and points.max() > 0.95 and points.mean() == pytest.approx(0.5, abs=0.06)
    assert len(np.unique(points)) == 200


def test_together_or_apart_a_pass_gives_the_same() -> None:
    gan = make(conv_players, cost="hinge", penalties=SETS["all"])
    real, z = images(gan, 5), latent(5)
    results = []
    for apart in (False, True):
        gan.couples_examples = apart
        with use_key(KeyStream(Key(5))):
            loss, gradients, *scores = gan.d_gradients(real, z)
        results.append([loss, *gradients, *scores])
    close(*results, 1e-12)


def test_a_weight_of_0_is_no_penalty_and_a_schedule_is_asked_at_every_step() -> None:
    gan, plain = make(penalties={"r1": 0.0, "r2": 0}), make()
    real, z = images(gan, 5), latent(5)
    assert gan.d_gradients(real, z)[0].item() == plain.d_gradients(real, z)[0].item()
    asked: list[int] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 2.0 / (1 + step)

    gan, fixed = make(penalties={"r1": schedule}), make(penalties={"r1": 2.0})
    assert gan.d_gradients(real, z)[0].item() == fixed.d_gradients(real, z)[0].item()
    gan.steps = 1
    assert gan.d_gradients(real, z)[0].item() < fixed.d_gradients(real, z)[0].item()
    assert asked == [0, 1]


def test_a_pass_for_a_penalty_moves_no_running_statistics() -> None:
    """Spectral norm's vectors move by one power iteration for each update, with and without a penalty between the images."""
    def players() -> Any:
        return dense_players()[0], nn.Sequential(nn.SpectralNorm(nn.Dense(4, 6)), nn.Tanh(), nn.Dense(6, 1))

    states = []
    for penalties in ({}, {"gradient-penalty": 10.0}):
        gan = make(players, penalties=penalties)
        gan.d_gradients(images(gan, 5), latent(5))
        states.append(dict(gan.discriminator.named_buffers()))
    assert states[0] and all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("cost", tg.gans.COSTS)
def test_a_step_reports_probabilities_or_scores(cost: str) -> None:
    gan, twin = make(cost=cost), make(cost=cost)
    real = images(gan, 5)
    stats = gan.step(real)
    _, _, *scores = twin.d_gradients(real, twin.latent(5))
    expected = [np.mean(1 / (1 + np.exp(-s)) if tg.gans.COSTS[cost].log_odds else s) for s in map(np.asarray, scores)]
    assert [stats.d_real, stats.d_fake] == pytest.approx(expected, rel=1e-12)
    assert tg.gans.COSTS[cost].log_odds == (cost in ("minimax", "non-saturating", "maximum-likelihood"))


# -- what is refused before training ---------------------------------------------------------------------------------------


def coupled(*layers: nn.Module) -> Callable[[], Any]:
    return lambda: (dense_players()[0], nn.Sequential(nn.Dense(4, 6), nn.Sequential(*layers)))


@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
@pytest.mark.parametrize("penalty", tg.gans.PENALTIES)
@pytest.mark.parametrize("layers, where", [
    ((nn.BatchNorm(6), nn.Dense(6, 1)), r"1\.0 \(BatchNorm\)"),
    ((nn.MinibatchDiscrimination(6, 3, 2), nn.Dense(9, 1)), r"1\.0 \(MinibatchDiscrimination\)")])
def test_a_penalty_needs_images_that_do_not_depend_on_each_other(kind: Any, penalty: str, layers: Any, where: str) -> None:
    with pytest.raises(SettingsError, match=f"the penalty '{penalty}' is about the output for each image alone, but .* its layer "
                       f"{where} lets the images of a batch depend on each other"):
        make(coupled(*layers), kind, penalties={penalty: 1.0})
    make(coupled(*layers), kind, penalties={penalty: 0.0})  # (there is none)


def test_norms_of_single_images_are_allowed() -> None:
    gan = make(coupled(nn.LayerNorm(6), nn.Dense(6, 1)), penalties={"r1": 1.0, "gradient-penalty": 1.0})
    assert math.isfinite(gan.step(images(gan, 5)).d_loss)


@pytest.mark.parametrize("cost", tg.gans.COSTS)
def test_label_smoothing_needs_targets(cost: str) -> None:
    if tg.gans.COSTS[cost].targets:
        make(cost=cost, label_smoothing=0.1)
        return
    with pytest.raises(SettingsError, match=f"the cost '{cost}' has no targets: label_smoothing should be 0, got 0.1"):
        make(cost=cost, label_smoothing=0.1)


@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
@pytest.mark.parametrize("cost", tg.gans.COSTS)
def test_no_cost_takes_probabilities(cost: str, kind: Any) -> None:
    def players() -> Any:
        return dense_players()[0], nn.Sequential(*dense_players()[1], nn.Sigmoid())

    why = "the losses take logits" if tg.gans.COSTS[cost].log_odds else f"the cost '{cost}' takes scores, which may be any numbers"
    with pytest.raises(ValueError, match=f"the discriminator ends in a sigmoid, but {why}"):
        make(players, kind, cost=cost)


@pytest.mark.parametrize("settings, what", [
    ({"cost": "relativistic"}, "the cost 'relativistic'"), ({"penalties": {"gradient-penalty": 1.0}}, "the penalty 'gradient-penalty'")])
def test_pairs_need_as_many_real_as_generated_images(settings: Any, what: str) -> None:
    message = f"{what} pairs each real image with a generated one, so it needs as many of both, got 5 real and 4 generated"
    gan = make(**settings)
    with pytest.raises(ValueError, match=message):
        gan.d_gradients(images(gan, 5), latent(4))
    ahead = make(kind=tg.gans.UnrolledGAN, unroll_steps=0, **settings)
    if "cost" in settings:
        with pytest.raises(ValueError, match=message):
            gan.g_gradients(latent(4), images(gan, 5))
        with pytest.raises(ValueError, match=message):
            ahead.unrolled_gradients(images(gan, 5), latent(4))
        with pytest.raises(ValueError, match="'relativistic' compares generated images with real ones: give g_gradients real"):
            gan.g_gradients(latent(4))


@pytest.mark.parametrize("penalties, error, message", [
    ({"r3": 1.0}, ValueError, "VanillaGAN: unknown penalty 'r3', expected one of gradient-penalty, r1, r2"),
    ({"r1": -1.0}, ValueError, "the weight of the penalty 'r1' should be a number of at least 0, or a function of .* got -1.0"),
    ({"r1": math.nan}, ValueError, "got nan"), ({"r1": math.inf}, ValueError, "got inf"), ({"r1": True}, ValueError, "got True"),
    ({"r1": "1"}, ValueError, "got '1'"), ({"r1": None}, ValueError, "got None"),
    (["r1"], TypeError, "penalties should be names with weights, such as {'r1': 1.0}, got list"),
    ("r1", TypeError, "got str"),
])
def test_penalties_without_sense_are_refused(penalties: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(penalties=penalties)


def test_a_penalty_that_is_set_later_is_looked_up_too() -> None:
    gan = make()
    gan.penalties = {"r3": 1.0}
    with pytest.raises(ValueError, match="unknown penalty 'r3'"):
        gan.step(images(gan, 5))


# -- resuming --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
@pytest.mark.parametrize("penalties", ["r1 and r2", "all"])
def test_a_restored_gan_continues_bit_for_bit(kind: Any, penalties: str) -> None:
    settings = {"cost": "relativistic", "dtype": np.float32, "d_steps": 2,
                "penalties": {**SETS[penalties], "r1": tg.optim.cosine_decay(1.0, 0.1, 5)}}
    gan = make(conv_players, kind, **settings)
    states = []
    for i in range(4):
        if i == 2:
            states.append(gan.state_dict())
        gan.step(images(gan, 8, i))
    other = make(conv_players, kind, **settings)
    other.load_state_dict(states[0])
    for i in (2, 3):
        other.step(images(gan, 8, i))
    for name, value in gan.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value, err_msg=name)
