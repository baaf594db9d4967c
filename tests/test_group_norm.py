"""Group, instance and pixel normalisation: nothing is held constant, at any order. Their layers, and what they refuse."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, to_device, to_numpy, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn
from tinygan.random import Key

SHAPES = [(2, 4, 3, 2), (3, 4), (2, 6, 3), (1, 4, 1, 1), (0, 4, 2)]


def by_groups(x, groups, w, b, eps):
    out = np.empty_like(x)
    size = x.shape[1] // groups
    for n in range(x.shape[0]):
        for first in range(0, x.shape[1], size):
            part = x[n, first:first + size]
            out[n, first:first + size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    per_channel = (-1, *[1] * (x.ndim - 2))
    return out * w.reshape(per_channel) + b.reshape(per_channel)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(layout=layouts, seed=seeds, eps=st.sampled_from([1e-5, 0.3]))
@settings(max_examples=4)
def test_group_norm_by_the_definition(device, shape, layout, seed, eps):
    x, w, b = values(seed, shape), values(seed + 1, shape[1:2]), values(seed + 2, shape[1:2])
    for groups in (1, 2):
        check_both_modes(lambda x, w, b, g=groups: tg.group_norm(x, g, w, b, eps), by_groups(x, groups, w, b, eps), x, w, b,
                         device=device, layout=layout, rtol=1e-10)
    ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
    check_both_modes(lambda x: tg.group_norm(x, 2, eps=eps), by_groups(x, 2, ones, zeros, eps), x, device=device, rtol=1e-10)
    if np.prod(shape[2:]) > 1:
        check_both_modes(lambda x, w, b: tg.instance_norm(x, w, b, eps), by_groups(x, shape[1], w, b, eps), x, w, b,
                         device=device, layout=layout, rtol=1e-10)


@given(layout=layouts, seed=seeds)
@settings(max_examples=3)
def test_gradients(layout, seed):
    x, w, b = values(seed, (2, 4, 1, 2)), values(seed + 1, (4,)), values(seed + 2, (4,))
    check(lambda x, w, b: tg.group_norm(x, 2, w, b, 0.1), x, w, b, layout=layout)
    check(lambda x, w, b: tg.instance_norm(x, w, b, 0.1), x, w, b, layout=layout)
    check(lambda x: tg.pixel_norm(x, 0.1), x, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("affine", [False, True])
def test_against_torch(device, affine):
    functions = pytest.importorskip("torch").nn.functional
    arrays = [values(0, (3, 6, 4, 5)), *([values(1, (6,)), values(2, (6,))] if affine else [])]
    agree(lambda x, *a: tg.group_norm(x, 3, *a), lambda x, *a: functions.group_norm(x, 3, *a), *arrays, device=device)
    agree(tg.instance_norm, lambda x, *a: functions.instance_norm(x, None, None, *a), *arrays, device=device)
    signals = [arrays[0][..., 0], *arrays[1:]]
    agree(tg.instance_norm, lambda x, *a: functions.instance_norm(x, None, None, *a), *signals, device=device)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (4, 7), (2, 1, 3)], ids=str)
def test_pixel_norm_against_the_papers_formula(device, shape):
    """b / sqrt(mean over channels of a^2 + 1e-8), in PyTorch."""
    torch = pytest.importorskip("torch")
    agree(tg.pixel_norm, lambda x: x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-8), values(0, shape), device=device)


@pytest.mark.parametrize("dtype, scale", [("float32", 1e25), ("float32", 1e-3), ("float64", 1e200)])
def test_large_and_small_numbers(device, dtype, scale):
    """The square of 1e25 is infinite in float32."""
    x = (values(0, (2, 4, 3, 3)) * scale).astype(dtype)
    wide = x.astype(np.float64) / scale
    stored = to_device(x, device)
    found = [to_numpy(tg.group_norm(stored, 2)), to_numpy(tg.pixel_norm(stored))]
    expected = [by_groups(wide, 2, np.ones(4), np.zeros(4), 1e-5 / scale / scale), wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-8 / scale / scale)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_a_large_offset(device):
    x = (values(0, (2, 2, 8, 8)) + 1000).astype(np.float32)
    found = to_numpy(tg.instance_norm(to_device(x, device)))
    np.testing.assert_allclose(found, by_groups(x.astype(np.float64), 2, np.ones(2), np.zeros(2), 1e-5), rtol=0, atol=5e-6)


def test_zeros_stay_zeros():
    """A pixel of zeros has no direction: the root is that of eps, and the slope 1 / sqrt(eps)."""
    x = tg.Tensor(np.zeros((1, 3, 1, 1)), requires_grad=True)
    y = tg.pixel_norm(x)
    np.testing.assert_array_equal(y.numpy(), 0)
    np.testing.assert_allclose(tg.grad(y.sum(), x).numpy(), 1e4, rtol=1e-12)


LAYERS = [
    (lambda: nn.GroupNorm(2, 6), lambda t: t.GroupNorm(2, 6), "6 in 2 groups"),
    (lambda: nn.GroupNorm(3, 6, 0.1, affine=False), lambda t: t.GroupNorm(3, 6, 0.1, affine=False), "6 in 3 groups, not affine"),
    (lambda: nn.InstanceNorm2d(6), lambda t: t.InstanceNorm2d(6), "6"),
    (lambda: nn.InstanceNorm2d(6, 0.1, affine=True), lambda t: t.InstanceNorm2d(6, 0.1, affine=True), "6, affine"),
]


@pytest.mark.oracle
@pytest.mark.parametrize("make, make_theirs, description", LAYERS, ids=[description for *_, description in LAYERS])
def test_layers_against_torch(make, make_theirs, description):
    torch = pytest.importorskip("torch")
    ours, theirs = make().initialize(Key(0)), make_theirs(torch.nn)
    assert {k: v.tolist() for k, v in ours.state_dict().items()} == {k: v.tolist() for k, v in theirs.state_dict().items()}
    names = list(ours.state_dict())
    for m, t in ((ours, theirs), (ours.eval(), theirs.eval())):
        agree(lambda x, *a, m=m: nn.functional_call(m, dict(zip(names, a, strict=True)), x),
              lambda x, *a, t=t: torch.func.functional_call(t, dict(zip(names, a, strict=True)), (x,)),
              values(0, (2, 6, 3, 2)), *[values(i + 1, (6,)) for i in range(len(names))], dtypes=["float64"])
    assert ours.describe() == description and not ours.couples_examples


def test_pixel_norm_layer():
    x = values(0, (2, 3, 2, 2))
    layer = nn.PixelNorm()
    np.testing.assert_array_equal(layer(x), tg.pixel_norm(x))
    assert not layer.couples_examples and not layer.parameters()


X = np.ones((2, 4, 3, 3))


@pytest.mark.parametrize("call, message", [
    (lambda: tg.group_norm(X, 3), r"group_norm: groups should divide the 4 channels, got 3 \(input \(2, 4, 3, 3\)\)"),
    (lambda: tg.group_norm(X, 0), "group_norm: groups should divide the 4 channels, got 0"),
    (lambda: tg.group_norm(np.ones((2, 4)), 4), r"group_norm: expected more than one value per group, got input \(2, 4\)"),
    (lambda: tg.group_norm(X, 2, np.ones(3)), r"group_norm: weight should be of shape \(4,\) or None, got \(3,\) \(input \(2, 4, 3, 3\)\)"),
    (lambda: tg.group_norm(X, 2, np.ones(4), np.ones((4, 1))), r"group_norm: bias should be of shape \(4,\) or None, got \(4, 1\)"),
    (lambda: tg.group_norm(X, 2, eps=0), "group_norm: eps should be positive, got 0"),
    (lambda: tg.instance_norm(np.ones((2, 4, 1, 1))), r"instance_norm: expected more than one value per channel of an example, got input \(2, 4, 1, 1\)"),
    (lambda: tg.instance_norm(np.ones(4)), r"instance_norm: expected input \(N, C, ...\), got input \(4,\)"),
    (lambda: tg.pixel_norm(np.ones(4)), r"pixel_norm: expected input \(N, C, ...\)"),
    (lambda: tg.pixel_norm(np.ones((2, 0))), "pixel_norm: expected at least one channel"),
    (lambda: nn.GroupNorm(3, 4), "GroupNorm: groups should divide channels, and both should be at least 1, got 3 and 4"),
    (lambda: nn.GroupNorm(2, 4, eps=-1), "GroupNorm: eps should be positive, got -1"),
    (lambda: nn.GroupNorm(2, 4, affine=False)(np.ones((2, 6))), r"GroupNorm: expected input \(N, 4, ...\), got shape \(2, 6\)"),
    (lambda: nn.InstanceNorm2d(0), "InstanceNorm2d: channels should be a whole number, 1 or more, got 0"),
    (lambda: nn.InstanceNorm2d(4)(np.ones((2, 4, 3))), r"InstanceNorm2d: input should be images \(N, C, H, W\), got shape \(2, 4, 3\)"),
    (lambda: nn.InstanceNorm2d(4)(np.ones((2, 3, 3, 3))), r"InstanceNorm2d: expected input \(N, 4, ...\)"),
    (lambda: nn.PixelNorm(0), "PixelNorm: eps should be positive, got 0"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
