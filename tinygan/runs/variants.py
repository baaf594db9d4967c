"""The GANs that the command line knows: the name of each, its settings, and how to build it."""
from __future__ import annotations

__all__ = ["DCGANSettings", "GameSettings", "MinibatchSettings", "UnrolledSettings", "VanillaSettings", "Variant",
           "build_dcgan", "build_minibatch", "build_unrolled", "build_vanilla", "find"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from tinygan import gans, optim
from tinygan.random import Key
from tinygan.tables import lookup

from .errors import RunError
from .settings import Resume, Settings, count, fraction, natural, option, positive, with_default
from .trainable import TrainableGAN


@dataclass(frozen=True)
class Variant:
    """A kind of GAN that `tinygan train NAME` offers: its settings, which contain its name, and how to build it.

    `build(settings, image_shape)` makes the untrained GAN. It must depend on nothing else, because `tinygan sample` and
    `tinygan info` build a run's networks again with it.
    """

    settings: type[Settings]
    build: Callable[[Any, tuple[int, int, int]], TrainableGAN]

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.settings.variant


@dataclass(frozen=True, kw_only=True)
class GameSettings(Settings):
    """The settings of Algorithm 1 (Goodfellow et al. 2014), for any networks."""

    # The generator learns twenty times as fast as the discriminator. A plain GAN then makes one image from all latent
    # vectors.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"collapsing": {"learning_rate": 2e-5, "g_learning_rate": 4e-4}}
    latent_dim: int = option(100, "length of a latent vector", count)
    d_steps: int = option(1, "discriminator updates for each generator update: k in Algorithm 1", count)
    generator_cost: str = option("non-saturating", "what the generator minimises", str, gans.GENERATOR_COSTS)
    noise: str = option("normal", "distribution of the latent vectors: "
                        + ", ".join(f"{noise.name} ({noise.about})" for noise in gans.NOISES.values()), str, gans.NOISES)
    label_smoothing: float = option(0.0, "real images are labelled 1 minus this", fraction)
    learning_rate: float = option(2e-4, "learning rate of both players' Adam", positive)
    g_learning_rate: float | None = option(None, "learning rate of the generator's Adam, if another", positive, younger=True)
    beta1: float = option(0.5, "beta1 of both players' Adam", fraction)


@dataclass(frozen=True, kw_only=True)
class VanillaSettings(GameSettings):
    """The settings of the original GAN (Goodfellow et al. 2014)."""

    variant = "vanilla"
    title = "vanilla GAN"
    run_dir: str = with_default(Settings, "run_dir", "runs/vanilla")


@dataclass(frozen=True, kw_only=True)
class DCGANSettings(GameSettings):
    """The settings of DCGAN (Radford, Metz, Chintala 2015), with the paper's batch size, Adam and uniform latent vectors."""

    variant = "dcgan"
    title = "DCGAN"
    epochs: int = with_default(Settings, "epochs", 20)
    run_dir: str = with_default(Settings, "run_dir", "runs/dcgan")
    noise: str = with_default(GameSettings, "noise", "uniform")
    width: int = option(64, "channels of the layers next to the image; the smaller feature maps have multiples of it", count)


@dataclass(frozen=True, kw_only=True)
class MinibatchSettings(GameSettings):
    """The settings of the original GAN with minibatch discrimination (Salimans et al. 2016, section 3.2)."""

    variant = "minibatch"
    title = "GAN with minibatch discrimination"
    epochs: int = with_default(Settings, "epochs", 90)
    run_dir: str = with_default(Settings, "run_dir", "runs/minibatch")
    kernels: int = option(50, "how many distances to the other images the discriminator gets: B in the paper", count)
    dimensions: int = option(5, "how many numbers each distance compares: C in the paper", count)


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


def build_vanilla(settings: VanillaSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/vanilla_mnist.py`, for any image shape."""
    return gans.VanillaGAN(*gans.vanilla_networks(image_shape, settings.latent_dim), **_rules(settings))


def build_dcgan(settings: DCGANSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/dcgan_mnist.py`, for images of 28x28 or 64x64."""
    _refuse_size(image_shape)
    return gans.VanillaGAN(*gans.dcgan_networks(image_shape, settings.latent_dim, settings.width), **_rules(settings))


def build_minibatch(settings: MinibatchSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/minibatch_mnist.py`, for any image shape."""
    networks = gans.minibatch_networks(image_shape, settings.latent_dim, settings.kernels, settings.dimensions)
    return gans.VanillaGAN(*networks, **_rules(settings))


def build_unrolled(settings: UnrolledSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/unrolled_mnist.py`."""
    if settings.truncate is not None and settings.truncate > settings.unroll_steps:
        raise RunError(f"--truncate {settings.truncate} is more than --unroll-steps {settings.unroll_steps}")
    networks = lookup(gans.NETWORKS, "UnrolledSettings", "networks", settings.networks)
    if networks is gans.dcgan_networks:
        _refuse_size(image_shape)
    return gans.UnrolledGAN(
        *networks(image_shape, settings.latent_dim), unroll_steps=settings.unroll_steps, truncate=settings.truncate,
        order=settings.order, **_rules(settings))


def _refuse_size(image_shape: tuple[int, int, int]) -> None:
    """Raise RunError if DCGAN has no networks for images of that size."""
    if image_shape[1:] not in [(side, side) for side in gans.IMAGE_SIZES]:
        sizes = " or ".join(map(str, gans.IMAGE_SIZES))
        raise RunError(f"DCGAN makes images of {sizes} pixels per side, but the data are {image_shape[1]} x "
                       f"{image_shape[2]}: --image-size ({sizes}) crops and resizes the images of a folder")


def _rules(settings: GameSettings) -> dict[str, Any]:
    """The arguments of the GAN that the settings give."""
    betas = (settings.beta1, 0.999)
    return {
        "latent_dim": settings.latent_dim, "d_steps": settings.d_steps, "generator_cost": settings.generator_cost,
        "noise": settings.noise, "label_smoothing": settings.label_smoothing,
        "g_optimizer": optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=betas),
        "d_optimizer": optim.Adam(settings.learning_rate, betas=betas), "key": Key(settings.seed),
    }


VARIANTS = {variant.name: variant for variant in (
    Variant(VanillaSettings, build_vanilla),
    Variant(DCGANSettings, build_dcgan),
    Variant(MinibatchSettings, build_minibatch),
    Variant(UnrolledSettings, build_unrolled),
)}
"""The GANs that the command line knows, by name."""

_FIELDS = {item.name: item.metadata for variant in VARIANTS.values() for item in fields(variant.settings)}


def on_resume(setting: str) -> Resume:
    """Whether the setting with that name may change when a run is resumed. Settings of a user's program may not."""
    return _FIELDS[setting]["resume"] if setting in _FIELDS else Resume.FIXED


def is_younger(setting: str) -> bool:
    """Whether there are run folders that are older than the setting with that name."""
    return setting in _FIELDS and _FIELDS[setting]["younger"]


def find(name: str) -> Variant:
    """The variant called `name`."""
    if name not in VARIANTS:
        raise RunError(f"no variant is called {name!r}; there are {', '.join(sorted(VARIANTS))}")
    return VARIANTS[name]
