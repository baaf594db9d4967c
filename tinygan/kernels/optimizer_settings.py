"""The settings of one optimiser update, by name. The kernels read all of them as float64.

The CPU's kernels read them from the record of their arguments. The CUDA kernels read them from a struct; a macro lists its
members (`struct_members`). So the names and their order are defined only here. `optim.rules` explains what they mean.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np


class SGDSettings(NamedTuple):
    """The settings of gradient descent."""

    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float


class RMSPropSettings(NamedTuple):
    """The settings of RMSProp."""

    learning_rate: float
    decay: float
    eps: float
    weight_decay: float


class AdamSettings(NamedTuple):
    """The settings of Adam, or of AdamW if `decoupled`. In update t = 1, 2, ... the corrections are 1 - beta1^t and
    1 - beta2^t."""

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
"""The settings that each kernel takes, by the kernel's name."""


HostSettings = Settings | np.ndarray[Any, Any] | Callable[[], Settings]
"""What an optimiser gives to a backend: the settings, or a function that returns them and is called before every replay."""


def fields(kernel: str) -> tuple[str, ...]:
    """The names of a kernel's settings, in their order in memory. Raises ValueError for a kernel that is not in SETTINGS."""
    if kernel not in SETTINGS:
        raise ValueError(f"optimizers: unknown kernel {kernel!r}, expected one of {', '.join(SETTINGS)}")
    return SETTINGS[kernel]._fields


def told(settings: HostSettings) -> Iterable[float]:
    """The settings as they are now."""
    return settings() if callable(settings) else settings


def as_array(settings: HostSettings) -> np.ndarray[Any, Any]:
    """The settings as a float64 array, in their order in memory."""
    return np.array(told(settings), np.float64)


def struct_members(kernel: str) -> str:
    """A C macro that lists the settings, such as SGD_MEMBERS=learning_rate,momentum,nesterov,weight_decay."""
    return f"{kernel.upper()}_MEMBERS={','.join(fields(kernel))}"
