"""`tinygan train unrolled`."""
from __future__ import annotations

__all__ = ["UnrolledSettings", "build_unrolled"]

from dataclasses import dataclass

from tinygan import gans
from tinygan.tables import lookup

from ..errors import RunError
from ..settings import Settings, natural, option, with_default
from ..trainable import TrainableGAN
from .dcgan import refuse_size
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class UnrolledSettings(GameSettings):
    """The settings of the unrolled GAN (Metz et al. 2017)."""

    variant = "unrolled"
    title = "unrolled GAN"
    epochs: int = with_default(Settings, "epochs", 20)
    run_dir: str = with_default(Settings, "run_dir", "runs/unrolled")
    unroll_steps: int = option(5, "updates of the discriminator that the generator looks ahead", natural)
    truncate: int | None = option(None, "the gradient goes back through only the last N of them (biased)", natural)
    order: str = option("discriminator-first", "whose update comes first", str, gans.ORDERS)
    networks: str = option("dense", "the networks: those of the vanilla GAN, or DCGAN's", str, gans.NETWORKS)


def build_unrolled(settings: UnrolledSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/unrolled_mnist.py`."""
    if settings.truncate is not None and settings.truncate > settings.unroll_steps:
        raise RunError(f"--truncate {settings.truncate} is more than --unroll-steps {settings.unroll_steps}")
    networks = lookup(gans.NETWORKS, "UnrolledSettings", "networks", settings.networks)
    if networks is gans.dcgan_networks:
        refuse_size(image_shape)
    return gans.UnrolledGAN(
        *networks(image_shape, settings.latent_dim), unroll_steps=settings.unroll_steps, truncate=settings.truncate,
        order=settings.order, **rules(settings))
