"""`tinygan train infogan`, `tinygan traverse` and the other commands on an InfoGAN's runs."""
import importlib
import json

import numpy as np
import pytest
from PIL import Image
from variant_runs import (
    EXAMPLES,
    VariantRuns,
    check_pictures_of_networks,
    check_sample,
    command,
    evaluated,
    failure,
    grey_images,
    info,
    simple_judge,
    small_mnist,
)

import tinygan as tg
from tinygan import cli, data, training

FLAGS = ("--batch-size", "8", "--width", "2", "--hidden", "6", "--latent-dim", "3", "--quiet")
LONG = 20  # epochs: with a large learning rate, enough for images that differ visibly


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Images of 8 x 8, two steps an epoch."""
    return VariantRuns("infogan", grey_images(tmp_path_factory.mktemp("infogan") / "pictures.npy", 20, 8), FLAGS, 2)


@pytest.fixture(scope="module")
def run(runs):
    return runs.train(runs.data.parent / "run")


@pytest.fixture(scope="module")
def varied(runs):
    return runs.train(runs.data.parent / "varied", "--g-learning-rate", 0.01, epochs=LONG)


@pytest.mark.parametrize("flags", [(), ("--ema", "0.9"), ("--r1", "0.5", "--categorical", "3,2", "--continuous", "0")], ids=str)
def test_a_run_is_resumed_bit_for_bit(flags, runs, tmp_path):
    runs.check_resuming(runs.train(tmp_path / "whole", *flags), tmp_path, *flags)


def test_the_example_and_the_command_are_the_same_run(runs, run, tmp_path, monkeypatch):
    made = runs.check_example(run, tmp_path, monkeypatch)
    assert command("traverse", made) == 0  # the command can build the script's networks


def test_a_run_on_another_device(other_device, runs, tmp_path):
    runs.check_device(other_device, tmp_path, "--categorical", 3, "--continuous", 1, "--limit-train", 8)  # one step an epoch


def test_the_information_is_kept_printed_and_drawn(runs, run, tmp_path, capsys, monkeypatch):
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert header == "epoch,step,d_loss,g_loss,d_real,d_fake,categorical_nats,continuous_nats,seconds" and len(rows) == 4
    history = training.open_run(run).history
    for i, row in enumerate(rows):
        assert [np.float32(x) for x in row.split(",")[6:8]] == [history[name][i] for name in ("categorical_nats", "continuous_nats")]
    drawn = {}
    monkeypatch.setattr("tinygan.plotting.save_losses", lambda *_, measures, **__: drawn.update(measures))
    runs.train(tmp_path / "run")
    told = capsys.readouterr().out
    assert f"categorical_nats {history['categorical_nats'][2:].mean():.3f}" in told and "continuous_nats" in told
    np.testing.assert_array_equal(drawn["categorical_nats"], history["categorical_nats"])
    told = info(run, capsys)
    assert f"categorical_nats  {history['categorical_nats'][2:].mean():.4f}" in told and "trunk: Sequential" in told


def test_other_runs_keep_their_columns(runs, tmp_path):
    assert command("train", "vanilla", "--run-dir", tmp_path, "--data-dir", runs.data, "--epochs", 1, "--batch-size", 8,
                   "--quiet") == 0
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "epoch,step,d_loss,g_loss,d_real,d_fake,seconds"


def test_traverse_draws_a_picture_a_code(varied, tmp_path, capsys):
    names = ["traverse_categorical_1.png", "traverse_continuous_1.png", "traverse_continuous_2.png"]
    assert cli.main(["traverse", str(varied), "--rows", "3", "--steps", "5", "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "a" / name) for name in names]
    for name, columns in zip(names, (10, 5, 5), strict=True):
        with Image.open(tmp_path / "a" / name) as picture:
            scale = 64 // 8
            assert picture.width == scale * (9 * columns + 1) and picture.height > scale * (9 * 3 + 1)  # the caption is below
            assert "InfoGAN on " in picture.info["Title"] and "step 40" in picture.info["Title"]
    for out, flags in (("b", ()), ("c", ("--seed", "1")), ("d", ("--limit", "1"))):
        assert cli.main(["traverse", str(varied), "--rows", "3", "--steps", "5", "--out", str(tmp_path / out), *flags]) == 0
    bytes_of = {out: [(tmp_path / out / name).read_bytes() for name in names] for out in "abcd"}
    assert bytes_of["a"] == bytes_of["b"] and bytes_of["a"][0] != bytes_of["c"][0]
    assert bytes_of["a"][0] == bytes_of["d"][0] and bytes_of["a"][1] != bytes_of["d"][1]


def test_traverse_of_averaged_weights_says_so(runs, tmp_path, capsys):
    runs.train(tmp_path / "run", "--g-learning-rate", 0.01, "--ema", 0.99, epochs=LONG)
    found = {}
    for flags in ((), ("--raw",)):
        capsys.readouterr()
        assert cli.main(["traverse", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *flags]) == 0
        assert ("present weights" if flags else "averaged weights") in capsys.readouterr().err
        with Image.open(tmp_path / "out" / "traverse_categorical_1.png") as picture:
            found[flags] = np.asarray(picture)[:-18]
    assert not np.array_equal(*found.values())


def test_the_other_commands(run, tmp_path):
    check_sample(run, tmp_path)
    check_pictures_of_networks(run, tmp_path)
    assert command("interpolate", run, "--rows", 2, "--steps", 3, "--out", tmp_path) == 0


def test_settings_without_sense_are_refused_before_training(runs, run, tmp_path, capsys):
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
    assert "leaves no code" in failure(capsys, "train", "infogan", "--run-dir", tmp_path / "a", "--data-dir", runs.data,
                                       "--categorical", "none", "--continuous", 0, *FLAGS)
    np.save(tmp_path / "odd.npy", np.zeros((20, 1, 9, 9), np.uint8))
    assert "multiples of 4, but the data are 9 x 9" in failure(capsys, "train", "infogan", "--run-dir", tmp_path / "a",
                                                               "--data-dir", tmp_path / "odd.npy", *FLAGS)
    assert not (tmp_path / "a").exists()
    assert "--categorical was 10, now 3" in failure(capsys, "train", "infogan", "--run-dir", run, "--resume", "--categorical", "3")
    assert command("train", "vanilla", "--run-dir", tmp_path / "v", "--data-dir", runs.data, "--epochs", 1, "--batch-size", 8,
                   "--quiet") == 0
    assert "only an InfoGAN" in failure(capsys, "traverse", tmp_path / "v")


def test_networks_for_other_codes_of_the_same_width_are_told_apart(runs, tmp_path):
    """12 classes or 10 and two numbers: the weights have the same shapes, but the vectors are others."""
    dataset = data.load(runs.data)
    settings = training.InfoGANSettings(run_dir=str(tmp_path / "run"), data_dir=str(runs.data), epochs=1, batch_size=8, width=2,
                                        hidden=6, latent_dim=3, quiet=True)
    codes = {"categorical": (12,), "continuous": 0}
    gan = tg.gans.InfoGAN(*tg.gans.infogan_networks(dataset.image_shape, 3, **codes, width=2, hidden=6), 3, **codes, noise="uniform")
    training.train(gan, dataset, settings)
    with pytest.raises(training.RunError, match="only the program that trained it can"):
        training.open_run(tmp_path / "run")


def test_evaluate_counts_categories_that_are_not_the_digit(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a judge and a Q that are known: Q's category is wrong for 6 of 30 digits."""
    whole = small_mnist(monkeypatch)
    simple_judge(monkeypatch)
    guess = np.where(np.arange(30) < 6, 9 - (np.arange(30) + 1) % 10, 9 - np.arange(30) % 10)  # digit d is category 9 - d

    def read(gan, images):
        np.testing.assert_array_equal(images, whole["test"].batch(np.arange(30)))
        return [np.eye(10)[guess]], np.zeros((30, 2))

    monkeypatch.setattr(tg.gans.InfoGAN, "read", read)
    record, told = evaluated("infogan", tmp_path / "run", capsys, *FLAGS)
    assert record["epochs"][0]["category_error"] == 0.2 and record["floor"]["category_error"] == 0.25
    assert "| category_error | 0.2 | 0.25 |" in told
    record, _ = evaluated("infogan", tmp_path / "numbers", capsys, "--categorical", "none", *FLAGS)
    assert "category_error" not in record["floor"]


def test_the_benchmark_makes_a_row_a_seed_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "benchmarks"))
    bench = importlib.import_module("infogan")
    whole = small_mnist(monkeypatch, train=20)
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
