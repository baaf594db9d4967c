"""All three maps of convolutions with few channels (`kernels.cpu.conv.lanes`), against NumPy in float64."""
import numpy as np
import pytest
from helpers import use_compiled_kernels

from tinygan.backends import cpu
from tinygan.kernels.cpu.conv import im2col, planner
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.ops.conv import Geometry

TOLERANCES = {"float32": 4e-6, "float64": 1e-13}
LANES = {"float32": microkernel.VECTOR_BYTES // 4, "float64": microkernel.VECTOR_BYTES // 8}


def geometry(size, kernel, stride, padding, dilation=(1, 1)):
    output = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                   for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True))
    return Geometry(size, kernel, output, stride, padding, dilation, 1)


GEOMETRIES = {
    "a stride of 2": geometry((9, 28), (3, 3), (2, 2), (1, 1)),
    "a stride of 1": geometry((6, 17), (3, 3), (1, 1), (1, 1)),
    "DCGAN's": geometry((14, 14), (4, 4), (2, 2), (1, 1)),
    "differing sides": geometry((11, 7), (5, 3), (3, 2), (2, 0)),
    "strides beyond the kernel": geometry((7, 9), (1, 2), (2, 3), (0, 1)),
    "rows apart": geometry((8, 6), (3, 2), (1, 2), (2, 1), (2, 1)),
    "no row of the image under it": geometry((2, 5), (1, 1), (1, 1), (2, 2)),
}


@pytest.fixture(params=[1, 5], ids=["one thread", "more threads than blocks of images"])
def threads(request, monkeypatch):
    monkeypatch.setattr(pool, "size", request.param)
    yield
    pool._reset()  # forget the workers that were started for another size


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("channels, kernels", [(1, 1), (3, 5), (8, 3), (5, 9), (2, 17)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_few_channels_against_the_definition(name, channels, kernels, dtype, threads, monkeypatch):
    g, rng, images = GEOMETRIES[name], np.random.default_rng(0), 2 * LANES[dtype] + 3
    used = []
    use_compiled_kernels(monkeypatch)
    monkeypatch.setattr(planner, "plan_lanes", lambda *a, found=planner.plan_lanes: used.append(1) or found(*a))
    x = rng.standard_normal((images, channels, *g.input)).astype(dtype)
    w = rng.standard_normal((kernels, channels, *g.kernel)).astype(dtype)
    y = rng.standard_normal((images, kernels, *g.output)).astype(dtype)
    bias = rng.standard_normal(kernels).astype(dtype)
    exact_x, exact_w, exact_y = (a.astype(np.float64) for a in (x, w, y))
    expected = im2col.conv2d(exact_x, exact_w, g) + bias[:, None, None]
    close(cpu.conv2d(x, w, g, bias=bias, activation_name="leaky_relu", slope=0.2),
          np.where(expected > 0, expected, 0.2 * expected), dtype)
    close(cpu.conv2d_input_grad(y, w, g), im2col.conv2d_input_grad(exact_y, exact_w, g), dtype)
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(exact_x, exact_y, g), dtype)
    assert len(used) == 3


def close(found, expected, dtype):
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= TOLERANCES[dtype] * np.abs(expected).max()


def test_a_few_images_leave_lanes_empty(monkeypatch):
    g, rng = GEOMETRIES["DCGAN's"], np.random.default_rng(0)
    use_compiled_kernels(monkeypatch)
    w, y = rng.standard_normal((16, 3, *g.kernel)), rng.standard_normal((3, 16, *g.output))
    close(cpu.conv2d_input_grad(y, w, g), im2col.conv2d_input_grad(y, w, g), "float64")


def test_a_nan_stays_in_its_image():
    """Images share registers, but their values must not mix."""
    g = GEOMETRIES["DCGAN's"]
    x, w = np.ones((20, 2, *g.input), np.float32), np.ones((8, 2, *g.kernel), np.float32)
    x[7, 1, 5, 5] = np.nan
    y = cpu.conv2d(x, w, g)
    assert set(np.argwhere(np.isnan(y))[:, 0]) == {7} and np.isnan(y[7]).sum() == 8 * 2 * 2


@pytest.mark.parametrize("images, channels, kernels, adjoint, suits", [
    (128, 3, 64, False, True), (128, 16, 32, False, False), (128, 1, 512, True, True), (2, 1, 64, False, False),
    (2, 1, 64, True, True),
])
def test_which_convolutions_it_serves(images, channels, kernels, adjoint, suits):
    source = np.zeros((images, 14, 14, kernels if adjoint else channels), np.float32)
    assert planner.suits_lanes(GEOMETRIES["DCGAN's"], channels, kernels, source, adjoint) is suits
