"""`checkpoint` against the same function without it, and `jvp` and `hvp` against derivatives written by hand."""
import threading
import weakref

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.context import CONTEXT
from tinygan.random import Key, KeyStream, next_key, use_key


def matrix(seed, *shape):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


# -- checkpoint ------------------------------------------------------------------------------------------------------


def two_outputs(a, b, captured):
    """A function of two inputs and a Tensor from outside, in which b stands in two places."""
    hidden = tg.tanh(a @ b) * captured
    return hidden + tg.sum(b), tg.exp(hidden[0] * 0.1)


@pytest.mark.parametrize("nested", [False, True])
def test_checkpoint_is_exact_to_the_second_order(nested):
    a, b, source = matrix(0, 4, 3), matrix(1, 3, 2), matrix(2, 2)

    def derivatives(wrap):
        captured = tg.sin(source) * a[0, :2]  # from outside, and dependent on an argument
        first, second = wrap(lambda x, y: two_outputs(x, y, captured))(a, b)
        loss = tg.sum(first * first) + tg.sum(second)
        gradients = tg.grad(loss, [a, b, source], create_graph=True)
        total = tg.sum(tg.stack([tg.sum(g * g) for g in gradients]))
        return [first, second, *gradients, *tg.grad(total, [a, b, source])]

    def checkpointed(fn):
        return lambda x, y: tg.checkpoint(checkpointed_once(fn) if nested else fn, x, y)

    def checkpointed_once(fn):
        return lambda x, y: tg.checkpoint(fn, x, y)

    for ours, plain in zip(derivatives(checkpointed), derivatives(lambda fn: fn), strict=True):
        assert ours.shape == plain.shape
        np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-13)


def test_checkpoint_of_an_argument_in_two_places_and_of_arrays():
    x = matrix(0, 3)
    array = np.array([1.0, 2.0, 3.0])
    y = tg.sum(tg.checkpoint(lambda a, b, c: a * a * b * c, x, x, array))
    np.testing.assert_allclose(tg.grad(y, x), 3 * x.numpy() ** 2 * array, rtol=1e-14)


def test_checkpoint_gives_gradients_to_a_modules_parameters():
    model = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2)).initialize(Key(0)).astype(np.float64)
    x = np.random.default_rng(0).normal(size=(5, 3))  # no gradient of its own
    plain = tg.grad(tg.sum(tg.exp(model(x))), model.parameters())
    wrapped = tg.grad(tg.sum(tg.exp(tg.checkpoint(model, x))), model.parameters())
    for a, b in zip(wrapped, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    tg.sum(tg.exp(tg.checkpoint(model, x))).backward()
    for parameter, b in zip(model.parameters(), plain, strict=True):
        np.testing.assert_allclose(parameter.grad, b, rtol=1e-13)


def test_checkpoint_runs_again_once_and_keeps_nothing_in_between():
    kept, runs = [], []

    def fn(a):
        hidden = tg.exp(a)
        runs.append(1)
        kept.append(weakref.ref(hidden.array))
        return tg.sum(hidden * hidden)

    x = matrix(0, 4)
    y = tg.checkpoint(fn, x)
    assert kept[0]() is None and len(runs) == 1
    np.testing.assert_allclose(tg.grad(y, x), 2 * np.exp(2 * x.numpy()), rtol=1e-13)
    assert len(runs) == 2 and kept[1]() is None
    with tg.no_grad():
        assert not tg.checkpoint(fn, x).requires_grad
    assert not tg.checkpoint(fn, x.detach()).requires_grad


def test_checkpoint_draws_the_same_numbers_as_without_it():
    x = matrix(0, 50)

    def fn(a):
        return tg.dropout(tg.dropout(a, 0.5) * 2.0, 0.5)

    def run(wrapped):
        with use_key(KeyStream(Key(3))) as keys:
            y = tg.sum(wrapped(x) * 3.0)
            following = next_key()
            return tg.grad(y, x).numpy(), following, keys.count

    plain = run(fn)
    for wrapped in (lambda a: tg.checkpoint(fn, a), lambda a: tg.checkpoint(lambda b: tg.checkpoint(fn, b), a)):
        gradient, following, count = run(wrapped)
        np.testing.assert_array_equal(gradient, plain[0])
        assert (following, count) == plain[1:]


def test_checkpoint_draws_the_same_numbers_whoever_else_draws_meanwhile():
    x = matrix(0, 50)
    runs = []

    def fn(a):
        a = tg.dropout(a, 0.5)
        if not runs:
            other = threading.Thread(target=next_key)  # from the process's stream, as fn does
            other.start()
            other.join()
        runs.append(1)
        return tg.dropout(a, 0.5)

    y = tg.checkpoint(fn, x)
    gradient = tg.grad(tg.sum(y), x).numpy()
    assert len(runs) == 2
    np.testing.assert_array_equal(gradient * x.numpy(), y.numpy())


def test_the_second_run_of_a_checkpoint_fuses_as_the_first():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm(3), nn.LeakyReLU(0.3)).initialize(Key(0))
    x, seen = tg.Tensor(Key(1).normal((4, 2, 5, 5)), requires_grad=True), []

    def forward(x):
        seen.append(CONTEXT.get().fusion)
        return network(x)

    with tg.fusion(False):
        y = tg.checkpoint(forward, x)
    with tg.fusion(True):
        tg.grad(tg.sum(y), x)
    assert seen == [False, False]


def test_checkpoint_refuses_a_function_that_draws_differently_the_second_time():
    x, rates = matrix(0, 5), [0.0, 0.5]
    y = tg.checkpoint(lambda a: tg.dropout(a * 1.0, rates.pop(0)), x)
    with pytest.raises(RuntimeError, match="checkpoint: the function draws more random numbers"):
        tg.grad(tg.sum(y), x)


def test_checkpoint_of_a_function_that_returns_what_it_was_given_or_found():
    x, w = matrix(0, 3), matrix(1, 3)
    for fn in (lambda t: w, lambda t: t, lambda t: (w, t * w, t)):
        outputs = tg.checkpoint(fn, x)
        plain = fn(x)
        outputs, plain = (y if isinstance(y, tuple) else (y,) for y in (outputs, plain))
        ours = tg.grad(sum(tg.sum(y * float(i + 2)) for i, y in enumerate(outputs)), [x, w])
        expected = tg.grad(sum(tg.sum(y * float(i + 2)) for i, y in enumerate(plain)), [x, w])
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_checkpoint_hands_a_constant_tensor_on_as_a_tensor():
    x, constant = matrix(0, 3), tg.Tensor(np.arange(3.0))
    y = tg.checkpoint(lambda t, c: tg.sum(t * c.exp()), x, constant)
    np.testing.assert_allclose(tg.grad(y, x), np.exp(np.arange(3.0)), rtol=1e-13)


# -- derivatives in a direction --------------------------------------------------------------------------------------


def test_jvp():
    rng = np.random.default_rng(0)
    a, b, da, db = (rng.normal(size=shape) for shape in ((3, 4), (4, 2), (3, 4), (4, 2)))
    y, dy = tg.jvp(lambda x, w: tg.sin(x) @ w, [a, b], [da, db])
    np.testing.assert_allclose(y, np.sin(a) @ b, rtol=1e-13)
    np.testing.assert_allclose(dy, (np.cos(a) * da) @ b + np.sin(a) @ db, rtol=1e-12)
    assert not y.requires_grad and not dy.requires_grad


def test_jvp_of_what_does_not_depend_on_its_inputs_is_zero():
    for fn in (lambda x: tg.Tensor(np.ones(2)), lambda x: x.detach() * 3.0, lambda x: tg.sign(x)):
        y, dy = tg.jvp(fn, [np.ones(2)], [np.ones(2)])
        assert dy.shape == y.shape and not dy.numpy().any()
    _, dy = tg.jvp(lambda x, w: w * 2.0, [np.ones(2), np.ones(2)], [np.ones(2), np.full(2, 5.0)])
    np.testing.assert_array_equal(dy, [10.0, 10.0])


def test_hvp():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, 4))
    x, v = rng.normal(size=4), rng.normal(size=4)
    product, = tg.hvp(lambda t: tg.sum(t * (matrix @ t)) + tg.sum(tg.exp(t)), [x], [v])
    np.testing.assert_allclose(product, (matrix + matrix.T) @ v + np.exp(x) * v, rtol=1e-12)
    a, b, va, vb = rng.normal(size=(4, 3))
    products = tg.hvp(lambda s, t: tg.sum(s * s * t), [a, b], [va, vb])
    np.testing.assert_allclose(products[0], 2 * b * va + 2 * a * vb, rtol=1e-12)
    np.testing.assert_allclose(products[1], 2 * a * va, rtol=1e-12)


def test_hvp_of_a_linear_function_is_zero():
    for fn in (lambda t: tg.sum(t * 2.0), lambda t: tg.sum(tg.Tensor(np.ones(3)))):
        product, = tg.hvp(fn, [np.ones(3)], [np.ones(3)])
        assert product.shape == (3,) and not product.numpy().any()


@pytest.mark.parametrize("fn", [
    lambda x: tg.sum(tg.batch_norm(x, np.ones(3), np.zeros(3)) * np.arange(15.0).reshape(5, 3)),
    lambda x: tg.sum(tg.softmax(x) * tg.sin(x)),
    lambda x: tg.binary_cross_entropy_with_logits(x, 0.9),
    lambda x: tg.mean(tg.checkpoint(tg.tanh, x) ** 3),
], ids=["batch norm", "softmax", "loss", "checkpoint"])
def test_jvp_and_hvp_against_finite_differences(fn):
    rng = np.random.default_rng(5)
    x, v = rng.normal(size=(2, 5, 3))
    step = 1e-5
    ahead, behind = x + step * v, x - step * v
    y, dy = tg.jvp(fn, [x], [v])
    np.testing.assert_allclose(y, fn(tg.Tensor(x)), rtol=1e-13)
    np.testing.assert_allclose(dy, (fn(tg.Tensor(ahead)).item() - fn(tg.Tensor(behind)).item()) / (2 * step), rtol=1e-6)
    gradients = []
    for point in (ahead, behind):
        leaf = tg.Tensor(point, requires_grad=True)
        gradients.append(tg.grad(fn(leaf), leaf).numpy())
    product, = tg.hvp(fn, [x], [v])
    np.testing.assert_allclose(product, (gradients[0] - gradients[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", [3, 3.0, np.float64(3), np.float32(3), np.int64(3), np.asarray(3.0)], ids=repr)
def test_a_number_is_a_direction_without_axes(direction, dtype):
    y, slope = tg.jvp(tg.tanh, [dtype(0.5)], [direction])
    assert y.dtype == slope.dtype == dtype and slope.shape == ()
    np.testing.assert_allclose(slope.item(), 3 / np.cosh(0.5) ** 2, rtol=1e-6)
    product, = tg.hvp(lambda x: x**3, [dtype(0.5)], [direction])
    assert product.dtype == dtype and product.shape == ()
    np.testing.assert_allclose(product.item(), 9, rtol=1e-6)
    with pytest.raises(ValueError, match=r"jvp: the directions have shapes \[\(\)\], but the inputs have shapes \[\(2,\)\]"):
        tg.jvp(tg.exp, [np.ones(2, dtype)], [direction])


def test_directions_may_be_lists():
    _, slope = tg.jvp(lambda x: x * x, [[1, 2]], [[1, 3]])
    assert slope.tolist() == [2, 12] and slope.dtype == np.float32


def test_directions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"jvp: the directions have shapes \[\(3,\)\], but the inputs have shapes \[\(2,\)\]"):
        tg.jvp(tg.exp, [np.ones(2)], [np.ones(3)])
    with pytest.raises(ValueError, match=r"hvp: fn should return one number, got shape \(2,\)"):
        tg.hvp(tg.exp, [np.ones(2)], [np.ones(2)])
