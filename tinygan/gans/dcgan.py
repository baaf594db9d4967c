"""DCGAN's networks (Radford, Metz, Chintala 2015, "Unsupervised representation learning with deep convolutional
generative adversarial networks", section 3).

DCGAN is trained like `VanillaGAN`, with the non-saturating cost. Only the networks are new. So this file has networks and no
class.
"""
from __future__ import annotations

__all__ = ["dcgan_networks", "down", "norm", "up"]

from tinygan import nn
from tinygan.nn.initializers import dcgan, normal

IMAGE_SIZES = (28, 64)
"""The image sizes, in pixels per side, for which `dcgan_networks` makes networks."""


def dcgan_networks(image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 100,
                   width: int = 64, d_norm: bool = True) -> tuple[nn.Sequential, nn.Sequential]:
    """The generator (N, latent_dim) -> images (N, *image_shape) in [-1, 1] and the discriminator images -> logits (N, 1).

    image_shape: (channels, 28, 28) or (channels, 64, 64). width: the number of channels of the layer next to the image. It
    doubles each time the size is halved, up to 2 * width at 7 x 7 or 8 * width at 4 x 4. As in the paper: convolutions with
    strides instead of pooling, batch norm except at G's output and D's input, ReLU in G with tanh at its end, leaky ReLU 0.2
    in D, weights from N(0, 0.02). The scales of batch norm start from N(1, 0.02). A layer before batch norm has no bias,
    because batch norm would subtract it again. d_norm: False leaves out the batch norm in D, so that its gradient can be
    penalised. Raises ValueError for other sizes.
    """
    channels, *size = image_shape
    if size not in [[side, side] for side in IMAGE_SIZES]:
        sizes = " or ".join(f"(channels, {side}, {side})" for side in IMAGE_SIZES)
        raise ValueError(f"dcgan_networks: image_shape should be {sizes}, got {tuple(image_shape)}")
    for name, value in (("the number of channels", channels), ("latent_dim", latent_dim), ("width", width)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"dcgan_networks: {name} should be a whole number of at least 1, got {value!r}")
    return (_networks_28 if size[0] == 28 else _networks_64)(channels, latent_dim, width, d_norm)


def _networks_28(channels: int, latent_dim: int, width: int, d_norm: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """From 7 x 7 over 14 x 14 to 28 x 28, and back. G begins and D ends with a dense layer."""
    flat = 2 * width * 7 * 7
    generator = nn.Sequential(
        nn.Dense(latent_dim, flat, bias=False, initializer=dcgan), nn.Reshape(2 * width, 7, 7), norm(2 * width), nn.ReLU(),
        *up(2 * width, width),
        nn.ConvTranspose2d(width, channels, 4, 2, 1, initializer=dcgan), nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1, initializer=dcgan), nn.LeakyReLU(0.2),
        *down(width, 2 * width, d_norm),
        nn.Flatten(), nn.Dense(flat, 1, initializer=dcgan),
    )
    return generator, discriminator


def _networks_64(channels: int, latent_dim: int, width: int, d_norm: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """From 4 x 4 over 8 x 8, 16 x 16 and 32 x 32 to 64 x 64, and back, with convolutions only."""
    generator = nn.Sequential(
        nn.Reshape(latent_dim, 1, 1), *up(latent_dim, 8 * width, stride=1, padding=0),
        *up(8 * width, 4 * width), *up(4 * width, 2 * width), *up(2 * width, width),
        nn.ConvTranspose2d(width, channels, 4, 2, 1, initializer=dcgan), nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1, initializer=dcgan), nn.LeakyReLU(0.2),
        *down(width, 2 * width, d_norm), *down(2 * width, 4 * width, d_norm), *down(4 * width, 8 * width, d_norm),
        nn.Conv2d(8 * width, 1, 4, 1, 0, initializer=dcgan), nn.Flatten(),
    )
    return generator, discriminator


def up(inputs: int, outputs: int, stride: int = 2, padding: int = 1) -> tuple[nn.Module, ...]:
    """Layers that double the image's size. With stride 1 and no padding: from 1 x 1 to 4 x 4."""
    return (nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False, initializer=dcgan), norm(outputs),
            nn.ReLU())


def down(inputs: int, outputs: int, normed: bool = True) -> tuple[nn.Module, ...]:
    """Layers that halve the image's size."""
    norms = [norm(outputs)] if normed else []
    return nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normed, initializer=dcgan), *norms, nn.LeakyReLU(0.2)


def norm(channels: int) -> nn.BatchNorm:
    """Batch norm whose scales start from N(1, 0.02)."""
    return nn.BatchNorm(channels, initializer=normal(0.02, mean=1.0))
