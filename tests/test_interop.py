"""Tensor among its neighbours: Python's operators, NumPy in both directions, pickle and copy, repr."""
from __future__ import annotations

import copy
import gc
import inspect
import math
import operator
import pickle

import numpy as np
import pytest

import tinygan as tg
from tinygan import Parameter, Tensor

A = np.array([[1.0, 2.0, 3.0], [0.5, 4.0, 1.0]], np.float32)
B = np.array([2.0, 1.0, 0.5], np.float32)
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.lt, operator.le, operator.gt,
             operator.ge, operator.eq, operator.ne]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("left, right",
                         [(A, B), (A, 2.0), (3, A), (np.float32(2), A), (A, np.float64(2)), (np.float64(3), A), (A, True)],
                         ids=["arrays", "number right", "number left", "scalar left", "scalar right", "float64 left",
                              "bool"])
def test_operators(op, left, right):
    expected = op(*[float(x) if np.isscalar(x) else x for x in (left, right)])
    choices = [(Tensor(left), Tensor(right))] if not np.isscalar(left) and not np.isscalar(right) else []
    if not np.isscalar(left):
        choices.append((Tensor(left), right))
    if not np.isscalar(right):
        choices.append((left, Tensor(right)))
    for a, b in choices:
        result = op(a, b)
        assert isinstance(result, Tensor)
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_matmul_and_unary_operators():
    for a, b in ((A, Tensor(B)), (Tensor(A), B), (Tensor(A), Tensor(B))):
        result = a @ b
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result.numpy(), A @ B)
    np.testing.assert_array_equal((-Tensor(A)).numpy(), -A)
    np.testing.assert_array_equal(abs(Tensor(-A)).numpy(), A)


def test_in_place_operators_make_new_tensors():
    x = y = Tensor([1.0, 2.0], requires_grad=True)
    y += 1.0
    y *= x
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    np.testing.assert_array_equal(tg.grad(y.sum(), x).numpy(), [3, 5])
    array = np.ones(2, np.float32)
    with pytest.raises(TypeError, match=r"np\.add of a Tensor into an array .* write array = array \+ tensor"):
        array += x  # an array cannot hold a graph
    np.testing.assert_array_equal(array, 1)


def test_gradients_reach_through_numpy_on_the_left():
    x = Tensor(B, requires_grad=True)
    g = tg.grad((A / x).sum(), x)
    np.testing.assert_allclose(g.numpy(), (-A / B**2).sum(0), rtol=1e-6)


@pytest.mark.parametrize("method, expected", [
    (lambda x: x.sum(), A.sum()), (lambda x: x.sum(1), A.sum(1)),
    (lambda x: x.mean(0, keepdims=True), A.mean(0, keepdims=True)),
    (lambda x: x.max(1), A.max(1)), (lambda x: x.min(), A.min()), (lambda x: x.exp(), np.exp(A)),
    (lambda x: x.log(), np.log(A)),
    (lambda x: x.sqrt(), np.sqrt(A)), (lambda x: x.tanh(), np.tanh(A)), (lambda x: x.sigmoid(), 1 / (1 + np.exp(-A))),
    (lambda x: x.relu(), A),
    (lambda x: x.var(1), A.var(1)), (lambda x: x.var(0, True, 1), A.var(0, keepdims=True, ddof=1)),
    (lambda x: x.std(1, ddof=1), A.std(1, ddof=1)), (lambda x: x.std(), A.std()),
    (lambda x: x.norm(0), np.linalg.norm(A, axis=0)),
    (lambda x: x.norm(1, keepdims=True), np.linalg.norm(A, axis=1, keepdims=True)),
    (lambda x: x.prod(1), A.prod(1)), (lambda x: x.cumsum(1), A.cumsum(1)), (lambda x: x.cumsum(), A.cumsum()),
    (lambda x: (x > 2).any(0), (A > 2).any(0)), (lambda x: (x > 2).all(1, keepdims=True), (A > 2).all(1, keepdims=True)),
    (lambda x: x.argmax(1), A.argmax(1)), (lambda x: x.argmin(), A.argmin()),
    (lambda x: x.logsumexp(0), np.log(np.exp(A).sum(0))), (lambda x: x.softmax(), np.exp(A) / np.exp(A).sum(1, keepdims=True)),
    (lambda x: x.log_softmax(0), (A - np.log(np.exp(A, dtype=np.float64).sum(0))).astype(np.float32)),
    (lambda x: x.flatten(), A.ravel()), (lambda x: x.reshape(1, 2, 3).flatten(1), A.reshape(1, 6)),
    (lambda x: x.reshape(2, 1, 3).squeeze(), A), (lambda x: x.reshape(1, 2, 1, 3).squeeze(2), A[None]),
    (lambda x: x.gather(1, [[0, 2], [1, 1]]), np.take_along_axis(A, np.array([[0, 2], [1, 1]]), 1)),
    (lambda x: (x - 3).abs(), np.abs(A - 3)), (lambda x: abs(x - 3), np.abs(A - 3)), (lambda x: (x - 3).sign(), np.sign(A - 3)),
    (lambda x: (x / 4).floor(), np.floor(A / 4)), (lambda x: (x / 4).ceil(), np.ceil(A / 4)),
    (lambda x: (x / 4).round(), np.round(A / 4)),
    (lambda x: x.clip(2, 4.5), np.clip(A, 2, 4.5)), (lambda x: x.clip(high=3), np.minimum(A, 3)), (lambda x: x.pow(2), A**2),
    (lambda x: x.sin(), np.sin(A)), (lambda x: x.cos(), np.cos(A)),
    (lambda x: x.T, A.T), (lambda x: x.astype(np.float64), A.astype(np.float64)),
])
def test_methods(method, expected):
    result = method(Tensor(A))
    assert isinstance(result, Tensor) and result.dtype == expected.dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_what_a_tensor_is():
    x = Tensor(A)
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.device) == ((2, 3), 2, 6, np.float32, 2, "cpu")
    assert x.tolist() == A.tolist()
    assert x.is_leaf and not x.requires_grad and x.grad is None
    with pytest.raises(TypeError, match="len"):
        len(Tensor(1.0))


# -- to and from NumPy --------------------------------------------------------------------------------------------


def test_a_tensor_copies():
    array = A.copy()
    x = Tensor(array)
    array[:] = 0
    np.testing.assert_array_equal(x.numpy(), A)
    y = Tensor(x)
    assert not np.shares_memory(x.numpy(), y.numpy())


@pytest.mark.parametrize("view", [np.asarray, lambda t: t.numpy(), lambda t: np.array(t, copy=False)])
def test_numpy_sees_a_read_only_view(view):
    x = Tensor(A)
    seen = view(x)
    np.testing.assert_array_equal(seen, A)
    assert np.shares_memory(seen, x.array)
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1
    assert x.array.flags.writeable


def test_conversions():
    x = Tensor(A)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    copied = np.array(x)
    copied[:] = 0
    np.testing.assert_array_equal(x.numpy(), A)
    with pytest.raises(ValueError, match="needs a copy"):
        np.array(x, dtype=np.float64, copy=False)
    np.testing.assert_array_equal(np.stack([x, x]), [A, A])
    np.testing.assert_array_equal(np.asarray(Tensor(A, requires_grad=True) * 2), A * 2)


@pytest.mark.parametrize("value, dtype", [
    (1.0, "float32"), ([1, 2.0], "float32"), (np.float64(1), "float64"), (np.ones(2), "float64"),
    (np.ones(2, np.float32), "float32"),
    (1, "float32"), ([1, 2], "float32"), ([[1], [2]], "float32"), (True, "bool"), ([True], "bool"), ([True, 2], "float32"),
    ([np.float64(1.5), np.int64(2)], "float32"), ([np.ones(2), np.zeros(2)], "float32"), (np.int64(1), "int64"),
    (np.True_, "bool"), ([np.True_], "bool"), ([Tensor([1.0]), Tensor([2.0])], "float32"), (np.arange(2, dtype=np.uint8), "uint8"), (np.ones(2, np.float16), "float16"),
    ([], "float32"),
    ((1.0, 2.0), "float32"), (range(3), "float32"),
], ids=repr)
def test_dtypes(value, dtype):
    assert Tensor(value).dtype == dtype
    assert Tensor(value, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("value",
                         [None, "a", ["a"], 1j, np.ones(2, complex), np.array([None]), np.array(["a"]), {}, object()],
                         ids=lambda value: type(value).__name__)
def test_only_numbers(value):
    with pytest.raises(TypeError, match="Tensor: expected real numbers, got an array of"):
        Tensor(value)


@pytest.mark.parametrize("value", [True, [True, False], np.arange(2), np.ones(2, bool), np.ones(2, np.float16)], ids=repr)
def test_only_floats_require_a_gradient(value):
    with pytest.raises(TypeError, match="Tensor: requires_grad needs float32 or float64, got"):
        Tensor(value, requires_grad=True)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    for dtype in (np.float32, np.float64, np.int64, bool):
        given = torch.tensor(A.astype(dtype))
        found = Tensor(given)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), given.numpy())
    given = torch.tensor(A, requires_grad=True)
    x = Tensor(given, requires_grad=True)
    np.testing.assert_array_equal(tg.grad((x * x).sum(), [x])[0], 2 * A)
    np.testing.assert_array_equal(Tensor(torch.tensor([1.5, -2.0]).bfloat16()), np.array([1.5, -2.0], np.float32))
    with pytest.raises(TypeError, match="Tensor should be real numbers, got Tensor of complex64"):
        Tensor(torch.tensor([1j]))
    parameter = Parameter(B)
    parameter.assign(torch.tensor(2 * B))
    np.testing.assert_array_equal(parameter, 2 * B)


def test_strange_arrays_become_plain_ones(tmp_path):
    mapped = np.memmap(tmp_path / "a", np.float32, "w+", shape=(2, 3))
    mapped[:] = A
    for array in (mapped, A[:, ::-1], np.asfortranarray(A), np.broadcast_to(A[0], (2, 3)), A[:, :0]):
        x = Tensor(array, requires_grad=True)
        assert type(x.array) is np.ndarray and x.array.flags.writeable
        np.testing.assert_array_equal(x.numpy(), array)
    np.testing.assert_array_equal((Tensor(A) * mapped).numpy(), A * A)
    np.testing.assert_array_equal(Tensor(A.astype(">f4")).numpy(), A)


def test_scalars():
    x = Tensor(2.5)
    assert (float(x), int(x), bool(x), x.item(), f"{x:.2f}", math.sqrt(x)) == (2.5, 2, True, 2.5, "2.50", math.sqrt(2.5))
    assert Tensor([[3]], dtype=int).item() == 3 and isinstance(Tensor([[3]], dtype=int).item(), int)
    assert not Tensor(0.0)
    with pytest.raises(ValueError, match=r"bool: a Tensor of shape \(2, 3\) is not one truth value: use tinygan.any or tinygan.all"):
        bool(Tensor(A) > 0)
    for call in (float, int, Tensor.item):
        with pytest.raises(ValueError, match=r"item: needs one element, got shape \(2, 3\)"):
            call(Tensor(A))
    with pytest.raises(ValueError, match=r"item: needs one element, got shape \(2, 3\)"):
        f"{Tensor(A):.2f}"


class Deaf:
    """An object that cannot be compared with anything."""


NO_NUMBERS = [None, "a", Deaf(), Deaf, [1.0], (1.0, 2.0), {}, {1.0}, 1j, b"1", np.array("a"), np.array(["a"]),
              np.datetime64("2020-01-01"), np.str_("a"), slice(None), len]


@pytest.mark.parametrize("other", NO_NUMBERS, ids=lambda other: type(other).__name__)
@pytest.mark.parametrize("tensor", [Tensor([1.0, 2.0, 3.0]), Parameter([1.0]), Tensor(True), Tensor(A, requires_grad=True)],
                         ids=["leaf", "parameter", "boolean", "recorded"])
def test_a_tensor_is_not_equal_to_what_is_no_number(tensor, other):
    assert (tensor == other) is False and (tensor != other) is True
    assert (other == tensor) is False and (other != tensor) is True
    assert other not in [tensor] and tensor not in [other] and [other, tensor].index(tensor) == 1
    for op in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(TypeError):
            op(tensor, other)


def test_what_python_does_with_none_and_tensors():
    x = Tensor([1.0, 2.0])
    assert (x == None, None in [x], x != "a", None == x) == (False, False, True, False)  # noqa: E711, SIM300
    assert x in [None, x] and x in (x,) and {None: 1, x: 2}[x] == 2
    with pytest.raises(TypeError, match="'<' not supported between instances of 'Tensor' and 'str'"):
        x < "a"  # noqa: B015
    with pytest.raises(TypeError, match="'>=' not supported between instances of 'Tensor' and 'NoneType'"):
        x >= None  # noqa: B015

    class Always:
        def __eq__(self, other):
            return True

        def __lt__(self, other):
            return "less"

        __hash__ = None

    assert (x == Always()) is True and (x > Always()) == "less"  # its turn comes, as with Python's own objects


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul],
                         ids=lambda op: op.__name__)
@pytest.mark.parametrize("other, name", [(None, "NoneType"), ("a", "str"), ([1.0], "list"), ({}, "dict"), (Deaf(), "Deaf")])
def test_arithmetic_with_what_is_no_number_says_what_came(op, other, name):
    for call in (lambda: op(Tensor(A), other), lambda: op(other, Tensor(A))):
        with pytest.raises(TypeError, match=rf"^\w+: expected a Tensor.* got .*{name}"):
            call()


def test_tensors_hash_by_identity():
    x, y = Tensor(1.0), Tensor(1.0)
    assert len({x, y, x}) == 2
    assert bool(x == y)


# -- pickle, copy -------------------------------------------------------------------------------------------------

COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("value",
                         [A, np.float64(1.5), np.arange(3), np.ones((0, 2), np.float32), A.T[::-1], [True, False]], ids=str)
def test_copies_are_equal_and_apart(how, value):
    x = Tensor(value)
    y = COPIES[how](x)
    assert type(y) is Tensor and y.dtype == x.dtype and y.node is None
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert not np.shares_memory(x.numpy(), y.numpy())


@pytest.mark.parametrize("how", COPIES)
def test_copies_carry_no_graph(how):
    leaf = Tensor(A, requires_grad=True)
    computed = leaf * 2
    assert COPIES[how](leaf).requires_grad and COPIES[how](leaf).node is not leaf.node
    constant = COPIES[how](computed)
    assert not constant.requires_grad and constant.is_leaf
    np.testing.assert_array_equal(constant.numpy(), A * 2)
    assert not COPIES[how](computed.detach()).requires_grad


@pytest.mark.parametrize("how", COPIES)
def test_parameters_and_buffers_survive(how):
    for variable in (Parameter(A), tg.Buffer(A)):
        twin = COPIES[how](variable)
        assert type(twin) is type(variable) and twin.requires_grad == variable.requires_grad
        twin.assign(A + 1)
        np.testing.assert_array_equal(variable.numpy(), A)
        np.testing.assert_array_equal(twin.numpy(), A + 1)


def test_copying_keeps_what_is_shared():
    x = Tensor(A)
    first, second = copy.deepcopy([x, x])
    assert first is second


def test_a_pickle_is_as_large_as_its_values():
    x = Tensor(np.zeros(1000, np.float32), requires_grad=True)
    for _ in range(100):
        x = x + 1.0
    assert len(pickle.dumps(x)) < 5000


def test_weak_references_and_collection():
    gc.disable()
    try:
        import weakref

        x = Tensor(A, requires_grad=True) * 2
        watch = weakref.ref(x)
        del x
        assert watch() is None
    finally:
        gc.enable()


# -- repr ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tensor, expected", [
    (lambda: Tensor([1.0, 2.5]), "Tensor([1. , 2.5], shape=(2,), dtype=float32)"),
    (lambda: Tensor(3), "Tensor(3., shape=(), dtype=float32)"),
    (lambda: Tensor(np.arange(3)), "Tensor([0, 1, 2], shape=(3,), dtype=int64)"),
    (lambda: Tensor([1.0], requires_grad=True), "Tensor([1.], shape=(1,), dtype=float32, requires_grad=True)"),
    (lambda: tg.exp(Tensor([0.0], requires_grad=True)), "Tensor([1.], shape=(1,), dtype=float32, op=exp)"),
    (lambda: Tensor(np.ones((0, 2))), "Tensor([], shape=(0, 2), dtype=float64)"),
    (lambda: Parameter([1.0]), "Parameter([1.], shape=(1,), dtype=float32, requires_grad=True)"),
])
def test_repr(tensor, expected):
    assert repr(tensor()) == f"{tensor()}" == expected


def test_repr_of_a_large_tensor_is_short():
    assert len(repr(Tensor(np.zeros((100, 100, 100))))) < 500


def test_ops_show_their_names_and_docs():
    assert repr(tg.exp) == "<op exp>"
    assert list(inspect.signature(tg.mul).parameters) == ["a", "b"] and "a * b" in tg.mul.__doc__


def test_labels_can_be_indexed_and_reshaped_but_not_computed_with():
    labels = tg.Tensor([3, 1, 2, 0], dtype=np.int64)
    assert labels[1:3].tolist() == [1, 2]
    assert labels.reshape(2, 2).T.tolist() == [[3, 2], [1, 0]]
    assert labels.dtype == labels[[0, 0]].dtype == np.int64
    assert not labels[1:3].requires_grad
    with pytest.raises(TypeError, match="mul: needs float32 or float64, got int64"):
        labels * 2.0
