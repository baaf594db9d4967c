"""The checks of lesson 6: the measures of `tinygan.metrics`, and a minimum that no change of the answer makes smaller."""
from __future__ import annotations

__all__ = ["EXERCISES"]

import math
from typing import Any

import numpy as np

from tinygan.data import gaussian_ring
from tinygan.metrics import mixture_coverage
from tinygan.metrics.modes import divergence_from_uniform
from tinygan.random import Key

from .judging import AnswerError, Array, Exercise, array_of, close, function


def _modes_covered(value: Any) -> None:
    answer, ring = function("modes_covered(points, centres, sigma)", value), gaussian_ring(sigma=0.1)
    everywhere = ring.sample(400, Key(6))
    some = everywhere[everywhere[:, 0] > 0.5]
    edge = ring.centres[:3] + np.float32(0.1) * np.array([[2.9, 0], [0, -3.1], [2.5, 2.5]], np.float32)
    for what, points in (("400 points of the whole ring", everywhere), ("the points with x > 0.5 only", some),
                         ("three points at 2.9, 3.1 and 3.5 sigma from a centre", edge)):
        expected = mixture_coverage(points, ring.centres, ring.sigma).modes
        close(f"modes_covered of {what}", answer(points, ring.centres, ring.sigma), expected)


def _effective_modes(value: Any) -> None:
    answer = function("effective_modes(counts)", value)
    for counts in ([50, 50], [10, 20, 30, 40], [7, 0, 0, 93], [0, 12]):
        expected = len(counts) * math.exp(-divergence_from_uniform(np.array(counts)))
        with np.errstate(all="ignore"):
            close(f"effective_modes({counts})", answer(np.array(counts)), expected)


def _objective(q: Array, f: Array, c: float) -> float:
    positive = q[q > 0]
    return float((q * np.logaddexp(0, -f)).sum() + c * (positive * np.log(positive)).sum())


def _best_response(value: Any) -> None:
    answer, f = function("best_response(f, c)", value), np.array([-1.0, 0.5, 2.0, 1.5])
    for c in (0.0, 1.0, 0.5):
        call = f"best_response({f.tolist()}, {c:g})"
        with np.errstate(all="ignore"):
            q = array_of(call, answer(f, c))
        if q.shape != f.shape:
            raise AnswerError(f"{call} has the shape {q.shape}, expected {f.shape}.")
        if not (q >= 0).all() or not math.isclose(q.sum(), 1, rel_tol=1e-6):
            raise AnswerError(f"{call} should be probabilities: none below 0, with the sum 1. Found {q.round(4).tolist()}.")
        ours = _objective(q, f, c)
        for i, target in enumerate(np.eye(4)):  # the objective is convex: if no move to a corner helps, nothing does
            other = _objective((1 - 1e-4) * q + 1e-4 * target, f, c)
            if other < ours - 1e-7:
                raise AnswerError(f"{call}: found {q.round(4).tolist()}, for which L_G - c H(q) is {ours:.6f}. It gets "
                                  f"smaller if a little of all the probabilities goes to place {i}.")


EXERCISES = (Exercise("modes_covered", "modes_covered(points, centres, sigma)", _modes_covered),
             Exercise("effective_modes", "effective_modes(counts)", _effective_modes),
             Exercise("best_response", "best_response(f, c)", _best_response))
