"""check_gradients must find wrong gradients: each case here is wrong in one way, on purpose."""
from __future__ import annotations

import numpy as np
import pytest

import tinygan as tg
from tinygan import GradientError, Tensor, check_gradients


def wrong_op(forward, rule, saves=(0,)):
    op = tg.Op("wrong", forward, saves=saves)
    op.vjp(rule)
    return op


X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])


def test_right_gradients_pass_and_the_difference_is_returned():
    worst = check_gradients(lambda x, y: tg.tanh(x) * tg.exp(y), X, X + 0.1)
    assert 0 < worst < 1e-8
    assert check_gradients(lambda x: x * 3.0, Tensor(X), order=1) < 1e-8


def test_wrong_first_order_names_the_input_the_element_and_both_values():
    def rule(needs, g, x):
        return (tg.mul(g, np.where(np.arange(6).reshape(2, 3) == 4, 1.25, 1.0)),)

    wrong = wrong_op(lambda B, x: x.copy(), rule)
    message = (r"the gradient with respect to input 1 at element \(1, 1\): grad gives .*, the central difference .* "
               r"\(they differ by .*; 1 of 6 elements disagree\)")
    with pytest.raises(GradientError, match=message) as caught:
        check_gradients(lambda a, b: tg.add(a, wrong(b)), X, X)
    assert isinstance(caught.value, AssertionError)


def test_a_dropped_second_order_term_is_found():
    square = wrong_op(lambda B, x: x * x, lambda needs, g, x: (tg.mul(g, tg.mul(tg.detach(x), 2.0)),))
    check_gradients(square, X, order=1)
    with pytest.raises(GradientError, match="the gradient of the gradient with respect to input 0"):
        check_gradients(square, X)


def test_a_gradient_that_ignores_its_weights_at_second_order_is_found():
    double = wrong_op(lambda B, x: 2 * x, lambda needs, g: (tg.mul(tg.detach(g), 2.0),), saves=())
    check_gradients(double, X, order=1)
    with pytest.raises(GradientError, match="the gradient of the gradient with respect to the weights of the output"):
        check_gradients(double, X)


def test_a_missing_gradient_is_found():
    missing = wrong_op(lambda B, x: x * x, lambda needs, g, x: (None,))
    with pytest.raises(GradientError, match="input 0"):
        check_gradients(missing, X)
    with pytest.raises(GradientError, match=r"grad gives 0, the central difference .* 6 of 6 elements disagree"):
        check_gradients(lambda x: tg.exp(x.detach()), X)


def test_a_transposed_gradient_is_found():
    square = np.array([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(GradientError):
        check_gradients(wrong_op(lambda B, x: x.copy(), lambda needs, g: (tg.transpose(g),), saves=()), square)


def test_nan_and_infinity_do_not_pass():
    nan = wrong_op(lambda B, x: x.copy(), lambda needs, g: (tg.mul(g, float("nan")),), saves=())
    with pytest.raises(GradientError, match="nan"):
        check_gradients(nan, X)
    with np.errstate(invalid="ignore"), pytest.raises(GradientError, match="nan"):
        check_gradients(tg.log, -np.ones(2))
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(GradientError):
        check_gradients(tg.sqrt, np.zeros(2))


def test_a_kink_is_found():
    with pytest.raises(GradientError):
        check_gradients(tg.abs, np.array([1e-6]))


def test_an_input_that_is_changed_in_place_is_found():
    def forward(B, x):
        x *= 2.0
        return x.copy()

    with pytest.raises(GradientError, match="the function changes input 0 in place"):
        check_gradients(wrong_op(forward, lambda needs, g: (tg.mul(g, 2.0),), saves=()), X)


def test_inputs_are_taken_in_float64_and_left_alone():
    seen = []

    def fn(x):
        seen.append(x.dtype)
        return tg.exp(x)

    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    check_gradients(fn, x)
    assert set(seen) == {np.dtype(np.float64)}
    assert x.grad is None and x.dtype == np.float32


def test_constant_functions_0d_and_empty_inputs():
    assert check_gradients(lambda x: Tensor(np.ones(3)), X) == 0
    check_gradients(lambda x: tg.exp(x) * 2.0, np.array(0.5))
    check_gradients(lambda x: tg.exp(x), np.ones((0, 3)))
    check_gradients(lambda x, y: tg.exp(x), X, X)  # an input that does not matter


def test_random_draws_are_held():
    check_gradients(lambda x: tg.dropout(x, 0.5) * x, X)


def test_order_is_checked():
    with pytest.raises(ValueError, match="check_gradients: order should be 1 or 2, got 3"):
        check_gradients(tg.exp, X, order=3)
