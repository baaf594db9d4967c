"""Runs that keep an average of the generator (--ema): resumed, and read by the commands."""
import json
import re
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train, train_until

from tinygan import cli, saving, training
from tinygan.gans import VanillaGAN
from tinygan.random import Key

EXAMPLES = Path(__file__).parents[1] / "examples"


def train(folder, data, *flags, variant="vanilla"):
    return cli.main(["train", variant, "--run-dir", str(folder), "--data-dir", str(data), "--batch-size", "8", "--quiet",
                     *map(str, flags)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs with an average that is far behind the generator."""
    folder = tmp_path_factory.mktemp("ema")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    assert train(folder / "run", folder / "images.npy", "--epochs", 2, "--ema", 0.95) == 0
    return folder / "run"


@pytest.mark.parametrize("capture", [True, False])
def test_two_halves_are_the_whole(tmp_path, capture):
    tiny_train(tmp_path / "whole", ema=0.9)
    tiny_train(tmp_path / "halves", epochs=2, ema=0.9, capture=capture)
    tiny_train(tmp_path / "halves", resume=True, ema=0.9)
    assert content(tmp_path / "halves") == content(tmp_path / "whole")
    tiny_train(tmp_path / "plain")
    arrays, rows, grids = content(tmp_path / "plain")
    averaged = content(tmp_path / "whole")
    assert {**averaged[0], **arrays} == averaged[0] and rows == averaged[1]  # the same training,
    assert all(averaged[2][name] != grid for name, grid in grids.items())  # but other samples


def test_an_interrupted_epoch_goes_on(tmp_path):
    tiny_train(tmp_path / "whole", ema=0.9)

    def stop(stats):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(training.Interrupted):
        train_until(tmp_path / "stopped", 7, stop, ema=0.9)
    tiny_train(tmp_path / "stopped", resume=True, ema=0.9)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_it_must_stay_the_same(tmp_path):
    tiny_train(tmp_path / "with", epochs=1, ema=0.9)
    tiny_train(tmp_path / "without", epochs=1)
    for name, old, new in (("with", "0.9", "not given"), ("without", "not given", "0.9")):
        with pytest.raises(training.RunError, match=f"--ema was {old}, now {new}; it must stay the same"):
            tiny_train(tmp_path / name, resume=True, ema=None if new == "not given" else float(new))


def test_an_average_that_is_not_finite_is_not_saved(tmp_path):
    settings = tiny_settings(tmp_path / "run", ema=0.9, epochs=1)
    gan = tiny_gan(settings)
    gan.average.module[3].bias.assign(np.full(16, np.inf))
    with pytest.raises(training.DivergedError, match=r"average\.3\.bias holds NaN or infinity"):
        training.train(gan, tiny_data(), settings)


@pytest.mark.parametrize("variant", ["vanilla", "minibatch", "unrolled"])
def test_the_examples_take_the_flag_too(run, tmp_path, monkeypatch, capsys, variant):
    flags = ["--epochs", "1", "--ema", "0.9", *(["--unroll-steps", "1"] if variant == "unrolled" else [])]
    assert train(tmp_path / "a", run.parent / "images.npy", *flags, variant=variant) == 0
    example = str(EXAMPLES / f"{variant}_mnist.py")
    monkeypatch.setattr(sys, "argv", [example, "--run-dir", str(tmp_path / "b"), "--batch-size", "8",
                                      "--data-dir", str(run.parent / "images.npy"), *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(example, run_name="__main__")
    assert ended.value.code == 0 and "samples from averaged weights" in capsys.readouterr().out
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert any(name.startswith("gan.average.") for name in content(tmp_path / "a")[0])


def test_every_example_of_a_run_passes_it_on():
    for path in EXAMPLES.glob("*_mnist.py"):
        assert re.search(r"ema=.*\bsettings\.ema\b", path.read_text()), path.name


# -- commands --------------------------------------------------------------------------------------------------------------


def opened(run):
    gan = training.open_run(run).gan
    assert isinstance(gan, VanillaGAN)
    return gan


def test_sample_uses_the_average_and_says_so(run, tmp_path, capsys):
    z = opened(run).latent(6, Key(0).fold("sample"))
    for flags, averaged, told in (([], True, "averaged weights; --raw takes the present ones."), (["--raw"], False, "present weights.")):
        out = tmp_path / f"{averaged}.npy"
        assert cli.main(["sample", str(run), "--n", "6", "--out", str(out), *flags]) == 0
        np.testing.assert_array_equal(np.load(out), opened(run).sample(z=z, averaged=averaged))
        said = capsys.readouterr()
        assert said.out == f"{out}\n" and said.err == f"Note: the images are made by the generator's {told}\n"
    a, b = (np.load(tmp_path / f"{averaged}.npy") for averaged in (True, False))
    assert np.abs(a - b).max() > 0.01


def test_it_is_the_average_of_the_run(run):
    """The checkpoint has both, and they differ."""
    arrays, _ = saving.load(run / "checkpoint.safetensors")
    gan = opened(run)
    for path, value in gan.average.module.state_dict().items():
        np.testing.assert_array_equal(arrays[f"gan.average.{path}"], value)
    assert np.abs(arrays["gan.average.0.weight"] - arrays["gan.generator.0.weight"]).max() > 1e-4


@pytest.fixture
def titles(monkeypatch):
    """The titles of the figures that a command draws."""
    from tinygan import plotting

    found = []
    for name in ("save_grid", "save_candidates", "save_arithmetic"):
        original = getattr(plotting, name)
        monkeypatch.setattr(plotting, name, lambda *a, original=original, title, **k: (found.append(title), original(*a, title=title, **k)))
    return found


def test_figures_say_which_weights_made_them(run, tmp_path, titles, capsys):
    for flags, weights in (([], "averaged weights"), (["--raw"], "present weights")):
        assert cli.main(["sample", str(run), "--out", str(tmp_path / "s.png"), *flags]) == 0
        assert cli.main(["interpolate", str(run), "--rows", "2", "--steps", "3", "--out", str(tmp_path), *flags]) == 0
        assert len(titles) == 4 and all(f"step 10, {weights}" in title for title in titles)
        titles.clear()
        assert capsys.readouterr().err.count(f"the generator's {weights}") == 2


def test_interpolation_is_the_averages(run, tmp_path, capsys):
    pictures = []
    for flags in ([], ["--raw"]):
        assert cli.main(["interpolate", str(run), "--out", str(tmp_path), *flags]) == 0
        pictures.append([(tmp_path / f"{name}.png").read_bytes() for name in ("interpolation", "candidates", "arithmetic")])
    assert all(a != b for a, b in zip(*pictures, strict=True))


def test_the_previews_of_a_run_say_it(tmp_path, titles):
    tiny_train(tmp_path / "run", epochs=1, ema=0.9)
    tiny_train(tmp_path / "plain", epochs=1)
    assert [title.endswith(", averaged weights") for title in titles] == [True, False]


def test_the_architecture_is_drawn_from_the_generator_that_samples(run, tmp_path, monkeypatch):
    from tinygan import plotting

    seen = []
    monkeypatch.setattr(plotting, "save_architecture", lambda out, network, z, **_: seen.append(network(z)))
    assert cli.main(["architecture", str(run)]) == 0
    np.testing.assert_array_equal(seen[0], opened(run).sample(1, key=Key(0).fold("sample")))


def test_a_run_without_an_average_says_nothing(tmp_path, run, capsys):
    assert train(tmp_path / "plain", run.parent / "images.npy", "--epochs", 1) == 0
    assert "weights" not in capsys.readouterr().out
    images = []
    for flags in ([], ["--raw"]):
        assert cli.main(["sample", str(tmp_path / "plain"), "--out", str(tmp_path / "s.npy"), *flags]) == 0
        images.append(np.load(tmp_path / "s.npy"))
    np.testing.assert_array_equal(*images)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", ["1", "-0.1", "x"])
def test_a_decay_without_sense_is_refused_before_anything_is_made(tmp_path, run, capsys, value):
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / "new", run.parent / "images.npy", f"--ema={value}")
    assert ended.value.code == 2 and not (tmp_path / "new").exists()
    assert re.search(rf"--ema: expected a number of at least 0 and less than 1, got '{value}'", capsys.readouterr().err)


def test_info_shows_the_setting(run, capsys):
    assert cli.main(["info", str(run)]) == 0
    assert re.search(r"\bema +0\.95", capsys.readouterr().out)
    assert json.loads((run / "config.json").read_text())["settings"]["ema"] == 0.95
