"""Scores and distances of generated images: SciPy's routines, plain loops, closed forms, and samples with known answers."""
import math

import numpy as np
import pytest
from scipy import linalg, stats
from scipy.spatial import cKDTree, distance

from tinygan import metrics
from tinygan.random import Key


def features(n, width=6, seed=0, shift=0.0, scale=1.0):
    """Correlated, so that the covariance is no multiple of the identity."""
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return np.random.default_rng(seed).normal(size=(n, width)) @ mixing * scale + shift


# -- inception score -------------------------------------------------------------------------------------------------


def test_inception_score_is_exp_of_the_mean_divergence():
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), size=500)
    assert metrics.inception_score(p) == pytest.approx(math.exp(np.mean([stats.entropy(row, p.mean(0)) for row in p])), rel=1e-10)


@pytest.mark.parametrize("rows, expected", [
    (np.eye(10), 10), (np.eye(10)[[3] * 20], 1), (np.full((8, 10), 0.1), 1), (np.eye(10)[[0, 1] * 5], 2),
])
def test_inception_score_of_known_predictions(rows, expected):
    assert metrics.inception_score(rows) == pytest.approx(expected, rel=1e-12)


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match="sum to 1"):
        metrics.inception_score(np.random.default_rng(0).normal(size=(5, 10)))


# -- Frechet distance ------------------------------------------------------------------------------------------------


def by_sqrtm(a, b):
    first, second = np.cov(a.T), np.cov(b.T)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)


def test_frechet_distance_is_that_by_scipys_matrix_root():
    a, b = features(300), features(200, seed=1, shift=0.5, scale=1.3)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-8)


def test_frechet_distance_of_moved_and_widened_samples():
    a = features(400)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert metrics.frechet_distance(a, a + 2) == pytest.approx(4 * 6, rel=1e-9)
    around = a - a.mean(0)
    assert metrics.frechet_distance(around, 3 * around) == pytest.approx(4 * np.trace(np.cov(a.T)), rel=1e-9)


def test_frechet_distance_of_features_that_never_change():
    """A dead feature, and fewer samples than features: covariances without an inverse."""
    a, b = features(5, 20), features(4, 20, seed=1)
    a[:, 3] = b[:, 3] = 7
    # With rows x of a and y of b around their means: the root's trace is the sum of the singular values of x y^T.
    x, y = (z - z.mean(0) for z in (a, b))
    shared = np.linalg.norm(x @ y.T, "nuc") / math.sqrt(4 * 3)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + (x * x).sum() / 4 + (y * y).sum() / 3 - 2 * shared
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


# -- kernel distance -------------------------------------------------------------------------------------------------


def test_kernel_distance_is_the_unbiased_estimate():
    a, b = features(20), features(15, seed=1, shift=0.3)

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 6 + 1) ** 3

    within = [sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
              for x in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert metrics.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kernel_distance_does_not_depend_on_the_blocks(monkeypatch):
    a, b = features(50), features(40, seed=1)
    whole = metrics.kernel_distance(a, b)
    monkeypatch.setattr(metrics.images, "_BLOCK", 90)
    assert metrics.kernel_distance(a, b) == pytest.approx(whole, rel=1e-9)


def test_kernel_distance_is_unbiased():
    found = [metrics.kernel_distance(features(30, seed=2 * i), features(30, seed=2 * i + 1)) for i in range(200)]
    assert stats.ttest_1samp(found, 0).pvalue > 1e-3 and min(found) < 0


# -- precision and recall --------------------------------------------------------------------------------------------


def share_covered(samples, members, k):
    reach = cKDTree(members).query(members, k + 1)[0][:, k]
    return np.mean([np.any(np.linalg.norm(members - x, axis=1) <= reach) for x in samples])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_by_a_tree(k, monkeypatch):
    a, b = features(60, 3), features(50, 3, seed=1, shift=0.8)
    monkeypatch.setattr(metrics.images, "_BLOCK", 500)
    assert metrics.precision_recall(a, b, k) == (share_covered(b, a, k), share_covered(a, b, k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("k", [1, 3])
def test_repeated_samples(k, offset, dtype, monkeypatch):
    """What a collapsed generator makes, and one that repeats the real images: exactly 1 where 1 is right."""
    monkeypatch.setattr(metrics.images, "_BLOCK", 5000)
    rng = np.random.default_rng(0)
    real = (offset + 3 * rng.normal(size=(300, 77))).astype(dtype)
    assert metrics.precision_recall(real, real.copy(), k) == (1, 1)
    assert metrics.precision_recall(real, real[rng.permutation(300)], k) == (1, 1)
    repeats = real[rng.integers(0, 300, 200)]
    assert metrics.precision_recall(real, repeats, k).precision == 1
    assert metrics.precision_recall(repeats, real, k).recall == 1
    collapsed = np.repeat(real[:10], 20, axis=0)
    found = metrics.precision_recall(real, collapsed[rng.permutation(200)], k)
    assert found.precision == 1 and found.recall == 10 / 300
    assert metrics.precision_recall(collapsed, collapsed[::-1], k) == (1, 1)
    same = np.repeat(real[:1], 50, axis=0)
    assert metrics.precision_recall(same, same[:20], k) == (1, 1)
    assert metrics.precision_recall(same, same + dtype(1), k) == (0, 0)


@pytest.mark.parametrize("columns", [13, 64, 301])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k, repeats", [(1, 2), (1, 4), (3, 4)])
def test_many_repeated_samples(k, repeats, dtype, columns):
    """Products of matrices round by where in them a row stands: distances that should be 0 were not, for a few in a thousand."""
    rng = np.random.default_rng(0)
    for count in (301, 997):
        base = rng.normal(size=(count // repeats, columns)).astype(dtype)
        some = base[rng.integers(0, len(base), 1001)]
        assert metrics.precision_recall(np.repeat(base, repeats, axis=0), some, k).precision == 1
        assert metrics.precision_recall(some, np.repeat(base, repeats, axis=0), k).recall == 1


def test_equally_far_is_within():
    """The k-th nearest neighbour itself counts, where others are just as far."""
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2).astype(np.float32)
    found = metrics.precision_recall(grid, grid[::-1] + np.float32([1, 0]), 2)
    assert found == (1, 1)


def test_what_is_lost_is_recall_and_what_is_wrong_is_precision():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) + 50])
    half, wrong = rng.normal(size=(400, 2)), np.concatenate([real[::2], rng.normal(size=(200, 2)) - 50])
    kept = metrics.precision_recall(real, half)
    assert kept.precision > 0.9 and 0.4 < kept.recall < 0.55
    spoilt = metrics.precision_recall(real, wrong)
    assert 0.45 < spoilt.precision < 0.55 and spoilt.recall > 0.9


# -- bins ------------------------------------------------------------------------------------------------------------


def blobs(counts, seed=0):
    """Tight groups of 2 x 2 images around 0, 10, 20, ..."""
    where = np.repeat(10.0 * np.arange(len(counts)), counts)
    return (where[:, None, None] + np.random.default_rng(seed).normal(size=(len(where), 2, 2))).astype(np.float32)


def test_bins_are_compared_by_a_chi_square_of_two_proportions():
    bins = metrics.Bins(np.repeat(10.0 * np.arange(4, dtype=np.float32)[:, None], 4, 1), np.array([100, 200, 300, 400]))
    counts = np.array([70, 102, 120, 208])
    tests = [stats.chi2_contingency([[n, 1000 - n], [m, 500 - m]], correction=False).pvalue
             for n, m in zip(bins.counts, counts, strict=True)]
    found = bins.compare(blobs(counts))
    assert found.different == sum(p < 0.05 for p in tests) == 2
    assert found.divergence == pytest.approx(distance.jensenshannon(bins.counts / 1000, counts / 500) ** 2, rel=1e-9)


def test_fitted_bins_hold_the_images_they_were_made_from():
    images = blobs([300, 200, 100])
    bins = metrics.fit_bins(images, 12, Key(1))
    assert bins.centres.shape == (12, 4) and bins.counts.sum() == 600
    assert bins.compare(images) == (0, pytest.approx(0, abs=1e-12))
    assert bins.compare(images[:300]).different >= 6  # two of three groups are missing


def test_samples_of_the_distribution_itself_differ_in_one_bin_of_twenty():
    rng = np.random.default_rng(0)
    bins = metrics.fit_bins(rng.normal(size=(20_000, 2)).astype(np.float32), 50)
    found = [bins.compare(rng.normal(size=(2000, 2)).astype(np.float32)).different for _ in range(40)]
    assert 0.03 < np.mean(found) / 50 < 0.07


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, message", [
    (lambda: metrics.frechet_distance(features(5), features(5, 7)), r"\(5, 6\) and \(5, 7\)"),
    (lambda: metrics.kernel_distance(features(5), features(1)), r"\(1, 6\)"),
    (lambda: metrics.frechet_distance(features(5) * np.nan, features(5)), "finite"),
    (lambda: metrics.precision_recall(features(5), features(5), 5), "k should be"),
    (lambda: metrics.inception_score(np.ones(3)), r"shape \(3,\)"),
    (lambda: metrics.fit_bins(blobs([5]), 2).compare(np.zeros((0, 4))), r"expected images of 4 values, got shape \(0, 4\)"),
    (lambda: metrics.fit_bins(blobs([5]), 6), "from 1 to the number of images"),
    (lambda: metrics.fit_bins(blobs([5]), 2).compare(np.zeros((3, 9))), r"expected images of 4 values, got shape \(3, 9\)"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_and_halves_are_measured_like_floats():
    a, b = (np.round(10 * features(60, seed=seed)) for seed in (1, 2))
    expected = metrics.precision_recall(a, b)
    assert 0 < expected.precision < 1
    for kind in (np.int64, np.float16, np.float32):
        assert metrics.precision_recall(a.astype(kind), b.astype(kind)) == expected
    np.testing.assert_array_equal(metrics.fit_bins(a.astype(np.float16), 5).centres, metrics.fit_bins(a.astype(np.float32), 5).centres)


def test_repeated_images_leave_bins_empty():
    bins = metrics.fit_bins(np.repeat(np.eye(3, dtype=np.float32), 20, 0), 6)
    assert np.count_nonzero(bins.counts) == 3
    assert bins.compare(np.repeat(np.eye(3, dtype=np.float32), 7, 0)) == (0, pytest.approx(0.0))


def test_a_distance_is_never_negative():
    x = 1e3 * features(50, 128)
    assert metrics.frechet_distance(x, x) >= 0
