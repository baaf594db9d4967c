"""Conditional GANs: the generator makes an image of a class that is asked for, and the discriminator is told the class too.

A class y is a vector with a 1 at its place and 0 at all others. The generator's input is a latent vector followed by y. The
two discriminators differ in where they use y:

    input        D(x, y): y is an additional input (Mirza and Osindero 2014, "Conditional generative adversarial nets")
    projection   v . phi(x) + y^T V phi(x) + bias: y selects a row of V, onto which the features phi(x) are projected
                 (Miyato and Koyama 2018, "cGANs with projection discriminator")

In an update, generated images have the labels of the real images beside them. So their classes are as frequent.
"""
from __future__ import annotations

__all__ = ["CONDITIONINGS", "ConditionalGAN", "InputDiscriminator", "ProjectionDiscriminator", "conditional_networks"]

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import Array, backend_of, cpu
from tinygan.devices import inspect, moved
from tinygan.gans.arguments import VanillaArguments
from tinygan.gans.dcgan import dcgan_networks
from tinygan.gans.stats import Stats
from tinygan.gans.vanilla import VanillaGAN
from tinygan.interop.foreign import as_numbers
from tinygan.nn.initializers import Initializer, dcgan
from tinygan.ops import add, broadcast_to, concatenate, flatten, mul, reshape
from tinygan.ops import sum as sum_over
from tinygan.random import Key
from tinygan.tables import lookup


class InputDiscriminator(nn.Module):
    """Images and classes (N, classes) -> body(both together). With `planes`, the body takes images (N, C + classes, H, W):
    each class is a further channel, filled with its 0 or 1. Without, it takes vectors (N, C * H * W + classes)."""

    couples_examples = False

    def __init__(self, body: nn.Module, planes: bool = True) -> None:
        self.body = body
        self.planes = planes

    def forward(self, images: Any, classes: Any) -> Any:  # type: ignore[override]
        network, x = self.trunk(images, classes)
        return network(x)

    def trunk(self, images: Any, classes: Any) -> tuple[nn.Module, Any]:
        """The network that sees the images, and its input."""
        if not self.planes:
            return self.body, concatenate([flatten(images, 1), classes], 1)
        n, count = classes.shape
        planes = broadcast_to(reshape(classes, (n, count, 1, 1)), (n, count, *images.shape[2:]))
        return self.body, concatenate([images, planes], 1)


class ProjectionDiscriminator(nn.Module):
    """Images and classes (N, classes) -> v . phi(x) + y^T V phi(x) + bias. trunk: images -> features phi(x) (N, features).
    initializer: draws v and V; by default they are those of `nn.Dense`."""

    couples_examples = False

    def __init__(self, phi: nn.Module, features: int, classes: int, initializer: Initializer | None = None) -> None:
        self.phi = phi
        self.linear = nn.Dense(features, 1, initializer=initializer)
        self.embedding = nn.Dense(classes, features, bias=False, initializer=initializer)

    def forward(self, images: Any, classes: Any) -> Any:  # type: ignore[override]
        features = self.phi(images)
        return add(self.linear(features), sum_over(mul(self.embedding(classes), features), 1, keepdims=True))

    def trunk(self, images: Any, classes: Any) -> tuple[nn.Module, Any]:
        """The network that sees the images, and its input."""
        return self.phi, images


class ConditionalGAN(VanillaGAN):
    """`step(real, labels)` trains both players on images with labels; `sample(labels=7)` makes images of class 7.

    generator: (N, latent_dim + classes) -> images. Its input is a latent vector and the class as a vector of 0 and 1.
    discriminator: a Module of images and such classes (N, classes) -> logits (N, 1), as `InputDiscriminator` and
    `ProjectionDiscriminator`. classes: how many there are; labels are whole numbers from 0 to classes - 1. The other
    arguments are those of VanillaGAN. Raises ValueError for less than one class.
    """

    takes_labels: ClassVar[bool] = True

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, classes: int,
                 **settings: Unpack[VanillaArguments]) -> None:
        _check_classes("ConditionalGAN", classes)
        super().__init__(generator, discriminator, latent_dim, **settings)
        self.classes = int(classes)
        self._labels_are_checked = False

    @property
    def input_dim(self) -> int:
        """How many numbers the generator gets for an image: latent_dim + classes."""
        return self.latent_dim + self.classes

    def step(self, real: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> Stats:
        """One round of Algorithm 1. real: as for `VanillaGAN.step`. labels: the classes (d_steps * N,) of these images.
        Raises TypeError or ValueError before any weight changes if there are no labels, or if they are not such numbers."""
        if labels is None:
            raise TypeError("ConditionalGAN.step: give the labels of the images too: step(real, labels)")
        images = self._batch(real)
        return self._round(images, self._one_hot("ConditionalGAN.step", labels, len(images)))

    def _inputs(self, real: Any, *conditions: Any) -> Any:
        (classes,) = conditions
        return concatenate([super().latent(len(real)), classes], 1)

    def judge(self, z: Any) -> Callable[[Any], Any]:
        """The discriminator as a function of images: those of an update all have the classes in z, and real and generated
        ones may come together."""
        classes = z[:, self.latent_dim:]

        def judged(images: Any) -> Any:
            n, given = images.shape[0], classes.shape[0]
            if n not in (given, 2 * given):
                raise ValueError(f"ConditionalGAN: real and generated images have the same labels, so there should be as "
                                 f"many of both, got {n} images for {given} labels")
            return self.discriminator(images, classes if n == given else concatenate([classes, classes]))

        return judged

    def latent(self, n: int, key: Key | None = None, labels: npt.ArrayLike | None = None) -> Any:
        """n inputs of the generator (n, latent_dim + classes): latent vectors drawn from `key`, by default from the
        training's own stream of keys, each followed by its class. labels: one for all, or (n,). By default the classes take
        turns."""
        noise = super().latent(n, key)
        return concatenate([noise, self._one_hot("ConditionalGAN.latent", self._for_each(labels, n), n)], 1)

    def sample(self, n: int = 64, z: npt.ArrayLike | None = None, key: Key | None = None, *, averaged: bool = True,
               labels: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Generated images as a NumPy array, as `GAN.sample`. labels: the class of all images, or the classes (n,) of n
        images. Without labels, the classes take turns. With labels, z are latent vectors (n, latent_dim); without, they
        are inputs of the generator as `latent` returns them (n, latent_dim + classes). Raises ValueError or TypeError for
        labels that are not whole numbers from 0 to classes - 1."""
        if labels is not None:
            if np.ndim(labels):
                n = len(labels)  # type: ignore[arg-type]
            if z is None:
                z = self.latent(n, Key(0).fold("sample") if key is None else key, labels)
            else:
                vectors = as_numbers("sample: z", z)
                n = len(vectors) if vectors.ndim else 0
                if vectors.ndim == 2 and vectors.shape[1] == self.latent_dim + self.classes:
                    raise ValueError(f"sample: z {vectors.shape} has the classes already, as `latent` returns it: leave out "
                                     f"labels, or give z[:, :{self.latent_dim}]")
                classes = self._one_hot("ConditionalGAN.sample", self._for_each(labels, n), n)
                z = concatenate([moved(vectors.astype(classes.dtype), backend_of(classes)), classes], 1)
        return super().sample(n, z, key, averaged=averaged)

    def labels_of(self, z: Any) -> npt.NDArray[np.int64]:
        """The classes (n,) in inputs of the generator, as `latent` returns them."""
        classes = backend_of(z).to_numpy(z)[:, self.latent_dim:]
        return classes.argmax(1).astype(np.int64)

    def _for_each(self, labels: Any, n: int) -> Any:
        if labels is None:
            return np.arange(n) % self.classes
        return np.full(n, labels) if np.ndim(labels) == 0 else labels

    def _one_hot(self, caller: str, labels: Any, n: int) -> Array:
        """Labels (n,) as (n, classes) of 0 and 1 on the networks' device, in the weights' precision."""
        weight = self.g_parameters[0]
        array = as_numbers(f"{caller}: labels", labels)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{caller}: labels should be whole numbers from 0 to {self.classes - 1}, got {array.dtype}")
        if array.shape != (n,):
            raise ValueError(f"{caller}: labels should be one for each of the {n} images, ({n},), got {tuple(array.shape)}")
        if backend_of(array) is cpu or not self._labels_are_checked:  # (later checks would wait for a GPU)
            inspect(array, lambda found: self._check_range(caller, found))
        backend = backend_of(weight.array)
        places = backend.xp.arange(self.classes)
        found: Array = (moved(array, backend)[:, None] == places).astype(weight.dtype)
        return found

    def _check_range(self, caller: str, labels: Array) -> None:
        self._labels_are_checked = True
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high >= self.classes:
            raise ValueError(f"{caller}: labels should be whole numbers from 0 to {self.classes - 1}, got {low} to {high}")


def _check_classes(caller: str, classes: Any) -> None:
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
        raise ValueError(f"{caller}: classes should be a whole number of at least 1, got {classes!r}")


def _input(image_shape: tuple[int, int, int], classes: int, width: int, d_norm: bool) -> nn.Module:
    channels, *size = image_shape
    _, body = dcgan_networks((channels + classes, size[0], size[1]), 1, width, d_norm)
    return InputDiscriminator(body)


def _projection(image_shape: tuple[int, int, int], classes: int, width: int, d_norm: bool) -> nn.Module:
    _, whole = dcgan_networks(image_shape, 1, width, d_norm)
    *layers, last = (layer for layer in whole if not isinstance(layer, nn.Flatten))
    features = last.parameters()[0].size  # its weight has a number for each feature
    return ProjectionDiscriminator(nn.Sequential(*layers, nn.Flatten()), features, classes, initializer=dcgan)


CONDITIONINGS = {"input": _input, "projection": _projection}
"""Where the discriminator uses the class, by name."""


def conditional_networks(image_shape: tuple[int, int, int] = (1, 28, 28), latent_dim: int = 100, classes: int = 10,
                         width: int = 64, conditioning: str = "input", d_norm: bool = True) -> tuple[nn.Module, nn.Module]:
    """DCGAN's networks for `ConditionalGAN`: the generator (N, latent_dim + classes) -> images, and a discriminator of
    images and classes -> logits (N, 1). conditioning: one of `CONDITIONINGS`. The other arguments and errors are those of
    `dcgan_networks`."""
    make = lookup(CONDITIONINGS, "conditional_networks", "conditioning", conditioning)
    _check_classes("conditional_networks", classes)
    generator, _ = dcgan_networks(image_shape, latent_dim + classes, width)
    return generator, make(image_shape, classes, width, d_norm)
