"""Depth and memory: 100,000 chained ops, and graphs that reference counting alone frees."""
import gc
import subprocess
import sys
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.graph import Node
from tinygan.random import Key


def matrix(seed, *shape):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def live_nodes():
    return sum(issubclass(type(x), Node) for x in gc.get_objects())


@contextmanager
def reference_counting_alone():
    """The body must leave no node behind with the collector off, nor anything that the collector would find."""
    gc.collect()
    gc.freeze()  # the collector and `gc.get_objects` look at what is made from now on only
    gc.disable()
    try:
        yield
        assert live_nodes() == 0
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_hundred_thousand_chained_ops():
    # In a process of its own: a recursion that is too deep would kill it.
    code = """
import gc
import numpy as np, tinygan as tg
gc.disable()
x = tg.Tensor(np.ones(1), requires_grad=True)
for walk in (True, False):
    y = x
    for _ in range(100_000):
        y = y + 1.0
    if walk:
        assert tg.grad(y, x).item() == 1.0
        z = x
        for _ in range(100_000):
            z = z * 1.0
        assert tg.grad(z, x, create_graph=True).item() == 1.0
        del z
    del y
print("done")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "done\n" and result.returncode == 0, result.stderr


def network():
    layers = nn.Dense(3, 8), nn.LeakyReLU(), nn.Dense(8, 4), nn.BatchNorm(4), nn.Tanh(), nn.Dense(4, 1)
    return nn.Sequential(*layers).initialize(Key(0)).astype(np.float64)


def test_reference_counting_alone_frees_a_graph():
    x = matrix(0, 4, 3)
    with reference_counting_alone():
        hidden = tg.tanh(x)
        y = tg.sum(hidden * hidden)
        array = weakref.ref(hidden.array)
        del hidden
        assert array() is not None  # saved for the backward pass
        del y
        assert array() is None


def test_a_walk_frees_what_it_passes_while_the_output_lives():
    x = matrix(0, 4, 3)
    hidden = tg.tanh(x)
    y = tg.sum(hidden * hidden)
    array = weakref.ref(hidden.array)
    del hidden
    tg.grad(y, x, retain_graph=True)
    assert array() is not None
    tg.grad(y, x)
    assert array() is None


def test_a_walk_drops_each_gradient_once_it_is_used():
    alive = []

    @tg.op()
    def noted(B, x):
        return x * 1.0

    @noted.vjp
    def _(needs, g):
        alive.append(weakref.ref(g))
        living.append(sum(array() is not None for array in alive))
        return (tg.mul(g, 1.0),)

    living = []
    x = matrix(0, 3)
    y = x
    for _ in range(10):
        y = noted(y)
    tg.grad(tg.sum(y), x)
    assert len(living) == 10 and max(living) <= 2


def test_reference_counting_alone_frees_higher_orders():
    x = matrix(0, 4, 3)
    with reference_counting_alone():
        g = tg.grad(tg.sum(tg.exp(tg.sin(x))), x, create_graph=True)
        gg = tg.grad(tg.sum(g * g), x, create_graph=True)
        tg.grad(tg.sum(gg * gg), x)
        del g, gg


def test_reference_counting_alone_frees_a_network_a_checkpoint_and_a_backward():
    model, x = network(), matrix(0, 4, 3)
    with reference_counting_alone():
        tg.grad(tg.sum(model(x)), model.parameters(), create_graph=True)
        tg.sum(tg.checkpoint(model, x)).backward()
        y = tg.checkpoint(lambda a: (model(a), a * 2.0), x)
        tg.grad(tg.sum(y[0]) + tg.sum(y[1]), x, create_graph=True)
        del y
        tg.hvp(lambda a: tg.sum(tg.exp(a)), [x.numpy()], [x.numpy()])
        tg.jvp(tg.exp, [x.numpy()], [x.numpy()])
        nn.functional_call(model, {"0.bias": matrix(1, 8)}, x)


def test_reference_counting_alone_frees_a_gan_step():
    generator = nn.Sequential(nn.Dense(2, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 3))
    gan = tg.gans.VanillaGAN(generator, nn.Sequential(nn.Dense(3, 8), nn.LeakyReLU(), nn.Dropout(), nn.Dense(8, 1)), 2)
    real = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    gan.step(real)
    with reference_counting_alone():
        gan.step(real)
        gan.sample(4)


@tg.op()
def broken(B, x):
    """An op whose vjp fails."""
    return x + 0


@broken.vjp
def _(needs, g):
    raise ZeroDivisionError("in the vjp")


def attempt(expected, fn, *args, **kwargs):
    """Call fn and drop its exception with everything that hangs on it (pytest.raises would keep it)."""
    try:
        fn(*args, **kwargs)
    except expected:
        return
    pytest.fail(f"{expected} was not raised")


@pytest.mark.parametrize("create_graph", [False, True])
def test_reference_counting_alone_frees_a_graph_after_an_exception(create_graph):
    x, w = matrix(0, 4, 3), matrix(1, 3, 3)
    attempt(ZeroDivisionError, tg.grad, tg.sum(broken(x)), x)
    with reference_counting_alone():
        hidden = tg.exp(x @ w)
        attempt(ZeroDivisionError, tg.grad, tg.sum(tg.sin(broken(hidden))), [x, w], create_graph=create_graph)
        attempt(ZeroDivisionError, tg.sum(tg.checkpoint(lambda a: broken(tg.exp(a)), x)).backward)
        attempt(ValueError, tg.add, hidden, tg.exp(matrix(2, 7)))
        attempt(ValueError, tg.matmul, hidden, tg.exp(matrix(2, 7)))
        attempt(ValueError, tg.reshape, hidden, (5, 5))
        attempt(TypeError, tg.add, hidden, "text")
        del hidden


def test_reference_counting_alone_frees_an_error_that_the_forward_names_itself():
    @tg.op()
    def picky(B, x):
        raise ValueError("picky: this input will not do")

    x = matrix(0, 4, 3)
    with reference_counting_alone():
        attempt(ValueError, picky, tg.exp(x))
