"""The changes of images that the classifier of digits is trained and tested with: against plain loops and SciPy."""
import numpy as np
import pytest
import scipy.ndimage

from tinygan.metrics import changes
from tinygan.random import Key

IMAGES = Key(7).uniform((60, 1, 28, 28), -1, 1)
KEY = Key(3)


@pytest.mark.parametrize("change", [*changes.CHANGES.values(), changes.changed, changes.without_digits])
def test_a_change_follows_from_its_key_and_stays_among_images(change):
    before = IMAGES.copy()
    found = change(IMAGES, KEY)
    assert found.shape == IMAGES.shape and found.dtype == np.float32 and found.min() >= -1 and found.max() <= 1
    np.testing.assert_array_equal(IMAGES, before)
    np.testing.assert_array_equal(change(IMAGES, KEY), found)
    assert not np.array_equal(change(IMAGES, Key(4)), found) and not np.array_equal(found, IMAGES)


@pytest.mark.parametrize("change", [changes.shifted, changes.blurred, changes.contrasted, changes.brightened, changes.noisy])
def test_every_image_has_a_strength_of_its_own(change):
    found = change(np.repeat(IMAGES[:1] / 2, 10, axis=0), KEY)
    assert len(np.unique(found.reshape(10, -1), axis=0)) > 5


def test_shifts_repeat_the_edge():
    found = changes.shifted(IMAGES, KEY)
    at = np.arange(28)
    moves = set()
    for image, result in zip(IMAGES[:, 0], found[:, 0], strict=True):
        fits = [(down, right) for down in range(-2, 3) for right in range(-2, 3)
                if np.array_equal(result, image[np.clip(at - down, 0, 27)][:, np.clip(at - right, 0, 27)])]
        assert len(fits) == 1
        moves |= set(fits)
    assert len(moves) > 15  # of 25


def test_blurs_are_those_of_scipy():
    found = changes.blurred(IMAGES, KEY)
    strengths = changes.BLUR * KEY.uniform(len(IMAGES))
    assert strengths.max() > 0.9 * changes.BLUR
    for image, result, sigma in zip(IMAGES[:, 0].astype(float), found[:, 0], strengths, strict=True):
        np.testing.assert_allclose(result, scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", radius=3), atol=2e-6)


def test_contrast_multiplies_and_brightness_adds():
    """Measured between two pixels that are not clipped."""
    two = np.zeros((2000, 1, 1, 2), np.float32)
    two[..., 1] = 0.2
    factor = np.diff(changes.contrasted(two, KEY)[:, 0, 0])[:, 0] / 0.2
    added = changes.brightened(two, KEY)[:, 0, 0, 0]
    for found, (low, high) in ((factor, changes.CONTRAST), (added, changes.BRIGHTNESS)):
        assert low - 1e-5 <= found.min() < low + 0.01 and high - 0.01 < found.max() <= high + 1e-5
        assert found.mean() == pytest.approx((low + high) / 2, abs=0.05)
    ends = np.array([-1, 1], np.float32).reshape(1, 1, 1, 2).repeat(2000, 0)
    background, digit = changes.brightened(ends, KEY)[:, 0, 0].T
    np.testing.assert_array_equal(background == -1, added <= 0)
    np.testing.assert_array_equal(digit == 1, added >= 0)


def test_noise_is_normal_with_any_strength_up_to_the_largest():
    grey = np.zeros((500, 1, 28, 28), np.float32)
    found = changes.noisy(grey, KEY).reshape(500, -1)
    strengths = found.std(axis=1)
    assert strengths.min() < 0.01 and 0.28 < strengths.max() < 0.32 and strengths.mean() == pytest.approx(0.15, abs=0.02)
    scaled = (found / strengths[:, None]).ravel()
    assert abs(scaled.mean()) < 0.01 and np.mean(np.abs(scaled) < 1) == pytest.approx(0.683, abs=0.01)


def test_all_changes_are_made_one_after_the_other():
    expected = IMAGES
    for name, change in changes.CHANGES.items():
        expected = change(expected, KEY.fold(name))
    np.testing.assert_array_equal(changes.changed(IMAGES, KEY), expected)
    np.testing.assert_array_equal(changes.changed(IMAGES, KEY, 0.0), changes.shifted(IMAGES, KEY.fold("shift")))


def test_a_share_of_the_images_gets_each_change(monkeypatch):
    monkeypatch.setattr(changes, "SHIFT", 0)
    plain = np.zeros((4000, 1, 3, 3), np.float32) + np.linspace(-0.4, 0.4, 9, dtype=np.float32).reshape(3, 3)
    found = changes.changed(plain, KEY, 0.5)
    same = (found == plain).all(axis=(1, 2, 3))
    assert np.mean(same) == pytest.approx(1 / 16, abs=0.015)  # blur, contrast, brightness and noise are independent


def test_the_test_sets_are_each_change_alone_and_all():
    found = dict(changes.changed_sets(IMAGES, KEY))
    assert list(found) == ["shift", "blur", "contrast", "brightness", "noise", "all", "background"]
    np.testing.assert_array_equal(found["blur"], changes.blurred(IMAGES, KEY.fold("blur")))
    np.testing.assert_array_equal(found["all"], changes.changed(IMAGES, KEY.fold("all")))
    levels = found["background"].min(axis=(1, 2, 3))
    for image, result, level in zip(IMAGES, found["background"], levels, strict=True):
        np.testing.assert_array_equal(result, np.where(image > level, image, level))
    assert levels.min() < -0.9
    assert levels.max() <= -0.2 < levels.max() + 0.1


def test_images_without_digits_are_noise_or_blocks_that_changed_places():
    found = changes.without_digits(IMAGES, KEY)
    fine, smooth, cut = (found[i::3, 0] for i in range(3))
    strengths = fine.std(axis=(1, 2))
    assert strengths.min() < 0.2 and strengths.max() > 0.5
    along = [np.mean([np.corrcoef(image[:, :-1].ravel(), image[:, 1:].ravel())[0, 1] for image in some]) for some in (fine, smooth)]
    assert abs(along[0]) < 0.05 and along[1] > 0.7  # neighbours are independent, or nearly equal

    def blocks(image):
        return [image[7 * i:7 * i + 7, 7 * j:7 * j + 7] for i in range(4) for j in range(4)]

    moved = 0
    for image, result in zip(IMAGES[2::3, 0], cut, strict=True):
        old, new = ([block.tobytes() for block in blocks(some)] for some in (image, result))
        assert sorted(old) == sorted(new)
        moved += sum(a != b for a, b in zip(old, new, strict=True))
    assert moved > 0.8 * 16 * len(cut)
