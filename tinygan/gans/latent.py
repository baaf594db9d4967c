"""Walks and sums in the space of latent vectors."""
from __future__ import annotations

__all__ = ["alike", "arithmetic", "interpolate", "linear", "neighbourhood", "spherical"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.random import Key, as_key

Array = npt.NDArray[Any]


def linear(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): on the straight line from a to b, both ends included."""
    a, b, t = _ends(a, b, steps)
    return (1 - t) * a + t * b


def spherical(a: Array, b: Array, steps: int) -> Array:
    """(..., D), (..., D) -> (..., steps, D): on the arc from a to b, both ends included (Shoemake 1985, "Animating
    rotation with quaternion curves"; White 2016, "Sampling generative networks"). Straight where a and b are parallel."""
    a, b, t = _ends(a, b, steps)
    norms = np.linalg.norm(a, axis=-1, keepdims=True) * np.linalg.norm(b, axis=-1, keepdims=True)
    cosine = (a * b).sum(axis=-1, keepdims=True) / np.maximum(norms, np.finfo(a.dtype).tiny)
    angle = np.arccos(cosine.clip(-1, 1))
    parallel = (np.sin(angle) < 1e-4) | (norms == 0)
    angle = np.where(parallel, 1, angle)
    of_a, of_b = (np.where(parallel, share, np.sin(share * angle) / np.sin(angle)) for share in (1 - t, t))
    return of_a * a + of_b * b


def interpolate(a: Array, b: Array, steps: int, noise: str) -> Array:
    """From a to b on a path where latent vectors of that noise are found.

    Normal vectors of D elements lie close to a sphere of radius sqrt(D): the middle of a straight line, at sqrt(D / 2), is
    where the generator has never been, so the path is spherical. Uniform ones fill a cube, and a straight line between
    two points of a cube stays in it; an arc may leave it.
    """
    return linear(a, b, steps) if noise == "uniform" else spherical(a, b, steps)


def neighbourhood(z: Array, key: Key, scale: float = 0.25) -> Array:
    """(D,) -> (9, D): z in the middle, as number 4, and around it z with uniform noise in [-scale, scale) added (Radford,
    Metz, Chintala 2015, section 6.3.2)."""
    noise = as_key("neighbourhood", key).uniform((9, *z.shape), -scale, scale, z.dtype)
    noise[4] = 0
    return z + noise


def alike(images: Array, groups: int, size: int) -> list[list[int]]:
    """(N, ...) -> `groups` lists of `size` indices, no image in two: the images of a list resemble each other, and those of
    different lists do not. First come the image with the nearest neighbours and those neighbours; then always the image
    farthest from all groups so far, and its neighbours; by the correlation of their pixels."""
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
    means = [z[list(group)].mean(axis=0) for group in (a, b, c)]
    return means[0], means[1], means[2], means[0] - means[1] + means[2]


def _ends(a: Array, b: Array, steps: int) -> tuple[Array, Array, Array]:
    if a.shape != b.shape or not a.ndim:
        raise ValueError(f"interpolation: two ends of one shape (..., D) expected, got {a.shape} and {b.shape}")
    if steps < 2:
        raise ValueError(f"interpolation: steps should be at least 2, got {steps}")
    return a[..., None, :], b[..., None, :], np.linspace(0, 1, steps, dtype=a.dtype)[:, None]
