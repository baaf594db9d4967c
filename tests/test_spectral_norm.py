"""Spectral normalisation against PyTorch's and against singular values, and its state."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from helpers import values

import tinygan as tg
from tinygan import nn
from tinygan.random import Key

ORIGINAL, U, V = "parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"
LAYERS = {
    "Dense": (lambda: nn.Dense(5, 4), lambda torch: torch.nn.Linear(5, 4), (3, 5)),
    "Dense, no bias": (lambda: nn.Dense(5, 4, bias=False), lambda torch: torch.nn.Linear(5, 4, bias=False), (3, 5)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), 2, padding=1), lambda torch: torch.nn.Conv2d(3, 4, (3, 2), 2, padding=1), (2, 3, 5, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), lambda torch: torch.nn.ConvTranspose2d(4, 6, 3, 2, groups=2),
                        (2, 4, 3, 3)),
}


def drawn(name="Conv2d", **options):
    return nn.SpectralNorm(LAYERS[name][0](), **options).initialize(Key(3)).astype(np.float64)


@pytest.mark.oracle
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("iterations", [1, 3])
def test_against_torch(name, iterations):
    """Outputs, gradients of first and second order, and the vectors, in training and after it."""
    torch = pytest.importorskip("torch")
    ours = nn.SpectralNorm(LAYERS[name][0](), iterations).initialize(Key(0)).astype(np.float64)
    theirs = torch.nn.utils.parametrizations.spectral_norm(LAYERS[name][1](torch), n_power_iterations=iterations).double()
    theirs.load_state_dict({path: torch.tensor(array) for path, array in ours.state_dict().items()})
    paths, parameters = zip(*ours.named_parameters(), strict=True)
    t_parameters = [theirs.get_parameter(path) for path in paths]
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = values(1, LAYERS[name][2])
        leaf, t_leaf = tg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, t_y = ours(leaf), theirs(t_leaf)
        np.testing.assert_allclose(y.numpy(), t_y.detach().numpy(), rtol=0, atol=1e-10)
        first = tg.grad((y * y * y).sum(), [leaf, *parameters], create_graph=True)
        t_first = torch.autograd.grad((t_y * t_y * t_y).sum(), [t_leaf, *t_parameters], create_graph=True)
        again = tg.grad(sum(((g * g).sum() for g in first), tg.Tensor(0.0, dtype=np.float64)), [leaf, *parameters])
        t_again = torch.autograd.grad(sum((g * g).sum() for g in t_first), [t_leaf, *t_parameters])
        for a, b in zip([*first, *again], [*t_first, *t_again], strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(force=True), rtol=0, atol=1e-10 * max(1, abs(b).max().item()))
        for path, array in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[path], array.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_is_one(name):
    layer = drawn(name, n_power_iterations=300)
    layer(values(0, LAYERS[name][2]))
    weight = layer.weight.numpy()
    matrix = (weight.swapaxes(0, 1) if name == "ConvTranspose2d" else weight)
    matrix = matrix.reshape(len(matrix), -1)
    assert np.linalg.norm(matrix, 2) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_one_estimate_is_near_from_the_start(name):
    """The first vectors are drawn with the weight and iterated, so that it works without training, too."""
    layer = drawn(name).eval()
    original = layer.state_dict()[ORIGINAL]
    matrix = (original.swapaxes(0, 1) if name == "ConvTranspose2d" else original)
    matrix = matrix.reshape(len(matrix), -1)
    ratio = np.max(np.abs(original)) / np.max(np.abs(layer.weight.numpy()))
    assert ratio == pytest.approx(np.linalg.norm(matrix, 2), rel=0.05)


def test_gradients():
    layer = drawn().eval()
    x, w = values(0, (1, 3, 3, 3)), layer.state_dict()[ORIGINAL]
    tg.check_gradients(lambda x, w: nn.functional_call(layer, {ORIGINAL: w}, x), x, w, order=2)


def moves(layer, x):
    before = layer.state_dict()
    layer(x)
    after = layer.state_dict()
    return sorted(path for path in before if not np.array_equal(before[path], after[path]))


def test_the_vectors_move_only_in_training_where_buffers_move():
    layer, x = drawn(), values(0, (1, 3, 4, 4))
    other = nn.Dense(2, 2)
    assert moves(layer, x) == [U, V]
    with nn.update_buffers_of(other):
        assert moves(layer, x) == []
    with nn.update_buffers_of(nn.Sequential(layer, other)):
        assert moves(layer, x) == [U, V]
    with nn.mode(layer, training=False):
        assert moves(layer, x) == []
    layer.eval()
    assert moves(layer, x) == []


def test_two_passes_before_the_gradient():
    """As a discriminator sees real and generated images: the vectors of the first pass stay those of its gradient."""
    first, second = values(0, (1, 3, 4, 4)), values(1, (1, 3, 4, 4))
    layer, twin = drawn(), drawn()
    y = layer(first).sum()
    layer(second)
    expected = tg.grad(twin(first).sum(), twin.parameters())
    for a, b in zip(tg.grad(y, layer.parameters()), expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_state_and_copies():
    network = nn.Sequential(nn.SpectralNorm(nn.Dense(4, 3)), nn.ReLU(), nn.SpectralNorm(nn.Dense(3, 1, bias=False)))
    paths = sorted([f"0.{ORIGINAL}", f"0.{U}", f"0.{V}", "0.bias", f"2.{ORIGINAL}", f"2.{U}", f"2.{V}"])
    early = copy.deepcopy(network), pickle.loads(pickle.dumps(network))
    network.initialize(Key(1))
    state = network.state_dict()
    assert sorted(state) == paths
    assert [path for path, _ in network.named_parameters()] == ["0.bias", f"0.{ORIGINAL}", f"2.{ORIGINAL}"]
    x = values(0, (5, 4)).astype(np.float32)
    expected = network(x).numpy()
    loaded = nn.Sequential(nn.SpectralNorm(nn.Dense(4, 3)), nn.ReLU(), nn.SpectralNorm(nn.Dense(3, 1, bias=False)))
    loaded.load_state_dict(state)
    late = loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))
    for twin in (*[twin.initialize(Key(1)) for twin in early], *late):
        for path, array in twin.state_dict().items():
            np.testing.assert_array_equal(array, state[path], err_msg=path)
    for twin in (*early, *late):  # they share nothing
        np.testing.assert_array_equal(twin(x).numpy(), expected)


def test_a_layer_that_has_weights_is_wrapped_as_it_is():
    layer = nn.Dense(4, 3).initialize(Key(0))
    with tg.random.use_key(Key(1)):
        wrapped = nn.SpectralNorm(layer)
    assert wrapped.bias is layer.bias
    np.testing.assert_array_equal(wrapped.state_dict()[ORIGINAL], layer.weight.numpy())
    assert np.linalg.norm(wrapped.weight.numpy(), 2) == pytest.approx(1, rel=0.02)
    assert layer(np.ones((1, 4), np.float32)).shape == (1, 3)


def test_the_activation_that_follows_is_fused():
    fused = nn.Sequential(nn.SpectralNorm(nn.Dense(4, 3)), nn.LeakyReLU(0.3)).initialize(Key(0)).eval()
    x = values(0, (5, 4)).astype(np.float32)
    np.testing.assert_allclose(fused(x).numpy(), tg.leaky_relu(fused[0](x), 0.3).numpy(), rtol=1e-6)
    assert "SpectralNorm(Dense: 4 -> 3)" in repr(fused)
    assert not fused[0].couples_examples


@pytest.mark.parametrize("call, message", [
    (lambda: nn.SpectralNorm(nn.ReLU()), "SpectralNorm: expected a layer with a weight of two axes or more"),
    (lambda: nn.SpectralNorm(nn.BatchNorm(3)), "SpectralNorm: expected a layer with a weight of two axes or more"),
    (lambda: nn.SpectralNorm(nn.Dense(2, 2), n_power_iterations=0), "SpectralNorm: n_power_iterations should be 1 or more"),
    (lambda: nn.SpectralNorm(nn.Dense(2, 2), eps=0), "SpectralNorm: .* eps positive"),
    (lambda: nn.SpectralNorm(nn.Dense(2, 3, initializer=nn.initializers.zeros)).initialize(Key(0)), r"weight of zeros .* \(weight \(3, 2\)\)"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
