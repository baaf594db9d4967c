"""The checks of lesson 7: plain loops, and central differences through the updates."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

import numpy as np

from tinygan import nn
from tinygan.graph import grad
from tinygan.ops import add, mul, softplus, sub, tanh
from tinygan.ops import sum as sum_over
from tinygan.random import Key
from tinygan.tensor import Tensor

from .judging import Array, Exercise, array_of, close, finite_differences, function


def _similarity(value: Any) -> None:
    answer = function("similarity(m)", value)
    for m in (np.array([[0.0], [1.0], [3.0]]), Key(7).normal((5, 3), dtype=np.float64)):
        expected = [sum(np.exp(-np.abs(m[i] - m[j]).sum()) for j in range(len(m)) if j != i) for i in range(len(m))]
        found = array_of("similarity", answer(m.copy()))
        itself = found.shape == (len(m),) and np.allclose(found, np.add(expected, 1))
        hint = "It is too large by 1 everywhere: the point itself (j = i) does not count." if itself else ""
        which = f"({m.tolist()})" if m.size < 4 else " of 5 points with 3 numbers each"
        close(f"similarity{which}", found, expected, hint=hint)


def _cross_talk_share(value: Any) -> None:
    answer, key = function("cross_talk_share(D, x)", value), Key(7)
    x = key.fold("x").normal((6, 2))
    for name, extra in (("without coupling", []), ("with minibatch discrimination", [nn.MinibatchDiscrimination(8, 4, 3)])):
        d = nn.Sequential(nn.Dense(2, 8), nn.Tanh(), *extra, nn.Dense(8 + 4 * len(extra), 1)).initialize(key.fold("d"))
        leaf = Tensor(x, requires_grad=True)
        rows = [grad(sum_over(d(leaf)[i]), leaf).numpy() for i in range(len(x))]
        matrix = np.linalg.norm(np.stack(rows), axis=2)
        share = 1 - np.trace(matrix) / matrix.sum()
        close(f"cross_talk_share for a discriminator {name}", answer(d, x), share, rtol=1e-3, atol=1e-5)


def _d_loss(theta: Any, fake: Any) -> Any:
    return sum_over(add(softplus(mul(theta, fake)), mul(sub(theta, 0.3), mul(sub(theta, 0.3), 0.5))))


def _g_loss(theta: Any, fake: Any) -> Any:
    return sum_over(softplus(sub(0.5, mul(theta, tanh(fake)))))


def _look_ahead(value: Any) -> None:
    answer = function("look_ahead(d_loss, g_loss, theta, fake, rate, K)", value)
    theta, fake, rate = np.array([0.8, -0.4]), np.array([0.7, 1.2]), 0.3

    def after(fake: Array, steps: int) -> Array:
        now = theta
        for _ in range(steps):
            leaf = Tensor(now, requires_grad=True)
            now = now - rate * grad(_d_loss(leaf, Tensor(fake)), leaf).numpy()
        return now

    for steps in (0, 1, 3):
        def ahead(x: Array, steps: int = steps) -> float:
            return float(_g_loss(Tensor(after(x, steps)), Tensor(x)).item())

        call = f"look_ahead with K = {steps}"
        found = array_of(call, answer(_d_loss, _g_loss, theta.copy(), fake.copy(), rate, steps))
        expected = finite_differences(ahead, fake)
        last = Tensor(after(fake, steps))
        leaf = Tensor(fake, requires_grad=True)
        first = grad(_g_loss(last, leaf), leaf).numpy()
        only = steps and found.shape == fake.shape and np.allclose(found, first, rtol=1e-4)
        hint = "This is the part with theta_K as a constant. Do the updates have a graph (create_graph=True)?"
        close(call, found, expected, rtol=1e-4, hint=hint if only else "")


EXERCISES = (Exercise("similarity", "similarity(m)", _similarity),
             Exercise("cross_talk_share", "cross_talk_share(D, x)", _cross_talk_share),
             Exercise("look_ahead", "look_ahead(d_loss, g_loss, theta, fake, rate, K)", _look_ahead))
