"""`tinygan train infogan`, `tinygan traverse` and the other commands on an InfoGAN's runs."""
import importlib
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

EXAMPLE = Path(__file__).parents[1] / "examples" / "infogan_mnist.py"
FLAGS = ("--batch-size", "8", "--width", "2", "--hidden", "6", "--latent-dim", "3", "--quiet")
VARIED = ("--epochs", 20, "--g-learning-rate", 0.01)  # long enough for images that differ visibly


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A file of 20 grey images of 8 x 8: two steps an epoch."""
    path = tmp_path_factory.mktemp("infogan") / "pictures.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    return path


def train(folder, pictures, *flags):
    return cli.main(["train", "infogan", "--run-dir", str(folder), "--data-dir", str(pictures), *FLAGS, *map(str, flags)])


@pytest.fixture(scope="module")
def run(pictures):
    assert train(pictures.parent / "run", pictures, "--epochs", 2) == 0
    return pictures.parent / "run"


@pytest.fixture(scope="module")
def varied(pictures):
    assert train(pictures.parent / "varied", pictures, *VARIED) == 0
    return pictures.parent / "varied"


def failure(capsys, *arguments):
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinygan: error: "), lines
    return lines[0]


@pytest.mark.parametrize("flags", [(), ("--ema", "0.9"), ("--r1", "0.5", "--categorical", "3,2", "--continuous", "0")], ids=str)
def test_two_halves_and_a_run_without_capture_are_the_whole(flags, pictures, tmp_path):
    assert train(tmp_path / "whole", pictures, "--epochs", 2, *flags) == 0
    assert train(tmp_path / "halves", pictures, "--epochs", 1, *flags) == 0
    assert cli.main(["train", "infogan", "--run-dir", str(tmp_path / "halves"), "--resume", "--epochs", "2", "--quiet"]) == 0
    assert content(tmp_path / "halves") == content(tmp_path / "whole")
    assert train(tmp_path / "eager", pictures, "--epochs", 2, "--no-capture", *flags) == 0
    assert content(tmp_path / "eager") == content(tmp_path / "whole")


def test_the_example_and_the_command_are_the_same_run(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "run"), "--epochs", "2", *FLAGS,
                                      "--data-dir", str(pictures)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert content(tmp_path / "run") == content(run)
    assert cli.main(["traverse", str(tmp_path / "run")]) == 0  # the command can build the script's networks
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_the_information_is_kept_printed_and_drawn(run, pictures, tmp_path, capsys, monkeypatch):
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert header == "epoch,step,d_loss,g_loss,d_real,d_fake,categorical_nats,continuous_nats,seconds" and len(rows) == 4
    history = training.open_run(run).history
    for i, row in enumerate(rows):
        assert [np.float32(x) for x in row.split(",")[6:8]] == [history[name][i] for name in ("categorical_nats", "continuous_nats")]
    drawn = {}
    monkeypatch.setattr("tinygan.plotting.save_losses", lambda *_, measures, **__: drawn.update(measures))
    assert train(tmp_path / "run", pictures, "--epochs", 2) == 0
    told = capsys.readouterr().out
    assert f"categorical_nats {history['categorical_nats'][2:].mean():.3f}" in told and "continuous_nats" in told
    np.testing.assert_array_equal(drawn["categorical_nats"], history["categorical_nats"])
    assert cli.main(["info", str(run)]) == 0
    told = capsys.readouterr().out
    assert f"categorical_nats  {history['categorical_nats'][2:].mean():.4f}" in told and "trunk: Sequential" in told


def test_other_runs_keep_their_columns(pictures, tmp_path):
    assert cli.main(["train", "vanilla", "--run-dir", str(tmp_path), "--data-dir", str(pictures), "--epochs", "1",
                     "--batch-size", "8", "--quiet"]) == 0
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "epoch,step,d_loss,g_loss,d_real,d_fake,seconds"


def test_traverse_draws_a_picture_a_code(varied, tmp_path, capsys):
    names = ["traverse_categorical_1.png", "traverse_continuous_1.png", "traverse_continuous_2.png"]
    assert cli.main(["traverse", str(varied), "--rows", "3", "--steps", "5", "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "a" / name) for name in names]
    for name, columns in zip(names, (10, 5, 5), strict=True):
        with Image.open(tmp_path / "a" / name) as picture:
            scale = 64 // 8
            assert picture.size == (scale * (9 * columns + 1), scale * (9 * 3 + 1) + 18)
            assert "InfoGAN on " in picture.info["Title"] and "step 40" in picture.info["Title"]
    for out, flags in (("b", ()), ("c", ("--seed", "1")), ("d", ("--limit", "1"))):
        assert cli.main(["traverse", str(varied), "--rows", "3", "--steps", "5", "--out", str(tmp_path / out), *flags]) == 0
    bytes_of = {out: [(tmp_path / out / name).read_bytes() for name in names] for out in "abcd"}
    assert bytes_of["a"] == bytes_of["b"] and bytes_of["a"][0] != bytes_of["c"][0]
    assert bytes_of["a"][0] == bytes_of["d"][0] and bytes_of["a"][1] != bytes_of["d"][1]


def test_traverse_of_averaged_weights_says_so(pictures, tmp_path, capsys):
    assert train(tmp_path / "run", pictures, *VARIED, "--ema", 0.99) == 0
    found = {}
    for flags in ((), ("--raw",)):
        capsys.readouterr()
        assert cli.main(["traverse", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *flags]) == 0
        assert ("present weights" if flags else "averaged weights") in capsys.readouterr().err
        with Image.open(tmp_path / "out" / "traverse_categorical_1.png") as picture:
            found[flags] = np.asarray(picture)[:-18]
    assert not np.array_equal(*found.values())


def test_other_commands_on_the_run(run, tmp_path):
    assert cli.main(["sample", str(run), "--n", "5", "--out", str(tmp_path / "five.npy")]) == 0
    gan = training.open_run(run).gan
    np.testing.assert_array_equal(np.load(tmp_path / "five.npy"), gan.sample(z=gan.latent(5, tg.random.Key(0).fold("sample"))))
    assert cli.main(["interpolate", str(run), "--rows", "2", "--steps", "3", "--out", str(tmp_path)]) == 0
    for player in ("generator", "discriminator"):
        assert cli.main(["architecture", str(run), "--player", player, "--out", str(tmp_path / f"{player}.png")]) == 0
        assert (tmp_path / f"{player}.png").is_file()


def test_settings_without_sense_are_refused_before_training(run, pictures, tmp_path, capsys):
    for flag, value, message in (("--categorical", "0", "each at least 2"), ("--categorical", "10,1", "each at least 2"),
                                 ("--categorical", "ten", "each at least 2"), ("--continuous", "-1", "at least 0"),
                                 ("--information", "0", "a positive number"), ("--hidden", "0", "at least 1")):
        with pytest.raises(SystemExit):
            cli.main(["train", "infogan", flag, value])
        assert message in capsys.readouterr().err
        name = flag[2:]
        with pytest.raises(ValueError, match=f"InfoGANSettings: {name}: expected"):
            training.InfoGANSettings(**{name: value if flag == "--categorical" else float(value)})
    (_, normed), (_, plain) = [[str(part) for part in training.VARIANTS["infogan"].build(
        training.InfoGANSettings(width=2, hidden=6, **change), (1, 8, 8))._parts()[0:2]] for change in ({}, {"d_norm": False})]
    assert "BatchNorm" in normed and "BatchNorm" not in plain
    assert "leaves no code" in failure(capsys, "train", "infogan", "--run-dir", tmp_path / "a", "--data-dir", pictures,
                                       "--categorical", "none", "--continuous", 0, *FLAGS)
    np.save(tmp_path / "odd.npy", np.zeros((20, 1, 9, 9), np.uint8))
    assert "multiples of 4, but the data are 9 x 9" in failure(capsys, "train", "infogan", "--run-dir", tmp_path / "a",
                                                               "--data-dir", tmp_path / "odd.npy", *FLAGS)
    assert not (tmp_path / "a").exists()
    assert "--categorical was 10, now 3" in failure(capsys, "train", "infogan", "--run-dir", run, "--resume", "--categorical", "3")
    assert cli.main(["train", "vanilla", "--run-dir", str(tmp_path / "v"), "--data-dir", str(pictures), "--epochs", "1",
                     "--batch-size", "8", "--quiet"]) == 0
    assert "only an InfoGAN" in failure(capsys, "traverse", tmp_path / "v")


def test_networks_for_other_codes_of_the_same_width_are_told_apart(tmp_path, pictures):
    """12 classes or 10 and two numbers: the weights have the same shapes, but the vectors are others."""
    dataset = data.load(pictures)
    settings = training.InfoGANSettings(run_dir=str(tmp_path / "run"), data_dir=str(pictures), epochs=1, batch_size=8, width=2,
                                        hidden=6, latent_dim=3, quiet=True)
    codes = {"categorical": (12,), "continuous": 0}
    gan = tg.gans.InfoGAN(*tg.gans.infogan_networks(dataset.image_shape, 3, **codes, width=2, hidden=6), 3, **codes, noise="uniform")
    training.train(gan, dataset, settings)
    with pytest.raises(training.RunError, match="only the program that trained it can"):
        training.open_run(tmp_path / "run")


def test_a_run_on_another_device(other_device, pictures, tmp_path):
    flags = ("--device", other_device, "--categorical", "3", "--continuous", "1", "--limit-train", "8")  # one step an epoch
    assert train(tmp_path / "whole", pictures, "--epochs", 2, *flags) == 0
    assert train(tmp_path / "halves", pictures, "--epochs", 1, *flags) == 0
    assert train(tmp_path / "halves", pictures, "--epochs", 2, "--resume", *flags) == 0
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_evaluate_counts_categories_that_are_not_the_digit(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a judge and a Q that are known: Q's category is wrong for 6 of 30 digits."""
    whole = {split: data.Dataset("mnist", np.random.default_rng(i).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
                                 np.arange(n) % 10, f"sha256:{split}") for i, (split, n) in enumerate((("train", 40), ("test", 30)))}

    class Knows:
        accuracy, version, confidence = 0.75, 2, 1.0

    class Judge:
        def __init__(self, *_):
            pass

        def __call__(self, images):
            return training_quality(len(images))

    monkeypatch.setattr(data, "load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr("tinygan.runs.evaluation.load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Knows())
    monkeypatch.setattr(tg.metrics, "Judge", Judge)
    guess = np.where(np.arange(30) < 6, 9 - (np.arange(30) + 1) % 10, 9 - np.arange(30) % 10)  # digit d is category 9 - d

    def read(gan, images):
        np.testing.assert_array_equal(images, whole["test"].batch(np.arange(30)))
        return [np.eye(10)[guess]], np.zeros((30, 2))

    monkeypatch.setattr(tg.gans.InfoGAN, "read", read)
    flags = ["--epochs", "1", "--evaluate", "1", *FLAGS]
    assert cli.main(["train", "infogan", "--run-dir", str(tmp_path / "run"), *flags]) == 0
    record = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert record["epochs"][0]["category_error"] == 0.2 and record["floor"]["category_error"] == 0.25
    assert (tmp_path / "run" / "quality.png").is_file()
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert "| category_error | 0.2 | 0.25 |" in capsys.readouterr().out
    assert cli.main(["train", "infogan", "--run-dir", str(tmp_path / "numbers"), "--categorical", "none", *flags]) == 0
    record = json.loads((tmp_path / "numbers" / "quality.json").read_text())
    assert "category_error" not in record["floor"]


def test_the_benchmark_makes_a_row_a_seed_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLE.parents[1] / "benchmarks"))
    bench = importlib.import_module("infogan")
    whole = {split: data.Dataset("mnist", np.random.default_rng(i).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
                                 np.arange(n) % 10, f"sha256:{split}") for i, (split, n) in enumerate((("train", 20), ("test", 30)))}
    monkeypatch.setattr(data, "load", lambda path=None, split="train", **_: whole[split])
    flags = ["--json", str(tmp_path / "rows.json"), "--run-dir", str(tmp_path / "runs"), "--epochs", "2", "--batch-size", "8",
             "--width", "2", "--hidden", "6"]
    assert cli.main(["train", "infogan", "--run-dir", str(tmp_path / "runs" / "seed-0"), "--epochs", "1", "--batch-size", "8",
                     "--width", "2", "--hidden", "6", "--quiet"]) == 0  # the first seed was stopped after one epoch
    assert bench.main(["--seeds", "2", *flags]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["seed"], row["steps"]) for row in rows] == [(0, 4), (1, 4)]
    for row in rows:
        opened = training.open_run(tmp_path / "runs" / f"seed-{row['seed']}")
        found = opened.gan.read(whole["test"].batch(np.arange(30)))[0][0].argmax(1)
        wrong = np.mean([row["pairs"][k] != label for k, label in zip(found, whole["test"].labels, strict=True)])
        assert row["error"] == pytest.approx(100 * wrong, abs=1e-3)
        assert row["categorical_nats"] == pytest.approx(opened.history["categorical_nats"][2:].mean(), abs=1e-4)
    told = capsys.readouterr().out
    assert f"| mean of 2 | {np.mean([row['error'] for row in rows]):.3g} ±" in told and "| the paper | 5 |" in told
    monkeypatch.setattr(bench, "train", lambda *_: pytest.fail("trained again"))
    assert bench.main(["--seeds", "2", *flags]) == 0
    (tmp_path / "rows.json").write_text('{"experiment": "ring", "rows": []}')
    assert bench.main(flags) == 1 and "has rows of 'ring'" in capsys.readouterr().err


def training_quality(n):
    return tg.metrics.Quality(**dict.fromkeys(tg.metrics.Quality._fields, n))
