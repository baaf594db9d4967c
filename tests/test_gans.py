"""The GANs: gradients against PyTorch, Algorithm 1 step by step, sampling, resuming, and that one learns."""
import copy
import itertools
import math

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key

COSTS = ("minimax", "non-saturating", "maximum-likelihood")


def players(norm=True, dropout=False, width=8):
    hidden = [nn.BatchNorm(width)] if norm else []
    noise = [nn.Dropout(0.4)] if dropout else []
    generator = nn.Sequential(nn.Dense(3, width), *hidden, nn.LeakyReLU(0.2), nn.Dense(width, 5), nn.Tanh())
    discriminator = nn.Sequential(nn.Dense(5, width), *[nn.BatchNorm(width) for _ in hidden], nn.LeakyReLU(0.2), *noise,
                                  nn.Dense(width, 1))
    return generator, discriminator


def make(norm=True, dropout=False, **settings):
    return tg.gans.VanillaGAN(*players(norm, dropout), 3, **{"key": Key(0), **settings})


def images(n, seed=0):
    return Key(seed).fold("real").uniform((n, 5), -1.0, 1.0)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def parts(state, prefix):
    return {name: value for name, value in state.items() if name.startswith(prefix)}


# -- gradients -------------------------------------------------------------------------------------------------------


def torch_players(torch, gan):
    """The same two networks in PyTorch, written apart from tinygan's layers."""
    def network(module):
        layers = []
        for layer in module:
            if isinstance(layer, nn.Dense):
                layers.append(torch.nn.Linear(*layer.weight.shape[::-1]))
            elif isinstance(layer, nn.BatchNorm):
                layers.append(torch.nn.BatchNorm1d(layer.weight.size))
            else:
                layers.append(torch.nn.LeakyReLU(0.2) if isinstance(layer, nn.LeakyReLU) else torch.nn.Tanh())
        built = torch.nn.Sequential(*layers).double()
        built.load_state_dict({name: torch.from_numpy(value) for name, value in module.state_dict().items()})
        return built

    return network(gan.generator), network(gan.discriminator)


@pytest.mark.oracle
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_discriminators_gradients_are_pytorchs(norm, smoothing):
    torch = pytest.importorskip("torch")
    gan = make(norm, label_smoothing=smoothing)
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    generator, discriminator = torch_players(torch, gan)
    real, z = images(7).astype(np.float64), Key(1).normal((6, 3), np.float64)
    loss, gradients, real_logits, fake_logits = gan.d_gradients(real, z)
    # From the definition: -E[(1 - s) log D(x) + s log(1 - D(x))] - E[log(1 - D(G(z)))]
    p_real, p_fake = torch.sigmoid(discriminator(torch.tensor(real))), torch.sigmoid(
        discriminator(generator(torch.tensor(z)).detach()))
    expected = (-((1 - smoothing) * torch.log(p_real) + smoothing * torch.log(1 - p_real)).mean()
                - torch.log(1 - p_fake).mean())
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-10)
    for g, e in zip(gradients, torch.autograd.grad(expected, list(discriminator.parameters())), strict=True):
        np.testing.assert_allclose(g, e.numpy(), rtol=1e-8, atol=1e-12)
    for logits, p in ((real_logits, p_real), (fake_logits, p_fake)):
        np.testing.assert_allclose(tg.sigmoid(logits), p.detach().numpy(), rtol=1e-10)
    for name, value in gan.discriminator.named_buffers():
        np.testing.assert_allclose(value, discriminator.state_dict()[name].numpy(), rtol=1e-10, err_msg=name)


@pytest.mark.oracle
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("cost", COSTS)
def test_the_generators_gradients_are_pytorchs(norm, cost):
    torch = pytest.importorskip("torch")
    gan = make(norm, cost=cost)
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    generator, discriminator = torch_players(torch, gan)
    z = Key(1).normal((6, 3), np.float64)
    loss, gradients = gan.g_gradients(z)
    d = torch.sigmoid(discriminator(generator(torch.tensor(z))))
    expected = {"minimax": lambda: torch.log(1 - d).mean(), "non-saturating": lambda: -torch.log(d).mean(),
                "maximum-likelihood": lambda: -(d / (1 - d)).mean()}[cost]()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-10)
    assert min(np.abs(g).max() for g in map(np.asarray, gradients[-2:])) > 1e-3
    for g, e in zip(gradients, torch.autograd.grad(expected, list(generator.parameters())), strict=True):
        np.testing.assert_allclose(g, e.numpy(), rtol=1e-8, atol=1e-12)


def test_costs_and_losses_are_finite_where_the_discriminator_is_sure():
    for cost in COSTS[:2]:
        gan = make(False, cost=cost)
        for sign in (1, -1):
            gan.discriminator[-1].bias.assign([sign * 200.0])
            loss, gradients = gan.g_gradients(gan.latent(4, Key(0)))
            d_loss, d_gradients, *_ = gan.d_gradients(images(4), gan.latent(4, Key(0)))
            assert math.isfinite(loss.item()) and math.isfinite(d_loss.item())
            assert all(np.isfinite(g.numpy()).all() for g in [*gradients, *d_gradients])


def test_one_pass_over_both_batches_gives_what_two_give():
    gan = make(norm=False)
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    assert not gan.couples_examples and make(norm=True).couples_examples
    real, z = images(6).astype(np.float64), Key(1).normal((4, 3), np.float64)
    loss, gradients, *logits = gan.d_gradients(real, z)
    gan.couples_examples = True
    other_loss, other_gradients, *other_logits = gan.d_gradients(real, z)
    np.testing.assert_allclose(loss.item(), other_loss.item(), rtol=1e-12)
    for a, b in zip([*gradients, *logits], [*other_gradients, *other_logits], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


# -- a step ----------------------------------------------------------------------------------------------------------


class Spy:
    """Wraps the two halves of a step and notes, for each call, what went in and the state before and after."""

    def __init__(self, gan):
        self.gan, self.calls = gan, []
        for name in ("d_gradients", "g_gradients"):
            setattr(gan, name, self.around(name, getattr(gan, name)))

    def around(self, name, method):
        def call(*args):
            before = self.gan.state_dict()
            result = method(*args)
            self.calls.append((name, [np.array(a) for a in args], before, self.gan.state_dict()))
            return result

        return call


def test_a_step_is_algorithm_1():
    gan = make(d_steps=3)
    spy = Spy(gan)
    real = images(3 * 4)
    gan.step(real)
    gan.step(images(3 * 4, seed=1))
    assert [name for name, *_ in spy.calls] == ["d_gradients"] * 3 + ["g_gradients"] + ["d_gradients"] * 3 + ["g_gradients"]
    assert [np.array_equal(spy.calls[i][1][0], real[4 * i:4 * i + 4]) for i in range(3)] == [True] * 3  # fresh data
    noises = [args[-1] for _, args, *_ in spy.calls]
    assert all(z.shape == (4, 3) for z in noises)
    assert len({value for z in noises for value in z.ravel().tolist()}) == 8 * 4 * 3  # fresh noise every time
    assert gan.steps == 2 and gan.d_optimizer.count == 6 and gan.g_optimizer.count == 2


@pytest.mark.parametrize("dropout", [False, True])
def test_neither_players_update_touches_the_other(dropout):
    gan = make(dropout=dropout, d_steps=2)
    spy = Spy(gan)
    gan.step(images(2 * 4))
    states = [(name, before) for name, _, before, _ in spy.calls] + [("end", gan.state_dict())]
    for (name, before), (_, after) in itertools.pairwise(states):
        player, other = ("discriminator", "generator") if name == "d_gradients" else ("generator", "discriminator")
        same(parts(before, other), parts(after, other))  # weights and running statistics
        same(parts(before, other[0] + "_optimizer"), parts(after, other[0] + "_optimizer"))
        moved = {key for key, value in parts(before, player).items() if (value != after[key]).any()}
        assert moved == set(parts(before, player))


def test_running_statistics_move_only_in_their_players_own_update():
    gan = make()
    tracked = [(name, after["generator.1.num_batches_tracked"] - before["generator.1.num_batches_tracked"],
                after["discriminator.1.num_batches_tracked"] - before["discriminator.1.num_batches_tracked"])
               for spy in [Spy(gan)] for _ in [gan.step(images(4))] for name, _, before, after in spy.calls]
    assert tracked == [("d_gradients", 0, 2), ("g_gradients", 1, 0)]  # the discriminator sees real and generated images


def test_gradients_go_to_one_player_alone():
    gan = make()
    gan.d_gradients(images(4), gan.latent(4))
    gan.g_gradients(gan.latent(4))
    assert all(p.grad is None for p in [*gan.generator.parameters(), *gan.discriminator.parameters()])


def test_a_steps_statistics():
    gan = make(norm=False, d_steps=2)
    twin = make(norm=False, d_steps=2)
    real = images(8)
    expected = []
    for batch in (real[:4], real[4:]):
        loss, gradients, real_logits, fake_logits = twin.d_gradients(batch, twin.latent(4))
        twin.d_optimizer.step(gradients)
        expected.append([loss.item(), *(np.mean(1 / (1 + np.exp(-np.asarray(x)))) for x in (real_logits, fake_logits))])
    d_loss, d_real, d_fake = np.mean(expected, 0)
    stats = gan.step(real)
    np.testing.assert_allclose([stats.d_loss, stats.d_real, stats.d_fake], [d_loss, d_real, d_fake], rtol=1e-5)
    np.testing.assert_allclose(stats.g_loss, twin.g_gradients(twin.latent(4))[0].item(), rtol=1e-5)
    assert all(isinstance(value, float) for value in stats)


@pytest.mark.parametrize("norm", [True, False], ids=["one pass for each", "one pass for both"])
def test_instance_noise_is_in_all_that_the_discriminator_sees(norm):
    """Real images and generated ones, in both players' updates, and as the schedule has it at that step."""
    seen = []

    class Watch(nn.Module):
        couples_examples = norm

        def forward(self, x):
            seen.extend(np.split(tg.tensor.as_array(x), 1 if len(x) == 500 else 2))
            return x

    generator = nn.Sequential(nn.Dense(3, 5, initializer=nn.initializers.zeros))
    gan = tg.gans.VanillaGAN(generator, nn.Sequential(Watch(), nn.Dense(5, 1)), 3, key=Key(0),
                             instance_noise=lambda step: 0.5 if step == 0 else 0.0)
    real = np.ones((500, 5), np.float32)
    gan.step(real)
    for images, mean in zip(seen, (1.0, 0.0, 0.0), strict=True):
        assert images.mean() == pytest.approx(mean, abs=0.05) and images.std() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1]) < 0.1
    seen.clear()
    gan.step(real)
    assert (seen[0] == 1).all() and np.abs(seen[1]).max() < 0.01


def test_bernoulli_noise_is_random_signs():
    gan = make(noise="bernoulli")
    z = gan.latent(2000, Key(5))
    assert z.shape == (2000, 3) and z.dtype == np.float32 and set(np.unique(z)) == {-1, 1}
    assert abs(z.mean()) < 0.05 and np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.08
    assert not np.array_equal(z, gan.latent(2000, Key(6))) and np.array_equal(z, gan.latent(2000, Key(5)))


@pytest.mark.parametrize("noise, low, high", [("uniform", -1, 1), ("normal", -10, 10)])
def test_noise_has_its_distribution(noise, low, high):
    gan = make(noise=noise)
    z = gan.latent(3000, Key(4))
    assert z.shape == (3000, 3) and z.dtype == np.float32 and z.min() >= low and z.max() < high
    np.testing.assert_allclose(z.std(), 1 / math.sqrt(3) if noise == "uniform" else 1.0, rtol=0.02)
    np.testing.assert_array_equal(z, gan.latent(3000, Key(4)))


def test_two_gans_of_one_key_train_alike_and_of_two_keys_do_not():
    states = []
    for seed in (1, 1, 2):
        gan = make(key=Key(seed))
        gan.step(images(4))
        states.append(gan.state_dict())
    same(states[0], states[1])
    assert (states[0]["generator.0.weight"] != states[2]["generator.0.weight"]).all()


def test_weights_that_are_there_are_kept():
    generator, discriminator = players()
    generator[0].weight.assign(np.ones((8, 3)))
    gan = tg.gans.VanillaGAN(generator, discriminator, 3)
    assert (gan.generator[0].weight.numpy() == 1).all() and gan.discriminator[0].weight.initialized


# -- sampling and resuming -------------------------------------------------------------------------------------------


def test_sampling_does_not_disturb_training():
    gan, twin = make(dropout=True), make(dropout=True)
    for i in range(3):
        gan.step(images(4, i))
        before = gan.state_dict()
        gan.sample(5), gan.sample(z=np.ones((2, 3), np.float32)), gan.sample(3, key=Key(9)), gan.latent(3, Key(1))
        same(gan.state_dict(), before)
        twin.step(images(4, i))
    same(gan.state_dict(), twin.state_dict())


def test_samples():
    gan = make()
    gan.step(images(4))
    z = Key(2).normal((6, 3))
    samples = gan.sample(z=z)
    assert type(samples) is np.ndarray and samples.shape == (6, 5) and samples.dtype == np.float32
    assert samples.flags.c_contiguous and samples.flags.owndata and samples.flags.writeable
    g = parts(gan.state_dict(), "generator.")
    hidden = z @ g["generator.0.weight"].T + g["generator.0.bias"]
    hidden = (hidden - g["generator.1.running_mean"]) / np.sqrt(g["generator.1.running_var"] + 1e-5)
    hidden = hidden * g["generator.1.weight"] + g["generator.1.bias"]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    expected = np.tanh(hidden @ g["generator.3.weight"].T + g["generator.3.bias"])
    np.testing.assert_allclose(samples, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(gan.sample(z=tg.Tensor(z)), samples)
    np.testing.assert_array_equal(gan.sample(4), gan.sample(4))
    assert (gan.sample(4) != gan.sample(4, key=Key(1))).any()
    np.testing.assert_allclose(gan.sample(z=z[:1])[0], samples[0], rtol=1e-5)  # no statistics of the batch
    assert gan.generator.training


@pytest.mark.parametrize("settings", [{}, {"d_steps": 2, "noise": "uniform", "cost": "minimax"}])
def test_a_restored_gan_continues_bit_for_bit(settings):
    gan = make(dropout=True, **settings)
    n = 4 * gan.d_steps
    for i in range(3):
        gan.step(images(n, i))
    state = copy.deepcopy(gan.state_dict())
    other = make(dropout=True, **{**settings, "key": Key(99)})
    other.step(images(n))
    other.load_state_dict(state)
    same(other.state_dict(), state)
    for i in range(3, 6):
        assert gan.step(images(n, i)) == other.step(images(n, i))
    same(gan.state_dict(), other.state_dict())
    assert other.steps == 6


def test_a_state_is_flat_arrays_and_a_copy():
    gan = make()
    state = gan.state_dict()
    assert all(type(value) is np.ndarray and value.flags.c_contiguous for value in state.values())
    assert {"generator.0.weight", "discriminator.1.running_var", "g_optimizer.0.weight.m", "g_optimizer.count",
            "key", "steps"} <= set(state)
    before = copy.deepcopy(state)
    gan.step(images(4))
    same(state, before)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    gan = make()
    gan.step(images(4))
    before = gan.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    del state["d_optimizer.0.bias.v"]
    state["discriminator.9.weight"] = np.ones(1)
    state["steps2"] = np.ones(1)
    state["generator.0.bias"] = np.ones((2, 4), np.float32)
    with pytest.raises(ValueError) as error:
        gan.load_state_dict(state)
    for part in ("missing 'd_optimizer.0.bias.v'", "unexpected 'discriminator.9.weight'", "unexpected 'steps2'",
                 "'generator.0.bias' has shape (2, 4), expected (8,)"):
        assert part in str(error.value)
    same(gan.state_dict(), before)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, message", [
    ({"cost": "pink"}, "VanillaGAN: unknown cost 'pink', expected one of minimax"),
    ({"noise": "pink"}, "unknown noise 'pink', expected one of normal, uniform"),
    ({"d_steps": 0}, "d_steps should be at least 1, got 0"),
    ({"label_smoothing": 1.0}, r"label_smoothing should be in \[0, 1\), got 1.0"),
    ({"label_smoothing": -0.1}, "label_smoothing should be in"),
    ({"instance_noise": -0.1}, "instance_noise should not be negative, got -0.1"),
    ({"g_optimizer": (shared := tg.optim.Adam()), "d_optimizer": shared}, "Adam: already bound"),
])
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_latent_dimension_without_sense_is_refused():
    with pytest.raises(ValueError, match="latent_dim should be a whole number of at least 1, got 0"):
        tg.gans.VanillaGAN(*players(), 0)


@pytest.mark.parametrize("real, error, message", [
    (images(5), ValueError, r"step: expected d_steps \* N images, got shape \(5, 5\) for d_steps=2"),
    (images(0), ValueError, r"step: expected d_steps \* N images, got shape \(0, 5\)"),
    (np.float32(1.0), ValueError, "step: expected"),
    (np.ones((4, 6), np.float32), ValueError, r"VanillaGAN: the images have shape \(6,\), the generator makes \(5,\)"),
    (np.ones((4, 5), np.uint8), TypeError, "expected images in .* of float32, got uint8"),
])
def test_batches_that_do_not_fit_are_refused_and_change_no_weights(real, error, message):
    gan = make(norm=False, d_steps=2)
    before = gan.state_dict()
    with pytest.raises(error, match=message):
        gan.step(real)
    after = gan.state_dict()
    for prefix in ("generator", "discriminator", "g_optimizer", "d_optimizer"):
        same(parts(after, prefix), parts(before, prefix))


def test_images_of_0_to_255_are_refused_at_the_first_step():
    gan = make(norm=False)
    with pytest.raises(ValueError, match=r"step: expected images in \[-1, 1\], got values from 0 to 255"):
        gan.step(np.linspace(0, 255, 20, dtype=np.float32).reshape(4, 5))
    assert gan.steps == 0
    gan.step(3 * images(4))  # data around [-1, 1] are anybody's own business
    gan.step(100 * images(4))  # and only the first step pays for looking


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"sample: z should have shape \(n, 3\), got \(2, 4\)"):
        make().sample(z=np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"sample: z should have shape \(n, 3\), got \(3,\)"):
        make().sample(z=np.ones(3, np.float32))


def test_a_loss_that_is_not_finite_is_returned():
    gan = make(norm=False)
    gan.discriminator[0].weight.assign(np.full((8, 5), np.nan))
    with np.errstate(invalid="ignore"):
        stats = gan.step(images(4))
    assert math.isnan(stats.d_loss) and math.isnan(stats.g_loss)


def test_vanilla_networks():
    generator, discriminator = tg.gans.vanilla_networks((2, 6, 5), latent_dim=7)
    gan = tg.gans.VanillaGAN(generator, discriminator, 7)
    assert gan.sample(3).shape == (3, 2, 6, 5)
    assert np.abs(gan.sample(3)).max() <= 1
    stats = gan.step(Key(0).uniform((4, 2, 6, 5), -1.0, 1.0))
    assert 0 < stats.d_real < 1 and stats.d_loss == pytest.approx(2 * math.log(2), rel=0.2)
    generator, discriminator = tg.gans.vanilla_networks()
    sizes = [[layer.weight.shape for layer in player if isinstance(layer, nn.Dense)]
             for player in (generator, discriminator)]
    assert sizes == [[(256, 100), (512, 256), (1024, 512), (784, 1024)], [(512, 784), (256, 512), (1, 256)]]


# -- learning --------------------------------------------------------------------------------------------------------


def test_a_gan_learns_a_gaussian():
    mean, spread = np.array([1.5, -0.5], np.float32), np.array([0.5, 0.25], np.float32)
    generator = nn.Sequential(nn.Dense(2, 16), nn.LeakyReLU(0.2), nn.Dense(16, 2))
    discriminator = nn.Sequential(nn.Dense(2, 32), nn.LeakyReLU(0.2), nn.Dense(32, 32), nn.LeakyReLU(0.2), nn.Dense(32, 1))
    gan = tg.gans.VanillaGAN(generator, discriminator, 2, key=Key(1), g_optimizer=tg.optim.Adam(1e-3),
                             d_optimizer=tg.optim.Adam(2e-3))
    average = tg.optim.ExponentialMovingAverage(generator, 0.99)
    z = gan.latent(4000, Key(7))
    assert np.abs(gan.sample(z=z).mean(0) - mean).max() > 0.5
    for i in range(1000):
        gan.step(mean + spread * Key(3).fold(i).normal((64, 2)))
        average.update()
    with average.applied():
        samples = gan.sample(z=z)
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.15)
    np.testing.assert_allclose(samples.std(0), spread, rtol=0.35)
