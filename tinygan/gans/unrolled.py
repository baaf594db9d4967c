"""The unrolled GAN (Metz, Poole, Pfau, Sohl-Dickstein 2017, "Unrolled generative adversarial networks").

The generator does not play against the discriminator as it is, but against what it would become: with theta_0 the
discriminator's parameters and K updates of its optimiser,
    theta_{k+1} = theta_k - step(gradient of the discriminator's loss at theta_k),
the generator minimises its cost at theta_K, which depends on the generated images directly and through every theta_k
(section 2.3, equations 7 to 9).

Recorded as it stands, that is a graph as deep as K training steps. `Unrolling.rematerialized` keeps no graph: it goes
forward storing each step's parameters and optimiser state, and then back step by step, recording one at a time (as
`checkpoint` does it). Memory: one step's graph and K sets of parameters and moments.
"""
from __future__ import annotations

__all__ = ["UnrolledGAN", "Unrolling"]

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygan import nn
from tinygan.backends import Array
from tinygan.context import override
from tinygan.fusion import as_function
from tinygan.gans.gan import Stats
from tinygan.gans.vanilla import VanillaGAN, _number
from tinygan.graph import Leaf, grad
from tinygan.optim import Optimizer
from tinygan.random import KeyStream, use_key
from tinygan.tensor import Tensor, wrap

ORDERS = ("discriminator-first", "generator-first", "simultaneous")


Parameters = list[Tensor]
"""Of a discriminator, as `fusion.as_function` takes them: one by one, or all in one Tensor."""

Loss = Callable[[Parameters, Any], Tensor]
"""What a player minimises, as a function of the discriminator's parameters and of images."""


class Unrolling(NamedTuple):
    """`steps` updates of a discriminator by its optimiser, from where that stands, and the generator's loss at their end.

    A discriminator that is on its way is a point: one array of all its parameters and its optimiser's slots (see
    `Optimizer.pack`). judged: from the generated images to those of d_loss, real ones and all; those of g_loss are the
    generated images themselves. parameters: from a point to what the losses take. truncate: the generator's gradient goes
    back through the last so many steps only, and takes what comes before for constant (biased; Shaban et al. 2019).
    """

    d_loss: Loss
    g_loss: Loss
    judged: Callable[[Any], Any]
    parameters: Callable[[Any], Parameters]
    optimizer: Optimizer
    steps: int
    truncate: int

    def advance(self, point: Any, judged: Any, step: int) -> Tensor:
        """One update of the discriminator; recorded, so that it can be differentiated."""
        parameters = self.parameters(point)
        gradients = grad(self.d_loss(parameters, judged), parameters, create_graph=True)
        return self.optimizer.advance(point, gradients, self.optimizer.count + step)

    def advance_array(self, point: Array, judged: Any, step: int) -> Array:
        """The same without a graph."""
        parameters = [wrap(values, Leaf()) for values in self.parameters(point)]
        gradients = grad(self.d_loss(parameters, judged), parameters)
        return self.optimizer.advance(point, [g.array for g in gradients], self.optimizer.count + step)

    def rematerialized(self, fake: Array) -> tuple[Tensor, Array]:
        """The generator's loss, and its gradient by the generated images; exact, with the memory of one step."""
        points, judged = [self.optimizer.pack()], self.judged(fake)
        for step in range(self.steps):
            points.append(self.advance_array(points[-1], judged, step))
            del points[:-1 - self.truncate]  # it goes back no farther
        del judged
        last, images = wrap(points.pop(), Leaf()), wrap(fake, Leaf())
        loss = self.g_loss(self.parameters(last), images)
        cotangent, by_images = (g.array for g in grad(loss, [last, images]))
        del last, images
        for step in reversed(range(self.steps - self.truncate, self.steps)):
            point, images = wrap(points.pop(), Leaf()), wrap(fake, Leaf())
            after = self.advance(point, self.judged(images), step)
            cotangent, more = (g.array for g in grad(after, [point, images], cotangent))
            by_images = by_images + more
            del after, point, images, more  # the next step's graph takes this one's memory
        return loss.detach(), by_images

    def recorded(self, fake: Tensor) -> Tensor:
        """The generator's loss with the graph of all steps behind it: memory grows with them."""
        point: Any = self.optimizer.pack()
        constant = self.steps - self.truncate
        if constant:
            judged = self.judged(fake.array)
            for step in range(constant):
                point = self.advance_array(point, judged, step)
        point, judged = wrap(point, Leaf()), self.judged(fake)
        for step in range(constant, self.steps):
            point = self.advance(point, judged, step)
        return self.g_loss(self.parameters(point), fake)


class UnrolledGAN(VanillaGAN):
    """Algorithm 1, but the generator's gradient looks `unroll_steps` (K) of the discriminator's updates ahead.

    Those updates are the discriminator's own, with its optimiser's moments and count as they stand; they see the
    minibatch and the latent vectors of this update and the same dropout, and leave no trace: the discriminator then makes
    its one ordinary update, and running statistics do not move.

    generator_cost: "minimax" is the paper's. order: whose update comes first ("discriminator-first" as in Algorithm 1), or
    "simultaneous", both from where the players stood. truncate: see `Unrolling`. rematerialize: False records all K
    steps, which is faster while it fits into memory. The other arguments are VanillaGAN's.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, unroll_steps: int = 5,
                 truncate: int | None = None, order: str = "discriminator-first", rematerialize: bool = True,
                 generator_cost: str = "minimax", **settings: Any) -> None:
        if not isinstance(unroll_steps, int | np.integer) or unroll_steps < 0:
            raise ValueError(f"UnrolledGAN: unroll_steps should be 0 or more, got {unroll_steps}")
        if truncate is not None and not (isinstance(truncate, int | np.integer) and 0 <= truncate <= unroll_steps):
            raise ValueError(f"UnrolledGAN: truncate should be from 0 to unroll_steps ({unroll_steps}), got {truncate}")
        if order not in ORDERS:
            raise ValueError(f"UnrolledGAN: unknown order {order!r}, expected one of {', '.join(ORDERS)}")
        super().__init__(generator, discriminator, latent_dim, generator_cost=generator_cost, **settings)
        self.unroll_steps = unroll_steps
        self.truncate = truncate
        self.order = order
        self.rematerialize = rematerialize

    def step(self, real: Any) -> Stats:
        """One round: `d_steps` updates of the discriminator and one of the generator, in the order chosen. real: as for
        `VanillaGAN.step`; the generator's look ahead sees the last N of them."""
        real = self._checked(real)
        n = len(real) // self.d_steps
        with use_key(self.keys):
            stats = self._update_discriminator(real) if self.order == "discriminator-first" else None
            loss, gradients = self.unrolled_gradients(real[-n:], self.latent(n))
            if self.order == "generator-first":
                self.g_optimizer.step(gradients)
            stats = stats or self._update_discriminator(real)
            if self.order != "generator-first":
                self.g_optimizer.step(gradients)
        self._counted()
        return stats._replace(g_loss=_number(loss))

    def unrolled_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor]]:
        """The generator's loss and its gradients in the order of `generator.parameters()`, for the real images (N, ...) that
        the discriminator's steps ahead see, and latent vectors z (N, latent_dim)."""
        with override(updating=self.g_identities):
            fake = self.generator(z)
        self._check_generator(fake)
        ahead = self.look_ahead(real)
        if self.rematerialize:
            loss, by_images = ahead.rematerialized(fake.array)
            return loss, grad(fake, self.g_parameters, by_images)
        loss = ahead.recorded(fake)
        return loss.detach(), grad(loss, self.g_parameters)

    def look_ahead(self, real: Any) -> Unrolling:
        """The discriminator's next `unroll_steps` updates as they would be on these real images (N, ...): what
        `unrolled_gradients` goes through. Its dropout is drawn here, once; running statistics do not move."""
        draws = self.keys.next_key()
        discriminator = as_function(self.discriminator)

        def judged(images: Any) -> Any:
            with use_key(KeyStream(draws.fold("d"))):
                return self.judged(real, images)

        def d_loss(parameters: Parameters, images: Any) -> Tensor:
            with use_key(KeyStream(draws)), override(updating=frozenset()):
                return self.d_loss(discriminator(parameters), images)[0]

        def g_loss(parameters: Parameters, images: Any) -> Tensor:
            with use_key(KeyStream(draws.fold("g"))):
                seen = self.seen(images)
            with use_key(KeyStream(draws)), override(updating=frozenset()):
                return self.g_loss(discriminator(parameters)(seen))

        return Unrolling(d_loss, g_loss, judged, discriminator.parameters, self.d_optimizer, self.unroll_steps,
                         self.unroll_steps if self.truncate is None else self.truncate)
