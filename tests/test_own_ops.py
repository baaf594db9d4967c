"""Ops that a user writes: the example of the README, and what a forward or a vjp that does not fit is told."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import to_device, to_numpy

import tinygan as tg
from tinygan.graph import OUT


@tg.op(saves=(0,))
def cube(B, x):  # B.xp is NumPy or CuPy; x a bare array
    return x * x * x


@cube.vjp
def _(needs, g, x):  # from the output's gradient to a tuple of the inputs'
    return (tg.mul(g, tg.mul(3.0, tg.mul(x, x))),)


VALUES = np.array([1.0, 2.0, 3.0], np.float32)


def leaf(values=VALUES):
    return tg.Tensor(values, requires_grad=True)


def with_vjp(rule, forward=None, **options):
    """An op of one or more inputs whose vjp is `rule`."""
    def double(B, x):
        return x * 2

    made = tg.op(**options)(forward or double)
    made.vjp(rule)
    return made


def test_the_example():
    x = leaf()
    assert cube(x).tolist() == [1, 8, 27] and cube(VALUES).tolist() == [1, 8, 27]
    assert tg.grad(tg.sum(cube(x)), x).tolist() == [3, 12, 27]
    g = tg.grad(tg.sum(cube(x)), x, create_graph=True)
    assert tg.grad(tg.sum(g), x).tolist() == [6, 12, 18]
    tg.check_gradients(cube, VALUES, order=2)


def test_the_example_on_every_device(device):
    x = leaf(to_device(VALUES, device))
    np.testing.assert_array_equal(to_numpy(tg.grad(tg.sum(cube(x)), x)), 3 * VALUES**2)


def test_without_brackets():
    @tg.op
    def twice(B, x):
        """twice(x): 2 x."""
        return x + x

    @twice.vjp
    def _(needs, g):
        return (tg.mul(g, 2.0),)

    x = leaf()
    assert isinstance(twice, tg.Op) and repr(twice) == "<op twice>" and twice.__doc__ == "twice(x): 2 x."
    assert tg.grad(tg.sum(twice(x)), x).tolist() == [2, 2, 2]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("rule, error, message", [
    (lambda needs, g: tg.mul(g, 2.0), TypeError, r"double\.vjp: should return a tuple, one gradient for each of the 1 inputs, got "
                                                 r"(ndarray|Tensor) \(write return \(gradient,\)\)"),
    (lambda needs, g: None, TypeError, r"double\.vjp: should return a tuple, .* got NoneType"),
    (lambda needs, g: 2.0, TypeError, r"double\.vjp: should return a tuple, .* got float"),
    (lambda needs, g: {0: g}, TypeError, r"double\.vjp: should return a tuple, .* got dict"),
    (lambda needs, g: (), ValueError, r"double\.vjp: should return 1 gradients, one for each input, got 0"),
    (lambda needs, g: (g, g), ValueError, r"double\.vjp: should return 1 gradients, one for each input, got 2"),
    (lambda needs, g: (tg.sum(g),), ValueError, r"double\.vjp: the gradient of input 0 has shape \(\), but the input has \(3,\)"),
    (lambda needs, g: (g[:1],), ValueError, r"double\.vjp: the gradient of input 0 has shape \(1,\), but the input has \(3,\)"),
    (lambda needs, g: (tg.reshape(g, (1, 3)),), ValueError, r"double\.vjp: the gradient of input 0 has shape \(1, 3\), but the input has "
                                                           r"\(3,\)$"),
    (lambda needs, g: (tg.astype(g, np.float64),), TypeError, r"double\.vjp: the gradient of input 0 is float64, but the input is "
                                                              r"float32"),
    (lambda needs, g: (tg.greater(g, 0),), TypeError, r"double\.vjp: the gradient of input 0 is bool, but the input is float32"),
    (lambda needs, g: ("a",), TypeError, r"double\.vjp: the gradient of input 0 should be an? (array or None|Tensor .*), got str"),
    (lambda needs, g: ([2.0, 2.0, 2.0],), TypeError, r"double\.vjp: the gradient of input 0 should be an? (array or|Tensor) .*list"),
    (lambda needs, g, x: (g,), TypeError, r"double\.vjp: is called with \(needs, g\), as saves=\(\) says: missing .*'x'"),
    (lambda g: (g,), TypeError, r"double\.vjp: is called with \(needs, g\), as saves=\(\) says: too many"),
])
def test_a_vjp_that_does_not_fit_is_an_error_that_names_it(rule, error, message, create_graph):
    x = leaf()
    y = tg.sum(with_vjp(rule)(x))
    with pytest.raises(error, match=message):
        tg.grad(y, x, create_graph=create_graph, retain_graph=True)
    if not create_graph:
        with pytest.raises(error, match=message):
            y.backward()
        assert x.grad is None


def test_a_vjp_that_leaves_tinygans_ops_has_no_second_derivative():
    made = with_vjp(lambda needs, g: (np.asarray(g) * 2,))
    x = leaf()
    assert tg.grad(tg.sum(made(x)), x).tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match=r"the gradient of input 0 should be a Tensor under create_graph=True, got ndarray: write"):
        tg.grad(tg.sum(made(x)), x, create_graph=True)
    error = ZeroDivisionError("in the vjp")

    def broken(needs, g):
        raise error

    with pytest.raises(ZeroDivisionError, match="in the vjp"):
        tg.grad(tg.sum(with_vjp(broken)(x)), x)

    def wrong(needs, g):
        return (len(5),)

    with pytest.raises(TypeError, match="has no len"):  # the vjp's own TypeError, as it is
        tg.grad(tg.sum(with_vjp(wrong)(x)), x)


def test_what_else_a_vjp_may_return():
    x = leaf()
    for rule in (lambda needs, g: [tg.mul(g, 2.0)], lambda needs, g: (tg.mul(tg.Tensor(g), 2.0),)):
        made = with_vjp(rule)  # a list; a Tensor where bare arrays are computed with
        x.grad = None
        tg.sum(made(x)).backward()
        assert x.grad.tolist() == [2, 2, 2] and type(x.grad.array) is np.ndarray
        tg.sum(made(x)).backward()
        assert x.grad.tolist() == [4, 4, 4]
    assert tg.grad(tg.sum(with_vjp(lambda needs, g: (None,))(x)) + tg.sum(x), x).tolist() == [1, 1, 1]
    scalar = leaf(np.float32(3.0))
    made = with_vjp(lambda needs, g: (np.float32(2) * np.asarray(g)[()],))
    assert tg.grad(made(scalar), scalar).item() == 2


def test_two_inputs_and_broadcasting():
    def product(B, a, b):
        return a * b

    def rule(needs, g, a, b):
        return needs[0] and tg.mul(g, b), needs[1] and tg.mul(g, a)

    a, b = leaf(np.ones((2, 3), np.float32)), leaf()
    broadcasting = with_vjp(rule, product, saves=(0, 1), broadcasts=True)
    ga, gb = tg.grad(tg.sum(broadcasting(a, b)), [a, b])
    assert ga.tolist() == [[1, 2, 3], [1, 2, 3]] and gb.tolist() == [2, 2, 2]
    assert tg.grad(tg.sum(broadcasting(a, 3.0)), a).tolist() == [[3] * 3] * 2
    assert tg.grad(tg.sum(broadcasting(b, b)), b).tolist() == [2, 4, 6]
    strict = with_vjp(rule, product, saves=(0, 1))
    with pytest.raises(ValueError, match=r"product\.vjp: the gradient of input 1 has shape \(2, 3\), but the input has \(3,\); an op "
                                         r"whose inputs broadcast is made with op\(broadcasts=True\)"):
        tg.grad(tg.sum(strict(a, b)), [a, b])
    assert tg.grad(tg.sum(strict(a, b)), a).tolist() == [[1, 2, 3], [1, 2, 3]]  # b's is not asked for
    mended = with_vjp(lambda needs, g, a, b: (tg.mul(g, b), g[:, :2]), product, saves=(0, 1), broadcasts=True)
    with pytest.raises(ValueError, match=r"product\.vjp: the gradient of input 1 has shape \(2, 2\), but the input has \(3,\)$"):
        tg.grad(tg.sum(mended(a, b)), [a, b])
    outer = with_vjp(lambda needs, g, a, b: (tg.mul(g, b), tg.mul(tg.expand_dims(g, 1), a)), product, saves=(0, 1),
                     broadcasts=True)  # wider than the result: its sums would fit, and be wrong
    with pytest.raises(ValueError, match=r"product\.vjp: the gradient of input 1 has shape \(3, 3\), but the input has \(3,\)$"):
        tg.grad(tg.sum(outer(b, b)), [b])
    few = with_vjp(lambda needs, g, a, b: (tg.mul(g, b),), product, saves=(0, 1))
    with pytest.raises(ValueError, match=r"product\.vjp: should return 2 gradients, one for each input, got 1"):
        tg.grad(tg.sum(few(b, b)), b)
    assert tg.grad(tg.sum(broadcasting(b, VALUES > 1)), b).tolist() == [0, 1, 1]  # masks, as everywhere


def test_a_gradient_of_another_precision_names_the_cause():
    """A forward that promotes: NumPy's float64 scalars do."""
    made = with_vjp(lambda needs, g: (tg.mul(g, 2.0),), lambda B, x: x * np.float64(2))
    x = leaf()
    assert made(x).dtype == np.float64
    with pytest.raises(TypeError, match=r"the gradient of input 0 is float64, but the input is float32"):
        tg.grad(tg.sum(made(x)), x)


@pytest.mark.parametrize("result, name", [(None, "NoneType"), ("a", "str"), ([1.0], "list"), ((VALUES,), "tuple"), ({}, "dict")])
def test_a_forward_returns_an_array(result, name):
    @tg.op
    def strange(B, x):
        return result

    for x in (VALUES, tg.Tensor(VALUES), leaf()):
        with pytest.raises(TypeError, match=f"strange: its forward should return an array of cpu, got {name}"):
            strange(x)


def test_a_forward_may_return_a_number_but_no_tensor():
    total = with_vjp(lambda needs, g, x: (tg.broadcast_to(g, x.shape),), lambda B, x: B.xp.sum(x), saves=(0,))
    x = leaf()
    assert total(x).item() == 6 and total(x).shape == () and tg.grad(total(x), x).tolist() == [1, 1, 1]

    @tg.op
    def wrapped(B, x):
        return tg.Tensor(x)

    with pytest.raises(TypeError, match="wrapped: its forward should return an array of cpu, got Tensor"):
        wrapped(leaf())


def test_an_op_without_a_vjp():
    @tg.op
    def forgotten(B, x):
        return x * 2

    @tg.op
    def largest(B, x):
        return B.xp.argmax(x)

    x = leaf()
    with pytest.raises(TypeError, match=r"forgotten: has no vjp, so grad would treat its result as a constant: write a vjp under "
                                        r"@forgotten\.vjp, or call the op with tinygan\.detach\(x\)"):
        forgotten(x)
    for given in (VALUES, tg.Tensor(VALUES), x.detach()):
        assert forgotten(given).tolist() == [2, 4, 6]
    with tg.no_grad():
        assert forgotten(x).tolist() == [2, 4, 6]
    assert largest(x).item() == 2  # integers have no gradient anyway


@pytest.mark.parametrize("saves, error, message", [
    (0, TypeError, r"op double: saves should be a tuple of positions of inputs, or OUT \(-1\), got 0"),
    ([0], TypeError, r"op double: saves should be a tuple"), ("x", TypeError, r"op double: saves should be a tuple"),
    ((-2,), TypeError, r"op double: saves should be a tuple"), ((0.0,), TypeError, r"op double: saves should be a tuple"),
    ((1,), ValueError, r"op double: saves=\(1,\) names an input that the forward does not take; it takes \['x'\], counted from 0"),
])
def test_saves_that_do_not_fit_are_refused_where_they_are_written(saves, error, message):
    with pytest.raises(error, match=message):
        @tg.op(saves=saves)
        def double(B, x):
            return x * 2


def test_saves_of_the_output_and_of_any_number_of_inputs():
    root = with_vjp(lambda needs, g, y: (tg.div(tg.mul(g, 0.5), y),), lambda B, x: B.xp.sqrt(x), saves=(OUT,))
    assert tg.grad(tg.sum(root(leaf())), leaf()).tolist() == [0, 0, 0]
    x = leaf(np.array([4.0, 16.0], np.float32))
    assert tg.grad(tg.sum(root(x)), x).tolist() == [0.25, 0.125]
    many = with_vjp(lambda needs, g, a, b: (tg.mul(g, 1.0), g), lambda B, *arrays: arrays[0] + arrays[1], saves=(0, 1))
    assert tg.grad(tg.sum(many(x, x)), x).tolist() == [2, 2]


def test_static_arguments_are_told_to_the_vjp():
    made = with_vjp(lambda needs, g, factor: (tg.mul(g, factor),), lambda B, x, factor: x * factor)
    x = leaf()
    assert tg.grad(tg.sum(made(x, factor=3.0)), x).tolist() == [3, 3, 3]
    forgetful = with_vjp(lambda needs, g: (g,), lambda B, x, factor: x * factor)
    with pytest.raises(TypeError, match=r"is called with \(needs, g, factor\), as saves=\(\) says: got an unexpected .*'factor'"):
        tg.grad(tg.sum(forgetful(x, factor=3.0)), x)


def test_tinygans_own_ops_are_not_slowed_down():
    assert not any(value.user_defined for value in vars(tg).values() if isinstance(value, tg.Op))
    assert cube.user_defined
