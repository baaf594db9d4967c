"""Matrix products: the CUDA kernels, run by the emulator, against plain loops and NumPy."""
import numpy as np
import pytest

from tinygan.context import override
from tinygan.kernels import reference
from tinygan.kernels.cuda import matmul
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.matmul import products

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(a)


def rand(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(found, expected, depth):
    """Whether the errors are not larger than rounding explains, for sums of `depth` products of numbers around 1."""
    eps = np.finfo(found.dtype).eps
    np.testing.assert_allclose(found.get(), expected, rtol=8 * eps, atol=eps * max(depth, 16))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a_along", [True, False])
@pytest.mark.parametrize("b_along", [True, False])
@pytest.mark.parametrize("size", [(5, 7, 3), (67, 33, 70), (2, 1, 2), (4, 4, 4), (68, 20, 72), (132, 12, 132), (260, 12, 4)])
def test_layouts(dtype, a_along, b_along, size):
    m, k, n = size
    a = rand(m, k, dtype=dtype) if a_along else rand(k, m, dtype=dtype).T
    b = rand(n, k, dtype=dtype, seed=1).T if b_along else rand(k, n, dtype=dtype, seed=1)
    exact = reference.matmul(a, b) if m < 100 else a.astype(np.float64) @ b
    close(matmul.matmul(DEVICE, upload(a), upload(b)), exact, k)


def test_four_numbers_are_read_at_once_where_they_may_be():
    a = upload(rand(8, 12))
    assert products.wide(DEVICE, (4, 12), a) == 4
    assert products.wide(DEVICE, (4, 6), a) == products.wide(DEVICE, (4, 12), a, a[:, 1:]) == 1
    whole, b = rand(20, 20), rand(12, 8, seed=1)
    for start in (0, 1, 4):
        part = upload(whole)[start:start + 8, start:start + 12]
        close(matmul.matmul(DEVICE, part, upload(b)), whole[start:start + 8, start:start + 12].astype(np.float64) @ b, 12)


def planned(monkeypatch, module, tile, parts):
    """Make `module` use these tiles and parts, even if others would be faster."""
    def plan(device, dtype, batch, rows, columns, depth):
        height, width = products.TILES[tile]
        return products.Plan(tile, -(-rows // height) * -(-columns // width), parts)

    monkeypatch.setattr(module, "plan", plan)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("tile", products.TILES)
@pytest.mark.parametrize("size", [(130, 40, 129), (257, 17, 18), (9, 70, 33), (132, 44, 136), (4, 8, 8)])
def test_tiles_and_parts(monkeypatch, dtype, parts, tile, size):
    planned(monkeypatch, products, tile, parts)
    m, k, n = size
    a, b = rand(m, k, dtype=dtype), rand(k, n, dtype=dtype, seed=1)
    close(matmul.matmul(DEVICE, upload(a), upload(b)), a.astype(np.float64) @ b, k)


@pytest.mark.parametrize("size, expected", [
    ((1, 4096, 4096, 1024), ("large", 1024, 1)), ((1, 16384, 128, 1024), ("large", 128, 2)), ((1, 10**5, 3, 100), ("narrow", 391, 1)),
    ((1, 64, 100, 50), ("small", 2, 1)), ((100, 64, 64, 64), ("small", 1, 1)), ((1, 8, 8, 100_000), ("small", 1, 264))])
def test_plans(size, expected):
    """On 132 multiprocessors: large tiles for large products, small tiles if there would be few large ones, and parts if the
    sums are long."""
    found = products._fastest(132, 4, *size)
    assert found[:2] == expected[:2] and 0.5 < found.parts / expected[2] < 2
    assert products._fastest(132, 8, *size).tile != "large"


@pytest.mark.parametrize("dtype", DTYPES)
def test_batched(dtype):
    whole = rand(4, 6, 10, dtype=dtype)
    b = rand(10, 4, 5, dtype=dtype, seed=1)
    for out in (np.empty((4, 6, 5), dtype), np.empty((4, 5, 6), dtype).transpose(0, 2, 1), np.empty((8, 6, 9), dtype)[::2, :, 3:8],
                np.empty((6, 4, 5), dtype).transpose(1, 0, 2), np.empty((4, 6, 10), dtype)[:, :, ::2]):
        found = products.batched(DEVICE, upload(whole), upload(b).transpose(1, 0, 2), upload(out))
        close(found, np.matmul(whole, b.transpose(1, 0, 2)), 10)
        assert np.shares_memory(found.view(np.ndarray), out)
    a = np.broadcast_to(whole[0], (4, 6, 10))
    close(products.batched(DEVICE, upload(a), upload(b.transpose(1, 0, 2)), upload(np.empty((4, 6, 5), dtype))),
          np.matmul(a, b.transpose(1, 0, 2)), 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_split_sums_of_a_batch(dtype):
    a, b = rand(1, 5, 1100, dtype=dtype), rand(1, 1100, 3, dtype=dtype, seed=1)
    out = np.empty((1, 5, 8), dtype)[:, :, :3]
    bias = rand(3, dtype=dtype, seed=2)
    found = products.batched(DEVICE, upload(a), upload(b), upload(out), upload(bias), "leaky_relu", 0.1)
    z = a.astype(np.float64) @ b + bias
    close(found, np.where(z > 0, z, 0.1 * z), 1100)


def test_more_products_than_a_grid_takes(monkeypatch):
    monkeypatch.setattr(products, "MOST_BLOCKS_ALONG_Z", 3)
    a, b = rand(8, 3, 20), rand(8, 20, 2, seed=1)
    close(matmul.matmul(DEVICE, upload(a), upload(b)), np.matmul(a, b), 20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("size", [(300, 70, 1), (1, 300, 70), (40, 1100, 1), (1, 1100, 40), (1, 7, 1), (1, 1, 1), (3, 1, 1)])
def test_vectors(dtype, strided, size):
    m, k, n = size
    a, b = rand(m, k, dtype=dtype), rand(k, n, dtype=dtype, seed=1)
    if strided:
        a, b = np.asfortranarray(a), np.asfortranarray(b)
    close(matmul.matmul(DEVICE, upload(a), upload(b)), a.astype(np.float64) @ b, k)
    a, b = rand(2 * m, 2 * k, dtype=dtype)[::-2, ::2], rand(2 * k, n, dtype=dtype)[::2]
    close(matmul.matmul(DEVICE, upload(a), upload(b)), a.astype(np.float64) @ b, k)


@pytest.mark.parametrize("shapes", [((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((6, 3, 4), (1, 4, 5)),
                                    ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((0, 3, 4), (4, 5)), ((2, 3, 0), (2, 0, 5)), ((5, 0), (0, 1))])
def test_leading_axes(shapes):
    a, b = rand(*shapes[0]), rand(*shapes[1], seed=1)
    expected = np.matmul(a, b)
    close(matmul.matmul(DEVICE, upload(a), upload(b)), expected, 4)
    for out in (np.empty(expected.shape, np.float32), np.empty(expected.shape[::-1], np.float32).T):
        given = upload(out)
        assert matmul.matmul(DEVICE, upload(a), upload(b), out=given) is given
        close(given, expected, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(6, 5, 7), (70, 2, 130), (9, 600, 1), (1, 4, 6), (3, 700, 4)])
@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "tanh", "softplus"])
def test_dense(dtype, size, name):
    n, inputs, outputs = size
    x, weight, bias = rand(n, inputs, dtype=dtype), rand(outputs, inputs, dtype=dtype, seed=1), rand(outputs, dtype=dtype, seed=2)
    expected = reference.dense(x, weight, bias, name, 0.3)
    close(matmul.dense(DEVICE, upload(x), upload(weight), upload(bias), name, 0.3), expected, inputs)
    out = upload(np.empty((n, outputs), dtype))
    assert matmul.dense(DEVICE, upload(x), upload(weight), upload(bias), name, 0.3, out) is out
    close(out, expected, inputs)


def test_a_nan_stays_one():
    x = rand(4, 3)
    x[1, 1] = np.nan
    y = matmul.dense(DEVICE, upload(x), upload(rand(5, 3)), upload(rand(5)), "relu", 0.0).get()
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2, 3]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(6, 5, 7), (1100, 3, 2), (5000, 2, 130), (600, 40, 1), (0, 3, 2), (1, 1, 1)])
def test_parameter_grads(dtype, size):
    n, inputs, outputs = size
    x, y = rand(n, inputs, dtype=dtype), rand(n, outputs, dtype=dtype, seed=1)
    expected = np.concatenate([(y.T.astype(np.float64) @ x).ravel(), y.astype(np.float64).sum(0)])
    close(matmul.dense_parameter_grads(DEVICE, upload(x), upload(y)), expected, n)


@pytest.mark.parametrize("tile", products.TILES)
@pytest.mark.parametrize("size", [(70, 20, 33), (130, 17, 129), (260, 11, 7), (132, 36, 136)])
def test_tf32(monkeypatch, size, tile):
    planned(monkeypatch, products, tile, 1)
    m, k, n = size
    a, b = rand(m, k), rand(k, n, seed=1)
    with override(matmul_precision="tf32"):
        found = matmul.matmul(DEVICE, upload(a), upload(b))

    def rounded(x):
        return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)

    close(found, rounded(a) @ rounded(b), k)
    assert np.abs(found.get() - a.astype(np.float64) @ b).max() > 1e-4  # the operands were rounded


def test_sums_are_the_same_each_time():
    a, b = upload(rand(9, 2000)), upload(rand(2000, 33, seed=1))
    np.testing.assert_array_equal(matmul.matmul(DEVICE, a, b).get(), matmul.matmul(DEVICE, a, b).get())
