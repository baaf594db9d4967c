"""Functions of NumPy on the arrays of a captured step: those that become tasks compute what NumPy computes, to the last bit."""
import numpy as np
import pytest

import tinygan as tg
from tinygan.backends import cpu

MASK = np.array([True, False, True, True])
FUNCTIONS = {
    "sum of two": lambda x: np.add(x, x[::-1]),
    "broadcast": lambda x: x * x[0] - x[:, :1],
    "a number first": lambda x: 1.0 / x,
    "a number of another precision": lambda x: x + np.float64(0.1),
    "both precisions": lambda x: x.astype(np.float64) + x.astype(np.float32),
    "where": lambda x: np.multiply(x, 2.0, where=MASK, out=np.ones_like(x)),
    "dtype": lambda x: np.add(x, 1.0, dtype=np.float64),
    "in place": lambda x: _in_place(x),
    "a strided place": lambda x: _strided(x),
    "copyto where": lambda x: _copied(x),
    "a list": lambda x: _listed(x),
    "overlapping": lambda x: _shifted(x),
    "reversed": lambda x: np.negative(x[::-1, ::-1]),
    "transposed": lambda x: np.sqrt(x.T) + x.T,
    "rows": lambda x: np.add.reduce(x, 0),
    "columns": lambda x: x.sum(1),
    "wide sum": lambda x: np.sum(x, 0, dtype=np.float64),
    "kept": lambda x: np.sum(x, axis=0, keepdims=True),
    "initial": lambda x: np.sum(x, axis=0, initial=3.0),
    "joined": lambda x: np.concatenate([x, x * 2.0]),
    "joined along": lambda x: np.concatenate([x, x.T.copy().T * 2.0], axis=1),
    "joined flat": lambda x: np.concatenate([x.T, x], axis=None),
    "joined with a list": lambda x: np.concatenate([x[0], [1.0, 2.0]]),
    "stacked": lambda x: np.stack([x[0], x[1] + x[0]]),
    "stacked along": lambda x: np.stack([x, x], axis=-1),
    "empty": lambda x: x[:0] + x[:0],
    "one element": lambda x: x[1, 2] * x[0, 0],
    "sums of -0.0": lambda x: np.copysign(1.0, np.add.reduce(x[:3] * -0.0, 0)),
    "a sum of one -0.0": lambda x: np.copysign(1.0, np.sum(x[:1] * -0.0, 0)),
    "out of a lower precision": lambda x: np.multiply(x.astype(np.float64), 0.1, out=np.zeros_like(x, np.float32)),
    "out of a higher precision": lambda x: np.multiply(x.astype(np.float32), 0.1, out=np.zeros_like(x, np.float64)),
    "a sum in its own row": lambda x: _summed_in_place(x),
    "a sum where": lambda x: np.sum(x, 0, where=x[:1, :1] > 1.2),
    "out by position": lambda x: _by_position(x),
    "nan_to_num in place": lambda x: _without_nan(x),
    "split": lambda x: _split(x),
    "full of a value": lambda x: np.full_like(x, x[0, 0]),
    "full of a number of the step's": lambda x: cpu.xp.full(x.shape, x[0, 0]),
    "full of a row": lambda x: cpu.xp.full(x.shape, x[0]),
    "the real part": lambda x: _real_part(x),
    "a row of one": lambda x: _row_of_one(x),
    "joined as float64": lambda x: np.concatenate([x[0], x[1]], dtype=np.float64),
    "copyto by name": lambda x: _copied_by_name(x),
    "named results": lambda x: np.linalg.svd(x[:3])[1],
}


def _in_place(x):
    y = x.copy()
    y += x
    y -= 0.25
    y *= y
    y /= x
    return np.subtract(1.0, y, out=y)


def _strided(x):
    y = np.zeros_like(x)
    y[::2, 1::2] = x[::2, ::2] * 3.0
    y[1] = 0.5
    return y


def _copied(x):
    y = np.zeros_like(x)
    np.copyto(y, x, where=MASK)
    return y


def _listed(x):
    y = x.copy()
    y[0] = [1, 2, 3, 4]
    return y


def _shifted(x):
    y = x.copy()
    y[1:] += y[:-1]
    return y


def _summed_in_place(x):
    y = x[:3].copy()
    return y.sum(0, out=y[1]) + y[2]


def _by_position(x):
    y = x.copy()
    np.clip(y, 0.7, 1.5, y)
    np.cumsum(y, 0, None, y)
    return np.round(y, 1, y)


def _without_nan(x):
    y = x.copy()
    y[0] = np.nan
    np.nan_to_num(y, copy=False)
    return y


def _split(x):
    y = x.copy()
    np.split(y, [0, 2])[1][...] *= 2.0
    return y


def _real_part(x):
    y = x.copy()
    y.real = x * 2.0
    return y + y.real


def _row_of_one(x):
    y = x.copy()
    y[0] = x[1:2] * 2.0
    return y


def _copied_by_name(x):
    y = np.zeros_like(x)
    np.copyto(dst=y, src=x)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [3, 600])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_replays_compute_what_numpy_computes(name, rows, dtype):
    function, rng = FUNCTIONS[name], np.random.default_rng(0)
    captured = tg.capture(function)
    for _ in range(5):
        x = rng.uniform(0.5, 2.0, (rows, 4)).astype(dtype)
        found, expected = captured(x), function(x)
        np.testing.assert_array_equal(found, expected)
        assert np.asarray(found).dtype == np.asarray(expected).dtype


def test_simple_functions_are_tasks():
    captured = tg.capture(lambda x: np.concatenate([x * 2.0 + 1.0, np.sqrt(x)]))
    for _ in range(2):
        captured(np.ones((3, 4), np.float32))
    assert [type(step).__name__ for step in captured.program.steps] == ["Task"] * 5 and captured.program.calls == 1


def test_the_order_of_an_argument_in_memory_counts():
    function, rng = np.sum, np.random.default_rng(0)
    captured = tg.capture(function)
    for order in "CCCFFFCF":
        x = np.array(rng.uniform(size=(33, 300)).astype(np.float32), order=order)
        assert captured(x) == function(x)


@pytest.mark.parametrize("write", [lambda y, x: y.setfield(x, np.float32), lambda y, x: np.modf(x, out=(y, None))])
def test_writes_that_no_replay_repeats_are_refused(write):
    captured, x = tg.capture(lambda x: write(x.copy(), x)), np.ones((2, 3), np.float32)
    captured(x)
    with pytest.raises(RuntimeError, match="inside a capture"):
        captured(x)


def test_functions_that_numba_compiled_are_refused():
    """Otherwise a replay would return what the recorded call returned."""
    numba = pytest.importorskip("numba")
    softsign = numba.njit(lambda x: x / (1.0 + np.abs(x)))
    plain = np.ones(3, np.float32)

    @tg.op(saves=(0,))
    def own(B, x):
        return softsign(x)

    @own.vjp
    def _(needs, g, x):
        return (g,)

    step = tg.capture(lambda x: own(tg.mul(x, 2.0)))
    step(plain)
    with pytest.raises(RuntimeError, match="a function that Numba compiled inside a capture"):
        step(plain)
    np.testing.assert_allclose(own(plain), plain / 2)
