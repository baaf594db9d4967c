"""Binary cross-entropy: the CUDA kernels, run by the emulator, against plain loops."""
import numpy as np
import pytest

from tinygan.kernels import reference
from tinygan.kernels.cuda import losses
from tinygan.kernels.cuda.emulator.device import emulated_device

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(a)


def cases(dtype):
    """Logits and targets."""
    rng = np.random.default_rng(0)
    for shape in [(1,), (7,), (33, 1), (3, 1, 5, 3), (9000,), ()]:
        logits = np.asarray(4 * rng.standard_normal(shape)).astype(dtype)
        yield logits, 1.0
        yield logits, np.float32(0.25)
        yield logits, np.asarray(rng.uniform(size=shape)).astype(dtype)
    logits = 4 * rng.standard_normal((6, 4)).astype(dtype)
    yield logits, np.array(0.75, dtype)
    yield logits, rng.uniform(size=(6, 1)).astype(dtype)
    yield logits.T, rng.uniform(size=(4, 6)).astype(dtype)
    yield logits, rng.uniform(size=(4, 6)).astype(dtype).T


def on_device(targets):
    return upload(targets) if isinstance(targets, np.ndarray) else targets


@pytest.mark.parametrize("dtype", DTYPES)
def test_bce(dtype):
    eps = max(np.finfo(dtype).eps, 4e-15)  # (the plain loop adds 9000 numbers in float64, which also rounds)
    for logits, targets in cases(dtype):
        found = losses.bce_with_logits(DEVICE, upload(logits), on_device(targets))
        assert found.shape == () and found.dtype == dtype
        np.testing.assert_allclose(found.get(), reference.bce_with_logits(logits, targets), rtol=8 * eps)
        for g in (0.7, upload(np.array(-1.5, dtype))):
            number = g if isinstance(g, float) else -1.5
            slopes = losses.bce_with_logits_grad(DEVICE, g, upload(logits), on_device(targets))
            assert slopes.shape == logits.shape and slopes.dtype == dtype
            expected = reference.bce_with_logits_grad(number, logits, targets)
            np.testing.assert_allclose(slopes.get(), expected, rtol=8 * eps, atol=8 * eps / max(logits.size, 1))
            curvature = losses.bce_with_logits_curvature(DEVICE, upload(logits), g, upload(logits))
            assert curvature.shape == logits.shape and curvature.dtype == dtype
            expected = reference.bce_with_logits_curvature(logits, number, logits)
            np.testing.assert_allclose(curvature.get(), expected, rtol=8 * eps, atol=8 * eps / max(logits.size, 1))


def test_large_logits_neither_overflow_nor_lose_a_small_loss():
    logits = upload(np.array([300.0, -300, 30, -1e38], np.float32))
    found = losses.bce_with_logits(DEVICE, logits, upload(np.array([1, 0, 1, 0], np.float32)))
    np.testing.assert_allclose(found.get(), np.exp(-30.0) / 4, rtol=1e-6)
    assert losses.bce_with_logits(DEVICE, upload(np.array([-1e38, 1e38], np.float32)), 1.0).get() == np.float32(0.5e38)
    slopes = losses.bce_with_logits_grad(DEVICE, 4.0, logits, 0.0).get()
    np.testing.assert_allclose(slopes, [1, 0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_tails_and_infinity(dtype):
    logits = np.array([-np.inf, -100, -20, -3, 3, 20, 100, np.inf], dtype)
    for target in (0.0, 1.0):
        agrees = logits < 0 if target == 0 else logits > 0
        found = losses.bce_with_logits(DEVICE, upload(logits[agrees]), target)
        np.testing.assert_allclose(found.get(), reference.bce_with_logits(logits[agrees], target), rtol=1e-6)
        assert losses.bce_with_logits(DEVICE, upload(logits), target).get() == np.inf
        slopes = losses.bce_with_logits_grad(DEVICE, 1.0, upload(logits), target)
        np.testing.assert_allclose(slopes.get(), reference.bce_with_logits_grad(1.0, logits, target), rtol=1e-6, atol=1e-43)
        curvature = losses.bce_with_logits_curvature(DEVICE, upload(np.ones_like(logits)), 1.0, upload(logits))
        expected = reference.bce_with_logits_curvature(np.ones_like(logits), 1.0, logits)
        np.testing.assert_allclose(curvature.get(), expected, rtol=1e-6, atol=1e-43)


def test_nan_is_seen():
    logits = np.zeros(40, np.float32)
    logits[33] = np.nan
    assert np.isnan(losses.bce_with_logits(DEVICE, upload(logits), 0.5).get())
    assert np.isnan(losses.bce_with_logits_grad(DEVICE, 1.0, upload(logits), 0.5).get()).tolist() == [i == 33 for i in range(40)]


def test_no_logits():
    assert losses.bce_with_logits_grad(DEVICE, 1.0, upload(np.empty((0, 1), np.float32)), 1.0).shape == (0, 1)
