"""A watcher is told of every op, forward and backward, in the order in which the engine works."""
from __future__ import annotations

import numpy as np
import pytest

import tinygan as tg
from tinygan.context import CONTEXT
from tinygan.watching import Watcher, watching


class Told(Watcher):
    """Writes down what it is told, in short."""

    def __init__(self, inner=None):
        self.lines, self.inner = [], inner

    def computed(self, op, out, arrays, inputs, static):
        self.lines.append(("computed", op.name, out.shape, dict(static)))

    def recorded(self, node, result):
        self.lines.append(("recorded", node.op.name, result.node is node))

    def starts(self, seeds, ends, create_graph):
        self.lines.append(("starts", [node.op.name for node, _ in seeds], len(ends), create_graph))
        return self.inner

    def walked(self, node, needs, parts, g, saved, gradients):
        sums = [float(np.sum(tg.Tensor(gradients[p]).numpy())) for p in node.parents if p in gradients]
        self.lines.append(("walked", node.op.name, list(needs), sums))


def leaf(*values):
    return tg.Tensor(np.array(values, np.float32), requires_grad=True)


def test_it_is_told_of_every_op_forward_and_backward():
    told, x = Told(), leaf(1.0, 2.0)
    with watching(told):
        tg.grad(tg.sum(tg.mul(x, 3.0), axis=0), x)
    assert told.lines == [
        ("computed", "mul", (2,), {}), ("recorded", "mul", True),
        ("computed", "sum", (), {"axis": (0,), "keepdims": False, "shape": (2,)}), ("recorded", "sum", True),
        ("starts", ["sum"], 1, False),
        ("walked", "sum", [True], [2.0]), ("walked", "mul", [True, False], [6.0]),
    ]


def test_backward_is_watched_too():
    told, x = Told(), leaf(1.0, 2.0)
    with watching(told):
        tg.sum(x).backward()
    assert [line[0] for line in told.lines] == ["computed", "recorded", "starts", "walked"]


def test_a_constant_is_computed_but_not_recorded():
    told = Told()
    with watching(told), tg.no_grad():
        tg.exp(leaf(1.0))
    assert [line[:2] for line in told.lines] == [("computed", "exp")]


@pytest.mark.parametrize("inside", [False, True])
def test_starts_says_who_watches_the_ops_of_the_vjps(inside):
    vjps = Told()
    told, x = Told(vjps if inside else None), leaf(1.0, 2.0)
    with watching(told):
        tg.grad(tg.sum(tg.exp(x)), x, create_graph=True)
    assert ("computed", "mul") in [line[:2] for line in vjps.lines] if inside else not vjps.lines
    assert ("computed", "mul") not in [line[:2] for line in told.lines]


def test_two_watchers_are_both_told():
    outer, inner, x = Told(), Told(), leaf(1.0)
    with watching(outer):
        tg.exp(x)
        with watching(inner):
            tg.grad(tg.log(x), x)
    assert [line[1] for line in outer.lines if line[0] == "computed"] == ["exp", "log"]
    assert [line[1] for line in inner.lines if line[0] == "computed"] == ["log"]
    assert outer.lines[2:] == inner.lines


def test_anomalies_are_found_beside_another_watcher():
    with watching(Told()), tg.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="log"):
        tg.log(leaf(-1.0))


def test_after_an_error_nobody_watches():
    with pytest.raises(ZeroDivisionError), watching(Told()):
        raise ZeroDivisionError
    assert CONTEXT.get().watcher is None


def test_a_captured_step_is_watched_op_by_op():
    told, step, x = Told(), tg.capture(lambda x: tg.mul(x, 2.0)), np.ones(3, np.float32)
    for _ in range(3):
        step(x)
    with watching(told):
        for _ in range(3):
            step(x)
    assert [line[:2] for line in told.lines] == [("computed", "mul")] * 3


def test_it_is_told_of_the_modules_that_are_called():
    class Calls(Watcher):
        def __init__(self):
            self.lines = []

        def computed(self, op, out, arrays, inputs, static):
            self.lines.append(op.name)

        def entered(self, module, inputs):
            self.lines.append(("entered", type(module).__name__, [x.shape for x in inputs]))

        def left(self, module, result):
            self.lines.append(("left", type(module).__name__, result.shape))

    network = tg.nn.Sequential(tg.nn.Dense(2, 3, bias=False), tg.nn.Tanh()).initialize(tg.random.Key(0))
    calls, others, x = Calls(), Calls(), tg.Tensor(np.ones((4, 2), np.float32))
    with tg.fusion(False), watching(calls), watching(others):
        network(x)
    assert calls.lines == others.lines == [
        ("entered", "Sequential", [(4, 2)]), ("entered", "Dense", [(4, 2)]), "linear", ("left", "Dense", (4, 3)),
        ("entered", "Tanh", [(4, 3)]), "activation", ("left", "Tanh", (4, 3)), ("left", "Sequential", (4, 3))]
