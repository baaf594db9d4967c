"""PReLU: values, gradients of both orders by x and by the weight, and the layer."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, layouts, seeds, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg
from tinygan import nn
from tinygan.random import Key


@given(shape=st.sampled_from([(), (3,), (2, 3), (2, 3, 2), (0, 3), (1, 3, 2, 2)]), layout=layouts, seed=seeds)
def test_values_and_gradients(shape, layout, seed):
    x = values(seed, shape)
    for w in (np.array([-0.3]), values(seed, (3,), 0.1, 0.9)):
        if w.size == 3 and len(shape) < 2:
            continue
        factors = w.reshape(-1, *[1] * (len(shape) - 2)) if w.size > 1 else w[0]
        check_both_modes(tg.prelu, np.where(x > 0, x, factors * x), x, w, layout=layout)
        check(tg.prelu, x, w, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("channels", [1, 3])
def test_against_torch(device, channels):
    functions = pytest.importorskip("torch").nn.functional
    x = values(0, (2, 3, 4))
    agree(tg.prelu, functions.prelu, x, values(1, (channels,)), device=device)
    x[0, :, :2] = [0.0, -0.0]  # (there PyTorch's second derivative is not that of its first)
    agree(tg.prelu, functions.prelu, x, values(1, (channels,)), device=device, second=False)


def test_infinity_does_not_reach_the_weight(device):
    x, w = (tg.Tensor(to_device(np.array(a, np.float32), device), requires_grad=True) for a in ([np.inf, -2.0], [0.5]))
    y = tg.prelu(x, w)
    np.testing.assert_array_equal(to_numpy(y), [np.inf, -1])
    by_x, by_w = tg.grad(y, [x, w], tg.Tensor(to_device(np.ones(2, np.float32), device)))
    np.testing.assert_array_equal(to_numpy(by_x), [1, 0.5])
    np.testing.assert_array_equal(to_numpy(by_w), [-2])


@pytest.mark.oracle
def test_layer_against_torch():
    torch = pytest.importorskip("torch")
    for channels in (1, 3):
        ours, theirs = nn.PReLU(channels, 0.1).initialize(Key(0)), torch.nn.PReLU(channels, 0.1)
        for name, value in theirs.state_dict().items():
            np.testing.assert_array_equal(ours.state_dict()[name], value.numpy())
        x = values(0, (2, 3, 4)).astype(np.float32)
        np.testing.assert_array_equal(ours(x), theirs(torch.tensor(x)).detach().numpy())
    assert nn.PReLU().describe() == "" and nn.PReLU(3).describe() == "3" and not nn.PReLU().couples_examples


@pytest.mark.parametrize("call, message", [
    (lambda: tg.prelu(np.ones((2, 3)), np.ones(2)), r"prelu: weight should be of shape \(1,\) or \(3,\), got \(2,\) \(input \(2, 3\)\)"),
    (lambda: tg.prelu(np.ones(3), np.ones(3)), r"prelu: weight should be of shape \(1,\), got \(3,\)"),
    (lambda: tg.prelu(np.ones((2, 3)), np.ones((1, 1))), r"prelu: weight should be of shape \(1,\) or \(3,\), got \(1, 1\)"),
    (lambda: nn.PReLU(0), "PReLU: channels should be a whole number, 1 or more, got 0"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
