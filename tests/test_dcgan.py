"""DCGAN: the paper's rules, what the networks start from, PyTorch's answers, and its runs."""
import math
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import content

import tinygan as tg
from tinygan import cli, nn, training
from tinygan.data import Dataset
from tinygan.random import Key

EXAMPLE = Path(__file__).parents[1] / "examples" / "dcgan_mnist.py"
SHAPES = [(1, 28, 28), (3, 28, 28), (1, 64, 64), (3, 64, 64), (2, 64, 64)]


def networks(shape, latent_dim=5, width=3):
    generator, discriminator = tg.gans.dcgan_networks(shape, latent_dim, width)
    return generator.initialize(Key(0)), discriminator.initialize(Key(1))


# -- the networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_after_every_block(shape):
    channels, side, w = shape[0], shape[1], 3
    generator, discriminator = networks(shape)
    sides, widths = ([7, 14], [2 * w, w]) if side == 28 else ([4, 8, 16, 32], [8 * w, 4 * w, 2 * w, w])
    blocks = [(2, c, s, s) for c, s in zip(widths, sides, strict=True)]

    def shapes_after(network, x, kinds):
        shapes = []
        for layer in network:
            x = layer(x)
            if isinstance(layer, kinds):
                shapes.append(x.shape)
        return shapes, x

    activations = (nn.ReLU, nn.Tanh, nn.LeakyReLU)
    made, images = shapes_after(generator, np.ones((2, 5), np.float32), activations)
    assert made == [*blocks, (2, channels, side, side)] and images.shape == (2, *shape)
    made, logits = shapes_after(discriminator, images, activations)
    assert made == blocks[::-1] and logits.shape == (2, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_rules(shape):
    generator, discriminator = networks(shape)
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    for network, hidden, ends in ((generator, nn.ReLU, nn.Tanh), (discriminator, nn.LeakyReLU, (nn.Dense, nn.Flatten))):
        assert {type(layer) for layer in network} <= {nn.Dense, nn.Reshape, nn.Flatten, *convolutions, nn.BatchNorm, nn.ReLU,
                                                      nn.LeakyReLU, nn.Tanh}  # nothing is pooled or upsampled
        assert isinstance(network[len(network) - 1], ends)
        activations = [layer for layer in network if isinstance(layer, nn.Activation)]
        assert all(isinstance(layer, hidden | nn.Tanh) for layer in activations)
        assert all(layer.slope == 0.2 for layer in activations if isinstance(layer, nn.LeakyReLU))
        weighted = [layer for layer in network if isinstance(layer, (nn.Dense, *convolutions))]
        bare = weighted[-1:] if network is generator else [weighted[0], weighted[-1]]  # G's output; D's input and logit
        layers = [layer for layer in network if not isinstance(layer, nn.Reshape)]
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if layer in weighted:
                assert isinstance(following, nn.BatchNorm) == (layer.bias is None) == (layer not in bare)
            if isinstance(layer, convolutions):
                at_one_pixel = shape[1] == 64 and layer is (weighted[0] if network is generator else weighted[-1])
                assert layer.weight.shape[2:] == (4, 4)
                assert (layer.stride, layer.padding) == ((1, 0) if at_one_pixel else (2, 1))


@pytest.mark.parametrize("shape, generator_size, discriminator_size", [
    ((1, 28, 28), 100 * 6272 + 256 + 128 * 64 * 16 + 128 + 64 * 16 + 1, 64 * 16 + 64 + 64 * 128 * 16 + 256 + 6272 + 1),
    # PyTorch's DCGAN tutorial counts 3,576,704 and 2,765,568; it has no bias at G's output, D's input and the logit
    ((3, 64, 64), 3_576_704 + 3, 2_765_568 + 64 + 1)])
def test_parameter_counts(shape, generator_size, discriminator_size):
    counts = [sum(p.size for p in network.parameters()) for network in tg.gans.dcgan_networks(shape)]
    assert counts == [generator_size, discriminator_size]


def test_the_weights_start_from_the_papers_distribution():
    for network in networks((1, 28, 28), latent_dim=20, width=32):
        for path, module in network.named_modules():
            for name, parameter in vars(module).items():
                if not isinstance(parameter, tg.Parameter):
                    continue
                mean, std = (1, 0.02) if isinstance(module, nn.BatchNorm) else (0, 0.02)
                if name == "bias":
                    np.testing.assert_array_equal(parameter.numpy(), 0)
                    continue
                n = parameter.size
                assert abs(parameter.numpy().mean() - mean) < 5 * std / math.sqrt(n), path
                assert abs(parameter.numpy().std() / std - 1) < 5 / math.sqrt(2 * n), path


@pytest.mark.parametrize("arguments, message", [
    (((1, 32, 32),), r"image_shape should be \(channels, 28, 28\) or \(channels, 64, 64\), got \(1, 32, 32\)"),
    (((1, 28, 64),), "image_shape should be"), (((28, 28),), "image_shape should be"),
    (((0, 28, 28),), "the number of channels should be a whole number of at least 1, got 0"),
    (((1, 28, 28), 0), "latent_dim"), (((1, 28, 28), 5, 1.5), "width should be a whole number of at least 1, got 1.5")])
def test_other_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tg.gans.dcgan_networks(*arguments)


def torch_networks(torch, side, channels, latent, w):
    """The same networks, written down for PyTorch."""
    t = torch.nn

    def up(i, o, stride=2, padding=1):
        return t.ConvTranspose2d(i, o, 4, stride, padding, bias=False), t.BatchNorm2d(o), t.ReLU()

    def down(i, o):
        return t.Conv2d(i, o, 4, 2, 1, bias=False), t.BatchNorm2d(o), t.LeakyReLU(0.2)

    last, first = (t.ConvTranspose2d(w, channels, 4, 2, 1), t.Tanh()), (t.Conv2d(channels, w, 4, 2, 1), t.LeakyReLU(0.2))
    if side == 28:
        return (t.Sequential(t.Linear(latent, 98 * w, bias=False), t.Unflatten(1, (2 * w, 7, 7)), t.BatchNorm2d(2 * w),
                             t.ReLU(), *up(2 * w, w), *last),
                t.Sequential(*first, *down(w, 2 * w), t.Flatten(), t.Linear(98 * w, 1)))
    return (t.Sequential(t.Unflatten(1, (latent, 1, 1)), *up(latent, 8 * w, 1, 0), *up(8 * w, 4 * w), *up(4 * w, 2 * w),
                         *up(2 * w, w), *last),
            t.Sequential(*first, *down(w, 2 * w), *down(2 * w, 4 * w), *down(4 * w, 8 * w), t.Conv2d(8 * w, 1, 4),
                         t.Flatten()))


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_the_state_loads_into_pytorch_and_gives_the_same_images_and_logits(shape):
    torch = pytest.importorskip("torch")
    ours, theirs = networks(shape), torch_networks(torch, shape[1], shape[0], 5, 3)
    inputs = Key(2).normal((4, 5), np.float64), Key(3).uniform((4, *shape), -1.0, 1.0, np.float64)
    for mine, other, x in zip(ours, theirs, inputs, strict=True):
        mine.astype(np.float64)
        other.double().load_state_dict({name: torch.from_numpy(a) for name, a in mine.state_dict().items()})
        for training_mode in (True, False):  # the second time with the running statistics of the first
            mine.train(training_mode), other.train(training_mode)
            expected = other(torch.from_numpy(x)).detach().numpy()
            np.testing.assert_allclose(mine(x).numpy(), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (25, 28, 28), dtype=np.uint8))
    return path


def train(folder, data, *flags):
    return cli.main(["train", "dcgan", "--run-dir", str(folder), "--data-dir", str(data), "--batch-size", "8",
                     *map(str, ("--width", 2, *flags))])


def test_interrupted_and_resumed_equals_the_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (25, 1, 28, 28), dtype=np.uint8)
    data = Dataset("tiny", pixels, None, "sha256:tiny")

    def run(folder, interrupt_at=None, **changes):
        settings = training.DCGANSettings(run_dir=str(folder), epochs=2, batch_size=8, width=2, latent_dim=4, **changes)
        gan = training.find("dcgan").build(settings, data.image_shape)
        step = gan.step

        def interrupted(real):
            stats = step(real)
            if gan.steps == interrupt_at:
                signal.raise_signal(signal.SIGINT)
            return stats

        gan.step = interrupted
        return training.train(gan, data, settings)

    run(tmp_path / "whole")
    with pytest.raises(training.Interrupted):
        run(tmp_path / "halves", interrupt_at=2)
    assert len(run(tmp_path / "halves", resume=True)) == 6
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_the_example_and_the_command_are_the_same_run(images, tmp_path, monkeypatch):
    flags = ["--epochs", "1", "--width", "2", "--batch-size", "8", "--data-dir", str(images)]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "example"), *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert cli.main(["train", "dcgan", "--run-dir", str(tmp_path / "command"), *flags]) == 0
    assert content(tmp_path / "example") == content(tmp_path / "command")
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_the_defaults_are_the_papers():
    settings = training.DCGANSettings()
    assert (settings.batch_size, settings.latent_dim, settings.learning_rate, settings.beta1) == (128, 100, 2e-4, 0.5)
    assert (settings.noise, settings.width, settings.epochs, settings.run_dir) == ("uniform", 64, 20, "runs/dcgan")


def test_own_images_are_cropped_and_resized(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        Image.new(("RGB", "L")[i % 2], (70 + i, 90), i).save(folder / f"{i}.png")
    sized = ("--batch-size", 2, "--epochs", 1, "--channels", 3, "--image-size", 64)
    assert train(tmp_path / "run", folder, *sized) == 0
    assert "4 images of 3 x 64 x 64" in capsys.readouterr().out
    assert cli.main(["sample", str(tmp_path / "run"), "--n", "2"]) == 0
    for flags, expected in (((), ""), (("--image-size", 28), "--image-size was 64, now 28"),
                            (("--channels", 1), "--channels was 3, now 1")):
        capsys.readouterr()
        again = cli.main(["train", "dcgan", "--run-dir", str(tmp_path / "run"), "--resume", *map(str, flags)])
        assert (again == 0) == (not flags) and expected in capsys.readouterr().err


def test_images_of_other_sizes_are_one_clear_line(images, tmp_path, capsys):
    np.save(tmp_path / "small.npy", np.zeros((25, 20, 30), np.uint8))
    assert train(tmp_path / "run", tmp_path / "small.npy") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "DCGAN makes images of 28 or 64 pixels per side, but the data are 20 x 30: --image-size" in line
    assert train(tmp_path / "run", images, "--image-size", 64) == 2
    assert "convert only folders of image files" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(tmp_path / "run", images, "--channels", 2)
    assert "--channels: expected 1 or 3, got '2'" in capsys.readouterr().err
