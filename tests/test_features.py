"""The discriminator's features and the linear classifier on them."""
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, metrics, nn
from tinygan.data import Dataset
from tinygan.metrics import features as features_module
from tinygan.nn.stages import stages
from tinygan.random import Key

EXAMPLE = Path(__file__).parents[1] / "examples" / "dcgan_features.py"


def discriminator(shape=(1, 28, 28), width=2):
    """With running statistics of its own, so that batch norm does something out of training."""
    network = tg.gans.dcgan_networks(shape, 4, width)[1].initialize(Key(0))
    network(Key(1).normal((8, *shape)))
    return network


def images(n, shape=(1, 28, 28), seed=0):
    return Key(seed).fold("images").uniform((n, *shape), -1.0, 1.0)


# -- features --------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (14, 14), (1, 1), (3, 9), (32, 5)])
@pytest.mark.parametrize("grid", [1, 3, 4])
def test_adaptive_max_pooling_is_pytorchs(size, grid):
    torch = pytest.importorskip("torch")
    x = Key(0).normal((2, 3, *size))
    expected = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(x), grid).numpy()
    np.testing.assert_array_equal(metrics.adaptive_max_pool(x, grid), expected)


def test_adaptive_max_pooling_of_sizes_that_the_grid_divides():
    x = Key(0).normal((2, 3, 8, 12))
    np.testing.assert_array_equal(metrics.adaptive_max_pool(x, 4), x.reshape(2, 3, 4, 2, 4, 3).max(axis=(3, 5)))


def test_features_are_all_convolutions_after_their_activations():
    network, x = discriminator(), images(5)
    with nn.mode(network, training=False):
        first = np.asarray(network[1](network[0](x)))
        second = np.asarray(network[4](network[3](network[2](first))))
    assert second.shape == (5, 4, 7, 7)
    expected = np.concatenate([metrics.adaptive_max_pool(y, 4).reshape(5, -1) for y in (first, second)], axis=1)
    np.testing.assert_allclose(metrics.discriminator_features(network, x), expected, rtol=1e-5, atol=1e-6)


def test_features_of_64_pixels_leave_the_logit_out():
    found = metrics.discriminator_features(discriminator((3, 64, 64)), images(2, (3, 64, 64)))
    assert found.shape == (2, 16 * (2 + 4 + 8 + 16))


def test_features_depend_on_their_own_image_alone_and_change_nothing(monkeypatch):
    network, x = discriminator(), images(7)
    before = network.state_dict()
    whole = metrics.discriminator_features(network, x)
    monkeypatch.setattr(features_module, "_BATCH", 3)
    np.testing.assert_allclose(metrics.discriminator_features(network, x), whole, rtol=1e-5, atol=1e-6)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert network.training


def test_networks_without_such_features_are_refused():
    with pytest.raises(ValueError, match="no convolution before the layer of its logits"):
        metrics.discriminator_features(tg.gans.vanilla_networks()[1].initialize(Key(0)), images(2))
    with pytest.raises(ValueError, match="no images"):
        metrics.discriminator_features(discriminator(), images(0))
    with pytest.raises(TypeError, match="expected a Sequential, got Dense"):
        stages(nn.Dense(2, 1), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="no dense or convolution layer"):
        stages(nn.Sequential(nn.ReLU()), np.zeros((1, 2), np.float32))


def test_stages_begin_with_their_weights_and_look_into_sequentials():
    network = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Dense(6, 4), nn.LeakyReLU()), nn.Dense(4, 3), nn.Reshape(3, 1, 1))
    x = images(2, (1, 2, 3))
    first, second = stages(network.initialize(Key(0)), x)
    assert [type(layer) for layer in first.layers] == [nn.Dense, nn.LeakyReLU]
    assert [y.shape for y in (*first.outputs, *second.outputs)] == [(2, 4), (2, 4), (2, 3), (2, 3, 1, 1)]
    np.testing.assert_allclose(second.output, network(x).numpy(), rtol=1e-6)


# -- the classifier --------------------------------------------------------------------------------------------------


def clusters(n, dimensions=6, classes=3, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.arange(n) % classes
    return centres[labels] + spread * rng.normal(size=(n, dimensions)), labels


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_classifier_minimises_what_it_says(strength):
    optimize = pytest.importorskip("scipy.optimize")
    x, labels = clusters(60)
    fitted = metrics.fit_classifier(x, labels, strength, steps=2000)
    standard = (x - x.mean(0)) / x.std(0)

    def cost(flat):
        weight, bias = flat[:18].reshape(3, 6), flat[18:]
        logits = standard @ weight.T + bias
        picked = logits[np.arange(60), labels]
        return float(np.mean(np.log(np.exp(logits).sum(1)) - picked) + strength / 2 * (weight**2).sum())

    best = optimize.minimize(cost, np.zeros(21), tol=1e-12)
    assert cost(np.concatenate([fitted.weight.ravel(), fitted.bias])) == pytest.approx(best.fun, rel=1e-5)
    np.testing.assert_allclose(fitted.weight.ravel(), best.x[:18], atol=0.02)


def test_units_and_constant_features_do_not_matter():
    x, labels = (a.astype(t) for a, t in zip(clusters(60), (np.float32, np.int64), strict=True))
    other = np.concatenate([1000 * x - 7, np.full((60, 1), 0.1, np.float32)], axis=1)
    a, b = metrics.fit_classifier(x, labels, 0.1), metrics.fit_classifier(other, labels, 0.1)
    np.testing.assert_allclose(b.logits(other), a.logits(x), atol=1e-3)
    assert b.scale[-1] == 1 and np.abs(b.weight[:, -1]).max() < 1e-2
    assert a.accuracy(x, labels) == (a.logits(x).argmax(1) == labels).mean() > 0.6


def test_the_strength_is_chosen_where_it_was_not_trained():
    x, labels = clusters(300, spread=0.5)
    strengths = (1e-4, 1e-2, 1.0, 10.0)
    clear = metrics.select_classifier(x, labels, Key(0), strengths=strengths)
    noise = np.random.default_rng(1).normal(size=(300, 40))
    noisy = metrics.select_classifier(noise, labels, Key(0), strengths=strengths)
    assert clear.strength <= 1e-2 and noisy.strength >= 1.0
    again = metrics.fit_classifier(x, labels, clear.strength)  # on all of the data, the held-out part too
    np.testing.assert_array_equal(clear.weight, again.weight)


def test_subsets_are_balanced_nested_and_drawn_by_the_key():
    labels = np.random.default_rng(0).integers(0, 10, 2000)
    large, small = (metrics.balanced_subset(labels, n, Key(0)) for n in (500, 50))
    for chosen in (large, small, large[:100]):
        assert np.bincount(labels[chosen]).tolist() == [len(chosen) // 10] * 10 and len(set(chosen)) == len(chosen)
    np.testing.assert_array_equal(large[:50], small)
    assert not np.array_equal(metrics.balanced_subset(labels, 50, Key(1)), small)
    for n in (0, 55, 3000):
        with pytest.raises(ValueError, match=f"balanced_subset: {n} labels of 10 classes"):
            metrics.balanced_subset(labels, n, Key(0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"features \(N, F\) and labels \(N,\).* got \(4, 2\) and \(3,\)"):
        metrics.fit_classifier(np.zeros((4, 2)), np.zeros(3, int), 1.0)


# -- the example -----------------------------------------------------------------------------------------------------


def test_the_example_compares_three_representations(tmp_path, monkeypatch, capsys):
    def load(data_dir=None, split="train", **options):
        labels = np.arange(60) % 10
        pixels = np.zeros((60, 1, 28, 28), np.uint8)
        pixels[:, :, 24:] = np.random.default_rng(len(split)).integers(0, 256, (60, 1, 4, 28))
        pixels[np.arange(60), 0, 2 * labels, :20] = 255
        return Dataset("dots", pixels, labels, "sha256:dots")

    monkeypatch.setattr(tg.data, "load", load)
    run = tmp_path / "run"
    assert cli.main(["train", "dcgan", "--run-dir", str(run), "--epochs", "1", "--batch-size", "20", "--width", "2"]) == 0
    capsys.readouterr()
    runpy.run_path(str(EXAMPLE))["main"](run, None, draws=2, seed=0, sizes=(20,))
    out = capsys.readouterr().out.splitlines()
    assert "60 test images of dots" in out[0]
    assert out[2] == "| features | dimensions | 20 labels |" and len(out) == 7
    report = json.loads((run / "features.json").read_text())
    assert [(row["features"], row["dimensions"]) for row in report["rows"]] == [
        ("raw pixels", 784), ("random discriminator", 96), ("trained discriminator", 96)]
    accuracies = [value for row in report["rows"] for values in row["accuracy"].values() for value in values]
    assert len(accuracies) == 3 * 2 and all(math.isfinite(value) and 0 <= value <= 1 for value in accuracies)
    assert report["rows"][0]["accuracy"]["20"][0] > 0.9  # each class has pixels of its own
