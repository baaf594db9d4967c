"""The updates of the optimisers on the CPU, in place, for lists of arrays. `optim.rules` states the rules as mathematics."""
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
    """The gradients of one `adam` update without weight decay.

    packed (3, N): the parameters, m and v before the update. gradient (N,): the gradient that the update used. g (3, N): the
    gradients of the parameters, m and v after the update. Returns (4, N): the gradients of `packed` and of `gradient`. The
    derivative of the square root of v is taken as 0 where v is 0.
    """
    return _compiled().adam_grad(g, packed, gradient, settings)
