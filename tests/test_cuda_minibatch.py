"""Minibatch discrimination: the CUDA kernels, run by the emulator, against plain loops."""
import numpy as np
import pytest

from tinygan.kernels import reference
from tinygan.kernels.cuda import minibatch
from tinygan.kernels.cuda.emulator.device import emulated_device

DEVICE = emulated_device()
SHAPES = [(1, 1, 1), (2, 3, 1), (5, 2, 3), (33, 1, 5), (20, 2, 16), (9, 1, 17), (4, 2, 40), (65, 1, 2), (3, 0, 4), (0, 2, 3), (3, 2, 0)]


def upload(a):
    return DEVICE.xp.asarray(a)


def arrays(shape, dtype):
    """m, g and h. The numbers of m are multiples of 1/8, so some of their differences are exactly 0, where the sign is 0."""
    rng = np.random.default_rng(0)
    m = (rng.integers(-4, 5, shape) / 8).astype(dtype)
    return m, rng.standard_normal(shape[:2]).astype(dtype), rng.standard_normal(shape).astype(dtype)


def close(found, expected, dtype):
    assert found.dtype == dtype and found.shape == expected.shape
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=32 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_plain_loops(shape, dtype):
    m, g, h = arrays(shape, dtype)
    close(minibatch.minibatch_similarity(DEVICE, upload(m)), reference.minibatch_similarity(m), dtype)
    close(minibatch.minibatch_similarity_grad(DEVICE, upload(g), upload(m)), reference.minibatch_similarity_grad(g, m), dtype)
    second = minibatch.minibatch_similarity_second(DEVICE, upload(h), upload(g), upload(m))
    for found, expected in zip(second, reference.minibatch_similarity_second(h, g, m), strict=True):
        close(found, expected, dtype)


def test_strided_inputs():
    m, g, h = arrays((6, 3, 4), np.float64)
    strided = [upload(np.asfortranarray(a)) for a in (h, g, m)]
    second = minibatch.minibatch_similarity_second(DEVICE, *strided)
    for found, expected in zip(second, reference.minibatch_similarity_second(h, g, m), strict=True):
        close(found, expected, np.float64)
    close(minibatch.minibatch_similarity(DEVICE, strided[2]), reference.minibatch_similarity(m), np.float64)


def test_far_examples_are_not_near():
    m = np.array([0.0, 1e30, 0.0], np.float32).reshape(3, 1, 1)
    assert minibatch.minibatch_similarity(DEVICE, upload(m)).get().ravel().tolist() == [1, 0, 1]
