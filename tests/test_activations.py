"""Activations: values, slopes at 0 and at the extremes, gradients of both orders."""
from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, shapes, smallest, to_device, to_numpy, values
from hypothesis import given

import tinygan as tg
from tinygan.fusion import MLPLayer, mlp

FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2))) / 2,
}


def gelu_tanh(x):
    return tg.gelu(x, "tanh")




@pytest.mark.parametrize("name", FORMULAS)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_values_and_gradients(name, shape, layout, seed):
    a = values(seed, shape, -3, 3)
    check_both_modes(getattr(tg, name), FORMULAS[name](a), a, layout=layout)
    check(getattr(tg, name), a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", FORMULAS)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_against_torch(device, name, shape, layout, seed):
    torch = pytest.importorskip("torch")
    functions = torch.nn.functional
    theirs = (lambda x: functions.leaky_relu(x, 0.2)) if name == "leaky_relu" else getattr(functions, name)
    agree(getattr(tg, name), theirs, values(seed, shape, -3, 3), device=device, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.5, np.float64(0.3)])
def test_slopes_against_torch(slope):
    torch = pytest.importorskip("torch")
    a = values(3, (4, 5))
    agree(lambda x: tg.leaky_relu(x, slope), lambda x: torch.nn.functional.leaky_relu(x, float(slope)), a)
    agree(lambda x: tg.elu(x, slope), lambda x: torch.nn.functional.elu(x, float(slope)), a)


@pytest.mark.oracle
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_the_approximate_gelu_against_torch(device, shape, layout, seed):
    torch = pytest.importorskip("torch")
    agree(gelu_tanh, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), values(seed, shape, -3, 3), device=device, layout=layout)


@pytest.mark.parametrize("name, at_zero", [("relu", 0), ("leaky_relu", 0.2), ("elu", 1), ("tanh", 1), ("sigmoid", 0.25),
                                           ("softplus", 0.5), ("silu", 0.5), ("gelu", 0.5)])
def test_slope_at_zero(name, at_zero):
    np.testing.assert_allclose(gradients(getattr(tg, name), [0.0, -0.0])[0], [at_zero] * 2, rtol=1e-15)


LINEAR_LAYERS = {  # that apply a leaky ReLU of slope 0 themselves, and are the identity before it
    "none": lambda x, one, zero: tg.leaky_relu(x, 0.0),
    "dense": lambda x, one, zero: tg.dense(x.reshape((-1, 1)), one.reshape(1, 1), zero, "leaky_relu", 0.0).reshape(x.shape),
    "conv2d": lambda x, one, zero: tg.conv2d(x, one.reshape(1, 1, 1, 1), zero, activation="leaky_relu", slope=0.0),
    "conv_transpose2d": lambda x, one, zero: tg.conv_transpose2d(x, one.reshape(1, 1, 1, 1), zero, activation="leaky_relu", slope=0.0),
    "mlp": lambda x, one, zero: tg.reshape(mlp(x.reshape((-1, 1)), tg.concatenate([one, zero]), [MLPLayer(1, 1, "leaky_relu", 0.0)]),
                                           x.shape),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("images", [1, 40])
@pytest.mark.parametrize("layer", LINEAR_LAYERS)
def test_leaky_relu_of_slope_0_at_0(device, layer, images, dtype):
    """There the result is 0 on both sides of 0, and its slope is that of the negative side. Small arrays and large ones."""
    if device == "emulated" and images > 1:
        pytest.skip("large arrays take the emulator too long")
    x = np.resize(np.array([0.0, -0.0, -1, 1, -1e-30, 1e-30, -3e4, 3e4], dtype), (images, 1, 16, 40))
    leaf = tg.Tensor(to_device(x, device), requires_grad=True)
    y = LINEAR_LAYERS[layer](leaf, to_device(np.ones(1, dtype), device), to_device(np.zeros(1, dtype), device))
    np.testing.assert_array_equal(to_numpy(y), np.maximum(x, 0))
    np.testing.assert_array_equal(to_numpy(tg.grad(y.sum(), leaf)), x > 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaky_relu_of_slope_0_at_0_behind_a_normalisation(device, dtype):
    """Its weights are 0, so that it gives its bias for every example."""
    x = np.array([0.0, -0.0, -1, 1, -1e-30, 1e-30, -3e4, 3e4], dtype)
    bias = tg.Tensor(to_device(x, device), requires_grad=True)
    examples, zeros = to_device(values(0, (2, x.size)).astype(dtype), device), to_device(np.zeros(x.size, dtype), device)
    y = tg.batch_norm(examples, zeros, bias, activation="leaky_relu", slope=0.0)
    np.testing.assert_array_equal(to_numpy(y), np.maximum([x, x], 0))
    np.testing.assert_array_equal(to_numpy(tg.grad(y.sum(), bias)), 2 * (x > 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, low, high, slope_low, slope_high", [
    ("relu", 0, 1e4, 0, 1), ("leaky_relu", -2e3, 1e4, 0.2, 1), ("elu", -1, 1e4, 0, 1), ("tanh", -1, 1, 0, 0),
    ("sigmoid", 0, 1, 0, 0),
    ("softplus", 0, 1e4, 0, 1), ("silu", 0, 1e4, 0, 1), ("gelu", 0, 1e4, 0, 1),
])
def test_extremes_do_not_overflow(device, dtype, name, low, high, slope_low, slope_high):
    x = tg.Tensor(to_device(np.array([-1e4, 1e4], dtype), device), requires_grad=True)
    y = getattr(tg, name)(x)
    np.testing.assert_allclose(to_numpy(y), [low, high], rtol=1e-6, atol=1e-30)
    g = tg.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(to_numpy(g), [slope_low, slope_high], rtol=1e-6, atol=1e-30)
    assert not g.requires_grad or np.isfinite(to_numpy(tg.grad(g.sum(), x))).all()


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-13)])
def test_large_arrays(fast_device, name, dtype, rtol):
    """Large enough for a kernel of its own, contiguous and not, and in parts that no vector register divides."""
    a = np.random.default_rng(0).normal(size=(517, 301)).astype(dtype)
    exact = a.astype(np.float64)
    expected = FORMULAS[name](exact)
    step = 1e-6
    slopes = (FORMULAS[name](exact + step) - FORMULAS[name](exact - step)) / (2 * step)
    smooth = np.abs(exact) > 2 * step
    for store, view in ((a, lambda x: x), (np.ascontiguousarray(a.T), tg.transpose)):
        check_both_modes(lambda x, view=view: getattr(tg, name)(view(x)), expected.astype(dtype), store, device=fast_device, rtol=rtol)
        x = tg.Tensor(to_device(store, fast_device), requires_grad=True)
        g = to_numpy(view(tg.grad(getattr(tg, name)(view(x)).sum(), x)))
        np.testing.assert_allclose(g[smooth], slopes[smooth], rtol=0, atol=2e-6 if dtype == "float32" else 1e-8)


# Both tails, where the result alone no longer tells the slope. Closed forms in float64, whose own tails are exact.


def sech2(x):
    return np.cosh(x) ** -2.0


def logistic(x):
    return np.exp(-np.maximum(-x, 0)) / (1 + np.exp(-np.abs(x)))


SLOPES = {
    "tanh": (sech2, lambda x: -2 * np.tanh(x) * sech2(x)),
    "sigmoid": (lambda x: sech2(x / 2) / 4, lambda x: -np.tanh(x / 2) * sech2(x / 2) / 4),
    "softplus": (logistic, lambda x: sech2(x / 2) / 4),
    "elu": (lambda x: np.exp(np.minimum(x, 0)), lambda x: np.where(x > 0, 0, np.exp(np.minimum(x, 0)))),
    "silu": (lambda x: logistic(x) * (1 + x * logistic(-x)),
             lambda x: logistic(x) * logistic(-x) * (2 + x * (logistic(-x) - logistic(x)))),
}
TAILS = np.array([0.4, 3, 5, 9, 10, 12, 17, 20, 38, 43, 60, 86, 88, 100])
TAILS = np.concatenate([-TAILS, TAILS])
SIZES = {"numpy": TAILS.size, "compiled": 32 * TAILS.size, "shared": 1300 * TAILS.size}


def slopes_of(fn, x):
    """The first and second derivative of an elementwise function at x."""
    leaf = tg.Tensor(x, requires_grad=True)
    first = tg.grad(fn(leaf).sum(), leaf, create_graph=True)
    return to_numpy(first), to_numpy(tg.grad(first.sum(), leaf))


def check_tails(name, dtype, found, x, device):
    """float32 beyond its smallest normal number has no digits left, only a size."""
    for ours, formula in zip(found, SLOPES[name], strict=True):
        expected = formula(x.astype(np.float64)).astype(dtype).astype(np.float64)
        np.testing.assert_allclose(ours, expected, rtol=3e-6 if dtype == "float32" else 1e-13,
                                   atol=max(1e-43, smallest(device, dtype)) if dtype == "float32" else 0)


def test_the_slopes_of_the_examples(device):
    """Even functions have even slopes."""
    def slope(name, x, dtype="float32"):
        return slopes_of(getattr(tg, name), to_device(np.array([x], dtype), device))[0][0]

    np.testing.assert_allclose([slope("sigmoid", 20), slope("sigmoid", -20)], 2.0611536e-09, rtol=1e-6)
    np.testing.assert_allclose([slope("tanh", 10), slope("tanh", -10)], 8.2446145e-09, rtol=1e-6)
    np.testing.assert_allclose(slope("elu", -17), 4.1399377e-08, rtol=1e-6)
    np.testing.assert_allclose(slope("elu", -38, "float64"), np.exp(-38), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_in_both_tails(device, name, size, dtype):
    x = np.resize(TAILS, SIZES[size] if device != "emulated" else TAILS.size).astype(dtype)
    check_tails(name, dtype, slopes_of(getattr(tg, name), to_device(x, device)), x, device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("images", [1, 40])
@pytest.mark.parametrize("layer", ["dense", "conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_in_both_tails_behind_a_layer(device, name, layer, images, dtype):
    """A layer that is asked for the activation, and is itself the identity here."""
    if device == "emulated" and images > 1:
        pytest.skip("large arrays take the emulator too long")
    x = np.resize(TAILS, (images, 1, TAILS.size, 40)).astype(dtype)
    kernel, bias = to_device(np.ones((1, 1, 1, 1), dtype), device), to_device(np.zeros(1, dtype), device)

    def fn(x):
        if layer == "dense":
            return tg.dense(x.reshape((-1, 1)), kernel.reshape(1, 1), bias, name, 1.0).reshape(x.shape)
        return getattr(tg, layer)(x, kernel, bias, activation=name, slope=1.0)

    check_tails(name, dtype, slopes_of(fn, to_device(x, device)), x, device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_in_both_tails_behind_a_normalisation(device, name, dtype):
    """Its weights are 0, so that it gives its bias for every example."""
    examples, zeros = to_device(values(0, (2, TAILS.size)).astype(dtype), device), to_device(np.zeros(TAILS.size, dtype), device)

    def fn(bias):
        return tg.batch_norm(examples, zeros, bias, activation=name, slope=1.0) * 0.5

    check_tails(name, dtype, slopes_of(fn, to_device(TAILS.astype(dtype), device)), TAILS.astype(dtype), device)


@pytest.mark.parametrize("name", SLOPES)
def test_gradients_of_both_orders_in_the_tails(name):
    check(getattr(tg, name), np.concatenate([values(0, (6,), -6, 6), [-9.0, 9.0]]))


@pytest.mark.oracle
@pytest.mark.parametrize("name", [*SLOPES, "gelu"])
def test_third_derivatives_against_torch(name):
    torch = pytest.importorskip("torch")
    a = np.linspace(-8, 8, 32)
    ours = g = tg.Tensor(a, requires_grad=True)
    theirs = t = torch.tensor(a, requires_grad=True)
    function = torch.nn.functional.elu if name == "elu" else getattr(torch.nn.functional, name)
    ours, theirs = getattr(tg, name)(ours), function(theirs)
    for _ in range(3):
        ours, theirs = tg.grad(ours.sum(), g, create_graph=True), torch.autograd.grad(theirs.sum(), t, create_graph=True)[0]
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name, low, high", [("tanh", 0, 0), ("sigmoid", 0, 0), ("softplus", 0, 1), ("elu", 0, 1), ("silu", 0, 1),
                                             ("gelu", 0, 1), ("gelu_tanh", 0, 1)])
@pytest.mark.parametrize("size", [1, 300])
def test_slopes_at_infinity(device, name, low, high, size):
    x = np.repeat(np.array([-np.inf, np.inf], np.float32), size)
    first, second = slopes_of(lambda x: tg.activation(x, name, 1.0), to_device(x, device))
    np.testing.assert_array_equal(first[[0, -1]], [low, high])
    np.testing.assert_array_equal(second, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 40])
def test_gelu_keeps_its_tail(device, size, dtype):
    """There it is -x times the area under the normal density, which 1 + erf(x / sqrt(2)) would round to 0."""
    x = -np.array([3, 5.5, 8, 12], dtype)
    found = to_numpy(tg.gelu(to_device(np.repeat(x, size), device)))[::size]
    exact = [float(value) * math.erfc(-float(value) / math.sqrt(2)) / 2 for value in x]
    np.testing.assert_allclose(found, exact, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_nan_stays_nan():
    with np.errstate(invalid="ignore"):
        for name in FORMULAS:
            assert np.isnan(getattr(tg, name)(np.array([np.nan], np.float32)))[0], name


@pytest.mark.parametrize("name", FORMULAS)
def test_by_name(name):
    a = values(0, (2, 3))
    np.testing.assert_array_equal(tg.activation(a, name), getattr(tg, name)(a) if name != "elu" else tg.elu(a, 0.2))
    assert tg.activation(a, "identity") is a


def test_a_number_as_slope_keeps_float32():
    for slope in (np.float64(0.1), 1):
        assert tg.leaky_relu(np.ones(3, np.float32), slope).dtype == np.float32
        assert tg.elu(-np.ones(3, np.float32), slope).dtype == np.float32


@pytest.mark.parametrize("call",
                         [lambda x: tg.leaky_relu(x, -0.1), lambda x: tg.elu(x, -1), lambda x: tg.leaky_relu(x, np.nan),
                                  lambda x: tg.activation(x, "elu", -0.1)])
def test_negative_slopes_are_refused(call):
    with pytest.raises(ValueError, match=r"(leaky_relu|elu|activation): the slope .* should be 0 or more, got"):
        call(np.ones(3))


def test_unknown_names_and_dtypes_are_refused():
    with pytest.raises(ValueError, match="activation: unknown activation 'mish', expected one of identity, relu"):
        tg.activation(np.ones(3), "mish")
    with pytest.raises(ValueError, match="gelu: unknown approximate 'erf', expected one of none, tanh"):
        tg.gelu(np.ones(3), "erf")
    for dtype in ("int64", "float16"):
        with pytest.raises(TypeError, match=f"needs float32 or float64, got {dtype}"):
            tg.relu(np.ones(3, dtype))
    with pytest.raises(TypeError, match="expected a Tensor, an array or a number, got list"):
        tg.tanh([1.0])


def test_layers():
    x = values(0, (2, 3))
    for layer, expected, description in ((tg.nn.SiLU(), tg.silu(x), ""), (tg.nn.GELU(), tg.gelu(x), ""), (tg.nn.GELU("tanh"), gelu_tanh(x), "tanh")):
        np.testing.assert_array_equal(layer(x), expected)
        assert layer.describe() == description and not layer.couples_examples
    assert np.abs(gelu_tanh(x) - tg.gelu(x)).max() > 1e-5
    with pytest.raises(ValueError, match="gelu: unknown approximate 'no', expected one of none, tanh"):
        tg.nn.GELU("no")
