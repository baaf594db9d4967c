"""Sums and softmax: the CUDA kernels, run by the emulator, against exact sums and NumPy."""
import math

import numpy as np
import pytest

from tinygan.kernels.cuda import reductions
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.runtime.columns import MAP, SUM, column_grid

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(a)


def rand(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3), (257, 8), (1, 33), (40, 65), (20000, 1), (3001, 5), (700, 32), (0, 3), (3, 0)])
def test_column_sums(shape, dtype):
    x = rand(*shape, dtype=dtype) + dtype(3)
    found = reductions.column_sums(DEVICE, upload(x))
    assert found.dtype == dtype and found.shape == shape[1:]
    exact = [math.fsum(column) for column in x.T.tolist()]
    np.testing.assert_allclose(found.get(), exact, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(20000, 1), (3001, 5), (700, 32)])
def test_large_sums_have_parts(shape):
    parts = column_grid(DEVICE, shape, SUM)[1][1]
    assert parts > 1
    x = rand(*shape)
    assert (reductions.column_sums(DEVICE, upload(x)).get() == reductions.column_sums(DEVICE, upload(x)).get()).all()


def test_as_many_parts_as_a_large_gpu_makes():
    device = emulated_device()
    device.sms = 20
    x = rand(5200, 40)
    assert column_grid(device, x.shape, SUM)[1][1] > 32
    exact = x.astype(np.float64).sum(0)
    np.testing.assert_allclose(reductions.column_sums(device, upload(x)).get(), exact, rtol=0, atol=1e-6 * np.abs(exact).max())


def test_layouts_cover_a_matrix():
    for rows, columns in ((1, 1), (5, 2), (100, 31), (100, 32), (100000, 33), (3, 1000)):
        for cut in (SUM, MAP):
            width, (blocks, parts) = column_grid(DEVICE, (rows, columns), cut)
            assert width in (1, 2, 4, 8, 16, 32) and width * (blocks - 1) < columns <= width * blocks
            assert 1 <= parts <= rows and parts * blocks < cut[1] * DEVICE.sms + blocks


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_images(dtype):
    images = rand(3, 4, 5, 2, dtype=dtype)
    DEVICE.launcher.launched.clear()
    for x in (images, np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), images[:, ::2]):
        for axis in ((0, 2, 3), (1,), None, (0, 1)):
            for keepdims in (False, True):
                found = reductions.sum(DEVICE, upload(x), axis, keepdims)
                expected = x.astype(np.float64).sum(axis, keepdims=keepdims)
                assert found.dtype == dtype and found.shape == expected.shape
                np.testing.assert_allclose(found.get(), expected, rtol=0, atol=100 * np.finfo(dtype).eps)
    assert ("reductions", "column_sums") in DEVICE.launcher.launched


def test_sums_of_vectors_and_of_labels():
    x = rand(9, 4)
    np.testing.assert_allclose(reductions.sum(DEVICE, upload(x), (0,), False).get(), x.sum(0), rtol=1e-5)
    np.testing.assert_allclose(reductions.sum(DEVICE, upload(x.T), (0,), False).get(), x.sum(1), rtol=1e-5)
    assert reductions.sum(DEVICE, upload(np.arange(6).reshape(3, 2)), (0,), False).get().tolist() == [6, 9]
    assert reductions.sum(DEVICE, upload(np.ones((0, 3, 2, 2))), (0, 2, 3), False).get().tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index, shape", [([2, 0, 2, -1, 2], (4, 3)), ([[1, 1], [0, 1]], (2, 300)), ([3], (5,)), ([], (2, 2)),
                                          ([0, 1, 0], (2, 2, 3))], ids=str)
def test_rows_added_by_an_index(index, shape, dtype):
    index = np.array(index, np.int64)
    g, expected = rand(*index.shape, *shape[1:], dtype=dtype), rand(*shape, dtype=dtype)
    found = upload(expected.copy())
    DEVICE.launcher.launched.clear()
    reductions.add_at(DEVICE, found, upload(index), upload(g))
    np.add.at(expected, index, g)
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=8 * np.finfo(dtype).eps)
    assert (("reductions", "add_rows_at") in DEVICE.launcher.launched) == (index.size > 0)


def test_other_indices_are_left_to_the_namespace():
    for index in ((np.array([1, 1]), np.array([0, 2])), (np.array([True, False]),)):
        found, expected = upload(np.zeros((2, 3), np.float32)), np.zeros((2, 3), np.float32)
        g = np.ones(expected[index].shape, np.float32)
        reductions.add_at(DEVICE, found, tuple(map(upload, index)), upload(g))
        np.add.at(expected, index, g)
        np.testing.assert_array_equal(found.get(), expected)


def test_a_sum_of_many_keeps_its_digits():
    x = np.full((2**18, 1), 0.1, np.float32)
    np.testing.assert_allclose(reductions.column_sums(DEVICE, upload(x)).get(), np.float64(x[0]) * 2**18, rtol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis", [((4, 10), 1), ((3, 1), 1), ((5,), 0), ((2, 33, 3), 1), ((2, 700), -1), ((40, 2, 3), 0), ((0, 3), 1)])
def test_softmax(shape, axis, dtype):
    x = 5 * rand(*shape, dtype=dtype)
    wide = x.astype(np.float64)
    logs = wide - np.log(np.exp(wide).sum(axis, keepdims=True))
    tolerance = 8 * np.finfo(dtype).eps
    axes = (axis % x.ndim,)
    found, found_logs = reductions.softmax(DEVICE, upload(x), axes), reductions.log_softmax(DEVICE, upload(x), axes)
    np.testing.assert_allclose(reductions.logsumexp(DEVICE, upload(x), axes).get(), np.log(np.exp(wide).sum(axis, keepdims=True)),
                               rtol=tolerance, atol=tolerance)
    assert found.dtype == found_logs.dtype == dtype
    np.testing.assert_allclose(found.get(), np.exp(logs), rtol=4 * tolerance)
    np.testing.assert_allclose(found_logs.get(), logs, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("length", [3, 1000])
def test_softmax_of_large_numbers_and_of_none(length):
    x = np.zeros((4, length), np.float32)
    x[3, 1] = 1000
    x[0], x[1, 0], x[2, -1] = 3e38, -3e38, np.nan
    y = reductions.softmax(DEVICE, upload(x), (1,)).get()
    np.testing.assert_allclose(y[0], 1 / length, rtol=1e-6)
    np.testing.assert_allclose(y[1], [0.0] + [1 / (length - 1)] * (length - 1), rtol=1e-6)
    assert np.isnan(y[2]).all()
    assert y[3].tolist() == [float(i == 1) for i in range(length)]
    assert reductions.log_softmax(DEVICE, upload(x), (1,)).get()[1, 0] == np.float32(-3e38)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis, count", [((3, 4, 5), 1, 7), ((300, 2), 0, 3), ((2, 300), 1, 300), ((5,), 0, 1), ((3, 0), 1, 4),
                                                ((0, 3), 1, 4)])
def test_sums_along(dtype, shape, axis, count):
    g, index = rand(*shape, dtype=dtype), np.random.default_rng(1).integers(0, count, shape)
    found = reductions.sums_along(DEVICE, upload(g), upload(index), axis, count)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1:])
    exact = np.zeros((outer, count, inner))
    picks = shape[axis]
    for o, k, i in np.ndindex(outer, picks, inner):
        exact[o, index.reshape(outer, picks, inner)[o, k, i], i] += g.reshape(outer, picks, inner)[o, k, i]
    assert found.dtype == dtype and found.shape == exact.shape
    np.testing.assert_allclose(found.get(), exact, rtol=4 * np.finfo(dtype).eps, atol=1e-12)
