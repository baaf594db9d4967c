"""WGAN-GP (Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, "Improved training of Wasserstein GANs", Algorithm 1).

It is trained like `VanillaGAN` with the cost "wasserstein" and the penalty "gradient-penalty", whose weight is 10 in the
paper, with five updates of the critic for each update of the generator. Only the networks are new: the penalty is about
single images, so the critic has no batch norm (section 4). So this file has networks and no class.
"""
from __future__ import annotations

__all__ = ["wgan_gp_networks"]

from tinygan import nn
from tinygan.gans.dcgan import dcgan_networks


def wgan_gp_networks(image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 100,
                     width: int = 64) -> tuple[nn.Sequential, nn.Sequential]:
    """DCGAN's generator, and DCGAN's discriminator without batch norm as the critic: images -> scores (N, 1). The arguments
    and errors are those of `dcgan_networks`."""
    return dcgan_networks(image_shape, latent_dim, width, d_norm=False)
