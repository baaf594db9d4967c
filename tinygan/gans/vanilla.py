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
from tinygan.distributed.world import World
from tinygan.gans import batches, checks
from tinygan.gans.costs import COSTS, Cost, check_cost, check_loss, check_pairs
from tinygan.gans.first_step import FirstStepChecks
from tinygan.gans.gan import GAN
from tinygan.gans.instance_noise import check_deviation, noisy
from tinygan.gans.penalties import (
    Weights,
    check_penalties,
    lies_apart,
    logits_with_slopes,
    penalties_of,
    total,
    watched,
)
from tinygan.gans.scheduled import now
from tinygan.gans.stats import Stats, mean_stats, mean_stats_over_ranks, number
from tinygan.graph import grad
from tinygan.ops import mean, sigmoid, split
from tinygan.ops.ranks import means_over_ranks
from tinygan.optim import Optimizer, Schedule
from tinygan.random import Key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, as_array


class VanillaGAN(GAN):
    """Algorithm 1: `d_steps` updates of the discriminator, each on new noise and new data, then one update of the
    generator on new noise.

    cost: what the two players minimise, one of `costs.COSTS`:
        "minimax"             the discriminator D = sigmoid(logits) minimises -mean(log D(x)) - mean(log(1 - D(G(z)))); the
                              generator mean(log(1 - D(G(z)))), whose gradient vanishes where the discriminator is sure
        "non-saturating"      the same discriminator; the generator minimises -mean(log D(G(z)))
        "maximum-likelihood"  the same discriminator; the generator minimises -mean(D(G(z)) / (1 - D(G(z)))): maximum
                              likelihood, for an optimal discriminator
        "least-squares"       distances to the targets 1 (real) and 0 (LSGAN)
        "wasserstein"         a critic's mean scores; it needs a penalty, such as {"gradient-penalty": 10.0}
        "hinge"               scores are moved beyond 1 (real) and -1
        "relativistic"        each real image's score is compared with that of one generated image (RpGAN)
    penalties: names of `penalties.PENALTIES` ("gradient-penalty", "r1", "r2") with weights. They are added to what the
    discriminator minimises, in every update. A weight is a number of at least 0, or a function of the number of steps made,
    such as a schedule of `optim`. The discriminator must not couple the images of a batch, as batch norm does.
    label_smoothing: the target of real images is 1 - label_smoothing, that of generated images stays 0 (one-sided; Salimans
    et al. 2016, section 3.4). Only a cost with targets has it. instance_noise: the standard deviation of normal noise that
    is added to all images before the discriminator sees them (see `instance_noise.py`). It is a number or a schedule, as the
    weight of a penalty. The other arguments are those of GAN.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int | None, *, d_steps: int = 1,
                 cost: str = "non-saturating", penalties: Weights | None = None, noise: str = "normal",
                 label_smoothing: float = 0.0, instance_noise: float | Schedule = 0.0, g_optimizer: Optimizer | None = None,
                 d_optimizer: Optimizer | None = None, ema: float | Schedule | None = None, key: Key | None = None,
                 world: World | None = None) -> None:
        game = lookup(COSTS, "VanillaGAN", "cost", cost)
        if not isinstance(d_steps, int) or d_steps < 1:
            raise ValueError(f"VanillaGAN: d_steps should be at least 1, got {d_steps}")
        check_cost("VanillaGAN", game, label_smoothing)
        check_deviation("VanillaGAN", instance_noise)
        checks.check_players(generator, discriminator, latent_dim, g_optimizer, d_optimizer, self.translates)
        check_penalties("VanillaGAN", penalties, discriminator)
        super().__init__(generator, discriminator, latent_dim, noise=noise, g_optimizer=g_optimizer,
                         d_optimizer=d_optimizer, ema=ema, key=key, world=world)
        self.d_steps = d_steps
        self.cost = cost
        self.penalties = dict(penalties or {})
        self.label_smoothing = label_smoothing
        self.instance_noise = instance_noise
        self.couples_examples = batches.couples_examples(discriminator)  # as batch norm does: see `batches`
        takes_logits = type(self).d_loss is VanillaGAN.d_loss  # the loss of a subclass may take something else
        self._image_shape: tuple[int, ...] | None = None  # of a generated image
        self._first_step_checks = FirstStepChecks(type(self).__name__, discriminator, game if takes_logits else None)

    def step(self, real: npt.ArrayLike) -> Stats:
        """One round of Algorithm 1.

        real: (d_steps * N, ...) images in [-1, 1], N for each update of the discriminator. Anything that `np.asarray` takes,
        a Tensor or one of PyTorch's tensors; it is converted to the weights' precision.

        Returns the losses and mean outputs of the discriminator (see `Stats`). Those of the discriminator are means over its
        updates. Raises an error before any weight changes if the images cannot be right (see `FirstStepChecks`).
        """
        return self._round(self._batch(real))

    def _round(self, images: Any, *conditions: Any) -> Stats:
        """All updates of a step. images (d_steps * N, ...); conditions: arrays as long, if the GAN is told something of each
        image, such as its label."""
        n = len(images) // self.d_steps
        with self.in_step(n):
            stats = self._update_discriminator(images, *conditions)
            g_loss = self._update_generator(images[-n:], *[condition[-n:] for condition in conditions])
            stats = mean_stats_over_ranks(stats._replace(g_loss=g_loss))
        self.end_step()
        return stats

    def _update_discriminator(self, real: Any, *conditions: Any) -> Stats:
        """Make `d_steps` updates, each on its part of `real`. Returns their mean statistics; the generator's loss is NaN."""
        updates, log_odds = [], self._game().log_odds
        for batch, *given in zip(*[split(part, self.d_steps) for part in (real, *conditions)], strict=True):
            loss, gradients, real_logits, fake_logits = self.d_gradients(batch, self._inputs(batch, *given))
            self.d_optimizer.step(means_over_ranks(gradients))
            outputs = map(as_array, (real_logits, fake_logits))
            d_real, d_fake = (number(mean(sigmoid(output) if log_odds else output)) for output in outputs)
            updates.append(Stats(number(loss), math.nan, d_real, d_fake))  # (on a GPU `number` returns an array: no waiting)
        return mean_stats(updates)

    def _inputs(self, real: Any, *conditions: Any) -> Any:
        """What the generator gets in an update on the images `real` (N, ...): N new latent vectors."""
        return self.latent(len(real))

    def _update_generator(self, real: Any, *conditions: Any) -> Any:
        """Make one update, on N latent vectors and, if it compares them, the N real images. Returns the loss."""
        compared = (real,) if self.compares_images else ()
        loss, gradients = self.g_gradients(self._inputs(real, *conditions), *compared)
        self.g_optimizer.step(means_over_ranks(gradients))
        return number(loss)

    def d_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor], Any, Any]:
        """For real images (N, ...) and latent vectors z (M, latent_dim): the discriminator's loss, its gradients in the
        order of `discriminator.parameters()`, and the logits of the real and of the generated images."""
        with override(recording=False, updating=frozenset()):  # no graph, and the running statistics stay as they are
            fake = self.generator(z)
        self._image_shape = fake.shape[1:]
        checks.check_shape(type(self).__name__, real, self._image_shape)
        with override(updating=self.d_modules):  # only the discriminator's running statistics are updated
            loss, real_logits, fake_logits = self.d_loss(self.judge(z), self.discriminator_batch(real, fake))
        return loss, grad(loss, self.d_parameters), real_logits, fake_logits

    def g_gradients(self, z: Any, real: Any = None) -> tuple[Tensor, list[Tensor]]:
        """For latent vectors z (N, latent_dim): the generator's loss and its gradients in the order of
        `generator.parameters()`. `grad` goes back through the discriminator, but computes no gradients of its weights.
        real (N, ...): real images, for a cost that pairs images."""
        with override(updating=self.g_modules):
            fake = self.generator(z)
            self._first_step_checks.check_generated(fake)
            judge = self.judge(z)
            compared = (self._scores_of(real, fake, judge),) if self._game().pairs else ()
            loss = self.g_loss(judge(self.with_instance_noise(fake)), *compared)
        return loss, grad(loss, self.g_parameters)

    def judge(self, z: Any) -> Callable[[Any], Any]:
        """The discriminator, as a function of images alone, in an update on the generator's inputs z: one that is told more
        than the images finds it in z."""
        return self.discriminator

    def _scores_of(self, real: Any, fake: Any, discriminator: Callable[[Any], Any]) -> Any:
        """A discriminator's outputs for real images. They do not depend on the generator, so there is no graph."""
        caller, what = type(self).__name__, f"the cost {self.cost!r}"
        if real is None:
            raise ValueError(f"{caller}: {what} compares generated images with real ones: give g_gradients real images too")
        check_pairs(caller, what, real, fake)
        with override(recording=False, updating=frozenset()):
            return discriminator(self.with_instance_noise(real))

    def d_loss(self, discriminator: Callable[[Any], Any], images: batches.DiscriminatorBatch) -> tuple[Tensor, Any, Any]:
        """What the discriminator minimises, penalties included, for images that `discriminator_batch` returned, and arrays
        of its logits for the real and the generated images."""
        caller, game = type(self).__name__, self._game()
        weighted = penalties_of(caller, self.penalties)
        images = watched(images, weighted)
        logits = batches.logits_of(caller, discriminator, images)
        self._first_step_checks.check_logits(logits)
        if game.pairs:
            check_pairs(caller, f"the cost {game.name!r}", logits.real, logits.fake)
        logits, slopes = logits_with_slopes(images, logits, weighted)
        loss = game.d_loss(logits, 1.0 - self.label_smoothing)
        check_loss(caller, game, "d_loss", loss)
        if weighted:
            weights = [(penalty, now(weight, self._steps, loss)) for penalty, weight in weighted]
            loss = loss + total(caller, weights, discriminator, images, logits, slopes)
        return loss, *logits.arrays()

    def g_loss(self, logits: Any, real_logits: Any = None) -> Tensor:
        """What the generator minimises. logits (N, 1): what the discriminator says of the generated images; real_logits: of
        the real images, if the cost pairs images."""
        game = self._game()
        try:
            loss: Tensor = game.g_loss(logits, real_logits)
        except Exception as error:
            if not game.pairs:
                error.add_note(f"(in g_loss of the cost {game.name!r}; it gets no `real`, because it has pairs=False)")
            raise
        check_loss(type(self).__name__, game, "g_loss", loss)
        return loss

    @property
    def compares_images(self) -> bool:
        """Whether `g_gradients` needs real images: so it is if the cost pairs images. A game of your own may say so too."""
        return self._game().pairs

    def _game(self) -> Cost:
        return lookup(COSTS, type(self).__name__, "cost", self.cost)

    def discriminator_batch(self, real: Any, fake: Any) -> batches.DiscriminatorBatch:
        """The discriminator's input in an update: real and generated images (N, ...) with instance noise, as one array, or
        as a pair if they must go through it in two passes (see `batches`), or if that is faster (`penalties.lies_apart`)."""
        real, fake = self.with_instance_noise(real), self.with_instance_noise(fake)
        apart = self.couples_examples or lies_apart(penalties_of(type(self).__name__, self.penalties))
        return batches.discriminator_batch(real, fake, apart)

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
