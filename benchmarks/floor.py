"""The floor of a model: the least time that this machine needs for a training step, whoever computes it.

It is the time of the step's matrix products, as tinygan's algorithms execute them, at the best rate that any library reaches
for a product of 1024 x 1024 x 1024, plus the time that the bytes of Adam's pass take at the rate of a large copy. Everything
else (activations, batch norm, noise, losses, moving what the products read and write) counts as nothing.

With penalties, the products of the slopes of a discriminator of piecewise linear layers count too: see `passes`.
Interpolation between sizes counts as nothing.

A step is one round of Algorithm 1 (Goodfellow et al. 2014): an update of the discriminator on N real and N generated images,
then one of the generator on N images.
"""
from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from models import (
    Basis,
    Bilinear,
    Conv,
    ConvTranspose,
    Dense,
    Layers,
    Model,
    Projection,
    Reshape,
    Residual,
    with_parameters,
)

ADAM_BYTES = 28  # for each parameter in float32: reads it, its gradient and both moments, and writes all but the gradient


class Pass(NamedTuple):
    """One way of a batch through a network, and back."""

    player: str
    batches: int
    """How many batches of N images go this way."""
    weight_gradients: bool
    input_gradients: str
    """Of which layers the gradient by the input is computed: "none", "all", or all "but the first" one."""
    forward: str = "all"
    """Which layers are computed forward: "none", "all", or all "but the last" one."""


def judged(batches: int, slopes: bool) -> tuple[Pass, ...]:
    """The discriminator's update on so many batches of images. With slopes, which R1 and R2 take at these images, the pass
    back goes on to the images, and there is one pass forward more (see `tinygan.fusion.slopes`)."""
    if not slopes:
        return (Pass("discriminator", batches, True, "but the first"),)
    return (Pass("discriminator", batches, True, "all"),
            Pass("discriminator", batches, False, "none", forward="but the last"))


SLOPES_ELSEWHERE = (Pass("discriminator", 1, False, "all"),
                    Pass("discriminator", 1, True, "none", forward="but the last"))
"""The slopes that WGAN-GP takes between the images: forward, the gradients by its inputs, and their own way back, which is a
pass forward with gradients of the weights."""


def passes(model: Model) -> tuple[Pass, ...]:
    """All passes of a training step. Leaky ReLU has no second derivative, so slopes need no second pass back."""
    penalties = dict(model.penalties)
    watched = len(penalties.keys() & {"r1", "r2"})  # batches at which slopes are taken: real, generated images
    return (
        Pass("generator", 1, False, "none"),  # the generated images for the discriminator's update
        *judged(watched, slopes=True), *judged(2 - watched, slopes=False),
        Pass("generator", 1, True, "but the first"),
        Pass("discriminator", 1, False, "all"),  # on the way back to the generator
        *([Pass("discriminator", 1, False, "none")] if model.cost == "relativistic" else []),  # real images beside them
        *(SLOPES_ELSEWHERE if "gradient-penalty" in penalties else ()),
    )


@dataclass(frozen=True)
class Counted:
    """A layer with weights, and the size of its input as an image, in pixels per side."""

    layer: Dense | Conv
    size: int

    def operations(self, images: int, role: str) -> int:
        """The multiplications and additions of one map: role "forward", "input" or "weight" (which of the gradients)."""
        if isinstance(self.layer, Dense):
            return 2 * images * self.layer.inputs * self.layer.outputs
        return 2 * images * self._by_tiles(images, role)

    def _by_tiles(self, images: int, role: str) -> int:
        """Multiplications for each image, with the algorithm that tinygan's planner chooses. A transposed convolution is
        the adjoint of a convolution, from its output to its input."""
        import numpy as np

        from tinygan.kernels.cpu import conv as convolutions
        from tinygan.kernels.cpu.conv import planner
        from tinygan.kernels.winograd import DIRECT
        from tinygan.ops.conv_geometry import Geometry

        c = self.layer
        assert isinstance(c, Conv)
        larger, smaller, channels, kernels = self.size, output_size(c, self.size), c.inputs, c.outputs
        if isinstance(c, ConvTranspose):
            larger, smaller, channels, kernels = smaller, larger, kernels, channels
        g = Geometry((larger,) * 2, (c.kernel,) * 2, (smaller,) * 2, (c.stride,) * 2, (c.padding,) * 2, (1, 1), 1)
        pairs = channels * kernels // c.groups
        by_definition = smaller**2 * c.kernel**2 * pairs
        adjoint = role == ("forward" if isinstance(c, ConvTranspose) else "input")
        if c.groups > 1:
            return by_definition
        source = np.broadcast_to(np.float32(0), (images, 1, 1, 1))  # the planner looks at its length and its dtype
        if not convolutions._is_large(images, pairs * c.kernel**2, g):
            return by_definition  # in NumPy
        if planner.suits_lanes(g, channels, kernels, source, adjoint) or (
                not adjoint and planner.suits_thin(g, channels, kernels, source.dtype)):
            return by_definition
        tile = planner.tile_on_cpu(g, channels, kernels)
        return by_definition if tile == DIRECT else prod(tile.grid(g)) * tile.points * c.stride**2 * pairs


def output_size(layer: Conv, size: int) -> int:
    if isinstance(layer, ConvTranspose):
        return (size - 1) * layer.stride - 2 * layer.padding + layer.kernel
    return (size + 2 * layer.padding - layer.kernel) // layer.stride + 1


def counted(layers: Layers, size: int) -> Iterator[Counted]:
    """The layers with products. size: that of the input, if it is an image."""
    for layer in layers:
        if isinstance(layer, Reshape):
            size = layer.shape[1]
        elif isinstance(layer, Residual):
            yield from counted(layer.block, size)
        elif isinstance(layer, Bilinear):
            size = int(size * layer.scale)
        elif isinstance(layer, Basis):
            yield Counted(Dense(layer.inputs, layer.channels, False), size)
            size = layer.size
        elif isinstance(layer, Projection):
            yield Counted(Dense(layer.channels, 1, False), size)
        elif isinstance(layer, Dense):
            yield Counted(layer, size)
        elif isinstance(layer, Conv):
            yield Counted(layer, size)
            size = output_size(layer, size)


def operations(model: Model, batch: int) -> dict[str, int]:
    """The multiplications and additions of the products of a training step, by role: "forward", "input" and "weight"
    gradients."""
    players: dict[str, Layers] = {"generator": model.generator, "discriminator": model.discriminator}
    side = model.image_shape[-1] if model.convolutional else 1
    found = dict.fromkeys(("forward", "input", "weight"), 0)
    for way in passes(model):
        layers = list(counted(players[way.player], side))
        for number, layer in enumerate(layers):
            ahead = way.forward == "all" or (way.forward == "but the last" and number + 1 < len(layers))
            back = way.input_gradients == "all" or (way.input_gradients == "but the first" and number > 0)
            for role, happens in (("forward", ahead), ("input", back), ("weight", way.weight_gradients)):
                found[role] += happens * way.batches * layer.operations(batch, role)
    return found


def parameters(model: Model) -> int:
    """The number of parameters of both networks."""
    return sum(prod(shape) for layers in (model.generator, model.discriminator) for _, layer in with_parameters(layers)
               for shape in layer.parameter_shapes().values())


def floor(counts: Mapping[str, int], parameters: int, products: Mapping[str, list[float]],
          copies: list[float]) -> dict[str, Any]:
    """The floor and what it is made of. products: by library, the GFLOP/s of a large product in each round; the best of
    their medians counts. copies: the GB/s of a large copy in each round, bytes read and bytes written."""
    rates = {library: statistics.median(found) for library, found in products.items()}
    best = max(rates, key=lambda library: rates[library])
    gflop, megabytes, copy = sum(counts.values()) / 1e9, ADAM_BYTES * parameters / 1e6, statistics.median(copies)
    multiplying, moving = gflop / rates[best] * 1e3, megabytes / copy
    return {
        "gflop": round(gflop, 3), "gflop_by_role": {role: round(count / 1e9, 3) for role, count in counts.items()},
        "gflops_by_library": {library: round(rate, 1) for library, rate in rates.items()}, "library": best,
        "adam_mb": round(megabytes, 1), "copy_gb_per_s": round(copy, 2), "products_ms": round(multiplying, 3),
        "adam_ms": round(moving, 3), "ms": round(multiplying + moving, 3),
    }  # fmt: skip


def describe(found: Mapping[str, Any]) -> str:
    """The floor as a sentence."""
    rates = dict(found["gflops_by_library"])
    best = rates.pop(found["library"])
    others = "".join(f"; {name} {rate:.0f}" for name, rate in rates.items())
    rate = f"{best:.0f} GFLOP/s ({found['library']}{others})"
    return (f"the floor: {found['gflop']:.3g} GFLOP of products at {rate}, {found['products_ms']:.3g} ms, + "
            f"{found['adam_mb']:.3g} MB of Adam's at {found['copy_gb_per_s']:.3g} GB/s, {found['adam_ms']:.3g} ms = "
            f"{found['ms']:.3g} ms")
