"""Ops that move elements: views and joins, every error named, gradients of both orders."""
from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, shapes, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg


def squared(fn):
    """x -> fn(x) * fn(x), so that the second order has something to see."""
    return lambda *xs: tg.mul(fn(*xs), fn(*xs))


@st.composite
def reshapes(draw):
    shape = draw(shapes(max_dims=4))
    size = math.prod(shape)
    if not size:
        return shape, draw(st.sampled_from([shape, (0,), (0, 3), (2, 0, 1)]))
    new = []
    while size > 1:
        new.append(draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0])))
        size //= new[-1]
    if new and draw(st.booleans()):
        new[draw(st.integers(0, len(new) - 1))] = -1
    return shape, tuple(new)


@given(case=reshapes(), layout=layouts, seed=seeds)
def test_reshape(case, layout, seed):
    shape, new = case
    a = values(seed, shape)
    check_both_modes(lambda x: tg.reshape(x, new), a.reshape(new), a, layout=layout)
    check(squared(lambda x: tg.reshape(x, new)), a, layout=layout)


@given(shape=shapes(max_dims=4), layout=layouts, seed=seeds, data=st.data())
def test_transpose(shape, layout, seed, data):
    n = len(shape)
    axes = data.draw(st.none() | st.permutations(range(n)).map(lambda p: [a - n * (a % 2) for a in p]))
    a = values(seed, shape)
    check_both_modes(lambda x: tg.transpose(x, axes), a.transpose(axes), a, layout=layout)
    check(squared(lambda x: tg.transpose(x, axes)), a, layout=layout)


@given(shape=shapes(max_dims=2), extra=shapes(max_dims=2), seed=seeds, layout=layouts, data=st.data())
def test_broadcast_to_and_sum_to(shape, extra, seed, layout, data):
    small = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    large = (*extra, *shape)
    a = values(seed, small)
    check_both_modes(lambda x: tg.broadcast_to(x, large), np.broadcast_to(a, large), a, layout=layout)
    check(squared(lambda x: tg.broadcast_to(x, large)), a, layout=layout)
    b = values(seed, large)
    axes = (*range(len(extra)), *(i + len(extra) for i, n in enumerate(small) if n == 1))
    check_both_modes(lambda x: tg.sum_to(x, small), b.sum(axes).reshape(small), b, layout=layout)
    check(squared(lambda x: tg.sum_to(x, small)), b, layout=layout)


def test_broadcast_to_is_a_view():
    a = np.ones(3)
    assert np.shares_memory(tg.broadcast_to(a, (4, 3)), a)


@given(shape=shapes(), layout=layouts, seed=seeds, data=st.data())
def test_expand_and_squeeze(shape, layout, seed, data):
    a = values(seed, shape)
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    expanded = np.expand_dims(a, axis)
    check_both_modes(lambda x: tg.expand_dims(x, axis), expanded, a, layout=layout)
    check(squared(lambda x: tg.expand_dims(x, axis)), a, layout=layout)
    check_both_modes(lambda x: tg.squeeze(x, axis), a, expanded, layout=layout)
    ones = tuple(i for i, n in enumerate(expanded.shape) if n == 1)
    for which in (None, ones, list(ones), np.int64(axis)):
        check_both_modes(lambda x, which=which: tg.squeeze(x, which),
                         np.squeeze(expanded, tuple(which) if isinstance(which, list) else which), expanded)


@st.composite
def joins(draw):
    shape = list(draw(shapes(min_dims=1)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = []
    for size in sizes:
        shape[axis] = size
        parts.append(tuple(shape))
    return parts, axis, sizes


@given(case=joins(), layout=layouts, seed=seeds)
def test_concatenate_and_split(case, layout, seed):
    parts, axis, sizes = case
    arrays = [values(seed + i, shape) for i, shape in enumerate(parts)]
    joined = np.concatenate(arrays, axis)
    check_both_modes(lambda *xs: tg.concatenate(xs, axis), joined, *arrays, layout=layout)
    check(squared(lambda *xs: tg.concatenate(xs, axis)), *arrays, layout=layout)
    for i, a in enumerate(arrays):
        check_both_modes(lambda x, i=i: tg.split(x, sizes, axis)[i], a, joined, layout=layout)
    check(lambda x: tg.mul(tg.concatenate(tg.split(x, sizes, axis)[::-1], axis), x), joined, layout=layout)


@given(shape=shapes(), count=st.integers(1, 3), seed=seeds, data=st.data())
def test_stack(shape, count, seed, data):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    arrays = [values(seed + i, shape) for i in range(count)]
    check_both_modes(lambda *xs: tg.stack(xs, axis), np.stack(arrays, axis), *arrays)
    check(squared(lambda *xs: tg.stack(xs, axis)), *arrays)


def test_the_same_tensor_joined_twice():
    np.testing.assert_array_equal(gradients(lambda x: tg.mul(tg.concatenate([x, x]), np.arange(4.0)), [0.0, 0.0])[0], [2, 4])


def test_split_into_equal_parts():
    a = values(0, (2, 6))
    for i, part in enumerate(tg.split(a, 3, 1)):
        np.testing.assert_array_equal(part, a[:, 2 * i:2 * i + 2])
    assert [p.shape for p in tg.split(tg.Tensor(a), np.int64(2))] == [(1, 6), (1, 6)]


@given(shape=shapes(min_dims=1), layout=layouts, seed=seeds, data=st.data())
def test_flip(shape, layout, seed, data):
    n = len(shape)
    axis = data.draw(st.integers(-n, n - 1) | st.permutations(range(n)).map(lambda p: tuple(p[:2])))
    a = values(seed, shape)
    check_both_modes(lambda x: tg.flip(x, axis), np.flip(a, axis), a, layout=layout)
    check(lambda x: tg.mul(tg.flip(x, axis), x), a, layout=layout)


@given(shape=shapes(), layout=layouts, seed=seeds, data=st.data())
def test_pad(shape, layout, seed, data):
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    a = values(seed, shape)
    check_both_modes(lambda x: tg.pad(x, widths, 0.5), np.pad(a, widths, constant_values=0.5) if shape else a, a,
                     layout=layout)
    check(squared(lambda x: tg.pad(x, widths, 0.5)), a, layout=layout)


@pytest.mark.oracle
def test_against_torch(device):
    torch = pytest.importorskip("torch")
    a, b = values(0, (2, 3, 4)), values(1, (2, 1, 4))
    pairs = [
        (lambda x: tg.reshape(x, (4, -1)), lambda x: x.reshape(4, -1)),
        (lambda x: tg.transpose(x, (2, 0, -2)), lambda x: x.permute(2, 0, 1)),
        (lambda x: tg.flip(x, (0, -1)), lambda x: x.flip(0, -1)),
        (lambda x: tg.pad(x, [(0, 0), (1, 0), (2, 3)], 1.5), lambda x: torch.nn.functional.pad(x, (2, 3, 1, 0), value=1.5)),
        (lambda x: tg.split(x, [1, 3], 2)[1], lambda x: x.split([1, 3], 2)[1]),
        (lambda x: tg.broadcast_to(tg.expand_dims(x, 1), (2, 5, 3, 4)), lambda x: x[:, None].expand(2, 5, 3, 4)),
    ]
    for ours, theirs in pairs:
        agree(squared(ours), lambda x, theirs=theirs: theirs(x) * theirs(x), a, device=device)
    agree(squared(lambda a, b: tg.concatenate([a, b, a], 1)), lambda a, b: torch.cat([a, b, a], 1) ** 2, a, b, device=device)
    agree(squared(lambda a: tg.stack([a, a], -1)), lambda a: torch.stack([a, a], -1) ** 2, a, device=device)


X = np.ones((2, 3))
ONE = np.ones((1, 3))


@pytest.mark.parametrize("call, error, message", [
    (lambda: tg.reshape(X, (4, 2)), ValueError, r"reshape: \(2, 3\) has 6 elements, which do not fit into \(4, 2\)"),
    (lambda: tg.reshape(X, (4, -1)), ValueError, r"reshape: \(2, 3\) has 6 elements, which do not fit into \(4, -1\)"),
    (lambda: tg.reshape(X, (-1, -1)), ValueError, r"reshape: \(2, 3\) has 6 elements, which do not fit into \(-1, -1\)"),
    (lambda: tg.reshape(X, (-2, -3)), ValueError, r"reshape: .*do not fit into \(-2, -3\)"),
    (lambda: tg.reshape(X, (2.0, 3)), TypeError, r"reshape: shape should be an integer or integers, got \(2.0, 3\)"),
    (lambda: tg.reshape(X, "ab"), TypeError, r"reshape: shape should be an integer or integers, got 'ab'"),
    (lambda: tg.reshape([1.0], (1,)), TypeError, "reshape: expected a Tensor or an array, got list"),
    (lambda: tg.transpose(X, (0, 0)), ValueError,
     r"transpose: axis \(0, 0\) names the same axis of an input of shape \(2, 3\) twice"),
    (lambda: tg.transpose(X, (0,)), ValueError,
     r"transpose: axes \(0,\) should name each axis of an input of shape \(2, 3\) once"),
    (lambda: tg.transpose(X, (0, 5)), ValueError, r"transpose: axis 5 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.broadcast_to(X, (3, 3)), ValueError, r"broadcast_to: the shape \(2, 3\) does not broadcast to \(3, 3\)"),
    (lambda: tg.broadcast_to(X, 3), ValueError, r"broadcast_to: the shape \(2, 3\) does not broadcast to \(3,\)"),
    (lambda: tg.broadcast_to(X, (-1, 2, 3)), ValueError,
     r"broadcast_to: the shape \(2, 3\) does not broadcast to \(-1, 2, 3\)"),
    (lambda: tg.sum_to(X, (3, 2)), ValueError, r"sum_to: the shape \(3, 2\) does not broadcast to \(2, 3\)"),
    (lambda: tg.sum_to(np.ones(4), (2, 2)), ValueError, r"sum_to: the shape \(2, 2\) does not broadcast to \(4,\)"),
    (lambda: tg.expand_dims(X, 3), ValueError, r"expand_dims: axis 3 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.expand_dims(X, (0, 1)), TypeError, r"expand_dims: axis should be one integer, got \(0, 1\)"),
    (lambda: tg.squeeze(X, 1), ValueError, r"squeeze: axis 1 of an input of shape \(2, 3\) is not of size 1"),
    (lambda: tg.squeeze(ONE, 2), ValueError, r"squeeze: axis 2 is out of range for an input of shape \(1, 3\)"),
    (lambda: tg.concatenate([]), ValueError, "concatenate: needs at least one input"),
    (lambda: tg.concatenate([X, ONE], 1), ValueError,
     r"concatenate: inputs of shapes \(2, 3\) and \(1, 3\) differ in other axes than axis 1"),
    (lambda: tg.concatenate([X, X[0]]), ValueError,
     r"concatenate: inputs of shapes \(2, 3\) and \(3,\) differ in other axes than axis 0"),
    (lambda: tg.concatenate([X, X], 2), ValueError, r"concatenate: axis 2 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.concatenate([np.array(1.0)]), ValueError, r"concatenate: axis 0 is out of range for an input of shape \(\)"),
    (lambda: tg.concatenate([[1.0]]), TypeError, "concatenate: expected a Tensor or an array, got list"),
    (lambda: tg.concatenate([X, X.astype(np.float32)]), TypeError, "concatenate: inputs of different precision"),
    (lambda: tg.stack([]), ValueError, r"stack: needs one or more inputs of one shape, got \[\]"),
    (lambda: tg.stack([X, ONE]), ValueError, r"stack: needs one or more inputs of one shape, got \[\(2, 3\), \(1, 3\)\]"),
    (lambda: tg.stack([X], 4), ValueError, r"stack: axis 4 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.stack([1.0]), TypeError, "stack: expected a Tensor or an array, got float"),
    (lambda: tg.split(X, 4, 1), ValueError, r"split: axis 1 of an input of shape \(2, 3\) does not divide into 4 parts"),
    (lambda: tg.split(X, 0), ValueError, "split: .* does not divide into 0 parts"),
    (lambda: tg.split(X, [1, 3], 1), ValueError,
     r"split: sizes \(1, 3\) do not add up to axis 1 of an input of shape \(2, 3\)"),
    (lambda: tg.split(X, [-1, 4], 1), ValueError, r"split: sizes \(-1, 4\) do not add up"),
    (lambda: tg.split(X, 2, 2), ValueError, r"split: axis 2 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.split(np.array(1.0), 1), ValueError, r"split: axis 0 is out of range for an input of shape \(\)"),
    (lambda: tg.split(X, 1.5), TypeError, "split: sizes should be an integer or integers, got 1.5"),
    (lambda: tg.flip(X, 2), ValueError, r"flip: axis 2 is out of range for an input of shape \(2, 3\)"),
    (lambda: tg.flip(np.array(1.0), 0), ValueError, r"flip: axis 0 is out of range for an input of shape \(\)"),
    (lambda: tg.pad(X, [(1, 1)]), ValueError, r"pad: widths should be a pair .* got \[\(1, 1\)\] \(input \(2, 3\)\)"),
    (lambda: tg.pad(X, [(1, 1), (-1, 0)]), ValueError, "pad: widths should be a pair"),
    (lambda: tg.pad(X, 1), ValueError, r"pad: widths should be a pair .* got 1 \(input \(2, 3\)\)"),
    (lambda: tg.pad(X, (1, 1)), ValueError, r"pad: widths should be a pair .* got \(1, 1\)"),
    (lambda: tg.pad(X, [(1, 1), (0.5, 0)]), TypeError, "pad: widths should be an integer or integers"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_methods():
    x = tg.Tensor(X)
    for shape in ((3, 2), (6,), (-1, 2)):
        assert x.reshape(shape).shape == x.reshape(*shape).shape == X.reshape(shape).shape
    assert x.reshape(np.int64(6)).shape == (6,)
    assert x.T.shape == x.transpose().shape == x.transpose(1, 0).shape == x.transpose((1, 0)).shape == (3, 2)


# -- flatten, tril, triu ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 3), (2, 0, 3), (2, 5, 3, 4)])
def test_flatten(device, shape):
    a = values(0, shape)
    check_both_modes(tg.flatten, a.reshape(-1), a, device=device)
    for start in range(-len(shape), len(shape)):
        new = (*shape[:start % len(shape)], math.prod(shape[start % len(shape):]))
        check_both_modes(lambda x, start=start: tg.flatten(x, start), a.reshape(new), a, device=device)
    if device == "cpu":
        check(squared(tg.flatten), a)
        check_both_modes(lambda x: tg.flatten(tg.transpose(x)), a.T.reshape(-1), a)
    with pytest.raises(ValueError, match=r"flatten: axis 4 is out of range"):
        tg.flatten(a, 4)


@pytest.mark.parametrize("name", ["tril", "triu"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (2, 3, 4), (1, 1), (0, 3), (3, 0), (2, 0, 3), (70, 90)])
@pytest.mark.parametrize("diagonal", [0, 1, -1, 2, -3, 100, -100])
def test_triangles(device, name, shape, diagonal):
    a = values(0, shape)
    for dtype in ("float32", "float64", "int64", "bool"):
        typed = a.astype(dtype)
        check_both_modes(lambda x: getattr(tg, name)(x, diagonal), getattr(np, name)(typed, diagonal), typed, device=device)


@pytest.mark.parametrize("name", ["tril", "triu"])
@given(layout=layouts, seed=seeds, diagonal=st.integers(-3, 3))
def test_gradients_of_triangles(name, layout, seed, diagonal):
    a = values(seed, (2, 3, 4))
    check_both_modes(lambda x: getattr(tg, name)(x, diagonal), getattr(np, name)(a, diagonal), a, layout=layout)
    check(squared(lambda x: getattr(tg, name)(x, diagonal)), a, layout=layout)
    g, = gradients(lambda x: getattr(tg, name)(x, diagonal), a)
    np.testing.assert_array_equal(g, getattr(np, name)(np.ones(a.shape), diagonal))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles_against_torch(device, name):
    torch = pytest.importorskip("torch")
    for diagonal in (0, -1, 2):
        agree(lambda x, d=diagonal: tg.exp(getattr(tg, name)(x, d)), lambda x, d=diagonal: torch.exp(getattr(torch, name)(x, d)),
              values(0, (2, 3, 4)), device=device)


def test_triangles_drop_nan_and_refuse():
    a = np.array([[1.0, np.nan], [2.0, 3.0]])
    np.testing.assert_array_equal(tg.tril(a), [[1, 0], [2, 3]])
    np.testing.assert_array_equal(gradients(lambda x: tg.tril(x), a)[0], [[1, 0], [1, 1]])
    for name in ("tril", "triu"):
        with pytest.raises(ValueError, match=rf"{name}: the input should be one matrix or several, .* got \(3,\)"):
            getattr(tg, name)(np.ones(3))
        with pytest.raises(TypeError, match=f"{name}: diagonal should be"):
            getattr(tg, name)(np.ones((2, 2)), 0.5)
