"""Padding against PyTorch and NumPy, gradients of both orders, the layers, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn

NUMPYS = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@st.composite
def cases(draw):
    """(mode, shape, widths), the widths as wide as the mode allows."""
    mode, shape = draw(st.sampled_from(list(NUMPYS))), tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    most = {"constant": lambda n: 3, "reflect": lambda n: n - 1, "replicate": lambda n: 3, "circular": lambda n: n}[mode]
    return mode, shape, [(draw(st.integers(0, most(n))), draw(st.integers(0, most(n)))) for n in shape]


@given(case=cases(), layout=layouts, seed=seeds)
def test_against_numpy(device, case, layout, seed):
    mode, shape, widths = case
    x = values(seed, shape)
    check_both_modes(lambda x: tg.pad(x, widths, mode=mode), np.pad(x, widths, NUMPYS[mode]), x, device=device, layout=layout)


@given(case=cases(), layout=layouts, seed=seeds)
@settings(max_examples=8)
def test_gradients(case, layout, seed):
    mode, shape, widths = case
    check(lambda x: tg.exp(tg.pad(x, widths, mode=mode)), values(seed, shape, -1, 1), layout=layout)


LAYERS = [("ZeroPad", ()), ("ConstantPad", (1.5,)), ("ReflectionPad", ()), ("ReplicationPad", ()), ("CircularPad", ())]


@pytest.mark.oracle
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("name, more", LAYERS, ids=[name for name, _ in LAYERS])
def test_layers_against_torch(device, name, more, directions):
    torch = pytest.importorskip("torch")
    for padding in (2, (1, 2) if directions == 1 else (1, 0, 3, 2)):
        ours = getattr(nn, f"{name}{directions}d")(padding, *more)
        theirs = getattr(torch.nn, f"{name}{directions}d")(padding, *more)
        agree(lambda x, ours=ours: tg.exp(ours(x)), lambda x, theirs=theirs: torch.exp(theirs(x)),
              values(0, (2, 3, 4, 5)[:directions + 2], -1, 1), device=device)
        assert not ours.couples_examples and not ours.parameters()


def test_descriptions():
    assert nn.ReflectionPad2d(3).describe() == "3"
    assert nn.ConstantPad2d((1, 2, 3, 4), 0.5).describe() == "1, 2, 3, 4, value 0.5"


X = np.ones((2, 3))


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.pad(X, [(0, 0), (1, 1)], mode="mirror"), ValueError, "pad: unknown mode 'mirror', expected one of constant, reflect, replicate, circular"),
    (lambda: tg.pad(X, [(2, 0), (0, 0)], mode="reflect"), ValueError,
     r"pad: in mode 'reflect' the widths should be at most one less than the axis, got \(2, 0\) for axis 0 \(input \(2, 3\)\)"),
    (lambda: tg.pad(X, [(0, 0), (0, 4)], mode="circular"), ValueError, r"at most the axis, got \(0, 4\) for axis 1"),
    (lambda: tg.pad(np.ones((0, 3)), [(1, 0), (0, 0)], mode="replicate"), ValueError, "at most 0, because the axis is empty"),
    (lambda: tg.pad(X, [(0, 0), (1, 1)], 2.0, "reflect"), ValueError, "pad: value is for mode \"constant\", got 2.0 and mode 'reflect'"),
    (lambda: tg.pad(X, [(0, 0)], mode="reflect"), ValueError, "pad: widths should be a pair"),
    (lambda: tg.pad(X, [(0, 0), (-1, 1)], mode="circular"), ValueError, "pad: widths should be a pair .* not negative"),
    (lambda: nn.ReflectionPad2d((1, 2)), ValueError, r"ReflectionPad2d: padding should be one or 4 whole numbers, 0 or more, got \(1, 2\)"),
    (lambda: nn.ZeroPad1d(-1), ValueError, "ZeroPad1d: padding should be one or 2 whole numbers"),
    (lambda: nn.CircularPad2d(1)(np.ones((2, 3, 4))), ValueError, r"CircularPad2d: input should be of shape \(N, C, H, W\), got \(2, 3, 4\)"),
    (lambda: nn.ReplicationPad1d(1)(X), ValueError, r"ReplicationPad1d: input should be of shape \(N, C, L\)"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
