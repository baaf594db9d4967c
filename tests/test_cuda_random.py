"""The random numbers of the device, which the emulator makes here, are those of the CPU."""
import numpy as np
import pytest

from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.kernels.cuda import random
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.random import Key

DEVICE = emulated_device()
KEY = np.array([0x12345678, 0x9ABCDEF0], np.uint32)
SIZES = [0, 1, 3, 4, 5, 1030]


def empty(n, dtype):
    return DEVICE.xp.full(n, 7, dtype)


@pytest.mark.parametrize("n", SIZES)
def test_bits(n):
    found = random.random_bits(DEVICE, KEY, empty(n, np.uint32)).get()
    np.testing.assert_array_equal(found, reference.random_bits(KEY, n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0 + 2**-22), (2.0, 2.0), (-3.0, 0.1)])
def test_uniform_is_the_cpus_to_the_last_bit(n, dtype, low, high):
    found = random.random_uniform(DEVICE, KEY, empty(n, dtype), low, high).get()
    np.testing.assert_array_equal(found, cpu.random_uniform(KEY, np.empty(n, dtype), low, high))
    assert (found >= low).all() and ((found < high).all() or low == high)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("n", SIZES)
def test_normal_is_the_cpus_to_rounding(n, dtype, tolerance):
    found = random.random_normal(DEVICE, KEY, empty(n, dtype)).get()
    np.testing.assert_allclose(found, reference.random_normal(KEY, n, dtype == np.float32), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found, cpu.random_normal(KEY, np.empty(n, dtype)), rtol=tolerance, atol=tolerance)


def test_a_key_can_come_from_a_function():
    key = Key(5).fold("x")
    found = random.random_normal(DEVICE, lambda: key.data, empty((3, 5), np.float32)).get()
    np.testing.assert_allclose(found, key.normal((3, 5)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_view_that_does_not_lie_at_a_multiple_of_16_bytes(dtype):
    for fill in (random.random_normal, lambda device, key, out: random.random_uniform(device, key, out, 0.0, 1.0)):
        whole = empty(10, dtype)
        found, expected = fill(DEVICE, KEY, whole[1:]).get(), fill(DEVICE, KEY, empty(9, dtype)).get()
        np.testing.assert_array_equal(found, expected)
        assert whole.get()[0] == 7
