"""Convolutions with few channels and many kernels (`kernels.cpu.conv.thin`), and maps of one pixel, against NumPy in
float64."""
import numpy as np
import pytest
from helpers import use_compiled_kernels
from test_conv_lanes import GEOMETRIES, LANES, TOLERANCES, close, geometry, threads  # noqa: F401

import tinygan as tg
from tinygan import nn
from tinygan.backends import cpu
from tinygan.kernels.cpu.conv import compiled, im2col, planner, thin_products

SIZES = {
    **GEOMETRIES,
    "a map of one column": geometry((9, 4), (3, 4), (2, 1), (1, 0)),
    "a long run": geometry((12, 30), (2, 7), (1, 1), (0, 3)),
    "columns that no kernel covers": geometry((10, 13), (2, 2), (3, 3), (0, 0)),
}


@pytest.fixture
def calls(monkeypatch):
    """The names of the algorithms that served a call."""
    used = []
    use_compiled_kernels(monkeypatch)
    for name in ("_convolve_thin", "_weight_grad_thin", "_convolve_lanes", "_weight_grad_lanes", "_add_direct_weight_grad"):
        monkeypatch.setattr(compiled, name, recorded(used, name, getattr(compiled, name)))
    return used


def recorded(used, name, function):
    def call(*args):
        used.append(name)
        return function(*args)

    return call


def drawn(g, dtype, images, channels, kernels):
    rng = np.random.default_rng(0)
    shapes = ((images, channels, *g.input), (kernels, channels, *g.kernel), (images, kernels, *g.output), (kernels,))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("images, channels, vectors", [(1, 1, 1), (3, 3, 2), (17, 2, 5), (9, 4, 7)])
@pytest.mark.parametrize("name", SIZES)
def test_few_channels_and_many_kernels_against_the_definition(name, images, channels, vectors, dtype, calls, threads):  # noqa: F811
    g = SIZES[name]
    x, w, y, bias = drawn(g, dtype, images, channels, vectors * LANES[dtype])
    exact_x, exact_w, exact_y = (a.astype(np.float64) for a in (x, w, y))
    expected = im2col.conv2d(exact_x, exact_w, g)
    close(cpu.conv2d(x, w, g), expected, dtype)
    expected += bias[:, None, None]
    close(cpu.conv2d(x, w, g, bias=bias, activation_name="leaky_relu", slope=0.2),
          np.where(expected > 0, expected, 0.2 * expected), dtype)
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(exact_x, exact_y, g), dtype)
    assert calls == ["_convolve_thin", "_convolve_thin", "_weight_grad_thin"]


@pytest.mark.parametrize("width", range(1, 2 * thin_products.PIXELS_AT_ONCE[0] + 2))
def test_every_width_of_a_map(width, calls):
    g = geometry((3, width + 1), (2, 2), (1, 1), (0, 0))
    x, w, y, _ = drawn(g, "float64", 2, 1, LANES["float64"])
    close(cpu.conv2d(x, w, g), im2col.conv2d(x, w, g), "float64")
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x, y, g), "float64")
    assert calls == ["_convolve_thin", "_weight_grad_thin"]


@pytest.mark.parametrize("columns", range(1, 2 * thin_products.TAPS_AT_ONCE[0] + 2))
def test_every_width_of_a_kernel(columns, calls):
    g = geometry((4, 14), (2, columns), (1, 1), (0, 0))
    x, w, y, _ = drawn(g, "float64", 2, 1, LANES["float64"])
    close(cpu.conv2d(x, w, g), im2col.conv2d(x, w, g), "float64")
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x, y, g), "float64")
    assert calls == ["_convolve_thin", "_weight_grad_thin"]


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_every_band_of_rows_gives_the_same(rows, calls, monkeypatch):
    g = SIZES["DCGAN's"]
    x, w, y, _ = drawn(g, "float64", 3, 2, LANES["float64"])
    for_one_thread = planner.plan_thin.__wrapped__  # its bands are the largest, and so is its memory for a band
    monkeypatch.setattr(planner, "plan_thin", lambda *a: for_one_thread(*a[:-1], 1)._replace(band=rows))
    close(cpu.conv2d(x, w, g), im2col.conv2d(x, w, g), "float64")
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x, y, g), "float64")
    assert calls == ["_convolve_thin", "_weight_grad_thin"]


def test_a_nan_stays_under_its_kernels():
    """Pixels are read beyond the end of a row of the kernel, but must not count."""
    g = SIZES["DCGAN's"]
    x, w, y, _ = drawn(g, "float32", 20, 3, 2 * LANES["float32"])
    x[7, 1, 5, 5] = np.nan
    found = cpu.conv2d(x, w, g)
    assert set(np.argwhere(np.isnan(found))[:, 0]) == {7}
    assert np.isnan(found).sum() == w.shape[0] * 2 * 2
    gradient = cpu.conv2d_weight_grad(x, y, g)
    assert np.isnan(gradient[:, 1]).sum() == w.shape[0] * 2 * 2 and not np.isnan(gradient[:, [0, 2]]).any()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("images, channels, kernels", [(64, 40, 1), (5, 33, 3), (30, 16, 50), (600, 20, 2)])
def test_a_map_of_one_pixel_is_a_matrix_product(images, channels, kernels, dtype, calls, threads):  # noqa: F811
    g = geometry((4, 3), (4, 3), (1, 1), (0, 0))
    x, _, y, _ = drawn(g, dtype, images, channels, kernels)
    x, y = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, y))
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x.astype(float), y.astype(float), g), dtype)
    assert calls == ["_add_direct_weight_grad"]


@pytest.mark.parametrize("channels, kernels, dilation, suits", [
    (3, 64, 1, True), (1, 16, 1, True), (3, 60, 1, False), (5, 64, 1, False), (3, 64, 2, False),
])
def test_which_convolutions_it_serves(channels, kernels, dilation, suits):
    g = geometry((20, 20), (4, 4), (2, 2), (1, 1), (1, dilation))
    assert planner.suits_thin(g, channels, kernels * LANES["float32"] // 16, np.dtype(np.float32)) is suits


def test_a_captured_step_follows_its_weights():
    """The weights are reordered in every replay."""
    layer, rng = nn.Conv2d(3, 64, 4, stride=2, padding=1), np.random.default_rng(0)
    layer.initialize(tg.random.Key(0))
    x = rng.standard_normal((4, 3, 32, 32)).astype(np.float32)
    step = tg.capture(lambda x: layer(x))
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(step(tg.Tensor(x))), np.asarray(layer(tg.Tensor(x))))
        layer.weight.assign(layer.weight.numpy() * np.float32(0.5))
