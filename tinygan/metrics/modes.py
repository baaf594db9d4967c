"""Which modes a generator covers, if the modes are known: the centres of a mixture, or a classifier's labels."""
from __future__ import annotations

__all__ = ["LabelCoverage", "MixtureCoverage", "divergence_from_uniform", "label_coverage", "mixture_coverage"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_BATCH = 1 << 16


class MixtureCoverage(NamedTuple):
    """high_quality: the share of samples within 3 sigma of a centre. modes: how many centres have such a sample. reverse_kl:
    KL(generated || uniform) over the modes, in nats, where each sample counts for its nearest centre."""

    modes: int
    high_quality: float
    reverse_kl: float


class LabelCoverage(NamedTuple):
    """modes: how many labels occur. kl: KL(generated || uniform) over all labels, in nats. counts (labels,). confidence: the
    mean of the largest probabilities of the classifier that found the labels, or None if it is not known."""

    modes: int
    kl: float
    counts: Array
    confidence: float | None = None


def mixture_coverage(samples: Array, centres: Array, sigma: float) -> MixtureCoverage:
    """How samples (N, D) cover a mixture with these centres (M, D). The counts are those of VEEGAN (Srivastava et al. 2017,
    section 4.1), the divergence is that of PacGAN (Lin et al. 2018, section 4.1).

    A sample that is not finite belongs to no centre: it counts in N, but not in the divergence. In two dimensions, samples
    of the mixture itself have a high_quality of 1 - exp(-4.5) = 0.989.
    """
    fit = samples.ndim == centres.ndim == 2 and samples.shape[1] == centres.shape[1]
    if not (fit and len(samples) and len(centres)):
        raise ValueError(f"mixture_coverage: expected samples (N, D) and centres (M, D), got {samples.shape} and "
                         f"{centres.shape}")
    if not (sigma > 0 and np.isfinite(centres).all()):
        raise ValueError(f"mixture_coverage: sigma should be positive and centres finite, got {sigma} and {centres}")
    nearest, distance = [], []
    for start in range(0, len(samples), _BATCH):
        some = samples[start:start + _BATCH].astype(np.float64)
        squares = np.square(some[:, None] - centres.astype(np.float64)).sum(-1)
        nearest.append(squares.argmin(1))
        distance.append(np.sqrt(squares.min(1)))
    closest, far = np.concatenate(nearest), np.concatenate(distance)
    good = far <= 3 * sigma
    finite = np.isfinite(far)
    counts = np.bincount(closest[finite], minlength=len(centres))
    return MixtureCoverage(len(np.unique(closest[good])), float(good.mean()), divergence_from_uniform(counts))


def label_coverage(labels: Array, classes: int, confidence: float | None = None) -> LabelCoverage:
    """How labels (N,) cover the classes 0 to classes - 1, such as the 1,000 modes of stacked MNIST. Labels that are drawn
    uniformly have a divergence of about (classes - 1) / (2 N). confidence: that of the classifier, for the result."""
    if labels.ndim != 1 or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"label_coverage: expected labels (N,) from 0 to {classes - 1}, got shape {labels.shape}")
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"label_coverage: confidence should be from 0 to 1, got {confidence}")
    counts = np.bincount(labels, minlength=classes)
    return LabelCoverage(int((counts > 0).sum()), divergence_from_uniform(counts), counts, confidence)


def divergence_from_uniform(counts: Array) -> float:
    """KL(p || uniform) in nats for p = counts / sum(counts). It is between 0 and log(len(counts)), and NaN if all counts are
    0."""
    total = counts.sum()
    if not total:
        return float("nan")
    p = counts[counts > 0] / total
    return float(np.sum(p * np.log(p * len(counts))))
