"""The keyword arguments that GANs built on VanillaGAN pass on to it: for type checkers, and for the hints of editors."""
from __future__ import annotations

__all__ = ["CostArguments", "GameArguments", "VanillaArguments"]

from typing import TypedDict

from tinygan.distributed.world import World
from tinygan.gans.penalties import Weights
from tinygan.optim import Optimizer, Schedule
from tinygan.random import Key


class GameArguments(TypedDict, total=False):
    """Those that every GAN has."""

    d_steps: int
    penalties: Weights | None
    label_smoothing: float
    instance_noise: float | Schedule
    g_optimizer: Optimizer | None
    d_optimizer: Optimizer | None
    ema: float | Schedule | None
    key: Key | None
    world: World | None


class CostArguments(GameArguments, total=False):
    """With the cost."""

    cost: str


class VanillaArguments(CostArguments, total=False):
    """With the cost and the distribution of the noise: all that VanillaGAN has."""

    noise: str
