"""The update rules of gradient descent as mathematics: pure functions in ops, which `grad` can go through.

A rule is one record: the settings and their defaults, the arrays that the rule keeps for each parameter (its slots), and the
update. The optimisers' classes take all of it from here. The kernels compute the same in place.

    new_parameter, *new_slots = ADAM.update(parameter, gradient, slots, AdamSettings(...))
"""
from __future__ import annotations

__all__ = ["ADAM", "ADAMW", "RMSPROP", "RULES", "SGD", "Rule", "adam", "rmsprop", "root", "sgd"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.graph import op
from tinygan.kernels.optimizer_settings import AdamSettings, RMSPropSettings, SGDSettings
from tinygan.kernels.squares import largest_gradient, largest_square
from tinygan.ops import abs as absolute
from tinygan.ops import add, div, equal, less_equal, minimum, mul, sqrt, sub, where


class Rule(NamedTuple):
    """One way to update a parameter."""

    kernel: str
    """The backends' function that makes the same update in place. Its settings are in `kernels.optimizer_settings`."""
    defaults: Mapping[str, Any]
    """What a user may set."""
    slots: tuple[str, ...]
    """The names of the arrays that are kept for each parameter. They have its shape and are 0 at first."""
    update: Callable[[Any, Any, Sequence[Any], Any], Sequence[Any]]
    """(parameter, gradient, slots, settings of this update) -> the new parameter and slots."""
    grad_kernel: str | None = None
    """The backends' function for the gradient of an update without weight decay. None: `update` is differentiated
    instead."""


def sgd(p: Any, g: Any, slots: Sequence[Any], s: SGDSettings) -> Sequence[Any]:
    """Gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form):

        velocity <- momentum velocity + g
        p <- p - learning_rate velocity        or, with nesterov:  p - learning_rate (g + momentum velocity)
    """
    (velocity,) = slots
    g = _with_decay(g, p, s.weight_decay)
    velocity = add(mul(velocity, s.momentum), g)
    step = add(g, mul(velocity, s.momentum)) if s.nesterov else velocity
    return sub(p, mul(step, s.learning_rate)), velocity


def rmsprop(p: Any, g: Any, slots: Sequence[Any], s: RMSPropSettings) -> Sequence[Any]:
    """RMSProp (Tieleman, Hinton 2012):

        square <- decay square + (1 - decay) g^2
        p <- p - learning_rate g / (sqrt(square) + eps)
    """
    (square,) = slots
    g = _limited(_with_decay(g, p, s.weight_decay), 1 - s.decay)
    square = _mean_square(square, g, s.decay)
    return sub(p, div(mul(g, s.learning_rate), add(root(square), s.eps))), square


def adam(p: Any, g: Any, slots: Sequence[Any], s: AdamSettings) -> Sequence[Any]:
    """Adam (Kingma, Ba 2015, algorithm 1), in update t:

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - learning_rate m' / (sqrt(v') + eps),   m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)

    Weight decay is added to the gradient. Decoupled, it shrinks the parameter instead: p <- (1 - learning_rate
    weight_decay) p, which is AdamW (Loshchilov, Hutter 2019, algorithm 2).
    """
    m, v = slots
    g = _limited(g if s.decoupled else _with_decay(g, p, s.weight_decay), 1 - s.beta2)
    m = add(mul(m, s.beta1), mul(g, 1 - s.beta1))
    v = _mean_square(v, g, s.beta2)
    # The corrections are applied as plain numbers, so that m' and v' need no arrays.
    step = div(mul(m, s.learning_rate / s.correction1), add(mul(root(v), 1 / math.sqrt(s.correction2)), s.eps))
    if s.decoupled and s.weight_decay:
        p = mul(p, 1 - s.learning_rate * s.weight_decay)
    return sub(p, step), m, v


SGD = Rule("sgd", {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, ("velocity",), sgd)

RMSPROP = Rule("rmsprop", {"decay": 0.99, "eps": 1e-8, "weight_decay": 0.0}, ("square",), rmsprop)

ADAM = Rule("adam", {"learning_rate": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8, "weight_decay": 0.0}, ("m", "v"), adam,
            grad_kernel="adam_grad")
"""The defaults are those of the DCGAN paper (Radford, Metz, Chintala 2016, section 4)."""

ADAMW = ADAM._replace(defaults={**ADAM.defaults, "weight_decay": 1e-2})

RULES: Mapping[str, Rule] = {"sgd": SGD, "rmsprop": RMSPROP, "adam": ADAM, "adamw": ADAMW}
"""Every rule, by name."""


# What the rules are made of


def _with_decay(g: Any, p: Any, weight_decay: float) -> Any:
    """g + weight_decay p."""
    return add(g, mul(p, weight_decay)) if weight_decay else g


def _limited(g: Any, share: float) -> Any:
    """The gradient, with its finite elements limited so that `share` times their square is finite (see
    `kernels.squares`)."""
    return _clipped(g, limit=largest_gradient(np.dtype(g.dtype), share))


@op(saves=(0,))
def _clipped(B: Any, x: Any, limit: float) -> Any:
    return B.xp.where(B.xp.isfinite(x), B.xp.clip(x, -limit, limit), x)


@_clipped.vjp
def _(needs: Any, g: Any, x: Any, limit: float) -> Any:
    return (where(less_equal(absolute(x), limit), g, 0.0),)


def _mean_square(v: Any, g: Any, decay: float) -> Any:
    """decay v + (1 - decay) g^2, but at most the largest number. g is `_limited`."""
    part = mul(g, math.sqrt(1 - decay))  # g * g might overflow
    square = mul(part, part)
    return add(minimum(mul(v, decay), sub(largest_square(np.dtype(g.dtype)), square)), square)


def root(v: Any) -> Any:
    """sqrt(v), with the gradient 0 where v is 0.

    The gradient of the square root is infinite there, and v is 0 because g is 0. Infinity times 0 is NaN, so one dead unit
    would spoil every gradient through an update.
    """
    zero = equal(v, 0.0)
    return where(zero, 0.0, sqrt(where(zero, 1.0, v)))
