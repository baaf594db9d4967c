"""`tinygan train discogan` and the other commands on its runs."""
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import content

import tinygan as tg
from tinygan import cli, data, training

EXAMPLE = Path(__file__).parents[1] / "examples" / "discogan_mnist.py"
FLAGS = ("--batch-size", "8", "--width", "2", "--quiet")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A file of 41 grey images of 28 x 28: 20 pairs, and two steps an epoch."""
    path = tmp_path_factory.mktemp("discogan") / "digits.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (41, 1, 28, 28), dtype=np.uint8))
    return path


def train(folder, digits, *flags):
    return cli.main(["train", "discogan", "--run-dir", str(folder), "--data-dir", str(digits), *FLAGS, *map(str, flags)])


@pytest.fixture(scope="module")
def run(digits):
    assert train(digits.parent / "run", digits, "--epochs", 2) == 0
    return digits.parent / "run"


def failure(capsys, *arguments):
    assert cli.main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinygan: error: "), lines
    return lines[0]


def test_two_halves_and_a_run_without_capture_are_the_whole(run, digits, tmp_path):
    assert train(tmp_path / "halves", digits, "--epochs", 1) == 0
    assert cli.main(["train", "discogan", "--run-dir", str(tmp_path / "halves"), "--resume", "--epochs", "2", "--quiet"]) == 0
    assert content(tmp_path / "halves") == content(run)
    assert train(tmp_path / "eager", digits, "--epochs", 2, "--no-capture") == 0
    assert content(tmp_path / "eager") == content(run)


def test_the_example_and_the_command_are_the_same_run(run, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "run"), "--epochs", "2", *FLAGS,
                                      "--data-dir", str(digits)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert content(tmp_path / "run") == content(run)
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_a_runs_pictures_show_whole_cycles(run):
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["image_shape"] == [4, 28, 28] and config["data"]["images"] == 20
    with Image.open(run / "samples" / "epoch_0002.png") as picture:
        assert picture.mode == "RGB" and picture.width == 18 * 29 * 2 + 2  # three pairs in a row, six images each
        assert "each six: a, B from a, back to A" in picture.info["Title"]


def test_sample_translates_images_of_the_runs_data(run, tmp_path, capsys):
    assert cli.main(["sample", str(run), "--n", "5", "--out", str(tmp_path / "five.npy")]) == 0
    found = np.load(tmp_path / "five.npy")
    opened = training.open_run(run)
    whole = training.DiscoGANSettings().prepare(data.load(run.parent / "digits.npy"))
    places = tg.random.Key(0).fold("sample").integers(5, 0, 20)
    np.testing.assert_array_equal(found, opened.gan.sample(z=whole.batch(places)))
    assert cli.main(["sample", str(run), "--n", "5", "--seed", "1"]) == 0 and (run / "sample.png").is_file()
    (run / "sample.png").unlink()
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((41, 1, 28, 28), np.uint8))
    capsys.readouterr()
    assert "say with --data-dir where the run's data are" in failure(capsys, "sample", run, "--data-dir", other)


def test_info_and_architecture_show_the_networks(run, tmp_path, capsys):
    assert cli.main(["info", str(run)]) == 0
    told = capsys.readouterr().out
    assert "discogan on " in told and "ab: Sequential" in told and "reconstruction" in told
    for player in ("generator", "discriminator"):
        assert cli.main(["architecture", str(run), "--player", player, "--out", str(tmp_path / f"{player}.png")]) == 0
        assert (tmp_path / f"{player}.png").is_file()


def test_commands_that_need_latent_vectors_or_digits_say_so(run, digits, tmp_path, capsys):
    assert "has no latent vectors to walk between" in failure(capsys, "interpolate", run)
    assert "cannot be evaluated" in failure(capsys, "evaluate", run)
    assert "cannot be evaluated" in failure(capsys, "train", "discogan", "--run-dir", tmp_path / "a", "--data-dir", digits,
                                            "--evaluate", 1, *FLAGS)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("shape", "message"), [
    ((9, 1, 32, 32), "DiscoGAN translates images of 28 x 28; with --domains coloured a pair of them has 4 channels"),
    ((9, 3, 28, 28), "expected square grey images of bytes"),
    ((1, 1, 28, 28), "too few for two domains"),
    ((9, 1, 28, 28), "has 4 images, a step takes 8"),
])
def test_data_that_do_not_fit_are_refused_before_training(shape, message, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    assert message in failure(capsys, "train", "discogan", "--run-dir", tmp_path / "run", "--data-dir", tmp_path / "x.npy",
                              *FLAGS)
    assert not (tmp_path / "run").exists()


def test_unknown_names_are_refused(capsys):
    for flag, names in (("--domains", data.DOMAINS), ("--reconstruction", tg.gans.RECONSTRUCTIONS)):
        with pytest.raises(SystemExit):
            cli.main(["train", "discogan", flag, "pink"])
        told = capsys.readouterr().err
        assert "invalid choice: 'pink'" in told and all(name in told for name in names)


def test_a_run_on_another_device(other_device, digits, tmp_path):
    flags = ("--domains", "rotated", "--reconstruction", "one-sided", "--device", other_device,
             "--limit-train", "8", "--bottleneck", "4")  # one step an epoch
    assert train(tmp_path / "whole", digits, "--epochs", 2, *flags) == 0
    assert train(tmp_path / "halves", digits, "--epochs", 1, *flags) == 0
    assert train(tmp_path / "halves", digits, "--epochs", 2, "--resume", *flags) == 0
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_the_share_of_kept_classes_of_real_digits(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a classifier that knows every digit: it finds it among the data."""
    whole = {split: data.Dataset("mnist", np.random.default_rng(i).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
                                 np.arange(n) % 10, f"sha256:{split}") for i, (split, n) in enumerate((("train", 40), ("test", 30)))}

    class Knows(tuple):
        accuracy = 0.75
        version = 2

        def __call__(self, images):
            known = whole["test"].batch(np.arange(30)).reshape(30, -1)
            nearest = ((images.reshape(len(images), 1, -1) - known) ** 2).sum(-1).argmin(1)
            return tg.metrics.digits.Seen(images, np.eye(10)[whole["test"].labels[nearest]])

    monkeypatch.setattr(data, "load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr("tinygan.runs.evaluation.load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Knows())
    assert cli.main(["train", "discogan", "--run-dir", str(tmp_path / "run"), "--epochs", "1", "--evaluate", "1", *FLAGS]) == 0
    record = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert record["images"] == 15 and record["floor"] == dict.fromkeys(("a_to_b", "b_to_a", "a_home", "b_home"), 1.0)
    assert 0 <= record["epochs"][0]["a_to_b"] < 0.6 and (tmp_path / "run" / "quality.png").is_file()
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "15 images after 2 steps on mnist and coloured" in told
    assert f"| a_to_b | {record['epochs'][0]['a_to_b']:.4g} | 1 |" in told
