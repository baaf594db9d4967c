"""The unrolled GAN (Metz, Poole, Pfau, Sohl-Dickstein 2017, "Unrolled generative adversarial networks").

The generator does not play against the discriminator as it is, but against what it would become: with theta_0 the
discriminator's parameters and K updates of its optimiser,
    theta_{k+1} = theta_k - step(gradient of the discriminator's loss at theta_k),
the generator minimises its cost at theta_K, which depends on the generated images directly and through every theta_k
(section 2.3, equations 7 to 9).

Recorded as it stands, that is a graph as deep as K training steps. `unroll` keeps no graph: it goes forward storing each
step's parameters and optimiser state, and then back step by step, recording one at a time (rematerialisation, as
`checkpoint` does it). Memory: one step's graph and K sets of parameters and moments.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygan import nn
from tinygan.backends import Array
from tinygan.context import override
from tinygan.gans.gan import Stats
from tinygan.gans.vanilla import VanillaGAN
from tinygan.graph import Leaf, grad
from tinygan.optim import Optimizer, State
from tinygan.random import KeyStream, use_key
from tinygan.tensor import Tensor, as_array, wrap

ORDERS = ("discriminator-first", "generator-first", "simultaneous")


class Point(NamedTuple):
    """Where the discriminator stands: its parameters and its optimiser's state, as arrays or as Tensors."""

    parameters: list[Any]
    state: State

    def values(self) -> list[Any]:
        """All of them in one list, and back again with `like`."""
        return [*self.parameters, *(array for slot in self.state.slots.values() for array in slot)]

    def like(self, values: Sequence[Any]) -> Point:
        """The same point with other values."""
        n = len(self.parameters)
        slots = {name: list(values[n * i:n * (i + 1)]) for i, name in enumerate(self.state.slots, start=1)}
        return Point(list(values[:n]), State(self.state.updates, slots))


Loss = Callable[[list[Tensor], Any], Tensor]
"""What a player minimises, as a function of the discriminator's parameters and the generated images."""


def unroll(d_loss: Loss, g_loss: Loss, optimizer: Optimizer, start: Point, fake: Array, steps: int,
           truncate: int | None = None) -> tuple[Tensor, Array]:
    """The generator's loss against the discriminator `steps` updates further on, and its gradient by the generated images
    `fake`.

    Exact, with the memory of one step. truncate: go back through the last so many steps only, and take what comes before
    for constant (biased; Shaban et al. 2019). start: arrays, which are not written to.
    """
    points = [start]
    for _ in range(steps):
        point = points[-1]
        leaves = _leaves(point.parameters)
        gradients = grad(d_loss(leaves, fake), leaves)
        points.append(Point(*optimizer.updated(point.parameters, [g.array for g in gradients], point.state)))
    leaves, images = _leaves(points.pop().parameters), wrap(fake, Leaf())
    loss = g_loss(leaves, images)
    *cotangents, by_images = [g.array for g in grad(loss, [*leaves, images])]
    for _ in range(steps if truncate is None else truncate):
        point = points.pop()
        images = wrap(fake, Leaf())
        leaves = _leaves(point.values())
        after = advance(d_loss, optimizer, point.like(leaves), images).values()
        # The generator's loss does not look at the last moments, so at first there are cotangents of parameters alone.
        found = grad(after[:len(cotangents)], [*leaves, images], cotangents)
        *cotangents, more = [g.array for g in found]
        by_images = by_images + more
        del after, found, leaves, images  # the next step's graph takes this one's memory
    return loss.detach(), by_images


def unroll_recorded(d_loss: Loss, g_loss: Loss, optimizer: Optimizer, start: Point, fake: Tensor, steps: int,
                    truncate: int | None = None) -> Tensor:
    """The generator's loss of `unroll` as a Tensor, recorded through all the steps: memory grows with them."""
    point, constant = start, steps - (steps if truncate is None else truncate)
    for i in range(steps):
        if i <= constant:
            point = point.like(_leaves(map(as_array, point.values())))
        point = advance(d_loss, optimizer, point, fake if i >= constant else fake.detach())
    return g_loss(point.parameters if constant < steps else _leaves(map(as_array, point.parameters)), fake)


def advance(d_loss: Loss, optimizer: Optimizer, point: Point, fake: Any) -> Point:
    """One update of the discriminator, recorded, so that it can be differentiated."""
    gradients = grad(d_loss(point.parameters, fake), point.parameters, create_graph=True)
    return Point(*optimizer.update(point.parameters, gradients, point.state))


def _leaves(values: Any) -> list[Tensor]:
    return [wrap(value, Leaf()) for value in values]


class UnrolledGAN(VanillaGAN):
    """Algorithm 1, but the generator's gradient looks `unroll_steps` (K) of the discriminator's updates ahead.

    Those updates are the discriminator's own, with its optimiser's moments and count as they stand; they see the
    minibatch and the latent vectors of this update and the same dropout, and leave no trace: the discriminator then makes
    its one ordinary update, and running statistics do not move.

    generator_cost: "minimax" is the paper's. order: whose update comes first ("discriminator-first" as in Algorithm 1), or
    "simultaneous", both from where the players stood. truncate: see `unroll`. rematerialize: False records all K
    steps, which is faster while it fits into memory. The other arguments are VanillaGAN's.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, unroll_steps: int = 5,
                 truncate: int | None = None, order: str = "discriminator-first", rematerialize: bool = True,
                 generator_cost: str = "minimax", **settings: Any) -> None:
        if not isinstance(unroll_steps, int) or unroll_steps < 0:
            raise ValueError(f"UnrolledGAN: unroll_steps should be 0 or more, got {unroll_steps}")
        if truncate is not None and not 0 <= truncate <= unroll_steps:
            raise ValueError(f"UnrolledGAN: truncate should be from 0 to unroll_steps ({unroll_steps}), got {truncate}")
        if order not in ORDERS:
            raise ValueError(f"UnrolledGAN: unknown order {order!r}, expected one of {', '.join(ORDERS)}")
        super().__init__(generator, discriminator, latent_dim, generator_cost=generator_cost, **settings)
        self.unroll_steps = unroll_steps
        self.truncate = truncate
        self.order = order
        self.rematerialize = rematerialize
        self._paths = [path for path, _ in discriminator.named_parameters()]

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
        self.steps += 1
        return stats._replace(g_loss=loss.item())

    def unrolled_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor]]:
        """The generator's loss and its gradients in the order of `generator.parameters()`, for the real images (N, ...) that
        the discriminator's steps ahead see, and latent vectors z (N, latent_dim)."""
        with override(updating=self.g_identities):
            fake = self.generator(z)
        draws = self.keys.next_key()

        def discriminator(parameters: list[Tensor]) -> nn.Module:
            return nn.with_parameters(self.discriminator, dict(zip(self._paths, parameters, strict=True)))

        def d_loss(parameters: list[Tensor], images: Any) -> Tensor:
            with use_key(KeyStream(draws)):
                return self.d_loss(discriminator(parameters), real, images)[0]

        def g_loss(parameters: list[Tensor], images: Any) -> Tensor:
            with use_key(KeyStream(draws)):
                return self.g_loss(discriminator(parameters)(images))

        start = Point([p.array for p in self.d_parameters], self.d_optimizer.state())
        ahead = self.unroll_steps, self.truncate
        with override(updating=frozenset()):
            if self.rematerialize:
                loss, by_images = unroll(d_loss, g_loss, self.d_optimizer, start, fake.array, *ahead)
                return loss, grad(fake, self.g_parameters, by_images)
            loss = unroll_recorded(d_loss, g_loss, self.d_optimizer, start, fake, *ahead)
            return loss.detach(), grad(loss, self.g_parameters)
