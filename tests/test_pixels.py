"""Pixel shuffle and its inverse, against PyTorch and by the definition."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn

sizes = st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))


def by_loops(x, r):
    n, channels, height, width = x.shape
    out = np.empty((n, channels // r**2, height * r, width * r))
    for c in range(channels // r**2):
        for i in range(r):
            for j in range(r):
                out[:, c, i::r, j::r] = x[:, c * r**2 + r * i + j]
    return out


@given(size=sizes, r=st.integers(1, 3), layout=layouts, seed=seeds)
def test_by_the_definition(device, size, r, layout, seed):
    n, channels, height, width = size
    x = values(seed, (n, channels * r**2, height, width))
    check_both_modes(lambda x: tg.pixel_shuffle(x, r), by_loops(x, r), x, device=device, layout=layout)
    check_both_modes(lambda x: tg.pixel_unshuffle(x, r), x, by_loops(x, r), device=device, layout=layout)


@given(layout=layouts, seed=seeds)
@settings(max_examples=3)
def test_gradients(layout, seed):
    check(lambda x: tg.exp(tg.pixel_shuffle(x, 2)), values(seed, (2, 4, 1, 2), -1, 1), layout=layout)
    check(lambda x: tg.exp(tg.pixel_unshuffle(x, 2)), values(seed, (2, 1, 2, 4), -1, 1), layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_layers_against_torch(device, factor):
    torch = pytest.importorskip("torch")
    for name, shape in (("PixelShuffle", (2, 2 * factor**2, 3, 2)), ("PixelUnshuffle", (2, 2, 3 * factor, 2 * factor))):
        ours, theirs = getattr(nn, name)(factor), getattr(torch.nn, name)(factor)
        agree(lambda x, ours=ours: tg.exp(ours(x)), lambda x, theirs=theirs: torch.exp(theirs(x)), values(0, shape, -1, 1),
              device=device)
        assert ours.describe() == f"{factor}" and not ours.couples_examples


@pytest.mark.parametrize("call, message", [
    (lambda: tg.pixel_shuffle(np.ones((1, 6, 2, 2)), 2), r"pixel_shuffle: 2 \* 2 should divide the 6 channels \(input \(1, 6, 2, 2\)\)"),
    (lambda: tg.pixel_unshuffle(np.ones((1, 1, 2, 3)), 2), r"pixel_unshuffle: 2 should divide height and width \(input \(1, 1, 2, 3\)\)"),
    (lambda: tg.pixel_shuffle(np.ones((1, 4, 2)), 2), "pixel_shuffle: input should be images"),
    (lambda: tg.pixel_shuffle(np.ones((1, 4, 2, 2)), 0), "pixel_shuffle: factor should be a whole number, 1 or more, got 0"),
    (lambda: nn.PixelShuffle(1.5), "PixelShuffle: factor should be a whole number, 1 or more, got 1.5"),
    (lambda: nn.PixelUnshuffle(-1), "PixelUnshuffle: factor should be a whole number, 1 or more, got -1"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
