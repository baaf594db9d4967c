"""The GANs that the command line knows: a name, its settings, and how its networks and their game are built."""
from __future__ import annotations

__all__ = ["DCGANSettings", "GAN", "GameSettings", "MinibatchSettings", "UnrolledSettings", "VanillaSettings", "Variant",
           "build_dcgan", "build_minibatch", "build_unrolled", "build_vanilla", "find"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from .errors import RunError
from .settings import Settings, count, fraction, natural, option, positive

NOISES = ("normal", "uniform", "bernoulli")


class GAN(Protocol):
    """What the training loop needs of a GAN; every class in `tinygan.gans` is one."""

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


@dataclass(frozen=True)
class Variant:
    """One kind of GAN, as `tinygan train NAME` offers it: its settings, which carry its name, and how it is built.

    `build(settings, image_shape)` makes the untrained GAN; it must depend on nothing else, since `tinygan sample` and
    `tinygan info` rebuild a run's networks with it.
    """

    settings: type[Settings]
    build: Callable[[Any, tuple[int, int, int]], GAN]

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self.settings.variant


@dataclass(frozen=True, kw_only=True)
class GameSettings(Settings):
    """The settings of Algorithm 1 (Goodfellow et al. 2014), whatever networks play it."""

    # The generator learns twenty times as fast as the discriminator: a plain GAN makes one shape, whatever it is asked for.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"collapsing": {"learning_rate": 2e-5, "g_learning_rate": 4e-4}}
    latent_dim: int = option(100, "length of a latent vector", count)
    d_steps: int = option(1, "discriminator updates a generator update: k in Algorithm 1", count)
    generator_cost: str = option("non-saturating", "what the generator minimises", str,
                                 ("minimax", "non-saturating", "maximum-likelihood"))
    noise: str = option("normal", "distribution of the latent vectors", str, NOISES)
    label_smoothing: float = option(0.0, "real images are labelled 1 minus this", fraction)
    learning_rate: float = option(2e-4, "of both players' Adam", positive)
    g_learning_rate: float | None = option(None, "of the generator's, if another", positive)
    beta1: float = option(0.5, "of both players' Adam", fraction)


@dataclass(frozen=True, kw_only=True)
class VanillaSettings(GameSettings):
    """The settings of the original GAN (Goodfellow et al. 2014)."""

    variant = "vanilla"
    title = "vanilla GAN"
    run_dir: str = option("runs/vanilla", "where the run's files go", str)


@dataclass(frozen=True, kw_only=True)
class DCGANSettings(GameSettings):
    """The settings of DCGAN (Radford, Metz, Chintala 2015): batch size, Adam and uniform latent vectors are the paper's."""

    variant = "dcgan"
    title = "DCGAN"
    epochs: int = option(20, "passes over the data, in total", count)
    run_dir: str = option("runs/dcgan", "where the run's files go", str)
    noise: str = option("uniform", "distribution of the latent vectors", str, NOISES)
    width: int = option(64, "channels of the layers next to the image; smaller ones have multiples of it", count)


@dataclass(frozen=True, kw_only=True)
class MinibatchSettings(GameSettings):
    """The settings of the original GAN with minibatch discrimination (Salimans et al. 2016, section 3.2)."""

    variant = "minibatch"
    title = "GAN with minibatch discrimination"
    epochs: int = option(90, "passes over the data, in total", count)
    run_dir: str = option("runs/minibatch", "where the run's files go", str)
    kernels: int = option(50, "distances to the other images that the discriminator sees: B in the paper", count)
    dimensions: int = option(5, "numbers that each distance compares: C in the paper", count)


@dataclass(frozen=True, kw_only=True)
class UnrolledSettings(GameSettings):
    """The settings of the unrolled GAN (Metz et al. 2017)."""

    variant = "unrolled"
    title = "unrolled GAN"
    epochs: int = option(20, "passes over the data, in total", count)
    run_dir: str = option("runs/unrolled", "where the run's files go", str)
    unroll_steps: int = option(5, "updates of the discriminator that the generator looks ahead", natural)
    truncate: int | None = option(None, "go back through the last N of them only (biased)", natural)
    order: str = option("discriminator-first", "whose update comes first", str,
                        ("discriminator-first", "generator-first", "simultaneous"))
    networks: str = option("dense", "the players: those of the vanilla GAN, or DCGAN's", str, ("dense", "dcgan"))


def build_vanilla(settings: VanillaSettings, image_shape: tuple[int, int, int]) -> GAN:
    """The networks of `examples/vanilla_mnist.py` for any image shape, and the game between them."""
    from tinygan import gans

    return _game(settings, *gans.vanilla_networks(image_shape, settings.latent_dim))


def build_dcgan(settings: DCGANSettings, image_shape: tuple[int, int, int]) -> GAN:
    """The networks of `examples/dcgan_mnist.py` for images of 28x28 or 64x64, and the game between them."""
    return _game(settings, *_dcgan_networks(image_shape, settings.latent_dim, settings.width))


def _dcgan_networks(image_shape: tuple[int, int, int], latent_dim: int, width: int = 64) -> tuple[Any, Any]:
    from tinygan import gans

    if image_shape[1:] not in [(side, side) for side in gans.IMAGE_SIZES]:
        sizes = " or ".join(map(str, gans.IMAGE_SIZES))
        raise RunError(f"DCGAN makes images of {sizes} pixels a side, the data are {image_shape[1]} x {image_shape[2]}: "
                       f"--image-size ({sizes}) crops and resizes the images of a folder")
    return gans.dcgan_networks(image_shape, latent_dim, width)


def build_minibatch(settings: MinibatchSettings, image_shape: tuple[int, int, int]) -> GAN:
    """The networks of `examples/minibatch_mnist.py` for any image shape, and the game between them."""
    from tinygan import gans

    return _game(settings, *gans.minibatch_networks(image_shape, settings.latent_dim, settings.kernels, settings.dimensions))


def build_unrolled(settings: UnrolledSettings, image_shape: tuple[int, int, int]) -> GAN:
    """The networks of `examples/unrolled_mnist.py`, and the game between them."""
    from tinygan import gans

    if settings.truncate is not None and settings.truncate > settings.unroll_steps:
        raise RunError(f"--truncate {settings.truncate} is more than --unroll-steps {settings.unroll_steps}")
    networks = gans.vanilla_networks if settings.networks == "dense" else _dcgan_networks
    return gans.UnrolledGAN(
        *networks(image_shape, settings.latent_dim), unroll_steps=settings.unroll_steps, truncate=settings.truncate,
        order=settings.order, **_rules(settings))


def _game(settings: GameSettings, generator: Any, discriminator: Any) -> GAN:
    from tinygan import gans

    return gans.VanillaGAN(generator, discriminator, **_rules(settings))


def _rules(settings: GameSettings) -> dict[str, Any]:
    """The arguments of the game that the settings name."""
    from tinygan import optim, random

    betas = (settings.beta1, 0.999)
    return {
        "latent_dim": settings.latent_dim, "d_steps": settings.d_steps, "generator_cost": settings.generator_cost,
        "noise": settings.noise, "label_smoothing": settings.label_smoothing,
        "g_optimizer": optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=betas),
        "d_optimizer": optim.Adam(settings.learning_rate, betas=betas), "key": random.Key(settings.seed),
    }


VANILLA = Variant(VanillaSettings, build_vanilla)

DCGAN = Variant(DCGANSettings, build_dcgan)

MINIBATCH = Variant(MinibatchSettings, build_minibatch)

UNROLLED = Variant(UnrolledSettings, build_unrolled)

VARIANTS = {variant.name: variant for variant in (VANILLA, DCGAN, MINIBATCH, UNROLLED)}


def find(name: str) -> Variant:
    """The variant called `name`."""
    if name not in VARIANTS:
        raise RunError(f"no variant is called {name!r}; there is {', '.join(sorted(VARIANTS))}")
    return VARIANTS[name]
