"""Reductions over any axes, with ties, negative axes, empty arrays and 0-d arrays."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, shapes, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis, keepdims=keepdims))


NUMPY = {"sum": np.sum, "mean": np.mean, "var": np.var, "max": np.max, "min": np.min, "logsumexp": logsumexp}
TORCH = {
    "sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "mean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "var": lambda x, axes, keep: x.var(axes, correction=0, keepdim=keep),
    "max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "logsumexp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
}


@st.composite
def reductions(draw, min_side=0):
    """A shape, an axis argument that leaves something to reduce, and keepdims."""
    shape = draw(shapes(min_dims=1, min_side=min_side))
    n = len(shape)
    usable = [i for i in range(n) if shape[i]]
    axes = draw(st.lists(st.sampled_from(usable), unique=True)) if usable else []
    axes = tuple(a - n if draw(st.booleans()) else a for a in axes)
    axis = None if 0 not in shape and draw(st.booleans()) else axes[0] if len(axes) == 1 and draw(st.booleans()) else axes
    return shape, axis, draw(st.booleans())


@pytest.mark.parametrize("name", NUMPY)
@given(case=reductions(), layout=layouts, seed=seeds)
def test_values_and_gradients(name, case, layout, seed):
    shape, axis, keepdims = case
    a = values(seed, shape)

    def op(x):
        return getattr(tg, name)(x, axis, keepdims)

    check_both_modes(op, NUMPY[name](a, axis=axis, keepdims=keepdims), a, layout=layout)
    check(op, a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NUMPY)
@given(case=reductions(), layout=layouts, seed=seeds)
def test_against_torch(device, name, case, layout, seed):
    shape, axis, keepdims = case
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if axes and not (name == "var" and 0 in shape):  # to PyTorch no axes are all axes, and it warns of empty variances
        agree(lambda x: getattr(tg, name)(x, axis, keepdims), lambda x: TORCH[name](x, axes, keepdims), values(seed, shape),
              device=device, layout=layout)


@pytest.mark.parametrize("name", NUMPY)
def test_zero_d(name):
    check_both_modes(getattr(tg, name), NUMPY[name](np.array(1.5)), np.array(1.5))
    check(getattr(tg, name), np.array(1.5))


@pytest.mark.parametrize("name", NUMPY)
def test_axis_as_list_and_numpy_integer(name):
    a = values(0, (2, 3, 2))
    op = getattr(tg, name)
    np.testing.assert_allclose(op(a, [0, 2]), NUMPY[name](a, axis=(0, 2)))
    np.testing.assert_allclose(op(a, np.int64(-2)), NUMPY[name](a, axis=1))


@pytest.mark.parametrize("ddof", [0, 1, 2])
def test_var_ddof(ddof):
    a = values(1, (3, 4))
    check_both_modes(lambda x: tg.var(x, 1, ddof=ddof), np.var(a, axis=1, ddof=ddof), a)
    check(lambda x: tg.var(x, 1, ddof=ddof), a)
    with pytest.raises(ValueError, match=r"var: 3 elements along axis .* needs more than ddof=3"):
        tg.var(a, 0, ddof=3)


def test_ties_share_the_gradient():
    a = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    np.testing.assert_allclose(gradients(lambda x: tg.max(x, 1), a)[0], [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_allclose(gradients(lambda x: tg.min(x, 1), a)[0], [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(gradients(lambda x: tg.max(x, keepdims=True), a)[0], [[0, 0.5, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(shape=shapes(min_dims=1), layout=layouts, seed=seeds, place=st.integers(0, 5))
def test_softmax(name, shape, layout, seed, place):
    axis = place % (2 * len(shape)) - len(shape)
    a = values(seed, shape)
    expected = np.exp(a) / np.exp(a).sum(axis, keepdims=True)
    op = getattr(tg, name)
    check_both_modes(lambda x: op(x, axis), expected if name == "softmax" else np.log(expected), a, layout=layout)
    check(lambda x: op(x, axis), a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_against_torch(device, name, axis):
    torch = pytest.importorskip("torch")
    agree(lambda x: getattr(tg, name)(x, axis), lambda x: getattr(torch, name)(x, axis), values(1, (3, 2, 4)), device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponentials_do_not_overflow(device, dtype):
    a = np.array([[1e4, 1e4 - 1, -1e4], [-np.inf, 0, 1], [-1e4, -1e4, -1e4]], dtype)
    with np.errstate(over="ignore", under="ignore"):
        highest = a.max(1, keepdims=True)
        parts = np.exp((a - highest).astype(np.float64))
        softmax = parts / parts.sum(1, keepdims=True)
    lse = np.log(parts.sum(1)) + highest[:, 0]
    check_both_modes(lambda x: tg.softmax(x, 1), softmax.astype(dtype), a, device=device, rtol=1e-6)
    check_both_modes(lambda x: tg.logsumexp(x, 1), lse.astype(dtype), a, device=device, rtol=1e-6)
    x = tg.Tensor(a, requires_grad=True)
    np.testing.assert_allclose(tg.grad(tg.logsumexp(x, 1).sum(), x).numpy(), softmax, rtol=1e-6, atol=1e-44)
    assert np.isfinite(tg.log_softmax(a, 1)[[0, 2]]).all()


LOWEST, HIGHEST = -np.inf, np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row, total, shares", [
    ([1e8, 1e8], 1e8, [0.5, 0.5]), ([-1e8, -1e8], -1e8, [0.5, 0.5]), ([3e38, 3e38], 3e38, [0.5, 0.5]),
    ([LOWEST, LOWEST], LOWEST, [0, 0]), ([HIGHEST, 1], HIGHEST, [1, 0]), ([HIGHEST, LOWEST], HIGHEST, [1, 0]),
    ([HIGHEST, 5, HIGHEST], HIGHEST, [0.5, 0, 0.5]), ([LOWEST, 1], 1, [0, 1]), ([np.nan, 1], np.nan, [np.nan] * 2),
    ([np.nan, HIGHEST], np.nan, [np.nan] * 2),
], ids=str)
@pytest.mark.filterwarnings("error")
def test_offsets_and_infinities(device, dtype, row, total, shares):
    """logsumexp, its gradient, softmax and its logarithm; and all that is finite has a finite second derivative."""
    x = tg.Tensor(to_device(np.array([row, row], dtype), device), requires_grad=True)
    y, p, logs = tg.logsumexp(x, 1), tg.softmax(x), tg.log_softmax(x)
    np.testing.assert_allclose(to_numpy(y), [total] * 2, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(p), [shares] * 2, rtol=1e-6)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(to_numpy(logs), [np.log(shares)] * 2, rtol=1e-6)
    g = tg.grad(y, x, to_device(np.ones(2, dtype), device), create_graph=True)
    np.testing.assert_allclose(to_numpy(g), [shares] * 2, rtol=1e-6)
    weights = np.arange(1.0, 1 + len(row))
    once = np.diag(shares) - np.outer(shares, shares)  # the derivative of softmax
    second = tg.grad((g * to_device(weights.astype(dtype), device)).sum(), x)
    np.testing.assert_allclose(to_numpy(second), [weights @ once] * 2, rtol=1e-6, atol=1e-7)
    first = tg.grad((p * to_device(weights.astype(dtype), device)).sum(), x, create_graph=True)
    np.testing.assert_allclose(to_numpy(first), [weights @ once] * 2, rtol=1e-6, atol=1e-7)
    assert np.isnan(total) or np.isfinite(to_numpy(tg.grad(first.sum(), x))).all()
    first = tg.grad(logs, x, to_device(np.tile(weights, (2, 1)).astype(dtype), device), create_graph=True)
    np.testing.assert_allclose(to_numpy(first), [weights - np.array(shares) * weights.sum()] * 2, rtol=1e-5, atol=1e-7)
    assert np.isnan(total) or np.isfinite(to_numpy(tg.grad(first.sum(), x))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 9000])
def test_what_the_likeliest_leaves_the_others(device, dtype, count):
    """Next to 1 lies a small number, and so do the slopes of both: as sigmoid's on either side."""
    if device == "emulated" and count > 1:
        pytest.skip("large arrays take the emulator too long")
    small, slope = 1 / (1 + np.exp(20.0)), np.exp(-20.0) / (1 + np.exp(-20.0)) ** 2
    pick = to_device(np.array([1, 0], dtype), device)
    for row, total in (([20, 0], 20), ([0, -20], np.log1p(np.exp(-20)))):
        x = tg.Tensor(to_device(np.tile(row, (count, 1)).astype(dtype), device), requires_grad=True)
        y, logs = tg.logsumexp(x, 1), tg.log_softmax(x)
        np.testing.assert_allclose(to_numpy(y)[0], total, rtol=1e-6)
        np.testing.assert_allclose(to_numpy(logs)[0, 0], np.log1p(-small), rtol=1e-6)
        for first, expected in ((tg.grad((tg.softmax(x) * pick).sum(), x), slope), (tg.grad((logs * pick).sum(), x), small)):
            np.testing.assert_allclose(to_numpy(first)[0], [expected, -expected], rtol=1e-6)
        g = tg.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(to_numpy(tg.grad((g * pick).sum(), x))[0], [slope, -slope], rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_both_orders_where_one_is_far_likelier(name):
    for a in ([[8.0, 0, 1], [-3, 5, 5]], [[1e6, 1e6 + 2, 1e6 - 7]]):
        check(lambda x: getattr(tg, name)(x, 1), np.array(a))


def test_many_terms_are_all_counted():
    """One after the other into a float32, they would lose digits."""
    x = np.full((500_000, 2), -7.3, np.float32)
    x[0] = 0
    total = 1 + (len(x) - 1) * np.exp(np.float64(x[1, 0]))
    np.testing.assert_allclose(tg.logsumexp(x, 0), np.log(total), rtol=2e-7)
    np.testing.assert_allclose(tg.softmax(x, 0)[0], 1 / total, rtol=2e-7)


@pytest.mark.parametrize("name, value, slope", [("softmax", 1, 0), ("log_softmax", 0, 0), ("logsumexp", 1.5, 1)])
@pytest.mark.parametrize("axis", [0, -1])
def test_the_axis_of_a_single_number(device, name, value, slope, axis):
    """As in NumPy and PyTorch."""
    def op(x):
        return getattr(tg, name)(x, axis)

    check_both_modes(op, np.float64(value), np.array(1.5), device=device)
    check(op, np.array(1.5))
    assert gradients(op, 1.5)[0] == slope
    with pytest.raises(ValueError, match=rf"{name}: axis 1 is out of range for an input of shape \(\)"):
        getattr(tg, name)(np.array(1.5), 1)


@pytest.mark.parametrize("shape, axis", [((2, 0), 1), ((0,), 0), ((0, 3), 0), ((0, 3), 1)])
def test_over_an_empty_axis(device, shape, axis):
    """softmax has nothing to say, and the sum of no exponentials is 0."""
    a = np.ones(shape)
    for name in ("softmax", "log_softmax"):
        check_both_modes(lambda x, name=name: getattr(tg, name)(x, axis), a, a, device=device)
        check(lambda x, name=name: getattr(tg, name)(x, axis), a)
    check_both_modes(lambda x: tg.logsumexp(x, axis), np.full(a.max(axis, initial=0).shape, -np.inf), a, device=device)
    x = tg.Tensor(to_device(a, device), requires_grad=True)
    for name in ("softmax", "log_softmax", "logsumexp"):
        assert tg.grad(getattr(tg, name)(x, axis).sum(), x).shape == shape


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg(device, name):
    a = values(5, (3, 4, 2))
    a[:, 2] = a[:, 1]  # of equal ones the first counts
    for axis in (None, 0, 1, -1):
        check_both_modes(lambda x, axis=axis: getattr(tg, name)(x, axis), getattr(np, name)(a, axis), a, device=device)
    assert not getattr(tg, name)(tg.Tensor(a, requires_grad=True)).requires_grad
    assert getattr(tg, name)(np.array([3, 1, 2])) == {"argmax": 0, "argmin": 1}[name]


ALL = [*NUMPY, "argmax", "argmin", "softmax", "log_softmax"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("axis", [2, -3])
def test_axes_out_of_range_are_refused(name, axis):
    with pytest.raises(ValueError, match=rf"{name}: axis {axis} is out of range for an input of shape \(2, 3\)"):
        getattr(tg, name)(tg.Tensor(np.ones((2, 3))), axis)


@pytest.mark.parametrize("name", ALL)
def test_strange_axes_and_inputs_are_refused(name):
    op = getattr(tg, name)
    for axis in ("a", 1.0, [0.5]):
        with pytest.raises(TypeError, match=f"{name}: axis should be an integer"):
            op(np.ones((2, 3)), axis)
    for x in ([1.0], 1.0, None):
        with pytest.raises(TypeError, match=f"{name}: expected a Tensor or an array, got {type(x).__name__}"):
            op(x, 0)
    with pytest.raises((ValueError, TypeError), match=f"{name}: axis"):
        op(np.ones((2, 3)), (1, -1))


@pytest.mark.parametrize("name", ["mean", "var", "max", "min", "argmax", "argmin"])
def test_nothing_to_reduce_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: .*\(2, 0\)"):
        getattr(tg, name)(tg.Tensor(np.ones((2, 0))), 1)


def test_the_sum_of_nothing_is_zero():
    x = tg.Tensor(np.ones((2, 0)), requires_grad=True)
    np.testing.assert_array_equal(tg.sum(x, 1).numpy(), [0, 0])
    assert tg.grad(tg.sum(x), x).shape == (2, 0)


@pytest.mark.parametrize("name", [*NUMPY, "softmax", "log_softmax"])
def test_dtypes_that_are_refused(name):
    for dtype in ("float16",) if name in ("sum", "mean", "max", "min") else ("int64", "float16"):
        with pytest.raises(TypeError, match=f"needs float32 or float64, got {dtype}"):
            getattr(tg, name)(np.ones(3, dtype), 0)


# -- NaN, single numbers, masks and integers ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("count", [1, 5000])
def test_the_gradient_of_an_extreme_goes_to_the_nan(device, dtype, name, count):
    rows = [([1, np.nan, 3], [0, 1, 0]), ([np.nan, 5, np.nan], [0.5, 0, 0.5]), ([np.inf, np.nan, -np.inf], [0, 1, 0]),
            ([2, 2, 2], [1 / 3] * 3), ([1, 2, 3], [0, 0, 1] if name == "max" else [1, 0, 0])]
    a, expected = (np.repeat(np.array([row[i] for row in rows], dtype), count, 0) for i in (0, 1))
    x = tg.Tensor(to_device(a, device), requires_grad=True)
    y = getattr(tg, name)(x, 1)
    np.testing.assert_array_equal(to_numpy(y), getattr(np, name)(a, 1))
    for create_graph in (False, True):
        g = tg.grad(y.sum(), x, create_graph=create_graph, retain_graph=True)
        np.testing.assert_allclose(to_numpy(g), expected, rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_against_torch(name):
    torch = pytest.importorskip("torch")
    for row in ([1, np.nan, 3], [np.nan, np.nan, 0], [np.inf, np.nan, np.nan]):
        t = torch.tensor(row, requires_grad=True)
        getattr(t, name)().backward()
        np.testing.assert_array_equal(gradients(getattr(tg, name), row)[0], t.grad.numpy())


OF_ONE = {**NUMPY, "std": np.std, "norm": np.abs, "prod": np.prod, "any": np.any, "all": np.all, "argmax": np.argmax,
          "argmin": np.argmin, "cumsum": lambda x: x}


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("axis", [0, -1, (0,), (-1,), [0], np.int64(0), None])
def test_a_single_number_has_an_axis(device, name, axis):
    if name in ("argmax", "argmin", "cumsum") and (axis is None or isinstance(axis, tuple | list)):
        return
    for dtype in ("float32", "float64"):
        a = np.array(-1.5, dtype)
        keywords = [{}] if name in ("argmax", "argmin", "cumsum") else [{"keepdims": False}, {"keepdims": True}]
        for keyword in keywords:
            expected = np.asarray(OF_ONE[name](a))
            check_both_modes(lambda x, keyword=keyword: getattr(tg, name)(x, axis, **keyword), expected, a, device=device,
                             rtol=1e-6)
        if name not in ("any", "all", "argmax", "argmin") and device == "cpu":
            tg.check_gradients(lambda x: getattr(tg, name)(x, axis), a)
    for wrong in (1, -2):
        with pytest.raises(ValueError, match=rf"{name}: axis {wrong} is out of range for an input of shape \(\)"):
            getattr(tg, name)(to_device(np.array(1.5), device), wrong)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (80, 90), (2, 60, 8, 9), (3, 70, 1)])
@pytest.mark.parametrize("dtype", ["bool", "int64", "int32", "uint8"])
def test_sums_and_means_of_masks_and_integers(device, shape, dtype):
    a = (np.arange(int(np.prod(shape))) % 7).reshape(shape).astype(dtype)
    for axis in (None, *range(len(shape)), (0, 1), (0, 2, 3)):
        if (isinstance(axis, tuple) and len(axis) > len(shape)) or (axis == (0, 2, 3) and len(shape) != 4):
            continue
        for keepdims in (False, True):
            check_both_modes(lambda x, axis=axis, keep=keepdims: tg.sum(x, axis, keep), np.sum(a, axis, keepdims=keepdims), a,
                             device=device)
            if a.size:
                check_both_modes(lambda x, axis=axis, keep=keepdims: tg.mean(x, axis, keep),
                                 np.mean(a, axis, keepdims=keepdims).astype(np.float32), a, device=device)
                for name in ("max", "min"):
                    check_both_modes(lambda x, axis=axis, keep=keepdims, name=name: getattr(tg, name)(x, axis, keep),
                                     getattr(np, name)(a, axis, keepdims=keepdims), a, device=device)
    y = tg.Tensor(a)
    assert not y.sum().requires_grad and y.sum().tolist() == int(a.sum())


def test_the_mean_of_a_mask():
    x = tg.Tensor([1.0, -2.0, 3.0, 4.0], requires_grad=True)
    assert tg.sum(x > 0).dtype == np.int64 and tg.sum(x > 0).item() == 3
    assert (x > 0).mean().dtype == np.float32 and (x > 0).mean().item() == 0.75
    assert tg.mean(np.full(3, 2**24 + 1)).item() == np.float32(2**24 + 1)  # no sum in float32
    with pytest.raises(ValueError, match=r"mean: no elements along axis .*\(0,\)"):
        tg.mean(np.zeros(0, bool))
    g = tg.grad((x * (x > 0).mean().item()).sum(), x)
    np.testing.assert_array_equal(g.numpy(), [0.75] * 4)


@pytest.mark.parametrize("name", ["any", "all"])
@pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "float64"])
@given(case=reductions(), layout=layouts, seed=seeds)
def test_any_and_all(device, name, dtype, case, layout, seed):
    shape, axis, keepdims = case
    a = np.round(values(seed, shape, -1, 1)).astype(dtype)
    check_both_modes(lambda x: getattr(tg, name)(x, axis, keepdims), getattr(np, name)(a, axis, keepdims=keepdims), a,
                     device=device, layout=layout)


def test_any_and_all_of_nan_and_nothing(device):
    assert tg.any(to_device(np.array([0.0, np.nan]), device)) and not tg.all(to_device(np.array([0.0, np.nan]), device))
    assert not tg.any(to_device(np.zeros(0), device)) and tg.all(to_device(np.zeros(0), device))
    assert bool(tg.Tensor([1.0, 2.0]).all()) and not bool((tg.Tensor([1.0, 2.0]) > 2).any())
    assert not tg.any(tg.Tensor([1.0], requires_grad=True)).requires_grad
