"""Initial values: what they depend on, and their distributions."""
import numpy as np
import pytest
from scipy import stats

from tinygan import nn
from tinygan.nn import initializers
from tinygan.random import Key, use_key


def test_initial_values_depend_on_the_path_and_not_on_the_order_of_construction():
    def backwards():
        last, first = nn.Dense(8, 2), nn.Dense(4, 8)
        nn.Dense(100, 100).initialize(Key(5))  # somebody else's draws
        return nn.Sequential(first, nn.Tanh(), last)

    a = nn.Sequential(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 2)).initialize(Key(0)).state_dict()
    b = backwards().initialize(Key(0)).state_dict()
    c = nn.Sequential(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 2), nn.Dense(2, 9)).initialize(Key(0)).state_dict()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])
        np.testing.assert_array_equal(value, c[name])
    twins = nn.Sequential(nn.Dense(4, 4), nn.Dense(4, 4)).initialize(Key(0))
    assert (twins[0].weight.numpy() != twins[1].weight.numpy()).all()


def test_initialize_leaves_alone_what_has_values():
    model = nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 2))
    model[0].weight.assign(np.eye(2))
    assert [p.initialized for p in model.parameters()] == [True, False, False, False]
    model.initialize(Key(0))
    np.testing.assert_array_equal(model[0].weight, np.eye(2))
    before = model.state_dict()
    model.initialize(Key(1))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_first_use_draws_from_the_contexts_key():
    x = np.ones((2, 3), np.float32)
    values = []
    for seed in (1, 1, 2):
        with use_key(Key(seed)):
            layer = nn.Dense(3, 4)
            layer(x)
            values.append(layer.weight.numpy())
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).all()
    layer = nn.Dense(3, 4)
    assert layer.weight.shape == (4, 3) and layer.weight.size == 12 and layer.weight.dtype == np.float32
    assert "Dense(3 -> 4)" in repr(layer) and not layer.weight.initialized  # looking is not using


SHAPE = (200, 30, 2, 2)  # fan_in 120, fan_out 800


@pytest.mark.parametrize("initializer, std, kind", [
    (initializers.normal(0.3), 0.3, "normal"),
    (initializers.uniform(-0.6, 0.6), 0.6 / np.sqrt(3), "uniform"),
    (initializers.glorot_uniform(), np.sqrt(2 / 920), "uniform"),
    (initializers.glorot_normal(2.0), 2 * np.sqrt(2 / 920), "normal"),
    (initializers.he_uniform(), np.sqrt(2 / 120), "uniform"),
    (initializers.he_normal(0.2), np.sqrt(2 / (1.04 * 120)), "normal"),
    (initializers.fan_in_uniform, 1 / np.sqrt(3 * 120), "uniform"),
    (initializers.dcgan, 0.02, "normal"),
])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initializers_have_their_moments(initializer, std, kind, dtype):
    values = initializer(Key(0), SHAPE, dtype)
    assert values.shape == SHAPE and values.dtype == dtype
    values = values.ravel() / std
    cdf = stats.norm.cdf if kind == "normal" else stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)).cdf
    assert stats.kstest(values, cdf).pvalue > 1e-3
    assert abs(values.mean()) < 5 / np.sqrt(values.size) and abs(values.std() - 1) < 0.02


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6), (4, 3, 2, 2), (40, 3, 2, 2)])
def test_orthogonal(shape):
    w = initializers.orthogonal(3.0)(Key(0), shape, np.float64).reshape(shape[0], -1) / 3
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(min(w.shape)), atol=1e-12)


def test_orthogonal_matrices_are_distributed_uniformly():
    # Among uniformly distributed ones the diagonal has mean 0; those of a plain QR lean to one side.
    diagonals = [np.diag(initializers.orthogonal()(key, (3, 3), np.float64)) for key in Key(0).split(600)]
    assert np.abs(np.mean(diagonals, 0)).max() < 5 * np.std(diagonals) / np.sqrt(600)


def test_an_initializer_needs_fans():
    with pytest.raises(ValueError, match=r"fan_in and fan_out need a weight with two axes or more, got shape \(3,\)"):
        initializers.glorot_uniform()(Key(0), (3,), np.float32)


def test_a_given_initializer_makes_the_weight_and_zeroes_the_bias():
    layer = nn.Dense(300, 200, initializer=initializers.dcgan).initialize(Key(0))
    assert abs(layer.weight.numpy().std() - 0.02) < 1e-3 and not layer.bias.numpy().any()


@pytest.mark.oracle
def test_default_initial_values_are_distributed_as_pytorchs():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = nn.Dense(50, 400).initialize(Key(0)), torch.nn.Linear(50, 400)
    for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert stats.ks_2samp(a.numpy().ravel(), b.detach().numpy().ravel()).pvalue > 1e-3
    assert stats.ks_2samp(nn.Embedding(100, 30).initialize(Key(0)).weight.numpy().ravel(),
                          torch.nn.Embedding(100, 30).weight.detach().numpy().ravel()).pvalue > 1e-3
