"""`tinygan train wgan_gp`."""
from __future__ import annotations

__all__ = ["WGANGPSettings", "build_wgan_gp"]

from dataclasses import dataclass

from tinygan import gans

from ..settings import Settings, with_default
from ..trainable import TrainableGAN
from .dcgan import DCGANSettings, refuse_size
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class WGANGPSettings(GameSettings):
    """The settings of WGAN-GP (Gulrajani et al. 2017, Algorithm 1), with the paper's five updates of the critic, Adam,
    weight of the penalty and batch size."""

    variant = "wgan_gp"
    title = "WGAN-GP"
    batch_size: int = with_default(Settings, "batch_size", 64)
    run_dir: str = with_default(Settings, "run_dir", "runs/wgan_gp")
    d_steps: int = with_default(GameSettings, "d_steps", 5)
    cost: str = with_default(GameSettings, "cost", "wasserstein")
    gradient_penalty: float | None = with_default(GameSettings, "gradient_penalty", 10.0)
    learning_rate: float = with_default(GameSettings, "learning_rate", 1e-4)
    beta1: float = with_default(GameSettings, "beta1", 0.0)
    beta2: float | None = with_default(GameSettings, "beta2", 0.9)
    width: int = with_default(DCGANSettings, "width", 64)


def build_wgan_gp(settings: WGANGPSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/wgan_gp_mnist.py`, for images of 28x28 or 64x64."""
    refuse_size(image_shape)
    return gans.VanillaGAN(*gans.wgan_gp_networks(image_shape, settings.latent_dim, settings.width), **rules(settings))
