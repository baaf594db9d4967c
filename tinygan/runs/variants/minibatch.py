"""`tinygan train minibatch`."""
from __future__ import annotations

__all__ = ["MinibatchSettings", "build_minibatch"]

from dataclasses import dataclass

from tinygan import gans

from ..settings import Settings, count, option, with_default
from ..trainable import TrainableGAN
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class MinibatchSettings(GameSettings):
    """The settings of the original GAN with minibatch discrimination (Salimans et al. 2016, section 3.2)."""

    variant = "minibatch"
    title = "GAN with minibatch discrimination"
    epochs: int = with_default(Settings, "epochs", 90)
    run_dir: str = with_default(Settings, "run_dir", "runs/minibatch")
    kernels: int = option(50, "how many distances to the other images the discriminator gets: B in the paper", count)
    dimensions: int = option(5, "how many numbers each distance compares: C in the paper", count)


def build_minibatch(settings: MinibatchSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/minibatch_mnist.py`, for any image shape."""
    networks = gans.minibatch_networks(image_shape, settings.latent_dim, settings.kernels, settings.dimensions)
    return gans.VanillaGAN(*networks, **rules(settings))
