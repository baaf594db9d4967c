"""`tinygan train conditional`."""
from __future__ import annotations

__all__ = ["ConditionalSettings", "build_conditional"]

from dataclasses import dataclass, replace
from typing import Any, Self

from tinygan import gans
from tinygan.data import Dataset

from ..errors import RunError
from ..settings import count, option, with_default
from ..trainable import TrainableGAN
from .dcgan import DCGANSettings, refuse_size
from .game import rules


@dataclass(frozen=True, kw_only=True)
class ConditionalSettings(DCGANSettings):
    """The settings of a conditional GAN (Mirza and Osindero 2014; Miyato and Koyama 2018) with DCGAN's networks."""

    variant = "conditional"
    title = "Conditional GAN"
    run_dir: str = with_default(DCGANSettings, "run_dir", "runs/conditional")
    conditioning: str = option("input", "where the discriminator uses the class: as an additional input, or to project the "
                               "features of the image", str, gans.CONDITIONINGS)
    classes: int | None = option(None, "number of classes (default: as the data have)", count)

    def suited(self, dataset: Dataset) -> Self:
        """The settings with the number of classes of the data."""
        return self if self.classes is not None or not dataset.classes else replace(self, classes=dataset.classes)

    def examiner(self, dataset: Dataset, data_dir: str | None) -> Any:
        """Measures also how many images are of the class that was asked for."""
        from ..evaluation import ClassExaminer

        return ClassExaminer(dataset, data_dir)


def build_conditional(settings: ConditionalSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/conditional_mnist.py`, for images of 28x28 or 64x64."""
    refuse_size(image_shape)
    if settings.classes is None:
        raise RunError("a conditional GAN learns from labelled images, and these have no labels: use MNIST or other IDX "
                       "files, a .npz file with labels, or a folder in which every image is in the sub-folder of its class")
    networks = gans.conditional_networks(image_shape, settings.latent_dim, settings.classes, settings.width,
                                         settings.conditioning, d_norm=not settings.penalties)
    return gans.ConditionalGAN(*networks, classes=settings.classes, **rules(settings))
