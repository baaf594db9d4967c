"""`tinygan train modern`."""
from __future__ import annotations

__all__ = ["ModernSettings", "build_modern"]

from dataclasses import dataclass

from tinygan import gans, optim

from ..errors import RunError
from ..settings import Settings, count, fraction, natural, option, positive, weight, with_default
from ..trainable import TrainableGAN
from .game import GameSettings, rules


@dataclass(frozen=True, kw_only=True)
class ModernSettings(GameSettings):
    """The settings of R3GAN (Huang et al. 2024), with the paper's game, learning rate, betas and weights of the penalties
    for stacked MNIST. Its burn-in is a fifth of the training, and its half-life a twentieth (table 9); the defaults here are
    those of 20 epochs of 60,000 images."""

    variant = "modern"
    title = "R3GAN"
    epochs: int = with_default(Settings, "epochs", 20)
    batch_size: int = with_default(Settings, "batch_size", 64)
    run_dir: str = with_default(Settings, "run_dir", "runs/modern")
    latent_dim: int = with_default(GameSettings, "latent_dim", 64)
    cost: str = with_default(GameSettings, "cost", "relativistic")
    r1: float | None = with_default(GameSettings, "r1", 1.0)
    r2: float | None = with_default(GameSettings, "r2", 1.0)
    beta1: float = with_default(GameSettings, "beta1", 0.0)
    beta2: float | None = with_default(GameSettings, "beta2", 0.9)
    burn_in: int = option(240_000, "over so many images, learning rates, beta2, penalties and half-life go from their first "
                          "to their last values, along half a cosine", count)
    last_learning_rate: float | None = option(None, "learning rate of both players after the burn-in, if another", positive)
    last_beta2: float = option(0.99, "beta2 after the burn-in", fraction)
    last_penalty: float = option(0.1, "factor of the penalties' weights after the burn-in", weight)
    half_life: int = option(60_000, "half-life of the average of the generator's weights after the burn-in, in images; it "
                            "begins at 0; 0: no average; --ema replaces it", natural)
    width: int = option(32, "channels next to the image; doubled at each half of the size, up to four times", count)
    blocks: int = option(1, "residual blocks at each size", count)

    def along(self, first: float, last: float, images: int) -> optim.Schedule:
        """From first to last along half a cosine over the burn-in, for what is computed once in so many images."""
        return optim.by_images(optim.cosine_decay(first, last, self.burn_in), images)

    def adam(self, learning_rate: float, images: int) -> optim.Adam:
        """The optimiser of a player that is updated once in so many images."""
        return optim.Adam(self.along(learning_rate, self.last_learning_rate or learning_rate, images),
                          betas=(self.beta1, self.along(self.betas[1], self.last_beta2, images)))


def build_modern(settings: ModernSettings, image_shape: tuple[int, int, int]) -> TrainableGAN:
    """The GAN of `examples/modern_mnist.py`, for images of 28x28, 32x32 or 64x64."""
    if image_shape[1] != image_shape[2] or image_shape[1] not in gans.MODERN_SIZES:
        sizes = " or ".join(map(str, gans.MODERN_SIZES))
        raise RunError(f"R3GAN makes images of {sizes} pixels per side, but the data are {image_shape[1]} x "
                       f"{image_shape[2]}: --image-size ({sizes}) crops and resizes the images of a folder")
    images = settings.batch_size * settings.d_steps  # in a step
    penalties = {name: settings.along(first, settings.last_penalty * first, images)
                 for name, first in settings.penalties.items() if first}
    ema: float | optim.Schedule | None = settings.ema
    if ema is None and settings.half_life:
        ema = optim.half_life(optim.cosine_decay(0, settings.half_life, settings.burn_in), images)
    return gans.VanillaGAN(
        *gans.modern_networks(image_shape, settings.latent_dim, settings.width, settings.blocks),
        **{**rules(settings), "penalties": penalties, "ema": ema,
           "d_optimizer": settings.adam(settings.learning_rate, settings.batch_size),
           "g_optimizer": settings.adam(settings.g_learning_rate or settings.learning_rate, images)})
