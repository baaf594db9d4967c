"""What the optimisers' kernels are told of one update: numbers with names, all of them float64.

The CPU's kernels read them from the record of their arguments. The CUDA kernels read them from a struct, whose members a
macro lists (`struct_members`). So their names and order stand here alone. `optim.rules` says what they mean.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np


class SGDSettings(NamedTuple):
    """Of gradient descent."""

    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float


class RMSPropSettings(NamedTuple):
    """Of RMSProp."""

    learning_rate: float
    decay: float
    eps: float
    weight_decay: float


class AdamSettings(NamedTuple):
    """Of Adam, and of AdamW where the weight decay is decoupled. The corrections are 1 - beta1^t and 1 - beta2^t in update t
    = 1, 2, ..."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    correction1: float
    correction2: float


Settings = SGDSettings | RMSPropSettings | AdamSettings

SETTINGS: dict[str, type[Settings]] = {"sgd": SGDSettings, "rmsprop": RMSPropSettings, "adam": AdamSettings}
"""By the name of the kernel."""


HostSettings = Settings | np.ndarray[Any, Any] | Callable[[], Settings]
"""What an optimiser gives to a backend: the settings, or a function that returns them, for every replay anew."""


def fields(kernel: str) -> tuple[str, ...]:
    """The names of the numbers, in their order in memory. Raises ValueError for a kernel that is not in the table."""
    if kernel not in SETTINGS:
        raise ValueError(f"optimizers: unknown kernel {kernel!r}, expected one of {', '.join(SETTINGS)}")
    return SETTINGS[kernel]._fields


def told(settings: HostSettings) -> Iterable[float]:
    """The settings as they are now."""
    return settings() if callable(settings) else settings


def as_array(settings: HostSettings) -> np.ndarray[Any, Any]:
    """The settings as they lie in memory, float64."""
    return np.array(told(settings), np.float64)


def struct_members(kernel: str) -> str:
    """The same as a macro of C, such as SGD_MEMBERS=learning_rate,momentum,nesterov,weight_decay."""
    return f"{kernel.upper()}_MEMBERS={','.join(fields(kernel))}"
