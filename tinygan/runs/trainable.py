"""What the training loop needs of a GAN."""
from __future__ import annotations

__all__ = ["TrainableGAN"]

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt


class TrainableGAN(Protocol):
    """Every class in `tinygan.gans` is one, and a class of your own may be."""

    d_steps: int
    noise: str

    @property
    def generator(self) -> Any:
        """Latent vectors -> images."""

    @property
    def discriminator(self) -> Any:
        """Images -> logits."""

    def to(self, device: str) -> Any:
        """Bring the networks to that device."""

    def step(self, real: Any) -> Any:
        """One round of the game on (d_steps * N, C, H, W) images; returns d_loss, g_loss, d_real and d_fake."""

    def latent(self, n: int, key: Any = None) -> Any:
        """n latent vectors from `key` alone."""

    def sample(self, n: int = 64, z: Any = None) -> npt.NDArray[Any]:
        """n images, or those of the latent vectors z."""

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that the next step depends on, under flat names."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the GAN that `state_dict` was taken from."""
