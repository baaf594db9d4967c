"""`tinygan train conditional` and the other commands on its runs; labels of own data; the nearest-neighbour benchmark."""
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
from tinygan import cli, commands, data, training
from tinygan.random import Key

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "conditional_mnist.py"
FLAGS = ("--batch-size", "8", "--width", "2", "--latent-dim", "3", "--quiet")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A file of 21 images of 28 x 28 with labels from 0 to 3: two steps an epoch."""
    path, rng = tmp_path_factory.mktemp("conditional") / "digits.npz", np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (21, 1, 28, 28), dtype=np.uint8), labels=np.arange(21) % 4)
    return path


def train(folder, digits, *flags):
    return cli.main(["train", "conditional", "--run-dir", str(folder), "--data-dir", str(digits), *FLAGS, *map(str, flags)])


@pytest.fixture(scope="module")
def run(digits):
    assert train(digits.parent / "run", digits, "--epochs", 2, "--ema", 0.5) == 0
    return digits.parent / "run"


def failure(capsys, *arguments):
    assert cli.main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinygan: error: "), lines
    return lines[0]


def test_two_halves_and_a_run_without_capture_are_the_whole(run, digits, tmp_path):
    assert train(tmp_path / "halves", digits, "--epochs", 1, "--ema", 0.5) == 0
    assert cli.main(["train", "conditional", "--run-dir", str(tmp_path / "halves"), "--resume", "--epochs", "2", "--quiet"]) == 0
    assert content(tmp_path / "halves") == content(run)
    assert train(tmp_path / "eager", digits, "--epochs", 2, "--ema", 0.5, "--no-capture") == 0
    assert content(tmp_path / "eager") == content(run)


def test_the_example_and_the_command_are_the_same_run(run, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "run"), "--epochs", "2", "--ema", "0.5", *FLAGS,
                                      "--data-dir", str(digits)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert content(tmp_path / "run") == content(run)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["classes"] == 4
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_a_run_trains_on_the_labels_of_its_images(run, digits, tmp_path):
    """The same images with other labels make other weights; the GAN's steps by hand, with the labels, make the same."""
    loaded = data.load(digits)
    settings = training.ConditionalSettings(batch_size=8, width=2, latent_dim=3, ema=0.5, run_dir="unused").suited(loaded)
    gan = training.find("conditional").build(settings, loaded.image_shape)
    for epoch in range(2):
        order = Key(0).fold("data").fold(epoch).permutation(21)
        for start in (0, 8):
            gan.step(loaded.batch(order[start:start + 8]), loaded.labels[order[start:start + 8]])
    state = training.open_run(run).gan.state_dict()
    for name, values in gan.state_dict().items():
        np.testing.assert_array_equal(values, state[name])


def test_projection_with_penalties_is_another_run(digits, tmp_path, capsys):
    flags = ("--epochs", 1, "--conditioning", "projection", "--cost", "hinge", "--r1", 1)
    assert train(tmp_path / "run", digits, *flags) == 0
    found = training.open_run(tmp_path / "run").gan
    assert type(found.discriminator) is tg.gans.conditional.ProjectionDiscriminator and found.penalties == {"r1": 1.0}
    capsys.readouterr()
    again = ("train", "conditional", "--run-dir", tmp_path / "run", "--data-dir", digits, "--resume", "--epochs", 2)
    assert "--conditioning was projection, now input" in failure(capsys, *again, "--conditioning", "input")
    assert "--classes was 4, now 5" in failure(capsys, *again, "--classes", 5)


def test_pictures_have_a_row_for_each_class(run, tmp_path):
    with Image.open(run / "samples" / "epoch_0002.png") as picture:
        assert picture.size == (2 * (16 * 29 + 1), 2 * (4 * 29 + 1) + 18)  # 64 images, 16 in each of 4 rows
        assert picture.info["Title"].endswith("; rows: classes 0 to 3")
    assert cli.main(["sample", str(run), "--out", str(tmp_path / "all.npy")]) == 0
    gan = training.open_run(run).gan
    z = gan.latent(64, Key(0).fold("sample"), np.repeat(np.arange(4), 16))
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), gan.sample(z=z))
    assert cli.main(["sample", str(run), "--n", "10", "--out", str(tmp_path / "ten.png")]) == 0
    with Image.open(tmp_path / "ten.png") as picture:
        assert picture.width == 2 * (3 * 29 + 1)  # three in a row, one in the last


def test_rows_of_more_than_a_chunk(run, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "_CHUNK", 5)
    assert cli.main(["sample", str(run), "--n", "24", "--out", str(tmp_path / "x.png")]) == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == 2 * (6 * 29 + 1) and picture.info["Title"].endswith("; rows: classes 0 to 3")


def test_sample_draws_the_class_that_is_asked_for(run, tmp_path, capsys):
    for label, raw in ((2, ()), (3, ("--raw",))):
        assert cli.main(["sample", str(run), "--label", str(label), "--n", "5", "--out", str(tmp_path / "five.npy"), *raw]) == 0
        gan = training.open_run(run).gan
        expected = gan.sample(z=gan.latent(5, Key(0).fold("sample"), label), averaged=not raw)
        np.testing.assert_array_equal(np.load(tmp_path / "five.npy"), expected)
    assert cli.main(["sample", str(run), "--label", "2", "--out", str(tmp_path / "twos.png")]) == 0
    with Image.open(tmp_path / "twos.png") as picture:
        assert picture.width == 2 * (8 * 29 + 1) and picture.info["Title"].endswith("; class 2")
    capsys.readouterr()
    for label in ("4", "-1", "seven", "1.5", ""):
        assert f"--label {label}: expected a whole number from 0 to 3" in failure(capsys, "sample", run, f"--label={label}")


def test_info_interpolate_and_architecture(run, tmp_path, capsys):
    assert cli.main(["info", str(run)]) == 0
    told = capsys.readouterr().out
    assert "conditional on " in told and "InputDiscriminator" in told and "Classes:" not in told
    assert cli.main(["interpolate", str(run), "--label", "3", "--out", str(tmp_path)]) == 0
    for name in ("interpolation", "candidates", "arithmetic"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert ", class 3" in picture.info["Title"]
    for player in ("generator", "discriminator"):
        assert cli.main(["architecture", str(run), "--player", player, "--out", str(tmp_path / f"{player}.png")]) == 0
        assert (tmp_path / f"{player}.png").is_file()


def test_walks_stay_within_a_class(run, tmp_path, monkeypatch):
    made = []
    sample = tg.gans.ConditionalGAN.sample
    monkeypatch.setattr(tg.gans.ConditionalGAN, "sample", lambda self, *given, **more: made.append(more) or sample(self, *given, **more))
    assert cli.main(["interpolate", str(run), "--rows", "2", "--out", str(tmp_path)]) == 0
    assert [more["labels"] for more in made] == [0] * 4 and {more["z"].shape[1] for more in made} == {3}


def test_a_run_on_another_device(other_device, digits, tmp_path):
    flags = ("--conditioning", "projection", "--device", other_device, "--limit-train", 8)  # one step an epoch
    assert train(tmp_path / "whole", digits, "--epochs", 2, *flags) == 0
    assert train(tmp_path / "halves", digits, "--epochs", 1, *flags) == 0
    assert train(tmp_path / "halves", digits, "--epochs", 2, "--resume", *flags) == 0
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


# -- labels that are not there, and folders ------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "flags", "message"), [
    (None, (), "a conditional GAN needs labelled images, or the number of their classes (--classes)"),
    (None, ("--classes", 3), "array:x.npz has no labels, and a conditional GAN learns from labelled images"),
    (np.arange(9) - 1, (), "has labels from -1 to 7, but those of a GAN with 8 classes go from 0 to 7"),
    (np.arange(9), ("--classes", 4), "has labels from 0 to 8, but those of a GAN with 4 classes go from 0 to 3"),
])
def test_labels_that_do_not_fit_are_refused_before_training(labels, flags, message, tmp_path, capsys):
    images = np.zeros((9, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, **({} if labels is None else {"labels": labels}))
    told = failure(capsys, "train", "conditional", "--run-dir", tmp_path / "run", "--data-dir", tmp_path / "x.npz", *FLAGS, *flags)
    assert message in told and not (tmp_path / "run").exists()


def test_a_limit_leaves_all_classes(digits, tmp_path):
    assert train(tmp_path / "run", digits, "--epochs", 1, "--limit-train", 8, "--batch-size", 2) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["classes"] == 4


def test_a_label_for_a_gan_without_labels(digits, tmp_path, capsys):
    assert cli.main(["train", "dcgan", "--run-dir", str(tmp_path / "run"), "--data-dir", str(digits), "--epochs", "1", *FLAGS]) == 0
    capsys.readouterr()
    for command in ("sample", "interpolate"):
        assert "--label 1: a dcgan has no labels" in failure(capsys, command, tmp_path / "run", "--label", 1)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with a sub-folder for each of three classes, one of which has a number as its name."""
    folder = tmp_path_factory.mktemp("pets")
    for i, name in enumerate(["dog", "cat", "7", "dog", "cat", "7", "dog", "dog"]):
        (folder / "pets" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / "pets" / name / f"{i}.png")
    return folder / "pets"


def test_sub_folders_are_classes_with_names(pets):
    found = data.load(pets)
    assert found.class_names == ("7", "cat", "dog") and found.classes == 3
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert found.limit(2).class_names == found.class_names and found.limit(2).classes == 3
    flat = data.load(pets / "cat")
    assert flat.labels is None and flat.class_names is None and flat.classes == 0


def test_a_run_knows_the_names_of_its_classes(pets, tmp_path, capsys):
    assert train(tmp_path / "run", pets, "--epochs", 1) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["classes"] == ["7", "cat", "dog"] and config["settings"]["classes"] == 3
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    assert "\nClasses: 0 7, 1 cat, 2 dog\n" in capsys.readouterr().out
    gan, found = training.open_run(tmp_path / "run").gan, tmp_path / "x.npy"
    for name, label in (("dog", 2), ("1", 1), ("7", 0)):
        assert cli.main(["sample", str(tmp_path / "run"), "--label", name, "--n", "2", "--out", str(found)]) == 0
        np.testing.assert_array_equal(np.load(found), gan.sample(z=gan.latent(2, Key(0).fold("sample"), label)))
    capsys.readouterr()
    assert "from 0 to 2, or one of 7, cat, dog" in failure(capsys, "sample", tmp_path / "run", "--label", "bird")
    # A run that is older than the names goes on.
    del config["data"]["classes"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert train(tmp_path / "run", pets, "--resume", "--epochs", 2) == 0


# -- what was asked for --------------------------------------------------------------------------------------------------


def test_the_share_of_digits_that_are_what_was_asked_for(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a classifier that reads a 3 in every image: one of ten was asked for."""
    whole = {split: data.Dataset("mnist", np.random.default_rng(i).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
                                 np.arange(n) % 10, f"sha256:{split}") for i, (split, n) in enumerate((("train", 80), ("test", 50)))}

    class Threes:
        accuracy, version = 0.75, 2

        def __call__(self, images):
            features = np.tanh(images.reshape(len(images), -1)[:, :3])
            return tg.metrics.digits.Seen(features, np.tile(np.eye(10)[3] * 0.8 + 0.02, (len(images), 1)))

    monkeypatch.setattr(data, "load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr("tinygan.runs.evaluation.load", lambda path=None, split="train", **_: whole[split])
    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Threes())
    assert cli.main(["train", "conditional", "--run-dir", str(tmp_path / "run"), "--epochs", "1", "--evaluate", "1", *FLAGS]) == 0
    record = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert record["floor"]["asked"] == 0.75 and record["epochs"][0]["asked"] == 0.1
    assert record["epochs"][0]["confidence"] == pytest.approx(0.82) and (tmp_path / "run" / "quality.png").is_file()
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    assert "| asked | 0.1 | 0.75 |" in capsys.readouterr().out


def test_the_nearest_neighbour_error(monkeypatch):
    rng = np.random.default_rng(0)
    references, images = rng.normal(size=(70, 1, 3, 4)), rng.normal(size=(33, 1, 3, 4))
    labels, truth = rng.integers(0, 3, 70), rng.integers(0, 3, 33)
    expected = [min(range(70), key=lambda j: ((references[j] - image) ** 2).sum()) for image in images]
    from tinygan.metrics import neighbours

    for rows, columns in ((500, 5000), (7, 11)):
        monkeypatch.setattr(neighbours, "_ROWS", rows)
        monkeypatch.setattr(neighbours, "_COLUMNS", columns)
        assert neighbours.nearest(references, images).tolist() == expected
        error = tg.metrics.nearest_neighbour_error(references, labels, images, truth)
        assert error == (labels[expected] != truth).mean() and 0 < error < 1
    assert tg.metrics.nearest_neighbour_error(references, labels, references, labels) == 0
    for given in ((references, labels[1:], images, truth), (references, labels, images, truth[:-1])):
        with pytest.raises(ValueError, match="expected a label for each image"):
            tg.metrics.nearest_neighbour_error(*given)
    with pytest.raises(ValueError, match="at least one reference, and images of one shape"):
        neighbours.nearest(references[:, :, :2], images)


def test_the_benchmark_adds_the_rows_that_are_missing(run, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("nearest_neighbour")
    whole = data.load(digits)
    monkeypatch.setattr(tg.data, "load", lambda path=None, split="train", **_: whole)
    out = tmp_path / "rows.json"
    assert bench.main([str(run), "--images", "8", "--json", str(out)]) == 0
    first = json.loads(out.read_text())["rows"]
    assert [(row["source"], row["images"]) for row in first] == [("real images", 8), ("run", 8)]
    assert first[1]["steps"] == 4 and first[1]["settings"]["conditioning"] == "input"
    gan = training.open_run(run).gan
    images = gan.sample(z=gan.latent(8, Key(0).fold("references")))
    everything = whole.batch(np.arange(21)).reshape(21, 1, -1)
    nearest = ((everything - images.reshape(8, -1)) ** 2).sum(-1).argmin(1)
    assert first[1]["error_percent"] == pytest.approx(100 * (nearest % 4 != whole.labels).mean(), abs=1e-3)
    monkeypatch.setattr(bench, "measure", lambda *given: {**given[0].about, "images": given[2], "draw": given[3], "error_percent": 50.0})
    capsys.readouterr()
    assert bench.main([str(run), "--images", "8", "20", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert rows[:2] == first and [row["images"] for row in rows] == [8, 8, 20, 20]
    assert "| run after 4 steps, averaged weights |" in capsys.readouterr().out
    assert bench.main([str(run), "--images", "8", "--raw", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["rows"][4]["weights"] == "present weights"
    assert bench.main([str(run), "--images", "22", "--json", str(out)]) == 1
    assert "has only 21 training images" in capsys.readouterr().err
