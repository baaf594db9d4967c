"""Penalties on the discriminator's gradient with respect to images: one table, used by the GANs, the settings of runs and
the command line.

In the formulas g is the gradient of one image's output with respect to this image, and |g| its L2 norm over all the image's
values. The mean is over the images of a batch. Each penalty is differentiable: so the discriminator's update contains second
derivatives, and the unrolled GAN's gradient third ones.
"""
from __future__ import annotations

__all__ = ["PENALTIES", "Penalty", "Place", "Weights", "check_penalties", "lies_apart",
           "logits_with_slopes", "penalties_of", "total", "watched"]

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from numbers import Real
from typing import Any, NamedTuple

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import override
from tinygan.errors import SettingsError
from tinygan.gans.batches import DiscriminatorBatch, Logits, one_each
from tinygan.gans.costs import check_pairs
from tinygan.graph import Leaf, grad
from tinygan.higher_order import with_slopes
from tinygan.ops import add, mean, mul, norm, sub
from tinygan.ops import sum as sum_over
from tinygan.optim import Schedule
from tinygan.pullback import alias
from tinygan.random import draw_examples, next_key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, as_array, wrap

Weights = Mapping[str, float | Schedule]
"""Penalties by name, each with its weight: a number of at least 0, or a function of the number of steps made so far."""


class Place(Enum):
    """The images at which a penalty takes the discriminator's gradient."""

    REAL = "real images"
    GENERATED = "generated images"
    BETWEEN = "points between a real and a generated image"


class Penalty(NamedTuple):
    """A penalty: its name, where the gradients are taken, a function of these gradients (N, ...) that returns what is
    averaged over the batch (N,), the formula, and the source."""

    name: str
    place: Place
    of_gradients: Callable[[Any], Any]
    formula: str
    source: str


def _axes(g: Any) -> tuple[int, ...]:
    return tuple(range(1, len(g.shape)))


def _distance_from_1(g: Any) -> Any:
    off = sub(norm(g, _axes(g)), 1.0)
    return mul(off, off)


def _half_square(g: Any) -> Any:
    return mul(sum_over(mul(g, g), _axes(g)), 0.5)


PENALTIES = {penalty.name: penalty for penalty in (
    Penalty("gradient-penalty", Place.BETWEEN, _distance_from_1, "mean((|g| - 1) ** 2)",
            'Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3'),
    Penalty("r1", Place.REAL, _half_square, "mean(|g| ** 2) / 2",
            'Mescheder et al. 2018, "Which training methods for GANs do actually converge?", equation 9'),
    Penalty("r2", Place.GENERATED, _half_square, "mean(|g| ** 2) / 2", "Mescheder et al. 2018, equation 10"),
)}
"""The penalties by name. Their weight is a factor: lambda of Gulrajani et al., gamma of Mescheder et al."""

Weighted = Sequence[tuple[Penalty, float | Schedule]]


def check_penalties(caller: str, penalties: Weights | None, discriminator: nn.Module) -> None:
    """Raise TypeError or ValueError for an unknown penalty or a weight without sense, and SettingsError for any penalty if
    the discriminator couples the images of a batch."""
    if not isinstance(penalties, Mapping | None):
        raise TypeError(f"{caller}: penalties should be names with weights, such as {{'r1': 1.0}}, got "
                        f"{type(penalties).__name__}")
    active = penalties_of(caller, penalties or {})
    for penalty, weight in active:
        number = isinstance(weight, Real) and not isinstance(weight, bool) and 0 <= weight < math.inf
        if not (callable(weight) or number):
            raise ValueError(f"{caller}: the weight of the penalty {penalty.name!r} should be a number of at least 0, or a "
                             f"function of the number of steps, got {weight!r}")
    coupling = [(path, module) for path, module in discriminator.named_modules() if module.couples_examples]
    if active and coupling:
        path, module = coupling[0]
        here = f"its layer {path} ({type(module).__name__})" if path else f"the {type(module).__name__}"
        raise SettingsError(
            f"{caller}: the penalty {active[0][0].name!r} is about the output for each image alone, but in the "
            f"discriminator {here} lets the images of a batch depend on each other: leave it out, or normalise with "
            "LayerNorm or SpectralNorm (a layer of your own that takes each image by itself says so with "
            "couples_examples = False)")


def penalties_of(caller: str, penalties: Weights) -> Weighted:
    """The penalties with their weights. A weight of the number 0 means that there is no such penalty. Raises ValueError for
    an unknown name."""
    found = [(lookup(PENALTIES, caller, "penalty", name), weight) for name, weight in penalties.items()]
    return [(penalty, weight) for penalty, weight in found if callable(weight) or weight != 0]


def lies_apart(weighted: Weighted) -> bool:
    """Whether real and generated images should go through the discriminator in two passes. This is so if the gradients are
    taken at only one of the two: then nothing is computed for the other."""
    places = {penalty.place for penalty, _ in weighted}
    return (Place.REAL in places) != (Place.GENERATED in places)


def watched(images: DiscriminatorBatch, weighted: Weighted) -> DiscriminatorBatch:
    """The discriminator's input (see `batches`), with those images as Tensors at which the penalties take gradients."""
    places = {penalty.place for penalty, _ in weighted}
    if isinstance(images, tuple):
        real, fake = images
        return (_in_graph(real) if Place.REAL in places else real, _in_graph(fake) if Place.GENERATED in places else fake)
    return _in_graph(images) if places & {Place.REAL, Place.GENERATED} else images


def logits_with_slopes(images: DiscriminatorBatch, logits: Logits, weighted: Weighted) -> tuple[Logits, DiscriminatorBatch]:
    """The logits, and the gradients of each by its image that the penalties take, in the form of `images`, which came from
    `watched`. No further pass forward is needed. In place of gradients that no penalty takes there is None."""
    places = {penalty.place for penalty, _ in weighted}
    if not places & {Place.REAL, Place.GENERATED}:
        return logits, None
    if logits.both is not None:
        outputs, slopes = with_slopes(logits.both, images)
        return Logits(outputs), slopes
    parts = [with_slopes(outputs, part) if place in places else (outputs, None)
             for outputs, part, place in zip(logits.returned, images, (Place.REAL, Place.GENERATED), strict=True)]
    return Logits(tuple(outputs for outputs, _ in parts)), tuple(slopes for _, slopes in parts)


def total(caller: str, weighted: Sequence[tuple[Penalty, Any]], discriminator: Callable[[Any], Any],
          images: DiscriminatorBatch, logits: Logits, slopes: DiscriminatorBatch) -> Any:
    """The sum of the penalties, each times its weight now. logits, slopes: what `logits_with_slopes` returned for `images`.
    The points between real and generated images need a pass of their own."""
    values = _Values(caller, discriminator, images, logits, slopes)
    parts = [mul(mean(values.at(penalty)), weight) for penalty, weight in weighted]
    loss = parts[0]
    for part in parts[1:]:
        loss = add(loss, part)
    return loss


class _Values:
    """The values (N,) of penalties in one pass. Penalties of the same formula at real and at generated images that went
    through the discriminator together are computed together."""

    def __init__(self, caller: str, discriminator: Callable[[Any], Any], images: DiscriminatorBatch, logits: Logits,
                 slopes: DiscriminatorBatch) -> None:
        self._caller, self._discriminator, self._images, self._logits = caller, discriminator, images, logits
        self._slopes = slopes
        self._of_both: dict[Callable[[Any], Any], Any] = {}

    def at(self, penalty: Penalty) -> Any:
        logits, measure = self._logits, penalty.of_gradients
        if penalty.place is Place.BETWEEN:
            between = self._between(penalty)
            with override(updating=frozenset()):  # running statistics belong to the pass over the images themselves
                outputs = one_each(self._caller, self._discriminator(between), between.shape[0])
            # (No cost is taken of these outputs, so there is nothing that `with_slopes` could save.)
            return measure(grad(sum_over(outputs), between, create_graph=True))
        real = penalty.place is Place.REAL
        if logits.both is None:
            return measure(self._slopes[0 if real else 1])
        if measure not in self._of_both:
            self._of_both[measure] = measure(self._slopes)
        n = len(logits.both) // 2
        return self._of_both[measure][:n] if real else self._of_both[measure][n:]

    def _between(self, penalty: Penalty) -> Tensor:
        """e * x + (1 - e) * G(z), with one random e from [0, 1) for each pair of images (and not for each value)."""
        n = self._logits.real.shape[0]
        check_pairs(self._caller, f"the penalty {penalty.name!r}", self._logits.real, self._logits.fake)
        real, fake = self._images if isinstance(self._images, tuple) else (self._images[:n], self._images[n:])
        like = as_array(real)
        e = draw_examples(next_key().uniform, (n, *[1] * (like.ndim - 1)), dtype=like.dtype, backend=backend_of(like))
        return _in_graph(add(mul(real, e), mul(fake, 1.0 - e)))


def _in_graph(images: Any) -> Tensor:
    """Images as a Tensor at which a gradient can end. Computed images get an alias: in an unrolled GAN the discriminator's
    parameters depend on these images too, but not on the alias. So the gradient by it is that for fixed parameters."""
    if isinstance(images, Tensor) and images.node is not None:
        found: Tensor = alias(images)
        return found
    return wrap(as_array(images), Leaf())
