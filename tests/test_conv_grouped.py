"""All three maps of convolutions in groups of few channels (`kernels.cpu.conv.grouped` and `grouped_tiles`), against NumPy in
float64; the layers and the gradients of every op against PyTorch."""
import numpy as np
import pytest
from helpers import CONTIGUOUS, Layout, check, use_compiled_kernels, values

import tinygan as tg
from tinygan import nn
from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.kernels.activations import CODES
from tinygan.kernels.cpu import conv
from tinygan.kernels.cpu.conv import group_plans, im2col, planner
from tinygan.kernels.cpu.layout import channels_last
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.winograd import DIRECT, ERRORS, Tile
from tinygan.ops.conv import Geometry

PLAN = group_plans.plan_groups
TOLERANCES = {"float32": 4e-6, "float64": 1e-13}


def geometry(size, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), extra=(0, 0)):
    """A Geometry of one group. extra: rows and columns of the image that no pixel of the map depends on."""
    output = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                   for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True))
    return Geometry((size[0] + extra[0], size[1] + extra[1]), kernel, output, stride, padding, dilation, 1)


GEOMETRIES = {
    "R3GAN's": geometry((6, 8)),
    "four pixels wide": geometry((5, 4)),
    "seven pixels wide": geometry((7, 14)),
    "wide, and not padded": geometry((5, 21), padding=(0, 0)),
    "DCGAN's": geometry((8, 10), (4, 4), (2, 2)),
    "unseen edges": geometry((6, 6), (2, 3), (3, 2), (0, 1), extra=(2, 1)),
    "rows and columns apart": geometry((9, 8), (3, 3), (1, 1), (2, 2), (2, 3)),
    "more padding than the kernel": geometry((3, 4), (1, 2), (1, 1), (2, 3)),
    "strides beyond the kernel": geometry((7, 9), (1, 2), (2, 3), (0, 1)),
}
GROUPS = {  # (groups, channels and kernels of each)
    "depthwise": (19, 1, 1),
    "depthwise, with a multiplier": (5, 1, 2),
    "groups of 2": (9, 2, 2),
    "groups of 3 and 4": (5, 3, 4),
    "groups of 8": (3, 8, 8),
    "groups of 16": (2, 16, 16),
    "groups of 9 and 20": (2, 9, 20),
}


@pytest.fixture(params=[1, 5], ids=["one thread", "more threads than images"])
def threads(request, monkeypatch):
    monkeypatch.setattr(pool, "size", request.param)
    yield
    pool._reset()  # forget the workers that were started for another size


@pytest.fixture
def served(monkeypatch):
    """The calls that these kernels serve, and all calls served, however small."""
    calls = []
    use_compiled_kernels(monkeypatch)
    monkeypatch.setattr(group_plans, "plan_groups", lambda *a, found=group_plans.plan_groups: calls.append(a) or found(*a))
    return calls


def draw(g, images, channels, kernels, dtype):
    rng = np.random.default_rng(0)
    shapes = (images, channels, *g.input), (kernels, channels // g.groups, *g.kernel), (images, kernels, *g.output)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def close(found, expected, dtype):
    assert found.dtype == dtype and found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCES[dtype] * np.abs(expected).max()


CASES = [
    *((name, "groups of 8", "float32") for name in GEOMETRIES),
    *(("R3GAN's", sizes, "float32") for sizes in GROUPS if sizes != "groups of 8"),
    ("DCGAN's", "depthwise", "float32"), ("unseen edges", "groups of 3 and 4", "float32"),
    ("DCGAN's", "groups of 9 and 20", "float32"), ("R3GAN's", "depthwise", "float64"),
    ("R3GAN's", "groups of 3 and 4", "float64"), ("DCGAN's", "groups of 9 and 20", "float64"),
]


@pytest.mark.parametrize("name, sizes, dtype", CASES)
def test_groups_against_the_definition(name, sizes, dtype, threads, served):
    groups, per_group, kernels_each = GROUPS[sizes]
    g = GEOMETRIES[name]._replace(groups=groups, algorithm="direct")
    kernels, channels = groups * kernels_each, groups * per_group
    x, w, y = draw(g, 3, channels, kernels, dtype)
    exact_x, exact_w, exact_y = (a.astype(np.float64) for a in (x, w, y))
    bias, back_bias = exact_y[0, :, 0, 0].astype(dtype), exact_x[0, :, 0, 0].astype(dtype)
    expected = im2col.conv2d(exact_x, exact_w, g) + bias[:, None, None]
    close(cpu.conv2d(x, w, g), expected - bias[:, None, None], dtype)
    close(cpu.conv2d(x, w, g, bias=bias, activation_name="leaky_relu", slope=0.2),
          np.where(expected > 0, expected, 0.2 * expected), dtype)
    expected = im2col.conv2d_input_grad(exact_y, exact_w, g)
    close(cpu.conv2d_input_grad(y, w, g), expected, dtype)
    close(cpu.conv2d_input_grad(y, w, g, bias=back_bias), expected + back_bias[:, None, None], dtype)
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(exact_x, exact_y, g), dtype)
    assert len(served) == 5


@pytest.mark.parametrize("sizes", ["depthwise", "groups of 3 and 4", "groups of 9 and 20"])
def test_groups_against_plain_loops(sizes, served):
    groups, per_group, kernels_each = GROUPS[sizes]
    g = geometry((3, 4), (3, 2), (2, 1))._replace(groups=groups)
    x, w, y = draw(g, 2, groups * per_group, groups * kernels_each, "float64")
    close(cpu.conv2d(x, w, g), reference.conv2d(x, w, g), "float64")
    close(cpu.conv2d_input_grad(y, w, g), reference.conv2d_input_grad(y, w, g), "float64")
    close(cpu.conv2d_weight_grad(x, y, g), reference.conv2d_weight_grad(x, y, g), "float64")
    assert len(served) == 3


@pytest.mark.parametrize("name", ["R3GAN's", "unseen edges"])
def test_large_images_are_cut_into_bands(name, monkeypatch):
    use_compiled_kernels(monkeypatch)
    monkeypatch.setattr(planner, "GROUPS_BYTES", 4096)
    monkeypatch.setattr(group_plans, "plan_groups", group_plans.plan_groups.__wrapped__)  # the cache ignores the threshold
    g = geometry((23, 9), GEOMETRIES[name].kernel, GEOMETRIES[name].stride, GEOMETRIES[name].padding)._replace(
        groups=6, algorithm="direct")
    x, w, y = draw(g, 2, 18, 24, "float64")
    assert group_plans.plan_groups(x.dtype, g, 2, 18, 24, False, False, 1).sizes.bands > 1
    close(cpu.conv2d(x, w, g), im2col.conv2d(x, w, g), "float64")
    close(cpu.conv2d_input_grad(y, w, g), im2col.conv2d_input_grad(y, w, g), "float64")
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x, y, g), "float64")


TILED = {  # (groups, channels and kernels of each), size of the image, padding, images
    "whole tiles": ((2, 16, 16), (8, 8), (1, 1), 3),
    "ragged tiles": ((3, 8, 8), (7, 13), (1, 1), 2),
    "one image, smaller than a tile": ((3, 16, 16), (3, 2), (1, 1), 1),
    "no padding": ((2, 32, 32), (7, 9), (0, 0), 2),
    "more padding than pixels": ((2, 8, 16), (2, 5), (3, 4), 2),
    "more tiles than are multiplied at once": ((2, 8, 8), (9, 40), (1, 2), 1),
    "depthwise": ((5, 1, 1), (6, 7), (1, 1), 2),
    "slots not filled": ((3, 3, 4), (5, 6), (1, 1), 2),
    "one vector and several": ((2, 9, 20), (6, 5), (1, 1), 2),
    "several vectors and one": ((2, 20, 9), (6, 5), (1, 1), 2),
}


@pytest.mark.parametrize("tile", [Tile(2, 3), Tile(4, 3)], ids=str)
@pytest.mark.parametrize("name, dtype", [*((name, "float32") for name in TILED), ("no padding", "float64"),
                                         ("slots not filled", "float64"), ("one vector and several", "float64")])
def test_tiles_against_the_definition(name, dtype, tile, threads, served, monkeypatch):
    (groups, per_group, kernels_each), size, padding, images = TILED[name]
    g = geometry(size, padding=padding)._replace(groups=groups, algorithm="tiled")
    monkeypatch.setattr(planner, "tile_in_groups", lambda *_: tile)
    monkeypatch.setattr(group_plans, "plan_groups", lambda *a: served.append(a) or PLAN.__wrapped__(*a))  # (no cache)
    x, w, y = draw(g, images, groups * per_group, groups * kernels_each, dtype)
    exact_x, exact_w, exact_y = (a.astype(np.float64) for a in (x, w, y))
    bias, back_bias = exact_y[0, :, 0, 0].astype(dtype), exact_x[0, :, 0, 0].astype(dtype)

    def close(found, expected):
        assert found.dtype == dtype and found.shape == expected.shape
        assert np.abs(found - expected).max() <= (ERRORS[tile] if dtype == "float32" else 1e-12) * np.abs(expected).max()

    expected = im2col.conv2d(exact_x, exact_w, g)
    close(cpu.conv2d(x, w, g), expected)
    close(conv._compiled().conv2d(channels_last(x), w, g, None, CODES["relu"], 0.0).transpose(0, 3, 1, 2),
          np.maximum(expected, 0))
    expected += bias[:, None, None]
    close(cpu.conv2d(x, w, g, bias=bias), expected)
    close(cpu.conv2d(x, w, g, bias=bias, activation_name="leaky_relu", slope=0.2),
          np.where(expected > 0, expected, 0.2 * expected))
    expected = im2col.conv2d_input_grad(exact_y, exact_w, g)
    close(cpu.conv2d_input_grad(y, w, g), expected)
    close(cpu.conv2d_input_grad(y, w, g, bias=back_bias), expected + back_bias[:, None, None])
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(exact_x, exact_y, g))
    assert len(served) == 7 and all(PLAN.__wrapped__(*call).tile == tile for call in served)


@pytest.mark.parametrize("g, images, lanes_used, tile", [
    (geometry((28, 28)), 64, 1, Tile(4, 3)),
    (geometry((14, 14)), 64, 0.5, Tile(4, 3)),
    (geometry((4, 4)), 64, 1, Tile(4, 3)),
    (geometry((2, 2)), 64, 1, Tile(2, 3)),
    (geometry((28, 28)), 64, 0.25, DIRECT),
    (geometry((4, 4)), 1, 1, DIRECT),
    (geometry((1, 1)), 64, 1, DIRECT),
    (geometry((28, 28), (3, 3), (2, 2)), 64, 1, DIRECT),
    (geometry((28, 28), (3, 2)), 64, 1, DIRECT),
    (geometry((28, 28), dilation=(1, 2), padding=(1, 2)), 64, 1, DIRECT),
    (geometry((28, 28))._replace(algorithm="direct"), 64, 1, DIRECT),
    (geometry((4, 4))._replace(algorithm="tiled"), 1, 0.25, Tile(2, 3)),
], ids=str)
def test_which_tile_is_used_in_groups(g, images, lanes_used, tile):
    assert planner.tile_in_groups(g, images, g.output, lanes_used) == tile


@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
def test_every_number_of_threads_computes_the_same_bits(algorithm, served, monkeypatch):
    g = geometry((9, 14))._replace(groups=3, algorithm=algorithm)
    x, w, y = draw(g, 4, 24, 24, "float32")
    found = []
    for size in (1, 3):
        monkeypatch.setattr(pool, "size", size)
        found.append((cpu.conv2d(x, w, g), cpu.conv2d_input_grad(y, w, g)))
    pool._reset()
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (PLAN(*served[0]).tile == DIRECT) == (algorithm == "direct")


@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
@pytest.mark.parametrize("sizes", ["groups of 3 and 4", "groups of 16"])
def test_a_nan_stays_in_its_image_and_group(sizes, algorithm, served):
    groups, per_group, kernels_each = GROUPS[sizes]
    g = GEOMETRIES["R3GAN's"]._replace(groups=groups, algorithm=algorithm)
    x, w, y = draw(g, 3, groups * per_group, groups * kernels_each, "float32")
    x[1, per_group, 3, 5] = np.nan  # the first channel of the second group
    found = np.isnan(cpu.conv2d(x, w, g))
    assert set(np.argwhere(found)[:, 0]) == {1} and found[1, kernels_each:2 * kernels_each, 2:5, 4:7].all()
    assert set(np.argwhere(found)[:, 1]) == set(range(kernels_each, 2 * kernels_each))
    if algorithm == "direct":  # (with tiles, it spreads over its tile)
        assert found.sum() == kernels_each * 3 * 3
    found = np.isnan(cpu.conv2d_weight_grad(x, y, g))
    assert found[kernels_each:2 * kernels_each, 0].all() and found.sum() == kernels_each * 3 * 3


def test_large_groups_are_left_to_matrix_products(served):
    g = GEOMETRIES["R3GAN's"]._replace(groups=2)
    x, w, y = draw(g, 2, 80, 80, "float32")
    close(cpu.conv2d(x, w, g), im2col.conv2d(x.astype(float), w.astype(float), g), "float32")
    close(cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(x.astype(float), y.astype(float), g), "float32")
    with tg.conv_algorithm("tiled"):  # other kernels than 3 x 3 with stride 1
        assert tg.conv2d(x[:, :16], w[:16, :8], groups=2, padding=1, stride=2).shape == (2, 16, 3, 4)
        assert not served
        assert tg.conv2d(x[:, :16], w[:16, :8], groups=2, padding=1).shape == (2, 16, 6, 8)
    assert len(served) == 1


@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
def test_a_packed_weight_is_packed_again_after_a_write(algorithm, served):
    layer = nn.Conv2d(16, 16, 3, padding=1, groups=2)
    layer.initialize(tg.random.Key(0))
    x = np.random.default_rng(0).standard_normal((2, 16, 6, 8)).astype(np.float32)
    with tg.conv_algorithm(algorithm):
        before = np.array(layer(x))
        np.testing.assert_array_equal(layer(x), before)
        layer.weight.assign(np.asarray(layer.weight) * 2)
        layer.bias.assign(np.asarray(layer.bias) * 2)
        np.testing.assert_allclose(layer(x), 2 * before, rtol=1e-6)


def test_a_weight_is_kept_for_each_tile_and_direction(served):
    """One Parameter is used directly, and with both tiles."""
    layer = nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)
    layer.initialize(tg.random.Key(0))
    w = np.array(layer.weight)
    for _ in range(2):
        for algorithm, size in (("direct", (4, 4)), ("tiled", (4, 4)), ("tiled", (2, 2))):
            g = geometry(size)._replace(groups=2)
            x, _, _ = draw(g, 64, 16, 16, "float32")
            with tg.conv_algorithm(algorithm):
                close(np.asarray(layer(x)), im2col.conv2d(x.astype(float), w.astype(float), g), "float32")
                close(np.asarray(tg.conv_transpose2d(x, layer.weight, padding=1, groups=2)),
                      im2col.conv2d_input_grad(x.astype(float), w.astype(float), g), "float32")
    assert {PLAN(*call).tile for call in served} == {DIRECT, Tile(4, 3), Tile(2, 3)}


CHANNELS_LAST = Layout(lambda a: np.array(a.transpose(0, 2, 3, 1), order="C") if a.ndim == 4 else a,
                       lambda x: tg.transpose(x, (0, 3, 1, 2)) if x.ndim == 4 else x)


@pytest.mark.parametrize("layout", [CHANNELS_LAST, CONTIGUOUS], ids=["channels-last", "contiguous"])
@pytest.mark.parametrize("groups, options, algorithm", [
    (2, {"padding": 1}, "direct"), (2, {"padding": 1}, "tiled"), (4, {"padding": 1, "stride": 2}, "direct")], ids=str)
def test_gradients_of_first_and_second_order(groups, options, algorithm, layout, served):
    x, w, y = values(1, (1, 4, 4, 3)), values(2, (4, 4 // groups, 3, 3)), values(3, (1, 4, 4, 3))
    if options.get("stride"):
        y = values(3, (1, 4, 2, 2))
    with tg.conv_algorithm(algorithm):
        check(lambda x, w: tg.conv2d(x, w, groups=groups, **options), x, w, layout=layout)
        check(lambda y, w: tg.conv_transpose2d(y, w, groups=groups, **options), y, w, layout=layout)
        check(lambda x, y: tg.conv2d_weight_grad(x, y, 3, groups=groups, **options), x, y, layout=layout)
    assert {PLAN(*call).tile == DIRECT for call in served} == {algorithm == "direct"}


@pytest.mark.oracle
@pytest.mark.parametrize("transposed", [False, True], ids=["Conv2d", "ConvTranspose2d"])
@pytest.mark.parametrize("channels, outputs, groups, stride", [(24, 24, 3, 1), (32, 32, 2, 1), (6, 6, 6, 1), (12, 6, 3, 2)])
def test_a_gradient_penalty_through_the_layers_against_torch(transposed, channels, outputs, groups, stride, served):
    """R1: the gradient of the squared norm of a gradient. It needs all three ops, and each of their gradients."""
    torch = pytest.importorskip("torch")
    kind = "ConvTranspose2d" if transposed else "Conv2d"
    layer = getattr(nn, kind)(channels, outputs, 3, stride, 1, groups=groups)
    layer.initialize(tg.random.Key(1))
    twin = getattr(torch.nn, kind)(channels, outputs, 3, stride, 1, groups=groups)
    assert tuple(twin.weight.shape) == layer.weight.shape
    for name in ("weight", "bias"):
        getattr(twin, name).data = torch.tensor(np.array(getattr(layer, name)))
    images = np.random.default_rng(0).standard_normal((3, channels, 8, 8)).astype(np.float32)

    x = tg.Tensor(images, requires_grad=True)
    (gradient,) = tg.grad(tg.softplus(layer(x)).sum(), [x], create_graph=True)
    ours = tg.grad((gradient * gradient).sum(), [x, layer.weight, layer.bias])
    theirs_x = torch.tensor(images, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.nn.functional.softplus(twin(theirs_x)).sum(), [theirs_x], create_graph=True)
    theirs = torch.autograd.grad((gradient**2).sum(), [theirs_x, twin.weight, twin.bias])
    for found, expected in zip(ours, theirs, strict=True):
        expected = expected.numpy()
        assert np.abs(np.asarray(found) - expected).max() <= 2e-5 * np.abs(expected).max()
    assert len(served) >= 5
    assert any(PLAN(*call).tile != DIRECT for call in served) == (channels // groups >= 8)


def test_a_captured_step_replays_the_same_bits(served):
    """A discriminator in groups, trained with a penalty on its gradient, by calls and by a program."""
    def play(captured):
        network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 3, padding=1, groups=2),
                                nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.Flatten(), nn.Dense(256, 1))
        network.initialize(tg.random.Key(0))
        optimizer = tg.optim.Adam(1e-3)
        optimizer.bind(network)

        def step(x):
            x = tg.Tensor(x, requires_grad=True)
            logits = network(x).sum()
            (gradient,) = tg.grad(logits, [x], create_graph=True)
            optimizer.step(tg.grad((gradient * gradient).sum() - logits, network.parameters()))

        step = tg.capture(step) if captured else step
        for i in range(4):
            step(np.random.default_rng(i).standard_normal((5, 3, 8, 8)).astype(np.float32))
        if captured:
            assert {"conv.grouped.convolve", "conv.grouped.weight_grad", "conv.grouped_tiles.convolve",
                    "conv.grouped_tiles.weight_grad"} <= {part.name for part in step.program.steps}
        return [np.array(p) for p in network.parameters()]

    for called, replayed in zip(play(False), play(True), strict=True):
        np.testing.assert_array_equal(called, replayed)


def test_small_convolutions_in_many_groups_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr(conv, "_compiled", lambda: pytest.fail("there is too little to compute"))
    x, w = np.ones((1, 64, 6, 6), np.float32), np.ones((64, 1, 3, 3), np.float32)
    assert tg.conv2d(x, w, groups=64).max() == 9
