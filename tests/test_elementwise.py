"""Elementwise ops: broadcasting, weak scalars, ties and edges; against NumPy, PyTorch and finite differences."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    CONTIGUOUS,
    agree,
    broadcastable,
    check,
    check_both_modes,
    gradients,
    layouts,
    seeds,
    shapes,
    to_device,
    to_numpy,
    values,
)
from hypothesis import given

import tinygan as tg

UNARY = {  # name: where it is tried
    "neg": (-2, 2), "exp": (-2, 2), "log": (0.1, 3), "log1p": (-0.8, 3), "sqrt": (0.1, 3), "abs": (-2, 2), "sin": (-4, 4),
    "cos": (-4, 4),
}
BINARY = {"add": (-2, 2), "sub": (-2, 2), "mul": (-2, 2), "div": (0.5, 2), "pow": (0.2, 2), "maximum": (-2, 2),
          "minimum": (-2, 2)}
NUMPY = {"neg": "negative", "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}
TORCH = {"pow": "pow"}
COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


def numpy_op(name):
    return getattr(np, NUMPY.get(name, name))


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_unary_gradients(name, shape, layout, seed):
    check(getattr(tg, name), values(seed, shape, *UNARY[name]), layout=layout)


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_unary_values(device, name, shape, layout, seed):
    a = values(seed, shape, *UNARY[name])
    check_both_modes(getattr(tg, name), numpy_op(name)(a), a, device=device, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_unary_against_torch(device, name, shape, layout, seed):
    torch = pytest.importorskip("torch")
    agree(getattr(tg, name), getattr(torch, name), values(seed, shape, *UNARY[name]), device=device, layout=layout)


@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcastable(), layout=layouts, seed=seeds)
def test_binary_gradients(name, pair, layout, seed):
    a, b = values(seed, pair[0], *BINARY[name]), values(seed + 1, pair[1], *BINARY[name])
    check(getattr(tg, name), a, b, layout=layout)


@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcastable(), layout=layouts, seed=seeds)
def test_binary_values(device, name, pair, layout, seed):
    a, b = values(seed, pair[0], *BINARY[name]), values(seed + 1, pair[1], *BINARY[name])
    check_both_modes(getattr(tg, name), numpy_op(name)(a, b), a, b, device=device, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcastable(), layout=layouts, seed=seeds)
def test_binary_against_torch(device, name, pair, layout, seed):
    torch = pytest.importorskip("torch")
    a, b = values(seed, pair[0], *BINARY[name]), values(seed + 1, pair[1], *BINARY[name])
    agree(getattr(tg, name), getattr(torch, name), a, b, device=device, layout=layout)


@given(seed=seeds)
def test_one_input_twice(seed):
    check(lambda x: tg.mul(tg.add(x, x), tg.div(x, tg.exp(x))), values(seed, (2, 3)))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(device, name):
    a, b = np.array([1.0, 2.0, 2.0, np.nan]), np.array([[2.0], [1.0]])
    check_both_modes(getattr(tg, name), numpy_op(name)(a, b), a, b, device=device)
    integers = np.arange(3)
    np.testing.assert_array_equal(getattr(tg, name)(integers, 1), numpy_op(name)(integers, 1))
    assert not getattr(tg, name)(tg.Tensor(a, requires_grad=True), b).requires_grad


def test_sign_and_isfinite(device):
    a = np.array([-3.0, 0.0, 2.0, np.inf, -np.inf, np.nan])
    check_both_modes(tg.sign, np.sign(a), a, device=device)
    check_both_modes(tg.isfinite, [True, True, True, False, False, False], a, device=device)


STEPS = {"sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round}


@pytest.mark.parametrize("name", STEPS)
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_steps(device, name, shape, layout, seed):
    a = np.concatenate([values(seed, shape, -3, 3).ravel(), [0.0, 0.5, 1.5, 2.5, -0.5, 2.0, np.inf, -np.inf, np.nan]])
    for dtype in (np.float32, np.float64):
        check_both_modes(getattr(tg, name), STEPS[name](a.astype(dtype)), a.astype(dtype), device=device, layout=layout)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 5000])
def test_the_gradient_of_steps_is_zero(device, name, dtype, count):
    a = np.repeat(np.array([-1.5, 0.0, 0.5, 2.0, np.inf, np.nan], dtype), count)
    x = tg.Tensor(to_device(a, device), requires_grad=True)
    y = getattr(tg, name)(x)
    infinite = to_device(np.full_like(a, np.inf), device)
    for g in (tg.grad(y, x, infinite, retain_graph=True), tg.grad(y.sum(), x, create_graph=True)):
        assert g.dtype == dtype
        np.testing.assert_array_equal(to_numpy(g), np.zeros(len(a)))
    second = tg.grad(g.sum(), x, create_graph=True)
    np.testing.assert_array_equal(to_numpy(second), np.zeros(len(a)))
    np.testing.assert_array_equal(to_numpy(tg.grad(second.sum(), x)), np.zeros(len(a)))
    getattr(tg, name)(x).sum().backward()
    np.testing.assert_array_equal(to_numpy(x.grad), np.zeros(len(a)))
    if device == "cpu":
        check(lambda x: tg.mul(getattr(tg, name)(x), x), np.array([[0.3, -1.2], [2.7, -0.4]]))


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_numbers_and_integers(name):
    assert getattr(tg, name)(-1.5) == STEPS[name](-1.5)
    for a in (np.array([-2, 0, 3]), np.array([2, 0], np.uint8), np.zeros(0, np.int32)):
        for result in (getattr(tg, name)(a), getattr(tg, name)(tg.Tensor(a))):
            assert result.dtype == a.dtype
            np.testing.assert_array_equal(np.asarray(result), np.sign(a) if name == "sign" else a)
    with pytest.raises(TypeError, match=f"{name}: needs float32 or float64, got float16"):
        getattr(tg, name)(np.ones(2, np.float16))


def test_what_has_no_gradient_says_so():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    for y in ((x > 1.5).sum(), tg.argmax(x), tg.any(x), tg.all(x), (x > 1.5).mean()):
        assert not y.requires_grad
        with pytest.raises(ValueError, match=r"does not require a gradient \(.* integers or booleans, as comparisons are\)"):
            tg.grad(y, x)


# -- edges --------------------------------------------------------------------------------------------------------


def test_gradients_at_ties_are_shared():
    a, b = [1.0, 2.0, 2.0, np.inf], [2.0, 1.0, 2.0, np.inf]
    for op, first in ((tg.maximum, [0, 1, 0.5, 0.5]), (tg.minimum, [1, 0, 0.5, 0.5])):
        ga, gb = gradients(op, a, b)
        np.testing.assert_array_equal(ga, first)
        np.testing.assert_array_equal(gb, 1 - np.array(first))
    np.testing.assert_array_equal(gradients(lambda x: tg.maximum(x, 0.0), [-1.0, 0.0, 1.0])[0], [0, 0.5, 1])
    np.testing.assert_array_equal(gradients(lambda x: tg.minimum(0.0, x), [-1.0, 0.0, 1.0])[0], [1, 0.5, 0])


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2000])
def test_gradients_beside_nan(device, dtype, count):
    torch = pytest.importorskip("torch")
    a = np.repeat(np.array([1, np.nan, np.nan, 2, -np.inf], dtype), count)
    b = np.repeat(np.array([np.nan, 1, np.nan, 2, np.nan], dtype), count)
    for ours, theirs, arrays in (
            (tg.maximum, torch.maximum, (a, b)), (tg.minimum, torch.minimum, (a, b)),
            (lambda a: tg.clip(a, -1, 1.5), lambda a: torch.clip(a, -1, 1.5), (a,)),
            (lambda a: tg.where(np.isfinite(b), a, 0.0), lambda a: torch.where(torch.tensor(np.isfinite(b)), a, 0.0), (a,))):
        if ours is not tg.maximum and ours is not tg.minimum and device != "cpu":
            continue
        leaves = [tg.Tensor(to_device(x, device), requires_grad=True) for x in arrays]
        t_leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
        y, t_y = ours(*leaves), theirs(*t_leaves)
        np.testing.assert_array_equal(to_numpy(y), t_y.numpy(force=True))
        for g, t_g in zip(tg.grad(y.sum(), leaves), torch.autograd.grad(t_y.sum(), t_leaves), strict=True):
            np.testing.assert_array_equal(to_numpy(g), t_g.numpy())
    np.testing.assert_array_equal(gradients(tg.abs, [np.nan, -1.0])[0], [np.nan, -1])  # not silently 0


def test_abs_at_zero():
    np.testing.assert_array_equal(gradients(tg.abs, [-2.0, 0.0, 2.0])[0], [-1, 0, 1])


@pytest.mark.parametrize("exponent, first, second", [
    (0, [0, 0, 0], [0, 0, 0]), (1, [1, 1, 1], [0, 0, 0]), (2, [-4, 0, 6], [2, 2, 2]), (3.0, [12, 0, 27], [-12, 0, 18]),
])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_pow_at_zero_and_below(exponent, first, second, as_tensor):
    x = tg.Tensor([-2.0, 0.0, 3.0], requires_grad=True)
    y = x ** (tg.Tensor([float(exponent)] * 3) if as_tensor else exponent)
    np.testing.assert_array_equal(y.numpy(), np.array([-2.0, 0.0, 3.0]) ** exponent)
    g = tg.grad(y.sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.numpy(), first)
    np.testing.assert_array_equal(tg.grad(g.sum(), x).numpy() if g.requires_grad else np.zeros(3), second)


@pytest.mark.parametrize("base", [0.0, 0, 1.0, 2.5, np.float64(0.0)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_pow_gradient_of_the_exponent(base, as_tensor):
    exponents = np.array([0.0, 1.0, 2.0])
    g, = gradients(lambda b: (tg.Tensor([float(base)], dtype=np.float64) if as_tensor else base) ** b, exponents)
    np.testing.assert_allclose(g, base ** exponents * np.log(base) if base > 0 else np.zeros(3), rtol=1e-14)


def test_sqrt_gradient_at_zero_is_infinite():
    with np.errstate(divide="ignore"):
        assert gradients(tg.sqrt, [0.0])[0] == np.inf


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (None, 1.0), (-1, None), (None, None), (0.5, 0.5)])
@given(shape=shapes(), layout=layouts, seed=seeds)
def test_clip(device, low, high, shape, layout, seed):
    a = values(seed, shape)
    lower, upper = -np.inf if low is None else low, np.inf if high is None else high
    check_both_modes(lambda x: tg.clip(x, low, high), np.minimum(np.maximum(a, lower), upper), a, device=device,
                     layout=layout)
    if device == "cpu" and not np.any(np.isclose(a, lower, atol=1e-3) | np.isclose(a, upper, atol=1e-3)):
        check(lambda x: tg.clip(x, low, high), a, layout=layout)


def test_clip_at_its_edges():
    x = [-1.1, -1.0, 0.0, 1.0, 1.1]
    np.testing.assert_array_equal(gradients(lambda x: tg.clip(x, -1, 1), x)[0], [0, 1, 1, 1, 0])
    assert tg.clip(np.ones(2, np.float32), np.float64(0.0), np.float64(0.3)).dtype == np.float32


@pytest.mark.parametrize("low, high, error", [(1, -1, ValueError), (np.nan, 1, ValueError), (0, np.nan, ValueError),
                                              ("a", 1, TypeError), (np.zeros(3), 1, TypeError)])
def test_clip_refuses(low, high, error):
    with pytest.raises(error, match="clip: "):
        tg.clip(np.ones(3), low, high)


@given(triple=broadcastable(3), layout=layouts, seed=seeds)
def test_where(triple, layout, seed):
    condition = values(seed, triple[0]) > 0
    a, b = values(seed + 1, triple[1]), values(seed + 2, triple[2])
    check_both_modes(lambda a, b: tg.where(condition, a, b), np.where(condition, a, b), a, b, layout=layout)
    check(lambda a, b: tg.where(condition, a, b), a, b, layout=layout)


@pytest.mark.oracle
@given(triple=broadcastable(3), layout=layouts, seed=seeds)
def test_where_against_torch(triple, layout, seed):
    torch = pytest.importorskip("torch")
    condition = values(seed, triple[0]) > 0
    agree(lambda a, b: tg.where(condition, a, b), lambda a, b: torch.where(torch.tensor(condition), a, b),
          values(seed + 1, triple[1]), values(seed + 2, triple[2]), layout=layout)


def test_where_with_numbers_lists_and_tensors():
    x = tg.Tensor([-1.0, 2.0, 3.0], requires_grad=True)
    y = tg.where(x > 0, x, 0.0)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), [0, 1, 1])
    np.testing.assert_array_equal(tg.where([True, False, True], x, -1).numpy(), [-1, -1, 3])
    for result in (tg.where(x > 0, 1, 0), tg.where(x > 0, np.ones(3, np.float32), 0.0)):
        assert isinstance(result, tg.Tensor) and result.dtype == np.float32
        np.testing.assert_array_equal(result.numpy(), [0, 1, 1])
    for condition in (x, np.array([1, 0, 1])):
        with pytest.raises(TypeError, match=r"where: condition should be booleans .* got (float32|int64)"):
            tg.where(condition, x, x)


def test_a_branch_not_taken_spoils_a_gradient_and_the_way_round():
    """What the docstrings of where, maximum and clip show."""
    x = tg.Tensor([0.0, 4.0], requires_grad=True)
    with np.errstate(all="ignore"):
        for spoilt, way_round, expected in (
                (lambda: tg.where(x > 0, tg.sqrt(x), 0.0), lambda: tg.where(x > 0, tg.sqrt(tg.where(x > 0, x, 1.0)), 0.0), 0.25),
                (lambda: tg.maximum(tg.sqrt(x), 0.1), lambda: tg.sqrt(tg.maximum(x, 0.01)), 0.25),
                (lambda: tg.clip(tg.log(x), -27, None), lambda: tg.log(tg.clip(x, 1e-12, None)), 0.25)):
            assert np.isnan(tg.grad(spoilt().sum(), x).numpy()[0])
            g = tg.grad(way_round().sum(), x, create_graph=True)
            np.testing.assert_array_equal(g.numpy(), [0, expected])
            assert np.isfinite(tg.grad(g.sum(), x).numpy()).all()
    for op in (tg.where, tg.maximum, tg.minimum, tg.clip):
        assert "NaN" in op.__doc__ and "where" in op.__doc__


def test_where_hides_the_gradient_of_the_branch_not_taken():
    x = tg.Tensor([0.0, 4.0], requires_grad=True)
    safe = tg.where(x > 0, x, 1.0)
    g = tg.grad(tg.where(x > 0, tg.sqrt(safe), 0.0).sum(), x)
    np.testing.assert_array_equal(g.numpy(), [0, 0.25])


@given(shape=shapes(), seed=seeds)
def test_astype_is_differentiable_between_the_precisions(shape, seed):
    a = values(seed, shape)
    x = tg.Tensor(a, requires_grad=True)
    y = tg.mul(tg.astype(x, np.float32), 2.0)
    assert y.dtype == np.float32
    g = tg.grad(y.sum(), x)
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g.numpy(), np.full(shape, 2.0))
    check(lambda x: tg.mul(tg.astype(tg.astype(x, np.float64), "float64"), x), a)


def test_astype_to_integers_is_a_constant():
    x = tg.Tensor([1.7, -1.7], requires_grad=True)
    for dtype, expected in ((np.int64, [1, -1]), (bool, [True, True])):
        y = x.astype(dtype)
        assert not y.requires_grad and y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), expected)
    assert tg.astype(np.arange(3), np.float32).dtype == np.float32


def test_detach():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(tg.grad(tg.mul(x, tg.detach(x)).sum(), x).numpy(), [1, 2])
    assert np.shares_memory(x.detach().numpy(), x.numpy())
    a = np.ones(2)
    assert tg.detach(a) is a


# -- types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("number", [2, 2.0, np.sqrt(2), np.float64(2), np.float32(2), np.int64(2), True])
def test_scalars_are_weakly_typed(name, number):
    op = getattr(tg, name)
    for dtype in (np.float32, np.float64):
        a = np.array([0.5, 1.5], dtype)
        for x in (a, tg.Tensor(a, requires_grad=True)):
            for y, expected in ((op(x, number), numpy_op(name)(a, float(number))),
                                (op(number, x), numpy_op(name)(float(number), a))):
                assert y.dtype == dtype
                np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-6)
                if isinstance(x, tg.Tensor):
                    assert tg.grad(y.sum(), x).dtype == dtype


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float16", "complex128"])
def test_other_dtypes_are_refused(name, dtype):
    a = np.ones(3, dtype)
    with pytest.raises(TypeError, match=f"{name}: needs float32 or float64, got {dtype}; convert with tinygan.astype"):
        getattr(tg, name)(*[a] * (2 if name in BINARY else 1))


@pytest.mark.parametrize("name", BINARY)
def test_mixed_precision_and_shapes_that_do_not_fit_are_refused(name):
    op = getattr(tg, name)
    with pytest.raises(TypeError, match=rf"{name}: inputs of different precision \(float32, float64\)"):
        op(tg.Tensor([1.0]), np.ones(1))
    with pytest.raises(ValueError, match=rf"{name}: inputs of shape \(2, 3\), \(4,\): "):
        op(np.ones((2, 3)), np.ones(4))
    for other in ("a", None, [1.0], 1j, object()):
        with pytest.raises(TypeError, match=f"{name}: expected a Tensor, an array or a number, got {type(other).__name__}"):
            op(tg.Tensor([1.0]), other)


def test_numbers_alone():
    assert tg.add(1.0, 2.0) == 3.0
    assert isinstance(tg.exp(tg.Tensor(0.0)), tg.Tensor)


def test_layout_contiguous_is_the_identity():  # the helper's own check: a layout must not change values
    a = values(0, (2, 3))
    assert CONTIGUOUS.view(CONTIGUOUS.store(a)) is a
