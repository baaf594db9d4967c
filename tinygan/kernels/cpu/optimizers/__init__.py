"""The optimisers' updates on the CPU, in place, over lists of arrays. `optim.rules` has the same as mathematics."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.optimizer_settings import HostSettings

__all__ = ["adam", "adam_grad", "rmsprop", "sgd"]

Array = np.ndarray[Any, Any]


def _compiled() -> Any:
    return loaded("tinygan.kernels.cpu.optimizers.compiled")


def adam(parameters: list[Array], gradients: list[Array], m: list[Array], v: list[Array], settings: HostSettings) -> None:
    """`rules.adam` in place. settings: `AdamSettings`."""
    _compiled().step("adam", settings, parameters, gradients, m, v)


def rmsprop(parameters: list[Array], gradients: list[Array], square: list[Array], settings: HostSettings) -> None:
    """`rules.rmsprop` in place. settings: `RMSPropSettings`."""
    _compiled().step("rmsprop", settings, parameters, gradients, square)


def sgd(parameters: list[Array], gradients: list[Array], velocity: list[Array], settings: HostSettings) -> None:
    """`rules.sgd` in place. settings: `SGDSettings`."""
    _compiled().step("sgd", settings, parameters, gradients, velocity)


def adam_grad(g: Array, packed: Array, gradient: Array, settings: HostSettings) -> Array:
    """The gradients of one update by `adam` without weight decay.

    packed (3, N): parameters, m and v before the update. gradient (N,): what it got. g (3, N): the gradients of what it made
    of packed. Returns (4, N): the gradients of packed and of gradient. That of the root of v is 0 where v is 0.
    """
    return _compiled().adam_grad(g, packed, gradient, settings)
