"""Whether a generator's samples are alike, in words: mode collapse can be seen in the pictures, and is measured here."""
from __future__ import annotations

__all__ = ["distance_of_data", "likeness", "mean_distance"]

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.runs.previews import translates

from ..records import Absent, Run
from .positions import Position, moment, percent, short

Array = npt.NDArray[Any]

ALIKE = 0.5
"""Samples are called alike below this share of the distance between real examples. It is taken from the data, not from the
first record: an untrained generator's samples are alike, too. The mean of a batch of 16 real MNIST digits is within 8% of
that of all. A healthy vanilla run on MNIST passes one half in its third epoch and then stays above two thirds; a collapsing
one never reaches it, and a generator that covers two neighbouring modes of a ring of eight has one third."""

EARLY = 2000
"""Steps. In healthy runs the samples are alike, too, up to step 1,000 or so: a longer stay is a collapse."""

_REAL = 256  # examples of the data that are compared
_VERDICTS = {
    False: "Usual in the first 2,000 steps. If it stays, it is mode collapse.",
    True: "This is mode collapse: the generator makes much the same of every latent vector, so the discriminator sends "
          "nearly the same message to all of them.",
}


def mean_distance(examples: Array) -> float:
    """The mean distance between two different ones of the examples (N, ...)."""
    flat = examples.reshape(len(examples), -1).astype(np.float64)
    squares = np.square(flat).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0))
    np.fill_diagonal(distances, 0)  # (rounding leaves more there)
    return float(distances.sum() / (len(flat) * (len(flat) - 1)))


def distance_of_data(run: Run, shape: tuple[int, ...]) -> float | None:
    """The mean distance between two examples of the run's data. None if the data cannot be loaded, or are no examples of
    what the generator makes, (shape)."""
    data = run.dataset()
    if isinstance(data, Absent) or translates(run.gan):
        return None
    n = min(_REAL, len(data))
    real = data.batch(np.arange(n) * len(data) // n)  # from everywhere: data may be sorted by class
    return mean_distance(real) if n > 1 and real.shape[1:] == shape else None


def likeness(moments: Sequence[Position], real: float | None) -> str:
    """What to say of samples that are alike; "" if there is nothing to say, or if real, the distance between real examples,
    is not known.

    It is said if they are alike at all records, or for two records or more after they were different. If they were alike
    from the start and are no longer, the run is healthy."""
    if not real:
        return ""
    distances = np.array([mean_distance(_in_range(position.arrays["images"])) for position in moments])
    holds = distances < ALIKE * real
    changes = [0, *(np.flatnonzero(holds[1:] != holds[:-1]) + 1), len(holds)]
    stretches = [(int(a), int(b) - 1) for a, b in pairwise(changes) if holds[a]]
    told = [(a, b) for a, b in stretches if (a < b if a else b == len(holds) - 1)]
    if not told:
        return ""
    start, end = told[-1] if told[-1][1] == len(holds) - 1 else max(told, key=lambda stretch: stretch[1] - stretch[0])
    lasts = end == len(holds) - 1
    when = f"since {moment(moments[start])}" if lasts else f"from {moment(moments[start])} to {moment(moments[end])}"
    if lasts and start == 0:
        when = "at every record of the run" if len(moments) > 1 else f"at {moment(moments[end])}"
    collapsed = start > 0 or moments[end].step > EARLY
    n = len(moments[end].arrays["images"])
    meaning = (" (The distance is the length of the difference of two images over all pixels, which go from -1 to 1.)"
               if moments[end].arrays["images"].ndim == 4 else "")
    return (f"The {n} images {'are' if lasts else 'were'} alike {when}: at {moment(moments[end])}, the distance between "
            f"two of them is {short(distances[end])} on average, which is {percent(distances[end] / real)} of the "
            f"{short(real)} between two of the data. Below {percent(ALIKE)} we call them alike. "
            f"{_VERDICTS[collapsed]}{meaning}")


def _in_range(images: Array) -> Array:
    """Bytes as values in [-1, 1]; points stay as they are."""
    return images / 127.5 - 1 if images.dtype == np.uint8 else images
