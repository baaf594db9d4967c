"""Every op inside a captured step on the CPU: values and gradients of two orders, to the last bit."""
import numpy as np
import pytest

import tinygan as tg
from tinygan.gradcheck_cases import cases
from tinygan.random import Key, KeyStream, use_key

CASES = {name: (function, inputs) for name, function, inputs in cases()}


def value_and_gradients(function):
    """A step: the op's value, its gradients, and the gradients of their squares."""
    def step(*arrays):
        inputs = [tg.Tensor(a, requires_grad=True) for a in arrays]
        y = function(*inputs)
        weights = np.sin(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
        first = tg.grad(tg.sum(tg.mul(y, weights)), inputs, create_graph=True)
        squares = [tg.sum(tg.mul(g, g)) for g in first if g.requires_grad]
        return [y, *first, *(tg.grad(sum(squares), inputs) if squares else [])]

    return step


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_an_op_is_replayed_to_the_last_bit(name, dtype):
    function, inputs = CASES[name]
    if name == "pow, whole exponents" and dtype is np.float32:
        pytest.skip("its exponents are float64")
    step, rng = value_and_gradients(function), np.random.default_rng(0)
    captured, streams = tg.capture(step), [KeyStream(Key(0)), KeyStream(Key(0))]
    for _ in range(4):
        arrays = [(a + 0.05 * rng.uniform(size=a.shape)).astype(dtype) for a in inputs]
        results = []
        for run, stream in zip((captured, step), streams, strict=True):
            with use_key(stream):
                results.append(run(*arrays))
        for found, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert captured.program.steps
