"""norm and std: values at any scale, and gradients that are 0 where they are; against PyTorch and finite differences."""
from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import (
    agree,
    check,
    check_both_modes,
    close,
    gradients,
    layouts,
    seeds,
    shapes,
    smallest,
    to_device,
    to_numpy,
    values,
)
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn

DTYPES = ["float32", "float64"]
CASES = [((3, 4), None), ((3, 4), 0), ((3, 4), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), -1), ((5,), 0), ((70, 90), 0), ((70, 90), 1)]


@given(shape=shapes(min_dims=1, min_side=1), keepdims=st.booleans(), place=st.integers(0, 5), layout=layouts, seed=seeds)
def test_values_and_gradients(shape, keepdims, place, layout, seed):
    a = values(seed, shape)
    axis = None if place % 3 == 2 else place % len(shape) - len(shape)
    check_both_modes(lambda x: tg.norm(x, axis, keepdims), np.sqrt(np.sum(a * a, axis, keepdims=keepdims)), a, layout=layout)
    check(lambda x: tg.norm(x, axis, keepdims), a, layout=layout)
    check_both_modes(lambda x: tg.std(x, axis, keepdims), np.std(a, axis, keepdims=keepdims), a, layout=layout)
    if (a.size if axis is None else shape[axis]) > 2:  # (of two elements it has a kink where they are equal)
        check(lambda x: tg.std(x, axis, keepdims, ddof=1), a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("shape, axis", CASES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_against_torch(device, shape, axis, keepdims):
    torch = pytest.importorskip("torch")
    axes = tuple(range(len(shape))) if axis is None else axis
    if device == "emulated" and math.prod(shape) > 1000:
        return
    agree(lambda x: tg.norm(x, axis, keepdims), lambda x: torch.linalg.vector_norm(x, dim=axes, keepdim=keepdims),
          values(0, shape), device=device)
    for d in (0, 1):
        agree(lambda x, d=d: tg.std(x, axis, keepdims, d), lambda x, d=d: x.std(axes, correction=d, keepdim=keepdims),
              values(1, shape), device=device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e20, 1e-25, 3e-39, 1e37, 1e-310, 1e300])
@pytest.mark.parametrize("count", [2, 6000])
def test_squares_neither_overflow_nor_vanish(device, dtype, scale, count):
    if dtype == "float32" and not 1e-40 < scale < 1e38:
        return
    a = np.tile(np.array([3.0, -4.0]), count // 2)
    length = 5 * np.sqrt(count / 2)
    if dtype == "float32" and length * scale > 1e38:
        return
    if scale < smallest(device, dtype):
        return
    scaled = (a * scale).astype(dtype)
    x = tg.Tensor(to_device(scaled, device), requires_grad=True)
    y = tg.norm(x)
    if count == 2 and scale == 1:
        assert y.item() == 5
    rtol = 1e-6 if scale > 1e-38 and dtype == "float32" else 1e-14 if scale > 1e-307 else 1e-5
    rtol = max(rtol, 1e-6) if dtype == "float32" else rtol
    exact = math.fsum((v / scale) ** 2 for v in scaled.astype(np.float64).tolist()) ** 0.5 * scale
    np.testing.assert_allclose(y.item(), exact, rtol=rtol)
    np.testing.assert_allclose(to_numpy(tg.grad(y, x)), a / length, rtol=max(rtol, 2e-6 if dtype == "float32" else 0))
    if 1e-300 < scale < 1e300 and scale != 3e-39:
        x = tg.Tensor(to_device(scaled, device), requires_grad=True)
        spread = tg.std(x)
        np.testing.assert_allclose(spread.item(), np.std(a) * scale, rtol=2e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["norm", "std"])
@pytest.mark.parametrize("size", [1, 4, 5000])
def test_gradients_of_every_order_are_zero_where_the_value_is(device, dtype, name, size):
    a = np.zeros((3, size), dtype)
    a[1] = np.linspace(1, 2, size)
    if name == "std":
        a[2] = 1  # constant, but not 0
    x = tg.Tensor(to_device(a, device), requires_grad=True)
    y = getattr(tg, name)(x, 1)
    zero = [0, 2] if size > 1 or name == "norm" else [0, 1, 2]
    g = tg.grad(y.sum(), x, create_graph=True)
    weights = tg.Tensor(to_device(values(0, a.shape).astype(dtype), device))
    second = tg.grad((g * weights).sum(), x, create_graph=True)
    third = tg.grad((second * second).sum(), x)
    for found in (y, g, second, third):
        found = to_numpy(found)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[zero], 0)


@pytest.mark.oracle
def test_a_gradient_penalty_where_gradients_vanish():
    """WGAN-GP's penalty (Gulrajani et al. 2017, section 4) of a ReLU critic, some of whose gradients are exactly 0."""
    torch = pytest.importorskip("torch")
    w1, w2 = values(0, (5, 3)).astype(np.float64), np.abs(values(1, (1, 5)))
    points = values(2, (6, 3))
    bias = np.full(5, -100.0)
    for b, vanish in ((bias, True), (np.zeros(5), False)):
        def penalty(lib, relu, norm, grad, x, w1, w2, b=b):
            y = relu(x @ w1.T + b) @ w2.T
            g = grad(y, x)
            return ((norm(g) - 1) ** 2).mean() + (y ** 2).mean()

        leaves = [tg.Tensor(a, requires_grad=True) for a in (points, w1, w2)]
        ours = penalty(tg, tg.relu, lambda g: tg.norm(g, 1), lambda y, x: tg.grad(y.sum(), x, create_graph=True), *leaves)
        t_leaves = [torch.tensor(a, requires_grad=True) for a in (points, w1, w2)]
        theirs = penalty(torch, torch.relu, lambda g: g.norm(dim=1),
                         lambda y, x: torch.autograd.grad(y.sum(), x, create_graph=True)[0], *t_leaves, b=torch.tensor(b))
        assert not vanish or ours.item() == 1  # every gradient is 0
        np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-12)
        for g, t_g in zip(tg.grad(ours, leaves), torch.autograd.grad(theirs, t_leaves, materialize_grads=True), strict=True):
            close(g.numpy(), t_g.numpy(), 1e-12)


def test_a_penalty_trains_through_the_layers():
    critic = nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 1)).initialize(tg.random.Key(0))
    x = tg.Tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    critic.load_state_dict({**critic.state_dict(), "0.bias": np.full(4, -1, np.float32)})  # every unit is off
    g = tg.grad(critic(x).sum(), x, create_graph=True)
    for gradient in tg.grad(((tg.norm(g, 1) - 1.0) ** 2).mean(), list(critic.parameters())):
        np.testing.assert_array_equal(gradient.numpy(), np.zeros(gradient.shape))


def test_infinities_and_nan(device):
    for dtype in DTYPES:
        a = np.array([[np.inf, 1], [np.nan, 1], [-np.inf, np.nan], [0, 2]], dtype)
        with np.errstate(invalid="ignore"):
            check_both_modes(lambda x: tg.norm(x, 1), np.array([np.inf, np.nan, np.nan, 2], dtype), a, device=device)


def test_single_numbers_and_nothing(device):
    for dtype in DTYPES:
        for axis in (None, 0, -1):
            check_both_modes(lambda x, axis=axis: tg.norm(x, axis), np.array(2, dtype), np.array(-2, dtype), device=device)
            check_both_modes(lambda x, axis=axis: tg.std(x, axis), np.array(0, dtype), np.array(-2, dtype), device=device)
        empty = np.ones((2, 0), dtype)
        check_both_modes(lambda x: tg.norm(x, 1), np.zeros(2, dtype), empty, device=device)
        check_both_modes(tg.norm, np.zeros((), dtype), empty, device=device)
        check_both_modes(lambda x: tg.norm(x, 0, True), np.zeros((1, 0), dtype), empty, device=device)
        x = tg.Tensor(to_device(empty, device), requires_grad=True)
        assert tg.grad(tg.norm(x), x).shape == (2, 0)
    np.testing.assert_array_equal(gradients(tg.norm, np.array(-3.0))[0], -1)
    for ddof, axis in ((0, 1), (2, 0)):
        with pytest.raises(ValueError, match=rf"std: . elements along axis .* needs more than ddof={ddof}"):
            tg.std(np.ones((2, 0)), axis, ddof=ddof)


@pytest.mark.parametrize("name", ["norm", "std"])
def test_what_is_refused(name):
    for dtype in ("int64", "float16", *(["bool"] if name == "norm" else [])):  # (of a mask std is that of zeros and ones)
        with pytest.raises(TypeError, match="needs float32 or float64"):
            getattr(tg, name)(np.ones(3, dtype), 0)
    with pytest.raises(ValueError, match=rf"{name}: axis 2 is out of range for an input of shape \(2, 3\)"):
        getattr(tg, name)(np.ones((2, 3)), 2)
    with pytest.raises(TypeError, match=f"{name}: expected a Tensor or an array, got list"):
        getattr(tg, name)([1.0])
