"""`tinygan train discogan`."""
from __future__ import annotations

__all__ = ["DiscoGANSettings", "build_discogan"]

from dataclasses import dataclass
from typing import Any

from tinygan import gans
from tinygan.data import DOMAINS, Dataset, two_domains
from tinygan.random import Key
from tinygan.tables import lookup

from ..errors import RunError
from ..settings import Settings, count, natural, option, positive, with_default
from ..trainable import TrainableGAN
from .game import PlayersSettings, rules_of_players

_SIZE = (28, 28)
_BOTTLENECK = 256


@dataclass(frozen=True, kw_only=True)
class DiscoGANSettings(PlayersSettings):
    """The settings of DiscoGAN (Kim et al. 2017) on digits and digits in another form."""

    variant = "discogan"
    title = "DiscoGAN"
    epochs: int = with_default(Settings, "epochs", 20)
    run_dir: str = with_default(Settings, "run_dir", "runs/discogan")
    domains: str = option("coloured", "domain B, other digits than A's: "
                          + ", ".join(f"{domain.name} ({domain.about})" for domain in DOMAINS.values()), str, DOMAINS)
    reconstruction: str = option("both", "which images must return when they are translated there and back", str,
                                 gans.RECONSTRUCTIONS)
    weight: float = option(1.0, "weight of the reconstruction errors", positive)
    width: int = option(32, "channels of the layers next to the image; the smaller feature maps have twice as many", count)
    bottleneck: int | None = option(None, "length of the vector between a generator's encoder and decoder; 0: there is "
                                    "none, so nothing can be moved far (default: as the domains need it)", natural)

    @property
    def middle(self) -> int:
        """The length of the vector between encoder and decoder, or 0."""
        domain = lookup(DOMAINS, "DiscoGANSettings", "domains", self.domains)
        return (0 if domain.local else _BOTTLENECK) if self.bottleneck is None else self.bottleneck

    def prepare(self, dataset: Dataset) -> Dataset:
        """Pairs of digits: see `tinygan.data.two_domains`. They do not depend on the seed."""
        return two_domains(dataset, self.domains, Key(0))

    def examiner(self, dataset: Dataset, data_dir: str | None) -> Any:
        """Measures how many digits keep their class."""
        from ..evaluation import TranslationExaminer

        return TranslationExaminer(dataset, data_dir, self.domains)


def build_discogan(settings: DiscoGANSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/discogan_mnist.py`, for pairs of images of 28x28."""
    channels, *size = image_shape
    other = lookup(DOMAINS, "DiscoGANSettings", "domains", settings.domains).channels
    if channels != 1 + other or tuple(size) != _SIZE:
        raise RunError(f"DiscoGAN translates images of 28 x 28; with --domains {settings.domains} a pair of them has "
                       f"{1 + other} channels, but the data are {image_shape}")
    shape_a, shape_b = (1, *_SIZE), (other, *_SIZE)
    networks = gans.discogan_networks(shape_a, shape_b, settings.width, settings.reconstruction,
                                      d_norm=not settings.penalties, bottleneck=settings.middle)
    return gans.DiscoGAN(*networks, shape_a=shape_a, shape_b=shape_b, reconstruction=settings.reconstruction,
                         weight=settings.weight, **rules_of_players(settings))
