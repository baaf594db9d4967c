"""Sums, means and variances of many numbers keep their digits, over any axes, in any memory order; the oracle adds in
float64 by `math.fsum` or knows the result."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers import to_device, to_numpy

import tinygan as tg
from tinygan import nn, ops


def laid_out(a, order):
    """The same values in another memory order: C, F, channels-last (of 4 axes), strided, or on a grid of repeated rows."""
    if order == "F":
        return np.asfortranarray(a)
    if order == "last":
        return np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, a.ndim - 1, *range(1, a.ndim - 1))
    if order == "strided":
        wide = np.zeros((*a.shape[:-1], a.shape[-1] + 1), a.dtype)
        wide[..., :-1] = a
        return wide[..., :-1]
    return a


def all_axes(n):
    return [None, *itertools.chain.from_iterable(itertools.combinations(range(n), k) for k in range(n + 1))]


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_a_million_rows(order):
    x = laid_out(np.full((1_000_000, 3), 1000.1, np.float32), order)
    np.testing.assert_array_equal(tg.mean(x, 0), np.float32(1000.1))
    np.testing.assert_array_equal(tg.var(x, 0), 0)
    np.testing.assert_allclose(tg.sum(x, 0), np.float64(np.float32(1000.1)) * 1e6, rtol=1e-7)
    np.testing.assert_array_equal(tg.mean(tg.Tensor(x).T, 1).numpy(), np.float32(1000.1))
    np.testing.assert_allclose(tg.sum(x), 3e6 * np.float64(np.float32(1000.1)), rtol=1e-6)


def test_twenty_million_ones():
    x = np.broadcast_to(np.float32(1), (20_000_000, 2))
    assert tg.sum(x, 0).tolist() == [20_000_000, 20_000_000]
    assert tg.sum(x, 0, keepdims=True).tolist() == [[20_000_000, 20_000_000]]
    assert ops.sum_to(x, (2,)).tolist() == [20_000_000, 20_000_000]
    assert tg.sum(x) == 40_000_000


@pytest.mark.parametrize("order", ["C", "last", "F", "strided"])
@pytest.mark.parametrize("shape", [(16, 3, 32, 32), (3, 5, 4, 7), (140, 2, 3, 2)], ids=str)
def test_the_variance_of_a_constant_image_is_zero(shape, order):
    x = laid_out(np.full(shape, 0.37, np.float32), order)
    for axis, keepdims in itertools.product(all_axes(4), (False, True)):
        assert not np.any(tg.var(x, axis, keepdims)), (axis, keepdims)
        mean = tg.mean(x, axis, keepdims)
        np.testing.assert_array_equal(mean, np.full(np.mean(x, axis, keepdims=keepdims).shape, x.flat[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "last", "F", "strided"])
@pytest.mark.parametrize("shape", [(300, 2, 7, 3), (2, 300, 3, 5), (2, 3, 5, 300), (40, 3, 33, 5)], ids=str)
def test_every_axis_in_every_order(shape, order, dtype):
    a = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(dtype)
    x = laid_out(a, order)
    eps = np.finfo(dtype).eps
    for axis, keepdims in itertools.product(all_axes(4), (False, True)):
        exact = np.sum(a.astype(np.longdouble), axis, keepdims=keepdims)
        count = a.size / max(exact.size, 1)
        for name, expected in (("sum", exact), ("mean", exact / count)):
            found = getattr(tg, name)(x, axis, keepdims)
            assert found.dtype == dtype and found.shape == expected.shape
            np.testing.assert_allclose(found, expected.astype(dtype), rtol=(6 if dtype == "float32" else 60) * eps, err_msg=f"{name} {axis} {keepdims}")


def test_float64_is_added_in_groups():
    x = np.full((3_000_001, 2), 0.1)  # NumPy adds these one after another: 2e-11 are lost
    exact = math.fsum([0.1] * len(x))
    for a in (x, laid_out(x, "strided"), laid_out(x, "F")):
        np.testing.assert_allclose(tg.sum(a, 0), exact, rtol=1e-12)
        np.testing.assert_allclose(tg.mean(a, 0), 0.1, rtol=1e-12)
        np.testing.assert_allclose(tg.var(a, 0), 0, atol=1e-24)


def test_a_mean_does_not_overflow_where_its_sum_does():
    x = np.full((5000, 4), 8e37, np.float32)
    np.testing.assert_array_equal(tg.mean(x, 0), x[0])
    np.testing.assert_array_equal(tg.mean(x.T, 1), x[0])
    x[::2] *= -1
    assert tg.sum(x, 0).tolist() == [0] * 4
    x /= np.float32(8e18)
    np.testing.assert_allclose(tg.var(x / np.float32(2), 0), 2.5e37, rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("shape", [(40, 3), (3000, 5)])
def test_a_mean_that_was_rounded_leaves_nothing_behind(device, shape, order):
    x = laid_out((8192 + 0.005 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32), order)
    wide = x.astype(np.float64)  # the means need more digits than float32 has; the oracle's have them
    x, centred = to_device(x, device), wide - wide.mean(0)
    np.testing.assert_allclose(to_numpy(tg.var(x, 0)), wide.var(0), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(tg.std(x, 0)), wide.std(0), rtol=1e-6)
    leaf = tg.Tensor(x, requires_grad=True)
    found = to_numpy(tg.grad(tg.sum(tg.var(leaf, 0)), leaf))
    np.testing.assert_allclose(found * len(wide), 2 * centred, rtol=0, atol=1e-8)
    ones = to_device(np.ones(len(wide), np.float32), device)
    normal = centred / np.sqrt(wide.var(0) + 1e-5)
    np.testing.assert_allclose(to_numpy(tg.layer_norm(x.T, ones, 0 * ones)), normal.T, rtol=0, atol=2e-6)


@pytest.mark.parametrize("count", [3, 7, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_constant_does_not_vary(device, dtype, count):
    a = to_device(np.full(count, 1000.1, dtype), device)
    for x in (a, tg.Tensor(a, requires_grad=True)):
        assert to_numpy(tg.var(x)) == 0 and to_numpy(tg.std(x)) == 0
    assert not to_numpy(tg.grad(tg.std(x), x)).any() and not to_numpy(tg.grad(tg.var(x), x)).any()
    assert tg.var(np.array([True, False, False, True])) == 0.25


def test_a_norm_of_many_numbers():
    x = np.full((200_000, 3), 1000.1)
    exact = math.sqrt(math.fsum([1000.1 * 1000.1] * len(x)))
    for found in (tg.norm(x, 0), tg.norm(x.T, 1), tg.norm(np.asfortranarray(x), 0)):
        np.testing.assert_allclose(found, exact, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variance_and_gradient_of_a_large_offset(dtype):
    x = (4096 + np.random.default_rng(0).integers(0, 64, (100_000, 2)) / 64).astype(dtype)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(tg.var(x, 0), wide.var(0), rtol=1e-6)
    np.testing.assert_allclose(tg.var(x, 0, ddof=1), wide.var(0, ddof=1), rtol=1e-6)
    leaf = tg.Tensor(x, requires_grad=True)
    found = tg.grad(tg.var(leaf, 0).sum(), leaf).numpy()
    exact = 2 * (wide - wide.mean(0)) / len(wide)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-3 / len(wide) if dtype == "float32" else 1e-12 / len(wide))


@pytest.mark.parametrize("features", [1, 3, 40])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_gradient_of_a_bias_over_many_rows(features, order):
    rows = 500_000
    rng = np.random.default_rng(1)
    x, g = rng.uniform(size=(rows, 2)).astype(np.float32), rng.uniform(size=(rows, features)).astype(np.float32)
    exact = g.sum(0, dtype=np.float64)
    g = np.asarray(g, order=order)
    weight = tg.Tensor(np.ones((features, 2), np.float32), requires_grad=True)
    bias = tg.Tensor(np.zeros(features, np.float32), requires_grad=True)
    by_dense = tg.grad(ops.dense(x, weight, bias), bias, g)
    by_hand = tg.grad(ops.add(ops.matmul(x, weight.T), bias), bias, g)  # summed back by `unbroadcast`
    np.testing.assert_allclose(by_dense.numpy(), exact, rtol=2e-7)
    np.testing.assert_allclose(by_hand.numpy(), exact, rtol=2e-7)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(4, 200, 200), (64, 50, 50)], ids=str)
def test_the_gradient_of_a_bias_of_a_convolution(channels, shape):
    n, height, width = shape
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(n, 1, height, width)).astype(np.float32)
    g = rng.uniform(size=(n, channels, height, width)).astype(np.float32)
    layer = nn.Conv2d(1, channels, 1).initialize(tg.random.Key(0))
    found = tg.grad(layer(x), layer.bias, g).numpy()
    np.testing.assert_allclose(found, g.sum((0, 2, 3), dtype=np.float64), rtol=2e-7)


def test_the_gradient_of_an_embedding_row_that_many_ask_for():
    table = tg.Tensor(np.zeros((3, 2), np.float32), requires_grad=True)
    index = np.zeros(300_000, np.int64)
    index[1::3] = 2
    g = np.full((len(index), 2), 0.1, np.float32)
    exact = np.float64(g[0, 0]) * np.array([200_000, 0, 100_000])
    for found in (tg.grad(ops.embedding(table, index), table, g), tg.grad(table[index], table, g),
                  tg.grad(table[index, :], table, g)):
        np.testing.assert_allclose(found.numpy(), np.stack([exact, exact], 1), rtol=2e-7)


SMALL = [(40, 3), (200, 3), (3, 200), (2, 3, 150, 2), (2, 3, 5, 7)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SMALL, ids=str)
@pytest.mark.parametrize("order", ["C", "last", "F"])
def test_on_every_device(device, shape, order, dtype):
    if order == "last" and len(shape) != 4:
        return
    a = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(dtype)
    x = to_device(laid_out(a, order), device)
    for axis, keepdims in itertools.product(all_axes(len(shape)), (False, True)):
        for name in ("sum", "mean", "var"):
            found = to_numpy(getattr(tg, name)(x, axis, keepdims))
            expected = getattr(np, name)(a.astype(np.longdouble), axis, keepdims=keepdims)
            assert found.dtype == dtype and found.shape == expected.shape
            np.testing.assert_allclose(found, expected.astype(dtype), rtol=200 * np.finfo(dtype).eps,
                                       atol=20 * np.finfo(dtype).eps, err_msg=f"{name} {axis} {keepdims}")


def test_many_rows_on_a_device(other_device):
    x = to_device(np.full((300_000, 3), 1000.1, np.float32), other_device)
    for a, axis in ((x, 0), (x.T, 1), (x.reshape(1000, 300, 3), (0, 1))):
        for keepdims in (False, True):
            assert (to_numpy(tg.mean(a, axis, keepdims)) == np.float32(1000.1)).all()
            assert not to_numpy(tg.var(a, axis, keepdims)).any()
            np.testing.assert_allclose(to_numpy(tg.sum(a, axis, keepdims)), np.float64(np.float32(1000.1)) * 3e5, rtol=1e-7)
    np.testing.assert_allclose(to_numpy(ops.sum_to(x, (3,))), np.float64(np.float32(1000.1)) * 3e5, rtol=1e-7)


def test_the_gradient_of_a_bias_on_a_device(other_device):
    g = np.full((200_000, 3), 1000.1, np.float32)
    x = to_device(np.ones((len(g), 1), np.float32), other_device)
    weight = tg.Tensor(to_device(np.ones((3, 1), np.float32), other_device), requires_grad=True)
    bias = tg.Tensor(to_device(np.zeros(3, np.float32), other_device), requires_grad=True)
    found = tg.grad(ops.dense(x, weight, bias), bias, tg.Tensor(to_device(g, other_device)))
    np.testing.assert_allclose(to_numpy(found), np.float64(g[0, 0]) * len(g), rtol=3e-7)


def test_sums_of_nothing():
    for axis in all_axes(3):
        for shape in ((0, 3, 2), (3, 0, 200), (200, 0, 3)):
            x = np.ones(shape, np.float32)
            np.testing.assert_array_equal(tg.sum(x, axis), x.sum(axis))


@pytest.mark.parametrize("name", ["sum", "mean", "var"])
def test_gradients_beyond_the_thresholds(name):
    a = np.random.default_rng(3).normal(size=(150, 2, 3))
    for axis in (0, (0, 1), (0, 2), None):
        tg.check_gradients(lambda x, axis=axis: getattr(tg, name)(x, axis), a, order=2)


def test_the_mean_of_a_large_window(device):
    x = np.full((1, 2, 60, 60), 1000.1, np.float32)
    for order in ("C", "last"):
        found = ops.avg_pool2d(to_device(laid_out(x, order), device), 60)
        np.testing.assert_allclose(to_numpy(found), np.full((1, 2, 1, 1), 1000.1), rtol=2e-7)


@pytest.mark.parametrize("dtype, bound", [(np.float32, 3e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("bias, activation", [(False, "identity"), (True, "identity"), (True, "leaky_relu"), (True, "relu")])
def test_products_of_many_terms(dtype, bound, bias, activation):
    """The weight gradient of a dense layer over 500,000 rows, and a dense layer of as many inputs."""
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(0.5, 1.5, (500_000, n)).astype(dtype) for n in (20, 12))
    exact = y.astype(np.float64).T @ x.astype(np.float64)
    shift = np.resize(-exact.mean(1), 20)  # so that the sums have both signs
    found = tg.dense(y.T, x.T, shift.astype(dtype), activation) if bias else tg.matmul(y.T, x)
    expected = exact + shift.astype(dtype) if bias else exact
    if activation != "identity":
        expected = np.where(expected > 0, expected, (0.2 if activation == "leaky_relu" else 0.0) * expected)
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= bound * exact.max()
