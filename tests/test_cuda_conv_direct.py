"""Direct convolutions: the CUDA kernels, run by the emulator, against plain loops and NumPy."""
import numpy as np
import pytest

from tinygan.context import override
from tinygan.kernels import reference
from tinygan.kernels.cpu.conv import im2col
from tinygan.kernels.cuda.conv import direct
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.matmul import products
from tinygan.ops.conv import Geometry

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(a)


def geometry(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, extra=(0, 0)):
    """A Geometry. extra: how many rows and columns of the input no output depends on."""
    output = tuple((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return Geometry((size[0] + extra[0], size[1] + extra[1]), kernel, output, stride, padding, dilation, groups)


def arrays(g, images, channels, kernels, dtype):
    random = np.random.default_rng(0)
    shapes = (images, *g.input, channels), (kernels, channels // g.groups, *g.kernel), (images, *g.output, kernels)
    x, weight, y = (random.standard_normal(shape).astype(dtype) for shape in shapes)
    return x.transpose(0, 3, 1, 2), weight, y.transpose(0, 3, 1, 2)


def close(found, expected, depth):
    """Whether the errors are not larger than rounding explains, for sums of `depth` products of numbers around 1."""
    eps = np.finfo(found.dtype).eps
    np.testing.assert_allclose(found.get(), expected, rtol=8 * eps, atol=eps * max(depth, 16))


def check(g, x, weight, y, oracle):
    pixels, taps, back = y.size // y.shape[1], weight.size // weight.shape[0], weight.size // x.shape[1]
    close(direct.conv2d(DEVICE, upload(x), upload(weight), g), oracle.conv2d(x, weight, g), taps)
    close(direct.conv2d_input_grad(DEVICE, upload(y), upload(weight), g), oracle.conv2d_input_grad(y, weight, g), back)
    found = direct.conv2d_weight_grad(DEVICE, upload(x), upload(y), g)
    close(found, oracle.conv2d_weight_grad(x, y, g), pixels)
    assert found.flags.c_contiguous


GEOMETRIES = {
    "4x4 stride 2": (geometry((8, 8), (4, 4), (2, 2), (1, 1)), 3, 5),
    "one channel": (geometry((7, 6), (3, 3), (1, 1), (1, 1)), 1, 2),
    "one kernel": (geometry((4, 4), (4, 4)), 3, 1),
    "whole image": (geometry((3, 4), (3, 4)), 2, 5),
    "1x1": (geometry((3, 5), (1, 1)), 4, 3),
    "1x1 stride 2": (geometry((5, 5), (1, 1), (2, 2)), 4, 3),
    "1x1, padded": (geometry((2, 3), (1, 1), padding=(1, 1)), 2, 3),
    "odd and uneven": (geometry((9, 7), (5, 3), (3, 2), (2, 0), (1, 2)), 2, 3),
    "stride beyond the kernel": (geometry((11, 8), (2, 3), (5, 4), (1, 0)), 2, 2),
    "stride beyond the image": (geometry((2, 1), (1, 1), (4, 3)), 2, 2),
    "dilation shares a factor with the stride": (geometry((12, 13), (3, 3), (4, 6), (3, 2), (2, 3)), 2, 2),
    "dilation a multiple of the stride": (geometry((9, 9), (3, 2), (2, 2), (1, 1), (2, 4)), 2, 2),
    "groups": (geometry((6, 5), (3, 3), (2, 2), (1, 1), groups=3), 6, 9),
    "depthwise": (geometry((5, 5), (3, 3), padding=(1, 1), groups=4), 4, 4),
    "four channels": (geometry((6, 5), (4, 3), (2, 1), (1, 1)), 4, 8),
    "four channels in groups": (geometry((5, 5), (3, 3), (2, 2), (1, 1), groups=2), 8, 8),
    "four channels of the input": (geometry((5, 5), (3, 3), padding=(1, 1)), 4, 3),
    "four channels of the output": (geometry((5, 5), (3, 3), padding=(1, 1)), 3, 4),
    "unseen edges": (geometry((6, 6), (3, 3), (3, 3), extra=(2, 1)), 2, 3),
    "only padding": (geometry((1, 1), (3, 3), padding=(2, 2)), 1, 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_against_loops(name, dtype):
    g, channels, kernels = GEOMETRIES[name]
    check(g, *arrays(g, 2, channels, kernels, dtype), reference)


OF_SEVERAL_TILES = {
    "odd": (geometry((9, 8), (3, 3), padding=(1, 1)), 2, 67, 5),
    "fours": (geometry((12, 11), (3, 3), padding=(1, 1)), 1, 36, 68),
    "phases": (geometry((8, 6), (4, 4), (2, 2), (1, 1)), 3, 3, 19),
    "phases of fours": (geometry((8, 6), (4, 4), (2, 2), (1, 1)), 3, 20, 36),
    "groups": (geometry((9, 8), (3, 3), padding=(1, 1), groups=2), 4, 6, 8),
}


class Exact:
    """The convolutions in NumPy, in float64."""

    conv2d, conv2d_input_grad, conv2d_weight_grad = (
        staticmethod(lambda a, b, g, f=f: f(a.astype(np.float64), b.astype(np.float64), g))
        for f in (im2col.conv2d, im2col.conv2d_input_grad, im2col.conv2d_weight_grad))


def planned(monkeypatch, tile, parts):
    """Make convolutions use these tiles and parts, even if others would be faster."""
    def plan(device, dtype, batch, rows, columns, depth):
        height, width = products.TILES[tile]
        return products.Plan(tile, -(-rows // height) * -(-columns // width), parts)

    monkeypatch.setattr(direct, "plan", plan)


@pytest.mark.parametrize("dtype, parts", [(np.float32, 3), (np.float64, 1)])
@pytest.mark.parametrize("tile", products.TILES)
@pytest.mark.parametrize("name", OF_SEVERAL_TILES)
def test_tiles_and_parts(monkeypatch, name, tile, parts, dtype):
    planned(monkeypatch, tile, parts)
    g, images, channels, kernels = OF_SEVERAL_TILES[name]
    check(g, *arrays(g, images, channels, kernels, dtype), Exact)


def test_more_groups_than_a_grid_takes(monkeypatch):
    monkeypatch.setattr(direct, "MOST_BLOCKS_ALONG_Z", 3)
    g = geometry((5, 5), (3, 3), (2, 2), (1, 1), groups=4)
    check(g, *arrays(g, 2, 8, 8, np.float64), reference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["4x4 stride 2", "whole image", "1x1", "groups", "stride beyond the kernel"])
@pytest.mark.parametrize("activation", ["identity", "leaky_relu", "tanh"])
def test_bias_and_activation(name, dtype, activation):
    g, channels, kernels = GEOMETRIES[name]
    x, weight, y = arrays(g, 2, channels, kernels, dtype)
    bias = np.linspace(-1, 1, max(channels, kernels)).astype(dtype)
    told = activation, 0.2
    expected = reference.activation(reference.conv2d(x, weight, g) + bias[:kernels, None, None], *told)
    close(direct.conv2d(DEVICE, upload(x), upload(weight), g, upload(bias[:kernels]), *told), expected, weight.size)
    expected = reference.activation(reference.conv2d_input_grad(y, weight, g) + bias[:channels, None, None], *told)
    found = direct.conv2d_input_grad(DEVICE, upload(y), upload(weight), g, upload(bias[:channels]), *told)
    close(found, expected, weight.size)


@pytest.mark.parametrize("name", OF_SEVERAL_TILES)
def test_bias_and_activation_of_sums_in_parts(monkeypatch, name):
    planned(monkeypatch, "small", 3)
    g, images, channels, kernels = OF_SEVERAL_TILES[name]
    x, weight, y = arrays(g, images, channels, kernels, np.float64)
    bias = np.linspace(-5, 5, max(channels, kernels))
    expected = np.maximum(im2col.conv2d(x, weight, g) + bias[:kernels, None, None], 0)
    close(direct.conv2d(DEVICE, upload(x), upload(weight), g, upload(bias[:kernels]), "relu"), expected, weight.size)
    expected = np.maximum(im2col.conv2d_input_grad(y, weight, g) + bias[:channels, None, None], 0)
    found = direct.conv2d_input_grad(DEVICE, upload(y), upload(weight), g, upload(bias[:channels]), "relu")
    close(found, expected, weight.size)


def test_results_lie_channels_last_and_inputs_may_lie_anyhow():
    g, channels, kernels = GEOMETRIES["4x4 stride 2"]
    x, weight, y = (np.ascontiguousarray(a) for a in arrays(g, 2, channels, kernels, np.float64))
    weight = np.asfortranarray(weight)
    check(g, x, weight, y, reference)
    assert direct.conv2d(DEVICE, upload(x), upload(weight), g).transpose(0, 2, 3, 1).flags.c_contiguous
    assert direct.conv2d_input_grad(DEVICE, upload(y), upload(weight), g).transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("images, channels", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("name", ["4x4 stride 2", "whole image", "1x1"])
def test_no_images_or_no_channels(images, channels, name):
    g = GEOMETRIES[name][0]
    x, weight, y = arrays(g, images, channels, 2, np.float32)
    assert direct.conv2d(DEVICE, upload(x), upload(weight), g).shape == y.shape
    assert not direct.conv2d(DEVICE, upload(x), upload(weight), g).get().any()
    assert direct.conv2d_input_grad(DEVICE, upload(y), upload(weight), g).shape == x.shape
    found = direct.conv2d_weight_grad(DEVICE, upload(x), upload(y), g)
    assert found.shape == weight.shape and (images or not found.get().any())


@pytest.mark.parametrize("tile", products.TILES)
@pytest.mark.parametrize("name", ["4x4 stride 2", "groups", "whole image", "four channels"])
def test_tf32(monkeypatch, name, tile):
    planned(monkeypatch, tile, 1)
    g, channels, kernels = GEOMETRIES[name]
    x, weight, y = arrays(g, 2, channels, kernels, np.float32)

    def rounded(a):
        bits = np.ascontiguousarray(a).view(np.uint32)
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)

    with override(matmul_precision="tf32"):
        check(g, *(rounded(a) for a in (x, weight, y)), reference)
        found = direct.conv2d(DEVICE, upload(x), upload(weight), g).get()
    assert np.abs(found - reference.conv2d(x, weight, g)).max() > 1e-5  # the operands were rounded


def test_too_large():
    with pytest.raises(ValueError, match="split the batch"):
        direct._convolution(geometry((1 << 8, 1 << 8), (1, 1)), 1 << 16, 1, 1, 0)
