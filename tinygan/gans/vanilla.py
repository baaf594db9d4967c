"""The original GAN (Goodfellow et al. 2014, "Generative adversarial nets", Algorithm 1)."""
from __future__ import annotations

__all__ = ["VanillaGAN", "vanilla_networks"]

import math
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import override
from tinygan.devices import moved
from tinygan.gans import batches, checks
from tinygan.gans.costs import GENERATOR_COSTS
from tinygan.gans.first_step import FirstStepChecks
from tinygan.gans.gan import GAN
from tinygan.gans.instance_noise import check_deviation, noisy
from tinygan.gans.stats import Stats, mean_stats, number
from tinygan.graph import grad
from tinygan.ops import mean, sigmoid, split
from tinygan.optim import Optimizer, Schedule
from tinygan.random import Key, use_key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, as_array


class VanillaGAN(GAN):
    """Algorithm 1: `d_steps` updates of the discriminator, each on new noise and new data, then one update of the
    generator on new noise.

    The discriminator minimises -mean(log D(x)) - mean(log(1 - D(G(z)))), D = sigmoid(logits).
    generator_cost: what the generator minimises, one of `costs.GENERATOR_COSTS`:
        "minimax"             mean(log(1 - D(G(z)))): its gradient vanishes where the discriminator is sure
        "non-saturating"      -mean(log D(G(z)))
        "maximum-likelihood"  -mean(D(G(z)) / (1 - D(G(z)))): maximum likelihood, for an optimal discriminator
    label_smoothing: the target of real images is 1 - label_smoothing, that of generated images stays 0 (one-sided; Salimans
    et al. 2016, section 3.4). instance_noise: the standard deviation of normal noise that is added to all images before the
    discriminator sees them (see `instance_noise.py`). It is a number, or a function of the number of steps made, such as a
    schedule of `optim`. The other arguments are those of GAN.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, d_steps: int = 1,
                 generator_cost: str = "non-saturating", noise: str = "normal", label_smoothing: float = 0.0,
                 instance_noise: float | Schedule = 0.0, g_optimizer: Optimizer | None = None,
                 d_optimizer: Optimizer | None = None, key: Key | None = None) -> None:
        lookup(GENERATOR_COSTS, "VanillaGAN", "generator_cost", generator_cost)
        if not isinstance(d_steps, int) or d_steps < 1:
            raise ValueError(f"VanillaGAN: d_steps should be at least 1, got {d_steps}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"VanillaGAN: label_smoothing should be in [0, 1), got {label_smoothing}")
        check_deviation("VanillaGAN", instance_noise)
        super().__init__(generator, discriminator, latent_dim, noise=noise, g_optimizer=g_optimizer,
                         d_optimizer=d_optimizer, key=key)
        self.d_steps = d_steps
        self.generator_cost = generator_cost
        self.label_smoothing = label_smoothing
        self.instance_noise = instance_noise
        self.couples_examples = batches.couples_examples(discriminator)  # as batch norm does: see `batches`
        takes_logits = type(self).d_loss is VanillaGAN.d_loss  # the loss of a subclass may take something else
        self._image_shape: tuple[int, ...] | None = None  # of a generated image
        self._first_step_checks = FirstStepChecks(type(self).__name__, discriminator, takes_logits)

    def step(self, real: npt.ArrayLike) -> Stats:
        """One round of Algorithm 1.

        real: (d_steps * N, ...) images in [-1, 1], N for each update of the discriminator. Anything that `np.asarray` takes,
        a Tensor or one of PyTorch's tensors; it is converted to the weights' precision.

        Returns the losses and probabilities. Those of the discriminator are means over its updates. Raises an error before
        any weight changes if the images cannot be right (see `FirstStepChecks`).
        """
        images = self._batch(real)
        with use_key(self.keys):  # dropout and instance noise draw from the training's keys too
            stats = self._update_discriminator(images)
            g_loss = self._update_generator(len(images) // self.d_steps)
        self._steps.advance()
        return stats._replace(g_loss=g_loss)

    def _update_discriminator(self, real: Any) -> Stats:
        """Make `d_steps` updates, each on its part of `real`. Returns their mean statistics; the generator's loss is NaN."""
        updates = []
        for batch in split(real, self.d_steps):
            loss, gradients, real_logits, fake_logits = self.d_gradients(batch, self.latent(len(batch)))
            self.d_optimizer.step(gradients)
            d_real, d_fake = (number(mean(sigmoid(as_array(logits)))) for logits in (real_logits, fake_logits))
            updates.append(Stats(number(loss), math.nan, d_real, d_fake))  # (on a GPU `number` returns an array: no waiting)
        return mean_stats(updates)

    def _update_generator(self, n: int) -> Any:
        """Make one update, on n latent vectors. Returns the generator's loss."""
        loss, gradients = self.g_gradients(self.latent(n))
        self.g_optimizer.step(gradients)
        return number(loss)

    def d_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor], Any, Any]:
        """For real images (N, ...) and latent vectors z (M, latent_dim): the discriminator's loss, its gradients in the
        order of `discriminator.parameters()`, and the logits of the real and of the generated images."""
        with override(recording=False, updating=frozenset()):  # no graph, and the running statistics stay as they are
            fake = self.generator(z)
        self._image_shape = fake.shape[1:]
        checks.check_shape(type(self).__name__, real, self._image_shape)
        with override(updating=self.d_modules):  # only the discriminator's running statistics are updated
            loss, real_logits, fake_logits = self.d_loss(self.discriminator, self.discriminator_batch(real, fake))
        return loss, grad(loss, self.d_parameters), real_logits, fake_logits

    def g_gradients(self, z: Any) -> tuple[Tensor, list[Tensor]]:
        """For latent vectors z (N, latent_dim): the generator's loss and its gradients in the order of
        `generator.parameters()`. `grad` goes back through the discriminator, but computes no gradients of its weights."""
        with override(updating=self.g_modules):
            fake = self.generator(z)
            self._first_step_checks.check_generated(fake)
            loss = self.g_loss(self.discriminator(self.with_instance_noise(fake)))
        return loss, grad(loss, self.g_parameters)

    def d_loss(self, discriminator: Callable[[Any], Any], images: batches.DiscriminatorBatch) -> tuple[Tensor, Any, Any]:
        """What the discriminator minimises, for images that `discriminator_batch` returned, and its logits for the real and
        the generated images."""
        logits = batches.logits_of(type(self).__name__, discriminator, images)
        self._first_step_checks.check_logits(logits.returned)
        # With targets of 1 and 0: -mean(log D(x)) - mean(log(1 - D(G(z))))
        loss = logits.cross_entropy(real_target=1.0 - self.label_smoothing, fake_target=0.0)
        return loss, logits.real, logits.fake

    def g_loss(self, logits: Any) -> Tensor:
        """What the generator minimises. logits (N, 1): what the discriminator says of the generated images."""
        loss: Tensor = lookup(GENERATOR_COSTS, type(self).__name__, "generator_cost", self.generator_cost).of_logits(logits)
        return loss

    def discriminator_batch(self, real: Any, fake: Any) -> batches.DiscriminatorBatch:
        """The discriminator's input in an update: real and generated images (N, ...) with instance noise, as one array, or
        as a pair if they must go through it in two passes (see `batches`)."""
        real, fake = self.with_instance_noise(real), self.with_instance_noise(fake)
        return batches.discriminator_batch(real, fake, self.couples_examples)

    def with_instance_noise(self, images: Any) -> Any:
        """Images (N, ...) plus instance noise (if there is any), drawn from the key of `use_key`."""
        return noisy(images, self.instance_noise, self._steps)

    def _batch(self, real: Any) -> Any:
        """real as an array on the networks' device. Raises an error if it is not what `step` expects."""
        weight = self.g_parameters[0]
        images = checks.as_batch(real, weight.dtype, self.d_steps)
        if self._image_shape is not None:  # known from the first step on
            checks.check_shape(type(self).__name__, images, self._image_shape)
        self._first_step_checks.check_batch(images, real)
        return moved(images, backend_of(weight.array))


def vanilla_networks(image_shape: tuple[int, int, int] = (1, 28, 28),
                     latent_dim: int = 100) -> tuple[nn.Sequential, nn.Sequential]:
    """The generator and the discriminator of the vanilla GAN for images (C, H, W). Both are fully connected, with leaky
    ReLU 0.2. The generator ends in tanh, the discriminator in one logit."""
    pixels = math.prod(image_shape)
    generator = nn.Sequential(
        nn.Dense(latent_dim, 256), nn.LeakyReLU(0.2),
        nn.Dense(256, 512), nn.LeakyReLU(0.2),
        nn.Dense(512, 1024), nn.LeakyReLU(0.2),
        nn.Dense(1024, pixels), nn.Tanh(),
        nn.Reshape(*image_shape),
    )
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Dense(pixels, 512), nn.LeakyReLU(0.2),
        nn.Dense(512, 256), nn.LeakyReLU(0.2),
        nn.Dense(256, 1),
    )
    return generator, discriminator
