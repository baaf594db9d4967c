"""Optimisers, schedules, gradient clipping and averages of weights.

    optimizer = Adam(2e-4, betas=(0.5, 0.999))
    optimizer.bind(network)
    optimizer.step(grad(loss, network.parameters()))

`rules` has the mathematics: pure update rules, which an unrolled GAN differentiates through. The classes of `optimizers`
keep the state, and apply the same rules in place by kernels.
"""
from __future__ import annotations

__all__ = ["Optimizer", "SGD", "RMSProp", "Adam", "AdamW", "State", "Schedule", "step_decay", "exponential_decay",
           "linear_decay", "cosine_decay", "warmup", "by_images", "half_life", "clip_by_value", "clip_by_norm",
           "ExponentialMovingAverage"]

from typing import TYPE_CHECKING

from tinygan.optim.averages import ExponentialMovingAverage
from tinygan.optim.clipping import clip_by_norm, clip_by_value
from tinygan.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp, State
from tinygan.optim.schedules import (
    Schedule,
    by_images,
    cosine_decay,
    exponential_decay,
    half_life,
    linear_decay,
    step_decay,
    warmup,
)

if not TYPE_CHECKING:
    def __getattr__(name: str) -> None:
        """Raise the error for a name that does not exist. If PyTorch has it, the error gives its name here."""
        from tinygan.interop.torch_names import OPTIM, missing

        raise missing(f"module {__name__!r}", name, OPTIM, None)
