"""Which modes a generator covers, where the modes are known: centres in the plane, or a classifier's labels."""
from __future__ import annotations

__all__ = ["LabelCoverage", "MixtureCoverage", "divergence_from_uniform", "label_coverage", "mixture_coverage"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_BATCH = 1 << 16


class MixtureCoverage(NamedTuple):
    """modes: how many centres are nearest to a high-quality sample. high_quality: the share of samples within 3 sigma of a
    centre. reverse_kl: KL(generated || uniform) over the modes, in nats, each sample counted at its nearest centre."""

    modes: int
    high_quality: float
    reverse_kl: float


class LabelCoverage(NamedTuple):
    """modes: how many labels occur. kl: KL(generated || uniform) over all labels, in nats. counts (labels,)."""

    modes: int
    kl: float
    counts: Array


def mixture_coverage(samples: Array, centres: Array, sigma: float) -> MixtureCoverage:
    """Of samples (N, D) against a mixture with these centres (M, D) (the counts of VEEGAN, Srivastava et al. 2017, section
    4.1; the divergence of PacGAN, Lin et al. 2018, section 4.1).

    A sample that is not finite is nobody's: it counts in N alone, and not in the divergence. Samples of the mixture itself
    have a share of 1 - exp(-4.5) = 0.989 in two dimensions.
    """
    fit = samples.ndim == centres.ndim == 2 and samples.shape[1] == centres.shape[1]
    if not (fit and len(samples) and len(centres)):
        raise ValueError(f"mixture_coverage: samples (N, D) and centres (M, D) expected, got {samples.shape} and "
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


def label_coverage(labels: Array, classes: int) -> LabelCoverage:
    """Of labels (N,) from 0 to classes - 1, such as those of stacked MNIST's 1,000 modes. Uniform labels themselves have a
    divergence of about (classes - 1) / (2 N)."""
    if labels.ndim != 1 or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"label_coverage: labels (N,) from 0 to {classes - 1} expected, got shape {labels.shape}")
    counts = np.bincount(labels, minlength=classes)
    return LabelCoverage(int((counts > 0).sum()), divergence_from_uniform(counts), counts)


def divergence_from_uniform(counts: Array) -> float:
    """KL(p || uniform) in nats for p = counts / sum(counts): from 0 to log(len(counts)); NaN if nothing was counted."""
    total = counts.sum()
    if not total:
        return float("nan")
    p = counts[counts > 0] / total
    return float(np.sum(p * np.log(p * len(counts))))
