"""Arrays of booleans in arithmetic: 0 and 1, in the other input's precision, and constants to `grad`."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import to_device, to_numpy

import tinygan as tg

rng = np.random.default_rng(0)
SHAPES = [((3,), (3,)), ((4, 3), (3,)), ((3,), (4, 3)), ((4, 1), (1, 3)), ((4, 3), ()), ((70, 80), (70, 80)), ((70, 80), (80,))]
OPS = {
    "mul": (lambda x, m: x * m, lambda x, m: x * m, lambda x, m: m), "mul reversed": (lambda x, m: m * x, lambda x, m: m * x,
                                                                                  lambda x, m: m),
    "add": (lambda x, m: x + m, lambda x, m: x + m, lambda x, m: np.ones_like(x * m)),
    "sub": (lambda x, m: x - m, lambda x, m: x - m, lambda x, m: np.ones_like(x * m)),
    "sub reversed": (lambda x, m: m - x, lambda x, m: m - x, lambda x, m: -np.ones_like(x * m)),
    "div reversed": (lambda x, m: m / x, lambda x, m: m / x, lambda x, m: -m / x**2),
    "pow": (lambda x, m: x**m, lambda x, m: x**m, lambda x, m: m * np.ones_like(x * m)),
    "maximum": (lambda x, m: tg.maximum(x, m), np.maximum, lambda x, m: (x > m) * 1.0),
    "where": (lambda x, m: tg.where(np.ones(x.shape, bool), x, m), lambda x, m: x + 0 * m, lambda x, m: np.ones_like(x * m)),
}


def reduced(g, shape):
    """The sum of a gradient over the axes that were broadcast: plain loops over the axes."""
    while g.ndim > len(shape):
        g = g.sum(0)
    for axis, n in enumerate(shape):
        if n == 1 and g.shape[axis] != 1:
            g = g.sum(axis, keepdims=True)
    return g


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, mask_shape", SHAPES)
@pytest.mark.parametrize("name", OPS)
def test_a_mask_is_zeros_and_ones(name, shape, mask_shape, dtype):
    ours, numpys, slope = OPS[name]
    x, mask = rng.uniform(1.25, 2.0, shape).astype(dtype), rng.uniform(size=mask_shape) > 0.5
    x64, m64 = x.astype(np.float64), mask.astype(np.float64)
    expected = numpys(x64, m64)
    gradient = reduced(np.broadcast_to(slope(x64, m64), expected.shape), shape)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for given in (mask, tg.Tensor(mask), *([bool(mask), np.bool_(mask)] if mask_shape == () else [])):
        if name == "where" and isinstance(given, bool | np.bool_):
            continue
        t = tg.Tensor(x, requires_grad=True)
        y = ours(t, given)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=tolerance)
        g = tg.grad(tg.sum(y), t)
        assert g.dtype == dtype and g.shape == shape
        np.testing.assert_allclose(g, gradient, rtol=tolerance)


def test_on_every_device(device):
    x = rng.normal(size=(5, 4)).astype(np.float32)
    t = tg.Tensor(to_device(x, device), requires_grad=True)
    mask = t > 0
    assert mask.dtype == bool and not mask.requires_grad
    for y in (t * mask, mask * t, t * mask.array, t * (t > 0).detach()):
        np.testing.assert_array_equal(to_numpy(y), np.maximum(x, 0))
        np.testing.assert_array_equal(to_numpy(tg.grad(tg.sum(y), t, retain_graph=True)), x > 0)
    np.testing.assert_array_equal(to_numpy(1 - mask), x <= 0)
    assert (1.0 - mask).dtype == np.float32


def test_signs_and_deviations(device):
    mask, pixels = rng.uniform(size=(70, 90)) > 0.5, rng.integers(0, 256, (70, 90), np.uint8)
    x = to_device(mask, device)
    for given in (x, tg.Tensor(x)):
        assert tg.var(given, 0).dtype == tg.std(given, 0).dtype == np.float32
        np.testing.assert_allclose(to_numpy(tg.var(given, 0)), mask.astype(float).var(0), rtol=1e-6)
        np.testing.assert_allclose(to_numpy(tg.std(given, 1, ddof=1)), mask.astype(float).std(1, ddof=1), rtol=1e-6)
        assert tg.sign(given).dtype == bool
        np.testing.assert_array_equal(to_numpy(tg.sign(given)), mask)
    for name in ("var", "std"):
        with pytest.raises(TypeError, match=f"{name}: needs float32 or float64, got uint8; convert with tinygan.astype first"):
            getattr(tg, name)(to_device(pixels, device))


def test_second_order_and_higher():
    mask = rng.uniform(size=(4, 3)) > 0.5
    tg.check_gradients(lambda x: tg.tanh(x * mask) * (x > 0.1), rng.uniform(0.2, 1, (4, 3)), order=2)
    tg.check_gradients(lambda x: mask[0] * tg.exp(x), rng.normal(size=(4, 3)), order=2)
    x = tg.Tensor([1.0, -2.0, 3.0], requires_grad=True)
    g = tg.grad(tg.sum(x * x * (x > 0)), x, create_graph=True)
    np.testing.assert_array_equal(g, [2, 0, 6])
    np.testing.assert_array_equal(tg.grad(tg.sum(g), x), [2, 0, 2])


def test_fused_ops_and_losses_take_masks():
    x = tg.Tensor(rng.normal(size=(4, 3)), requires_grad=True)
    mask, weight = rng.uniform(size=(4, 3)) > 0.5, rng.normal(size=(2, 3))
    ones = mask.astype(np.float64)
    for given, number in ((mask, ones), (tg.Tensor(mask), ones)):
        pairs = [(tg.binary_cross_entropy_with_logits(x, given), tg.binary_cross_entropy_with_logits(x, number)),
                 (tg.mean_squared_error(x, given), tg.mean_squared_error(x, number)),
                 (tg.sum(tg.concatenate([x, given]) * 2.0), tg.sum(tg.concatenate([x, number]) * 2.0)),
                 (tg.sum(tg.matmul(x.T, given)), tg.sum(tg.matmul(x.T, number))),
                 (tg.sum(tg.dense(given, tg.Tensor(weight, requires_grad=True))) + tg.sum(x),
                  tg.sum(tg.dense(number, tg.Tensor(weight))) + tg.sum(x))]
        for ours, expected in pairs:
            assert ours.item() == expected.item()
            np.testing.assert_array_equal(tg.grad(ours, x), tg.grad(expected, x))


def test_what_is_no_mask_or_has_no_number_beside_it_is_refused():
    x, mask = tg.Tensor([1.0, 2.0]), tg.Tensor([True, False])
    for call in (lambda: mask * mask, lambda: tg.exp(mask), lambda: -mask, lambda: tg.concatenate([mask, mask])):
        with pytest.raises(TypeError, match=r"needs float32 or float64, got bool; convert with tinygan\.astype first"):
            call()
    for integers in (np.array([1, 0]), tg.Tensor(np.array([1, 0])), np.array([1, 0], np.uint8)):
        with pytest.raises(TypeError, match=r"mul: needs float32 or float64, got u?int\d+; convert with tinygan\.astype first"):
            x * integers
    with pytest.raises(TypeError, match="different precision"):
        tg.einsum("i,i,i->i", x, mask, np.ones(2))


def test_a_mask_gets_no_gradient():
    x, mask = tg.Tensor([1.0, 2.0], requires_grad=True), tg.Tensor([True, False])
    (x * mask).backward(np.ones(2, np.float32))
    assert mask.grad is None and not mask.requires_grad and mask.dtype == bool
    assert x.grad.tolist() == [1, 0]
