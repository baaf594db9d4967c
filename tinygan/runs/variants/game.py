"""What the variants share: the settings of Algorithm 1, and the arguments of a GAN that they give."""
from __future__ import annotations

__all__ = ["GameSettings", "PlayersSettings", "Variant", "rules", "rules_of_players"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tinygan import gans, optim
from tinygan.gans.costs import check_cost
from tinygan.random import Key

from ..settings import Settings, count, fraction, option, positive, weight
from ..trainable import TrainableGAN


@dataclass(frozen=True)
class Variant:
    """A kind of GAN that `tinygan train NAME` offers: its settings, which contain its name; how to build it; and what is
    special about it, in a few words.

    `build(settings, image_shape)` makes the untrained GAN. It must depend on nothing else, because `tinygan sample` and
    `tinygan info` build a run's networks again with it.
    """

    settings: type[Settings]
    build: Callable[[Any, tuple[int, int, int]], TrainableGAN]
    about: str = ""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.settings.variant


@dataclass(frozen=True, kw_only=True)
class PlayersSettings(Settings):
    """The settings of two players that say nothing of what the generator's images are made from."""

    d_steps: int = option(1, "discriminator updates for each generator update: k in Algorithm 1", count)
    cost: str = option("non-saturating", "what the two players minimise", str, gans.COSTS)
    gradient_penalty: float | None = option(None, "weight of the gradient penalty (WGAN-GP) on the discriminator", weight,
                                            younger=True)
    r1: float | None = option(None, "weight of the penalty R1 on the discriminator (at real images)", weight, younger=True)
    r2: float | None = option(None, "weight of the penalty R2 on the discriminator (at generated images)", weight,
                              younger=True)
    label_smoothing: float = option(0.0, "real images are labelled 1 minus this", fraction)
    learning_rate: float = option(2e-4, "learning rate of both players' Adam", positive)
    g_learning_rate: float | None = option(None, "learning rate of the generator's Adam, if another", positive, younger=True)
    beta1: float = option(0.5, "beta1 of both players' Adam", fraction)
    beta2: float | None = option(None, "beta2 of both players' Adam, if not 0.999", fraction, younger=True)
    ema: float | None = option(None, "average the generator's weights, and sample from the average: its decay per "
                               "step, such as 0.999 (default: no average)", fraction, younger=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cost(type(self).__name__, gans.COSTS[self.cost], self.label_smoothing)

    @property
    def betas(self) -> tuple[float, float]:
        """Both betas of Adam."""
        return self.beta1, 0.999 if self.beta2 is None else self.beta2

    @property
    def penalties(self) -> dict[str, float]:
        """The penalties that have a weight, as a GAN takes them."""
        weights = {name: getattr(self, name.replace("-", "_")) for name in gans.PENALTIES}
        return {name: value for name, value in weights.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class GameSettings(PlayersSettings):
    """The settings of Algorithm 1 (Goodfellow et al. 2014), for any networks."""

    # The generator learns twenty times as fast as the discriminator. A plain GAN then makes one image from all latent
    # vectors.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"collapsing": {"learning_rate": 2e-5, "g_learning_rate": 4e-4}}
    latent_dim: int = option(100, "length of a latent vector", count)
    noise: str = option("normal", "distribution of the latent vectors: "
                        + ", ".join(f"{noise.name} ({noise.about})" for noise in gans.NOISES.values()), str, gans.NOISES)


def rules(settings: GameSettings) -> dict[str, Any]:
    """The arguments of the GAN that the settings give."""
    return {"latent_dim": settings.latent_dim, "noise": settings.noise, **rules_of_players(settings)}


def rules_of_players(settings: PlayersSettings) -> dict[str, Any]:
    """Those of them that have nothing to do with latent vectors."""
    return {
        "d_steps": settings.d_steps, "cost": settings.cost, "penalties": settings.penalties,
        "label_smoothing": settings.label_smoothing,
        "g_optimizer": optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        "d_optimizer": optim.Adam(settings.learning_rate, betas=settings.betas), "ema": settings.ema,
        "key": Key(settings.seed),
    }
