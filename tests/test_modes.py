"""Data with known modes, and how many of them samples cover: known answers, and SciPy's divergence."""
import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

import tinygan as tg
from tinygan.metrics import label_coverage, mixture_coverage
from tinygan.random import Key

MIXTURES = {"ring": tg.data.gaussian_ring(), "small ring": tg.data.gaussian_ring(radius=1, sigma=0.01), "grid": tg.data.gaussian_grid()}


# -- data ------------------------------------------------------------------------------------------------------------


def test_the_ring_has_eight_distinct_centres():
    centres = tg.data.gaussian_ring().centres
    assert centres.shape == (8, 2)
    assert len(np.unique(centres.round(4), axis=0)) == 8
    np.testing.assert_allclose(np.hypot(*centres.T), 2, rtol=1e-6)
    gaps = np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1)
    np.testing.assert_allclose(gaps, 4 * np.sin(np.pi / 8), rtol=1e-5)


def test_the_grid_is_that_of_the_papers():
    centres = tg.data.gaussian_grid().centres
    assert sorted(map(tuple, centres.tolist())) == [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]


@pytest.mark.parametrize("name", MIXTURES)
def test_samples_are_of_their_mixture(name):
    mixture = MIXTURES[name]
    samples = mixture.sample(40_000, Key(3))
    assert samples.dtype == np.float32 and samples.shape == (40_000, 2)
    distances, nearest = cKDTree(mixture.centres).query(samples)
    # The distance from the centre has a Rayleigh distribution, and every centre is as likely as any other.
    assert stats.kstest(distances, stats.rayleigh(scale=mixture.sigma).cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(nearest, minlength=len(mixture.centres))).pvalue > 1e-3
    np.testing.assert_array_equal(samples, mixture.sample(40_000, Key(3)))
    assert not np.array_equal(samples, mixture.sample(40_000, Key(4)))


def digits(n=50, **changes):
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 1, 2, 2), np.uint8)
    return tg.data.Dataset(**{"name": "tens", "images": images, "labels": np.arange(n) % 10, "checksum": "sha256:0", **changes})


def test_stacked_images_have_three_digits_drawn_apart():
    made = tg.data.stacked(digits(), 5000, Key(0))
    assert made.name == "stacked tens" and made.image_shape == (3, 2, 2) and len(made) == 5000
    channels = made.images[:, :, 0, 0].astype(int) % 10
    np.testing.assert_array_equal(made.labels, channels @ [100, 10, 1])
    assert stats.chisquare(np.bincount(made.labels // 100)).pvalue > 1e-3
    assert abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.06
    assert made.checksum != tg.data.stacked(digits(), 5000, Key(1)).checksum


@pytest.mark.parametrize("changes", [{"labels": None}, {"labels": np.arange(50)}, {"images": np.zeros((50, 3, 2, 2), np.uint8)}])
def test_only_grey_digits_can_be_stacked(changes):
    with pytest.raises(ValueError, match="stacked: expected grey images with labels from 0 to 9, got tens"):
        tg.data.stacked(digits(**changes), 10, Key(0))


# -- coverage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_covers_itself(name):
    mixture = MIXTURES[name]
    found = mixture_coverage(mixture.sample(20_000, Key(0)), mixture.centres, mixture.sigma)
    assert found.modes == len(mixture.centres)
    assert found.high_quality == pytest.approx(1 - np.exp(-4.5), abs=0.004)
    assert found.reverse_kl == pytest.approx((len(mixture.centres) - 1) / 40_000, abs=1e-3)


def test_known_samples():
    mixture = tg.data.gaussian_ring()
    one = np.repeat(mixture.centres[3:4], 10, 0)
    assert mixture_coverage(one, mixture.centres, 0.02) == (1, 1.0, pytest.approx(np.log(8)))
    # Three at one centre, one at another, and four just beyond 3 sigma of a third: nearest to it, but not of high quality.
    samples = np.concatenate([one[:3], mixture.centres[:1], mixture.centres[[6] * 4] + [[0.0601, 0]]])
    found = mixture_coverage(samples, mixture.centres, 0.02)
    assert (found.modes, found.high_quality) == (2, 0.5)
    assert found.reverse_kl == pytest.approx(stats.entropy([3 / 8, 1 / 8, 4 / 8, 0, 0, 0, 0, 0], [1 / 8] * 8))


def test_an_unbalanced_sampler_shows_in_the_divergence_alone():
    mixture = tg.data.gaussian_ring()
    chosen = np.repeat(np.arange(8), [93, 1, 1, 1, 1, 1, 1, 1])
    found = mixture_coverage(mixture.centres[chosen], mixture.centres, 0.02)
    assert (found.modes, found.high_quality) == (8, 1.0)
    assert found.reverse_kl == pytest.approx(stats.entropy([0.93, *[0.01] * 7], [1 / 8] * 8))


def test_what_is_not_finite_is_no_mode():
    mixture = tg.data.gaussian_ring()
    samples = np.full((4, 2), np.nan, np.float32)
    assert mixture_coverage(samples, mixture.centres, 0.02)[:2] == (0, 0.0)
    samples[0] = mixture.centres[2]
    samples[1] = np.inf
    assert mixture_coverage(samples, mixture.centres, 0.02) == (1, 0.25, pytest.approx(np.log(8)))


def test_labels():
    rng = np.random.default_rng(0)
    found = label_coverage(rng.integers(0, 1000, 26_000), 1000)
    assert found.modes == 1000
    assert found.kl == pytest.approx(0.0193, abs=0.002)  # the floor for 26,000 samples
    assert label_coverage(np.zeros(100, int), 1000)[:2] == (1, pytest.approx(np.log(1000)))
    skewed = rng.choice(10, 500, p=np.arange(1, 11) / 55)
    found = label_coverage(skewed, 12)
    assert found.kl == pytest.approx(stats.entropy(found.counts / 500, np.full(12, 1 / 12)))
    assert found.confidence is None and label_coverage(skewed, 12, 0.75).confidence == 0.75
    with pytest.raises(ValueError, match=r"label_coverage: confidence should be from 0 to 1, got 99\.4"):
        label_coverage(skewed, 12, 99.4)
    with pytest.raises(ValueError, match=r"label_coverage: expected labels \(N,\) from 0 to 9, got"):
        label_coverage(np.array([10]), 10)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected samples \(N, D\) and centres \(M, D\), got \(5, 3\) and \(8, 2\)"):
        mixture_coverage(np.zeros((5, 3)), tg.data.gaussian_ring().centres, 0.02)
