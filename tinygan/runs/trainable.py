"""What the training loop needs of a GAN."""
from __future__ import annotations

__all__ = ["TrainableGAN", "sampler", "weights_sampled"]

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy.typing as npt


class TrainableGAN(Protocol):
    """What `training.train` needs of a GAN. Every GAN in `tinygan.gans` has it, and a class of your own may have it too."""

    d_steps: int
    noise: str

    @property
    def generator(self) -> Any:
        """Latent vectors -> images."""

    @property
    def discriminator(self) -> Any:
        """Images -> logits."""

    def to(self, device: str) -> Any:
        """Move the networks to that device."""

    def step(self, real: Any) -> Any:
        """One training step on (d_steps * N, C, H, W) images. Returns d_loss, g_loss, d_real and d_fake. A
        GAN that says `takes_labels`, as ConditionalGAN, gets step(real, labels), with whole numbers (d_steps * N,)."""

    def latent(self, n: int, key: Any = None) -> Any:
        """n latent vectors, which depend only on `key`."""

    def sample(self, n: int = 64, z: Any = None) -> npt.NDArray[Any]:
        """n images, or the images of the latent vectors z."""

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """All state that the next step depends on, by flat names."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


def sampler(gan: TrainableGAN, averaged: bool = True) -> Callable[..., npt.NDArray[Any]]:
    """`gan.sample`. averaged=False: by the generator's present weights, if the GAN keeps an average of them."""
    sample: Callable[..., npt.NDArray[Any]] = gan.sample
    return sample if averaged or not _has_average(gan) else partial(sample, averaged=False)


def weights_sampled(gan: TrainableGAN, averaged: bool = True) -> str:
    """Which weights of the generator make the images of `sampler(gan, averaged)`, for titles: "averaged weights" or "present
    weights". It is "" if the GAN keeps no average, because then there is only one answer."""
    return ("averaged weights" if averaged else "present weights") if _has_average(gan) else ""


def _has_average(gan: TrainableGAN) -> bool:
    return getattr(gan, "average", None) is not None  # (a class of a user's own need not have it)
