"""Batch and layer normalisation: nothing is held constant, at any order."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg
from tinygan.fusion.batch_norm import measured_batch_norm
from tinygan.fusion.conv import measured_convolution, measured_transposed_convolution
from tinygan.ops.conv_geometry import conv2d_geometry, conv_transpose2d_geometry

BATCHES = [(4, 3), (2, 3, 2, 2), (1, 2, 3, 3), (5, 1), (2, 2, 3), (3, 2, 1, 1), (2, 1, 2, 1, 2)]


def numpy_batch_norm(x, w, b, eps=1e-5, mean=None, variance=None):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean = x.mean(axes) if mean is None else mean
    variance = x.var(axes) if variance is None else variance
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps) * w.reshape(shape) + b.reshape(shape)


def inputs(shape, seed=0):
    return values(seed, shape), values(seed + 1, shape[1:2]), values(seed + 2, shape[1:2])


@pytest.mark.parametrize("shape", BATCHES, ids=str)
@given(layout=layouts, seed=seeds, eps=st.sampled_from([1e-5, 0.3]))
def test_batch_norm_values(device, shape, layout, seed, eps):
    arrays = inputs(shape, seed)
    check_both_modes(lambda x, w, b: tg.batch_norm(x, w, b, eps), numpy_batch_norm(*arrays, eps), *arrays, device=device,
                     layout=layout, rtol=1e-10)


@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_batch_norm_gradients(shape):
    check(lambda x, w, b: tg.batch_norm(x, w, b, 0.1), *inputs(shape))


@given(layout=layouts, seed=seeds)
def test_batch_norm_gradients_of_strided_inputs(layout, seed):
    check(lambda x, w, b: tg.batch_norm(x, w, b, 0.1), *inputs((2, 2, 2, 2), seed), layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", BATCHES, ids=str)
@given(layout=layouts, seed=seeds)
def test_batch_norm_against_torch(device, shape, layout, seed):
    torch = pytest.importorskip("torch")
    agree(lambda x, w, b: tg.batch_norm(x, w, b, 1e-2),
          lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True, eps=1e-2), *inputs(shape, seed),
          device=device, layout=layout)


@pytest.mark.oracle
def test_batch_norm_of_a_larger_batch_against_torch(device):
    """Larger than a vector register and a thread's share."""
    torch = pytest.importorskip("torch")
    for shape in ((70, 37), (9, 5, 17, 13)):
        agree(lambda x, w, b: tg.batch_norm(x, w, b),
              lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True), *inputs(shape),
              device=device)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2)], ids=str)
def test_batch_norm_with_an_activation(shape, activation):
    """In the same pass or not: the same function."""
    arrays = inputs(shape, 4)
    plain = getattr(tg, activation)(tg.batch_norm(*arrays, 0.1))
    np.testing.assert_allclose(tg.batch_norm(*arrays, 0.1, activation=activation), plain, rtol=1e-12, atol=1e-15)
    check(lambda x, w, b: tg.batch_norm(x, w, b, 0.1, activation=activation), *arrays)


@pytest.mark.oracle
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_batch_norm_of_a_larger_batch_with_an_activation_against_torch(device, activation):
    torch = pytest.importorskip("torch")
    theirs = {"relu": torch.relu, "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.2)}[activation]
    for shape in ((70, 37), (40, 128), (9, 5, 17, 13), (64, 16, 7, 7)):
        x, w, b = inputs(shape, 7)
        agree(lambda x, w, b: tg.batch_norm(x, w, b, activation=activation),
              lambda x, w, b: theirs(torch.nn.functional.batch_norm(x, None, None, w, b, training=True)), x, w, b + 0.1,
              device=device, second=shape == (70, 37))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_batch_norm_needs_only_what_is_asked_for(place):
    arrays = list(map(tg.Tensor, inputs((4, 3))))
    every = [tg.Tensor(a, requires_grad=True) for a in arrays]
    weights = tg.Tensor(values(9, (4, 3)))
    expected = tg.grad(tg.batch_norm(*every), every, weights)[place]
    arrays[place] = every[place]
    np.testing.assert_array_equal(tg.grad(tg.batch_norm(*arrays), every[place], weights).numpy(), expected.numpy())


def test_batch_norm_in_float32_with_a_large_mean(device):
    """The variance is not the difference of two large numbers."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((64, 2, 4, 4)) + 1000).astype(np.float32)
    w, b = np.ones(2, np.float32), np.zeros(2, np.float32)
    ours = to_numpy(tg.batch_norm(*[to_device(a, device) for a in (x, w, b)]))
    np.testing.assert_allclose(ours, numpy_batch_norm(x.astype(np.float64), w, b), atol=2e-3)


def test_batch_norm_statistics(device):
    x, w, b = inputs((4, 3, 2))
    mean, variance = to_device(np.empty(3), device), to_device(np.empty(3), device)
    tg.batch_norm(to_device(x, device), to_device(w, device), to_device(b, device), statistics=(mean, variance))
    np.testing.assert_allclose(to_numpy(mean), x.mean((0, 2)), rtol=1e-13)
    np.testing.assert_allclose(to_numpy(variance), x.var((0, 2)), rtol=1e-12)


def test_batch_norm_of_a_constant_channel():
    x, w, b = np.full((4, 2), 3.0), np.array([1.0, 2.0]), np.array([0.5, -1.0])
    np.testing.assert_allclose(tg.batch_norm(x, w, b), np.broadcast_to(b, (4, 2)), atol=1e-12)
    t = tg.Tensor(x, requires_grad=True)
    np.testing.assert_allclose(tg.grad(tg.batch_norm(t, w, b).sum(), t).numpy(), 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(50, 3), (50, 3, 2, 2), (400, 3, 4, 4)], ids=str)
def test_batch_norm_inference_far_from_zero(device, shape):
    """What x and the mean differ by is all that counts: x * scale - mean * scale would lose it."""
    if device == "emulated" and shape[0] > 50:
        pytest.skip("large arrays take the emulator too long")
    rng = np.random.default_rng(0)
    x = (8192 + 0.005 * rng.standard_normal(shape)).astype(np.float32)
    mean, variance = np.full(3, 8192, np.float32), np.full(3, 0.005**2, np.float32)
    w, b = np.array([1, -2, 0.5], np.float32), np.array([0.5, 0, -1], np.float32)
    wide = [np.reshape(a.astype(np.float64), (3, *[1] * (len(shape) - 2))) for a in (mean, variance, w, b)]
    expected = (x.astype(np.float64) - wide[0]) / np.sqrt(wide[1] + 1e-5) * wide[2] + wide[3]
    arrays = [to_device(a, device) for a in (x, mean, variance, w, b)]
    np.testing.assert_allclose(to_numpy(tg.batch_norm_inference(*arrays)), expected, rtol=0, atol=1e-6)
    leaves = [tg.Tensor(a, requires_grad=True) for a in arrays]
    by_weight = to_numpy(tg.grad(tg.batch_norm_inference(*leaves)[:1].sum(), leaves[3]))
    normal = (expected[:1] - wide[3]) / wide[2]
    np.testing.assert_allclose(by_weight, normal.sum((0, *range(2, len(shape)))), rtol=1e-4, atol=1e-6)

    layer = tg.nn.Sequential(tg.nn.BatchNorm(3), tg.nn.LeakyReLU(0.2)).eval()
    for value, parameter in zip(arrays[1:], (layer[0].running_mean, layer[0].running_var, layer[0].weight, layer[0].bias),
                                strict=True):
        parameter.assign(to_numpy(value))
    if device == "cpu":
        np.testing.assert_allclose(layer(x).numpy(), np.where(expected > 0, expected, 0.2 * expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2), (1, 2), (0, 3), (0, 3, 2)], ids=str)
@given(layout=layouts, seed=seeds)
def test_batch_norm_inference(shape, layout, seed):
    x, w, b = inputs(shape, seed)
    mean, variance = values(seed + 3, shape[1:2]), values(seed + 4, shape[1:2], 0.5, 2)

    def op(x, mean, variance, w, b):
        return tg.batch_norm_inference(x, mean, variance, w, b, 1e-3)

    arrays = x, mean, variance, w, b
    check_both_modes(op, numpy_batch_norm(x, w, b, 1e-3, mean, variance), *arrays, layout=layout, rtol=1e-11)
    check(op, *arrays, layout=layout)


@st.composite
def layer_norms(draw):
    normalized = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    return (*draw(st.lists(st.integers(0, 3), max_size=2)), *normalized), normalized


def numpy_layer_norm(x, w, b, eps):
    axes = tuple(range(x.ndim - w.ndim, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) * w + b


@given(case=layer_norms(), layout=layouts, seed=seeds)
def test_layer_norm(case, layout, seed):
    arrays = values(seed, case[0]), values(seed + 1, case[1]), values(seed + 2, case[1])
    check_both_modes(lambda x, w, b: tg.layer_norm(x, w, b, 0.1), numpy_layer_norm(*arrays, 0.1), *arrays,
                     layout=layout, rtol=1e-11)
    check(lambda x, w, b: tg.layer_norm(x, w, b, 0.1), *arrays, layout=layout)


@pytest.mark.oracle
@given(case=layer_norms(), layout=layouts, seed=seeds)
def test_layer_norm_against_torch(device, case, layout, seed):
    torch = pytest.importorskip("torch")
    if 0 in case[0]:
        return  # PyTorch's second derivative fails there
    agree(lambda x, w, b: tg.layer_norm(x, w, b, 1e-2),
          lambda x, w, b: torch.nn.functional.layer_norm(x, case[1], w, b, 1e-2),
          values(seed, case[0]), values(seed + 1, case[1]), values(seed + 2, case[1]), device=device, layout=layout)


def ones(*shapes):
    return [np.ones(shape) for shape in shapes]


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.batch_norm(*ones((2, 3), 2, 3)), ValueError,
     r"batch_norm: expected input \(N, C, ...\) with weight, bias \(C,\), got input \(2, 3\) with weight, bias \(2,\), "
     r"\(3,\)"),
    (lambda: tg.batch_norm(*ones(3, 3, 3)), ValueError, r"batch_norm: .* got input \(3,\)"),
    (lambda: tg.batch_norm(*ones((1, 3), 3, 3)), ValueError, r"batch_norm: .* more than one value per channel .* \(1, 3\)"),
    (lambda: tg.batch_norm(*ones((0, 3), 3, 3)), ValueError, r"batch_norm: .* more than one value per channel .* \(0, 3\)"),
    (lambda: tg.batch_norm(*ones((4, 3), 3, 3), eps=-1), ValueError, "batch_norm: eps should be positive, got -1"),
    (lambda: tg.batch_norm(*ones((4, 3), 3, 3), eps=0.0), ValueError, "batch_norm: eps should be positive, got 0"),
    (lambda: tg.batch_norm(*ones((4, 3), 3, 3), eps=np.nan), ValueError, "batch_norm: eps should be positive, got nan"),
    (lambda: tg.batch_norm(np.ones((4, 3)), None, None), TypeError, "batch_norm: expected a Tensor .*, got NoneType"),
    (lambda: tg.batch_norm(*[a.astype(int) for a in ones((4, 3), 3, 3)]), TypeError, "batch_norm: needs .*, got int64"),
    (lambda: tg.batch_norm_inference(*ones((2, 3), 2, 3, 3, 3)), ValueError,
     r"batch_norm_inference: .* got input \(2, 3\) with weight, bias, mean, variance \(3,\), \(3,\), \(2,\), \(3,\)"),
    (lambda: tg.layer_norm(*ones((2, 3), 2, 2)), ValueError, r"layer_norm: .*input \(2, 3\), weight \(2,\), bias \(2,\)"),
    (lambda: tg.layer_norm(*ones((2, 3), 3, 2)), ValueError, r"layer_norm: .*input \(2, 3\), weight \(3,\), bias \(2,\)"),
    (lambda: tg.layer_norm(*ones((2, 3), (), ())), ValueError, r"layer_norm: .* weight \(\)"),
    (lambda: tg.layer_norm(*ones((3,), (1, 3), (1, 3))), ValueError, r"layer_norm: .* weight \(1, 3\)"),
    (lambda: tg.layer_norm(*ones((2, 0), 0, 0)), ValueError, r"\(2, 0\)"),
    (lambda: tg.layer_norm(*ones((2, 3), 3, 3), eps=0), ValueError, "layer_norm: eps should be positive, got 0"),
    (lambda: tg.layer_norm([[1.0]], *ones(1, 1)), TypeError, "layer_norm: expected a Tensor or an array, got list"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("fused, caller", [(True, "batch_norm"), (False, "mul")])
def test_mixed_precision_is_refused(fused, caller):
    with tg.fusion(fused), pytest.raises(TypeError, match=f"{caller}: .* different precision"):
        tg.batch_norm(np.ones((4, 3), np.float32), *ones(3, 3))


def test_numpy_eps_keeps_float32():
    x, w, b = (a.astype(np.float32) for a in inputs((4, 3)))
    assert tg.batch_norm(x, w, b, np.float64(1e-5)).dtype == np.float32
    assert tg.layer_norm(x, w, b, np.float64(1e-5)).dtype == np.float32


@pytest.mark.parametrize("bad", [np.empty(8), np.empty(7, np.float32), np.empty((8, 1), np.float32)],
                         ids=["precision", "length", "axes"])
def test_statistics_of_another_kind_are_refused(bad):
    x, ones = np.ones((64, 8, 4, 4), np.float32), np.ones(8, np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: statistics .* \(8,\) and dtype float32.*input \(64, 8, 4, 4\)"):
        tg.batch_norm(x, ones, ones, statistics=(np.empty(8, np.float32), bad))


@pytest.mark.parametrize("transposed, shape", [(False, (8, 3, 4, 4)), (True, (3, 8, 4, 4))])
@pytest.mark.parametrize("with_bias", [False, True])
def test_statistics_of_a_convolution(device, transposed, shape, with_bias):
    x, weight = (to_device(values(i, s), device) for i, s in enumerate(((3, 3, 6, 7), shape)))
    bias = to_device(values(2, (8,)), device) if with_bias else None
    if transposed:
        found = measured_transposed_convolution(x, weight, bias, conv_transpose2d_geometry(x, weight, bias, 2, 1, 0, 1, 1))
        expected = tg.conv_transpose2d(x, weight, bias, 2, 1)
    else:
        _, geometry = conv2d_geometry(x, weight, bias, 2, 1, 1, 1)
        found = measured_convolution(x, weight, bias, geometry)
        expected = tg.conv2d(x, weight, bias, 2, 1)
    y, mean, variance = map(to_numpy, found)
    np.testing.assert_allclose(y, to_numpy(expected), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mean, y.mean((0, 2, 3)), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(variance, y.var((0, 2, 3)), rtol=1e-12)
    ones, zeros = (to_device(a, device) for a in (np.ones(8), np.zeros(8)))
    normal = measured_batch_norm(found.y, ones, zeros, 1e-5, (found.mean, found.variance))
    with tg.fusion(True):
        np.testing.assert_array_equal(to_numpy(normal), to_numpy(tg.batch_norm(found.y, ones, zeros)))


def test_relu_of_minus_infinity_after_batch_norm_is_zero():
    x = np.random.default_rng(0).standard_normal((64, 8, 4, 4)).astype(np.float32)
    ones, bias = np.ones(8, np.float32), np.full(8, -np.inf, np.float32)
    for batch in (x, x[:2]):
        assert (tg.batch_norm(batch, ones, bias, activation="relu") == 0).all()


def test_moments_where_the_first_value_is_far_from_the_others():
    x = np.ones((16, 2, 64, 64), np.float32)
    x[0, :, 0, 0] = 1000
    mean, variance = np.empty(2, np.float32), np.empty(2, np.float32)
    tg.batch_norm(x, np.ones(2, np.float32), np.zeros(2, np.float32), statistics=(mean, variance))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var((0, 2, 3)), rtol=1e-3)
