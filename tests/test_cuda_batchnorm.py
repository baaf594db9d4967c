"""Batch normalisation: the CUDA kernels, run by the emulator, against plain loops and the CPU backend."""
import numpy as np
import pytest

from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.kernels.cuda import batchnorm
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.runtime.columns import SUM, column_grid

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]
SHAPES = [(2, 1), (5, 3), (70, 2), (9, 40), (3, 3, 2, 5), (2, 1, 3, 3), (4, 33, 2, 2), (6, 8, 7)]
SHAPES_SUMMED_IN_PARTS = [(3, 3, 30, 21), (9000, 1), (300, 40), (5, 8, 16, 9)]  # with several blocks for each column
EPS = 1e-2


def upload(a):
    return DEVICE.xp.asarray(a)


def rand(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def inputs(shape, dtype):
    x = rand(shape, dtype, 0) * dtype(2) + dtype(0.5)
    return x, rand(shape, dtype, 1), rand(shape[1], dtype, 2), rand(shape[1], dtype, 3)


def close(found, expected, dtype, factor=1.0):
    found = found.get()
    assert found.dtype == dtype and found.shape == expected.shape
    scale = max(np.abs(expected).max(initial=0), 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * factor * np.finfo(dtype).eps * scale)


def statistics(shape, dtype):
    return DEVICE.empty(shape[1:2], dtype), DEVICE.empty(shape[1:2], dtype)


def batch_norm(device, x, weight, bias, eps, mean, var, *told):
    """Batch normalisation in training: by the statistics of x."""
    batchnorm.batch_norm_statistics(device, x, mean, var)
    return batchnorm.batch_norm(device, x, weight, bias, eps, mean, var, *told)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_plain_loops(shape, activation, dtype):
    layout = channels_last if activation == "relu" else np.ascontiguousarray
    x, g, weight, bias = inputs(shape, dtype)
    mean, var = statistics(shape, dtype)
    told = [upload(weight), upload(bias), EPS, mean, var, activation, 0.3]
    y = batch_norm(DEVICE, upload(layout(x)), *told)
    z, exact_mean, exact_var = reference.batch_norm(x, weight, bias, EPS)
    expected = reference.activation(z, activation, 0.3)
    close(y, expected, dtype)
    close(mean, exact_mean, dtype)
    close(var, exact_var, dtype)
    before = reference.activation_grad(g, expected, activation, 0.3)
    sums = batchnorm.batch_norm_sums(DEVICE, upload(layout(g)), upload(x), *told)
    exact_sums = reference.batch_norm_sums(before, x, EPS, exact_mean, exact_var)
    close(sums, exact_sums, dtype)
    by_x = batchnorm.batch_norm_input_grad(DEVICE, upload(g), upload(layout(x)), sums, *told)
    close(by_x, reference.batch_norm_input_grad(before, x, weight, exact_sums, EPS, exact_mean, exact_var), dtype, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES_SUMMED_IN_PARTS, ids=str)
def test_sums_in_parts(shape, dtype):
    x, g, weight, bias = inputs(shape, dtype)
    assert column_grid(DEVICE, (x.size // shape[1], shape[1]), SUM)[1][1] > 1
    mean, var = statistics(shape, dtype)
    told = [upload(weight), upload(bias), EPS, mean, var, "leaky_relu", 0.3]
    y = batch_norm(DEVICE, upload(channels_last(x)), *told)
    wide = [a.astype(np.float64) for a in (x, g, weight, bias)]
    exact_mean, exact_var = np.empty(shape[1]), np.empty(shape[1])
    exact = [*wide[2:], EPS, exact_mean, exact_var, "leaky_relu", 0.3]
    cpu.batch_norm_statistics(wide[0], *exact[3:5])
    close(y, cpu.batch_norm(wide[0], *exact), dtype)
    factor = 0.1 if dtype == np.float32 else 1  # (what they are compared with is rounded in float64)
    close(mean, exact_mean, dtype, factor)
    close(var, exact_var, dtype, factor)
    sums = batchnorm.batch_norm_sums(DEVICE, upload(g), upload(x), *told)
    exact_sums = cpu.batch_norm_sums(wide[1], wide[0], *exact)
    close(sums, exact_sums, dtype, factor)
    by_x = batchnorm.batch_norm_input_grad(DEVICE, upload(g), upload(x), sums, *told)
    close(by_x, cpu.batch_norm_input_grad(wide[1], wide[0], exact_sums, *exact), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 1, 3, 3), (3, 33, 2, 2), (5, 8, 16, 9)], ids=str)
def test_second_gradients(shape, activation, dtype):
    """Against the CPU's in float64, which are tested by finite differences."""
    x, g, weight, bias = inputs(shape, dtype)
    h, h_sums, sums = rand(shape, dtype, 4), rand((2, shape[1]), dtype, 5), rand((2, shape[1]), dtype, 6)
    mean, var = x.mean((0, *range(2, x.ndim))), x.var((0, *range(2, x.ndim)))
    arrays = (weight, bias, mean, var)
    told = [*map(upload, arrays[:2]), EPS, *map(upload, arrays[2:]), activation, 0.3]
    exact = [*(a.astype(np.float64) for a in arrays[:2]), EPS, *(a.astype(np.float64) for a in arrays[2:]), activation, 0.3]
    found = (*batchnorm.batch_norm_sums_vjp(DEVICE, *map(upload, (h_sums, g, x, sums)), *told),
             *batchnorm.batch_norm_input_grad_vjp(DEVICE, *map(upload, (h, g, x, sums)), *told))
    h, h_sums, g, x, sums = (a.astype(np.float64) for a in (h, h_sums, g, x, sums))
    expected = (*cpu.batch_norm_sums_vjp(h_sums, g, x, sums, *exact), *cpu.batch_norm_input_grad_vjp(h, g, x, sums, *exact))
    for a, b in zip(found, expected, strict=True):
        close(a, b, dtype, 4)


@pytest.mark.parametrize("shape", [(64, 4), (3, 3, 30, 21)], ids=str)
def test_a_mean_large_against_the_deviation(shape):
    deviations = rand(shape, np.float32, 0)
    x = deviations + np.float32(1000)
    mean, var = statistics(shape, np.float32)
    ones = upload(np.ones(shape[1], np.float32))
    y = batch_norm(DEVICE, upload(x), ones, ones, 1e-5, mean, var, "identity", 0.0)
    wide, axes = x.astype(np.float64), (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean.get(), wide.mean(axes), rtol=1e-7)
    np.testing.assert_allclose(var.get(), wide.var(axes), rtol=1e-6)
    z = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5) + 1
    np.testing.assert_allclose(y.get(), z, atol=1e-4)


def test_as_many_parts_as_a_large_gpu_makes():
    device = emulated_device()
    device.sms = 20
    x = rand((5200, 40), np.float32, 0)
    assert column_grid(device, x.shape, SUM)[1][1] > 32
    mean, var = statistics(x.shape, np.float32)
    ones = upload(np.ones(40, np.float32))
    batch_norm(device, upload(x), ones, ones, 1e-5, mean, var, "identity", 0.0)
    np.testing.assert_allclose(mean.get(), x.astype(np.float64).mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(var.get(), x.astype(np.float64).var(0), rtol=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (1, 700)])
def test_one_value_far_from_the_others(place):
    x = np.ones((2, 1, 1000), np.float32)
    x[place[0], :, place[1]] = 1e6
    mean, var = statistics(x.shape, np.float32)
    ones = upload(np.ones(1, np.float32))
    batch_norm(DEVICE, upload(x), ones, ones, 1e-5, mean, var, "identity", 0.0)
    np.testing.assert_allclose(mean.get(), x.astype(np.float64).mean(), rtol=1e-6)
    np.testing.assert_allclose(var.get(), x.astype(np.float64).var(), rtol=1e-6)


def test_a_constant_channel():
    x = np.full((900, 2), 1.1, np.float32)
    mean, var = statistics(x.shape, np.float32)
    weight, bias = upload(np.ones(2, np.float32)), upload(np.array([3, -np.inf], np.float32))
    y = batch_norm(DEVICE, upload(x), weight, bias, 1e-5, mean, var, "relu", 0.0)
    assert (mean.get() == np.float32(1.1)).all() and (var.get() < 1e-30).all()
    assert (y.get() == [3, 0]).all()  # and no 0 * infinity


def test_strided_statistics_are_written():
    x, _, weight, bias = inputs((6, 3), np.float64)
    both = DEVICE.empty((3, 2), np.float64)
    mean, var = both[:, 0], both[:, 1]
    batch_norm(DEVICE, upload(x), upload(weight), upload(bias), EPS, mean, var, "identity", 0.0)
    np.testing.assert_allclose(both.get(), np.stack([x.mean(0), x.var(0)], 1), rtol=1e-13)
