"""`tinygan train vanilla`."""
from __future__ import annotations

__all__ = ["VanillaSettings", "build_vanilla"]

from dataclasses import dataclass

from tinygan import gans

from ..settings import Settings, with_default
from ..trainable import TrainableGAN
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class VanillaSettings(GameSettings):
    """The settings of the original GAN (Goodfellow et al. 2014)."""

    variant = "vanilla"
    title = "vanilla GAN"
    run_dir: str = with_default(Settings, "run_dir", "runs/vanilla")


def build_vanilla(settings: VanillaSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/vanilla_mnist.py`, for any image shape."""
    return gans.VanillaGAN(*gans.vanilla_networks(image_shape, settings.latent_dim), **rules(settings))
