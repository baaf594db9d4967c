"""How far generated images are from real ones: scores of what a classifier sees in them, distances between its features,
and bins in the space of pixels. All of them take arrays, whatever made those."""
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
_BLOCK = 1 << 23  # elements of a block of a matrix of all pairs
_SIGNIFICANT = 1.959963984540054  # standard normal: 5 % of it is farther from 0


class PrecisionRecall(NamedTuple):
    """precision: the share of generated samples that look real. recall: the share of real ones that could be generated."""

    precision: float
    recall: float


class BinDifference(NamedTuple):
    """different: bins whose share among the samples differs significantly. divergence: Jensen-Shannon, in nats."""

    different: int
    divergence: float


def inception_score(probabilities: Array) -> float:
    """exp(mean over images of KL(p(y|x) || p(y))) from class probabilities (N, classes): from 1, all alike or all unclear,
    to the number of classes (Salimans et al. 2016, section 4; there with the Inception network)."""
    p = _matrix("inception_score", "probabilities", probabilities).astype(np.float64)
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("inception_score: each row of the probabilities should be from 0 on and sum to 1")
    return math.exp(_entropy(p.mean(0)) - float(np.mean([_entropy(row) for row in p])))


def frechet_distance(real: Array, generated: Array) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of means and covariances of features (N, F) and (M, F) (Heusel et al.
    2017, equation 6). Biased: even two samples of one distribution are apart, the farther the smaller they are."""
    a, b = _two("frechet_distance", real, generated)
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    first, second = (np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    # The trace of the root of C1 C2 is that of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues are real and from 0 on.
    root = _root(first)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * shared))  # (rounding may go below)


def kernel_distance(real: Array, generated: Array) -> float:
    """The squared maximum mean discrepancy of features (N, F) and (M, F) under the kernel (x . y / F + 1)^3 (KID: Binkowski
    et al. 2018, section 4). Unbiased, over all pairs: around 0, and as easily below, for two samples of one distribution."""
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
    """Of features (N, F) and (M, F) (Kynkaanniemi et al. 2019, section 3): a sample is covered by a set when it is no
    farther from one of the set's members than that one's k-th nearest neighbour in the set is. Both depend on the numbers of
    samples; compare only like with like.

    Equal samples are at distance 0: the features are rounded to steps of about a millionth of their range (see `_whole`),
    and between these the distances are exact."""
    a, b = _whole(*_two("precision_recall", real, generated))
    if not 1 <= k < min(len(a), len(b)):
        raise ValueError(f"precision_recall: k should be from 1 to one less than the samples of either kind, got {k} with "
                         f"{len(a)} and {len(b)}")
    return PrecisionRecall(_covered(b, a, k), _covered(a, b, k))


class Bins(NamedTuple):
    """A partition of the space of images: each belongs to the nearest centre. centres (bins, D); counts (bins,) of the
    images that it was made from."""

    centres: Array
    counts: Array

    def compare(self, images: Array) -> BinDifference:
        """How many bins have a significantly different share of the images (N, ...): two-proportion z-test at 5 % in each
        bin (NDB: Richardson and Weiss 2018, section 3). Of samples of the distribution itself, about 5 % of the bins."""
        from scipy.cluster.vq import vq

        flat = _flat(images)
        if not flat.size or flat.shape[1] != self.centres.shape[1]:
            raise ValueError(f"Bins.compare: images of {self.centres.shape[1]} values expected, got shape {images.shape}")
        n, m = self.counts.sum(), len(flat)
        p, q = self.counts / n, np.bincount(vq(flat, self.centres)[0], minlength=len(self.centres)) / m
        pooled = (n * p + m * q) / (n + m)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        different = np.abs(p - q) > _SIGNIFICANT * error
        return BinDifference(int(different.sum()), _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)


def fit_bins(images: Array, bins: int = 100, key: Key | None = None, *, steps: int = 20) -> Bins:
    """Bins of images (N, ...) by k-means on their values, from `bins` of the images, drawn from `key`."""
    from scipy.cluster.vq import kmeans2, vq

    flat = _flat(images)
    if not 1 <= bins <= len(flat):
        raise ValueError(f"fit_bins: bins should be from 1 to the number of images ({len(flat)}), got {bins}")
    start = flat[as_key("fit_bins", key, Key(0)).permutation(len(flat))[:bins]]
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of bins that stay empty, where images repeat
        centres, _ = kmeans2(flat, start, iter=steps, minit="matrix", missing="warn")
    return Bins(centres, np.bincount(vq(flat, centres)[0], minlength=bins))


def _flat(images: Array) -> Array:
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    return flat.astype(np.result_type(images, np.float32), copy=False)


def _matrix(who: str, what: str, array: Array) -> Array:
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{who}: {what} (N, columns), not empty and finite, expected, got shape {array.shape}")
    return array


def _two(who: str, real: Array, generated: Array) -> tuple[Array, Array]:
    """Both as float64 (the differences below are small ones of large numbers)."""
    a, b = (_matrix(who, what, array).astype(np.float64) for what, array in (("real", real), ("generated", generated)))
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"{who}: features (N, F) and (M, F) with N and M at least 2 expected, got {a.shape} and {b.shape}")
    return a, b


def _blocks(x: Array, columns: int) -> list[Array]:
    """Views of rows of x, so many that their matrix with so many columns is a block."""
    rows = max(1, _BLOCK // columns)
    return [x[start:start + rows] for start in range(0, len(x), rows)]


def _whole(a: Array, b: Array) -> tuple[Array, Array]:
    """Features (N, F) and (M, F), centred and rounded to whole numbers of steps. The steps are so large that every term of
    |x|^2 - 2 x y + |y|^2 is below 2^53: so in float64 a squared distance is exact, in whatever order its terms are added."""
    centre = (a.min(0) + a.max(0)) / 2
    a, b = a - centre, b - centre
    largest = max(np.abs(a).max(), np.abs(b).max())
    most = 2 ** ((51 - math.ceil(math.log2(a.shape[1]))) // 2)  # |x|^2 + 2 |x y| + |y|^2 <= 4 F most^2
    step = 2.0 ** math.ceil(math.log2(largest / most)) if largest > 0 else 1  # (whole features stay what they are)
    return np.rint(a / step), np.rint(b / step)


def _squares(x: Array, y: Array) -> Array:
    """The squared distances of all pairs, (len(x), len(y)), of what `_whole` returned."""
    found = x @ y.T
    found *= -2
    found += np.square(x).sum(1)[:, None]
    found += np.square(y).sum(1)
    return found


def _covered(samples: Array, members: Array, k: int) -> float:
    """The share of samples within a member's distance to its k-th nearest neighbour."""
    n = len(members)
    # Its own distance, 0, is among a member's distances: so k counts from there.
    reach = np.concatenate([np.partition(_squares(block, members), k, axis=1)[:, k] for block in _blocks(members, n)])
    return float(np.concatenate([(_squares(block, members) <= reach).any(1) for block in _blocks(samples, n)]).mean())


def _root(symmetric: Array) -> Array:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _entropy(p: Array) -> float:
    """In nats."""
    some = p[p > 0]
    return float(-(some * np.log(some)).sum())
