"""Grids, animations and the loss figure: what a reader of the file sees."""
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinygan import plotting


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_a_grid_shows_every_image_where_it_belongs(tmp_path):
    images = np.linspace(-1, 1, 5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((5, 1, 64, 64), np.float32)
    plotting.save_grid(tmp_path / "g.png", images, title="five shades of tiny", columns=3)
    grid = pixels(tmp_path / "g.png")
    assert grid.ndim == 2 and grid.shape[1] == 3 * 65 + 1
    centres = [grid[65 * row + 33, 65 * column + 33] for row in range(2) for column in range(3)]
    assert centres[:5] == [0, 64, 128, 191, 255]
    with Image.open(tmp_path / "g.png") as image:
        assert image.text["Title"] == "five shades of tiny"
    assert (grid[2 * 65 + 1:] < 128).any()  # the caption is drawn, too


def test_bytes_survive_the_way_through_a_grid(tmp_path):
    original = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    plotting.save_grid(tmp_path / "g.png", original / 127.5 - 1, title="bytes")
    np.testing.assert_array_equal(pixels(tmp_path / "g.png")[4:4 + 64:4, 4:4 + 64:4], original[0, 0])


@pytest.mark.parametrize("channels, shape", [(1, 2), (2, 2), (3, 3), (4, 3)])
def test_channels_become_grey_or_colours(tmp_path, channels, shape):
    plotting.save_grid(tmp_path / "g.png", np.zeros((4, channels, 8, 8)), title="")
    assert pixels(tmp_path / "g.png").ndim == shape


def test_nan_and_out_of_range_are_drawn_without_a_warning(tmp_path):
    plotting.save_grid(tmp_path / "g.png", np.array([np.nan, np.inf, -np.inf, 9]).reshape(4, 1, 1, 1), title="")


def test_no_images_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"draw_grid: images must be \(N, C, H, W\).*\(0, 1, 2, 2\)"):
        plotting.save_grid(tmp_path / "g.png", np.zeros((0, 1, 2, 2)), title="")


def test_an_animation_has_the_pictures_as_frames_and_few_of_many(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(90)]
    for i, path in enumerate(paths):
        plotting.save_grid(path, np.full((4, 1, 8, 8), i / 45 - 1), title="frame")
    for count, expected in ((3, 3), (90, 60)):
        plotting.animate(tmp_path / "a.gif", paths[:count])
        with Image.open(tmp_path / "a.gif") as animation:
            assert animation.n_frames == expected
            animation.seek(expected - 1)
            last = np.array(animation.convert("L"), dtype=int)
        assert np.abs(last - pixels(paths[count - 1])).max() <= 2


@pytest.mark.parametrize("steps, per_epoch", [(1, 1), (3, 5), (12, 5), (40, 4)])
def test_losses_are_drawn_in_two_panels(tmp_path, monkeypatch, steps, per_epoch):
    import matplotlib.figure

    figures = []
    original = matplotlib.figure.Figure.suptitle
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle",
                        lambda self, title: (figures.append(self), original(self, title))[1])
    d_loss, g_loss = np.arange(steps) / 10, np.ones(steps)
    plotting.save_losses(tmp_path / "l.png", d_loss, g_loss, steps_per_epoch=per_epoch, title="GAN on tiny")
    first, every = figures[0].axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), d_loss[:per_epoch])
    means = [d_loss[i:i + per_epoch].mean() for i in range(0, steps, per_epoch)]
    np.testing.assert_allclose(every.lines[0].get_ydata(), means)
    with Image.open(tmp_path / "l.png") as image:
        assert image.text["Title"] == "GAN on tiny"


def test_drawing_leaves_matplotlibs_global_state_alone(tmp_path):
    script = f"""
import sys
from tinygan import plotting
plotting.save_losses({str(tmp_path / 'l.png')!r}, [1.0, 2.0], [1.0, 2.0], steps_per_epoch=1, title="")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
