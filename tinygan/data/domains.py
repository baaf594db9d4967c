"""Two domains of digits to translate between: A, the digits as they are, and B, other digits in another form."""
from __future__ import annotations

__all__ = ["DOMAINS", "Domain", "two_domains"]

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import DataError, Dataset
from tinygan.random import Key, as_key
from tinygan.tables import lookup

Array = npt.NDArray[Any]


class Domain(NamedTuple):
    """A form of digits: its name, the channels of its images, a function from bytes (N, 1, H, W) and a key to bytes
    (N, channels, H, W), and a function from its images in [-1, 1] back to grey digits (N, 1, H, W) in [-1, 1]. local:
    whether a pixel depends only on the pixel at its own place."""

    name: str
    channels: int
    change: Callable[[Array, Key], Array]
    undo: Callable[[Array], Array]
    local: bool
    about: str


def _coloured(images: Array, key: Key) -> Array:
    """Each digit in a colour of full saturation, whose hue is drawn."""
    hue = 6 * key.uniform((len(images), 1, 1, 1))
    parts = (hue + np.array([0, 4, 2], np.float32).reshape(1, 3, 1, 1)) % 6  # red, green, blue
    weights = np.clip(np.abs(parts - 3) - 1, 0, 1)
    weights /= weights.max(axis=1, keepdims=True)  # (so that the largest channel is the digit to the last bit)
    return (images * weights).round().astype(np.uint8)


def _turned(images: Array, key: Key) -> Array:
    return np.ascontiguousarray(np.rot90(images, axes=(2, 3)))


DOMAINS = {domain.name: domain for domain in (
    Domain("coloured", 3, _coloured, lambda images: images.max(axis=1, keepdims=True), True,
           "each in a colour of a random hue"),
    Domain("rotated", 1, _turned, lambda images: np.rot90(images, -1, axes=(2, 3)), False, "turned left by 90 degrees"),
)}
"""The forms that B's digits may have, by name."""


def two_domains(dataset: Dataset, name: str, key: Key) -> Dataset:
    """Pairs of unrelated digits: a data set of half as many images (1 + channels, H, W), of which the first channel is a
    digit of A and the others are a digit of B in the form that `DOMAINS` calls `name`. `key` decides which digits go to A
    and which go to B; no digit goes to both. The label is 10 * (A's label) + (B's label).

    Raises ValueError for an unknown name, and DataError if the images are not grey bytes, or fewer than two, or not square
    where they are turned.
    """
    domain, key = lookup(DOMAINS, "two_domains", "domains", name), as_key("two_domains", key)
    channels, height, width = dataset.image_shape
    if channels != 1 or dataset.images.dtype != np.uint8 or height != width:
        raise DataError(f"two_domains: expected square grey images of bytes, (1, H, H), got {dataset.name}, "
                        f"{dataset.images.dtype} {dataset.image_shape}")
    half = len(dataset) // 2
    if half < 1:
        raise DataError(f"two_domains: {dataset.name} has {len(dataset)} image, too few for two domains")
    order = key.fold("order").permutation(len(dataset))
    a, b = order[:half], order[half:2 * half]
    changed = domain.change(dataset.images[b], key.fold("change"))
    labels = None if dataset.labels is None else 10 * dataset.labels[a] + dataset.labels[b]
    digest = hashlib.sha256(f"{dataset.checksum}:{len(dataset)}:{name}:{key!r}".encode()).hexdigest()
    return Dataset(f"{dataset.name} and {name}", np.concatenate([dataset.images[a], changed], axis=1), labels,
                   f"sha256:{digest}", dataset.bad_files)
