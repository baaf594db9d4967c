"""matmul (batched, 1-D, broadcast) and dense, the layer with bias and activation in one pass."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import LAYOUTS, agree, check, check_both_modes, layouts, seeds, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg

NAMES = ["identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus"]


@st.composite
def products(draw):
    """Two shapes that matmul accepts: 1-D or with broadcasting leading axes, empty ones too."""
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    leading = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    leadings = []
    for _ in range(2):
        own = leading[draw(st.integers(0, len(leading))):]
        leadings.append(tuple(1 if draw(st.booleans()) else size for size in own))
    a = (k,) if draw(st.integers(0, 3)) == 0 else (*leadings[0], n, k)
    b = (k,) if draw(st.integers(0, 3)) == 0 else (*leadings[1], k, m)
    return a, b


@given(case=products(), layout=layouts, seed=seeds)
def test_matmul(case, layout, seed):
    a, b = values(seed, case[0]), values(seed + 1, case[1])
    check_both_modes(tg.matmul, np.matmul(a, b), a, b, layout=layout, rtol=1e-11)
    check(tg.matmul, a, b, layout=layout)


@pytest.mark.oracle
@given(case=products(), layout=layouts, seed=seeds)
def test_matmul_against_torch(device, case, layout, seed):
    torch = pytest.importorskip("torch")
    agree(tg.matmul, torch.matmul, values(seed, case[0]), values(seed + 1, case[1]), device=device, layout=layout)


@pytest.mark.parametrize("a, b", [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3,)),
                                  ((1, 2, 3), (4, 3, 2)), ((2, 3), (4, 3, 2)), ((2, 0), (0, 3)), ((0, 3), (3, 2)),
                                  ((1, 1), (1, 1))],
                         ids=str)
def test_matmul_of_every_rank(device, a, b):
    a, b = values(0, a), values(1, b)
    check_both_modes(tg.matmul, np.matmul(a, b), a, b, device=device, rtol=1e-11)
    if device == "cpu":
        check(tg.matmul, a, b)


def test_matmul_of_one_tensor_with_itself_and_of_repeated_rows():
    check(lambda x: tg.matmul(x, tg.transpose(x)), values(0, (3, 2)))
    check(lambda x: tg.matmul(tg.broadcast_to(x, (4, 3)), tg.broadcast_to(tg.transpose(x), (3, 2))), values(0, (1, 3)))


def test_large_products_match_numpy(fast_device):
    """Sizes that cross the blocks of a blocked product."""
    from helpers import to_device, to_numpy

    rng = np.random.default_rng(0)
    for n, k, m in ((129, 257, 65), (1, 300, 513), (512, 1, 3), (100, 784, 7)):
        for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-13)):
            a, b = rng.standard_normal((n, k)), rng.standard_normal((k, m))
            exact = a.astype(dtype).astype(np.float64) @ b.astype(dtype).astype(np.float64)
            for x, y in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b)),
                         (np.asfortranarray(a), np.asfortranarray(b))):
                ours = to_numpy(tg.matmul(to_device(x.astype(dtype), fast_device), to_device(y.astype(dtype), fast_device)))
                assert ours.dtype == dtype
                np.testing.assert_allclose(ours, exact, rtol=0, atol=rtol * np.abs(exact).max())


@pytest.mark.parametrize("a, b, error, message", [
    (np.ones((2, 3)), np.ones((2, 3)), ValueError, r"matmul: \(2, 3\) @ \(2, 3\): 3 columns meet 2 rows"),
    (np.ones((2, 3)), np.ones(2), ValueError, r"matmul: \(2, 3\) @ \(2,\): 3 columns meet 2 rows"),
    (np.ones((2, 2, 3)), np.ones((3, 3, 4)), ValueError, r"matmul: \(2, 2, 3\) @ \(3, 3, 4\): the leading axes \(2,\) and \(3,\) do "
                                                         "not broadcast$"),
    (np.ones((5, 1, 2, 3)), np.ones((4, 2, 3, 4)), ValueError, r"the leading axes \(5, 1\) and \(4, 2\) do not broadcast$"),
    (np.ones((4, 2, 3)), np.ones((0, 3, 4)), ValueError, r"the leading axes \(4,\) and \(0,\) do not broadcast$"),
    (np.ones(()), np.ones(3), ValueError, r"matmul: each input should have an axis or more, got shapes \(\) and \(3,\)"),
    (np.ones(3), 2.0, TypeError, "matmul: expected a Tensor or an array, got float"),
    (np.ones(3), [1.0, 2, 3], TypeError, "matmul: expected a Tensor or an array, got list"),
    (np.ones(3), np.ones(3, np.float32), TypeError, "matmul: inputs of different precision"),
    (np.ones(3, int), np.ones(3, int), TypeError, "needs float32 or float64, got int64"),
])
def test_matmul_refuses(a, b, error, message):
    with pytest.raises(error, match=message):
        tg.matmul(a, b)
    if not isinstance(b, float | list) and b.dtype != int:
        with pytest.raises(error, match=message):
            tg.Tensor(a) @ b


# -- dense --------------------------------------------------------------------------------------------------------


def numpy_dense(x, w, b, name):
    y = x @ w.T + (0 if b is None else b)
    negative = {"relu": 0 * y, "leaky_relu": 0.3 * y, "elu": 0.3 * np.expm1(y)}
    if name in negative:
        return np.where(y > 0, y, negative[name])
    return {"identity": lambda: y, "tanh": lambda: np.tanh(y), "sigmoid": lambda: 1 / (1 + np.exp(-y)),
            "softplus": lambda: np.log1p(np.exp(y))}[name]()


@pytest.mark.parametrize("name", NAMES)
@given(leading=st.lists(st.integers(0, 3), max_size=2).map(tuple), sizes=st.tuples(st.integers(1, 4), st.integers(1, 3)),
       bias=st.booleans(), layout=layouts, seed=seeds)
def test_dense(name, leading, sizes, bias, layout, seed):
    (n_in, n_out) = sizes
    arrays = [values(seed, (*leading, n_in)), values(seed + 1, (n_out, n_in))] + [values(seed + 2, (n_out,))] * bias

    def op(x, w, b=None):
        return tg.dense(x, w, b, name, 0.3)

    expected = numpy_dense(arrays[0], arrays[1], arrays[2] if bias else None, name)
    check_both_modes(op, expected, *arrays, layout=layout, rtol=1e-11)
    if np.abs(arrays[0] @ arrays[1].T + (arrays[2] if bias else 0)).min(initial=1) > 1e-3:  # not across a kink
        check(op, *arrays, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [True, False])
def test_dense_against_torch(device, name, bias):
    torch = pytest.importorskip("torch")
    functions = torch.nn.functional
    theirs = {"identity": lambda y: y, "leaky_relu": lambda y: functions.leaky_relu(y, 0.3),
              "elu": lambda y: functions.elu(y, 0.3)}
    activation = theirs.get(name) or getattr(functions, name)
    for shape in ((5, 4), (2, 3, 4), (4,), (0, 4)):
        arrays = [values(0, shape), values(1, (3, 4))] + [values(2, (3,))] * bias
        agree(lambda x, w, b=None: tg.dense(x, w, b, name, 0.3),
              lambda x, w, b=None: activation(functions.linear(x, w, b)), *arrays, device=device)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["identity", "leaky_relu", "tanh"])
def test_large_dense_against_torch(fast_device, name):
    """Large enough for the compiled kernels, and with edges that no block divides."""
    torch = pytest.importorskip("torch")
    activation = {"identity": lambda y: y, "leaky_relu": lambda y: torch.nn.functional.leaky_relu(y, 0.2), "tanh": torch.tanh}
    arrays = values(0, (131, 301), -0.1, 0.1), values(1, (197, 301)), values(2, (197,))
    for layout in (LAYOUTS["contiguous"], LAYOUTS["transposed"]):
        agree(lambda x, w, b: tg.dense(x, w, b, name), lambda x, w, b: activation[name](torch.nn.functional.linear(x, w, b)),
              *arrays, device=fast_device, layout=layout,
              dtypes=("float64",) if name == "leaky_relu" else ("float64", "float32"))  # float32 may round across 0


def test_dense_needs_only_what_is_asked_for():
    x, w, b = (tg.Tensor(values(i, shape)) for i, shape in enumerate([(4, 3), (2, 3), (2,)]))
    for place in range(3):
        inputs = [x, w, b]
        inputs[place] = tg.Tensor(inputs[place], requires_grad=True)
        alone = tg.grad(tg.dense(*inputs, "tanh").sum(), inputs[place])
        every = [tg.Tensor(t, requires_grad=True) for t in (x, w, b)]
        np.testing.assert_array_equal(alone.numpy(), tg.grad(tg.dense(*every, "tanh").sum(), every)[place].numpy())


@pytest.mark.parametrize("x, w, b, extra, error, message", [
    ((2, 3), (4, 2), None, {}, ValueError, r"dense: the last axis .* \(input \(2, 3\), weight \(4, 2\)\)"),
    ((), (4, 2), None, {}, ValueError, r"dense: .* \(input \(\), weight \(4, 2\)\)"),
    ((2, 3), (3,), None, {}, ValueError, r"dense: .* \(input \(2, 3\), weight \(3,\)\)"),
    ((2, 3), (4, 3), (3,), {}, ValueError, r"dense: bias has shape \(3,\), expected \(4,\) \(weight \(4, 3\)\)"),
    ((2, 3), (4, 3), (4,), {"activation": "swoosh"}, ValueError, "dense: unknown activation 'swoosh', expected one of identity"),
    ((2, 3), (4, 3), (4,), {"activation": "leaky_relu", "slope": -1}, ValueError,
     "dense: the slope .* should be 0 or more, got -1"),
])
def test_dense_refuses(x, w, b, extra, error, message):
    with pytest.raises(error, match=message):
        tg.dense(np.ones(x), tg.Tensor(np.ones(w)), None if b is None else np.ones(b), **extra)
    with pytest.raises(TypeError, match="dense: expected a Tensor or an array, got list"):
        tg.dense([1.0], np.ones(w))
