"""A multilayer perceptron as one op, against the same layers one by one: values, and derivatives of three orders."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import devices, nn
from tinygan.backends import backend_of
from tinygan.fusion import MLPLayer, mlp
from tinygan.fusion.networks import as_perceptron
from tinygan.ops import pack, unpacked
from tinygan.random import Key

SLOPES = {"leaky_relu": 0.3, "elu": 0.7}
STACKS = {
    "one layer": [(3, 2, "identity")],
    "narrow": [(2, 5, "relu"), (5, 1, "identity")],
    "smooth": [(3, 4, "tanh"), (4, 6, "softplus"), (6, 2, "sigmoid")],
    "bent": [(3, 7, "elu"), (7, 3, "leaky_relu"), (3, 5, "relu"), (5, 3, "tanh")],
}


def stack(name):
    return [MLPLayer(i, o, a, SLOPES.get(a, 0.0)) for i, o, a in STACKS[name]]


def draw(layers, n, dtype=np.float64, seed=0):
    key = Key(seed)
    return (key.fold("x").normal((n, layers[0].inputs), dtype),
            key.fold("w").normal((sum(layer.size for layer in layers),), dtype) * dtype(0.5))


def one_by_one(x, weights, layers):
    start = 0
    for layer in layers:
        weight = unpacked(weights, start, (layer.outputs, layer.inputs))
        bias = unpacked(weights, start + layer.outputs * layer.inputs, layer.outputs)
        x, start = tg.dense(x, weight, bias, layer.activation, layer.slope), start + layer.size
    return x


def derivatives(fn, x, weights, order):
    """What `fn` makes of x and weights, and its derivatives in drawn directions, up to that order."""
    given = [tg.Tensor(a, requires_grad=True) for a in (x, weights)]
    value, found = fn(*given), []
    for i in range(order + 1):
        found.append(backend_of(value.array).to_numpy(value.array))
        if i < order:
            seed = tg.Tensor(Key(7).fold(i).normal(value.shape, value.dtype, backend=backend_of(value.array)),
                             requires_grad=True)
            value = pack(tg.grad(value, [*given, seed] if i else given, seed, create_graph=True))
            given = [*given, seed]
    return found


@pytest.mark.parametrize("examples", [1, 5, 37])
@pytest.mark.parametrize("name", STACKS)
def test_it_is_its_layers_one_by_one(name, examples, device):
    layers = stack(name)
    x, weights = (devices.moved(a, devices.device(device)) for a in draw(layers, examples))
    got, expected = (derivatives(fn, x, weights, 2) for fn in (lambda x, w: mlp(x, w, layers), lambda x, w: one_by_one(x, w, layers)))
    for order, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max(), err_msg=f"derivative {order}")


def partial_derivatives(fn, x, weights, by):
    """The gradient by x (0) or by the weights (1) alone, and the gradients of its inner product with a direction."""
    given = [tg.Tensor(a, requires_grad=True) for a in (x, weights)]
    y = fn(*given)
    seeds = [tg.Tensor(Key(7).fold(i).normal(a.shape, a.dtype, backend=backend_of(a.array)), requires_grad=True)
             for i, a in enumerate((y, given[by]))]
    first = tg.grad(y, given[by], seeds[0], create_graph=True)
    return [backend_of(t.array).to_numpy(t.array) for t in (first, *tg.grad(first, [*given, seeds[0]], seeds[1]))]


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("by", [0, 1], ids=["by x", "by the weights"])
def test_one_gradient_alone(name, by, other_device):
    layers = stack(name)
    x, weights = draw(layers, 37)
    expected = partial_derivatives(lambda x, w: one_by_one(x, w, layers), x, weights, by)
    for place in ("cpu", other_device):
        there = [tg.to_device(a, place) for a in (x, weights)]
        got = partial_derivatives(lambda x, w: mlp(x, w, layers), *there, by)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())


def test_the_gradient_by_x_of_a_piecewise_linear_stack_does_not_change_with_x(device):
    """So some of the third derivatives are zeros, as layer by layer."""
    layers = [MLPLayer(3, 5, "leaky_relu", 0.2), MLPLayer(5, 1)]
    x, weights = draw(layers, 7)

    def third(fn):
        given = [tg.Tensor(tg.to_device(a, device), requires_grad=True) for a in (x, weights)]
        g = tg.grad(fn(*given).sum(), given[0], create_graph=True)
        seconds = tg.grad((g * g).sum(), given, create_graph=True)
        return [tg.to_device(t.array, "cpu") for t in tg.grad(sum((s * s).sum() for s in seconds), given)]

    got, expected = third(lambda x, w: mlp(x, w, layers)), third(lambda x, w: one_by_one(x, w, layers))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1.0, np.abs(b).max()))
    assert not got[0].any() and got[1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wide", [False, True])
def test_batches_that_are_cut_into_blocks_and_parts(wide, dtype):
    layers = [MLPLayer(3, 200 if wide else 9, "leaky_relu", 0.2), MLPLayer(200 if wide else 9, 40, "tanh"), MLPLayer(40, 2)]
    x, weights = draw(layers, 1500, dtype)
    got, expected = (derivatives(fn, x, weights, 2) for fn in (lambda x, w: mlp(x, w, layers), lambda x, w: one_by_one(x, w, layers)))
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=(2e-5 if dtype == np.float32 else 1e-12) * np.abs(b).max())


@pytest.mark.parametrize("name", ["narrow", "smooth"])
def test_gradients_are_slopes_to_the_third_order(name):
    layers = stack(name)
    x, weights = draw(layers, 4, seed=3)
    for order in (1, 2):
        tg.check_gradients(lambda x, w: mlp(x, w, layers), x, weights, order=order)

    def third(x, w):
        given = [t if t.requires_grad else tg.Tensor(t, requires_grad=True) for t in (x, w)]
        first = tg.grad(tg.sum(mlp(*given, layers)), given, create_graph=True)
        return pack(tg.grad(tg.sum(tg.mul(pack(first), pack(first))), given, create_graph=True))

    tg.check_gradients(third, x, weights)


def test_leading_axes_are_examples():
    layers = stack("smooth")
    x, weights = draw(layers, 6)
    np.testing.assert_array_equal(mlp(x.reshape(2, 3, 3), weights, layers), mlp(x, weights, layers).reshape(2, 3, 2))


def test_arrays_of_any_layout():
    layers = stack("smooth")
    x, weights = draw(layers, 6)
    spread = np.repeat(weights, 2)[::2]
    np.testing.assert_array_equal(mlp(np.asfortranarray(x), spread, layers), mlp(x, weights, layers))


@pytest.mark.parametrize("change, message", [
    ({"layers": []}, "at least one layer"),
    ({"layers": [MLPLayer(3, 4), MLPLayer(5, 1)]}, "4 outputs is followed by one of 5 inputs"),
    ({"layers": [MLPLayer(3, 0), MLPLayer(0, 4)]}, "a layer should have inputs and outputs, got 3 and 0"),
    ({"layers": [MLPLayer(3, 4, "swish")]}, "unknown activation 'swish'"),
    ({"x": np.zeros((2, 4))}, r"shape \(\.\.\., 3\) that is not empty, got \(2, 4\)"),
    ({"x": np.zeros((0, 3))}, r"that is not empty, got \(0, 3\)"),
    ({"weights": np.zeros(15)}, r"16 weights, got an array of shape \(15,\)"),
])
def test_what_does_not_fit_is_named(change, message):
    given = {"x": np.zeros((2, 3)), "weights": np.zeros(16), "layers": [MLPLayer(3, 4)], **change}
    with pytest.raises(ValueError, match=message):
        mlp(**given)


# -- networks that are one -------------------------------------------------------------------------------------------


class Own(nn.Dense):
    """A layer that computes something else."""

    def forward(self, x, activation=nn.ReLU()):  # noqa: B008
        return tg.mul(super().forward(x), 2.0)


SHARED = nn.Dense(4, 4)
NETWORKS = {
    "dense layers": (True, lambda: nn.Sequential(nn.Dense(4, 6), nn.LeakyReLU(0.1), nn.Dense(6, 3), nn.Dense(3, 1))),
    "flattened images": (True, lambda: nn.Sequential(nn.Flatten(), nn.Sequential(nn.Dense(4, 6), nn.ELU(0.5)), nn.Dense(6, 1))),
    "an activation first": (True, lambda: nn.Sequential(nn.Tanh(), nn.Dense(4, 1), nn.Softplus())),
    "two activations": (False, lambda: nn.Sequential(nn.Dense(4, 6), nn.Tanh(), nn.ReLU(), nn.Dense(6, 1))),
    "no bias": (False, lambda: nn.Sequential(nn.Dense(4, 6, bias=False), nn.ReLU(), nn.Dense(6, 1))),
    "batch norm": (False, lambda: nn.Sequential(nn.Dense(4, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 1))),
    "dropout": (False, lambda: nn.Sequential(nn.Dense(4, 6), nn.Dropout(), nn.Dense(6, 1))),
    "a layer of its own": (False, lambda: nn.Sequential(Own(4, 6), nn.ReLU(), nn.Dense(6, 1))),
    "a shared layer": (False, lambda: nn.Sequential(SHARED, nn.ReLU(), SHARED, nn.ReLU(), nn.Dense(4, 1))),
    "large": (False, lambda: nn.Sequential(nn.Dense(4, 3000), nn.ReLU(), nn.Dense(3000, 1))),
    "no layers": (False, lambda: nn.Sequential(nn.Flatten())),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_which_networks_are_one_and_that_they_compute_the_same(name):
    expected, make = NETWORKS[name]
    network = make().initialize(Key(0)).astype(np.float64)
    found = as_perceptron(network)
    assert (found is not None) == expected
    if found:
        x = Key(1).normal((5, 4, 1, 1) if isinstance(network[0], nn.Flatten) else (5, 4), np.float64)
        weights = pack([p.array for p in network.parameters()])
        np.testing.assert_allclose(found(found.parameters(weights))(x), network(x).numpy(), rtol=1e-12)
