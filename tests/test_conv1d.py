"""Convolutions in one dimension against PyTorch, their layers, and what they refuse."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, layouts, seeds, values
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn
from tinygan.random import Key

OPTIONS = [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 3}, {"groups": 2, "stride": 3}, {"padding": "same"},
           {"padding": "same", "dilation": 3}, {"padding": "valid", "stride": (2,)}]
TRANSPOSED = [{}, {"stride": 2, "padding": 1}, {"stride": 3, "output_padding": 2}, {"dilation": 2, "groups": 2}]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(kernel=st.integers(1, 4), bias=st.booleans(), layout=layouts, seed=seeds)
@settings(max_examples=3)
def test_conv1d_against_torch(device, options, kernel, bias, layout, seed):
    functions = pytest.importorskip("torch").nn.functional
    arrays = [values(seed, (2, 4, 9)), values(seed + 1, (6, 4 // options.get("groups", 1), kernel))]
    arrays += [values(seed + 2, (6,))] * bias
    agree(lambda *a: tg.conv1d(*a, **options), lambda *a: functions.conv1d(*a, **options), *arrays, device=device, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
@given(kernel=st.integers(2, 4), bias=st.booleans(), layout=layouts, seed=seeds)
@settings(max_examples=3)
def test_conv_transpose1d_against_torch(device, options, kernel, bias, layout, seed):
    functions = pytest.importorskip("torch").nn.functional
    arrays = [values(seed, (2, 4, 5)), values(seed + 1, (4, 3, kernel))]
    arrays += [values(seed + 2, (3 * options.get("groups", 1),))] * bias
    agree(lambda *a: tg.conv_transpose1d(*a, **options), lambda *a: functions.conv_transpose1d(*a, **options), *arrays,
          device=device, layout=layout)


def test_by_hand():
    x, w = np.array([[[1.0, 2, 3, 4]]]), np.array([[[1.0, 10]]])
    np.testing.assert_array_equal(tg.conv1d(x, w), [[[21, 32, 43]]])
    np.testing.assert_array_equal(tg.conv1d(x, w, np.array([0.5]), 2, 1), [[[10.5, 32.5, 4.5]]])
    np.testing.assert_array_equal(tg.conv1d(x, -w, activation="leaky_relu"), [[[-4.2, -6.4, -8.6]]])
    np.testing.assert_array_equal(tg.conv_transpose1d(x, w), [[[1, 12, 23, 34, 40]]])
    np.testing.assert_array_equal(tg.conv_transpose1d(x, w, activation="relu"), [[[1, 12, 23, 34, 40]]])
    check(lambda x, w: tg.conv1d(x, w, activation="tanh", padding=1), x, w)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_layers_against_torch(device):
    torch = pytest.importorskip("torch")
    for ours, theirs, length in (
            (nn.Conv1d(4, 6, 3, 2, 1, groups=2), torch.nn.Conv1d(4, 6, 3, 2, 1, groups=2), 8),
            (nn.Conv1d(4, 2, 2, padding="same", bias=False), torch.nn.Conv1d(4, 2, 2, padding="same", bias=False), 8),
            (nn.ConvTranspose1d(4, 6, 4, 2, 1, 1, 2), torch.nn.ConvTranspose1d(4, 6, 4, 2, 1, 1, 2), 5)):
        state = theirs.state_dict()
        assert {k: v.shape for k, v in ours.initialize(Key(0)).state_dict().items()} == {k: tuple(v.shape) for k, v in state.items()}
        agree(lambda x, *a, m=ours, s=state: nn.functional_call(m, dict(zip(s, a, strict=True)), x),
              lambda x, *a, m=theirs, s=state: torch.func.functional_call(m, dict(zip(s, a, strict=True)), (x,)),
              values(0, (2, 4, length)), *[v.numpy() for v in state.values()], device=device, dtypes=["float64"])


def test_layers_begin_as_pytorchs():
    """Uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in)."""
    layer = nn.Conv1d(8, 500, 3, groups=2).initialize(Key(0))
    bound = 1 / np.sqrt(4 * 3)
    for parameter in layer.parameters():
        assert 0.97 * bound < np.abs(parameter.numpy()).max() <= bound
    assert layer.describe() == "8 -> 500, 3, groups 2"
    assert nn.ConvTranspose1d(8, 5, 3, 2, bias=False).describe() == "8 -> 5, 3, stride 2, no bias"


X, W, V = np.ones((2, 4, 5)), np.ones((6, 4, 3)), np.ones((4, 6, 3))


@pytest.mark.parametrize("call, message", [
    (lambda: tg.conv1d(np.ones((2, 3, 5)), W), r"conv1d: input has 3 channels, weight expects 4 \(input \(2, 3, 5\), weight \(6, 4, 3\)\)"),
    (lambda: tg.conv1d(np.ones((2, 4, 5, 1)), W), r"conv1d: input and weight should have three axes each, .* \(input \(2, 4, 5, 1\)"),
    (lambda: tg.conv1d(X, W, np.ones(4)), r"conv1d: bias has shape \(4,\), expected \(6,\)"),
    (lambda: tg.conv1d(X, W, stride=0), "conv1d: stride should be a whole number, 1 or more, got 0"),
    (lambda: tg.conv1d(X, W, padding=(1, 1)), r"conv1d: padding should be a whole number, 0 or more, got \(1, 1\)"),
    (lambda: tg.conv1d(X, W, padding="full"), "conv1d: unknown padding 'full', expected a number, \"same\" or \"valid\""),
    (lambda: tg.conv1d(X, W, padding="same", stride=2), 'conv1d: padding "same" needs stride 1, got 2'),
    (lambda: tg.conv1d(X, W, dilation=3), "conv1d: the kernel is larger than the input with its padding of 0"),
    (lambda: tg.conv1d(X, W, groups=4), "conv1d: groups should divide the weight's 6 rows"),
    (lambda: tg.conv1d(X, W, activation="no"), "conv1d: unknown activation 'no'"),
    (lambda: tg.conv1d(X, np.ones((6, 4, 0))), "conv1d: the weight is empty"),
    (lambda: tg.conv_transpose1d(X, W), "conv_transpose1d: input has 4 channels, weight expects 6"),
    (lambda: tg.conv_transpose1d(X, V, output_padding=1), "conv_transpose1d: output_padding 1 should be smaller than stride 1 or dilation 1"),
    (lambda: tg.conv_transpose1d(X, V, padding=4), "conv_transpose1d: expected at least one element, got an input of 5 and an output of -1"),
    (lambda: tg.conv_transpose1d(X, V, np.ones(4)), r"conv_transpose1d: bias has shape \(4,\), expected \(6,\)"),
    (lambda: nn.Conv1d(4, 6, (3, 3)), r"Conv1d: kernel_size should be a whole number, 1 or more, got \(3, 3\)"),
    (lambda: nn.ConvTranspose1d(4, 6, 3, groups=3), "ConvTranspose1d: groups"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
