"""Walks and sums in the space of latent vectors."""
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
_OPPOSITE = 0.98  # minus the cosine from which vectors count as opposite


def linear(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): on the straight line from a to b, both ends included."""
    a, b, t = _ends(a, b, steps)
    return (1 - t) * a + t * b


def spherical(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): on the arc from a to b, both ends included (Shoemake 1985, "Animating
    rotation with quaternion curves"; White 2016, "Sampling generative networks"). The length goes evenly from that of a to
    that of b.

    Between opposite vectors, which lie in many planes, the arc is through `_perpendicular(a)`. The path is straight where an
    end is 0, and between opposite numbers (D = 1).
    """
    a, b, t = _ends(a, b, steps)
    lengths = [norm(x.astype(np.float64), -1, keepdims=True) for x in (a, b)]
    first, second = (np.divide(x, r, out=np.zeros(x.shape), where=r > 0) for x, r in zip((a, b), lengths, strict=True))
    cosine = (first * second).sum(axis=-1, keepdims=True)
    across = second - cosine * first
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    known = sine > 1e-7  # below it is what rounding left of float32 vectors
    across = np.where(known, across / np.where(known, sine, 1), _perpendicular(first))
    angle = np.arctan2(sine, cosine)
    path = ((1 - t) * lengths[0] + t * lengths[1]) * (np.cos(t * angle) * first + np.sin(t * angle) * across)
    straight = (lengths[0] == 0) | (lengths[1] == 0) | (~known & (np.abs(across).max(axis=-1, keepdims=True) == 0))
    path = np.where(straight, (1 - t) * a + t * b, path)
    path[..., :1, :], path[..., -1:, :] = a, b
    return path.astype(t.dtype)


def interpolate(a: Array, b: Array, steps: int, noise: str) -> Array:
    """From a to b on a path where latent vectors of that noise are found. noise: a name in `NOISES`; ValueError for another.

    Normal vectors of D elements lie close to a sphere of radius sqrt(D), and random signs lie on it. The middle of a
    straight line, at about sqrt(D / 2), is where the generator has never been, so the path is spherical. Uniform vectors
    fill a cube, and a straight line between two points of a cube stays in it; an arc may leave it. But from a vector to
    about its opposite the line passes by 0, where hardly any uniform vectors are either. There the path is an arc, kept in
    the cube of the ends.
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
    """A unit vector (..., D) perpendicular to a (..., D), of elements like a's own: the largest and the smallest magnitude
    change places, one of them with the other sign, and so on inwards. Zeros for vectors of one element, or of zeros."""
    order = np.argsort(np.abs(a), axis=-1, kind="stable")
    half = a.shape[-1] // 2
    inner, outer = order[..., :half], order[..., ::-1][..., :half]
    found = np.zeros(a.shape)
    np.put_along_axis(found, inner, -np.take_along_axis(a, outer, -1), -1)
    np.put_along_axis(found, outer, np.take_along_axis(a, inner, -1), -1)
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    return found / np.where(length > 0, length, 1)


def neighbourhood(z: Array, key: Key, scale: float = 0.25) -> Array:
    """(D,) -> (9, D): z in the middle, as number 4, and around it z with uniform noise in [-scale, scale) added (Radford,
    Metz, Chintala 2015, section 6.3.2)."""
    z = _floating(z)
    noise = as_key("neighbourhood", key).uniform((9, *z.shape), -scale, scale, z.dtype)
    noise[4] = 0
    return z + noise


def alike(images: Array, groups: int, size: int) -> list[list[int]]:
    """(N, ...) -> `groups` lists of `size` indices. The images of a list resemble each other, those of different lists do
    not, and no image is in two. The first group is the image with the nearest neighbours, and these neighbours. Each further
    one is the image farthest from all groups so far, and its neighbours. Distance is 1 minus the correlation of the pixels.
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
    """The mean vectors of the rows of z (N, D) in a, b and c, and A - B + C (Radford, Metz, Chintala 2015, section 6.3.2:
    means of three, since single vectors gave no stable result)."""
    z = _floating(z)
    means = [z[list(group)].mean(axis=0, dtype=np.float64).astype(z.dtype) for group in (a, b, c)]
    return means[0], means[1], means[2], means[0] - means[1] + means[2]


def _floating(z: Any) -> Array:
    """Latent vectors as an array of floating-point numbers: float32 of integers and Booleans, which would round down."""
    z = np.asarray(as_numbers("latent vectors", z))
    return z if z.dtype.kind == "f" else z.astype(np.float32)


def _ends(a: Any, b: Any, steps: int) -> tuple[Array, Array, Array]:
    a, b = _floating(a), _floating(b)
    if a.shape != b.shape or not a.ndim:
        raise ValueError(f"interpolation: two ends of one shape (..., D) expected, got {a.shape} and {b.shape}")
    if steps < 2:
        raise ValueError(f"interpolation: steps should be at least 2, got {steps}")
    return a[..., None, :], b[..., None, :], np.linspace(0, 1, steps, dtype=np.result_type(a, b))[:, None]
