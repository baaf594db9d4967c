"""Changes of images of digits, and images without a digit. The classifier of digits is trained and tested with both."""
from __future__ import annotations

__all__ = ["CHANGES", "changed", "changed_sets", "without_digits"]

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.random import Key

Array = npt.NDArray[Any]
Change = Callable[[Array, Key], Array]

SHIFT = 2
"""The largest shift, in pixels down or up, right or left."""
BLUR = 1.2
"""The largest standard deviation of the blur, in pixels."""
CONTRAST = (0.4, 1.5)
BRIGHTNESS = (-0.5, 0.8)
NOISE = 0.3
"""The largest standard deviation of the noise. Images have values from -1 to 1."""
_REACH = 3
_BLOCK = 7


def shifted(images: Array, key: Key) -> Array:
    """Each image moved by up to SHIFT pixels down or up, and right or left. The pixels at the edge are repeated (for digits,
    they are background)."""
    if not SHIFT:
        return images
    n, _, height, width = images.shape
    rows, columns = key.integers((2, n), 0, 2 * SHIFT + 1)
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(n), :, rows, columns])


def blurred(images: Array, key: Key) -> Array:
    """Each image blurred by a Gaussian with a standard deviation from 0 to BLUR pixels."""
    return _blur(images, BLUR * key.uniform(len(images)))


def contrasted(images: Array, key: Key) -> Array:
    """Each image multiplied by a factor from CONTRAST, and clipped."""
    return np.clip(images * _each(key, images, *CONTRAST), -1, 1)


def brightened(images: Array, key: Key) -> Array:
    """A number from BRIGHTNESS added to each image, and the sum clipped."""
    return np.clip(images + _each(key, images, *BRIGHTNESS), -1, 1)


def noisy(images: Array, key: Key) -> Array:
    """Normal noise with a standard deviation from 0 to NOISE added to each image, and the sum clipped."""
    noise = key.fold("noise").normal(images.shape)
    noise *= _each(key.fold("strength"), images, 0, NOISE)
    return np.clip(np.add(noise, images, out=noise), -1, 1, out=noise)


CHANGES: Mapping[str, Change] = {
    "shift": shifted, "blur": blurred, "contrast": contrasted, "brightness": brightened, "noise": noisy}
"""The changes by name, in the order in which they are made. Each is a function of images (N, C, H, W), float32 in [-1, 1],
and a Key. It draws a strength for each image, and its results are in [-1, 1]."""


def changed(images: Array, key: Key, share: float = 1.0) -> Array:
    """Images (N, C, H, W), float32 in [-1, 1], with all CHANGES. An image gets each change with the probability `share`,
    independently of the others, but is always shifted."""
    images = images.copy()
    for name, change in CHANGES.items():
        chance = 1.0 if name == "shift" else share
        chosen = key.fold(name).fold("chosen").uniform(len(images)) < chance
        images[chosen] = change(images[chosen], key.fold(name))
    return images


def changed_sets(images: Array, key: Key) -> Iterator[tuple[str, Array]]:
    """Test sets made from images (N, 1, 28, 28): (name, images) for each of CHANGES alone, for "all" of them together, and
    for "background", a change with which the classifier is not trained: all values below a number from -1 to -0.2 become
    that number."""
    for name, change in CHANGES.items():
        yield name, change(images, key.fold(name))
    yield "all", changed(images, key.fold("all"))
    yield "background", np.maximum(images, _each(key.fold("background"), images, -1, -0.2))


def without_digits(images: Array, key: Key) -> Array:
    """As many images without a digit, of the same shape (N, C, H, W), whose sides are multiples of 7. In turn: fine noise,
    of any strength, on a grey of any brightness; smooth noise; and the given images, cut into blocks of 7x7 pixels that
    change places."""
    _, channels, height, width = images.shape
    found = np.empty_like(images)
    fine, smooth, cut = (slice(i, None, 3) for i in range(3))
    noise = key.fold("fine").normal(images[fine].shape)
    noise *= _each(key.fold("strength"), noise, 0, 1)
    found[fine] = noise + _each(key.fold("level"), noise, -1, 1)
    down, right = height // _BLOCK, width // _BLOCK
    coarse = key.fold("smooth").normal((len(found[smooth]), channels, down, right)) - np.float32(0.5)
    found[smooth] = _blur(coarse.repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=3), np.full(len(coarse), 1.5, np.float32))
    blocks = images[cut].reshape(-1, channels, down, _BLOCK, right, _BLOCK).transpose(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(len(blocks), down * right, channels, _BLOCK, _BLOCK)
    order = key.fold("places").uniform(blocks.shape[:2]).argsort(axis=1)
    moved = np.take_along_axis(blocks, order[:, :, None, None, None], axis=1)
    moved = moved.reshape(-1, down, right, channels, _BLOCK, _BLOCK)
    found[cut] = moved.transpose(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
    return np.clip(found, -1, 1, out=found)


def _each(key: Key, images: Array, low: float, high: float) -> Array:
    """A number from low to high for each image, of a shape that broadcasts."""
    return key.uniform((len(images), 1, 1, 1), low, high)


def _blur(images: Array, sigma: Array) -> Array:
    """Images (N, C, H, W) blurred by Gaussians with the standard deviations sigma (N,), in pixels. The Gaussians end after
    three pixels and have sum 1. The pixels at the edge are repeated."""
    offsets = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    weights = np.exp(-0.5 * np.square(offsets / np.maximum(sigma[:, None], np.float32(1e-3))))
    weights /= weights.sum(axis=1, keepdims=True)
    for axis in (2, 3):
        size = images.shape[axis]
        widths = [(_REACH, _REACH) if i == axis else (0, 0) for i in range(4)]
        padded = np.pad(images, widths, mode="edge").swapaxes(2, axis)
        parts = (padded[:, :, i:i + size] * weights[:, i, None, None, None] for i in range(len(offsets)))
        total = next(parts).copy()
        for part in parts:
            total += part
        images = np.ascontiguousarray(total.swapaxes(2, axis))
    return np.clip(images, -1, 1)
