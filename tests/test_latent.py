"""Walks and sums of latent vectors: ends, lengths, angles."""
import numpy as np
import pytest

from tinygan.gans import latent
from tinygan.random import Key


def ends(shape=(3, 7)):
    return Key(0).normal(shape, np.float64), Key(1).normal(shape, np.float64)


@pytest.mark.parametrize("walk", [latent.linear, latent.spherical])
@pytest.mark.parametrize("end", [[1j, 2], ["a", "b"], [[1], [1, 2]]])
def test_ends_that_are_no_real_numbers_are_refused(walk, end):
    with pytest.raises(TypeError, match=r"latent vectors should be .*real numbers, got list"):
        walk(end, [1, 2], 3)


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


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.0])
def test_a_spherical_walk_between_parallel_vectors_is_straight(factor):
    a, _ = ends()
    for first, last in ((a, factor * a), (factor * a, a)):
        np.testing.assert_allclose(latent.spherical(first, last, 4), latent.linear(first, last, 4), atol=1e-12)


def assert_half_a_circle(path, a, b, rtol):
    """From a to b by even turns in one plane, the length going evenly from one's to the other's."""
    path = path.astype(np.float64)
    np.testing.assert_array_equal(path[..., 0, :], a)
    np.testing.assert_array_equal(path[..., -1, :], b)
    lengths = np.linalg.norm(path, axis=-1, keepdims=True)
    np.testing.assert_allclose(lengths[..., 0], np.linspace(lengths[..., 0, 0], lengths[..., -1, 0], path.shape[-2], axis=-1),
                               rtol=rtol)
    units = path / lengths
    turns = np.arccos((units[..., 1:, :] * units[..., :-1, :]).sum(-1))
    np.testing.assert_allclose(turns, np.pi / (path.shape[-2] - 1), rtol=100 * rtol)
    assert (np.linalg.svd(units.reshape(-1, *path.shape[-2:]), compute_uv=False)[:, 2:] < 10 * rtol).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [2, 3, 7, 100])
@pytest.mark.parametrize("factor", [-1.0, -2.0, -1e-3])
def test_a_walk_between_opposite_vectors_is_an_arc(size, factor, dtype):
    a = Key(0).normal((3, size), dtype)
    b = (dtype(factor) * a).astype(dtype)
    path = latent.interpolate(a, b, 7, "normal")
    assert path.dtype == dtype
    assert_half_a_circle(path, a, b, 1e-6 if dtype is np.float32 else 1e-12)
    np.testing.assert_array_equal(path, latent.interpolate(a, b, 7, "normal"))  # always the same one
    np.testing.assert_array_equal(path[1], latent.interpolate(a[1], b[1], 7, "normal"))


@pytest.mark.parametrize("off", [1e-9, 1e-6, 1e-3])
def test_a_walk_between_nearly_opposite_vectors_is_an_arc(off):
    a, other = ends((3, 50))
    b = -1.1 * a + off * other
    assert_half_a_circle(latent.spherical(a, b, 9), a, b, 3 * max(off, 1e-6))


@pytest.mark.parametrize("vector", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [2.0, 2.0, 2.0], [0, 5.0]])
def test_opposite_vectors_of_few_elements(vector):
    a = np.array(vector)
    assert_half_a_circle(latent.spherical(a, -a, 5), a, -a, 1e-12)


def test_half_a_circle_has_elements_like_those_of_its_ends():
    a = Key(0).normal((20, 100), np.float64)
    middle = latent.spherical(a, -a, 3)[:, 1]
    assert np.abs(middle).max() < 1.05 * np.abs(a).max()


def test_opposite_numbers_have_a_straight_line_alone():
    np.testing.assert_allclose(latent.spherical(np.array([2.0]), np.array([-2.0]), 5)[:, 0], [2, 1, 0, -1, -2])


@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_uniform_noise_takes_an_arc_between_opposite_vectors_alone_and_stays_in_the_cube(off):
    a, b = (x[0] for x in (Key(0).uniform((1, 100), -1, 1, np.float64), Key(1).uniform((1, 100), -1, 1, np.float64)))
    path = latent.interpolate(a, -a + off * b, 9, "uniform")
    lengths = np.linalg.norm(path, axis=-1)
    assert np.abs(path).max() <= max(np.abs(a).max(), np.abs(path[-1]).max()) and lengths.min() > 0.9 * lengths[0]
    both = latent.interpolate(np.stack([a, a]), np.stack([-a, b]), 9, "uniform")  # each row by itself
    np.testing.assert_array_equal(both[1], latent.linear(a, b, 9))
    np.testing.assert_allclose(np.linalg.norm(both[0], axis=-1), lengths[0], rtol=0.03)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_walks_of_tiny_and_huge_vectors(scale):
    a, b = (x.astype(np.float32) for x in ends())
    found = latent.spherical(a * np.float32(scale), b * np.float32(scale), 4)
    np.testing.assert_allclose(found / scale, latent.spherical(a, b, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.bool_, list])
def test_whole_numbers_are_not_rounded_down(kind):
    ends_ = [[0, 1, 1], [1, 0, 1]]
    a, b = ends_ if kind is list else np.array(ends_, kind)
    for walk in (latent.linear, latent.spherical, lambda *p: latent.interpolate(*p, "normal"),
                 lambda *p: latent.interpolate(*p, "uniform")):
        found = walk(a, b, 5)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, walk(np.array(a, np.float32), np.array(b, np.float32), 5))
    np.testing.assert_allclose(latent.linear(a, b, 3)[1], [0.5, 0.5, 1])
    around = latent.neighbourhood(a, Key(0))
    assert around.dtype == np.float32 and len(np.unique(around, axis=0)) == 9
    means = latent.arithmetic(np.array(ends_), [0, 1], [1], [0])
    assert means[0].dtype == np.float32 and means[0].tolist() == [0.5, 0.5, 1]
    assert means[3].tolist() == [-0.5, 1.5, 1]


def test_the_walk_follows_the_noise():
    a, b = ends()
    np.testing.assert_array_equal(latent.interpolate(a, b, 4, "uniform"), latent.linear(a, b, 4))
    np.testing.assert_array_equal(latent.interpolate(a, b, 4, "normal"), latent.spherical(a, b, 4))


def test_walks_keep_the_precision():
    a, b = (x.astype(np.float32) for x in ends())
    assert latent.linear(a, b, 3).dtype == latent.spherical(a, b, 3).dtype == np.float32


def test_impossible_walks_are_refused():
    a, b = ends()
    with pytest.raises(ValueError, match=r"expected two ends of the same shape \(..., D\), got \(3, 7\) and \(2, 7\)"):
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
