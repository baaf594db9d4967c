"""The unrolled GAN (Metz, Poole, Pfau, Sohl-Dickstein 2017, "Unrolled generative adversarial networks").

The generator does not play against the discriminator as it is now, but against the discriminator after K more updates. Let
theta_0 be the discriminator's parameters and
    theta_{k+1} = theta_k - step(gradient of the discriminator's loss at theta_k)
an update by its optimiser. The generator minimises its cost at theta_K. This depends on the generated images directly and
through every theta_k (section 2.3, equations 7 to 9).

If all of it is recorded, the graph is as deep as K training steps. `Unrolling.rematerialized` avoids that. It goes forward
without a graph and stores each step's parameters and optimiser state. Then it goes back step by step, and records one step
at a time (as `checkpoint` does). It needs memory for one step's graph and for K sets of parameters and moments.
"""
from __future__ import annotations

__all__ = ["UnrolledGAN", "Unrolling"]

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import Array
from tinygan.context import override
from tinygan.fusion import as_function
from tinygan.gans import batches
from tinygan.gans.arguments import GameArguments
from tinygan.gans.costs import check_pairs
from tinygan.gans.dcgan import dcgan_networks
from tinygan.gans.stats import Stats, mean_stats_over_ranks, number
from tinygan.gans.vanilla import VanillaGAN, vanilla_networks
from tinygan.graph import Leaf, grad
from tinygan.ops.ranks import means_over_ranks
from tinygan.optim import Optimizer
from tinygan.random import KeyStream, use_key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, wrap

NETWORKS = {"dense": vanilla_networks, "dcgan": dcgan_networks}
"""The pairs of networks that `tinygan train unrolled` offers, by name."""


class Act(Enum):
    """One part of a training step. `ORDERS` says in which order the parts come."""

    UPDATE_DISCRIMINATOR = "d_steps updates of the discriminator"
    LOOK_AHEAD = "the generator's gradients, against the discriminator as it would become from here"
    UPDATE_GENERATOR = "the generator's update with those gradients"


ORDERS = {
    "discriminator-first": (Act.UPDATE_DISCRIMINATOR, Act.LOOK_AHEAD, Act.UPDATE_GENERATOR),
    "generator-first": (Act.LOOK_AHEAD, Act.UPDATE_GENERATOR, Act.UPDATE_DISCRIMINATOR),
    "simultaneous": (Act.LOOK_AHEAD, Act.UPDATE_DISCRIMINATOR, Act.UPDATE_GENERATOR),
}
"""The orders by name."""

Parameters = list[Tensor]
"""The parameters of a discriminator, as `fusion.as_function` takes them: one by one, or all in one Tensor."""

Loss = Callable[[Parameters, Any], Tensor]
"""A loss as a function of the discriminator's parameters and of images."""


class Unrolling(NamedTuple):
    """The next `steps` updates that a discriminator's optimiser would make, and the generator's loss after them.

    A point is the state of the discriminator before or after an update: one array of all its parameters and its optimiser's
    slots (see `Optimizer.pack`). parameters: a function that takes the parameters out of a point. d_batch: a function that
    makes, of generated images, the images for d_loss. (g_loss takes the generated images themselves.) truncate: the
    generator's gradient goes back through the last `truncate` updates only. The updates before count as constants (this is
    biased; Shaban et al. 2019).
    """

    d_loss: Loss
    g_loss: Loss
    d_batch: Callable[[Any], Any]
    parameters: Callable[[Any], Parameters]
    optimizer: Optimizer
    steps: int
    truncate: int

    def advance(self, point: Any, d_batch: Any, step: int) -> Tensor:
        """One update of the discriminator, recorded so that it can be differentiated."""
        parameters = self.parameters(point)
        gradients = means_over_ranks(grad(self.d_loss(parameters, d_batch), parameters, create_graph=True))
        return self.optimizer.advance(point, gradients, self.optimizer.count + step)

    def advance_array(self, point: Array, d_batch: Any, step: int) -> Array:
        """As `advance`, but without a graph."""
        parameters = [wrap(values, Leaf()) for values in self.parameters(point)]
        gradients = [g.array for g in grad(self.d_loss(parameters, d_batch), parameters)]
        return self.optimizer.advance(point, means_over_ranks(gradients), self.optimizer.count + step)

    def rematerialized(self, fake: Array) -> tuple[Tensor, Array]:
        """The generator's loss and its gradient with respect to the generated images. It is exact, and holds the graph of
        only one step at a time."""
        points, d_batch = [self.optimizer.pack()], self.d_batch(fake)
        for step in range(self.steps):
            points.append(self.advance_array(points[-1], d_batch, step))
            del points[:-1 - self.truncate]  # the gradient goes back no further
        del d_batch
        last, images = wrap(points.pop(), Leaf()), wrap(fake, Leaf())
        loss = self.g_loss(self.parameters(last), images)
        cotangent, by_images = (g.array for g in grad(loss, [last, images]))
        del last, images
        for step in reversed(range(self.steps - self.truncate, self.steps)):
            point, images = wrap(points.pop(), Leaf()), wrap(fake, Leaf())
            after = self.advance(point, self.d_batch(images), step)
            cotangent, more = (g.array for g in grad(after, [point, images], cotangent))
            by_images = by_images + more
            del after, point, images, more  # free this step's graph before the next one is recorded
        return loss.detach(), by_images

    def recorded(self, fake: Tensor) -> Tensor:
        """The generator's loss, with the graph of all steps. So memory grows with the number of steps."""
        point: Any = self.optimizer.pack()
        constant = self.steps - self.truncate
        if constant:
            d_batch = self.d_batch(fake.array)
            for step in range(constant):
                point = self.advance_array(point, d_batch, step)
        point, d_batch = wrap(point, Leaf()), self.d_batch(fake)
        for step in range(constant, self.steps):
            point = self.advance(point, d_batch, step)
        return self.g_loss(self.parameters(point), fake)


class UnrolledArguments(GameArguments, total=False):
    """The arguments of VanillaGAN that UnrolledGAN passes on."""

    noise: str


class UnrolledGAN(VanillaGAN):
    """Algorithm 1, but the generator's gradient looks ahead over the discriminator's next `unroll_steps` (K) updates.

    The updates ahead are those that the discriminator's optimiser would make now, with its present moments and count. All K
    of them use the same minibatch, latent vectors and dropout. They are made on a copy: the discriminator's weights and
    running statistics change only in its ordinary update.

    cost: the paper uses "minimax". order: one of `ORDERS`. Either one player is updated first
    ("discriminator-first", as in Algorithm 1, or "generator-first"), or the updates are "simultaneous": both start from the
    same parameters. truncate: see `Unrolling`. rematerialize: False records all K steps at once, which is faster if it fits
    into memory. The other arguments are those of VanillaGAN.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, unroll_steps: int = 5,
                 truncate: int | None = None, order: str = "discriminator-first", rematerialize: bool = True,
                 cost: str = "minimax", **settings: Unpack[UnrolledArguments]) -> None:
        if not isinstance(unroll_steps, int | np.integer) or unroll_steps < 0:
            raise ValueError(f"UnrolledGAN: unroll_steps should be 0 or more, got {unroll_steps}")
        if truncate is not None and not (isinstance(truncate, int | np.integer) and 0 <= truncate <= unroll_steps):
            raise ValueError(f"UnrolledGAN: truncate should be from 0 to unroll_steps ({unroll_steps}), got {truncate}")
        lookup(ORDERS, "UnrolledGAN", "order", order)
        super().__init__(generator, discriminator, latent_dim, cost=cost, **settings)
        self.unroll_steps = unroll_steps
        self.truncate = truncate
        self.order = order
        self.rematerialize = rematerialize

    def step(self, real: npt.ArrayLike) -> Stats:
        """One round: `d_steps` updates of the discriminator and one of the generator, in the chosen order.

        real: as for `VanillaGAN.step`. The updates ahead use the last N images."""
        images = self._batch(real)
        n = len(images) // self.d_steps
        with self.in_step(n):
            for act in lookup(ORDERS, type(self).__name__, "order", self.order):
                if act is Act.UPDATE_DISCRIMINATOR:
                    stats = self._update_discriminator(images)
                elif act is Act.LOOK_AHEAD:
                    loss, gradients = self.unrolled_gradients(images[-n:], self.latent(n))
                else:
                    self.g_optimizer.step(means_over_ranks(gradients))
            stats = mean_stats_over_ranks(stats._replace(g_loss=number(loss)))
        self.end_step()
        return stats

    def unrolled_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor]]:
        """The generator's loss and its gradients in the order of `generator.parameters()`. real (N, ...): the images for the
        updates ahead. z (N, latent_dim): latent vectors."""
        with override(updating=self.g_modules):
            fake = self.generator(z)
        self._first_step_checks.check_generated(fake)
        ahead = self.look_ahead(real)
        if self.rematerialize:
            loss, by_images = ahead.rematerialized(fake.array)
            return loss, grad(fake, self.g_parameters, by_images)
        loss = ahead.recorded(fake)
        return loss.detach(), grad(loss, self.g_parameters)

    def look_ahead(self, real: Any) -> Unrolling:
        """The discriminator's next `unroll_steps` updates, if they were made on these real images (N, ...). Dropout is the
        same in all of them: its key is drawn here. Running statistics are not updated."""
        draws = self.keys.next_key()
        discriminator = as_function(self.discriminator)

        def d_batch(images: Any) -> Any:
            with use_key(KeyStream(draws.fold("d"))):
                return self.discriminator_batch(real, images)

        def d_loss(parameters: Parameters, images: Any) -> Tensor:
            with use_key(KeyStream(draws)), override(updating=frozenset()):
                return self.d_loss(discriminator(parameters), images)[0]

        def g_loss(parameters: Parameters, images: Any) -> Tensor:
            with use_key(KeyStream(draws.fold("g"))):
                noisy = self.with_instance_noise(images)
                compared = self.with_instance_noise(real) if self._game().pairs else None
            with use_key(KeyStream(draws)), override(updating=frozenset()):
                network = discriminator(parameters)
                if compared is None:
                    return self.g_loss(network(noisy))
                check_pairs(type(self).__name__, f"the cost {self.cost!r}", compared, noisy)
                # After the updates ahead, the outputs for the real images depend on the generator too.
                batch = batches.discriminator_batch(compared, noisy, self.couples_examples)
                logits = batches.logits_of(type(self).__name__, network, batch)
                return self.g_loss(logits.fake, logits.real)

        return Unrolling(d_loss, g_loss, d_batch, discriminator.parameters, self.d_optimizer, self.unroll_steps,
                         self.unroll_steps if self.truncate is None else self.truncate)
