"""DiscoGAN: a step against PyTorch, its games, its errors, and its data."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import data, gans, nn
from tinygan.data import Dataset
from tinygan.gans import DiscoGAN
from tinygan.random import Key

SHAPES = {"shape_a": (1, 28, 28), "shape_b": (3, 28, 28)}


def planar(reconstruction="both", dtype=np.float32, seed=0, **settings):
    """Points in the plane: two layers a network, and no batch norm."""
    def network(outputs, inputs=2):
        return nn.Sequential(nn.Dense(inputs, 8), nn.LeakyReLU(0.2), nn.Dense(8, outputs)).astype(dtype)

    return DiscoGAN(network(3), network(2, 3), network(1) if reconstruction != "one-sided" else None, network(1, 3),
                    shape_a=(2,), shape_b=(3,), reconstruction=reconstruction, key=Key(seed), **settings)


def points(n, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 5)).astype(dtype)


def images(reconstruction="both", dtype=np.float32, **settings):
    networks = gans.discogan_networks(**SHAPES, width=4, reconstruction=reconstruction, bottleneck=6)
    for network in filter(None, networks):
        network.astype(dtype)
    return DiscoGAN(*networks, **SHAPES, reconstruction=reconstruction, key=Key(0), **settings)


def pairs(n, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 4, 28, 28)).astype(dtype)


# -- one step against PyTorch --------------------------------------------------------------------------------------------


class Theirs:
    """The same networks, and both players' losses as the paper has them, in plain PyTorch."""

    def __init__(self, torch, gan):
        self.torch, self.nets = torch, {}
        for name, network in (("ab", gan.generator.ab), ("ba", gan.generator.ba), ("a", gan.discriminator.a),
                              ("b", gan.discriminator.b)):
            if network is not None:
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
            return (torch.nn.BatchNorm2d if len(ours.weight) != 6 else torch.nn.BatchNorm1d)(len(ours.weight))
        if isinstance(ours, nn.Dense):
            return torch.nn.Linear(*ours.weight.shape[::-1], bias=ours.bias is not None)
        return {"Reshape": torch.nn.Unflatten(1, (8, 7, 7)), "Flatten": torch.nn.Flatten(), "LeakyReLU": torch.nn.LeakyReLU(0.2), "ReLU": torch.nn.ReLU(),
                "Tanh": torch.nn.Tanh()}[type(ours).__name__]

    def gradients(self, loss, names):
        parameters = [p for name in names for p in self.nets[name].parameters()]
        return loss.item(), [g.numpy() for g in self.torch.autograd.grad(loss, parameters)]

    def d(self, a, b, sides):
        losses = []
        for side, real, fake in (("a", a, self.nets["ba"](b)), ("b", b, self.nets["ab"](a))):
            if side in sides:
                log_d, log_not_d = self.log_probability(side, real), self.log_probability(side, fake.detach(), -1)
                losses.append(-log_d.mean() - log_not_d.mean())
        return self.gradients(sum(losses), sides)

    def g(self, a, b, sides, home, weight):
        there, back = self.nets["ab"](a), self.nets["ba"](b)
        losses = {"a": lambda: -self.log_probability("a", back).mean(), "b": lambda: -self.log_probability("b", there).mean()}
        loss = sum(losses[side]() for side in sides)
        if "a" in home:
            loss = loss + weight * ((self.nets["ba"](there) - a) ** 2).mean()
        if "b" in home:
            loss = loss + weight * ((self.nets["ab"](back) - b) ** 2).mean()
        return self.gradients(loss, ("ab", "ba"))

    def log_probability(self, side, images, sign=1):
        return self.torch.log(self.torch.sigmoid(sign * self.nets[side](images)))


@pytest.mark.oracle
@pytest.mark.parametrize(("reconstruction", "sides", "home"), [("both", "ab", "ab"), ("one-sided", "b", "a"),
                                                               ("none", "ab", "")])
@pytest.mark.parametrize("make", [images, planar])
def test_a_step_is_that_of_pytorch(make, reconstruction, sides, home):
    torch = pytest.importorskip("torch")
    gan = make(reconstruction, np.float64, weight=0.7)
    x = pairs(6, dtype=np.float64) if make is images else points(6, dtype=np.float64)
    theirs = Theirs(torch, gan)
    a, b = (torch.tensor(part) for part in np.split(x, [gan.shape_a[0]], axis=1))
    loss, gradients, real, fake = gan.d_gradients(x, x)
    expected, expected_gradients = theirs.d(a, b, sides)
    assert loss.item() == pytest.approx(expected, rel=1e-10) and len(real) == len(fake) == 6 * len(sides)
    close(gradients, expected_gradients)
    loss, gradients = gan.g_gradients(x)
    expected, expected_gradients = theirs.g(a, b, sides, home, 0.7)
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    close(gradients, expected_gradients)


def close(ours, expected):
    assert len(ours) == len(expected) > 0
    scale = max(float(np.abs(g).max()) for g in expected)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-9 * scale)


def test_a_cost_that_pairs_images_compares_each_domain_with_its_own_real_images():
    gan, x, real = planar(dtype=np.float64, cost="relativistic", weight=2.0), points(6, 1, np.float64), points(6, 2, np.float64)
    g, d = gan.generator, gan.discriminator
    a, b = x[:, :2], x[:, 2:]
    there, back = np.asarray(g.ab(a)), np.asarray(g.ba(b))
    expected = 2 * (np.square(np.asarray(g.ba(there)) - a).mean() + np.square(np.asarray(g.ab(back)) - b).mean())
    for judge, images, fake in ((d.a, real[:, :2], back), (d.b, real[:, 2:], there)):
        expected += np.logaddexp(0, np.asarray(judge(images)) - np.asarray(judge(fake))).mean()
    assert gan.g_gradients(x, real)[0].item() == pytest.approx(expected, rel=1e-12)


# -- the games -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {}, {"reconstruction": "one-sided"}, {"reconstruction": "none"}, {"d_steps": 2}, {"cost": "relativistic"},
    {"cost": "wasserstein", "penalties": {"gradient-penalty": 10.0}}, {"penalties": {"r1": 0.5, "r2": 0.5}},
    {"instance_noise": 0.1}, {"label_smoothing": 0.1},
], ids=str)
def test_every_game_moves_all_networks_and_is_the_same_when_captured(settings):
    eager, replayed = planar(**settings), planar(**settings)
    before, step = eager.state_dict(), tg.capture(replayed.step)
    for i in range(4):
        x = points(6 * eager.d_steps, i)
        stats, again = eager.step(x), step(x)
        assert [float(value) for value in stats] == [float(value) for value in again]
    after = eager.state_dict()
    assert all(not np.array_equal(before[name], after[name]) for name in after if "weight" in name)
    for name, value in replayed.state_dict().items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_a_step_on_images_is_the_same_when_captured():
    eager, replayed = images(), images()
    step = tg.capture(replayed.step)
    for i in range(3):
        eager.step(pairs(4, i))
        step(pairs(4, i))
    for name, value in replayed.state_dict().items():
        np.testing.assert_array_equal(value, eager.state_dict()[name], err_msg=name)


def test_the_other_devices_step_is_the_same(other_device):
    here, there = planar(), planar().to(other_device)
    step = tg.capture(there.step)
    for i in range(3):
        expected, found = here.step(points(6, i)), step(tg.to_device(points(6, i), other_device))
        np.testing.assert_allclose([float(value) for value in found], expected, rtol=1e-4)
    np.testing.assert_allclose(there.sample(z=points(3)), here.sample(z=points(3)), rtol=1e-3, atol=1e-4)


def test_translations_are_those_of_the_networks():
    gan, x = images(), pairs(3)
    gan.step(pairs(4, 1))
    a, there, home, b, back, again = gan.cycles(x)
    with tg.no_grad(), nn.mode(gan.generator, training=False):
        ab, ba = gan.generator.ab, gan.generator.ba
        expected = [x[:, :1], ab(x[:, :1]), ba(ab(x[:, :1])), x[:, 1:], ba(x[:, 1:]), ab(ba(x[:, 1:]))]
        whole = gan.generator(x).numpy()
    for mine, theirs in zip((a, there, home, b, back, again), expected, strict=True):
        np.testing.assert_array_equal(mine, np.asarray(theirs))
    np.testing.assert_array_equal(gan.sample(z=x), np.concatenate([back, there], axis=1))
    np.testing.assert_array_equal(gan.sample(z=x), whole)


def test_it_learns_a_shift_and_its_inverse():
    """A is the square [0, 1]^2, B the same square moved by (-1, 0): the translations land there, and cycles return."""
    def network(outputs):
        return nn.Sequential(nn.Dense(2, 32), nn.ReLU(), nn.Dense(32, outputs))

    gan = DiscoGAN(network(2), network(2), network(1), network(1), shape_a=(2,), shape_b=(2,), key=Key(0),
                   g_optimizer=tg.optim.Adam(1e-3, betas=(0.5, 0.999)), d_optimizer=tg.optim.Adam(1e-3, betas=(0.5, 0.999)))
    step = tg.capture(gan.step)

    def batch(n, key):
        return key.uniform((n, 4)) - np.array([0, 0, 1, 0], np.float32)

    for i in range(600):
        step(batch(128, Key(i)))
    a, there, home, *_ = gan.cycles(batch(500, Key(9999)))
    np.testing.assert_allclose(there.mean(0), [-0.5, 0.5], atol=0.15)
    assert np.abs(home - a).mean() < 0.1


# -- errors --------------------------------------------------------------------------------------------------------------


def four(a=2, b=3):
    return nn.Dense(a, b), nn.Dense(b, a), nn.Dense(a, 1), nn.Dense(b, 1)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"g_ab": nn.Dense(2, 4)}, ValueError, r"g_ab should make images of shape \(3,\) from \(2,\), but makes \(4,\)"),
    ({"g_ba": nn.Dense(2, 2)}, ValueError, r"g_ba cannot take images of shape \(3,\)"),
    ({"d_a": nn.Dense(3, 1)}, ValueError, r"d_a cannot take images of shape \(2,\)"),
    ({"d_b": nn.Dense(3, 2)}, ValueError, r"d_b should make one logit per image, but makes \(2, 2\)"),
    ({"d_b": nn.Sequential(nn.Dense(3, 1), nn.Sigmoid())}, ValueError, "ends in a sigmoid"),
    ({"g_ab": None}, TypeError, "g_ab should be a Module"),
    ({"d_a": None}, ValueError, "with reconstruction='both', d_a should be a network"),
    ({"reconstruction": "one-sided"}, ValueError, "d_a should be None, because there is no discriminator of A"),
    ({"reconstruction": "twice"}, ValueError, "unknown reconstruction 'twice', expected one of both, one-sided, none"),
    ({"weight": 0}, ValueError, "weight should be a positive number, got 0"),
    ({"weight": float("nan")}, ValueError, "weight should be a positive number, got nan"),
    ({"shape_b": (3, 4)}, ValueError, "may differ in their first number"),
    ({"cost": "pink"}, ValueError, "unknown cost 'pink'"),
    ({"noise": "normal"}, TypeError, "there is no noise to choose"),
])
def test_networks_that_do_not_fit_are_refused(change, error, message):
    networks = dict(zip(("g_ab", "g_ba", "d_a", "d_b"), four(), strict=True))
    with pytest.raises(error, match=message):
        DiscoGAN(**{**networks, "shape_a": (2,), "shape_b": (3,), **change})


def test_the_same_network_twice_is_refused():
    same = nn.Dense(2, 2)
    with pytest.raises(ValueError, match="should be different networks"):
        DiscoGAN(same, same, nn.Dense(2, 1), nn.Dense(2, 1), shape_a=(2,), shape_b=(2,))


def test_batches_and_samples_of_other_shapes_are_refused():
    gan = planar()
    before = gan.state_dict()
    with pytest.raises(ValueError, match=r"the images have shape \(4,\), the generator makes \(5,\)"):
        gan.step(np.zeros((6, 4), np.float32))
    with pytest.raises(ValueError, match=r"z should be pairs of images \(N, 5\), got \(6, 4\)"):
        gan.sample(z=np.zeros((6, 4), np.float32))
    with pytest.raises(TypeError, match="give pairs of images to translate"):
        gan.sample(4)
    with pytest.raises(TypeError, match="has no latent vectors"):
        gan.latent(4)
    assert all(np.array_equal(before[name], value) for name, value in gan.state_dict().items())
    with pytest.raises(ValueError, match=r"shape_b should be \(channels, 28, 28\), got \(3, 32, 32\)"):
        gans.discogan_networks((1, 28, 28), (3, 32, 32))


def test_other_gans_still_need_latent_vectors():
    for latent_dim in (None, 0, 2.5, True):
        with pytest.raises(ValueError, match="latent_dim should be a whole number of at least 1"):
            gans.VanillaGAN(nn.Dense(2, 2), nn.Dense(2, 1), latent_dim)


# -- the data ------------------------------------------------------------------------------------------------------------


def digits(n=21, seed=0):
    rng = np.random.default_rng(seed)
    return Dataset("some", rng.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), np.arange(n) % 10, "sha256:some")


@pytest.mark.parametrize("name", data.DOMAINS)
def test_no_digit_is_in_both_domains_and_labels_say_which_they_are(name):
    whole, domain = digits(), data.DOMAINS[name]
    made = data.two_domains(whole, name, Key(3))
    assert made.images.shape == (10, 1 + domain.channels, 6, 6) and made.images.dtype == np.uint8
    x = made.batch(np.arange(10))
    grey = whole.batch(np.arange(21))
    a = [int(np.abs(grey - one).sum((1, 2, 3)).argmin()) for one in x[:, :1]]
    undone = domain.undo(x[:, 1:])
    b = [int(np.abs(grey - one).sum((1, 2, 3)).argmin()) for one in undone]
    np.testing.assert_array_equal(x[:, :1], grey[a])
    np.testing.assert_allclose(undone, grey[b], atol=1e-6)
    assert len(set(a) | set(b)) == 20
    np.testing.assert_array_equal(made.labels, 10 * whole.labels[a] + whole.labels[b])


def test_domains_depend_on_the_key_alone_and_have_checksums_of_their_own():
    made = [data.two_domains(digits(), name, Key(key)) for name in data.DOMAINS for key in (0, 1)]
    assert len({one.checksum for one in made}) == 4
    again = data.two_domains(digits(), "coloured", Key(0))
    np.testing.assert_array_equal(again.images, made[0].images)
    assert again.checksum == made[0].checksum and not np.array_equal(made[0].images, made[1].images)


def test_coloured_digits_have_all_hues_and_rotated_ones_are_turned_to_the_left():
    white = np.full((300, 1, 2, 2), 255, np.uint8)
    colours = data.DOMAINS["coloured"].change(white, Key(0))[:, :, 0, 0].astype(int)
    assert (colours.max(1) == 255).all() and (colours.min(1) == 0).all()
    assert (np.bincount(colours.argmax(1)) > 60).all() and len(set(map(tuple, colours))) > 200
    turned = data.DOMAINS["rotated"].change(np.array([[[[1, 2], [3, 4]]]], np.uint8), Key(0))
    np.testing.assert_array_equal(turned[0, 0], [[2, 4], [1, 3]])


def test_data_that_are_no_digits_are_refused():
    with pytest.raises(ValueError, match="unknown domains 'pink', expected one of coloured, rotated"):
        data.two_domains(digits(), "pink", Key(0))
    with pytest.raises(data.DataError, match="some has 1 image, too few for two domains"):
        data.two_domains(digits(1), "coloured", Key(0))
    colour = Dataset("c", np.zeros((4, 3, 6, 6), np.uint8), None, "sha256:c")
    with pytest.raises(data.DataError, match=r"expected square grey images of bytes, \(1, H, H\), got c, uint8 \(3, 6, 6\)"):
        data.two_domains(colour, "rotated", Key(0))


def test_classes_are_kept_as_the_classifier_says():
    """A classifier that reads the class from the first pixel."""
    class Reads:
        def __call__(self, images):
            assert images.shape[1:] == (1, 28, 28) and images.flags.c_contiguous
            return tg.metrics.digits.Seen(images[:, 0, 0, :1], np.eye(10)[images[:, 0, 0, 0].astype(int)])

    def grey(classes):
        return np.broadcast_to(np.array(classes, np.float32)[:, None, None, None], (4, 1, 28, 28))

    def colour(classes):
        return np.concatenate([grey([0] * 4), grey(classes), grey([0] * 4)], axis=1)

    cycles = [grey([1, 2, 3, 4]), colour([1, 2, 3, 9]), grey([1, 2, 9, 9]), colour([5, 6, 7, 8]), grey([5, 0, 0, 0]),
              colour([5, 6, 7, 8])]
    kept = tg.metrics.kept_classes(Reads(), cycles, np.array([15, 26, 37, 48]), data.DOMAINS["coloured"].undo)
    assert kept == (0.75, 0.25, 0.5, 1.0)
    with pytest.raises(ValueError, match="a label for each"):
        tg.metrics.kept_classes(Reads(), cycles, np.array([15]), data.DOMAINS["coloured"].undo)
