"""getitem as NumPy has it, its adjoint, and embeddings: repeated indices, masks, strides."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygan as tg

INDICES = {
    "integer": 1,
    "numpy integer": np.int64(-1),
    "slice": slice(1, None),
    "strided slice": (slice(None), slice(None, None, 2)),
    "negative stride": (slice(None, None, -1), Ellipsis, slice(2, None, -2)),
    "empty slice": slice(3, 1),
    "newaxis": (None, slice(None), None, 0),
    "all integers": (0, 1, 2),
    "ellipsis": Ellipsis,
    "nothing": (),
    "array": np.array([2, 0, 0, 2]),
    "list": [0, 2],
    "empty list": [],
    "nested list": [[0, 1], [2, 2]],
    "two arrays": (np.array([0, 0, 2]), np.array([1, 1, 0])),
    "arrays apart": (np.array([0, 0, 2]), slice(None), np.array([[1], [3]])),
    "array beside slice": (slice(None), np.array([1, -1, 1]), slice(0, 3)),
    "mask": np.arange(36).reshape(3, 3, 4) % 5 < 2,
    "mask of rows": np.array([True, False, True]),
    "mask of nothing": np.zeros(3, bool),
    "list of booleans": [True, False, False],
    "mask and slice": (np.eye(3, dtype=bool), slice(1, 3)),
    "boolean": True,
    "range": range(2),
    "zero-d array": np.array(1),
}


@pytest.mark.parametrize("name", INDICES)
@given(layout=layouts, seed=seeds)
def test_getitem(name, layout, seed):
    index = INDICES[name]
    a = values(seed, (3, 3, 4))
    check_both_modes(lambda x: tg.getitem(x, index), a[index], a, layout=layout)
    np.testing.assert_array_equal(tg.Tensor(a)[index].numpy(), a[index])


@pytest.mark.parametrize("name", INDICES)
def test_getitem_gradients(name):
    index = INDICES[name]
    check(lambda x: tg.mul(tg.getitem(x, index), tg.getitem(x, index)), values(0, (3, 3, 4)))


@given(index=hnp.basic_indices((2, 3, 1, 4), allow_newaxis=True), layout=layouts, seed=seeds)
def test_basic_indices(index, layout, seed):
    a = values(seed, (2, 3, 1, 4))
    check_both_modes(lambda x: tg.getitem(x, index), a[index], a, layout=layout)
    x = tg.Tensor(a, requires_grad=True)
    expected = np.zeros(a.shape)
    np.add.at(expected, index, 2.0)
    np.testing.assert_array_equal(tg.grad(tg.mul(x[index], 2.0).sum(), x).numpy(), expected)


@given(index=hnp.integer_array_indices((4, 3)), layout=layouts, seed=seeds)
def test_repeated_indices_accumulate(index, layout, seed):
    a = values(seed, (4, 3))
    check_both_modes(lambda x: tg.getitem(x, index), a[index], a, layout=layout)
    picked = a[index]
    weights = values(seed + 1, picked.shape)
    expected = np.zeros(a.shape)
    rows, columns = np.broadcast_arrays(*index)
    for place in np.ndindex(rows.shape):
        expected[rows[place], columns[place]] += weights[place]
    np.testing.assert_allclose(gradients(lambda x: tg.mul(tg.getitem(x, index), weights), a)[0], expected, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("index", [np.array([2, 0, 0]), (slice(None), np.array([[1, 1], [0, 2]])), np.eye(3, dtype=bool),
                                   (0, slice(None, None, 2))], ids=["rows", "columns", "mask", "basic"])
def test_against_torch(device, index):
    torch = pytest.importorskip("torch")
    parts = index if isinstance(index, tuple) else (index,)
    theirs = tuple(torch.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)
    agree(lambda x: tg.exp(tg.getitem(x, index)), lambda x: torch.exp(x[theirs]), values(0, (3, 3)), device=device)


def test_tensors_as_indices():
    x = tg.Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    np.testing.assert_array_equal(x[tg.Tensor(np.array([2, 2]))].numpy(), [[4, 5], [4, 5]])
    np.testing.assert_array_equal(x[x > 2.5].numpy(), [3, 4, 5])
    np.testing.assert_array_equal(x[tg.argmax(x, 0), np.arange(2)].numpy(), [4, 5])
    np.testing.assert_array_equal(tg.grad(x[x > 2.5].sum(), x).numpy(), [[0, 0], [0, 1], [1, 1]])


def test_rows_by_iteration():
    x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    np.testing.assert_array_equal(tg.grad((first * second).sum(), x).numpy(), [[3, 4], [1, 2]])


@pytest.mark.parametrize("index", [3, (0, 0, 0), (0, 2), 0.5, "a", np.ones(4, bool), np.array([7]), np.array([0.5]), None],
                         ids=str)
def test_bad_indices(index):
    x = tg.Tensor(np.ones((3, 2)))
    if index is None:
        assert x[index].shape == (1, 3, 2)
        return
    with pytest.raises(IndexError, match=r"getitem: input of shape \(3, 2\): "):
        x[index]


def test_bad_containers():
    with pytest.raises(TypeError, match="getitem: expected a Tensor or an array, got list"):
        tg.getitem([1.0], 0)
    with pytest.raises(TypeError, match=r"cannot be written to in place .* tinygan.where or tinygan.concatenate"):
        tg.Tensor([1.0])[0] = 2.0


# -- scatter_add --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDICES)
def test_scatter_add(device, name):
    index, shape = INDICES[name], (3, 3, 4)
    a = values(0, np.empty(shape)[index].shape)
    expected = np.zeros(shape)
    np.add.at(expected, index if not isinstance(index, list) else np.array(index, dtype=None if index else int), a)
    check_both_modes(lambda x: tg.scatter_add(x, index, shape), expected, a, device=device)
    if device == "cpu":
        check(lambda x: tg.mul(tg.scatter_add(x, index, shape), tg.scatter_add(x, index, shape)), a)


def test_scatter_add_broadcasts_its_values():
    for index in (slice(0, 2), np.array([0, 0, 2])):
        check_both_modes(lambda x, index=index: tg.scatter_add(x, index, (3,)),
                         np.bincount(np.arange(3)[index], minlength=3) * 2.5,
                         np.array([2.5]))
        check(lambda x, index=index: tg.exp(tg.scatter_add(x, index, 3)), np.array([0.5]))


def test_scatter_add_refuses():
    with pytest.raises(ValueError, match=r"scatter_add: the shape \(2,\) does not broadcast to \(3,\)"):
        tg.scatter_add(np.ones(2), slice(0, 3), (3,))
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        tg.scatter_add(np.ones(2), np.array([0, 5]), (3,))
    with pytest.raises(TypeError, match="scatter_add: expected a Tensor or an array, got list"):
        tg.scatter_add([1.0], 0, (3,))
    with pytest.raises(TypeError, match="scatter_add: shape should be an integer or integers"):
        tg.scatter_add(np.ones(()), 0, (3.5,))


# -- embedding ----------------------------------------------------------------------------------------------------


@given(indices=hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
                          elements=st.integers(0, 3)), seed=seeds, layout=layouts)
def test_embedding(indices, seed, layout):
    a = values(seed, (4, 2))
    check_both_modes(lambda w: tg.embedding(w, indices), a[indices], a, layout=layout)
    check(lambda w: tg.sin(tg.embedding(w, indices)), a, layout=layout)


@pytest.mark.oracle
def test_embedding_against_torch(device):
    torch = pytest.importorskip("torch")
    indices = np.array([[0, 3], [3, 3]])
    agree(lambda w: tg.exp(tg.embedding(w, indices)),
          lambda w: torch.exp(torch.nn.functional.embedding(torch.tensor(indices), w)),
          values(0, (4, 3)), device=device)


def test_embedding_takes_lists_numbers_and_tensors():
    a = values(0, (4, 2))
    for indices in ([1, 0], 2, np.int64(2), [], tg.Tensor(np.array([3])), np.array([1], np.uint8)):
        plain = np.asarray(indices, dtype=int)
        np.testing.assert_array_equal(tg.embedding(a, indices), a[plain])


@pytest.mark.parametrize("indices, error, message", [
    ([4], IndexError, r"embedding: indices from 4 to 4, expected 0 to 3 \(weight \(4, 2\)\)"),
    ([0, -1], IndexError, "embedding: indices from -1 to 0, expected 0 to 3"),
    ([0.5], TypeError, "embedding: indices should be integers, got float64"),
    (np.ones(4, bool), TypeError, "embedding: indices should be integers, got bool"),
    ("a", TypeError, "embedding: indices should be integers"),
    (None, TypeError, "embedding: indices should be integers"),
])
def test_embedding_refuses(indices, error, message):
    with pytest.raises(error, match=message):
        tg.embedding(tg.Tensor(np.ones((4, 2))), indices)
    with pytest.raises(ValueError, match=r"embedding: weight should be of shape \(count, ...\), got \(\)"):
        tg.embedding(tg.Tensor(1.0), [0])


# -- gather -------------------------------------------------------------------------------------------------------

GATHERED = [  # shape, axis, shape of the index
    ((3, 4), 1, (3, 2)), ((3, 4), 0, (5, 4)), ((3, 4), -1, (2, 6)), ((2, 3, 4), 1, (2, 5, 3)), ((2, 3, 4), 0, (1, 2, 4)),
    ((2, 3, 4), 2, (2, 3, 1)), ((5,), 0, (7,)), ((), 0, ()), ((), -1, ()), ((3, 4), 1, (3, 0)), ((3, 4), 1, (0, 2)),
    ((0, 4), 1, (0, 2)), ((0, 4), 0, (0, 4)),
]


def gather_case(shape, axis, index_shape, seed=0):
    count = shape[axis] if shape else 1
    return values(seed, shape), np.random.default_rng(seed).integers(0, max(count, 1), index_shape)


@pytest.mark.parametrize("shape, axis, index_shape", GATHERED)
@given(layout=layouts, seed=seeds)
def test_gather(device, shape, axis, index_shape, layout, seed):
    a, index = gather_case(shape, axis, index_shape, seed)
    expected = np.empty(index_shape)
    for place in np.ndindex(index_shape):
        source = list(place)
        if shape:
            source[axis] = index[place]
        expected[place] = a[tuple(source)]
    index = to_device(index, device)
    check_both_modes(lambda x: tg.gather(x, axis, index), expected, a, device=device, layout=layout)
    check_both_modes(lambda x: tg.gather(x, axis, tg.Tensor(index)), expected.astype(np.float32), a.astype(np.float32),
                     device=device, layout=layout)
    if device == "cpu":
        check(lambda x: tg.exp(tg.gather(x, axis, index)), a, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("shape, axis, index_shape", [case for case in GATHERED if 0 not in case[0]])
def test_gather_against_torch(device, shape, axis, index_shape):
    torch = pytest.importorskip("torch")
    a, index = gather_case(shape, axis, index_shape)
    agree(lambda x: tg.exp(tg.gather(x, axis, index)), lambda x: torch.exp(torch.gather(x, axis, torch.tensor(index))), a,
          device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gathering_the_same_element_often(device, dtype, axis):
    shape = [3, 4, 5]
    picks = list(shape)
    picks[axis] = 700
    index = np.random.default_rng(0).integers(0, 2, picks).astype(np.int32)
    weights = np.random.default_rng(1).standard_normal(picks).astype(dtype) + 1000
    x = tg.Tensor(to_device(np.ones(shape, dtype), device), requires_grad=True)
    found = [to_numpy(tg.grad((tg.gather(x, axis, index) * to_device(weights, device)).sum(), x)) for _ in range(2)]
    expected = np.zeros(shape)
    for place in np.ndindex(*picks):
        source = list(place)
        source[axis] = index[place]
        expected[tuple(source)] += weights[place]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], expected, rtol=2 * np.finfo(dtype).eps)


def test_what_gather_takes():
    a = values(0, (3, 4))
    for index in ([[0], [1], [3]], np.array([[0], [1], [3]], np.uint8), tg.Tensor(np.array([[0], [1], [3]]))):
        np.testing.assert_array_equal(tg.gather(a, 1, index), a[[0, 1, 2], [0, 1, 3]][:, None])
    labels = np.array([[5, 6], [7, 8]])
    np.testing.assert_array_equal(tg.gather(labels, 1, [[1], [0]]), [[6], [7]])
    np.testing.assert_array_equal(tg.gather(labels > 5, 0, [[1, 1]]), [[True, True]])


@pytest.mark.parametrize("axis, index, error, message", [
    (1, [[0.5]], TypeError, "gather: index should be integers, got float64"),
    (1, np.ones((3, 1), bool), TypeError, "gather: index should be integers, got bool"),
    (1, [0, 1], ValueError, r"gather: index should have as many axes as the input, .* got \(2,\) \(input \(3, 4\)\)"),
    (1, np.zeros((4, 1), int), ValueError, r"gather: index .* no longer than it except along axis 1, got \(4, 1\)"),
    (1, [[4]], IndexError, r"gather: index from 4 to 4, expected 0 to 3 \(input \(3, 4\), axis 1\)"),
    (0, [[0, -1]], IndexError, "gather: index from -1 to 0, expected 0 to 2"),
    (2, [[0]], ValueError, r"gather: axis 2 is out of range for an input of shape \(3, 4\)"),
    (np.zeros((3, 1), int), 1, TypeError, "gather: axis should be"),
])
def test_gather_refuses(axis, index, error, message):
    with pytest.raises(error, match=message):
        tg.gather(tg.Tensor(np.ones((3, 4))), axis, index)
