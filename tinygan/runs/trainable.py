"""What the training loop needs of a GAN."""
from __future__ import annotations

__all__ = ["TrainableGAN"]

from collections.abc import Mapping
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
        """One training step on (d_steps * N, C, H, W) images. Returns d_loss, g_loss, d_real and d_fake."""

    def latent(self, n: int, key: Any = None) -> Any:
        """n latent vectors, which depend only on `key`."""

    def sample(self, n: int = 64, z: Any = None) -> npt.NDArray[Any]:
        """n images, or the images of the latent vectors z."""

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """All state that the next step depends on, by flat names."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
