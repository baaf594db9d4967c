"""Many arrays in one piece of memory: what goes in comes out, gradients of both orders, errors that name the shapes."""
import numpy as np
import pytest
from helpers import check, check_both_modes, layouts, seeds, values
from hypothesis import given

import tinygan as tg
from tinygan.ops import pack, unpacked


@given(layout=layouts, seed=seeds)
def test_pack(layout, seed):
    a, b, c = values(seed, (2, 3)), values(seed + 1, ()), values(seed + 2, (4, 1))
    check_both_modes(lambda *arrays: pack(arrays), np.concatenate([a.ravel(), b.ravel(), c.ravel()]), a, b, c, layout=layout)
    check(lambda *arrays: tg.mul(pack(arrays), pack(arrays)), a, b, c, layout=layout)


@given(layout=layouts, seed=seeds)
def test_unpacked(layout, seed):
    a = values(seed, (3, 4))
    check_both_modes(lambda x: unpacked(x, 5, (2, 3)), a.ravel()[5:11].reshape(2, 3), a, layout=layout)
    check(lambda x: tg.mul(unpacked(x, 5, (2, 3)), unpacked(x, 2, (2, 3))), a, layout=layout)


def test_a_part_of_contiguous_memory_is_a_view():
    a = np.zeros((3, 4))
    assert np.shares_memory(unpacked(a, 4, (2, 2)), a)


@pytest.mark.parametrize("start, shape", [(-1, (2,)), (7, (6,)), (0, (-1,)), (12, (1,))])
def test_what_is_not_there_is_refused(start, shape):
    with pytest.raises(ValueError, match=r"unpacked: an input of shape \(3, 4\) does not hold"):
        unpacked(np.zeros((3, 4)), start, shape)


def test_a_shape_may_be_one_number_and_must_be_whole():
    assert unpacked(np.zeros((3, 4)), 1, 2).shape == (2,)
    with pytest.raises(TypeError, match="unpacked: shape should be an integer or integers"):
        unpacked(np.zeros((3, 4)), 0, (2.0,))


def test_nothing_is_not_packed():
    with pytest.raises(ValueError, match="pack: needs at least one input"):
        pack([])
