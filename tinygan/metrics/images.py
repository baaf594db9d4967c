"""How far generated images are from real ones: scores from a classifier's probabilities, distances between its features, and
bins in the space of pixels. All functions take arrays."""
from __future__ import annotations

__all__ = ["BinDifference", "Bins", "PrecisionRecall", "fit_bins", "frechet_distance", "inception_score",
           "kernel_distance", "precision_recall"]

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.random import Key, as_key

Array = npt.NDArray[Any]
_BLOCK = 1 << 23  # matrices of all pairs are computed in blocks of so many elements
_SIGNIFICANT = 1.959963984540054  # 5 % of a standard normal distribution are farther from 0


class PrecisionRecall(NamedTuple):
    """precision: the share of generated samples that look real. recall: the share of real samples that could have been
    generated."""

    precision: float
    recall: float


class BinDifference(NamedTuple):
    """different: the number of bins whose share of the samples differs significantly. divergence: Jensen-Shannon, in
    nats."""

    different: int
    divergence: float


def inception_score(probabilities: Array) -> float:
    """exp(mean over images of KL(p(y|x) || p(y))) from class probabilities (N, classes). It is between 1 (all images alike,
    or all unclear) and the number of classes (Salimans et al. 2016, section 4, who use the Inception network)."""
    p = _matrix("inception_score", "probabilities", probabilities).astype(np.float64)
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("inception_score: each row of the probabilities should be 0 or more and sum to 1")
    return math.exp(_entropy(p.mean(0)) - float(np.mean([_entropy(row) for row in p])))


def frechet_distance(real: Array, generated: Array) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) with the means m and covariances C of features (N, F) and (M, F) (Heusel
    et al. 2017, equation 6). It is biased: even for two samples of one distribution it is positive, and larger for smaller
    samples."""
    a, b = _two("frechet_distance", real, generated)
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = (np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    # The root of C1 C2 has the same trace as the root of the symmetric matrix C1^(1/2) C2 C1^(1/2), whose eigenvalues are
    # real and not negative.
    root = _root(first)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * shared))  # (rounding may make it negative)


def kernel_distance(real: Array, generated: Array) -> float:
    """The squared maximum mean discrepancy of features (N, F) and (M, F) with the kernel (x . y / F + 1)^3 (KID: Binkowski
    et al. 2018, section 4). It is unbiased and uses all pairs. For two samples of one distribution it is near 0, and may be
    negative."""
    a, b = _two("kernel_distance", real, generated)

    def total(x: Array, y: Array) -> float:
        return math.fsum(cubes(block @ y.T) for block in _blocks(x, len(y)))

    def cubes(products: Array) -> float:
        kernel = products / a.shape[1] + 1
        return float(np.vdot(kernel, kernel * kernel))

    def within(x: Array) -> float:
        return (total(x, x) - cubes(np.square(x).sum(1))) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * total(a, b) / (len(a) * len(b))


def precision_recall(real: Array, generated: Array, k: int = 3) -> PrecisionRecall:
    """Precision and recall of features (N, F) and (M, F) (Kynkaanniemi et al. 2019, section 3). A sample is covered by a set
    if it is within the reach of one of the set's members: its distance to the member is at most that of the member's k-th
    nearest neighbour in the set. Both values depend on the numbers of samples, so compare only values with the same numbers.

    Equal samples have exactly the distance 0. For that, the features are rounded to steps of about a millionth of their
    range (see `_whole`), and the distances of the rounded features are exact."""
    a, b = _whole(*_two("precision_recall", real, generated))
    if not 1 <= k < min(len(a), len(b)):
        raise ValueError(f"precision_recall: k should be at least 1 and less than both numbers of samples, got {k} with "
                         f"{len(a)} and {len(b)}")
    return PrecisionRecall(_covered(b, a, k), _covered(a, b, k))


class Bins(NamedTuple):
    """A partition of the space of images: an image belongs to the bin of the nearest centre. centres (bins, D). counts
    (bins,): how many of the images from which the bins were made belong to each bin."""

    centres: Array
    counts: Array

    def compare(self, images: Array) -> BinDifference:
        """How many bins have a significantly different share of the images (N, ...), by a two-proportion z-test at 5 % in
        each bin (NDB: Richardson and Weiss 2018, section 3). For images of the same distribution, about 5 % of the bins
        do."""
        from scipy.cluster.vq import vq

        flat = _flat(images)
        if not flat.size or flat.shape[1] != self.centres.shape[1]:
            raise ValueError(f"Bins.compare: expected images of {self.centres.shape[1]} values, got shape {images.shape}")
        n, m = self.counts.sum(), len(flat)
        p, q = self.counts / n, np.bincount(vq(flat, self.centres)[0], minlength=len(self.centres)) / m
        pooled = (n * p + m * q) / (n + m)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        different = np.abs(p - q) > _SIGNIFICANT * error
        return BinDifference(int(different.sum()), _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)


def fit_bins(images: Array, bins: int = 100, key: Key | None = None, *, steps: int = 20) -> Bins:
    """Bins of images (N, ...), made by k-means on their values. It starts from `bins` of the images, drawn with `key`."""
    from scipy.cluster.vq import kmeans2, vq

    flat = _flat(images)
    if not 1 <= bins <= len(flat):
        raise ValueError(f"fit_bins: bins should be from 1 to the number of images ({len(flat)}), got {bins}")
    start = flat[as_key("fit_bins", key, Key(0)).permutation(len(flat))[:bins]]
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # (about empty bins, if images repeat)
        centres, _ = kmeans2(flat, start, iter=steps, minit="matrix", missing="warn")
    return Bins(centres, np.bincount(vq(flat, centres)[0], minlength=bins))


def _flat(images: Array) -> Array:
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    return flat.astype(np.result_type(images, np.float32), copy=False)


def _matrix(who: str, what: str, array: Array) -> Array:
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{who}: expected finite {what} (N, columns), not empty, got shape {array.shape}")
    return array


def _two(who: str, real: Array, generated: Array) -> tuple[Array, Array]:
    """Both as float64, because small differences of large numbers are computed from them."""
    a, b = (_matrix(who, what, array).astype(np.float64) for what, array in (("real", real), ("generated", generated)))
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"{who}: expected features (N, F) and (M, F) with N and M at least 2, got {a.shape} and {b.shape}")
    return a, b


def _blocks(x: Array, columns: int) -> list[Array]:
    """Views of the rows of x. Each has so many rows that a matrix of these rows and `columns` columns is one block."""
    rows = max(1, _BLOCK // columns)
    return [x[start:start + rows] for start in range(0, len(x), rows)]


def _whole(a: Array, b: Array) -> tuple[Array, Array]:
    """Features (N, F) and (M, F), centred and rounded to whole numbers of steps. The steps are so large that every term of
    |x|^2 - 2 x y + |y|^2 is below 2^53. So a squared distance is exact in float64, and does not depend on the order in which
    its terms are added."""
    centre = (a.min(0) + a.max(0)) / 2
    a, b = a - centre, b - centre
    largest = max(np.abs(a).max(), np.abs(b).max())
    most = 2 ** ((51 - math.ceil(math.log2(a.shape[1]))) // 2)  # |x|^2 + 2 |x y| + |y|^2 <= 4 F most^2
    step = 2.0 ** math.ceil(math.log2(largest / most)) if largest > 0 else 1  # (whole numbers stay as they are)
    return np.rint(a / step), np.rint(b / step)


def _squares(x: Array, y: Array) -> Array:
    """The squared distances of all pairs, (len(x), len(y)). x and y come from `_whole`."""
    found = x @ y.T
    found *= -2
    found += np.square(x).sum(1)[:, None]
    found += np.square(y).sum(1)
    return found


def _covered(samples: Array, members: Array, k: int) -> float:
    """The share of samples that are within the reach of a member: its distance to its k-th nearest neighbour."""
    n = len(members)
    # A member's smallest distance is 0, to itself. So the k-th neighbour has index k.
    reach = np.concatenate([np.partition(_squares(block, members), k, axis=1)[:, k] for block in _blocks(members, n)])
    return float(np.concatenate([(_squares(block, members) <= reach).any(1) for block in _blocks(samples, n)]).mean())


def _root(symmetric: Array) -> Array:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _entropy(p: Array) -> float:
    """The entropy of p in nats."""
    some = p[p > 0]
    return float(-(some * np.log(some)).sum())
