"""What the discriminator tells the generator: dL_G/dG(z), for the run's own cost and for three costs side by side."""
from __future__ import annotations

__all__ = ["SIDE_BY_SIDE", "Message", "message", "surface"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import no_grad
from tinygan.gans.batches import couples_examples
from tinygan.gans.costs import COSTS
from tinygan.graph import Leaf, grad
from tinygan.random import Key
from tinygan.runs.labels import takes_labels
from tinygan.tensor import as_array, wrap

from .players import Players, as_update, game, host, on_device

Array = npt.NDArray[Any]

SIDE_BY_SIDE = ("minimax", "non-saturating", "maximum-likelihood")
"""The costs that are compared on the same logits."""

SURFACE = 64
"""Points along a side of the discriminator's surface."""


class Message(NamedTuple):
    """images (N, ...), logits (N,), and gradient (N, ...): the gradient of L_G with respect to the images, where L_G is the
    generator's cost, a mean over these N images. For a cost of log odds, of each cost in `SIDE_BY_SIDE`: slopes (3, N), its
    gradient with respect to the logits, and norms (3, N), the length of its gradient with respect to each image."""

    images: Array
    logits: Array
    gradient: Array
    slopes: Array | None
    norms: Array | None


def message(gan: Any, shown: Players, key: Key) -> Message:
    """What the discriminator tells the generator about the images that it makes now, as in an update. Nothing of the GAN
    changes. key: for dropout and instance noise.

    The cost is the adversarial one: without InfoGAN's information and DiscoGAN's reconstruction errors. An unrolled GAN's
    is taken at the discriminator as it is now, without a look ahead."""
    blurred = getattr(gan, "with_instance_noise", lambda images: images)
    slopes, norms = [], []
    with as_update(key):
        images = wrap(shown.images(), Leaf())
        compared = []
        if game(gan).pairs:
            with no_grad():
                compared.append(shown.judge(blurred(shown.real)))
        logits = shown.judge(blurred(images))
        gradient = grad(gan.g_loss(logits, *compared), images, retain_graph=True)
        if game(gan).log_odds:
            own = None
            if not couples_examples(shown.discriminator):
                # An image's gradient is its slope times the gradient of its own logit: one pass back for all costs.
                ones = backend_of(logits.array).xp.ones_like(logits.array)
                own = lengths(host(grad(logits, images, ones, retain_graph=True)))
            for name in SIDE_BY_SIDE:
                free = wrap(as_array(logits), Leaf())
                slope = grad(COSTS[name].g_loss(free, None), free)
                slopes.append(host(slope).reshape(-1))
                norms.append(lengths(host(grad(logits, images, slope, retain_graph=True))) if own is None
                             else np.abs(slopes[-1], dtype=np.float64) * own)
    return Message(host(images), host(logits).reshape(-1), host(gradient), np.array(slopes) if slopes else None,
                   np.array(norms) if norms else None)


def lengths(gradients: Array) -> Array:
    """The length (N,) of each gradient in (N, ...)."""
    return np.sqrt(np.square(gradients.reshape(len(gradients), -1), dtype=np.float64).sum(1))


def surface(gan: Any, limits: Array) -> Array | None:
    """The discriminator's logits on a square of the plane, (64, 64): rows from the lower y to the upper, columns from the
    lower x to the upper. limits: (x from, x to, y from, y to). Batch norm uses its running statistics. None if a logit
    depends on the other points of its batch all the same, or on a class."""
    network = gan.discriminator
    if takes_labels(gan) or couples_in_evaluation(network):
        return None
    x, y = np.linspace(limits[0], limits[1], SURFACE), np.linspace(limits[2], limits[3], SURFACE)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    with no_grad(), nn.mode(network, training=False), np.errstate(all="ignore"):
        return host(network(on_device(gan, points))).reshape(SURFACE, SURFACE)


def couples_in_evaluation(discriminator: nn.Module) -> bool:
    """Whether a logit depends on the other examples of its batch in evaluation too."""
    return couples_examples(discriminator) and any(
        module.couples_examples and not isinstance(module, nn.BatchNorm) for _, module in discriminator.named_modules())
