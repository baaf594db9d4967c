"""prod and cumsum: zeros, long sums, all orders; against PyTorch, NumPy and finite differences."""
from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, shapes, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg

DTYPES = ["float32", "float64"]


@given(shape=shapes(min_dims=1), keepdims=st.booleans(), place=st.integers(0, 5), layout=layouts, seed=seeds)
def test_prod(shape, keepdims, place, layout, seed):
    a = values(seed, shape)
    axis = None if place % 3 == 2 else place % len(shape) - len(shape)
    check_both_modes(lambda x: tg.prod(x, axis, keepdims), np.prod(a, axis, keepdims=keepdims), a, layout=layout)
    check(lambda x: tg.prod(x, axis, keepdims), a, layout=layout)


def without_one(a):
    """For each element of a row, the product of the others, by a plain loop."""
    return [math.prod(a[:i] + a[i + 1:]) for i in range(len(a))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [2.0, 3.0, 0.0, 5.0, 0.5], [-0.0, 4.0], [0.0],
                                 [3.0], [1.5] * 7, [0.5, 0.0, *[1.25] * 15]])
def test_the_gradient_of_prod_at_zeros(device, dtype, row):
    x = tg.Tensor(to_device(np.array(row, dtype), device), requires_grad=True)
    np.testing.assert_allclose(to_numpy(tg.grad(tg.prod(x), x)), without_one(row), rtol=1e-6)
    g = tg.grad(tg.prod(x), x, create_graph=True)
    if len(row) == 1:
        return
    second = tg.grad(g.sum(), x)
    others = [sum(math.prod(row[k] for k in range(len(row)) if k not in (i, j)) for j in range(len(row)) if j != i)
              for i in range(len(row))]
    np.testing.assert_allclose(to_numpy(second), others, rtol=1e-6)
    if device == "cpu":
        tg.check_gradients(tg.prod, np.array(row), order=2)


@pytest.mark.oracle
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_prod_against_torch(device, axis):
    torch = pytest.importorskip("torch")
    a = values(0, (3, 5, 2))
    a[0, 1] = a[1, 2:4] = a[2, 0, 0] = 0
    agree(lambda x: tg.prod(x, axis), lambda x: torch.prod(x, axis), a, device=device)
    agree(lambda x: tg.prod(x, axis, True), lambda x: torch.prod(x, axis, True), a, device=device)
    agree(tg.prod, torch.prod, a[:, :, 0], device=device)


def test_prod_over_several_axes(device):
    a = values(0, (2, 3, 4))
    for axis in ((0, 2), (1, 2), (2, 0), (), [0, 1]):
        check_both_modes(lambda x, axis=axis: tg.prod(x, axis), np.prod(a, tuple(axis)), a, device=device)
        if device == "cpu":
            check(lambda x, axis=axis: tg.prod(x, axis), a)


def test_a_large_prod():
    a = np.exp(values(0, (3, 5000), -0.01, 0.01))
    check_both_modes(lambda x: tg.prod(x, 1), np.exp(np.log(a).sum(1)), a)
    np.testing.assert_allclose(gradients(lambda x: tg.prod(x, 1), a)[0], np.exp(np.log(a).sum(1))[:, None] / a, rtol=1e-10)


def test_prod_of_nothing_and_of_integers(device):
    for dtype in DTYPES:
        check_both_modes(lambda x: tg.prod(x, 1), np.ones(2, dtype), np.ones((2, 0), dtype), device=device)
        x = tg.Tensor(to_device(np.ones((2, 0), dtype), device), requires_grad=True)
        assert tg.grad(tg.prod(x, 1).sum(), x).shape == (2, 0)
        for axis in (None, 0, -1):
            check_both_modes(lambda x, axis=axis: tg.prod(x, axis), np.array(3, dtype), np.array(3, dtype), device=device)
    check_both_modes(tg.prod, np.array(24), np.array([2, 3, 4]), device=device)
    check_both_modes(lambda x: tg.prod(x, 0), np.array([0, 1]), np.array([[True, True], [False, True]]), device=device)


@given(shape=shapes(min_dims=1), place=st.integers(0, 5), layout=layouts, seed=seeds)
def test_cumsum(shape, place, layout, seed):
    a = values(seed, shape)
    axis = place % len(shape) - len(shape)
    check_both_modes(lambda x: tg.cumsum(x, axis), np.cumsum(a, axis), a, layout=layout)
    check_both_modes(tg.cumsum, np.cumsum(a), a, layout=layout)
    check(lambda x: tg.mul(tg.cumsum(x, axis), tg.cumsum(x, axis)), a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum_against_torch(device, axis):
    torch = pytest.importorskip("torch")
    agree(lambda x: tg.exp(tg.cumsum(x, axis)), lambda x: torch.exp(torch.cumsum(x, axis)), values(0, (3, 5, 2)), device=device)


def test_a_long_cumsum_loses_no_term():
    n = 2**24 + 1000
    assert tg.cumsum(np.ones(n, np.float32))[-1] == n  # in float32 it would stop at 2**24
    x = tg.Tensor(np.full((1000, 3), 0.1, np.float32), requires_grad=True)
    y = tg.cumsum(x, 0)
    steps = np.arange(1, 1001)[:, None] * np.ones(3)
    np.testing.assert_allclose(y.numpy(), np.float32(0.1).astype(float) * steps, rtol=1e-7)
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), steps[::-1])


def test_cumsum_of_single_numbers_integers_and_masks(device):
    for dtype in DTYPES:
        for axis in (0, -1):
            check_both_modes(lambda x, axis=axis: tg.cumsum(x, axis), np.array(3, dtype), np.array(3, dtype), device=device)
        check_both_modes(tg.cumsum, np.array([3], dtype), np.array(3, dtype), device=device)
    check_both_modes(tg.cumsum, np.array([1, 3, 6]), np.array([1, 2, 3]), device=device)
    check_both_modes(lambda x: tg.cumsum(x, 0), np.array(2), np.array(2), device=device)
    check_both_modes(lambda x: tg.cumsum(x, 1), np.array([[1, 1, 2]]), np.array([[True, False, True]]), device=device)
    check_both_modes(lambda x: tg.cumsum(x, 0), np.array([3, 258], np.uint64), np.array([3, 255], np.uint8), device=device)
    check_both_modes(lambda x: tg.cumsum(x, 0), np.zeros((0, 2), np.int64), np.zeros((0, 2), bool), device=device)
    x = tg.Tensor(2.0, requires_grad=True)
    assert tg.grad(tg.cumsum(x, 0) * 3.0, x).item() == 3


@pytest.mark.parametrize("name", ["prod", "cumsum"])
def test_what_is_refused(name):
    with pytest.raises(TypeError, match=f"{name}: needs float32 or float64, got float16"):
        getattr(tg, name)(np.ones(3, np.float16), 0)
    with pytest.raises(ValueError, match=rf"{name}: axis -3 is out of range for an input of shape \(2, 3\)"):
        getattr(tg, name)(np.ones((2, 3)), -3)
    with pytest.raises(ValueError, match=rf"{name}: axis 1 is out of range for an input of shape \(\)"):
        getattr(tg, name)(np.array(1.0), 1)
    with pytest.raises(TypeError, match=f"{name}: expected a Tensor or an array, got list"):
        getattr(tg, name)([1.0])
    with pytest.raises(TypeError, match=f"{name}: axis should be an integer"):
        getattr(tg, name)(np.ones(3), 1.0)
