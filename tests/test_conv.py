"""The convolution triangle against PyTorch, plain loops, finite differences and NumPy, by every algorithm."""
from __future__ import annotations

import warnings

import numba
import numpy as np
import pytest
from helpers import (
    CONTIGUOUS,
    Layout,
    agree,
    check,
    check_both_modes,
    close,
    layouts,
    seeds,
    to_device,
    to_numpy,
    use_compiled_kernels,
    values,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.kernels.cpu import conv
from tinygan.kernels.cpu.conv import im2col
from tinygan.ops.conv_geometry import ALGORITHMS, Geometry
from tinygan.random import Key

TOLERANCES = {"float64": 1e-10, "float32": 1e-4}  # relative to the largest element
CHANNELS_LAST = Layout(lambda a: np.array(a.transpose(0, 2, 3, 1), order="C") if a.ndim == 4 else a,
                       lambda x: tg.transpose(x, (0, 3, 1, 2)) if x.ndim == 4 else x)
memory = layouts | st.just(CHANNELS_LAST)
drawn_algorithms = st.sampled_from(ALGORITHMS)
algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)

# (kernel, stride, padding, output_padding) of layers as in DCGAN; SIZES has their images, channels and batches.
KINDS = [(4, 2, 1, 0), (5, 2, 2, 1), (3, 1, 1, 0), (3, 2, 1, 1), (2, 1, 0, 0), (2, 1, 1, 0), (4, 1, 0, 0), (1, 1, 0, 0)]
# Most of these have more than 262,144 products, so compiled kernels serve them. Many sizes are not whole blocks.
SIZES = [  # (batch, channels in, channels out, height, width)
    (1, 40, 33, 9, 14), (3, 8, 40, 7, 20), (5, 20, 16, 8, 8), (2, 17, 19, 20, 9), (5, 1, 40, 18, 20), (4, 33, 1, 20, 19),
    (5, 32, 24, 4, 4),
]
CASES = [(kind, SIZES[(i + j) % len(SIZES)]) for i, kind in enumerate(KINDS) for j in (0, 3)]


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_torch():
    """Torch uses one thread here. For such small arrays several would wait for each other much longer than they compute."""
    try:
        import torch
    except ImportError:
        yield
        return
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def torch_functions():
    return pytest.importorskip("torch").nn.functional


def ours(algorithm, function):
    """The function, with its forward pass and its gradients computed by that algorithm."""
    def run(*args):
        with tg.conv_algorithm(algorithm):
            return function(*args)

    return run


# Drawn arguments


@st.composite
def convolutions(draw, transposed=False):
    """(shape of the input, shape of the weight, settings), all valid, and small enough for plain loops."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, kernels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    stride, padding = draw(pairs(1, 3)), draw(pairs(0, 2))
    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        size = [max(draw(st.integers(1, 5)), 1 + (2 * p - r) // s + 1 if r <= 2 * p else 1)  # the result is not empty
                for p, r, s in zip(padding, reach, stride, strict=True)]
        settings["output_padding"] = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    else:
        if stride == (1, 1) and draw(st.booleans()):
            settings["padding"] = draw(st.sampled_from(["same", "valid"]))
            padding = (0, 0)
        least = [1 if settings["padding"] == "same" else max(r - 2 * p, 1) for r, p in zip(reach, padding, strict=True)]
        size = [draw(st.integers(n, n + 4)) for n in least]
    batch = draw(st.sampled_from([0, 1, 1, 2, 3]))
    weight = (channels, kernels // groups, *kernel) if transposed else (kernels, channels // groups, *kernel)
    return (batch, channels, *size), weight, settings


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def arrays_of(case, bias, seed):
    x, weight, options = case
    kernels = weight[1] * options["groups"] if "output_padding" in options else weight[0]
    return [values(seed, x), values(seed + 1, weight), *([values(seed + 2, (kernels,))] if bias else [])]


# Against PyTorch


@pytest.mark.oracle
@given(algorithm=drawn_algorithms, case=convolutions(), bias=st.booleans(), layout=memory, seed=seeds)
@settings(max_examples=25)
@example(algorithm="tiled", case=((2, 3, 1, 1), (2, 3, 4, 4), {"padding": "same", "groups": 1}),
         bias=True, layout=CONTIGUOUS, seed=0)
@example(algorithm="tiled", case=((2, 2, 1, 1), (3, 2, 1, 1), {"groups": 1}), bias=True, layout=CHANNELS_LAST, seed=0)
@example(algorithm="tiled", case=((1, 2, 3, 2), (2, 2, 5, 6), {"padding": (1, 2), "groups": 1}),
         bias=False, layout=CONTIGUOUS, seed=0)
@example(algorithm="tiled", case=((0, 2, 0, 4), (2, 2, 2, 2), {"padding": 1, "groups": 1}),
         bias=True, layout=CONTIGUOUS, seed=0)
@example(algorithm="tiled", case=((2, 4, 5, 5), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
         bias=True, layout=CHANNELS_LAST, seed=0)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_conv2d_against_torch(device, algorithm, case, bias, layout, seed):
    theirs = torch_functions().conv2d
    agree(ours(algorithm, lambda *a: tg.conv2d(*a, **case[2])), lambda *a: theirs(*a, **case[2]),
          *arrays_of(case, bias, seed), device=device, layout=layout, tolerances=TOLERANCES)


@pytest.mark.oracle
@given(algorithm=drawn_algorithms, case=convolutions(transposed=True), bias=st.booleans(), layout=memory, seed=seeds)
@settings(max_examples=25)
@example(algorithm="tiled", case=((0, 2, 0, 4), (2, 2, 3, 2), {"output_padding": 0, "groups": 1}),
         bias=True, layout=CONTIGUOUS, seed=0)
@example(algorithm="tiled", case=((0, 2, 4, 4), (2, 2, 1, 1), {"output_padding": 0, "padding": 2, "groups": 1}), bias=True, layout=CONTIGUOUS,
         seed=0)
@example(algorithm="tiled", case=((2, 4, 1, 1), (4, 3, 4, 4), {"output_padding": 0, "groups": 1}),
         bias=True, layout=CONTIGUOUS, seed=0)
@example(algorithm="tiled", case=((1, 2, 1, 1), (2, 3, 1, 1), {"output_padding": 2, "stride": 3, "padding": 1, "groups": 1}), bias=True,
         layout=CONTIGUOUS, seed=0)
def test_conv_transpose2d_against_torch(device, algorithm, case, bias, layout, seed):
    theirs = torch_functions().conv_transpose2d
    agree(ours(algorithm, lambda *a: tg.conv_transpose2d(*a, **case[2])), lambda *a: theirs(*a, **case[2]),
          *arrays_of(case, bias, seed), device=device, layout=layout, tolerances=TOLERANCES)


@pytest.mark.oracle
@given(algorithm=drawn_algorithms, case=convolutions(), layout=memory, seed=seeds)
def test_conv2d_weight_grad_against_torch(device, algorithm, case, layout, seed):
    torch = pytest.importorskip("torch")
    shape, weight, options = case
    if isinstance(options["padding"], str) or not shape[0]:  # (PyTorch takes no words here, and fails for an empty batch)
        return
    y = torch_functions().conv2d(torch.zeros(shape), torch.zeros(weight), **options).shape

    def theirs(x, y):
        start = torch.zeros(weight, dtype=x.dtype, requires_grad=True)
        out = torch_functions().conv2d(x, start, **options)
        return torch.autograd.grad(out, start, y, create_graph=True)[0]

    agree(ours(algorithm, lambda x, y: tg.conv2d_weight_grad(x, y, weight[2:], **options)), theirs,
          values(seed, shape), values(seed + 1, y), device=device, layout=layout, tolerances=TOLERANCES)


@pytest.mark.oracle
@algorithms
@pytest.mark.parametrize("kind, size", CASES[::2], ids=str)
def test_layers_of_a_dcgan_against_torch(fast_device, algorithm, kind, size):
    """`agree` compares in float32 and float64, for sizes that compiled kernels serve."""
    functions = torch_functions()
    kernel, stride, padding, extra = kind
    batch, channels, kernels, *space = size
    x, bias = values(0, (batch, channels, *space)), values(1, (kernels,))
    agree(ours(algorithm, lambda *a: tg.conv2d(*a, stride, padding)), lambda *a: functions.conv2d(*a, stride, padding),
          x, values(2, (kernels, channels, kernel, kernel)) / kernel, bias, device=fast_device, layout=CHANNELS_LAST,
          tolerances=TOLERANCES)
    agree(ours(algorithm, lambda *a: tg.conv_transpose2d(*a, stride, padding, extra)),
          lambda *a: functions.conv_transpose2d(*a, stride, padding, extra),
          x, values(3, (channels, kernels, kernel, kernel)) / kernel, bias, device=fast_device, tolerances=TOLERANCES)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu"])
@pytest.mark.parametrize("size", [(2, 3, 4, 5, 4), (2, 16, 20, 10, 12)], ids=str)
def test_activation_in_the_same_pass(device, name, size):
    functions = torch_functions()
    batch, channels, kernels, *space = size
    x, bias = values(0, (batch, channels, *space)), values(1, (kernels,))
    theirs = {"leaky_relu": lambda y: functions.leaky_relu(y, 0.3), "elu": lambda y: functions.elu(y, 0.3)}.get(
        name, getattr(pytest.importorskip("torch"), name, None) or functions.softplus)
    agree(lambda *a: tg.conv2d(*a, 2, 1, activation=name, slope=0.3), lambda *a: theirs(functions.conv2d(*a, None, 2, 1)
          if len(a) == 2 else functions.conv2d(*a, 2, 1)), x, values(2, (kernels, channels, 4, 4)) / 4, bias, device=device)
    agree(lambda *a: tg.conv_transpose2d(*a, 2, 1, activation=name, slope=0.3),
          lambda *a: theirs(functions.conv_transpose2d(*a, 2, 1)), x, values(3, (channels, kernels, 4, 4)) / 4, bias,
          device=device)


# Any arguments, also invalid ones: tinygan refuses what PyTorch refuses, and otherwise gives the same results


@st.composite
def attempts(draw):
    channels, groups = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    per_group = channels // max(groups, 1) if draw(st.integers(0, 3)) else draw(st.integers(0, 3))
    number = st.integers(-1, 3)
    size = number | st.tuples(number, number) | st.tuples(number) | st.tuples(number, number, number)
    options = {name: draw(size) for name in draw(st.sets(st.sampled_from(["stride", "dilation", "padding"])))}
    if draw(st.integers(0, 3)) == 0:
        options["padding"] = draw(st.sampled_from(["same", "valid", "full"]))
    return ((draw(st.integers(0, 2)), channels, draw(st.integers(0, 5)), draw(st.integers(0, 5))),
            (draw(st.integers(0, 4)), per_group, draw(st.integers(0, 3)), draw(st.integers(0, 3))), groups, options,
            draw(st.sampled_from([None, "right", 1])))


def compare_attempt(ours, theirs, x, weight, bias, options):
    """Give both libraries the same arguments, and compare what they do. Returns whether the arguments were accepted."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused = 0
        for dtype in (torch.float32, torch.float64):
            arrays = [torch.tensor(a).to(dtype) for a in (x, weight, *([] if bias is None else [bias]))]
            try:
                expected = theirs(*arrays, **options)
            except (RuntimeError, ValueError, TypeError, IndexError):
                refused += 1
    arrays = [x, weight, *([] if bias is None else [bias])]
    if refused:  # (PyTorch may refuse only one of the two dtypes; tinygan then refuses both)
        with pytest.raises(ValueError) as error:
            ours(*arrays, **options)
        message = str(error.value)
        assert message.startswith("conv") and str(x.shape) in message and str(weight.shape) in message, message
        return False
    y = ours(*arrays, **options)
    close(y, expected.numpy(), 1e-10)
    return True


@pytest.mark.oracle
@given(attempt=attempts(), seed=seeds)
@settings(max_examples=200)
def test_conv2d_of_any_arguments(attempt, seed):
    theirs = torch_functions().conv2d
    x, weight, groups, options, bias = attempt
    if not x[0]:
        return  # PyTorch doesn't check all of the arguments then
    if not x[1]:
        return  # PyTorch's result has no channel there, whatever the weight (see below)
    bias = None if bias is None else values(seed, (weight[0] if bias == "right" else bias,))
    compare_attempt(tg.conv2d, theirs, values(seed, x), values(seed, weight), bias, {**options, "groups": groups})


@pytest.mark.oracle
@given(attempt=attempts(), seed=seeds, extra=st.integers(-1, 2) | st.tuples(st.integers(0, 2), st.integers(0, 2)))
@settings(max_examples=200)
def test_conv_transpose2d_of_any_arguments(attempt, seed, extra):
    theirs = torch_functions().conv_transpose2d
    x, weight, groups, options, bias = attempt
    if not x[0]:
        return  # PyTorch doesn't check all of the arguments then
    weight = (weight[1] * max(groups, 1), weight[0], *weight[2:])
    bias = None if bias is None else values(seed, (weight[1] * groups if bias == "right" else bias,))
    compare_attempt(tg.conv_transpose2d, theirs, values(seed, x), values(seed, weight), bias,
                    {**options, "groups": groups, "output_padding": extra})


def test_images_without_channels_are_sums_of_nothing():
    """(In PyTorch the result has no channels, either.)"""
    x, weight = np.zeros((2, 0, 4, 4)), tg.Tensor(np.zeros((3, 0, 2, 2)), requires_grad=True)
    y = tg.conv2d(x, weight, np.array([1.0, 2.0, 3.0]), stride=2)
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(np.array([1.0, 2, 3])[:, None, None], (2, 3, 2, 2)))
    assert tg.grad(y.sum(), weight).shape == (3, 0, 2, 2)


# Without PyTorch


def geometry_of(x, weight, options, transposed=False):
    """The Geometry by the definition of the convolution: the size of the output is found by counting the places of the
    kernel."""
    stride, padding, dilation = options["stride"], options["padding"], options["dilation"]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight[2:], strict=True)]
    if transposed:
        output = x[2:]
        size = tuple((n - 1) * s - 2 * p + r + e for n, s, p, r, e in
                     zip(output, stride, padding, reach, options["output_padding"], strict=True))
    else:
        size = x[2:]
        output = tuple(len(range(0, n + 2 * p - r + 1, s)) for n, p, r, s in zip(size, padding, reach, stride, strict=True))
    return Geometry(size, weight[2:], output, stride, padding, dilation, options["groups"])


@given(algorithm=drawn_algorithms, case=convolutions(), layout=memory, seed=seeds)
def test_conv2d_and_weight_grad_against_loops(algorithm, case, layout, seed):
    shape, weight, options = case
    if isinstance(options["padding"], str):
        return
    g = geometry_of(shape, weight, options)
    x, w, y = values(seed, shape), values(seed + 1, weight), values(seed + 2, (shape[0], weight[0], *g.output))
    check_both_modes(ours(algorithm, lambda x, w: tg.conv2d(x, w, **options)), reference.conv2d(x, w, g), x, w,
                     layout=layout)
    check_both_modes(ours(algorithm, lambda x, y: tg.conv2d_weight_grad(x, y, weight[2:], **options)),
                     reference.conv2d_weight_grad(x, y, g), x, y, layout=layout)


@given(algorithm=drawn_algorithms, case=convolutions(transposed=True), layout=memory, seed=seeds)
def test_conv_transpose2d_against_loops(algorithm, case, layout, seed):
    shape, weight, options = case
    y, w = values(seed, shape), values(seed + 1, weight)
    expected = reference.conv2d_input_grad(y, w, geometry_of(shape, weight, options, transposed=True))
    check_both_modes(ours(algorithm, lambda y, w: tg.conv_transpose2d(y, w, **options)), expected, y, w, layout=layout)


@pytest.mark.parametrize("dtype", TOLERANCES)
@given(algorithm=drawn_algorithms, case=convolutions() | convolutions(transposed=True), layout=memory, seed=seeds,
       activation=st.sampled_from(["identity", "leaky_relu", "tanh"]))
@settings(max_examples=60)
def test_compiled_kernels_of_any_sizes_against_loops(dtype, algorithm, case, layout, seed, activation):
    """Compiled kernels also for small arrays, which usually go to NumPy."""
    shape, weight, options = case
    if isinstance(options["padding"], str):
        return
    transposed = "output_padding" in options
    g = geometry_of(shape, weight, options, transposed)
    images = (shape[0], weight[1] * g.groups, *g.input)
    maps = (shape[0], weight[0], *g.output)
    x, y, w, bias = (values(seed + i, shape).astype(dtype) for i, shape in
                     enumerate([images, maps, weight, (images[1] if transposed else maps[1],)]))
    with pytest.MonkeyPatch.context() as patch:
        use_compiled_kernels(patch)

        def run(function, *arrays):
            return np.asarray(ours(algorithm, function)(*[layout.view(layout.store(a)) for a in arrays]))

        if transposed:
            expected = reference.conv2d_input_grad(y, w, g)
            found = run(lambda y, w: tg.conv_transpose2d(y, w, bias, **options, activation=activation), y, w)
        else:
            expected = reference.conv2d(x, w, g)
            found = run(lambda x, w: tg.conv2d(x, w, bias, **options, activation=activation), x, w)
            close(run(lambda x, y: tg.conv2d_weight_grad(x, y, weight[2:], **options), x, y),
                  reference.conv2d_weight_grad(x, y, g), TOLERANCES[dtype])
        close(found, reference.activation(expected + bias[:, None, None], activation, 0.2), TOLERANCES[dtype])


@algorithms
def test_a_kernel_laid_over_an_image_by_hand(algorithm):
    x, w = np.array([[[[1.0, 2], [3, 4]]]]), np.array([[[[10.0, 1], [0, 100]]]])
    with tg.conv_algorithm(algorithm):
        np.testing.assert_array_equal(tg.conv2d(x, w), [[[[412.0]]]])
        np.testing.assert_array_equal(tg.conv2d(x, w, padding="same"), [[[[412.0, 20], [34, 40]]]])
        np.testing.assert_array_equal(tg.conv_transpose2d(x, w), [[[[10.0, 21, 2], [30, 143, 204], [0, 300, 400]]]])


@pytest.mark.parametrize("options", [
    {}, {"stride": 2, "padding": 1}, {"stride": (1, 3), "padding": (2, 0)}, {"dilation": (2, 1), "padding": 1},
    {"groups": 2, "stride": 2, "padding": 1}, {"activation": "tanh", "stride": 2}, {"activation": "leaky_relu"},
], ids=str)
@algorithms
def test_gradients(algorithm, options, monkeypatch):
    if algorithm != "auto":
        use_compiled_kernels(monkeypatch)  # although the arrays are small
    groups = options.get("groups", 1)
    bias = values(3, (2,))
    check(ours(algorithm, lambda x, w, b: tg.conv2d(x, w, b, **options)), values(1, (1, 2, 3, 4)),
          values(2, (2, 2 // groups, 3, 2)), bias, layout=CHANNELS_LAST)
    check(ours(algorithm, lambda x, w, b: tg.conv_transpose2d(x, w, b, **options)), values(1, (1, 2, 3, 2)),
          values(2, (2, 2 // groups, 3, 2)), bias, layout=CHANNELS_LAST)


@algorithms
def test_gradients_of_the_weight_grad_and_of_same_padding(algorithm):
    check(ours(algorithm, lambda x, y: tg.conv2d_weight_grad(x, y, (3, 2), stride=2, padding=1)), values(1, (2, 2, 4, 5)),
          values(2, (2, 3, 2, 3)))
    check(ours(algorithm, lambda x, w: tg.conv2d(x, w, padding="same")), values(1, (1, 2, 2, 3)), values(2, (2, 2, 2, 3)))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind, size", CASES, ids=str)
@algorithms
def test_layers_of_a_dcgan_against_numpy(fast_device, algorithm, kind, size, dtype):
    """All three maps, with bias and activation, for sizes that compiled kernels serve, against NumPy in float64."""
    kernel, stride, padding, extra = kind
    batch, channels, kernels, *space = size
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def compare(y, expected):
        close(to_numpy(y), expected, TOLERANCES[dtype])

    options = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": 1,
               "output_padding": (extra,) * 2}
    x, w, bias = draw(batch, channels, *space), draw(kernels, channels, kernel, kernel), draw(kernels)
    g = geometry_of(x.shape, w.shape, options)
    y = draw(batch, kernels, *g.output)
    with tg.conv_algorithm(algorithm):
        on_device = {name: to_device(a, fast_device) for name, a in (("x", x), ("w", w), ("bias", bias), ("y", y))}
        expected = im2col.conv2d(x.astype(np.float64), w.astype(np.float64), g)
        compare(tg.conv2d(on_device["x"], on_device["w"], None, stride, padding), expected)
        expected += bias[:, None, None]
        compare(tg.conv2d(on_device["x"], on_device["w"], on_device["bias"], stride, padding, activation="leaky_relu"),
                np.where(expected > 0, expected, 0.2 * expected))
        compare(tg.conv2d_weight_grad(on_device["x"], on_device["y"], kernel, stride, padding),
                im2col.conv2d_weight_grad(x.astype(np.float64), y.astype(np.float64), g))
        back = draw(channels, kernels, kernel, kernel)
        g = geometry_of(x.shape, back.shape, options, transposed=True)
        expected = im2col.conv2d_input_grad(x.astype(np.float64), back.astype(np.float64), g) + bias[:, None, None]
        compare(tg.conv_transpose2d(on_device["x"], to_device(back, fast_device), on_device["bias"], stride, padding, extra,
                                    activation="relu"), np.maximum(expected, 0))


@algorithms
@pytest.mark.parametrize("maps, weight, stride, padding", [
    ((1, 8, 4, 4), (8, 8, 4, 4), 2, 1), ((1, 8, 5, 5), (8, 8, 3, 3), 1, 0),
], ids=str)
def test_threads_never_add_to_one_pixel_at_once(algorithm, maps, weight, stride, padding, monkeypatch):
    """The windows of a transposed convolution overlap, so two threads must not add to the same pixel. Whether they would do so
    at the same time is chance, so the test tries often."""
    y, w = values(0, maps), values(1, weight)
    use_compiled_kernels(monkeypatch, False)
    expected = tg.conv_transpose2d(y, w, stride=stride, padding=padding)
    use_compiled_kernels(monkeypatch)
    with tg.conv_algorithm(algorithm):
        worst = max(np.abs(tg.conv_transpose2d(y, w, stride=stride, padding=padding) - expected).max() for _ in range(500))
    assert worst < 1e-10 * np.abs(expected).max()


@algorithms
def test_a_weight_is_used_as_it_is_now(algorithm, monkeypatch, device):
    """An array derived from a weight may be kept, but only until the weight changes, and only for the same view of it."""
    use_compiled_kernels(monkeypatch)
    x = to_device(values(0, (2, 4, 6, 6)), device)
    weight = tg.Parameter(to_device(values(1, (4, 4, 3, 3)), device))
    flips = [lambda w: w, lambda w: tg.flip(w, (2, 3)), lambda w: tg.transpose(w, (1, 0, 2, 3)), lambda w: tg.flip(w, 0)]
    with tg.conv_algorithm(algorithm):
        for i in range(3):
            for _ in range(2):
                for flip in flips:
                    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"padding": 1}):
                        for function in (tg.conv2d, tg.conv_transpose2d):
                            plain = to_device(np.array(flip(weight).numpy()), device)
                            np.testing.assert_array_equal(function(x, flip(weight), **options).numpy(),
                                                          to_numpy(function(x, plain, **options)))
            weight.assign(to_device(values(2 + i, (4, 4, 3, 3)), device))
    if device != "cpu":
        return
    wide = tg.Parameter(values(9, (2, 2, 5, 5)))
    for stride in (1, 2, 3, 4, 5):
        for function in (tg.conv2d, tg.conv_transpose2d):
            with tg.conv_algorithm(algorithm):
                found = function(values(0, (1, 2, 9, 9)), wide, stride=stride).numpy()
            use_compiled_kernels(monkeypatch, False)
            close(found, function(values(0, (1, 2, 9, 9)), wide.numpy(), stride=stride), 1e-10)
            use_compiled_kernels(monkeypatch)


def test_the_weight_of_a_transposed_convolution_is_that_of_the_convolution_it_reverses():
    """sum(y * conv(x, w)) = sum(x * conv_transpose(y, w))."""
    x, w, y = values(0, (2, 3, 7, 6)), values(1, (4, 3, 4, 4)), values(2, (2, 4, 3, 3))
    left = (y * tg.conv2d(x, w, stride=2, padding=1)).sum()
    assert left == pytest.approx((x * tg.conv_transpose2d(y, w, stride=2, padding=1, output_padding=(1, 0))).sum(), rel=1e-12)


def test_only_the_gradients_that_are_asked_for_are_computed(monkeypatch):
    def never(*args):
        raise AssertionError("nobody asked for this gradient")

    x, w, b = (tg.Tensor(values(i, shape), requires_grad=True) for i, shape in enumerate([(2, 3, 4, 4), (2, 3, 2, 2), (2,)]))
    for asked, unused in ((x, "conv2d_weight_grad"), (w, "conv2d_input_grad"), (b, "conv2d_weight_grad")):
        y = tg.conv2d(x, w, b, activation="relu").sum()
        with monkeypatch.context() as patch:
            patch.setattr(cpu, unused, never)
            tg.grad(y, asked)


def test_the_algorithm_of_the_forward_pass_is_that_of_its_gradients(monkeypatch):
    seen = []

    def spy(name, original):
        return lambda *args, **options: seen.append((name, next(a.algorithm for a in args if isinstance(a, Geometry)))) \
            or original(*args, **options)

    for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        monkeypatch.setattr(cpu, name, spy(name, getattr(cpu, name)))
    x, w = (tg.Tensor(values(i, shape), requires_grad=True) for i, shape in enumerate([(1, 2, 4, 4), (2, 2, 2, 2)]))
    with tg.conv_algorithm("direct"):
        y = tg.conv2d(x, w)
    tg.grad(y.sum(), [x, w])
    assert seen == [("conv2d", "direct"), ("conv2d_input_grad", "direct"), ("conv2d_weight_grad", "direct")]


def zeros(*shapes):
    return [np.zeros(shape) for shape in shapes]


BOTH = r"\(input \(2, 3, 5, 5\), weight \(4, 3, 2, 2\)\)"
PLAIN = zeros((2, 3, 5, 5), (4, 3, 2, 2))
BACK = zeros((2, 3, 5, 5), (3, 4, 2, 2))


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.conv2d(*zeros((8, 3, 28, 28), (16, 4, 4, 4))), ValueError,
     r"conv2d: input has 3 channels, weight expects 4 \(input \(8, 3, 28, 28\), weight \(16, 4, 4, 4\)\)"),
    (lambda: tg.conv2d(*PLAIN, stride=0), ValueError, "conv2d: stride should be one or two whole numbers, 1 or more, got 0 " + BOTH),
    (lambda: tg.conv2d(*PLAIN, stride=1.5), ValueError, "conv2d: stride .* got 1.5 " + BOTH),
    (lambda: tg.conv2d(*PLAIN, stride=True), ValueError, "conv2d: stride .* got True " + BOTH),
    (lambda: tg.conv2d(*PLAIN, padding=(1, 2, 3)), ValueError, r"conv2d: padding .* 0 or more, got \(1, 2, 3\) " + BOTH),
    (lambda: tg.conv2d(*PLAIN, padding="full"), ValueError, "conv2d: unknown padding 'full', .* " + BOTH),
    (lambda: tg.conv2d(*PLAIN, stride=2, padding="same"), ValueError, r'conv2d: padding "same" needs stride 1, got \(2, 2\) ' + BOTH),
    (lambda: tg.conv2d(*PLAIN, dilation=5), ValueError, r"conv2d: the kernel is larger than the input .* of \(0, 0\) " + BOTH),
    (lambda: tg.conv2d(*PLAIN, groups=3), ValueError, "conv2d: groups should divide the 4 kernels, .* got 3 " + BOTH),
    (lambda: tg.conv2d(*PLAIN, np.zeros(3)), ValueError, r"conv2d: bias has shape \(3,\), expected \(4,\) " + BOTH),
    (lambda: tg.conv2d(np.zeros((3, 5, 5)), PLAIN[1]), ValueError, r"conv2d: .* four axes each, .* \(input \(3, 5, 5\), weight \(4, 3, 2, 2\)\)"),
    (lambda: tg.conv2d(*PLAIN, activation="swoosh"), ValueError, "conv2d: unknown activation 'swoosh'"),
    (lambda: tg.conv2d(PLAIN[0], None), TypeError, "conv2d: expected a Tensor or an array, got NoneType"),
    (lambda: tg.conv2d(PLAIN[0].astype(int), PLAIN[1].astype(int)), TypeError, "conv2d: needs float32 or float64, got int64"),
    (lambda: tg.conv2d(PLAIN[0], PLAIN[1].astype(np.float32)), TypeError, "conv2d: inputs of different precision"),
    (lambda: tg.conv_transpose2d(PLAIN[0], PLAIN[1]), ValueError, "conv_transpose2d: input has 3 channels, weight expects 4 " + BOTH),
    (lambda: tg.conv_transpose2d(*BACK, output_padding=1), ValueError, r"conv_transpose2d: output_padding \(1, 1\) should be smaller than .* \(input"),
    (lambda: tg.conv_transpose2d(*BACK, padding=3), ValueError, r"conv_transpose2d: .* an output of 0 x 0 \(input \(2, 3, 5, 5\), weight \(3, 4, 2, 2\)\)"),
    (lambda: tg.conv_transpose2d(*BACK, padding="same"), ValueError, "conv_transpose2d: padding should be .* got 'same'"),
    (lambda: tg.conv2d_weight_grad(*zeros((2, 3, 5, 5), (2, 4, 3, 3)), 2), ValueError,
     r"conv2d_weight_grad: the output's gradient should be of shape \(2, K, 4, 4\) \(input \(2, 3, 5, 5\), output's gradient \(2, 4, 3, 3\)\)"),
    (lambda: tg.conv2d_weight_grad(*zeros((2, 3, 5, 5), (2, 4, 4, 4)), 6), ValueError, r"conv2d_weight_grad: the kernel \(6, 6\) is larger"),
    (lambda: tg.conv2d_weight_grad(*zeros((2, 3, 5, 5), (2, 4, 4, 4)), 2, groups=2), ValueError, "conv2d_weight_grad: groups .* the 3 channels of the input"),
    (lambda: tg.conv_algorithm("fast"), ValueError, "conv_algorithm: unknown algorithm 'fast', expected one of auto, direct, tiled"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numpy_integers_are_whole_numbers():
    assert tg.conv2d(*PLAIN, stride=np.int64(2), padding=[np.int32(1)]).shape == (2, 4, 3, 3)


WIDE = (32, 32, 4, 4)  # a weight with so many channels that its convolution uses matrix products on every processor


def before_and_after_each_task(monkeypatch, before=lambda: None, after=lambda: None):
    """Call `before` and `after` around each task of a convolution, as another thread or a signal handler might. Returns a
    list that collects the tasks."""
    convolution = conv._compiled()
    run, seen = convolution._run, []

    def observed(*arguments, **options):
        seen.append(arguments[0])
        before()
        run(*arguments, **options)
        after()

    monkeypatch.setattr(convolution, "_run", observed)
    return seen


def test_weights_packed_during_a_write_are_not_kept(monkeypatch):
    """Another thread may write to the weights while they are packed."""
    from tinygan.kernels.cpu.conv import weights

    weight = tg.Parameter(np.ones(WIDE, np.float32))
    x = np.ones((8, 32, 16, 16), np.float32)

    def assign():
        if weight.version.count == 0:
            weight.assign(np.full(WIDE, 2, np.float32))

    seen = before_and_after_each_task(monkeypatch, after=assign)
    tg.conv2d(x, weight)
    assert seen[0] == weights.make_pack(numba.float32)
    np.testing.assert_allclose(tg.conv2d(x, weight).numpy(), 2 * 32 * 16, rtol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_weights_are_packed_once_between_writes(fused, monkeypatch):
    """Also in the backward pass, whose ops get plain arrays. The expected counts were measured when ops still passed on the
    version of a weight."""
    from tinygan.kernels.cpu.conv import weights

    gan = tg.gans.VanillaGAN(*tg.gans.dcgan_networks((1, 28, 28), 5, 16), 5, key=Key(0))
    seen, counts = before_and_after_each_task(monkeypatch), []
    for i in range(3):
        seen.clear()
        with tg.fusion(fused):
            gan.step(Key(1).fold(i).uniform((16, 1, 28, 28), -1.0, 1.0))
        counts.append(seen.count(weights.make_pack(numba.float32)))
    assert counts == [6, 4, 4]


@pytest.mark.parametrize("channels", [16, 2], ids=["matrix products", "few channels"])
def test_a_convolution_within_another_has_memory_of_its_own(channels, monkeypatch):
    """A signal handler may run a network while the training is inside a convolution."""
    x, w = (np.random.default_rng(i).standard_normal(shape).astype(np.float32)
            for i, shape in enumerate([(16, channels, 16, 16), (32, channels, 4, 4)]))
    expected = cpu.conv2d(x, w, Geometry((16, 16), (4, 4), (8, 8), (2, 2), (1, 1), (1, 1), 1))
    inside = []

    def interrupt():
        if not inside:
            inside.append(True)
            tg.conv2d(np.ones((17, channels, 20, 20), np.float32), w, stride=2)
            inside.clear()

    seen = before_and_after_each_task(monkeypatch, before=interrupt)
    np.testing.assert_array_equal(tg.conv2d(x, w, stride=2, padding=1), expected)
    assert seen


@pytest.mark.parametrize("kept, packed, shared", [(0, 10**6, 0), (2**40, 0, 10**6), (2**40, 0, 0)],
                         ids=["packed as needed", "channels shared", "tiles shared"])
@pytest.mark.parametrize("kernel, stride, padding", [(4, 2, 1), (5, 2, 2), (3, 1, 1), (2, 1, 0), (3, 3, 0), (1, 1, 0)])
@pytest.mark.parametrize("algorithm", ["tiled", "direct"])
def test_every_division_of_labour_gives_the_same(monkeypatch, kept, packed, shared, kernel, stride, padding, algorithm):
    """How parts share the work, and when weights are packed, depends on sizes and on the number of cores."""
    from tinygan.kernels.cpu.conv import compiled as convolution
    from tinygan.kernels.cpu.conv import planner

    for name, value in (("MOST_PACKED_BYTES_TO_KEEP", kept), ("MOST_TILES_TO_PACK_AS_NEEDED", packed),
                        ("MOST_TILES_TO_SHARE_CHANNELS", shared)):
        monkeypatch.setattr(planner, name, value)
    monkeypatch.setattr(planner, "plan_tiles", planner.plan_tiles.__wrapped__)  # uncached: the cache ignores the thresholds
    monkeypatch.setattr(convolution.pool, "size", 2)
    channels, kernels, size = 19, 70, 9
    output = (size + 2 * padding - kernel) // stride + 1
    g = Geometry((size, size), (kernel, kernel), (output, output), (stride, stride), (padding, padding), (1, 1), 1, algorithm)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, size, size, channels)), rng.standard_normal((5, output, output, kernels))
    w = rng.standard_normal((kernels, channels, kernel, kernel))
    nchw = [np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (x, y)]
    tolerance = {"rtol": 0, "atol": 1e-10 * kernel**2 * kernels}
    np.testing.assert_allclose(convolution.conv2d(x, w, g, None, 0, 0.0).transpose(0, 3, 1, 2),
                               im2col.conv2d(nchw[0], w, g), **tolerance)
    np.testing.assert_allclose(convolution.conv2d_input_grad(y, w, g).transpose(0, 3, 1, 2),
                               im2col.conv2d_input_grad(nchw[1], w, g), **tolerance)
    np.testing.assert_allclose(convolution.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(*nchw, g), **tolerance)
