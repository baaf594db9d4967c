"""`tinygan train infogan`."""
from __future__ import annotations

__all__ = ["InfoGANSettings", "build_infogan"]

from dataclasses import dataclass
from typing import Any

from tinygan import gans
from tinygan.data import Dataset

from ..errors import RunError
from ..settings import Kind, Settings, count, natural, option, positive, with_default
from ..trainable import TrainableGAN
from .dcgan import DCGANSettings
from .game import GameSettings, rules_of_players

_NONE = "none"


def _classes(text: str) -> tuple[int, ...]:
    """"10,3" -> (10, 3), the numbers of classes; "none" -> ()."""
    return () if text == _NONE else tuple(map(int, text.split(",")))


_class_counts = Kind(str, lambda text: all(n >= 2 for n in _classes(text)),
                     "numbers of classes, each at least 2, such as 10 or 10,3, or none", "K,...")


@dataclass(frozen=True, kw_only=True)
class InfoGANSettings(GameSettings):
    """The settings of InfoGAN (Chen et al. 2016, appendix C.1), with the paper's codes, Adam and batch size. The paper makes
    5,000 updates, which are 10.7 epochs of MNIST."""

    variant = "infogan"
    title = "InfoGAN"
    epochs: int = with_default(Settings, "epochs", 11)
    run_dir: str = with_default(Settings, "run_dir", "runs/infogan")
    latent_dim: int = option(62, "numbers of noise in a latent vector; the codes come after them", count)
    noise: str = with_default(GameSettings, "noise", "uniform")
    g_learning_rate: float | None = with_default(GameSettings, "g_learning_rate", 1e-3)
    categorical: str = option("10", "classes of each categorical code, such as 10 or 10,3, or none", _class_counts)
    continuous: int = option(2, "how many codes are uniform in [-1, 1)", natural)
    information: float = option(1.0, "weight of the mutual information of codes and image: lambda in the paper", positive)
    width: int = with_default(DCGANSettings, "width", 64)
    hidden: int = option(1024, "units of the dense layers", count)
    d_norm: bool = option(True, "no batch norm in the discriminator and Q (penalties leave it out anyway)", bool)

    @property
    def codes(self) -> gans.Codes:
        """The codes of a latent vector."""
        return gans.Codes(_classes(str(self.categorical)), self.continuous)

    def examiner(self, dataset: Dataset, data_dir: str | None) -> Any:
        """Measures the images, and how well the first categorical code tells the digits apart."""
        from ..evaluation import CodeExaminer, Examiner

        return (CodeExaminer if self.codes.categorical else Examiner)(dataset, data_dir)


def build_infogan(settings: InfoGANSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/infogan_mnist.py`, for images whose sides are multiples of 4."""
    if image_shape[1] % 4 or image_shape[2] % 4:
        raise RunError(f"InfoGAN makes images whose sides are multiples of 4, but the data are {image_shape[1]} x "
                       f"{image_shape[2]}: --image-size crops and resizes the images of a folder")
    if not settings.codes.width:
        raise RunError("--categorical none with --continuous 0 leaves no code: one of them should be another")
    categorical, continuous = settings.codes
    networks = gans.infogan_networks(image_shape, settings.latent_dim, categorical=categorical, continuous=continuous,
                                     width=settings.width, hidden=settings.hidden,
                                     d_norm=settings.d_norm and not settings.penalties)
    return gans.InfoGAN(*networks, settings.latent_dim, categorical=categorical, continuous=continuous,
                        weight=settings.information, noise=settings.noise, **rules_of_players(settings))
