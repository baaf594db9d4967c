"""What is wrong with a game is told before hours of training: batches that are no images in [-1, 1], and networks that
end in an activation with which they cannot play."""
from __future__ import annotations

__all__ = ["as_images", "check_discriminator", "check_generator", "check_range", "end_of_graph", "end_of_network",
           "finite_range"]

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygan import nn
from tinygan.backends import Array, backend_of
from tinygan.foreign import as_numbers
from tinygan.tensor import Tensor

LIMIT = 10.0
"""The first batch may hold nothing beyond this: images of 0 to 255 are far beyond, toy data around [-1, 1] are not."""

_ROUNDING = 0.01  # images in [0, 1] may have been rounded or resized
_SPREAD = 0.25  # a batch of one colour says nothing of its scale
_BOUNDS = {"sigmoid": "from 0 to 1", "tanh": "from -1 to 1", "relu": "from 0 up", "softplus": "from 0 up",
           "elu": "from -alpha up", "softmax": "from 0 to 1"}
_PROBABILITIES = ("sigmoid", "softmax")
_KEEP = ("clip", "astype")  # of an activation's values these change none, or few


def as_images(real: Any, dtype: np.dtype[Any]) -> Array:
    """A batch for `step` in the weights' precision. TypeError for bytes and ValueError for other large whole numbers, which
    are images that nobody has scaled."""
    array = as_numbers("step: real", real)
    if array.dtype == np.uint8:
        raise TypeError(f"step: expected images in [-1, 1] as an array of {dtype}, got uint8; bytes are scaled by "
                        f"real.astype(np.{dtype}) / 127.5 - 1")
    if array.dtype.kind in "iu" and isinstance(array, np.ndarray) and array.size:
        check_range(float(array.min()), float(array.max()))
    with np.errstate(over="ignore"):  # (infinity is told by `finite_range`)
        return array.astype(dtype, copy=False)


def finite_range(real: Array) -> tuple[float, float]:
    """The smallest and the largest value of a batch (N, ...). ValueError, naming the image, where one is NaN or infinite."""
    low, high = float(real.min()), float(real.max())
    if not (-np.inf < low and high < np.inf):  # NaN is neither
        array = backend_of(real).to_numpy(real)
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        raise ValueError(f"step: {len(bad)} of {len(array)} images hold NaN or infinity (in {array.dtype}), the first "
                         f"of them real[{bad[0]}]")
    return low, high


def check_range(low: float, high: float) -> None:
    """ValueError for a batch of values that no image in [-1, 1] has."""
    if low < -LIMIT or high > LIMIT:
        whole = 65535 if high > 255 else 255
        raise ValueError(f"step: expected images in [-1, 1], got values from {low:g} to {high:g}; a byte x is x / 127.5 - 1 "
                         "there" + ("" if whole == 255 else ", a number x up to 65535 is x / 32767.5 - 1"))


def end_of_network(network: nn.Module) -> str | None:
    """The activation that a Sequential (of Sequentials) ends in; None where that cannot be read off it."""
    layers = [layer for layer in _layers(network) if not isinstance(layer, nn.Flatten | nn.Reshape)]
    last = layers[-1] if layers else None
    return last.name if isinstance(last, nn.Activation) and type(last).forward is nn.Activation.forward else None


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        for layer in network:
            yield from _layers(layer)
    else:
        yield network


def end_of_graph(y: Any) -> str | None:
    """The activation that a recorded result ends in, whatever module has applied it, itself or within another op; None where
    there is none, or another op behind it."""
    node = y.node if isinstance(y, Tensor) else None
    while node is not None and node.op is not None:
        static = node.static
        if node.op.name == "mlp":
            return str(static["layers"][-1].activation)
        if "activation" in static:
            return str(static["activation"])
        if not (node.op.view or node.op.name in _KEEP):
            return node.op.name if node.op.name in _BOUNDS else None
        node = node.parents[0]
    return None


def check_discriminator(caller: str, end: str | None) -> bool:
    """Whether it ends in an activation that tells something. The losses take logits, of any size and either sign: ValueError
    if they were probabilities (the losses would apply the sigmoid once more, and could never fall below 1.006); a warning
    if they are bounded otherwise, which somebody may want."""
    if end in _PROBABILITIES:
        raise ValueError(f"{caller}: the discriminator ends in a {end}, and the losses take logits, to which they apply the "
                         f"sigmoid themselves: leave its {end} out; tg.sigmoid(discriminator(images)) are the probabilities")
    if end in _BOUNDS:
        _warn(f"{caller}: the discriminator ends in {end}, so that its logits are {_BOUNDS[end]} and it can never be sure: "
              "leave that activation out, logits may have any value")
    return end in _BOUNDS


def check_generator(caller: str, end: str | None, low: float, high: float) -> None:
    """Warn if the values of the first batch, from low to high, are not those that such a generator makes."""
    if end == "tanh" and low >= 0 and high <= 1 + _ROUNDING and high - low > _SPREAD:
        _warn(f"{caller}: the images are in [0, 1] (from {low:g} to {high:g}), and the generator ends in tanh, which makes "
              "[-1, 1]: give step images of 2 * x - 1, or end the generator in a sigmoid")
    elif end in ("sigmoid", "softmax", "relu", "softplus") and low < -_ROUNDING:
        scaled = "give step images of (x + 1) / 2, or " if end == "sigmoid" else ""
        _warn(f"{caller}: the images have values below 0 (from {low:g} to {high:g}), and the generator ends in {end}, which "
              f"makes values {_BOUNDS[end]}: {scaled}end the generator in tanh")


def _warn(message: str) -> None:
    """A warning that points to the user's line."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
