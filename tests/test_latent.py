"""Walks and sums of latent vectors: ends, lengths, angles."""
import numpy as np
import pytest

from tinygan.gans import latent
from tinygan.random import Key


def ends(shape=(3, 7)):
    return Key(0).normal(shape, np.float64), Key(1).normal(shape, np.float64)


@pytest.mark.parametrize("walk", [latent.linear, latent.spherical])
def test_walks_begin_and_end_where_they_should(walk):
    a, b = ends()
    path = walk(a, b, 5)
    assert path.shape == (3, 5, 7)
    np.testing.assert_allclose(path[:, 0], a, atol=1e-12)
    np.testing.assert_allclose(path[:, -1], b, atol=1e-12)


def test_a_linear_walk_is_straight_and_even():
    a, b = ends()
    np.testing.assert_allclose(np.diff(latent.linear(a, b, 5), axis=1), np.repeat((b - a)[:, None] / 4, 4, 1), atol=1e-12)


def test_a_spherical_walk_keeps_the_length_and_turns_evenly():
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) * 3 for x in ends())
    path = latent.spherical(a, b, 6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 3, rtol=1e-12)
    angles = np.arccos((path[:, 1:] * path[:, :-1]).sum(-1) / 9)
    np.testing.assert_allclose(angles, np.arccos((a * b).sum(-1) / 9)[:, None] * np.full(5, 0.2), rtol=1e-8)


@pytest.mark.parametrize("factor", [1.0, -1.0, 2.0, 0.0])
def test_a_spherical_walk_between_parallel_vectors_is_straight(factor):
    a, _ = ends()
    np.testing.assert_allclose(latent.spherical(a, factor * a, 4), latent.linear(a, factor * a, 4), atol=1e-12)


def test_the_walk_follows_the_noise():
    a, b = ends()
    np.testing.assert_array_equal(latent.interpolate(a, b, 4, "uniform"), latent.linear(a, b, 4))
    np.testing.assert_array_equal(latent.interpolate(a, b, 4, "normal"), latent.spherical(a, b, 4))


def test_walks_keep_the_precision():
    a, b = (x.astype(np.float32) for x in ends())
    assert latent.linear(a, b, 3).dtype == latent.spherical(a, b, 3).dtype == np.float32


def test_impossible_walks_are_refused():
    a, b = ends()
    with pytest.raises(ValueError, match=r"one shape \(..., D\) expected, got \(3, 7\) and \(2, 7\)"):
        latent.linear(a, b[:2], 4)
    with pytest.raises(ValueError, match="steps should be at least 2, got 1"):
        latent.spherical(a, b, 1)


def test_arithmetic_is_that_of_the_means():
    z = np.arange(20.0).reshape(10, 2) ** 2
    a, b, c, total = latent.arithmetic(z, [0, 1], [2], [3, 4, 5])
    np.testing.assert_allclose(total, (z[0] + z[1]) / 2 - z[2] + (z[3] + z[4] + z[5]) / 3)
    np.testing.assert_allclose((a, b, c), ((z[0] + z[1]) / 2, z[2], (z[3] + z[4] + z[5]) / 3))


def test_a_neighbourhood_has_its_vector_in_the_middle():
    z = Key(0).normal(50)
    around = latent.neighbourhood(z, Key(1))
    np.testing.assert_array_equal(around[4], z)
    away = np.delete(around, 4, axis=0) - z
    assert 0.2 < np.abs(away).max() <= 0.25 + 1e-6 and np.abs(away).min(axis=1).max() < 0.25
    assert len(np.unique(around, axis=0)) == 9


def test_images_that_look_alike_form_groups():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 1, 4, 4))
    which = rng.permutation(np.repeat([0, 1, 2], 4))
    images = kinds[which] + 0.01 * rng.normal(size=(12, 1, 4, 4))
    groups = latent.alike(images, 3, 3)
    assert [len(set(which[group])) for group in groups] == [1, 1, 1]
    assert len({which[group[0]] for group in groups}) == 3 and len({i for group in groups for i in group}) == 9
    with pytest.raises(ValueError, match="3 groups of 5 need 15 images, got 12"):
        latent.alike(images, 3, 5)
    assert len(latent.alike(np.zeros((9, 1, 2, 2)), 3, 3)) == 3  # a collapsed generator's
