"""InfoGAN: its codes, a step against PyTorch, its games, and its errors."""
import math

import numpy as np
import pytest

import tinygan as tg
from tinygan import gans, metrics, nn
from tinygan.gans import Codes, InfoGAN
from tinygan.random import Key

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
KINDS = [{}, {"categorical": (3, 2), "continuous": 0}, {"categorical": (), "continuous": 1}]


def planar(dtype=np.float32, seed=0, categorical=(10,), continuous=2, **settings):
    """Points in the plane: dense layers without batch norm, so that real and generated points are one batch."""
    codes = Codes(categorical, continuous)
    networks = (nn.Sequential(nn.Dense(5 + codes.width, 8), nn.LeakyReLU(0.1), nn.Dense(8, 2)),
                nn.Sequential(nn.Dense(2, 8), nn.LeakyReLU(0.1)), nn.Dense(8, 1), nn.Dense(8, codes.width))
    for network in networks:
        network.astype(dtype)
    return InfoGAN(*networks, 5, categorical=categorical, continuous=continuous, key=Key(seed), **settings)


def images(dtype=np.float32, seed=0, categorical=(10,), continuous=2, d_norm=True, **settings):
    codes = {"categorical": categorical, "continuous": continuous}
    networks = gans.infogan_networks((1, 8, 8), 5, **codes, width=2, hidden=6, d_norm=d_norm)
    for network in networks:
        network.astype(dtype)
    return InfoGAN(*networks, 5, **codes, key=Key(seed), **settings)


def real(gan, n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, *gan.sample(1).shape[1:])).astype(gan.g_parameters[0].dtype)


# -- the codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", gans.NOISES)
def test_a_latent_vector_is_noise_then_categories_then_uniform_codes(noise):
    gan = planar(categorical=(10, 3), continuous=2, noise=noise)
    z = gan.latent(20_000, Key(1))
    assert z.shape == (20_000, 5 + 10 + 3 + 2) and z.dtype == np.float32
    for part in (z[:, 5:15], z[:, 15:18]):
        assert set(np.unique(part)) == {0.0, 1.0} and (part.sum(1) == 1).all()
        np.testing.assert_allclose(part.mean(0), 1 / part.shape[1], atol=0.015)
    numbers = z[:, 18:]
    assert -1 <= numbers.min() < -0.99 and 0.99 < numbers.max() < 1
    np.testing.assert_allclose(numbers.var(0), 1 / 3, rtol=0.03)
    together = np.corrcoef(np.concatenate([z[:, :5], z[:, 5:6], z[:, 15:16], numbers], 1).T)
    assert np.abs(together - np.eye(9)).max() < 0.03
    np.testing.assert_array_equal(gan.latent(20_000, Key(1)), z)
    assert not np.array_equal(gan.latent(20_000, Key(2)), z) and not np.array_equal(gan.latent(4), gan.latent(4))


def test_the_bound_is_the_entropy_where_q_knows_the_code_and_0_where_it_guesses():
    codes = Codes((10, 2), 0)
    c = np.concatenate(codes.draw(Key(0), 64, np.float64, tg.backends.cpu), axis=1)
    known, guessed = (codes.bound(*codes.fit(found, c)) for found in (100 * c, 0 * c))
    assert known == pytest.approx(math.log(20)) and guessed == pytest.approx(0, abs=1e-12)
    wrong = codes.bound(*codes.fit(3 * (1 - c), c))
    assert wrong < -3


def test_the_reported_bound_of_a_uniform_code_has_the_variance_that_fits():
    codes, rng = Codes((), 2), np.random.default_rng(0)
    c = rng.uniform(-1, 1, (200_000, 2))
    noise = rng.normal(size=c.shape) * [0.05, 0.2]
    category, numbers = codes.measured(*codes.fit(c + noise, c))
    expected = sum(math.log(2) - math.log(sigma * math.sqrt(2 * math.pi * math.e)) for sigma in (0.05, 0.2))
    assert category == 0.0 and float(numbers) == pytest.approx(expected, abs=0.01)
    likelihood = -0.5 * np.square(noise).sum(1).mean() - math.log(2 * math.pi)
    assert codes.bound(*codes.fit(c + noise, c)) == pytest.approx(2 * math.log(2) + likelihood)


# -- one step against PyTorch --------------------------------------------------------------------------------------------


class Theirs:
    """The same networks, and both players' losses as the paper has them, in plain PyTorch."""

    def __init__(self, torch, gan):
        self.torch, self.gan, self.nets = torch, gan, {}
        for name, network in (("g", gan.generator), ("trunk", gan.trunk), ("head", gan.head), ("q", gan.q)):
            network = network if isinstance(network, nn.Sequential) else nn.Sequential(network)
            self.nets[name] = torch.nn.Sequential(*map(self.layer, network)).double()
            state = {key: torch.tensor(value) for key, value in network.state_dict().items()}
            missing, unexpected = self.nets[name].load_state_dict(state, strict=False)
            assert not unexpected and all("num_batches" in key for key in missing)

    def layer(self, ours):
        torch = self.torch
        if isinstance(ours, nn.Conv2d):
            out, into = ours.weight.shape[:2]
            return torch.nn.Conv2d(into, out, 4, 2, 1, bias=ours.bias is not None)
        if isinstance(ours, nn.ConvTranspose2d):
            into, out = ours.weight.shape[:2]
            return torch.nn.ConvTranspose2d(into, out, 4, 2, 1, bias=ours.bias is not None)
        if isinstance(ours, nn.BatchNorm):
            return (torch.nn.BatchNorm2d if len(ours.weight) in (2, 4) else torch.nn.BatchNorm1d)(len(ours.weight))
        if isinstance(ours, nn.Dense):
            return torch.nn.Linear(*ours.weight.shape[::-1], bias=ours.bias is not None)
        return {"Reshape": torch.nn.Unflatten(1, (4, 2, 2)), "Flatten": torch.nn.Flatten(), "ReLU": torch.nn.ReLU(),
                "LeakyReLU": torch.nn.LeakyReLU(0.1), "Tanh": torch.nn.Tanh()}[type(ours).__name__]

    def information(self, features, z):
        """H(c) + mean(log Q(c|x)), with PyTorch's own distributions."""
        of = self.torch.distributions
        found, total, at = self.nets["q"](features), 0, 0
        codes = z[:, 5:]
        for classes in self.gan.codes.categorical:
            here = slice(at, at + classes)
            q = of.Categorical(logits=found[:, here])
            total, at = total + q.log_prob(codes[:, here].argmax(1)).mean() + math.log(classes), at + classes
        if self.gan.codes.continuous:
            q = of.Normal(found[:, at:], 1.0)
            total = total + q.log_prob(codes[:, at:]).sum(1).mean() + self.gan.codes.continuous * math.log(2)
        return total

    def gradients(self, loss, *names):
        parameters = [p for name in names for p in self.nets[name].parameters()]
        return loss.item(), [g.numpy() for g in self.torch.autograd.grad(loss, parameters)]

    def d(self, x, z, weight):
        log_sigmoid = self.torch.nn.functional.logsigmoid
        features = self.nets["trunk"](self.nets["g"](z).detach())
        loss = -log_sigmoid(self.nets["head"](self.nets["trunk"](x))).mean() - log_sigmoid(-self.nets["head"](features)).mean()
        return self.gradients(loss - weight * self.information(features, z), "trunk", "head", "q")

    def g(self, z, weight):
        features = self.nets["trunk"](self.nets["g"](z))
        loss = -self.torch.nn.functional.logsigmoid(self.nets["head"](features)).mean()
        return self.gradients(loss - weight * self.information(features, z), "g")


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("make", [images, planar])
def test_a_step_is_that_of_pytorch(make, kind):
    torch = pytest.importorskip("torch")
    gan = make(np.float64, weight=0.7, **kind)
    x, z = real(gan, 7), gan.latent(7, Key(3))
    theirs = Theirs(torch, gan)
    loss, gradients, real_logits, fake_logits = gan.d_gradients(x, z)
    expected, expected_gradients = theirs.d(torch.tensor(x), torch.tensor(z), 0.7)
    assert loss.item() == pytest.approx(expected, rel=1e-10) and len(real_logits) == len(fake_logits) == 7
    assert len(gradients) == len(gan.d_parameters)
    close(gradients, expected_gradients)
    loss, gradients = gan.g_gradients(z)
    expected, expected_gradients = theirs.g(torch.tensor(z), 0.7)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    close(gradients, expected_gradients)


def close(ours, expected):
    assert len(ours) == len(expected) > 0
    scale = max(float(np.abs(g).max()) for g in expected)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-9 * scale)


def test_each_optimiser_trains_its_own_networks():
    """The discriminator's trains trunk, head and Q; the generator's the generator alone."""
    gan = planar()
    state = gan.state_dict()
    assert sum(name.startswith("d_optimizer.") and "weight" in name for name in state) >= 3
    gan._update_generator(real(gan, 6))
    moved = {name for name, value in gan.state_dict().items() if not np.array_equal(value, state[name])}
    assert {name.split(".")[0] for name in moved} == {"generator", "g_optimizer", "key_count"}
    state = gan.state_dict()
    gan._update_discriminator(real(gan, 6))
    moved = {name for name, value in gan.state_dict().items() if not np.array_equal(value, state[name])}
    assert {f"discriminator.{part}.weight" for part in ("trunk.0", "head", "q")} <= moved
    assert not any(name.startswith("generator") for name in moved)


# -- the games -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {}, KINDS[1], KINDS[2], {"d_steps": 2}, {"cost": "relativistic"}, {"cost": "wasserstein", "penalties": {"gradient-penalty": 10.0}},
    {"penalties": {"r1": 0.5}}, {"penalties": {"r1": 0.5, "r2": 0.5}}, {"instance_noise": 0.1}, {"ema": 0.9},
], ids=str)
def test_every_game_moves_all_networks_and_is_the_same_when_captured(settings):
    eager, replayed = planar(**settings), planar(**settings)
    before, step = eager.state_dict(), tg.capture(replayed.step)
    for i in range(4):
        x = real(eager, 6 * eager.d_steps, i)
        stats, again = eager.step(x), step(x)
        np.testing.assert_allclose([float(value) for value in again], [float(value) for value in stats], rtol=1e-6)
    after = eager.state_dict()
    assert all(not np.array_equal(before[name], after[name]) for name in after if "weight" in name)
    for name, value in replayed.state_dict().items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


@pytest.mark.parametrize("settings", [{}, {"d_norm": False, "penalties": {"r1": 1.0}}], ids=str)
def test_a_step_on_images_is_the_same_when_captured(settings):
    eager, replayed = images(**settings), images(**settings)
    step = tg.capture(replayed.step)
    for i in range(3):
        stats, again = eager.step(real(eager, 6, i)), step(real(eager, 6, i))
        np.testing.assert_allclose([float(value) for value in again], [float(value) for value in stats], rtol=1e-6)
    for name, value in replayed.state_dict().items():
        np.testing.assert_array_equal(value, eager.state_dict()[name], err_msg=name)


def test_the_other_devices_step_is_the_same(other_device):
    here, there = planar(), planar().to(other_device)
    step = tg.capture(there.step)
    for i in range(3):
        x = real(here, 6, i)
        expected, found = here.step(x), step(tg.to_device(x, other_device))
        np.testing.assert_allclose([float(value) for value in found], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(there.sample(5), here.sample(5), rtol=1e-3, atol=1e-4)
    for mine, theirs in zip((*there.read(x)[0], there.read(x)[1]), (*here.read(x)[0], here.read(x)[1]), strict=True):
        assert isinstance(mine, np.ndarray)
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
    for name, z in there.traverse(2, 3, 1.0, Key(0)).items():
        np.testing.assert_allclose(z, here.traverse(2, 3, 1.0, Key(0))[name], atol=1e-6)


def test_statistics_of_batch_norm_move_in_their_own_players_update_only():
    gan = images()
    before = gan.state_dict()
    gan.d_gradients(real(gan, 6), gan.latent(6, Key(0)))
    moved = {name for name, value in gan.state_dict().items() if not np.array_equal(value, before[name])}
    assert moved and all(name.startswith("discriminator.") and name.split(".")[-1] in BUFFERS for name in moved)
    assert any(name.startswith("discriminator.q") for name in moved)
    before = gan.state_dict()
    gan.g_gradients(gan.latent(6, Key(0)))
    moved = {name for name, value in gan.state_dict().items() if not np.array_equal(value, before[name])}
    assert moved and all(name.startswith("generator.") and name.split(".")[-1] in BUFFERS for name in moved)


def test_it_finds_the_clusters_and_reports_what_is_known_of_them():
    """Four corners without labels: the category of a point becomes its corner, and the bound rises towards log 4."""
    def network(inputs, outputs):
        return nn.Sequential(nn.Dense(inputs, 32), nn.ReLU(), nn.Dense(32, outputs))

    gan = InfoGAN(network(2 + 4, 2), nn.Sequential(nn.Dense(2, 32), nn.ReLU()), network(32, 1), network(32, 4), 2,
                  categorical=(4,), continuous=0, key=Key(0), g_optimizer=tg.optim.Adam(1e-3, betas=(0.5, 0.999)),
                  d_optimizer=tg.optim.Adam(1e-3, betas=(0.5, 0.999)))
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    step, stats = tg.capture(gan.step), None
    for i in range(800):
        which = Key(i).integers(64, 0, 4)
        stats = step(corners[which] + 0.1 * Key(i).fold("off").normal((64, 2)))
    assert math.log(4) - 0.1 < float(stats.categorical_nats) <= math.log(4) and float(stats.continuous_nats) == 0.0
    (probabilities,), nothing = gan.read(np.repeat(corners, 5, 0))
    assert nothing.shape == (20, 0)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert metrics.match_categories(probabilities.argmax(1), np.arange(4).repeat(5), 4).error == 0


# -- reading and varying codes -------------------------------------------------------------------------------------------


def test_reading_takes_each_image_by_itself_and_in_parts(monkeypatch):
    gan = images(categorical=(3, 2), continuous=2)
    for i in range(3):
        gan.step(real(gan, 6, i))
    x, state = real(gan, 7, 9), gan.state_dict()
    (three, two), numbers = gan.read(x)
    assert three.shape == (7, 3) and two.shape == (7, 2) and numbers.shape == (7, 2)
    with tg.no_grad(), nn.mode(gan.discriminator, training=False):
        found = np.asarray(gan.q(gan.trunk(x)))
    np.testing.assert_array_equal(numbers, found[:, 5:])
    np.testing.assert_allclose(two, np.exp(found[:, 3:5]) / np.exp(found[:, 3:5]).sum(1, keepdims=True), rtol=1e-5)
    monkeypatch.setattr("tinygan.gans.infogan._CHUNK", 3)
    np.testing.assert_allclose(gan.read(x)[0][0], three, rtol=1e-5)
    assert all(np.array_equal(value, state[name]) for name, value in gan.state_dict().items())
    assert gan.read(x[:0])[1].shape == (0, 2)
    with pytest.raises(ValueError, match=r"InfoGAN.read: images should be \(N, 1, 8, 8\), got \(7, 8, 8\)"):
        gan.read(x[:, 0])


def test_one_code_varies_and_all_else_stays():
    gan = planar(categorical=(3, 2), continuous=1)
    found = gan.traverse(4, 5, 2.0, Key(0))
    assert {name: z.shape for name, z in found.items()} == {
        "categorical_1": (4, 3, 11), "categorical_2": (4, 2, 11), "continuous_1": (4, 5, 11)}
    places = {"categorical_1": range(5, 8), "categorical_2": range(8, 10), "continuous_1": range(10, 11)}
    drawn = gan.latent(4, Key(0))
    for name, z in found.items():
        rest = [i for i in range(11) if i not in places[name]]
        assert (z[..., rest] == z[:, :1][..., rest]).all()
        np.testing.assert_array_equal(z[:, 0, :5], drawn[:, :5])  # the noise is the same in all pictures
    np.testing.assert_array_equal(found["categorical_1"][2, :, 5:8], np.eye(3))
    np.testing.assert_array_equal(found["categorical_2"][:, :, 5:8], np.repeat(drawn[:, None, 5:8], 2, 1))
    np.testing.assert_array_equal(found["continuous_1"][0, :, 10], [-2, -1, 0, 1, 2])
    np.testing.assert_array_equal(found["continuous_1"][:, 0, 5:8], np.eye(3)[[0, 1, 2, 0]])  # every class in turn


# -- errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codes", "message"), [
    ({"categorical": (0,)}, r"categorical should be the numbers of classes .* at least 2 each, such as \(10,\), got \(0,\)"),
    ({"categorical": (10, 1)}, r"got \(10, 1\)"), ({"categorical": (-3,)}, r"got \(-3,\)"),
    ({"categorical": (2.5,)}, r"got \(2.5,\)"), ({"categorical": (True,)}, r"got \(True,\)"),
    ({"continuous": -1}, "continuous should be the number of continuous codes, at least 0, got -1"),
    ({"continuous": 1.5}, "at least 0, got 1.5"),
    ({"categorical": (), "continuous": 0}, r"at least one code, got categorical=\(\) and continuous=0"),
], ids=str)
def test_codes_without_sense_are_refused(codes, message):
    for caller, make in (("infogan_networks", lambda: gans.infogan_networks(**codes)),
                         ("InfoGAN", lambda: InfoGAN(*gans.infogan_networks((1, 8, 8), 5, width=2, hidden=4), 5, **codes))):
        with pytest.raises(ValueError, match=f"{caller}: .*{message}"):
            make()


def four(z=17, q=12):
    return {"generator": nn.Dense(z, 2), "trunk": nn.Dense(2, 4), "head": nn.Dense(4, 1), "q": nn.Dense(4, q), "noise_dim": 5}


@pytest.mark.parametrize(("change", "error", "message"), [
    (four(z=16), ValueError, r"generator should take latent vectors \(N, 17\), 5 numbers of noise and 12 of codes"),
    (four(q=11), ValueError, r"q should make 12 numbers per image, for categorical=\(10,\) and continuous=2, but makes \(2, 11\)"),
    ({"noise_dim": 0}, ValueError, "noise_dim should be a whole number of at least 1, got 0"),
    ({"weight": 0.0}, ValueError, "weight should be a positive number, got 0.0"),
    ({"weight": math.inf}, ValueError, "weight should be a positive number, got inf"),
    ({"q": lambda x: x}, TypeError, "q should be a Module, such as .* got function"),
    ({"noise": "pink"}, ValueError, "unknown noise 'pink'"),
    ({"cost": "pink"}, ValueError, "unknown cost 'pink'"),
    ({"trunk": nn.Sequential(nn.Dense(2, 4), nn.BatchNorm(4)), "penalties": {"r1": 1.0}}, ValueError, "trunk.1 .BatchNorm. lets"),
])
def test_arguments_that_do_not_fit_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        InfoGAN(**{**four(), **change})


def test_one_network_in_two_places_is_refused():
    one = nn.Dense(4, 12)
    with pytest.raises(ValueError, match="trunk, head and q should be different networks"):
        InfoGAN(**{**four(), "head": one, "q": one})


@pytest.mark.parametrize(("change", "message"), [
    ({"image_shape": (1, 30, 28)}, r"H and W multiples of 4, got \(1, 30, 28\)"), ({"noise_dim": 0}, "noise_dim should be"),
    ({"width": 0}, "width should be"), ({"hidden": 1.5}, "hidden should be"),
])
def test_networks_of_other_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=f"infogan_networks: .*{message}"):
        gans.infogan_networks(**change)


def test_the_networks_are_those_of_the_papers_table():
    generator, trunk, head, q = gans.infogan_networks()
    sizes = [tuple(layer.weight.shape) for network in (generator, trunk, nn.Sequential(head), q) for layer in network
             if isinstance(layer, nn.Dense | nn.Conv2d | nn.ConvTranspose2d)]
    assert sizes == [(1024, 74), (6272, 1024), (128, 64, 4, 4), (64, 1, 4, 4), (64, 1, 4, 4), (128, 64, 4, 4), (1024, 6272),
                     (1, 1024), (128, 1024), (12, 128)]


# -- matching ------------------------------------------------------------------------------------------------------------


def test_categories_are_matched_so_that_the_fewest_are_wrong():
    from itertools import permutations

    rng = np.random.default_rng(0)
    for _ in range(5):
        found, labels = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
        best = max(sum(order[k] == label for k, label in zip(found, labels, strict=True)) for order in permutations(range(5)))
        matching = metrics.match_categories(found, labels, 5)
        assert matching.error == pytest.approx(1 - best / 60)
        assert np.mean([matching.classes[k] != label for k, label in zip(found, labels, strict=True)]) == pytest.approx(matching.error)


def test_more_or_fewer_categories_than_classes():
    labels = np.array([3, 3, 7, 7])
    assert metrics.match_categories(np.array([0, 0, 2, 2]), labels, 4) == (0.0, (3, -1, 7, -1))
    assert metrics.match_categories(np.array([0, 0, 0, 0]), labels, 1).error == 0.5
    for found, message in ((np.array([0, 4, 0, 0]), "from 0 to 3, got 0 to 4"), (np.array([0]), r"got \(1,\) and \(4,\)")):
        with pytest.raises(ValueError, match=message):
            metrics.match_categories(found, labels, 4)
