"""`tinygan train dcgan`."""
from __future__ import annotations

__all__ = ["DCGANSettings", "build_dcgan", "refuse_size"]

from dataclasses import dataclass

from tinygan import gans

from ..errors import RunError
from ..settings import Settings, count, option, with_default
from ..trainable import TrainableGAN
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class DCGANSettings(GameSettings):
    """The settings of DCGAN (Radford, Metz, Chintala 2015), with the paper's batch size, Adam and uniform latent vectors."""

    variant = "dcgan"
    title = "DCGAN"
    epochs: int = with_default(Settings, "epochs", 20)
    run_dir: str = with_default(Settings, "run_dir", "runs/dcgan")
    noise: str = with_default(GameSettings, "noise", "uniform")
    width: int = option(64, "channels of the layers next to the image; the smaller feature maps have multiples of it", count)


def build_dcgan(settings: DCGANSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/dcgan_mnist.py`, for images of 28x28 or 64x64."""
    refuse_size(image_shape)
    return gans.VanillaGAN(*gans.dcgan_networks(image_shape, settings.latent_dim, settings.width), **rules(settings))


def refuse_size(image_shape: tuple[int, int, int]) -> None:
    """Raise RunError if DCGAN has no networks for images of that size."""
    if image_shape[1:] not in [(side, side) for side in gans.IMAGE_SIZES]:
        sizes = " or ".join(map(str, gans.IMAGE_SIZES))
        raise RunError(f"DCGAN makes images of {sizes} pixels per side, but the data are {image_shape[1]} x "
                       f"{image_shape[2]}: --image-size ({sizes}) crops and resizes the images of a folder")
