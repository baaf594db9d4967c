"""The checks of lesson 5: slopes in closed form."""
from __future__ import annotations

__all__ = ["EXERCISES"]

import math
from typing import Any

import numpy as np

from tinygan.ops import add, exp, mul, neg, relu, softplus, sub
from tinygan.tensor import Tensor

from .judging import AnswerError, Exercise, array_of, close, function, listed

_NAMES = ("minimax", "non-saturating", "maximum likelihood")


def _slopes(value: Any) -> None:
    answer = function("slopes(f)", value)
    for f in (np.array([-3.0, 0.0, 1.5]), np.array([-800.0, 800.0])):
        odds = np.exp(-np.abs(f))
        d, rest = np.where(f > 0, 1, odds) / (1 + odds), np.where(f > 0, odds, 1) / (1 + odds)
        call = f"slopes({f.tolist()})"
        with np.errstate(all="ignore"):
            found, expected = listed(call, answer(f.copy()), _NAMES), (-d, -rest, -np.exp(f))
        for name, ours, right in list(zip(_NAMES, found, expected, strict=True))[:3 if abs(f).max() < 10 else 2]:
            close(f"{call}: {name}", ours, right, rtol=1e-8, atol=1e-12)


def _logit_for_ratio(value: Any) -> None:
    answer = function("logit_for_ratio(r)", value)
    for r in (1.0, 10.0, 0.5):
        found = array_of(f"logit_for_ratio({r:g})", answer(r))
        if found.shape != ():
            raise AnswerError(f"logit_for_ratio({r:g}) should be a number. Found an array of shape {found.shape}.")
        f = float(np.clip(found, -700, 700))
        ratio = (1 / (1 + math.exp(f))) / (1 / (1 + math.exp(-f)))
        if not math.isclose(ratio, r, rel_tol=1e-4):
            raise AnswerError(f"logit_for_ratio({r:g}): found {found:.6g}. At this logit, the non-saturating slope is "
                              f"{ratio:.4g} times the minimax slope, expected {r:g} times.")


def _saturation(value: Any) -> None:
    answer = function("saturation(cost)", value)

    def least_squares(f: Tensor) -> Tensor:
        return mul(sub(f, 1.0), mul(sub(f, 1.0), 0.5))

    def hinge(f: Tensor) -> Tensor:
        return relu(sub(1.0, f))

    for name, cost, expected in (
            ("minimax", lambda f: neg(softplus(f)), 2 / (1 + math.exp(10))),
            ("non-saturating", lambda f: softplus(neg(f)), 2 / (1 + math.exp(-10))),
            ("maximum-likelihood", lambda f: neg(exp(f)), math.exp(-10)),
            ("least-squares: (f - 1)^2 / 2", least_squares, 11.0), ("max(0, 1 - f)", hinge, 1.0),
            ("f^2 - 3 f", lambda f: add(mul(f, f), mul(f, -3.0)), 23 / 3)):
        close(f"saturation of the cost {name}", answer(cost), expected, rtol=1e-3, atol=1e-9)


EXERCISES = (Exercise("slopes", "slopes(f)", _slopes), Exercise("logit_for_ratio", "logit_for_ratio(r)", _logit_for_ratio),
             Exercise("saturation", "saturation(cost)", _saturation))
