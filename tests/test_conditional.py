"""Conditional GANs: a step of each conditioning against PyTorch, all costs and penalties, labels that cannot be right."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import gans, nn
from tinygan.errors import SettingsError
from tinygan.gans import ConditionalGAN
from tinygan.gans.conditional import InputDiscriminator, ProjectionDiscriminator
from tinygan.random import Key

CONDITIONINGS = sorted(gans.CONDITIONINGS)
CLASSES = 3


def small(conditioning="input", dtype=np.float32, **settings):
    """DCGAN's networks for three classes; latent vectors of 5."""
    networks = gans.conditional_networks((1, 28, 28), 5, CLASSES, 2, conditioning, d_norm=not settings.get("penalties"))
    for network in networks:
        network.astype(dtype)
    return ConditionalGAN(*networks, 5, CLASSES, key=Key(0), **settings)


def planar(conditioning="input", **settings):
    """Points in the plane."""
    generator = nn.Sequential(nn.Dense(2 + CLASSES, 8), nn.LeakyReLU(0.2), nn.Dense(8, 2))
    if conditioning == "input":
        body = nn.Sequential(nn.Dense(2 + CLASSES, 8), nn.LeakyReLU(0.2), nn.Dense(8, 1))
        discriminator = InputDiscriminator(body, planes=False)
    else:
        discriminator = ProjectionDiscriminator(nn.Sequential(nn.Dense(2, 8), nn.LeakyReLU(0.2)), 8, CLASSES)
    return ConditionalGAN(generator, discriminator, 2, CLASSES, key=Key(0), **settings)


def batch(n, seed=0, shape=(1, 28, 28), dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, *shape)).astype(dtype), rng.integers(0, CLASSES, n)


# -- one step against PyTorch --------------------------------------------------------------------------------------------


class Theirs:
    """The same networks and losses in plain PyTorch, with the labels as each paper uses them."""

    def __init__(self, torch, gan, conditioning, r1):
        self.torch, self.conditioning, self.r1 = torch, conditioning, r1
        d = gan.discriminator
        parts = {"g": gan.generator} | ({"body": d.body} if conditioning == "input" else {"phi": d.phi})
        self.nets = {name: torch.nn.Sequential(*map(self.layer, part)).double() for name, part in parts.items()}
        for name, part in parts.items():
            state = {key: torch.tensor(value) for key, value in part.state_dict().items()}
            assert not self.nets[name].load_state_dict(state, strict=False).unexpected_keys
        self.g, self.d = list(self.nets["g"].parameters()), list(self.nets["phi" if "phi" in parts else "body"].parameters())
        if conditioning == "projection":
            self.v, self.bias, self.table = (torch.tensor(p.numpy(), requires_grad=True) for p in (
                d.linear.weight, d.linear.bias, d.embedding.weight))
            self.d += [self.v, self.bias, self.table]

    def layer(self, ours):
        torch = self.torch
        if isinstance(ours, nn.Conv2d | nn.ConvTranspose2d):
            one, two = ours.weight.shape[:2]
            kind, into, out = (torch.nn.Conv2d, two, one) if type(ours) is nn.Conv2d else (torch.nn.ConvTranspose2d, one, two)
            return kind(into, out, 4, 2, 1, bias=ours.bias is not None)
        if isinstance(ours, nn.BatchNorm):
            return torch.nn.BatchNorm2d(len(ours.weight))
        if isinstance(ours, nn.Dense):
            return torch.nn.Linear(*ours.weight.shape[::-1], bias=ours.bias is not None)
        return {"Reshape": torch.nn.Unflatten(1, (4, 7, 7)), "Flatten": torch.nn.Flatten(), "LeakyReLU": torch.nn.LeakyReLU(0.2),
                "ReLU": torch.nn.ReLU(), "Tanh": torch.nn.Tanh()}[type(ours).__name__]

    def generate(self, noise, labels):
        return self.nets["g"](self.torch.cat([noise, self.torch.eye(CLASSES).double()[labels]], 1))

    def logits(self, images, labels):
        torch = self.torch
        if self.conditioning == "input":
            planes = torch.stack([torch.full((28, 28), float(label == k)).double() for label in labels for k in range(CLASSES)])
            return self.nets["body"](torch.cat([images, planes.reshape(-1, CLASSES, 28, 28)], 1))
        phi = self.nets["phi"](images)
        return (phi @ self.v[0] + self.bias + (phi * self.table.T[labels]).sum(1))[:, None]

    def d_loss(self, x, labels, noise):
        fake = self.generate(noise, labels).detach()
        x = x.clone().requires_grad_()
        real = self.logits(x, labels)
        loss = -self.torch.log(self.torch.sigmoid(real)).mean() - self.torch.log(self.torch.sigmoid(-self.logits(fake, labels))).mean()
        if self.r1:
            by_images, = self.torch.autograd.grad(real.sum(), x, create_graph=True)
            loss = loss + self.r1 / 2 * by_images.square().sum((1, 2, 3)).mean()
        return loss

    def g_loss(self, labels, noise):
        return -self.torch.log(self.torch.sigmoid(self.logits(self.generate(noise, labels), labels))).mean()


@pytest.mark.oracle
@pytest.mark.parametrize("r1", [0.0, 2.0])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_step_is_that_of_pytorch(conditioning, r1):
    torch = pytest.importorskip("torch")
    gan, twin = (small(conditioning, np.float64, penalties={"r1": r1} if r1 else None) for _ in range(2))
    theirs = Theirs(torch, gan, conditioning, r1)
    x, labels = batch(6, dtype=np.float64)
    given, classes = torch.tensor(x), torch.tensor(labels)
    # The noise of the step: it draws twice, for each player once.
    draws = [torch.tensor(np.asarray(twin.latent(6, labels=labels))[:, :5]) for _ in range(2)]

    for found, loss, parameters in ((gan.d_gradients(x, twin.latent(6, Key(1), labels))[:2], theirs.d_loss, theirs.d),
                                    (gan.g_gradients(twin.latent(6, Key(1), labels)), theirs.g_loss, theirs.g)):
        noise = torch.tensor(np.asarray(twin.latent(6, Key(1), labels))[:, :5])
        expected = loss(*([given] if loss == theirs.d_loss else []), classes, noise)
        assert found[0].item() == pytest.approx(expected.item(), rel=1e-10)
        close(found[1], torch.autograd.grad(expected, parameters))

    optimizers = [torch.optim.Adam(parameters, 2e-4, (0.5, 0.999)) for parameters in (theirs.d, theirs.g)]
    for optimizer, loss in zip(optimizers, (lambda: theirs.d_loss(given, classes, draws[0]), lambda: theirs.g_loss(classes, draws[1])), strict=True):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    gan.step(x, labels)
    for ours, parameters in ((gan.d_parameters, theirs.d), (gan.g_parameters, theirs.g)):
        for mine, parameter in zip(ours, parameters, strict=True):
            np.testing.assert_allclose(mine.numpy(), parameter.detach().numpy(), rtol=0, atol=1e-7)  # (a step is 2e-4)


def close(ours, expected):
    assert len(ours) == len(expected) > 0
    scale = max(float(g.abs().max()) for g in expected)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=0, atol=1e-9 * scale)


# -- the game ------------------------------------------------------------------------------------------------------------


GAMES = [*({"cost": cost} for cost in gans.COSTS), *({"penalties": {name: 0.5}} for name in gans.PENALTIES),
         {"penalties": {"r1": 0.5, "r2": 0.5, "gradient-penalty": 1.0}, "cost": "relativistic"}, {"d_steps": 2}, {"ema": 0.9},
         {"instance_noise": 0.1, "label_smoothing": 0.1}, {"noise": "bernoulli"}]


@pytest.mark.parametrize("settings", GAMES, ids=str)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_game_captured_is_the_game_step_by_step(conditioning, settings):
    eager, recorded = planar(conditioning, **settings), planar(conditioning, **settings)
    step, before = tg.capture(recorded.step), eager.state_dict()
    for i in range(4):
        stats = eager.step(*batch(8, i, (2,)))
        assert np.isfinite(stats).all() and step(*batch(8, i, (2,))) == stats
    after = eager.state_dict()
    for name, values in recorded.state_dict().items():
        np.testing.assert_array_equal(after[name], values)
    assert all((after[name] != before[name]).any() for name in before if name.endswith("weight"))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_step_on_each_device(conditioning, device):
    here, there, recorded = (planar(conditioning) for _ in range(3))
    step = tg.capture(recorded.to(device).step)
    there.to(device)
    for i in range(3):
        x, labels = batch(8, i, (2,))
        on_device = tg.to_device(x, device), tg.to_device(labels, device)
        expected = [float(value) for value in here.step(x, labels)]
        found = [float(value) for value in there.step(*on_device)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert [float(value) for value in step(*on_device)] == found
    np.testing.assert_allclose(there.sample(labels=[2, 0]), here.sample(labels=[2, 0]), atol=1e-5)


def test_planes_of_labels_on_each_device(device):
    here, there = small(), small().to(device)
    x, _ = batch(2)
    z = here.latent(2, Key(0), [2, 0])
    (loss, gradients, *_), (expected, by_hand, *_) = (
        gan.d_gradients(tg.to_device(x, where), tg.to_device(z, where)) for gan, where in ((there, device), (here, "cpu")))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for found, wanted in zip(gradients, by_hand, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5 * np.abs(wanted.numpy()).max() + 1e-6)


def test_both_players_get_the_labels_of_the_real_images():
    gan, seen = planar(), []
    forward, generate = gan.discriminator.forward, gan.generator.forward
    gan.discriminator.forward = lambda images, classes: seen.append(np.asarray(classes)) or forward(images, classes)
    gan.generator.forward = lambda z: seen.append(np.asarray(z)[:, 2:]) or generate(z)
    x, labels = batch(4, 0, (2,))
    gan.step(x, labels)
    one = np.eye(CLASSES)[labels]
    expected = [one, np.concatenate([one, one]), one, one]  # G for D, D of real and generated images; G, D of its images
    assert len(seen) == len(expected)
    for found, classes in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(found, classes)
    seen.clear()
    gan.d_steps = 2
    gan.step(x, labels)
    np.testing.assert_array_equal(seen[0], one[:2])
    np.testing.assert_array_equal(seen[2], one[2:])
    np.testing.assert_array_equal(seen[-1], one[2:])  # the generator's update has the labels of the last images


def test_an_image_depends_on_its_class_and_classes_take_turns():
    gan = planar()
    z = gan.latent(7, Key(3))
    assert z.shape == (7, 5) and gan.labels_of(z).tolist() == [0, 1, 2, 0, 1, 2, 0]
    np.testing.assert_array_equal(z[:, :2], gan.latent(7, Key(3), 1)[:, :2])
    np.testing.assert_array_equal(gan.sample(z=z), gan.sample(z=z[:, :2], labels=[0, 1, 2, 0, 1, 2, 0]))
    np.testing.assert_array_equal(gan.sample(7, key=Key(3)), gan.sample(z=z))
    np.testing.assert_array_equal(gan.sample(5), gan.sample(labels=[0, 1, 2, 0, 1]))
    ones, twos = gan.sample(6, labels=1), gan.sample(6, labels=2)
    assert ones.shape == (6, 2) and (np.abs(ones - twos).max(1) > 1e-3).all()
    assert gan.sample(z=z[:0, :2], labels=1).shape == (0, 2)


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "error", "message"), [
    (None, TypeError, "give the labels of the images too: step(real, labels)"),
    ([0, 1, 2, 3], ValueError, "labels should be whole numbers from 0 to 2, got 0 to 3"),
    ([0, -1, 2, 1], ValueError, "labels should be whole numbers from 0 to 2, got -1 to 2"),
    ([0, 1, 2], ValueError, "labels should be one for each of the 4 images, (4,), got (3,)"),
    ([[0], [1], [2], [1]], ValueError, "(4,), got (4, 1)"),
    ([0.0, 1.0, 2.0, 1.0], TypeError, "labels should be whole numbers from 0 to 2, got float64"),
    (["a", "b", "c", "d"], TypeError, "labels should be real numbers"),
])
def test_labels_that_cannot_be_right_are_refused_before_anything_changes(labels, error, message):
    gan, (x, _) = planar(), batch(4, 0, (2,))
    before = gan.state_dict()
    with pytest.raises(error) as raised:
        gan.step(x, labels)
    assert message in str(raised.value) and "ConditionalGAN.step" in str(raised.value)
    assert all((values == before[name]).all() for name, values in gan.state_dict().items())
    if labels is not None:
        with pytest.raises(error, match="ConditionalGAN"):
            gan.sample(z=np.zeros((4, 2)), labels=labels)


def test_inputs_that_have_their_classes_take_no_labels():
    gan = planar()
    with pytest.raises(ValueError, match=r"sample: z \(4, 5\) has the classes already.* leave out labels, or give z\[:, :2\]"):
        gan.sample(z=gan.latent(4), labels=[0, 1, 2, 0])


def test_a_replayed_step_refuses_an_unknown_label_too():
    gan, (x, labels) = planar(), batch(4, 0, (2,))
    step = tg.capture(gan.step)
    for _ in range(3):
        step(x, labels)
    before = gan.state_dict()
    with pytest.raises(ValueError, match="from 0 to 2, got 0 to 7"):
        step(x, np.array([0, 1, 7, 0]))
    assert all((values == before[name]).all() for name, values in gan.state_dict().items())


def test_other_arguments_that_do_not_fit_are_refused():
    networks = gans.conditional_networks((1, 28, 28), 5, 3, 2)
    for classes in (0, -1, True, 2.0, "3"):
        with pytest.raises(ValueError, match="classes should be a whole number of at least 1"):
            ConditionalGAN(*networks, 5, classes)
        with pytest.raises(ValueError, match="classes should be a whole number of at least 1"):
            gans.conditional_networks(classes=classes)
    with pytest.raises(ValueError, match="input, projection"):
        gans.conditional_networks(conditioning="both")
    with pytest.raises(ValueError, match=r"image_shape should be \(channels, 28, 28\)"):
        gans.conditional_networks((1, 32, 32))
    with pytest.raises(SettingsError, match="lets the images of a batch depend on each other"):
        ConditionalGAN(*networks, 5, 3, penalties={"r1": 1.0})
    gan = planar()
    with pytest.raises(ValueError, match="as many of both, got 6 images for 4 labels"):
        gan.d_gradients(batch(6, 0, (2,))[0], gan.latent(4, Key(0)))
    with pytest.raises(ValueError, match=r"z should have shape \(n, 5\), got \(4, 2\)"):
        gan.sample(z=np.zeros((4, 2)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_networks_of_both_sizes(conditioning, shape):
    gan = ConditionalGAN(*gans.conditional_networks(shape, 4, 2, 2, conditioning), 4, 2, key=Key(0))
    assert gan.sample(labels=[0, 1, 1]).shape == (3, *shape)
    x = batch(3, 0, shape)[0]
    one, two = (np.asarray(gan.judge(gan.latent(3, Key(0), label))(x)) for label in (0, 1))
    assert one.shape == (3, 1) and (one != two).all()
