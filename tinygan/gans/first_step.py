"""Checks in a GAN's first step: of the values in the first batch, and of the activations at the ends of the two networks.
They find mistakes that would otherwise show only after hours of training."""
from __future__ import annotations

__all__ = ["FirstStepChecks", "check_discriminator", "check_generator", "end_of_graph", "end_of_network"]

import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tinygan import nn
from tinygan.backends import Array, backend_of, cpu
from tinygan.devices import inspect, is_readable
from tinygan.gans import checks
from tinygan.gans.batches import Logits
from tinygan.gans.costs import Cost
from tinygan.tensor import Tensor, as_array

_ROUNDING = 0.01  # images in [0, 1] may exceed it a little, if they were rounded or resized
_SPREAD = 0.25  # if all values of a batch are nearly equal, their scale is unknown
_BOUNDS = {"sigmoid": "from 0 to 1", "tanh": "from -1 to 1", "relu": "from 0 up", "softplus": "from 0 up",
           "elu": "from -alpha up", "softmax": "from 0 to 1", "silu": "from -0.28 up", "gelu": "from -0.17 up",
           "gelu_tanh": "from -0.17 up"}
_PROBABILITIES = ("sigmoid", "softmax")
_KEEP = ("clip", "astype")  # ops that do not change most values


class FirstStepChecks:
    """The checks of one GAN, and what they have found so far. cost: what the players minimise; None if its losses are not
    tinygan's, so that nothing is known of what they take from the discriminator.

    A batch with values beyond `checks.LIMIT` (such as images from 0 to 255), NaN or infinity is refused before any weight
    changes. NaN and infinity are looked for in every batch on the CPU, but only in the first batch on a GPU, because the
    check has to wait for the GPU.
    """

    def __init__(self, caller: str, discriminator: nn.Module, cost: Cost | None) -> None:
        self._caller = caller
        self._cost = cost
        self._discriminator_is_checked = cost is None or check_discriminator(caller, end_of_network(discriminator), cost)
        self._batch_is_checked = False
        self._range: tuple[float, float] | None = None  # of the first batch, until the generator has been checked

    def check_batch(self, real: Array, given: Any) -> None:
        """Raise ValueError for a batch (N, ...) that cannot be images in [-1, 1]. given: the batch before it was converted
        to the weights' precision."""
        if self._batch_is_checked and backend_of(real) is not cpu:
            return
        if is_readable(real):
            self._check_values(real)
        else:  # every replay looks at its own batch, which it has not converted yet
            dtype = real.dtype
            inspect(as_array(given), lambda given: self._check_values(checks.as_images(given, dtype)))

    def _check_values(self, real: Array) -> None:
        low, high = checks.finite_range(real)
        if not self._batch_is_checked:
            checks.check_range(low, high)
            self._batch_is_checked, self._range = True, (low, high)

    def check_logits(self, logits: Logits) -> None:
        """At the first call: a ValueError or a warning if the discriminator ends in an activation that bounds its output."""
        if not self._discriminator_is_checked and self._cost is not None:
            output = logits.fake if logits.both is None else logits.both
            check_discriminator(self._caller, end_of_graph(output), self._cost)
            self._discriminator_is_checked = True

    def check_generated(self, fake: Any) -> None:
        """At the first call: a warning if the generator's last activation cannot give the values of the first batch."""
        if self._range is not None:
            check_generator(self._caller, end_of_graph(fake), *self._range)
            self._range = None


def end_of_network(network: nn.Module) -> str | None:
    """The activation at the end of a Sequential (of Sequentials); None if its layers do not tell."""
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
    """The activation that computed a recorded result, found in the graph: either an op of its own or part of a fused op.
    None if the result was computed by another op."""
    node = y.node if isinstance(y, Tensor) else None
    while node is not None and node.op is not None:
        static = node.static
        if node.op.name == "mlp":
            return str(static["layers"][-1].activation)
        if "activation" in static:
            return str(static["activation"])
        if "activation" in getattr(static.get("settings"), "_fields", ()):  # of a batch norm with an activation
            return str(static["settings"].activation)
        if not (node.op.view or node.op.name in _KEEP):
            return node.op.name if node.op.name in _BOUNDS else None
        node = node.parents[0]
    return None


def check_discriminator(caller: str, end: str | None, cost: Cost) -> bool:
    """Whether the discriminator ends in an activation that bounds its output. The losses take logits or scores, which may be
    any numbers. Raises ValueError for probabilities: losses that take logits would apply the sigmoid a second time, and
    could never fall below 1.006. Warns about other bounds, which may be intended."""
    if end in _PROBABILITIES and not cost.log_odds:
        raise ValueError(f"{caller}: the discriminator ends in a {end}, but the cost {cost.name!r} takes scores, which may "
                         f"be any numbers and not only those from 0 to 1: remove its {end}")
    if end in _PROBABILITIES:
        raise ValueError(f"{caller}: the discriminator ends in a {end}, but the losses take logits and apply the sigmoid "
                         f"themselves: remove its {end}; tg.sigmoid(discriminator(images)) gives the probabilities")
    if end in _BOUNDS:
        what, so = ("logits", "and it can never be sure") if cost.log_odds else ("scores", f"under the cost {cost.name!r}")
        _warn(f"{caller}: the discriminator ends in {end}, so its {what} are {_BOUNDS[end]} {so}: "
              f"remove that activation, because {what} may be any numbers")
    return end in _BOUNDS


def check_generator(caller: str, end: str | None, low: float, high: float) -> None:
    """Warn if a generator that ends in the activation `end` cannot make the values of the first batch, from low to high."""
    if end == "tanh" and low >= 0 and high <= 1 + _ROUNDING and high - low > _SPREAD:
        _warn(f"{caller}: the images are in [0, 1] (from {low:g} to {high:g}), and the generator ends in tanh, which makes "
              "[-1, 1]: give step images of 2 * x - 1, or end the generator in a sigmoid")
    elif end in ("sigmoid", "softmax", "relu", "softplus") and low < -_ROUNDING:
        scaled = "give step images of (x + 1) / 2, or " if end == "sigmoid" else ""
        _warn(f"{caller}: the images have values below 0 (from {low:g} to {high:g}), and the generator ends in {end}, which "
              f"makes values {_BOUNDS[end]}: {scaled}end the generator in tanh")


def _warn(message: str) -> None:
    """Warn, and point to the user's line."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
