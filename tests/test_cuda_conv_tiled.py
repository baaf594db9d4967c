"""Convolutions by tiles: the CUDA kernels, run by the emulator, against plain loops and NumPy."""
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tinygan.context import override
from tinygan.kernels import reference
from tinygan.kernels.cpu.conv import im2col
from tinygan.kernels.cuda import conv
from tinygan.kernels.cuda.conv import direct, tiled
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.winograd import ERRORS, TILES, Tile
from tinygan.ops.conv import Geometry
from tinygan.parameters import Parameter

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(a)


def geometry(size, kernel, stride, padding=(0, 0), extra=(0, 0), algorithm="auto"):
    """A Geometry. extra: how many rows and columns of the input no output depends on. (For the transposed convolution this
    is output_padding.)"""
    output = tuple((size[i] + 2 * padding[i] - kernel[i]) // stride + 1 for i in (0, 1))
    size = (size[0] + extra[0], size[1] + extra[1])
    return Geometry(size, kernel, output, (stride, stride), padding, (1, 1), 1, algorithm)


def arrays(g, images, channels, kernels, dtype):
    random = np.random.default_rng(0)
    shapes = (images, *g.input, channels), (kernels, channels, *g.kernel), (images, *g.output, kernels)
    x, weight, y = (random.standard_normal(shape).astype(dtype) for shape in shapes)
    return x.transpose(0, 3, 1, 2), weight, y.transpose(0, 3, 1, 2)


def close(found, exact, tile, scale=None):
    """Whether the errors are not larger than `winograd.ERRORS` says for the tile, relative to the largest element. scale:
    the largest element before an activation."""
    found = found.get()
    assert found.shape == exact.shape
    tolerance = ERRORS[tile] if found.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance * (scale or max(1, np.abs(exact).max())))


def check(tile, g, x, weight, y, oracle=reference):
    close(tiled.conv2d(DEVICE, tile, upload(x), upload(weight), g), oracle.conv2d(x, weight, g), tile)
    close(tiled.conv2d_input_grad(DEVICE, tile, upload(y), upload(weight), g), oracle.conv2d_input_grad(y, weight, g), tile)
    found = tiled.conv2d_weight_grad(DEVICE, tile, upload(x), upload(y), g)
    close(found, oracle.conv2d_weight_grad(x, y, g), tile)
    assert found.flags.c_contiguous


GEOMETRIES = {
    "4x4 stride 2": (geometry((8, 8), (4, 4), 2, (1, 1)), 3, 2, 5),
    "4x4 stride 2, odd": (geometry((9, 7), (4, 4), 2, (2, 0)), 1, 1, 1),
    "4x4 stride 2, several tiles": (geometry((21, 18), (4, 4), 2, (1, 2)), 1, 2, 1),
    "4x4 stride 2, output padding": (geometry((10, 8), (4, 4), 2, (1, 1), (1, 1)), 1, 2, 3),
    "3x3 stride 2": (geometry((9, 8), (3, 3), 2, (1, 1)), 2, 3, 2),
    "2x2": (geometry((6, 5), (2, 2), 1), 2, 2, 3),
    "4x3 stride 2": (geometry((8, 9), (4, 3), 2, (1, 0)), 1, 2, 2),
    "6x5 stride 3, unseen edges": (geometry((9, 8), (6, 5), 3, (1, 1), (5, 7)), 1, 2, 2),
    "5x5 stride 2": (geometry((9, 10), (5, 5), 2, (2, 2)), 2, 2, 2),
    "5x5 stride 2, output padding": (geometry((7, 7), (5, 5), 2, (2, 2), (1, 1)), 1, 3, 2),
    "3x3": (geometry((6, 7), (3, 3), 1, (1, 1)), 3, 4, 2),
    "3x3, several tiles": (geometry((11, 10), (3, 3), 1, (0, 2)), 1, 1, 2),
    "one output": (geometry((4, 4), (4, 4), 2), 3, 2, 2),
    "mostly padding": (geometry((1, 1), (3, 3), 1, (2, 2)), 1, 1, 1),
}


def fits(tile, g):
    return {tile.r} == {-(-k // g.stride[0]) for k in g.kernel}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, tile", [(name, tile) for name, (g, *_) in GEOMETRIES.items() for tile in TILES
                                        if fits(tile, g)])
def test_against_loops(name, tile, dtype):
    g, *sizes = GEOMETRIES[name]
    check(tile, g, *arrays(g, *sizes, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("name, tile", [("4x4 stride 2", Tile(4, 2)), ("5x5 stride 2, output padding", Tile(2, 3))])
def test_bias_and_activation(name, tile, activation, dtype):
    g, *sizes = GEOMETRIES[name]
    x, weight, y = arrays(g, *sizes, dtype)
    bias = np.linspace(-1, 1, 2 * max(sizes)).astype(dtype)
    of_map, of_image = bias[::2][:weight.shape[0]], bias[:weight.shape[1]]
    told = activation, 0.2
    before = reference.conv2d(x, weight, g) + of_map[:, None, None]
    found = tiled.conv2d(DEVICE, tile, upload(x), upload(weight), g, upload(bias)[::2][:len(of_map)], *told)
    close(found, reference.activation(before, *told), tile, np.abs(before).max())
    before = reference.conv2d_input_grad(y, weight, g) + of_image[:, None, None]
    found = tiled.conv2d_input_grad(DEVICE, tile, upload(y), upload(weight), g, upload(of_image), *told)
    close(found, reference.activation(before, *told), tile, np.abs(before).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, tile", [("4x4 stride 2, odd", Tile(4, 2)), ("4x4 stride 2, several tiles", Tile(2, 2)),
                                        ("5x5 stride 2, output padding", Tile(2, 3)), ("3x3", Tile(4, 3)),
                                        ("6x5 stride 3, unseen edges", Tile(7, 2)), ("one output", Tile(7, 2))])
def test_statistics_of_what_is_made(name, tile, dtype):
    g, *sizes = GEOMETRIES[name]
    check_statistics(tile, g, *arrays(g, *sizes, dtype))


def check_statistics(tile, g, x, weight, y):
    """The convolution and its adjoint also write the mean and the variance of their results. A large bias takes no digits
    from these."""
    for call, image, channels in ((tiled.conv2d, x, weight.shape[0]), (tiled.conv2d_input_grad, y, weight.shape[1])):
        mean, var = (DEVICE.empty((channels,), x.dtype) for _ in range(2))
        bias = upload(np.linspace(100, 200, channels).astype(x.dtype))
        found = call(DEVICE, tile, upload(image), upload(weight), g, bias, statistics=(mean, var)).get()
        exact = found.astype(np.float64).transpose(1, 0, 2, 3).reshape(channels, -1)
        eps = np.finfo(x.dtype).eps
        np.testing.assert_allclose(mean.get(), exact.mean(1), rtol=8 * eps)
        np.testing.assert_allclose(var.get(), exact.var(1), rtol=64 * eps, atol=1e-30)
        plain = call(DEVICE, tile, upload(image), upload(weight), g, bias).get()
        np.testing.assert_array_equal(found, plain)


def test_statistics_that_are_strided():
    g, *sizes = GEOMETRIES["3x3"]
    x, weight, _ = arrays(g, *sizes, np.float32)
    memory = upload(np.full(3 * len(weight), -7, np.float32))
    mean, var = memory[::3], memory[1::3]
    found = tiled.conv2d(DEVICE, Tile(2, 3), upload(x), upload(weight), g, statistics=(mean, var)).get()
    np.testing.assert_allclose(mean.get(), found.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(var.get(), found.var((0, 2, 3)), rtol=1e-4)
    assert (memory[2::3].get() == -7).all()


def test_statistics_of_many_parts(monkeypatch):
    monkeypatch.setattr(DEVICE, "sms", 5)
    g = geometry((16, 16), (4, 4), 2, (1, 1))
    check_statistics(Tile(2, 2), g, *arrays(g, 7, 3, 37, np.float32))


def test_a_parameter_is_transformed_once_for_all_that_read_it(monkeypatch):
    g, *sizes = GEOMETRIES["4x4 stride 2"]
    x, weight, y = (upload(a) for a in arrays(g, *sizes, np.float32))
    started, launch = [], DEVICE.launcher.launch
    monkeypatch.setattr(DEVICE.launcher, "launch", lambda file, kernel, *a: (started.append(kernel), launch(file, kernel, *a)))
    parameter, tile = Parameter(weight), Tile(4, 2)
    for _ in range(2):
        for _ in range(2):
            tiled.conv2d(DEVICE, tile, x, parameter.array, g)
            tiled.conv2d_input_grad(DEVICE, tile, y, parameter.array, g)
        parameter.assign(weight)
    assert started.count("kernel_to_points") == 2
    tiled.conv2d(DEVICE, tile, x, weight, g)
    tiled.conv2d(DEVICE, tile, x, weight, g)
    assert started.count("kernel_to_points") == 4


class Exact:
    """The convolutions in NumPy, in float64."""

    conv2d, conv2d_input_grad, conv2d_weight_grad = (
        staticmethod(lambda a, b, g, f=f: f(a.astype(np.float64), b.astype(np.float64), g))
        for f in (im2col.conv2d, im2col.conv2d_input_grad, im2col.conv2d_weight_grad))


@pytest.mark.parametrize("tile", TILES)
def test_float32_errors_stay_within_what_is_documented(tile):
    kernel, padding = {2: (4, 1), 3: (5, 2)}[tile.r]
    side = max(tile.m, 4)
    g = geometry((2 * side, 2 * side), (kernel, kernel), 2, (padding, padding))
    check(tile, g, *arrays(g, 2, 33, 40, np.float32), Exact)


def test_results_lie_channels_last_and_inputs_may_lie_anyhow():
    g, *sizes = GEOMETRIES["4x4 stride 2"]
    tile = Tile(2, 2)
    x, weight, y = (np.ascontiguousarray(a) for a in arrays(g, *sizes, np.float64))
    weight = np.asfortranarray(weight)
    check(tile, g, x, weight, y)
    for found in (tiled.conv2d(DEVICE, tile, upload(x), upload(weight), g),
                  tiled.conv2d_input_grad(DEVICE, tile, upload(y), upload(weight), g)):
        assert found.transpose(0, 2, 3, 1).flags.c_contiguous


def test_the_example_matrices_are_those_of_their_tile():
    source = (Path(tiled.__file__).parent / "tiled.cu").read_text()
    lines = [line for line in source.splitlines() if re.match(r"#define (AT|G|BT|TILE|TAPS) ", line)]
    given = ["=".join(re.match(r"#define (\S+) (.+)", line).groups()) for line in lines]

    def normal(define):
        return re.sub(r"-?\d+(\.\d+)?", lambda number: repr(float(number[0])), define.replace(" ", ""))

    assert [normal(define) for define in given] == [normal(define) for define in tiled.defines(Tile(2, 2))]


# Which algorithm


LAYER = geometry((32, 32), (4, 4), 2, (1, 1))
H100_SMS = 132


@pytest.mark.parametrize("g, images, channels, kernels, expected", [
    (LAYER, 64, 128, 256, Tile(4, 2)),
    (LAYER, 64, 3, 64, None),
    (LAYER, 64, 64, 3, None),
    (LAYER, 1, 128, 256, None),
    (LAYER, 0, 128, 256, None),
    (LAYER, 64, 0, 256, None),
    (geometry((64, 64), (5, 5), 2, (2, 2)), 64, 128, 128, Tile(4, 3)),
    (LAYER._replace(algorithm="direct"), 64, 128, 256, None),
    (LAYER._replace(dilation=(2, 2)), 64, 128, 256, None),
    (LAYER._replace(groups=2), 64, 128, 256, None),
    (LAYER._replace(stride=(2, 1)), 64, 128, 256, None),
    (geometry((32, 32), (1, 1), 1), 64, 256, 256, None),
    (geometry((32, 32), (4, 2), 2), 64, 256, 256, None),
    (LAYER._replace(algorithm="tiled"), 64, 3, 64, Tile(4, 2)),
    (LAYER._replace(algorithm="tiled"), 64, 0, 64, None),
    (LAYER, 2**15, 256, 256, None),
    (geometry((14, 14), (4, 4), 2, (1, 1)), 256, 64, 128, Tile(7, 2)),
])
def test_which_tile(g, images, channels, kernels, expected):
    assert tiled.cheapest_tile(H100_SMS, g, images, channels, kernels) == expected


def noted(found, module, compute, *args):
    found.append(module)
    return compute(*args)


@pytest.fixture
def told(monkeypatch):
    """The modules whose functions have been called, in order."""
    found = []
    for module in (direct, tiled):
        for name in conv.__all__:
            monkeypatch.setattr(module, name, partial(noted, found, module, getattr(module, name)))
    return found


@pytest.mark.parametrize("algorithm, module", [("auto", direct), ("direct", direct), ("tiled", tiled)])
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_dispatch(told, algorithm, module, precision):
    g = geometry((8, 8), (4, 4), 2, (1, 1), algorithm=algorithm)
    x, weight, y = arrays(g, 2, 3, 5, np.float32)
    bias = np.linspace(-1, 1, 5).astype(np.float32)
    exact = np.maximum(Exact.conv2d(x, weight, g) + bias[:, None, None], 0)
    tolerance = 1e-5 if module is tiled or precision == "float32" else 1e-2
    with override(matmul_precision=precision):
        found = [conv.conv2d(DEVICE, upload(x), upload(weight), g, upload(bias), "relu"),
                 conv.conv2d_input_grad(DEVICE, upload(y), upload(weight), g, upload(bias[:3])),
                 conv.conv2d_weight_grad(DEVICE, upload(x), upload(y), g)]
    expected = [exact, Exact.conv2d_input_grad(y, weight, g) + bias[:3, None, None], Exact.conv2d_weight_grad(x, y, g)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.get(), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
    assert told == [module] * 3


def test_tf32_is_for_the_direct_algorithm(told, monkeypatch):
    monkeypatch.setattr(tiled, "cheapest_tile", lambda *_: Tile(2, 2))
    g = geometry((6, 6), (4, 4), 2, (1, 1))
    x, weight, _ = arrays(g, 1, 2, 2, np.float64)
    with override(matmul_precision="tf32"):
        conv.conv2d(DEVICE, upload(x.astype(np.float32)), upload(weight.astype(np.float32)), g)
        conv.conv2d(DEVICE, upload(x), upload(weight), g)
    conv.conv2d(DEVICE, upload(x.astype(np.float32)), upload(weight.astype(np.float32)), g)
    assert told == [direct, tiled, tiled]
