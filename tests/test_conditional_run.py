"""`tinygan train conditional` and the other commands on its runs; labels of own data; the nearest-neighbour benchmark."""
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
    info,
    small_mnist,
)

import tinygan as tg
from tinygan import cli, commands, data, training
from tinygan.random import Key

FLAGS = ("--batch-size", "8", "--width", "2", "--latent-dim", "3", "--quiet")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """21 images with labels from 0 to 3: two steps an epoch."""
    path, rng = tmp_path_factory.mktemp("conditional") / "digits.npz", np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (21, 1, 28, 28), dtype=np.uint8), labels=np.arange(21) % 4)
    return VariantRuns("conditional", path, FLAGS, 2)


@pytest.fixture(scope="module")
def run(runs):
    return runs.train(runs.data.parent / "run", "--ema", 0.5)


def test_a_run_is_resumed_bit_for_bit(runs, run, tmp_path):
    runs.check_resuming(run, tmp_path, "--ema", 0.5)


def test_the_example_and_the_command_are_the_same_run(runs, run, tmp_path, monkeypatch):
    made = runs.check_example(run, tmp_path, monkeypatch, "--ema", 0.5)
    assert json.loads((made / "config.json").read_text())["settings"]["classes"] == 4


def test_a_run_on_another_device(other_device, runs, tmp_path):
    runs.check_device(other_device, tmp_path, "--conditioning", "projection", "--limit-train", 8)  # one step an epoch


def test_a_run_trains_on_the_labels_of_its_images(runs, run):
    """The same images with other labels make other weights; the GAN's steps by hand, with the labels, make the same."""
    loaded = data.load(runs.data)
    settings = training.ConditionalSettings(batch_size=8, width=2, latent_dim=3, ema=0.5, run_dir="unused").suited(loaded)
    gan = training.find("conditional").build(settings, loaded.image_shape)
    for epoch in range(2):
        order = Key(0).fold("data").fold(epoch).permutation(21)
        for start in (0, 8):
            gan.step(loaded.batch(order[start:start + 8]), loaded.labels[order[start:start + 8]])
    state = training.open_run(run).gan.state_dict()
    for name, values in gan.state_dict().items():
        np.testing.assert_array_equal(values, state[name])


def test_projection_with_penalties_is_another_run(runs, tmp_path, capsys):
    made = runs.train(tmp_path / "run", "--conditioning", "projection", "--cost", "hinge", "--r1", 1, epochs=1)
    found = training.open_run(made).gan
    assert type(found.discriminator) is tg.gans.conditional.ProjectionDiscriminator and found.penalties == {"r1": 1.0}
    again = ("train", "conditional", "--run-dir", made, "--data-dir", runs.data, "--resume", "--epochs", 2)
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
        check_sample(run, tmp_path, "--label", label, *raw, averaged=not raw,
                     z=lambda gan, n, label=label: gan.latent(n, Key(0).fold("sample"), label))
    assert command("sample", run, "--label", 2, "--out", tmp_path / "twos.png") == 0
    with Image.open(tmp_path / "twos.png") as picture:
        assert picture.width == 2 * (8 * 29 + 1) and picture.info["Title"].endswith("; class 2")
    for label in ("4", "-1", "seven", "1.5", ""):
        assert f"--label {label}: expected a whole number from 0 to 3" in failure(capsys, "sample", run, f"--label={label}")


def test_info_interpolate_and_architecture(run, tmp_path, capsys):
    told = info(run, capsys)
    assert "conditional on " in told and "InputDiscriminator" in told and "Classes:" not in told
    assert command("interpolate", run, "--label", 3, "--out", tmp_path) == 0
    for name in ("interpolation", "candidates", "arithmetic"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert ", class 3" in picture.info["Title"]
    check_pictures_of_networks(run, tmp_path)


def test_walks_stay_within_a_class(run, tmp_path, monkeypatch):
    made = []
    sample = tg.gans.ConditionalGAN.sample
    monkeypatch.setattr(tg.gans.ConditionalGAN, "sample", lambda self, *given, **more: made.append(more) or sample(self, *given, **more))
    assert cli.main(["interpolate", str(run), "--rows", "2", "--out", str(tmp_path)]) == 0
    assert [more["labels"] for more in made] == [0] * 4 and {more["z"].shape[1] for more in made} == {3}


# -- labels that are not there, and folders ------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "flags", "message"), [
    (None, (), "a conditional GAN learns from labelled images, and these have no labels: use MNIST"),
    (None, ("--classes", 3), "array:x.npz has no labels, and a conditional GAN learns from labelled images"),
    (np.arange(9) - 1, (), "has labels from -1 to 7, but those of a GAN with 8 classes go from 0 to 7"),
    (np.arange(9), ("--classes", 4), "has labels from 0 to 8, but those of a GAN with 4 classes go from 0 to 3"),
])
def test_labels_that_do_not_fit_are_refused_before_training(labels, flags, message, tmp_path, capsys):
    images = np.zeros((9, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, **({} if labels is None else {"labels": labels}))
    told = failure(capsys, "train", "conditional", "--run-dir", tmp_path / "run", "--data-dir", tmp_path / "x.npz", *FLAGS, *flags)
    assert message in told and not (tmp_path / "run").exists()


def test_a_limit_leaves_all_classes(runs, tmp_path):
    made = runs.train(tmp_path / "run", "--limit-train", 8, "--batch-size", 2, epochs=1)
    assert json.loads((made / "config.json").read_text())["settings"]["classes"] == 4


def test_a_label_for_a_gan_without_labels(runs, tmp_path, capsys):
    assert command("train", "dcgan", "--run-dir", tmp_path / "run", "--data-dir", runs.data, "--epochs", 1, *FLAGS) == 0
    for name in ("sample", "interpolate"):
        assert "--label 1: a run of 'dcgan' has no labels" in failure(capsys, name, tmp_path / "run", "--label", 1)


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
    named = VariantRuns("conditional", pets, FLAGS, 1)
    run = named.train(tmp_path / "run", epochs=1)
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["classes"] == ["7", "cat", "dog"] and config["settings"]["classes"] == 3
    assert "\nClasses: 0 7, 1 cat, 2 dog\n" in info(run, capsys)
    for name, label in (("dog", 2), ("1", 1), ("7", 0)):
        check_sample(run, tmp_path, "--label", name, z=lambda gan, n, label=label: gan.latent(n, Key(0).fold("sample"), label))
    assert "from 0 to 2, or one of 7, cat, dog" in failure(capsys, "sample", run, "--label", "bird")
    # A run that is older than the names goes on.
    del config["data"]["classes"]
    (run / "config.json").write_text(json.dumps(config))
    named.train(run, "--resume")


# -- what was asked for --------------------------------------------------------------------------------------------------


def test_the_share_of_digits_that_are_what_was_asked_for(tmp_path, monkeypatch, capsys):
    """`evaluate` and `--evaluate`, with a classifier that reads a 3 in every image: one of ten was asked for."""
    small_mnist(monkeypatch, train=80, test=50)

    class Threes:
        accuracy, version = 0.75, 2

        def __call__(self, images):
            features = np.tanh(images.reshape(len(images), -1)[:, :3])
            return tg.metrics.digits.Seen(features, np.tile(np.eye(10)[3] * 0.8 + 0.02, (len(images), 1)))

    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Threes())
    record, told = evaluated("conditional", tmp_path / "run", capsys, *FLAGS)
    assert record["floor"]["asked"] == 0.75 and record["epochs"][0]["asked"] == 0.1
    assert record["epochs"][0]["confidence"] == pytest.approx(0.82)
    assert "| asked | 0.1 | 0.75 |" in told


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


def test_the_benchmark_adds_the_rows_that_are_missing(runs, run, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "benchmarks"))
    bench = importlib.import_module("nearest_neighbour")
    whole = data.load(runs.data)
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
