"""What the page shows of an engine at a moment: samples, arrows, the discriminator's surface, and numbers."""
from __future__ import annotations

__all__ = ["LAYERS", "SAMPLES", "SIDE", "arrows", "density", "readings", "surface"]

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.context import no_grad, override
from tinygan.data import Mixture
from tinygan.gans import UnrolledGAN
from tinygan.metrics import mixture_coverage
from tinygan.random import Key, KeyStream, use_key

from .. import messages
from ..arrays import numbers, packed
from ..players import host, players
from .games import EXTENT

Array = npt.NDArray[Any]

LAYERS = ("surface", "samples", "arrows", "density")
"""What can be switched on. The data's density does not change in a game, so it is no part of a frame."""

SAMPLES = 256
"""How many generated points are shown. Their latent vectors stay the same in a game."""

SIDE = 96  # of the density
_COUPLED_SIDE, _OTHERS = 32, 64  # of the surface if D compares points, and with how many it compares each


def readings(gan: Any, z: Array, real: Array, mixture: Mixture, layers: Collection[str]) -> dict[str, Any]:
    """The part of a frame that is computed from the networks, as JSON. z: the latent vectors shown. real: as many points of
    the data. Nothing of the GAN changes.

    points (N, 2) and logits (N,); gradient (N, 2) of n L_G, L_G a mean over these n points, so that each length is that of a
    point's own cost; norms: the mean lengths, for the three costs of log odds on the same logits, and for the game's own;
    modes, high_quality and effective, the number of modes that the shares of the points amount to.
    """
    found = messages.message(gan, players(gan, z, real), Key(0))
    n = len(found.images)
    ahead = isinstance(gan, UnrolledGAN) and "arrows" in layers
    gradient = n * (arrows(gan, found.images, real) if ahead else found.gradient)
    frame: dict[str, Any] = {
        "points": packed(found.images, "f32"), "logits": packed(found.logits, "f32"), "gradient": packed(gradient, "f32"),
        "norm": numbers(float(messages.lengths(gradient).mean())),
        "norms": None if found.norms is None else {
            name: numbers(float(n * row.mean())) for name, row in zip(messages.SIDE_BY_SIDE, found.norms, strict=True)}}
    if "surface" in layers:
        frame["surface"] = packed(surface(gan, found.images), "f16")
    if np.isfinite(found.images).all():
        covered = mixture_coverage(found.images, mixture.centres, mixture.sigma)
        frame |= {"modes": covered.modes, "high_quality": numbers(covered.high_quality),
                  "effective": numbers(len(mixture.centres) * math.exp(-covered.reverse_kl))}
    return frame


def arrows(gan: UnrolledGAN, fake: Array, real: Array) -> Array:
    """dL_G/dx at generated points x (N, 2) of an unrolled GAN, through its updates ahead on these real points."""
    stream, count = gan.keys.key, gan.keys.count
    try:
        with use_key(KeyStream(Key(0))), override(updating=frozenset()), np.errstate(all="ignore"):
            return host(gan.look_ahead(real).rematerialized(fake)[1])
    finally:
        gan.keys.restore(stream, count)  # (look_ahead draws a key)


def surface(gan: Any, fake: Array) -> Array:
    """D's logits on the plane that is shown, rows from the lower y. If D compares the points of a batch, each place is
    judged as one more point among generated ones."""
    limits = np.array([-EXTENT, EXTENT, -EXTENT, EXTENT])
    found = messages.surface(gan, limits)
    return _among(gan.discriminator, fake[:_OTHERS]) if found is None else found


def _among(discriminator: Any, others: Array) -> Array:
    """The logits on the plane of a discriminator with minibatch discrimination before its last layer."""
    *features, layer, last = discriminator
    line = np.linspace(-EXTENT, EXTENT, _COUPLED_SIDE, dtype=np.float32)
    places = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    with no_grad(), np.errstate(all="ignore"):
        x, y = (host(nn.Sequential(*features)(points)) for points in (places, others))
        weight = host(layer.weight)
        p, q = ((h @ weight.T).reshape(len(h), layer.kernels, -1) for h in (x, y))
        near = np.empty((len(x), layer.kernels), np.float32)
        for kernel in range(layer.kernels):  # (one by one: all at once are ten times as large)
            apart = np.zeros((len(x), len(y)), np.float32)
            for a, b in zip(p[:, kernel].T, q[:, kernel].T, strict=True):
                apart += np.abs(a[:, None] - b)
            near[:, kernel] = np.exp(-apart).mean(1)
        return host(last(np.concatenate([x, near], 1))).reshape(_COUPLED_SIDE, _COUPLED_SIDE)


def density(mixture: Mixture) -> Array:
    """The density of the data on the plane that is shown, (SIDE, SIDE), rows from the lower y; its largest value is 1. A
    narrow peak is widened to the width of a pixel."""
    line = np.linspace(-EXTENT, EXTENT, SIDE)
    sigma = max(mixture.sigma, 0.6 * 2 * EXTENT / SIDE)
    x, y = (np.exp(-0.5 * np.square((line[:, None] - mixture.centres[:, axis]) / sigma)) for axis in (0, 1))
    total = y @ x.T
    return total / total.max()
