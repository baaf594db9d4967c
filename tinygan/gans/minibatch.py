"""Minibatch discrimination (Salimans et al. 2016, "Improved techniques for training GANs", section 3.2).

The networks are trained as in `VanillaGAN`. Only one layer of the discriminator is new: it compares each image with the
others of its batch. If the generator makes the same image again and again, the discriminator can then tell it from the data,
whatever the image is. So this file has networks and no class.
"""
from __future__ import annotations

__all__ = ["minibatch_networks"]

import math

from tinygan import nn
from tinygan.gans.vanilla import vanilla_networks


def minibatch_networks(image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 100, kernels: int = 50,
                       dimensions: int = 5) -> tuple[nn.Sequential, nn.Sequential]:
    """The vanilla GAN's networks for images (C, H, W), with minibatch discrimination before the discriminator's logit.

    kernels, dimensions: B and C in the paper. Real and generated images go through the discriminator as two batches, because
    the layer couples the images of a batch.
    """
    generator, _ = vanilla_networks(image_shape, latent_dim)
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Dense(math.prod(image_shape), 512), nn.LeakyReLU(0.2),
        nn.Dense(512, 256), nn.LeakyReLU(0.2),
        nn.MinibatchDiscrimination(256, kernels, dimensions),
        nn.Dense(256 + kernels, 1),
    )
    return generator, discriminator
