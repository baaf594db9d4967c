"""DiscoGAN (Kim, Cha, Kim, Lee, Kim 2017, "Learning to discover cross-domain relations with generative adversarial
networks", sections 2.3 and 2.4): translation between two domains A and B, learnt from unpaired images.

The generator G_AB makes images of B from images of A, and G_BA goes back. D_A and D_B each tell the real images of a domain
from translated ones. Both generators together minimise

    cost of D_B(G_AB(a)) + cost of D_A(G_BA(b)) + weight * (|G_BA(G_AB(a)) - a|^2 + |G_AB(G_BA(b)) - b|^2)

An image of A and one of B travel as one array, concatenated along the channels: a pair (N, C_A + C_B, H, W). The two have
nothing to do with each other. So data sets, batches and checkpoints are those of every other GAN.
"""
from __future__ import annotations

__all__ = ["RECONSTRUCTIONS", "DiscoGAN", "Reconstruction", "discogan_networks"]

import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import Array, backend_of
from tinygan.context import no_grad, override
from tinygan.devices import moved
from tinygan.gans.arguments import CostArguments
from tinygan.gans.dcgan import dcgan_networks, down, norm, up
from tinygan.gans.first_step import check_discriminator, end_of_network
from tinygan.gans.vanilla import VanillaGAN
from tinygan.graph import grad
from tinygan.interop.foreign import as_numbers
from tinygan.nn.initializers import dcgan
from tinygan.ops import add, concatenate, mean_squared_error, mul
from tinygan.random import Key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, as_array


class Reconstruction(NamedTuple):
    """A game: its name, which domains' images must return, and which domains have a discriminator."""

    name: str
    returning: str
    judged: str
    about: str


RECONSTRUCTIONS = {one.name: one for one in (
    Reconstruction("both", "ab", "ab", "DiscoGAN (figure 2c)"),
    Reconstruction("one-sided", "a", "b", "G_AB against D_B, and G_BA leads back to A (figure 2b)"),
    Reconstruction("none", "", "ab", "two plain GANs that know nothing of each other: figure 2a, in both directions"),
)}
"""The games of the paper's figure 2, by name."""


class Generators(nn.Module):
    """G_AB and G_BA. A pair of images -> the pair of their translations, which belongs to the same domains."""

    couples_examples = False

    def __init__(self, ab: nn.Module, ba: nn.Module, channels: int) -> None:
        self.ab = ab
        self.ba = ba
        self.channels = channels

    def forward(self, pairs: Any) -> Any:
        a, b = pairs[:, :self.channels], pairs[:, self.channels:]
        return concatenate([self.ba(b), self.ab(a)], axis=1)


class Discriminators(nn.Module):
    """D_A and D_B; a game may have only D_B. A pair of images -> the logits (N, 2), or (N, 1)."""

    couples_examples = False

    def __init__(self, a: nn.Module | None, b: nn.Module, channels: int) -> None:
        self.a = a
        self.b = b
        self.channels = channels

    def forward(self, pairs: Any) -> Any:
        logits = self.b(pairs[:, self.channels:])
        return logits if self.a is None else concatenate([self.a(pairs[:, :self.channels]), logits], axis=1)


class DiscoGAN(VanillaGAN):
    """Two generators and two discriminators; one optimiser for the generators, one for the discriminators.

    g_ab, g_ba: images of A -> images of B, and back. d_a, d_b: images of A or B -> logits (N, 1). shape_a, shape_b: the
    shapes of an image, (C_A, H, W) and (C_B, H, W); points in the plane have (2,) and (2,). reconstruction: one of
    `RECONSTRUCTIONS`; with "one-sided" there is no D_A, and d_a is None. weight: of the reconstruction errors, which are
    mean squares over all values. A step's batch consists of pairs, and both players use the same ones. The other arguments
    are those of VanillaGAN. Raises ValueError or TypeError for networks that do not fit each other.
    """

    translates: ClassVar[bool] = True

    def __init__(self, g_ab: nn.Module, g_ba: nn.Module, d_a: nn.Module | None, d_b: nn.Module, *,
                 shape_a: tuple[int, ...], shape_b: tuple[int, ...], reconstruction: str = "both", weight: float = 1.0,
                 **settings: Unpack[CostArguments]) -> None:
        game = lookup(RECONSTRUCTIONS, "DiscoGAN", "reconstruction", reconstruction)
        if "noise" in settings:
            raise TypeError("DiscoGAN: there is no noise to choose, because the generators translate images")
        if not 0 < weight < math.inf:
            raise ValueError(f"DiscoGAN: weight should be a positive number, got {weight}")
        if not shape_a or not shape_b or shape_a[1:] != shape_b[1:]:
            raise ValueError("DiscoGAN: shape_a and shape_b may differ in their first number, the channels, only; got "
                             f"{shape_a} and {shape_b}")
        if (d_a is not None) != ("a" in game.judged):
            raise ValueError(f"DiscoGAN: with reconstruction={reconstruction!r}, d_a should be "
                             + ("a network" if d_a is None else "None, because there is no discriminator of A"))
        networks = {"g_ab": g_ab, "g_ba": g_ba, "d_b": d_b} | ({} if d_a is None else {"d_a": d_a})
        for name, network in networks.items():
            if not isinstance(network, nn.Module):
                raise TypeError(f"DiscoGAN: {name} should be a Module, such as nn.Sequential(...), got "
                                f"{type(network).__name__}")
        if len(set(map(id, networks.values()))) < len(networks):
            raise ValueError(f"DiscoGAN: {', '.join(networks)} should be different networks")
        self.shape_a, self.shape_b = shape_a, shape_b
        self.reconstruction = reconstruction
        self.weight = weight
        self._g = Generators(g_ab, g_ba, shape_a[0])
        self._d = Discriminators(d_a, d_b, shape_a[0])
        super().__init__(self._g, self._d, None, **settings)
        self._image_shape = (shape_a[0] + shape_b[0], *shape_a[1:])
        self._check_networks()

    def _check_networks(self) -> None:
        """Raise ValueError unless each network takes and makes images of the right shapes."""
        weight = self.g_parameters[0]

        def made(name: str, network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
            images = backend_of(weight.array).xp.zeros((2, *shape), weight.dtype)
            try:
                with no_grad(), nn.mode(network, training=False):
                    return tuple(as_array(network(images)).shape)
            except ValueError as error:
                raise ValueError(f"DiscoGAN: {name} cannot take images of shape {shape}: {error}") from error

        for name, network, given, expected in (("g_ab", self._g.ab, self.shape_a, self.shape_b),
                                               ("g_ba", self._g.ba, self.shape_b, self.shape_a)):
            found = made(name, network, given)
            if found[1:] != expected:
                raise ValueError(f"DiscoGAN: {name} should make images of shape {expected} from {given}, but "
                                 f"makes {found[1:]}")
        for side, network in self._judges():
            found = made(f"d_{side}", network, self.shape_a if side == "a" else self.shape_b)
            if math.prod(found) != 2:
                raise ValueError(f"DiscoGAN: d_{side} should make one logit per image, but makes {found} of 2 images")
            check_discriminator("DiscoGAN", end_of_network(network), self._game())

    def _judges(self) -> Iterator[tuple[str, nn.Module]]:
        """The domains that have a discriminator, each with its discriminator."""
        for side in lookup(RECONSTRUCTIONS, "DiscoGAN", "reconstruction", self.reconstruction).judged:
            yield side, getattr(self._d, side)

    def _inputs(self, real: Any, *conditions: Any) -> Any:
        return real

    def _sides(self, pairs: Any) -> dict[str, Any]:
        """The images of each domain in pairs (N, C_A + C_B, ...)."""
        return {"a": pairs[:, :self.shape_a[0]], "b": pairs[:, self.shape_a[0]:]}

    def d_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor], Any, Any]:
        """For real pairs (N, C_A + C_B, ...) and pairs z to translate: the sum of the discriminators' losses, its gradients
        in the order of `discriminator.parameters()`, and the logits of the real and of the translated images."""
        with override(recording=False, updating=frozenset()):
            fake = self._sides(self.generator(z))
        reals, losses, logits = self._sides(real), [], []
        with override(updating=self.d_modules):
            for side, judge in self._judges():
                loss, *found = self.d_loss(judge, self.discriminator_batch(reals[side], fake[side]))
                losses.append(loss)
                logits.append([as_array(one) for one in found])
        total = _sum(losses)
        real_logits, fake_logits = (concatenate(list(found)) for found in zip(*logits, strict=True))
        return total, grad(total, self.d_parameters), real_logits, fake_logits

    def g_gradients(self, z: Any, real: Any = None) -> tuple[Tensor, list[Tensor]]:
        """For pairs z (N, C_A + C_B, ...): what both generators minimise, and its gradients in the order of
        `generator.parameters()`. real: the pairs that a cost compares the translations with, by default z."""
        game = lookup(RECONSTRUCTIONS, "DiscoGAN", "reconstruction", self.reconstruction)
        given, compared = self._sides(z), self._sides(z if real is None else real)
        with override(updating=self.g_modules):
            fake = {"b": self._g.ab(given["a"])}
            self._first_step_checks.check_generated(fake["b"])
            if "a" in game.judged:
                fake["a"] = self._g.ba(given["b"])
            losses = []
            for side, judge in self._judges():
                scores = (self._scores_of(compared[side], fake[side], judge),) if self._game().pairs else ()
                losses.append(self.g_loss(judge(self.with_instance_noise(fake[side])), *scores))
            if "a" in game.returning:
                losses.append(mul(mean_squared_error(self._g.ba(fake["b"]), given["a"]), self.weight))
            if "b" in game.returning:
                losses.append(mul(mean_squared_error(self._g.ab(fake["a"]), given["b"]), self.weight))
        total = _sum(losses)
        return total, grad(total, self.g_parameters)

    def latent(self, n: int, key: Key | None = None) -> Any:
        """There are no latent vectors: raises TypeError."""
        raise TypeError("DiscoGAN: it translates images, and has no latent vectors; sample(z=pairs) translates pairs of "
                        f"images {self._image_shape}")

    def sample(self, n: int = 64, z: npt.ArrayLike | None = None, key: Key | None = None, *,
               averaged: bool = True) -> npt.NDArray[Any]:
        """The translations of pairs z (N, C_A + C_B, ...), as pairs: G_BA(b), then G_AB(a), as a NumPy array. Training is
        not affected. averaged: see `GAN.sample`. Raises TypeError without z, and ValueError for a z of another shape."""
        images = self.cycles(z, averaged=averaged)
        return np.concatenate([images[4], images[1]], axis=1)

    def cycles(self, z: npt.ArrayLike | None, *, averaged: bool = True) -> list[npt.NDArray[Any]]:
        """For pairs z (N, C_A + C_B, ...), as NumPy arrays: a, G_AB(a), G_BA(G_AB(a)), b, G_BA(b), G_AB(G_BA(b)). Raises
        errors as `sample` does."""
        if z is None:
            raise TypeError(f"DiscoGAN.sample: give pairs of images to translate: sample(z=pairs), (N, "
                            f"{', '.join(map(str, self._image_shape or ()))})")
        weight = self.g_parameters[0]
        pairs: Array = as_numbers("sample: z", z)
        if pairs.shape[1:] != self._image_shape:
            raise ValueError(f"DiscoGAN.sample: z should be pairs of images (N, "
                             f"{', '.join(map(str, self._image_shape or ()))}), got {tuple(pairs.shape)}")
        real = self._sides(moved(pairs.astype(weight.dtype, copy=False), backend_of(weight.array)))
        generator: Any = self.sampled_generator if averaged else self.generator
        ab, ba = generator.ab, generator.ba
        with no_grad(), nn.mode(generator, training=False):
            there, back = ab(real["a"]), ba(real["b"])
            found = [as_array(x) for x in (real["a"], there, ba(there), real["b"], back, ab(back))]
        return [np.array(backend_of(x).to_numpy(x), order="C") for x in found]


def _sum(losses: list[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = add(total, loss)
    return total


def discogan_networks(shape_a: tuple[int, int, int], shape_b: tuple[int, int, int], width: int = 32,
                      reconstruction: str = "both", d_norm: bool = True, bottleneck: int = 0,
                      ) -> tuple[nn.Module, nn.Module, nn.Module | None, nn.Module]:
    """g_ab, g_ba, d_a and d_b for images (C, 28, 28) in [-1, 1]; d_a is None if that reconstruction has none.

    A generator is an encoder and a decoder, as in the paper, here of two strided and two transposed convolutions, 28 -> 14
    -> 7 -> 14 -> 28. A discriminator is DCGAN's. width: channels at 14 x 14; there are twice as many at 7 x 7. d_norm: as
    for `dcgan_networks`. bottleneck: if not 0, the encoder ends in a vector of so many numbers, from which the decoder
    begins. Without it, a pixel of a translation depends only on the pixels near it, so that nothing can be moved far. Raises
    ValueError for other sizes.
    """
    for name, shape in (("shape_a", shape_a), ("shape_b", shape_b)):
        if len(shape) != 3 or shape[1:] != (28, 28):
            raise ValueError(f"discogan_networks: {name} should be (channels, 28, 28), got {tuple(shape)}")
    game = lookup(RECONSTRUCTIONS, "discogan_networks", "reconstruction", reconstruction)
    (_, d_a), (_, d_b) = (dcgan_networks(shape, 1, width, d_norm) for shape in (shape_a, shape_b))
    if bottleneck < 0:
        raise ValueError(f"discogan_networks: bottleneck should be a whole number of at least 0, got {bottleneck}")
    g_ab = _translator(shape_a[0], shape_b[0], width, bottleneck)
    g_ba = _translator(shape_b[0], shape_a[0], width, bottleneck)
    return g_ab, g_ba, d_a if "a" in game.judged else None, d_b


def _translator(inputs: int, outputs: int, width: int, bottleneck: int) -> nn.Sequential:
    flat = 2 * width * 7 * 7
    middle = () if not bottleneck else (
        nn.Flatten(), nn.Dense(flat, bottleneck, bias=False, initializer=dcgan), norm(bottleneck), nn.LeakyReLU(0.2),
        nn.Dense(bottleneck, flat, bias=False, initializer=dcgan), nn.Reshape(2 * width, 7, 7), norm(2 * width), nn.ReLU(),
    )
    return nn.Sequential(
        nn.Conv2d(inputs, width, 4, 2, 1, initializer=dcgan), nn.LeakyReLU(0.2),
        *down(width, 2 * width), *middle, *up(2 * width, width),
        nn.ConvTranspose2d(width, outputs, 4, 2, 1, initializer=dcgan), nn.Tanh(),
    )
