"""`tinygan train discogan` and the other commands on its runs."""
import json

import numpy as np
import pytest
from PIL import Image
from variant_runs import (
    VariantRuns,
    check_pictures_of_networks,
    check_sample,
    command,
    evaluated,
    failure,
    grey_images,
    info,
    small_mnist,
)

import tinygan as tg
from tinygan import cli, data, training

FLAGS = ("--batch-size", "8", "--width", "2", "--quiet")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """41 images are 20 pairs, and two steps an epoch."""
    return VariantRuns("discogan", grey_images(tmp_path_factory.mktemp("discogan") / "digits.npy", 41), FLAGS, 2)


@pytest.fixture(scope="module")
def run(runs):
    return runs.train(runs.data.parent / "run")


def test_a_run_is_resumed_bit_for_bit(runs, run, tmp_path):
    runs.check_resuming(run, tmp_path)


def test_the_example_and_the_command_are_the_same_run(runs, run, tmp_path, monkeypatch):
    runs.check_example(run, tmp_path, monkeypatch)


def test_a_run_on_another_device(other_device, runs, tmp_path):
    runs.check_device(other_device, tmp_path, "--domains", "rotated", "--reconstruction", "one-sided", "--limit-train", 8,
                      "--bottleneck", 4)  # one step an epoch


def test_a_runs_pictures_show_whole_cycles(run):
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["image_shape"] == [4, 28, 28] and config["data"]["images"] == 20
    with Image.open(run / "samples" / "epoch_0002.png") as picture:
        assert picture.mode == "RGB" and picture.width == 18 * 29 * 2 + 2  # three pairs in a row, six images each
        assert "each six: a, B from a, back to A" in picture.info["Title"]


def test_sample_translates_images_of_the_runs_data(run, tmp_path, capsys):
    whole = training.DiscoGANSettings().prepare(data.load(run.parent / "digits.npy"))
    check_sample(run, tmp_path, z=lambda gan, n: whole.batch(tg.random.Key(0).fold("sample").integers(n, 0, 20)))
    assert command("sample", run, "--n", 5, "--seed", 1) == 0 and (run / "sample.png").is_file()
    (run / "sample.png").unlink()
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((41, 1, 28, 28), np.uint8))
    assert "say with --data-dir where the run's data are" in failure(capsys, "sample", run, "--data-dir", other)


def test_info_and_architecture_show_the_networks(run, tmp_path, capsys):
    told = info(run, capsys)
    assert "discogan on " in told and "ab: Sequential" in told and "reconstruction" in told
    check_pictures_of_networks(run, tmp_path)


def test_commands_that_need_latent_vectors_or_digits_say_so(runs, run, tmp_path, capsys):
    assert "has no latent vectors to walk between" in failure(capsys, "interpolate", run)
    assert "cannot be evaluated" in failure(capsys, "evaluate", run)
    assert "cannot be evaluated" in failure(capsys, "train", "discogan", "--run-dir", tmp_path / "a", "--data-dir", runs.data,
                                            "--evaluate", 1, *FLAGS)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("shape", "message"), [
    ((9, 1, 32, 32), "DiscoGAN translates images of 28 x 28; with --domains coloured a pair of them has 4 channels"),
    ((9, 3, 28, 28), "expected square grey images of bytes"),
    ((1, 1, 28, 28), "too few for two domains"),
    ((9, 1, 28, 28), "has 4 images; a step takes 8"),
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


def test_the_share_of_kept_classes_of_real_digits(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a classifier that knows every digit: it finds it among the data."""
    whole = small_mnist(monkeypatch)

    class Knows(tuple):
        accuracy = 0.75
        version = 2

        def __call__(self, images):
            known = whole["test"].batch(np.arange(30)).reshape(30, -1)
            nearest = ((images.reshape(len(images), 1, -1) - known) ** 2).sum(-1).argmin(1)
            return tg.metrics.digits.Seen(images, np.eye(10)[whole["test"].labels[nearest]])

    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Knows())
    record, told = evaluated("discogan", tmp_path / "run", capsys, *FLAGS)
    assert record["images"] == 15 and record["floor"] == dict.fromkeys(("a_to_b", "b_to_a", "a_home", "b_home"), 1.0)
    assert 0 <= record["epochs"][0]["a_to_b"] < 0.6
    assert "15 images after 2 steps on mnist and coloured" in told
    assert f"| a_to_b | {record['epochs'][0]['a_to_b']:.4g} | 1 |" in told
