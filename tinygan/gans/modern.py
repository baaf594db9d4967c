"""The networks of R3GAN (Huang, Gokaslan, Kuleshov, Tompkin 2024, "The GAN is dead; long live the GAN! A modern baseline
GAN", configuration E), at small size.

R3GAN is trained like `VanillaGAN` with the cost "relativistic" and the penalties "r1" and "r2". Only the networks are new:
residual blocks, and no normalisation. So this file has networks and no class of GAN.
"""
from __future__ import annotations

__all__ = ["MODERN_SIZES", "modern_networks"]

import math
from itertools import pairwise
from typing import Any

from tinygan import nn, ops
from tinygan.nn.initializers import he_normal, normal, zeros
from tinygan.parameters import Parameter

MODERN_SIZES = {28: 7, 32: 4, 64: 4}
"""The image sizes, in pixels per side, for which `modern_networks` makes networks, with their smallest feature maps."""

_SLOPE = 0.2
_EXPANSION = 2  # of the channels inside a block
_PER_GROUP = 16  # channels, as in the paper: 1536 in 96 groups
_LARGEST = 4  # times the width
_even = he_normal(1.0)  # keeps the variance where no activation follows


class Residual(nn.Module):
    """x + block(x) for images (N, C, H, W).

    block: a 1x1 convolution to twice as many channels, a 3x3 convolution in groups of 16 channels, and a 1x1 convolution
    back; leaky ReLU 0.2 after the first two, which have biases. The last weight starts at 0, so that every block starts as
    the identity. The others start from He's normal distribution times blocks^(-1/4), where `blocks` is how many blocks the
    network has (Zhang, Dauphin, Ma 2019, "Fixup initialization", with three layers in a block)."""

    couples_examples = False

    def __init__(self, channels: int, blocks: int) -> None:
        inner = _EXPANSION * channels
        grouped = math.gcd(inner, _PER_GROUP)
        self.channels, self.groups = channels, inner // grouped
        gain = math.sqrt(2 / (1 + _SLOPE**2)) * blocks**-0.25
        self.block = nn.Sequential(
            nn.Conv2d(channels, inner, 1, initializer=normal(gain / math.sqrt(channels))), nn.LeakyReLU(_SLOPE),
            nn.Conv2d(inner, inner, 3, padding=1, groups=self.groups,
                      initializer=normal(gain / math.sqrt(9 * grouped))), nn.LeakyReLU(_SLOPE),
            nn.Conv2d(inner, channels, 1, bias=False, initializer=zeros),
        )

    def forward(self, x: Any) -> Any:
        return ops.add(x, self.block(x))

    def describe(self) -> str:
        inner = _EXPANSION * self.channels
        return f"{self.channels} -> {inner} -> {self.channels}{'' if self.groups == 1 else f', groups {self.groups}'}"


class Basis(nn.Module):
    """Latent vectors (N, latent_dim) -> images (N, C, size, size): a learnt image, whose channels the vector scales."""

    couples_examples = False
    taken = -1, "latent numbers"

    def __init__(self, latent_dim: int, channels: int, size: int) -> None:
        self.scales = nn.Dense(latent_dim, channels, bias=False, initializer=_even)
        self.image = Parameter(shape=(channels, size, size), initializer=normal(1.0))

    def forward(self, z: Any) -> Any:
        return ops.mul(ops.reshape(self.scales(z), (z.shape[0], self.image.shape[0], 1, 1)), self.image)

    def describe(self) -> str:
        channels, size, _ = self.image.shape
        return f"{self.scales.weight.shape[1]} -> {channels} x {size} x {size}"


class Projection(nn.Module):
    """Images (N, C, size, size) -> scores (N, 1): the counterpart of `Basis`. Each channel is multiplied by a learnt image
    and summed over its pixels; the score is a linear function of these C numbers."""

    couples_examples = False
    taken = 1, "channels"

    def __init__(self, channels: int, size: int) -> None:
        self.image = Parameter(shape=(channels, size, size), initializer=normal(1 / size))
        self.scores = nn.Dense(channels, 1, bias=False, initializer=_even)

    def forward(self, x: Any) -> Any:
        return self.scores(ops.sum(ops.mul(x, self.image), (2, 3)))

    def describe(self) -> str:
        channels, size, _ = self.image.shape
        return f"{channels} x {size} x {size} -> 1"


def modern_networks(image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 64, width: int = 32,
                    blocks: int = 1) -> tuple[nn.Sequential, nn.Sequential]:
    """The generator (N, latent_dim) -> images (N, *image_shape) and the discriminator images -> scores (N, 1).

    image_shape: (channels, 28, 28), (channels, 32, 32) or (channels, 64, 64). width: the number of channels next to the
    image. It doubles each time the size is halved, up to 4 * width; the paper has 768 at every size up to 64 x 64. blocks:
    how many residual blocks there are at each size; the paper has 2.

    As in the paper, the generator begins with a learnt image scaled by the latent vector (here 7 x 7 for images of 28 x 28,
    else 4 x 4), and the discriminator mirrors it. Between two sizes there are bilinear interpolation and, if the numbers of
    channels differ, a 1x1 convolution at the smaller size. (Half the size by bilinear interpolation is the mean of 2 x 2
    pixels.) A 1x1 convolution leads to the image and from it. The generator does not end in tanh, so its values may lie a
    little outside [-1, 1]. Raises ValueError for another shape or a number below 1.
    """
    if len(image_shape) != 3 or image_shape[1] != image_shape[2] or image_shape[1] not in MODERN_SIZES:
        sizes = " or ".join(f"(channels, {size}, {size})" for size in MODERN_SIZES)
        raise ValueError(f"modern_networks: image_shape should be {sizes}, got {tuple(image_shape)}")
    channels, size, _ = image_shape
    for name, value in (("the number of channels", channels), ("latent_dim", latent_dim), ("width", width),
                        ("blocks", blocks)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"modern_networks: {name} should be a whole number of at least 1, got {value!r}")
    smallest = MODERN_SIZES[size]
    widths = [width * min(2**i, _LARGEST) for i in range((size // smallest).bit_length())]  # from the image on

    def stage(channels: int) -> list[nn.Module]:
        return [Residual(channels, blocks * len(widths)) for _ in range(blocks)]

    generator: list[nn.Module] = [Basis(latent_dim, widths[-1], smallest), *stage(widths[-1])]
    discriminator: list[nn.Module] = [_mixing(channels, width)]
    for inputs, outputs in pairwise(widths[::-1]):
        generator += [*_resized(inputs, outputs), nn.Upsample(scale_factor=2, mode="bilinear"), *stage(outputs)]
    for inputs, outputs in pairwise(widths):
        discriminator += [*stage(inputs), nn.AvgPool2d(2), *_resized(inputs, outputs)]
    return (nn.Sequential(*generator, _mixing(width, channels)),
            nn.Sequential(*discriminator, *stage(widths[-1]), Projection(widths[-1], smallest)))


def _mixing(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1, bias=False, initializer=_even)


def _resized(inputs: int, outputs: int) -> list[nn.Module]:
    return [_mixing(inputs, outputs)] if inputs != outputs else []
