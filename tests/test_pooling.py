"""Pooling against PyTorch, plain loops and finite differences, and what it refuses."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, values
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn

RAISES = (RuntimeError, ValueError, TypeError, IndexError)


def torch_functions():
    return pytest.importorskip("torch").nn.functional


def sizes(low, high):
    return st.integers(low, high) | st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def poolings(draw, least=1):
    """(shape of the images, settings), from `least` on also those that do not fit."""
    settings = {"kernel_size": draw(sizes(max(least, 0), 4))}
    for name, low, high in (("stride", least, 3), ("padding", 0 if least else -1, 2), ("dilation", least, 2)):
        if draw(st.booleans()):
            settings[name] = draw(sizes(low, high))
    if draw(st.booleans()):
        settings["ceil_mode"] = draw(st.booleans())
    shape = draw(st.integers(0, 2)), draw(st.integers(min(least, 1), 3)), draw(st.integers(least, 7)), draw(st.integers(least, 7))
    return shape, settings


def of_mean(settings, include):
    """The same windows for avg_pool2d."""
    return {**{name: value for name, value in settings.items() if name != "dilation"}, "count_include_pad": include}


def slips_through(shape, options):
    """Whether the places of a dilated window may all lie in the padding: PyTorch then reads beyond the image."""
    two = {name: value if isinstance(value, tuple) else (value, value) for name, value in options.items() if name != "ceil_mode"}
    return any(not any(0 <= start + j * d < size for j in range(k))
               for size, k, p, d in zip(shape[2:], two["kernel_size"], two.get("padding", (0, 0)), two.get("dilation", (1, 1)),
                                        strict=True) for start in range(-p, 0))


def accepted(function, shape, options):
    import torch

    try:
        return function(torch.zeros(shape), **options).shape
    except RAISES:
        return None


@pytest.mark.oracle
@given(case=poolings(), layout=layouts, seed=seeds)
@settings(max_examples=40)
@example(case=((1, 2, 5, 5), {"kernel_size": 2, "stride": 3, "ceil_mode": True}), layout=None, seed=0)
@example(case=((1, 1, 1, 1), {"kernel_size": 4, "padding": 2, "ceil_mode": True}), layout=None, seed=0)
@example(case=((0, 2, 4, 4), {"kernel_size": 2}), layout=None, seed=0)
def test_max_pool2d_against_torch(device, case, layout, seed):
    theirs = torch_functions().max_pool2d
    shape, options = case
    if accepted(theirs, shape, options) is None or slips_through(shape, options):
        return
    agree(lambda x: tg.max_pool2d(x, **options), lambda x: theirs(x, **options), values(seed, shape), device=device,
          **({} if layout is None else {"layout": layout}))


@pytest.mark.oracle
@given(case=poolings(), include=st.booleans(), layout=layouts, seed=seeds)
@settings(max_examples=40)
@example(case=((1, 2, 5, 5), {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True}), include=True, layout=None, seed=0)
@example(case=((1, 2, 6, 6), {"kernel_size": 4, "stride": 3, "padding": 1, "ceil_mode": True}), include=True, layout=None, seed=0)
@example(case=((1, 2, 6, 6), {"kernel_size": 4, "stride": 3, "padding": 1, "ceil_mode": True}), include=False, layout=None, seed=0)
@example(case=((0, 2, 4, 4), {"kernel_size": 2}), include=True, layout=None, seed=0)
def test_avg_pool2d_against_torch(device, case, include, layout, seed):
    theirs = torch_functions().avg_pool2d
    shape, options = case[0], of_mean(case[1], include)
    if accepted(theirs, shape, options) is None:
        return
    agree(lambda x: tg.avg_pool2d(x, **options), lambda x: theirs(x, **options), values(seed, shape), device=device,
          **({} if layout is None else {"layout": layout}))


@pytest.mark.oracle
@given(case=poolings(least=0), include=st.booleans())
@settings(max_examples=200)
def test_what_torch_refuses_is_refused(case, include):
    functions = torch_functions()
    shape, options = case
    for ours, theirs, chosen in ((tg.max_pool2d, functions.max_pool2d, options),
                                 (tg.avg_pool2d, functions.avg_pool2d, of_mean(options, include))):
        expected = accepted(theirs, shape, chosen)
        if expected is None:
            with pytest.raises(ValueError, match=r"(max|avg)_pool2d: .*\(\d+, \d+, \d+, \d+\)"):
                ours(np.zeros(shape), **chosen)
        elif not (ours is tg.max_pool2d and slips_through(shape, options)):
            assert ours(np.zeros(shape), **chosen).shape == tuple(expected)


@pytest.mark.oracle
@given(seed=seeds, kernel=st.integers(1, 3), stride=st.integers(1, 3))
def test_ties_and_nan_go_where_torchs_go(seed, kernel, stride):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(seed).choice([0.0, 1.0, 1.0, -np.inf, np.nan], (2, 2, 5, 5), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    ours, theirs = tg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = tg.max_pool2d(ours, kernel, stride)
    t_y = torch_functions().max_pool2d(theirs, kernel, stride)
    np.testing.assert_array_equal(y.numpy(), t_y.detach().numpy())
    weights = values(seed, y.shape)
    expected, = torch.autograd.grad(t_y, theirs, torch.tensor(weights))
    np.testing.assert_allclose(tg.grad(y, ours, tg.Tensor(weights)).numpy(), expected.numpy(), atol=1e-12)


# Without PyTorch


def windows_of(x, kernel, stride, padding, dilation=1):
    """(image, channel, row, column, [the elements of that window]), in plain loops."""
    height, width = x.shape[2:]
    reach = dilation * (kernel - 1)
    for n, c in np.ndindex(x.shape[:2]):
        for row, top in enumerate(range(-padding, height + padding - reach, stride)):
            for column, left in enumerate(range(-padding, width + padding - reach, stride)):
                yield n, c, row, column, [x[n, c, top + i * dilation, left + j * dilation] for i, j in np.ndindex(kernel, kernel)
                                          if 0 <= top + i * dilation < height and 0 <= left + j * dilation < width]


@pytest.mark.parametrize("kernel, stride, padding, dilation", [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (1, 3, 0, 1), (2, 1, 1, 1)])
@given(seed=seeds, layout=layouts)
@settings(max_examples=5)
def test_against_loops(kernel, stride, padding, dilation, seed, layout):
    x = values(seed, (2, 3, 6, 7))
    largest, means = {}, {}
    for n, c, row, column, elements in windows_of(x, kernel, stride, padding, dilation):
        largest[n, c, row, column] = max(elements)
    for n, c, row, column, elements in windows_of(x, kernel, stride, padding):
        means[n, c, row, column] = sum(elements) / len(elements)
    for fn, expected in ((lambda x: tg.max_pool2d(x, kernel, stride, padding, dilation), largest),
                         (lambda x: tg.avg_pool2d(x, kernel, stride, padding, count_include_pad=False), means)):
        shape = tuple(1 + last for last in max(expected))
        check_both_modes(fn, np.array([expected[i] for i in np.ndindex(shape)]).reshape(shape), x, layout=layout)


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"padding": 1, "stride": 3, "ceil_mode": True}], ids=str)
def test_gradients(options):
    x = values(0, (1, 4, 3, 2))  # channels-last

    def images(x):
        return tg.transpose(x, (0, 3, 1, 2))

    check(lambda x: tg.mul(tg.max_pool2d(images(x), 2, **options), 2.0), x)
    check(lambda x: tg.avg_pool2d(images(x), (2, 3), **options), x)
    check(lambda x: tg.exp(tg.avg_pool2d(images(x), 2, count_include_pad=False, **options)), x)


def test_the_first_of_equal_elements_gets_the_gradient():
    x = tg.Tensor(np.ones((1, 1, 2, 4)), requires_grad=True)
    gradient = tg.grad(tg.max_pool2d(x, 2).sum(), x)
    np.testing.assert_array_equal(gradient.numpy()[0, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_overlapping_windows_add_up():
    x = tg.Tensor(np.array([[[[0.0, 5.0, 1.0]]]]), requires_grad=True)
    y = tg.max_pool2d(x, (1, 2), 1)
    np.testing.assert_array_equal(y.numpy(), [[[[5, 5]]]])
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), [[[[0, 2, 0]]]])


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.max_pool2d(np.ones((3, 4, 4)), 2), ValueError, r"max_pool2d: input should be images \(N, C, H, W\).* got shape \(3, 4, 4\)"),
    (lambda: tg.avg_pool2d(np.ones((1, 1, 0, 4)), 2), ValueError, r"avg_pool2d: .* got shape \(1, 1, 0, 4\)"),
    (lambda: tg.max_pool2d(np.ones((1, 1, 4, 4)), 5), ValueError, r"max_pool2d: kernel_size \(5, 5\) is larger .* \(input \(1, 1, 4, 4\)\)"),
    (lambda: tg.max_pool2d(np.ones((1, 1, 4, 4)), 2, padding=2), ValueError, r"max_pool2d: padding \(2, 2\) should be at most half"),
    (lambda: tg.max_pool2d(np.ones((1, 1, 4, 4)), 2, stride=0), ValueError, "max_pool2d: stride should be one or two whole numbers, 1 or more, got 0"),
    (lambda: tg.max_pool2d(np.ones((1, 1, 1, 4)), 2, padding=1, dilation=2), ValueError, r"max_pool2d: with kernel_size .* nothing but padding \(input \(1, 1, 1, 4\)\)"),
    (lambda: tg.avg_pool2d(np.ones((1, 1, 4, 4), int), 2), TypeError, "int64"),
    (lambda: tg.max_pool2d(None, 2), TypeError, "max_pool2d: expected a Tensor or an array, got NoneType"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_layers():
    x = values(0, (2, 3, 6, 6)).astype(np.float32)
    network = nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))
    np.testing.assert_array_equal(network(x), tg.avg_pool2d(tg.max_pool2d(x, 3, 2, 1), 2, ceil_mode=True, count_include_pad=False))
    assert not any(layer.couples_examples for layer in network)
    assert [layer.describe() for layer in network] == ["3, stride 2, padding 1", "2, ceil_mode True, count_include_pad False"]
    assert network.state_dict() == {}
