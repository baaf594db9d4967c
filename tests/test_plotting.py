"""Grids, animations, losses, networks, latent vectors: what a reader of the file sees."""
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tinygan as tg
from tinygan import nn, plotting
from tinygan.random import Key


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


def test_a_long_caption_takes_several_lines_and_an_animation_any_sizes(tmp_path):
    images = np.zeros((2, 1, 8, 8))
    for name, title in (("short", "short"), ("long", "a caption that is far too long for two small images")):
        plotting.save_grid(tmp_path / f"{name}.png", images, title=title)
    short, long = pixels(tmp_path / "short.png"), pixels(tmp_path / "long.png")
    assert short.shape[1] == long.shape[1] and short.shape[0] < long.shape[0]
    assert (long[8 * 10:, -3:] == 255).all()  # below the images, no letter reaches the edge
    plotting.animate(tmp_path / "a.gif", [tmp_path / "short.png", tmp_path / "long.png"])
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 2 and animation.size == (long.shape[1], long.shape[0])


@pytest.mark.parametrize("steps, per_epoch", [(1, 1), (3, 5), (12, 5), (40, 4)])
def test_losses_are_drawn_in_two_panels_from_the_second_epoch_on(tmp_path, monkeypatch, steps, per_epoch):
    import matplotlib.figure

    figures = []
    original = matplotlib.figure.Figure.suptitle
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle",
                        lambda self, title: (figures.append(self), original(self, title))[1])
    d_loss, g_loss = np.arange(steps) / 10, np.ones(steps)
    plotting.save_losses(tmp_path / "l.png", d_loss, g_loss, steps_per_epoch=per_epoch, title="GAN on tiny")
    first, *every = figures[0].axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), d_loss[:per_epoch])
    means = [d_loss[i:i + per_epoch].mean() for i in range(0, steps, per_epoch)]
    assert len(every) == (len(means) > 1)
    for axes in every:
        np.testing.assert_allclose(axes.lines[0].get_ydata(), means)
    with Image.open(tmp_path / "l.png") as image:
        assert image.text["Title"] == "GAN on tiny"


@pytest.mark.parametrize("epochs", [1, 2])
def test_what_else_a_gan_reports_has_a_panel(tmp_path, monkeypatch, epochs):
    import matplotlib.figure

    figures = []
    original = matplotlib.figure.Figure.suptitle
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle",
                        lambda self, title: (figures.append(self), original(self, title))[1])
    measures = {"first_nats": np.arange(6) / 3, "second_nats": -np.ones(6)}
    plotting.save_losses(tmp_path / "l.png", np.ones(6), np.ones(6), steps_per_epoch=6 // epochs, title="GAN",
                         measures=measures)
    *_, beside, more = figures[0].axes
    assert [line.get_label() for line in more.lines] == list(measures)
    expected = [[1 / 3, 4 / 3], [-1, -1]] if epochs > 1 else list(measures.values())  # means of epochs, or steps
    np.testing.assert_allclose([line.get_ydata() for line in more.lines], expected)
    assert more.get_xlim() == beside.get_xlim()


def test_the_loss_is_drawn_beside_the_quality_where_rows_have_it(tmp_path, monkeypatch):
    import matplotlib.figure

    figures = []
    original = matplotlib.figure.Figure.suptitle
    monkeypatch.setattr(matplotlib.figure.Figure, "suptitle",
                        lambda self, title: (figures.append(self), original(self, title))[1])
    floor = {"frechet": 0.1, "recall": 0.9, "precision": 0.8}
    rows = [{"epoch": 1, **floor}, {"epoch": 2, **floor, "d_loss": 0.5}, {"epoch": 3, **floor, "d_loss": 0.7}]
    plotting.save_quality(tmp_path / "q.png", rows, floor, title="GAN")
    drawn = [axes for axes in figures[0].axes if axes.axison]
    assert len(drawn) == 4 and drawn[3].get_title() == "the discriminator's loss"
    (line,) = drawn[3].lines  # real images have none
    np.testing.assert_array_equal(line.get_xydata(), [[2, 0.5], [3, 0.7]])
    plotting.save_quality(tmp_path / "q.png", rows[:1], floor, title="GAN")
    assert len([axes for axes in figures[1].axes if axes.axison]) == 3


def test_drawing_leaves_matplotlibs_global_state_alone(tmp_path):
    script = f"""
import sys
from tinygan import plotting
plotting.save_losses({str(tmp_path / 'l.png')!r}, [1.0, 2.0], [1.0, 2.0], steps_per_epoch=1, title="")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


# -- networks and latent vectors -------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
    """Every matplotlib figure that is written."""
    import matplotlib.figure

    written = []
    original = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig",
                        lambda self, *args, **options: (written.append(self), original(self, *args, **options))[1])
    return written


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_generator_is_drawn_with_its_shapes_and_kernels(tmp_path, figures):
    generator, _ = tg.gans.dcgan_networks((3, 28, 28), 10, 4)
    plotting.save_architecture(tmp_path / "g.png", generator.initialize(Key(0)), Key(1).normal((1, 10)), title="G",
                               names=("z", "G(z)"))
    seen = words(figures[0])
    for expected, times in {"z": 1, "G(z)": 1, "10": 1, "8": 1, "7": 2, "4": 1, "14": 2, "3": 1, "28": 2}.items():
        assert seen.count(expected) == times, expected
    assert "dense\nreshape\nbatch norm\nReLU" in seen
    assert "transposed\nconvolution\n4\N{MULTIPLICATION SIGN}4, stride 2\ntanh" in seen
    assert len(figures[0].axes[0].images) == 1  # the generated image, on the face of its block
    with Image.open(tmp_path / "g.png") as image:
        assert image.text["Title"] == "G"


def test_blocks_grow_with_rows_columns_and_channels(tmp_path, figures):
    network = nn.Sequential(nn.Conv2d(2, 32, 3, (2, 1), 1), nn.ReLU(), nn.Flatten(), nn.Dense(32 * 4 * 6, 9))
    plotting.save_architecture(tmp_path / "d.svg", network.initialize(Key(0)), np.zeros((1, 2, 8, 6), np.float32), title="D",
                               names=("x", "y"))
    faces = [patch.get_xy() for patch in figures[0].axes[0].patches if patch.get_facecolor()[3] == 1 and patch.fill]
    fronts = [face for face in faces if face[0][1] == face[1][1] and face[1][0] == face[2][0]]
    (first, second, vector) = ((face[1][0] - face[0][0], face[2][1] - face[1][1]) for face in fronts)
    assert second[0] / first[0] == pytest.approx(4) and first[1] / second[1] == pytest.approx(2**0.5)
    assert vector[1] < first[1]
    assert "convolution\n3\N{MULTIPLICATION SIGN}3, stride 2\N{MULTIPLICATION SIGN}1\nReLU\nflatten" in words(figures[0])


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_dense_networks_are_drawn_too_in_three_formats(tmp_path, suffix, start):
    generator, _ = tg.gans.vanilla_networks((1, 4, 4), 3)
    path = tmp_path / f"g.{suffix}"
    plotting.save_architecture(path, generator.initialize(Key(0)), Key(1).normal((1, 3)), title="G", names=("z", "G(z)"))
    assert path.read_bytes().startswith(start)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    generator = tg.gans.vanilla_networks((1, 4, 4), 3)[0].initialize(Key(0))
    draw = {"x": Key(1).normal((1, 3)), "title": "", "names": ("z", "y")}
    with pytest.raises(ValueError, match=r"expected a name that ends in .png, .pdf, .svg, got .*g.jpg"):
        plotting.save_architecture(tmp_path / "g.jpg", generator, **draw)
    with pytest.raises(TypeError, match="expected a Sequential, got Dense"):
        plotting.save_architecture(tmp_path / "g.png", generator[0], **draw)


def test_candidates_are_numbered(tmp_path, figures):
    plotting.save_candidates(tmp_path / "c.png", np.zeros((11, 1, 4, 4)), title="eleven", columns=4)
    assert words(figures[0]) == ["eleven", *map(str, range(11))]
    places = [image.get_extent() for image in figures[0].axes[0].images]
    assert len({left for left, *_ in places}) == 4 and len({top for *_, top in places}) == 3


def test_arithmetic_shows_groups_means_sum_and_neighbourhood(tmp_path, figures):
    rng = np.random.default_rng(0)
    groups = [rng.uniform(-1, 1, (n, 3, 4, 4)) for n in (3, 2, 4)]
    around = rng.uniform(-1, 1, (9, 3, 4, 4))
    plotting.save_arithmetic(tmp_path / "a.png", groups, np.zeros((3, 3, 4, 4)), around, np.ones((3, 4, 4)),
                             names=["A: 1", "B: 2", "C: 3"], title="A - B + C")
    seen = words(figures[0])
    assert {"A - B + C", "A: 1", "B: 2", "C: 3", "\N{MINUS SIGN}", "+", "="} <= set(seen)
    axes = figures[0].axes[0]
    assert len(axes.images) == 3 + 2 + 4 + 3 + 9 + 1
    (frame,) = axes.patches  # around the sum itself
    framed = [image for image in axes.images if image.get_extent()[0] == frame.get_x() and image.get_extent()[3] == frame.get_y()]
    np.testing.assert_array_equal(framed[0].get_array(), np.rint(around[4].transpose(1, 2, 0) * 127.5 + 127.5))
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for image in axes.images:
        left, right, under, over = image.get_extent()
        assert low < left < right < high and top < over < under < bottom
