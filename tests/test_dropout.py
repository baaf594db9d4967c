"""Dropout: the right share of zeros, the same under the same key, its mask a constant to the gradient."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import check, layouts, seeds, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg
from tinygan.random import Key, use_key


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_share_and_scale(device, rate, dtype):
    n = 100_000
    x = to_device(np.full((n // 10, 10), 3.0, dtype), device)
    y = to_numpy(tg.dropout(x, rate, Key(0)))
    assert y.dtype == dtype
    kept = y != 0
    np.testing.assert_allclose(y[kept], 3.0 / (1 - rate), rtol=1e-6)
    deviation = np.sqrt(rate * (1 - rate) / n)
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation
    assert abs((kept[1:] & kept[:-1]).mean() - (1 - rate) ** 2) < 8 * deviation  # neighbours are independent


def test_keys_decide():
    x = np.ones(64)
    np.testing.assert_array_equal(tg.dropout(x, 0.5, Key(1)), tg.dropout(tg.Tensor(x), 0.5, Key(1)).numpy())
    assert (tg.dropout(x, 0.5, Key(1)) != tg.dropout(x, 0.5, Key(2))).any()
    with use_key(Key(3)):
        first, second = tg.dropout(x), tg.dropout(x)
    assert (first != second).any()
    with use_key(Key(3)):
        np.testing.assert_array_equal(tg.dropout(x), first)


def test_numpys_generator_is_left_alone():
    before = np.random.get_state()[1].copy()
    tg.dropout(np.ones(10), 0.5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@given(shape=st.lists(st.integers(0, 3), max_size=3).map(tuple), layout=layouts, seed=seeds)
def test_gradients(shape, layout, seed):
    a = values(seed, shape)
    check(lambda x: tg.mul(tg.dropout(x, 0.4, Key(seed)), x), a, layout=layout)
    x = tg.Tensor(a, requires_grad=True)
    y = tg.dropout(x, 0.4, Key(seed))
    np.testing.assert_allclose(tg.grad(y, x, np.ones(shape)).numpy(), y.numpy() / a)


def test_a_rate_of_zero_changes_nothing():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    assert tg.dropout(x, 0.0) is x


@pytest.mark.parametrize("rate", [1.0, -0.1, 2, np.nan])
def test_rates_refused(rate):
    with pytest.raises(ValueError, match=r"dropout: rate should be in \[0, 1\), got"):
        tg.dropout(np.ones(3), rate)


def test_inputs_refused():
    for dtype in ("int64", "float16"):
        with pytest.raises(TypeError, match=f"dropout: needs float32 or float64, got {dtype}"):
            tg.dropout(np.ones(3, dtype), 0.5)
    with pytest.raises(TypeError, match="dropout: expected a Tensor or an array, got list"):
        tg.dropout([1.0], 0.5)
