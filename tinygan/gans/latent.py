"""Walks between latent vectors, and arithmetic with them."""
from __future__ import annotations

__all__ = ["alike", "arithmetic", "interpolate", "linear", "neighbourhood", "spherical"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.gans.noises import NOISES
from tinygan.interop.foreign import as_numbers
from tinygan.ops import norm
from tinygan.random import Key, as_key
from tinygan.tables import lookup

Array = npt.NDArray[Any]
_OPPOSITE = 0.98  # vectors count as opposite if the cosine of their angle is below minus this


def linear(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): points on the straight line from a to b, both ends included."""
    a, b, t = _ends(a, b, steps)
    return (1 - t) * a + t * b


def spherical(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): points on the arc from a to b, both ends included (Shoemake 1985, "Animating
    rotation with quaternion curves"; White 2016, "Sampling generative networks"). The length changes linearly from that of a
    to that of b.

    Opposite vectors lie in many planes. Between them, the arc goes through the direction of `_perpendicular(a)`. The path is
    straight if an end is 0, and between opposite numbers (D = 1).
    """
    a, b, t = _ends(a, b, steps)
    lengths = [norm(x.astype(np.float64), -1, keepdims=True) for x in (a, b)]
    first, second = (np.divide(x, r, out=np.zeros(x.shape), where=r > 0) for x, r in zip((a, b), lengths, strict=True))
    cosine = (first * second).sum(axis=-1, keepdims=True)
    across = second - cosine * first
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    known = sine > 1e-7  # a smaller sine is a rounding error of float32 vectors
    across = np.where(known, across / np.where(known, sine, 1), _perpendicular(first))
    angle = np.arctan2(sine, cosine)
    path = ((1 - t) * lengths[0] + t * lengths[1]) * (np.cos(t * angle) * first + np.sin(t * angle) * across)
    straight = (lengths[0] == 0) | (lengths[1] == 0) | (~known & (np.abs(across).max(axis=-1, keepdims=True) == 0))
    path = np.where(straight, (1 - t) * a + t * b, path)
    path[..., :1, :], path[..., -1:, :] = a, b
    return path.astype(t.dtype)


def interpolate(a: Array, b: Array, steps: int, noise: str) -> Array:
    """A path from a to b, (..., D), (..., D) -> (..., steps, D), along which the generator has been trained. noise: the
    distribution of the latent vectors, a name in `NOISES`. Raises ValueError for another name.

    Normal vectors of D elements lie close to a sphere of radius sqrt(D), and vectors of random signs lie on it. The middle
    of a straight line has a length of about sqrt(D / 2). The generator was never trained on such vectors, so the path is an
    arc. Uniform vectors fill a cube. A straight line between two points of a cube stays in it, and an arc may leave it, so
    the path is straight. There is one exception: a line between nearly opposite vectors passes near 0, where there are
    hardly any uniform vectors either. Then the path is an arc, clipped to the cube that holds both ends.
    """
    if not lookup(NOISES, "interpolate", "noise", noise).straight:
        return spherical(a, b, steps)
    path, arc = linear(a, b, steps), spherical(a, b, steps)
    ends = path[..., [0, -1], :].astype(np.float64)
    side = np.abs(ends).max(axis=(-2, -1), keepdims=True)
    ends /= np.where(side > 0, side, 1)
    product, squares = np.prod(ends, axis=-2).sum(axis=-1), np.square(ends).sum(axis=-1)
    opposite = product < -_OPPOSITE * np.sqrt(squares.prod(axis=-1))
    return np.where(opposite[..., None, None], arc.clip(-side, side).astype(path.dtype), path)


def _perpendicular(a: Array) -> Array:
    """A unit vector (..., D) that is perpendicular to a (..., D) and made of a's own elements: the element of the largest
    magnitude and that of the smallest change places, one of them with the opposite sign, then the second largest and the
    second smallest, and so on. Zeros for vectors of one element, or of zeros."""
    order = np.argsort(np.abs(a), axis=-1, kind="stable")
    half = a.shape[-1] // 2
    inner, outer = order[..., :half], order[..., ::-1][..., :half]
    found = np.zeros(a.shape)
    np.put_along_axis(found, inner, -np.take_along_axis(a, outer, -1), -1)
    np.put_along_axis(found, outer, np.take_along_axis(a, inner, -1), -1)
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    return found / np.where(length > 0, length, 1)


def neighbourhood(z: Array, key: Key, scale: float = 0.25) -> Array:
    """(D,) -> (9, D): z itself as row 4, and in the other rows z plus uniform noise in [-scale, scale) (Radford, Metz,
    Chintala 2015, section 6.3.2). Drawn as a 3 x 3 grid, z is in the middle."""
    z = _floating(z)
    noise = as_key("neighbourhood", key).uniform((9, *z.shape), -scale, scale, z.dtype)
    noise[4] = 0
    return z + noise


def alike(images: Array, groups: int, size: int) -> list[list[int]]:
    """Groups of similar images: (N, ...) -> `groups` lists of `size` different indices.

    The first group is the image that has the nearest neighbours, together with these neighbours. Each further group is the
    image farthest from all groups so far, with its neighbours. Distance is 1 minus the correlation of the pixels.
    """
    if groups * size > len(images):
        raise ValueError(f"alike: {groups} groups of {size} need {groups * size} images, got {len(images)}")
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    distance = 1 - flat @ flat.T
    free = np.ones(len(flat), bool)
    found: list[list[int]] = []
    for _ in range(groups):
        taken = [i for group in found for i in group]
        apart = distance[:, taken].min(axis=1) if taken else -np.sort(distance, axis=1)[:, :size].sum(axis=1)
        first = int(np.where(free, apart, -np.inf).argmax())
        members = np.where(free, distance[first], np.inf).argsort(kind="stable")[:size]
        free[members] = False
        found.append(members.tolist())
    return found


def arithmetic(z: Array, a: Sequence[int], b: Sequence[int], c: Sequence[int]) -> tuple[Array, Array, Array, Array]:
    """The mean latent vectors A, B and C, and A - B + C. a, b, c: which rows of z (N, D) to average. (Radford, Metz,
    Chintala 2015, section 6.3.2. They take means of three, because single vectors gave no stable result.)"""
    z = _floating(z)
    means = [z[list(group)].mean(axis=0, dtype=np.float64).astype(z.dtype) for group in (a, b, c)]
    return means[0], means[1], means[2], means[0] - means[1] + means[2]


def _floating(z: Any) -> Array:
    """Latent vectors as an array of floating-point numbers. Integers and booleans become float32; otherwise the points
    between them would be rounded down."""
    z = np.asarray(as_numbers("latent vectors", z))
    return z if z.dtype.kind == "f" else z.astype(np.float32)


def _ends(a: Any, b: Any, steps: int) -> tuple[Array, Array, Array]:
    a, b = _floating(a), _floating(b)
    if a.shape != b.shape or not a.ndim:
        raise ValueError(f"interpolation: expected two ends of the same shape (..., D), got {a.shape} and {b.shape}")
    if steps < 2:
        raise ValueError(f"interpolation: steps should be at least 2, got {steps}")
    return a[..., None, :], b[..., None, :], np.linspace(0, 1, steps, dtype=np.result_type(a, b))[:, None]
