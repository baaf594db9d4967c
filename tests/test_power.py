"""Powers at bases of 0 and below: values, gradients of both orders and their limits, against PyTorch and the formulas."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import check, gradients, to_device, to_numpy, values

import tinygan as tg

INF, NAN = np.inf, np.nan
EXPONENTS = [3.0, 2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0]
DTYPES = ["float32", "float64"]

# base, exponent, gradient by the base, by the exponent
FIRST = [
    (0, 2, 0, 0), (0, 1, 1, 0), (0, 0.5, INF, 0), (0, 0, 0, 0), (0, -0.5, -INF, -INF), (0, -1, -INF, -INF),
    (0, -2, -INF, -INF), (0, -INF, -INF, -INF), (0, NAN, NAN, NAN),
    (-2, 3, 12, NAN), (-2, 2, -4, NAN), (-2, 1, 1, NAN), (-2, 0, 0, NAN), (-2, -1, -0.25, NAN), (-2, 0.5, NAN, NAN),
    (2, 0, 0, np.log(2)), (2, 3, 12, 8 * np.log(2)), (2, -1, -0.25, 0.5 * np.log(2)), (1, NAN, NAN, 0), (1, INF, INF, 0),
    (INF, 2, INF, INF), (INF, 0, 0, INF), (INF, -1, 0, 0), (-INF, 2, -INF, NAN),
    (NAN, 0, 0, NAN), (NAN, 1, 1, NAN), (NAN, 2, NAN, NAN),
]
# base, exponent: twice by the base, by the base and the exponent, twice by the exponent; at 0 the limits from the right of
# b (b - 1) a^(b - 2), a^(b - 1) (1 + b log a), a^b log(a)^2
SECOND = [
    (0, 3, 0, 0, 0), (0, 2, 2, 0, 0), (0, 1.5, INF, 0, 0), (0, 1, 0, -INF, 0), (0, 0.5, -INF, -INF, 0), (0, 0, 0, INF, 0),
    (0, -0.5, INF, INF, INF), (0, -1, INF, INF, INF),
    (-2, 3, -12, NAN, NAN), (-2, 2, 2, NAN, NAN), (-2, 1, 0, NAN, NAN), (-2, 0, 0, NAN, NAN), (-2, -1, -0.25, NAN, NAN),
    (2, 2, 2, 2 + 4 * np.log(2), 4 * np.log(2) ** 2), (2, 0, 0, 0.5, np.log(2) ** 2),
]


def first(a, b, device="cpu"):
    """The gradients of a ** b by both, in float64 or float32, under create_graph."""
    leaves = [tg.Tensor(to_device(x, device), requires_grad=True) for x in (a, b)]
    return leaves, tg.grad(tg.pow(*leaves).sum(), leaves, create_graph=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 300])  # below and above the compiled kernels' sizes
def test_gradients_where_a_limit_is_needed(device, dtype, count):
    a, b, by_base, by_exponent = np.repeat(np.array(FIRST, dtype), count, 0).T.copy()
    with np.errstate(all="ignore"):
        leaves, recorded = first(a, b, device)
        plain = tg.grad(tg.pow(*leaves).sum(), leaves)
    for ga, gb in (recorded, plain):
        assert ga.dtype == gb.dtype == dtype
        np.testing.assert_allclose(to_numpy(ga), by_base, rtol=1e-6)
        np.testing.assert_allclose(to_numpy(gb), by_exponent, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_second_gradients_where_a_limit_is_needed(device, dtype):
    a, b, twice_by_base, mixed, twice_by_exponent = np.array(SECOND, dtype).T.copy()
    with np.errstate(all="ignore"):
        leaves, (ga, gb) = first(a, b, device)
        of_ga, of_gb = tg.grad(ga.sum(), leaves, retain_graph=True), tg.grad(gb.sum(), leaves, retain_graph=True)
    for found, expected in ((of_ga[0], twice_by_base), (of_ga[1], mixed), (of_gb[0], mixed), (of_gb[1], twice_by_exponent)):
        np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("base", [-2.0, 0.0, 1.0, 2.5, INF, NAN])
def test_first_gradients_against_torch(base):
    torch = pytest.importorskip("torch")
    b = np.array([*EXPONENTS, NAN])
    a = np.full(len(b), base)
    leaves = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    expected = torch.autograd.grad((leaves[0] ** leaves[1]).sum(), leaves)
    with np.errstate(all="ignore"):
        _, found = first(a, b)
    for ours, theirs in zip(found, expected, strict=True):
        # Where PyTorch multiplies 0 by infinity, the limit is 0.
        theirs = np.where(np.isinf(base) & (b < 0), 0, theirs.numpy())
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("base", [-2.0, 0.0, 0, 1, 1.0, 2.5, INF, NAN, np.float64(0.0), np.int64(-1)])
def test_a_plain_number_as_base_is_as_an_array(device, dtype, base):
    b = np.array([*EXPONENTS, NAN], dtype)
    exponent = tg.Tensor(to_device(b, device), requires_grad=True)
    with np.errstate(all="ignore"):
        found = tg.grad((base ** exponent).sum(), exponent)
        expected = np.where(b == b, np.power(float(base), b) * np.log(float(base)), NAN)
        _, (_, as_array) = first(np.full(len(b), base, dtype), b)
    if base == 0:
        expected = np.array([0] * 6 + [-INF] * 3 + [NAN])
    elif np.isinf(base):
        expected = np.array([INF] * 6 + [0] * 3 + [NAN])
    elif base == 1:
        expected = np.zeros(len(b))
    assert found.dtype == dtype
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(found), as_array.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [*EXPONENTS, 0, 1, 2, -1, np.float64(0.5), np.int64(0)])
def test_a_plain_number_as_exponent_is_as_an_array(device, dtype, exponent):
    a = np.array([-2.0, 0.0, 0.5, 3.0, INF, NAN], dtype)
    x = tg.Tensor(to_device(a, device), requires_grad=True)
    with np.errstate(all="ignore"):
        g = tg.grad((x ** exponent).sum(), x, create_graph=True)
        second = tg.grad(g.sum(), x)
        (leaf, _), (expected, _) = first(a, np.full(len(a), exponent, dtype))
        second_expected = tg.grad(expected.sum(), leaf)
    np.testing.assert_allclose(to_numpy(g), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(second), second_expected.numpy(), rtol=1e-6)


def test_the_exponent_0_gives_zeros_of_every_order():
    x = tg.Tensor([-2.0, 0.0, 3.0], requires_grad=True)
    g = x
    y = x ** 0
    assert y.requires_grad and y.tolist() == [1, 1, 1]
    for _ in range(3):
        g = tg.grad(y.sum(), x, create_graph=True)
        assert g.requires_grad and g.tolist() == [0, 0, 0]
        y = g
    (x ** 0).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_a_gradient_that_needs_no_limit_warns_of_nothing():
    a, b = np.array([-2.0, 0.0, 3.0]), np.array([2.0, 2.0, 0.5])
    gradients(tg.pow, a, b)  # a warning would be an error
    gradients(lambda b: tg.pow(-2.0, b), np.array([2.0, 1.0]))


def test_against_finite_differences():
    a, b = values(0, (3, 4), 0.2, 2), values(1, (1, 4))
    check(tg.pow, a, b)
    check(lambda a: tg.pow(a, values(1, (3, 1))), a)
    check(lambda b: tg.pow(np.abs(a), b), b)
    check(lambda x: tg.pow(x, np.array([3.0, 2.0, 1.0, 0.0])), values(2, (3, 4)))  # negative bases, too

    def gradient(a, b):
        a, b = (x if x.requires_grad else tg.Tensor(x, requires_grad=True) for x in (a, b))
        return tg.add(*tg.grad(tg.pow(a, b).sum(), [a, b], create_graph=True))

    tg.check_gradients(gradient, a, np.broadcast_to(b, a.shape))  # the third order
