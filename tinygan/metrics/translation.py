"""Whether digits keep their class when they are translated to another domain and back."""
from __future__ import annotations

__all__ = ["Kept", "kept_classes"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.metrics.digits import DigitClassifier

Array = npt.NDArray[Any]


class Kept(NamedTuple):
    """Shares of digits, from 0 to 1, that the classifier still takes for their class: digits of A after G_AB, digits of B
    after G_BA, and both after a whole cycle."""

    a_to_b: float
    b_to_a: float
    a_home: float
    b_home: float


def kept_classes(classifier: DigitClassifier, cycles: Sequence[Array], labels: Array,
                 undo: Callable[[Array], Array]) -> Kept:
    """cycles: a, G_AB(a), G_BA(G_AB(a)), b, G_BA(b), G_AB(G_BA(b)), as `DiscoGAN.cycles` returns them. labels (N,): 10 *
    (the label of a) + (the label of b). undo: makes the grey digits (N, 1, 28, 28) that the classifier knows from images of
    B, as `tinygan.data.DOMAINS` has it."""
    if len(cycles) != 6 or labels.shape != (len(cycles[0]),):
        raise ValueError(f"kept_classes: expected six arrays of images and a label for each, got {len(cycles)} arrays and "
                         f"labels {labels.shape}")
    of_a, of_b = np.divmod(labels, 10)
    _, there, home, _, back, again = cycles

    def share(images: Array, expected: Array) -> float:
        return float((classifier(np.ascontiguousarray(images)).labels == expected).mean())

    return Kept(share(undo(there), of_a), share(back, of_b), share(home, of_a), share(undo(again), of_b))
