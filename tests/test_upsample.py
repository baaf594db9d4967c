"""Upsampling against PyTorch, by hand and against finite differences, and what it refuses."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn

shapes = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
factors = st.sampled_from([0.5, 0.7, 1, 1.5, 2, 2.3, 3, 1 / 3])
targets = (st.fixed_dictionaries({"size": st.integers(1, 12) | st.tuples(st.integers(1, 12), st.integers(1, 12))})
           | st.fixed_dictionaries({"scale_factor": factors | st.tuples(factors, factors)}))
MODES = [{"mode": "nearest"}, {"mode": "bilinear", "align_corners": False}, {"mode": "bilinear", "align_corners": True}]


def interpolate(x, **options):
    return pytest.importorskip("torch").nn.functional.interpolate(x, **options)


@pytest.mark.oracle
@pytest.mark.parametrize("mode", MODES, ids=str)
@given(shape=shapes, target=targets, layout=layouts, seed=seeds)
@settings(max_examples=30)
def test_against_torch(device, mode, shape, target, layout, seed):
    torch = pytest.importorskip("torch")
    options = {**mode, **target}
    try:
        interpolate(torch.zeros(shape), **options)
    except RuntimeError:
        with pytest.raises(ValueError, match="upsample: "):
            tg.upsample(np.zeros(shape), **options)
        return
    agree(lambda x: tg.upsample(x, **options), lambda x: interpolate(x, **options), values(seed, shape), device=device,
          layout=layout)


@pytest.mark.oracle
def test_every_nearest_size_agrees_with_torch():
    """Where i * H / OH is a whole number, PyTorch's float32 may round to the pixel before."""
    torch = pytest.importorskip("torch")
    for size in (1, 3, 7, 28, 49):
        x = np.arange(size, dtype=np.float32).reshape(1, 1, 1, size)
        for count in range(1, 120):
            np.testing.assert_array_equal(tg.upsample(x, (1, count)), interpolate(torch.tensor(x), size=(1, count)).numpy())


def test_by_hand(device):
    x = np.array([[[[0.0, 4.0], [8.0, 12.0]]]])
    check_both_modes(lambda x: tg.upsample(x, scale_factor=2), np.kron(x, np.ones((1, 1, 2, 2))), x, device=device)
    check_both_modes(lambda x: tg.upsample(x, (2, 4), mode="bilinear"), [[[[0.0, 1, 3, 4], [8, 9, 11, 12]]]], x, device=device)
    check_both_modes(lambda x: tg.upsample(x, 3, mode="bilinear", align_corners=True),
                     [[[[0.0, 2, 4], [4, 6, 8], [8, 10, 12]]]], x, device=device)
    check_both_modes(lambda x: tg.upsample(x, 1), [[[[0.0]]]], x, device=device)


@pytest.mark.oracle
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 4), (3, 6), (6, 2), (4, 4)], ids=str)
def test_twice_and_half_the_size_against_torch(device, mode, size):
    """Whole factors, and factors that only give the same number of pixels: those measure other places."""
    pytest.importorskip("torch")
    for options in ({"scale_factor": 2}, {"scale_factor": 0.5}, {"scale_factor": (2, 0.5)}, {"scale_factor": 2.2}, {"scale_factor": 0.51},
                    {"size": (2 * size[0], size[1])}, {"size": ((size[0] + 1) // 2, (size[1] + 1) // 2)}):
        if min(size) == 1 and any(f < 1 for f in np.ravel(options.get("scale_factor", 1))):
            continue
        agree(lambda x, o=options: tg.upsample(x, **o, **mode), lambda x, o=options: interpolate(x, **o, **mode), values(0, (2, 3, *size)),
              device=device)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("target", [{"scale_factor": 2}, {"size": (5, 2)}, {"scale_factor": (1, 1.7)}, {"scale_factor": 0.5}], ids=str)
@given(layout=layouts, seed=seeds)
@settings(max_examples=2)
def test_gradients(mode, target, layout, seed):
    check(lambda x: tg.exp(tg.upsample(x, **target, **mode)), values(seed, (2, 2, 4, 3), -1, 1), layout=layout)


def test_nan_stays_where_it_is():
    x = np.zeros((1, 1, 2, 2))
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(tg.upsample(x, 4)).sum() == 4
    leaf = tg.Tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
    weights = np.zeros((1, 1, 4, 4))
    weights[0, 0, 0, 0] = np.nan
    assert np.isnan(tg.grad(tg.upsample(leaf, 4), leaf, tg.Tensor(weights)).numpy()).sum() == 1


IMAGES = np.ones((1, 2, 4, 4))


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.upsample(IMAGES), ValueError, "upsample: expected either size or scale_factor, got size None and scale_factor None"),
    (lambda: tg.upsample(IMAGES, 2, 2.0), ValueError, "upsample: expected either size or scale_factor"),
    (lambda: tg.upsample(IMAGES, 0), ValueError, r"upsample: size should be .* 1 or more, got 0 \(input \(1, 2, 4, 4\)\)"),
    (lambda: tg.upsample(IMAGES, 2.5), ValueError, "upsample: size should be one or two whole numbers"),
    (lambda: tg.upsample(IMAGES, scale_factor=-1), ValueError, "upsample: scale_factor should be one or two positive numbers, got -1"),
    (lambda: tg.upsample(IMAGES, scale_factor=(1, 2, 3)), ValueError, r"upsample: scale_factor .* \(1, 2, 3\)"),
    (lambda: tg.upsample(IMAGES, scale_factor=np.nan), ValueError, "upsample: scale_factor .* nan"),
    (lambda: tg.upsample(IMAGES, scale_factor=0.1), ValueError, r"upsample: scale_factor 0.1 leaves nothing of the input \(1, 2, 4, 4\)"),
    (lambda: tg.upsample(IMAGES, 2, mode="cubic"), ValueError, "upsample: unknown mode 'cubic', expected one of nearest, bilinear"),
    (lambda: tg.upsample(IMAGES, 2, align_corners=True), ValueError, "upsample: align_corners is for mode"),
    (lambda: tg.upsample(np.ones((4, 4)), 2), ValueError, r"upsample: input should be images \(N, C, H, W\).* got shape \(4, 4\)"),
    (lambda: tg.upsample(IMAGES.astype(int), 2), TypeError, "int64"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_layer():
    x = values(0, (2, 3, 4, 4)).astype(np.float32)
    for layer, expected, description in (
            (nn.Upsample(scale_factor=2), tg.upsample(x, scale_factor=2), "times 2, nearest"),
            (nn.Upsample((5, 6), mode="bilinear", align_corners=True), tg.upsample(x, (5, 6), mode="bilinear", align_corners=True),
             "to (5, 6), bilinear, align_corners")):
        np.testing.assert_array_equal(layer(x), expected)
        assert layer.describe() == description and not layer.couples_examples
