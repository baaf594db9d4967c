"""The original GAN (Goodfellow et al. 2014, "Generative adversarial nets", Algorithm 1)."""
from __future__ import annotations

__all__ = ["VanillaGAN", "vanilla_networks"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygan import nn
from tinygan.backends import backend_of, cpu
from tinygan.context import override
from tinygan.devices import moved
from tinygan.gans import checks
from tinygan.gans.gan import GAN, Stats
from tinygan.graph import grad
from tinygan.listening import is_recording_step
from tinygan.ops import add, binary_cross_entropy_with_logits, concatenate, exp, mean, mul, neg, sigmoid, split
from tinygan.optim import Optimizer, Schedule
from tinygan.random import Key, next_key, use_key
from tinygan.tensor import Tensor, as_array

GENERATOR_COSTS = ("minimax", "non-saturating", "maximum-likelihood")


class VanillaGAN(GAN):
    """Algorithm 1: `d_steps` updates of the discriminator, each on fresh noise and fresh data, then one of the
    generator on fresh noise.

    The discriminator minimises -mean(log D(x)) - mean(log(1 - D(G(z)))), D = sigmoid(logits). generator_cost is what
    the generator minimises (Goodfellow, "NIPS 2016 tutorial", section 3.2), l = logits of G(z):
        "minimax"             mean(log(1 - D)) = -mean(softplus(l)): vanishes where the discriminator is sure
        "non-saturating"      -mean(log D) = mean(softplus(-l))
        "maximum-likelihood"  -mean(exp(l)) = -mean(D / (1 - D)), which is maximum likelihood for an optimal D
    label_smoothing: real images' target is 1 - label_smoothing, generated ones' stays 0 (one-sided; Salimans et al.
    2016, section 3.4). instance_noise: the standard deviation of normal noise in all images that the discriminator sees,
    real and generated ones, so that the two overlap (Sønderby et al. 2017, "Amortised MAP inference for image
    super-resolution"; Arjovsky, Bottou 2017): a number, or a function of the steps made, such as the schedules of `optim`.
    The other arguments are GAN's.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, d_steps: int = 1,
                 generator_cost: str = "non-saturating", noise: str = "normal", label_smoothing: float = 0.0,
                 instance_noise: float | Schedule = 0.0, g_optimizer: Optimizer | None = None,
                 d_optimizer: Optimizer | None = None, key: Key | None = None) -> None:
        if generator_cost not in GENERATOR_COSTS:
            raise ValueError(f"VanillaGAN: unknown generator_cost {generator_cost!r}, expected one of "
                             f"{', '.join(GENERATOR_COSTS)}")
        if not isinstance(d_steps, int) or d_steps < 1:
            raise ValueError(f"VanillaGAN: d_steps should be at least 1, got {d_steps}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"VanillaGAN: label_smoothing should be in [0, 1), got {label_smoothing}")
        if not callable(instance_noise) and not instance_noise >= 0:
            raise ValueError(f"VanillaGAN: instance_noise should not be negative, got {instance_noise}")
        super().__init__(generator, discriminator, latent_dim, noise=noise, g_optimizer=g_optimizer,
                         d_optimizer=d_optimizer, key=key)
        self.d_steps = d_steps
        self.couples_examples = any(module.couples_examples for _, module in discriminator.named_modules())
        self.generator_cost = generator_cost
        self.label_smoothing = label_smoothing
        self.instance_noise = instance_noise
        # What is looked at once: the discriminator's end, here and at the first step, the first batch, the generator's end.
        self._judge_known = type(self).d_loss is not VanillaGAN.d_loss or checks.check_discriminator(
            type(self).__name__, checks.end_of_network(discriminator))
        self._seen_data = False
        self._first_range: tuple[float, float] | None = None

    def step(self, real: Any) -> Stats:
        """One round of Algorithm 1. real: (d_steps * N, ...) images in [-1, 1], N for each discriminator update: whatever
        `np.asarray` takes, Tensors, PyTorch's tensors. What has another precision than the weights is converted.

        The statistics of the discriminator are means over its updates. Refused before any weight changes: bytes, and at
        the first step values beyond `checks.LIMIT` (images of 0 to 255, which no tanh makes); NaN and infinity, always in
        a batch on the CPU, at the first step alone in one on a GPU, which would have to be waited for. At the first step
        a generator that cannot make such images is warned of.
        """
        real = self._checked(real)
        with use_key(self.keys):
            stats = self._update_discriminator(real)
            loss, gradients = self.g_gradients(self.latent(len(real) // self.d_steps))
            self.g_optimizer.step(gradients)
        self._counted()
        return stats._replace(g_loss=_number(loss))

    def _checked(self, real: Any) -> Any:
        """real as an array beside the networks, if it is what `step` expects."""
        weight = self.g_parameters[0]
        if not (type(real) is np.ndarray and real.dtype == weight.dtype):
            real = checks.as_images(real, weight.dtype)
        if not real.shape or real.shape[0] % self.d_steps or not real.size:
            raise ValueError(f"step: expected d_steps * N images, got shape {real.shape} for d_steps={self.d_steps}")
        if backend_of(real) is cpu or not (self._seen_data or is_recording_step()):
            low, high = checks.finite_range(real)
            if not self._seen_data:
                checks.check_range(low, high)
                self._seen_data, self._first_range = True, (low, high)
        return moved(real, backend_of(weight.array))

    def _update_discriminator(self, real: Any) -> Stats:
        """`d_steps` updates, each on its part of `real`; their mean statistics (without a generator's loss)."""
        every = []
        for batch in split(real, self.d_steps):
            loss, gradients, real_logits, fake_logits = self.d_gradients(batch, self.latent(len(batch)))
            self.d_optimizer.step(gradients)
            every.append((_number(loss), _number(mean(sigmoid(as_array(real_logits)))),
                          _number(mean(sigmoid(as_array(fake_logits))))))
        d_loss, d_real, d_fake = (_mean_of(values) for values in zip(*every, strict=True))
        return Stats(d_loss, math.nan, d_real, d_fake)

    def d_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor], Any, Any]:
        """The discriminator's loss and its gradients in the order of `discriminator.parameters()`, for real images
        (N, ...) and latent vectors z (M, latent_dim); then the logits of the real and of the generated images."""
        with override(recording=False, updating=frozenset()):
            fake = self.generator(z)
        if real.shape[1:] != fake.shape[1:]:
            raise ValueError(f"{type(self).__name__}: the images have shape {real.shape[1:]}, the generator makes "
                             f"{fake.shape[1:]}")
        with override(updating=self.d_identities):
            loss, real_logits, fake_logits = self.d_loss(self.discriminator, self.judged(real, fake))
        return loss, grad(loss, self.d_parameters), real_logits, fake_logits

    def judged(self, real: Any, fake: Any) -> Any:
        """What the discriminator judges in an update, made of real and generated images (N, ...): both in one array, real
        ones first, so that it reads and differentiates its weights once; or a pair, where the images of a batch depend on
        each other."""
        real, fake = self.seen(real), self.seen(fake)
        if self.couples_examples or fake.shape[0] != real.shape[0]:
            return real, fake
        return concatenate([real, fake])

    def d_loss(self, discriminator: Callable[[Any], Any], images: Any) -> tuple[Tensor, Any, Any]:
        """What a discriminator minimises, for images as `judged` makes them; and its logits for real and generated ones."""
        label = 1.0 - self.label_smoothing
        if isinstance(images, tuple):
            real_logits, fake_logits = (discriminator(half) for half in images)
            self._check_logits(real_logits, images[0].shape[0])
            loss = binary_cross_entropy_with_logits(real_logits, label) + binary_cross_entropy_with_logits(fake_logits, 0.0)
            return loss, real_logits, fake_logits
        n = images.shape[0] // 2
        logits = discriminator(images)
        self._check_logits(logits, 2 * n)
        targets = backend_of(as_array(logits)).xp.zeros(logits.shape, logits.dtype)
        targets[:n] = label
        loss = binary_cross_entropy_with_logits(logits, targets, 2.0)  # the mean over both halves, twice: their sum
        return loss, as_array(logits)[:n], as_array(logits)[n:]

    def seen(self, images: Any) -> Any:
        """What the discriminator sees of images (N, ...): with instance noise, drawn from the context's key."""
        schedule, backend = self.instance_noise, backend_of(as_array(images))
        deviation: Any = schedule(self.steps) if callable(schedule) else schedule
        if not callable(schedule) and not deviation:
            return images
        key = next_key()  # (whatever the schedule says: a captured step draws at every replay)
        if is_recording_step() and callable(schedule):
            deviation = backend.feed(lambda: np.array(schedule(self.steps), images.dtype))
        elif not deviation:
            return images
        return add(images, mul(key.normal(images.shape, images.dtype, backend=backend), deviation))

    def _check_logits(self, logits: Any, images: int) -> None:
        if logits.size != images:
            raise ValueError(f"{type(self).__name__}: the discriminator should make one logit an image, got shape "
                             f"{logits.shape} for {images} images")
        if not self._judge_known:
            checks.check_discriminator(type(self).__name__, checks.end_of_graph(logits))
            self._judge_known = True

    def g_gradients(self, z: Any) -> tuple[Tensor, list[Tensor]]:
        """The generator's loss and its gradients in the order of `generator.parameters()`, for latent vectors z
        (N, latent_dim). `grad` goes through the discriminator to the images, and never to its weights."""
        with override(updating=self.g_identities):
            fake = self.generator(z)
            self._check_generator(fake)
            loss = self.g_loss(self.discriminator(self.seen(fake)))
        return loss, grad(loss, self.g_parameters)

    def _check_generator(self, fake: Any) -> None:
        """Once, at the first step: whether what the generator ends in can make what the first batch holds."""
        if self._first_range is not None:
            checks.check_generator(type(self).__name__, checks.end_of_graph(fake), *self._first_range)
            self._first_range = None

    def g_loss(self, logits: Any) -> Tensor:
        """What the generator minimises, from the discriminator's logits for its images."""
        if self.generator_cost == "minimax":
            return neg(binary_cross_entropy_with_logits(logits, 0.0))
        if self.generator_cost == "non-saturating":
            return binary_cross_entropy_with_logits(logits, 1.0)
        return neg(mean(exp(logits)))


def _number(value: Any) -> Any:
    """An array of one number as a float; on a GPU as it is, since reading it would wait for the step."""
    array = as_array(value)
    return array if backend_of(array).name != "cpu" else float(array)


def _mean_of(values: Sequence[Any]) -> Any:
    if all(isinstance(value, float) for value in values):
        return math.fsum(values) / len(values)
    return sum(values[1:], values[0]) / len(values)


def vanilla_networks(image_shape: tuple[int, int, int] = (1, 28, 28),
                     latent_dim: int = 100) -> tuple[nn.Sequential, nn.Sequential]:
    """The generator and discriminator of the vanilla GAN for images (C, H, W): fully connected, leaky ReLU 0.2; the
    generator ends in tanh, the discriminator in one logit."""
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
