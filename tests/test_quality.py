"""The classifier of digits, the judge that looks with it, and runs that are evaluated as they go."""
import dataclasses
import functools
import json
import math
import shutil
import struct
import sys

import numpy as np
import PIL.Image
import pytest
import tqdm

import tinygan as tg
from tests.tiny_run import tiny_data
from tinygan import cli, metrics, saving, training
from tinygan.data import DataError, Dataset
from tinygan.metrics import changes, digits
from tinygan.random import Key
from tinygan.runs import evaluation


def patterns(n, seed=0, name="patterns"):
    """Ten classes of 28 x 28 images that are easily told apart: a blob at one of ten places, on noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    rows, columns = 4 + 6 * (labels // 3), 4 + 6 * (labels % 3)
    near = np.hypot(np.arange(28)[:, None] - rows[:, None, None], np.arange(28) - columns[:, None, None]) < 2.5
    images = (200 * near + rng.integers(0, 56, (n, 28, 28))).astype(np.uint8)[:, None]
    return Dataset(name, images, labels, f"sha256:patterns-{n}-{seed}")


TRAIN, TEST = patterns(1280), patterns(300, 1)
FEW = TRAIN.limit(384)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digits, "EPOCHS", 2)
    monkeypatch.setattr(changes, "SHIFT", 0)  # the places are the classes
    return tmp_path / "cache" / "tinygan"


@pytest.fixture(scope="module")
def classifier():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "SHIFT", 0)
        return metrics.train_classifier(TRAIN, TEST, epochs=6)


def train_two(unfinished):
    """Two epochs, in halves if `unfinished` is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "SHIFT", 0)
        return metrics.train_classifier(FEW, TEST, 2, unfinished=unfinished)


def real(dataset):
    return dataset.batch(np.arange(len(dataset)))


# -- the classifier --------------------------------------------------------------------------------------------------


def test_the_classifier_learns_and_knows_how_well(classifier):
    seen = classifier(real(TEST))
    assert seen.features.shape == (300, digits.FEATURES) and seen.probabilities.shape == (300, 10)
    np.testing.assert_allclose(seen.probabilities.sum(1), 1, rtol=1e-5)
    assert classifier.accuracy == np.mean(seen.labels == TEST.labels) > 0.95


def test_what_it_sees_in_an_image_does_not_depend_on_the_others(classifier):
    images = real(TEST)
    np.testing.assert_allclose(classifier(images[:7]).features, classifier(images).features[:7], rtol=1e-4, atol=1e-5)


def test_stacked_digits_are_read_as_one_number(classifier):
    assert classifier.accuracy > 0.95
    stacked = tg.data.stacked(TEST, 200, Key(0))
    found = classifier.stacked_labels(real(stacked))
    assert np.mean(found == stacked.labels) > 0.95**3


def test_it_is_kept_and_taken_from_the_cache(cache, monkeypatch, capsys):
    first = metrics.digit_classifier(FEW, TEST)
    assert "training the classifier of patterns: epoch 2 of 2" in capsys.readouterr().err
    monkeypatch.setattr(digits, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
    second = metrics.digit_classifier(FEW, TEST)
    assert (second.accuracy, second.confidence, second.changed) == (first.accuracy, first.confidence, first.changed)
    np.testing.assert_array_equal(second(real(TEST)).probabilities, first(real(TEST)).probabilities)


def test_a_training_that_was_stopped_goes_on_and_ends_the_same(cache, monkeypatch, capsys):
    whole = metrics.digit_classifier(FEW, TEST)
    (path,) = cache.glob("digits-*")
    path.unlink()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(digits, "changed_sets", lambda *_: 1 / 0)  # after the last epoch
        metrics.digit_classifier(FEW, TEST)
    assert [found.suffix for found in cache.glob("digits-*")] == [".unfinished"]
    assert metrics.digit_classifier(FEW, TEST).changed == whole.changed
    assert [found.suffix for found in cache.glob("digits-*")] == [".safetensors"]
    loss, calls = digits._loss, iter(range(4))  # three batches an epoch
    halves = cache.parent / "halves"
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(digits, "_loss", lambda *given: (next(calls), loss(*given))[1])
        train_two(halves)
    capsys.readouterr()
    again = train_two(halves)
    assert "the training of the classifier goes on after epoch 1" in capsys.readouterr().err
    for name, array in whole.body.state_dict().items():
        np.testing.assert_array_equal(again.body.state_dict()[name], array)
    halves.write_bytes(halves.read_bytes()[:-9])
    train_two(halves)
    assert "training the classifier from the start" in capsys.readouterr().err


def test_a_damaged_cache_is_trained_anew(cache, capsys):
    metrics.digit_classifier(FEW, TEST)
    (path,) = cache.glob("digits-*")
    path.write_bytes(path.read_bytes()[:-9])
    assert metrics.digit_classifier(FEW, TEST).accuracy > 0.5
    assert f"{path} cannot be used" in capsys.readouterr().err
    accuracy, confidence, changed = json.loads(saving.load(path)[1]["measured"])
    assert accuracy > 0.5 and 0.1 < confidence < 1 and set(changed) == {*changes.CHANGES, "all", "background"}


def test_another_version_has_a_file_of_its_own(cache, monkeypatch):
    metrics.digit_classifier(FEW, TEST)
    monkeypatch.setattr(digits, "VERSION", digits.VERSION + 1)
    assert metrics.digit_classifier(FEW, TEST).version == digits.VERSION
    assert sorted(saving.load(path)[1]["version"] for path in cache.glob("digits-*")) == ["2", "3"]


def test_changed_images_are_read_too_and_it_is_known_how_well(classifier):
    for name, images in changes.changed_sets(real(TEST), Key(0).fold("test")):
        assert classifier.changed[name] == np.mean(classifier(images).labels == TEST.labels) > 0.9, name
    grey = np.maximum(real(TEST), -0.5)
    assert np.mean(classifier(grey).labels == TEST.labels) > 0.95


def test_confidence_is_the_mean_of_the_largest_probabilities(classifier, capsys):
    seen = digits.Seen(np.zeros((2, 3)), np.array([[0.7, 0.1, 0.2], [0.0, 0.1, 0.9]]))
    assert seen.confidence == pytest.approx(0.8)
    seen.warn()
    assert "mean confidence is 0.800, below 0.9. Its counts of digits and modes are uncertain" in capsys.readouterr().err
    seen = classifier(real(TEST))
    seen.warn()
    assert classifier.confidence == seen.confidence > 0.9 and capsys.readouterr().err == ""


@pytest.mark.parametrize("images", [
    np.clip(Key(1).normal((60, 1, 28, 28)), -1, 1), Key(1).uniform((60, 1, 28, 28), -1, 1),
    np.zeros((60, 1, 28, 28), np.float32), changes.without_digits(real(TEST)[:60], Key(2))])
def test_it_is_unsure_of_images_without_a_digit(classifier, images):
    assert classifier(images).confidence < 0.5


def test_coverage_counts_digits_and_stacked_digits_with_the_confidence(classifier, capsys):
    found = classifier.coverage(real(TEST))
    labels = classifier(real(TEST)).labels
    np.testing.assert_array_equal(found.counts, np.bincount(labels, minlength=10))
    assert found.modes == 10 and found.confidence == classifier.confidence
    stacked = real(tg.data.stacked(TEST, 100, Key(0)))
    found = classifier.coverage(stacked)
    np.testing.assert_array_equal(found.counts, np.bincount(classifier.stacked_labels(stacked), minlength=1000))
    assert found.confidence == pytest.approx(classifier(stacked.reshape(300, 1, 28, 28)).confidence)
    assert capsys.readouterr().err == ""
    noise = classifier.coverage(Key(0).uniform((20, 3, 28, 28), -1, 1))
    assert noise.confidence < 0.5 and "below 0.9" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"coverage: expected images \(N, 1, 28, 28\) or \(N, 3, 28, 28\), got \(5, 2, 28, 28\)"):
        classifier.coverage(np.zeros((5, 2, 28, 28), np.float32))


def test_other_data_have_another_classifier(cache):
    metrics.digit_classifier(FEW, TEST)
    metrics.digit_classifier(FEW.limit(320), TEST)
    assert len(list(cache.glob("digits-*"))) == 2


@pytest.mark.parametrize("wrong", [tiny_data(), Dataset("x", TEST.images, None, "sha256:x"), Dataset("x", TEST.images, TEST.labels + 5, "sha256:y")])
def test_it_takes_digits_only(wrong):
    with pytest.raises(ValueError, match=r"knows only digits: images \(1, 28, 28\) with labels from 0 to 9"):
        metrics.digit_classifier(wrong, TEST)


def test_the_weights_follow_from_the_key():
    first, second, other = (metrics.train_classifier(TRAIN.limit(256), TEST, 1, Key(seed)) for seed in (0, 0, 1))
    weights = [c.body.state_dict()["0.weight"] for c in (first, second, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


# -- the judge -------------------------------------------------------------------------------------------------------


def test_the_judge_tells_real_from_collapsed_from_noise(classifier, capsys):
    judge = metrics.Judge(classifier, TRAIN)
    good, same = judge(real(TEST)), judge(real(TRAIN)[TRAIN.labels == 4][:100])
    assert capsys.readouterr().err == ""
    noise = judge(np.random.default_rng(0).uniform(-1, 1, (300, 1, 28, 28)).astype(np.float32))
    assert good.confidence > 0.9 > 0.5 > noise.confidence and capsys.readouterr().err.count("below 0.9") == 1
    assert good.modes == 10 and good.kl < 0.05 and good.precision > 0.8 and good.recall > 0.8 and good.score > 8
    assert same.modes <= 2 and same.kl > 2 and same.recall < 0.3 and same.score < 2
    assert good.frechet < 0.1 * min(same.frechet, noise.frechet) and good.kernel < 0.1 * min(same.kernel, noise.kernel)
    assert good.bins < noise.bins and noise.precision < 0.1


def test_a_feature_that_one_training_image_has_does_not_decide(classifier):
    def strange(images):
        seen = classifier(images)
        rare = 1e-4 * (images == real(TRAIN)[:1]).all(axis=(1, 2, 3))[:, None]
        return seen._replace(features=np.concatenate([seen.features, rare.astype(np.float32)], axis=1))

    usual, found = (metrics.Judge(one, TRAIN)(real(TEST)) for one in (classifier, strange))
    assert found.frechet == pytest.approx(usual.frechet, rel=1e-3)


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The file of a classifier of these digits."""
    folder = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(digits, "EPOCHS", 2)
        patch.setattr(changes, "SHIFT", 0)
        metrics.digit_classifier(TRAIN, TEST)
    return next((folder / "tinygan").glob("digits-*"))


@pytest.fixture
def splits(monkeypatch, cache, known):
    """The digits, whose classifier is in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(known, cache)

    def load(data_dir=None, *, split="train", **_):
        return TRAIN if split == "train" else TEST

    monkeypatch.setattr(evaluation, "load", load)
    monkeypatch.setattr(tg.data, "load", load)


@pytest.fixture
def untrained(splits, cache):
    """The digits, without their classifier."""
    next(cache.glob("digits-*")).unlink()


def train(folder, **changes):
    settings = training.VanillaSettings(**{"run_dir": str(folder), "epochs": 4, "batch_size": 64, "limit_train": 128,
                                           "evaluate": 2, "quiet": True, **changes})
    generator, discriminator = tg.gans.vanilla_networks((1, 28, 28), settings.latent_dim)
    return training.train(tg.gans.VanillaGAN(generator, discriminator, settings.latent_dim, key=Key(0)), TRAIN, settings)


def record(folder):
    return json.loads((folder / "quality.json").read_text())


def test_a_run_is_evaluated_every_so_many_epochs(tmp_path, splits):
    train(tmp_path / "run")
    found = record(tmp_path / "run")
    assert (found["data"], found["images"]) == ("patterns", 300) and found["classifier_accuracy"] > 0.9
    assert [row["epoch"] for row in found["epochs"]] == [2, 4]
    assert set(found["floor"]) == set(metrics.Quality._fields) == set(found["epochs"][0]) - {"epoch", "d_loss"}
    history = training.open_run(tmp_path / "run").history["d_loss"]  # of two steps in each epoch
    assert [row["d_loss"] for row in found["epochs"]] == pytest.approx([history[2:4].mean(), history[6:].mean()], rel=1e-4)
    assert found["floor"]["frechet"] < found["epochs"][0]["frechet"]
    assert all(math.isfinite(value) for row in [found["floor"], *found["epochs"]] for value in row.values())
    assert (tmp_path / "run" / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_evaluating_changes_nothing_and_resuming_loses_nothing(tmp_path, splits):
    train(tmp_path / "whole")
    train(tmp_path / "plain", evaluate=None)
    train(tmp_path / "halves", epochs=2)
    train(tmp_path / "halves", resume=True)
    assert record(tmp_path / "halves") == record(tmp_path / "whole")
    whole, plain, halves = (saving.load(tmp_path / run / "checkpoint.safetensors")[0] for run in ("whole", "plain", "halves"))
    for name in whole:
        if name != "history.seconds":
            np.testing.assert_array_equal(whole[name], plain[name])
            np.testing.assert_array_equal(whole[name], halves[name])


def test_an_evaluation_that_a_kill_prevented_is_made_up_for_and_a_later_one_dropped(tmp_path, splits):
    train(tmp_path / "run", epochs=2)
    expected = record(tmp_path / "run")
    path = tmp_path / "run" / "quality.json"
    path.write_text(json.dumps({**expected, "epochs": [{**expected["epochs"][0], "epoch": 3}]}))
    train(tmp_path / "run", epochs=3, resume=True)
    assert record(tmp_path / "run") == expected


def test_evaluations_with_another_version_of_the_classifier_are_kept_apart(tmp_path, splits, capsys):
    train(tmp_path / "run", epochs=2)
    made = record(tmp_path / "run")
    assert made["classifier_version"] == digits.VERSION
    old = {**{name: value for name, value in made.items() if name != "classifier_version"}, "epochs": [{"epoch": 2, "modes": 3}]}
    (tmp_path / "run" / "quality.json").write_text(json.dumps(old))  # the first version did not write its number
    train(tmp_path / "run", resume=True)
    assert [row["epoch"] for row in record(tmp_path / "run")["epochs"]] == [2, 4]
    assert json.loads((tmp_path / "run" / "quality-classifier1.json").read_text()) == old
    assert "the evaluations with version 1 of the classifier" in capsys.readouterr().err


def test_what_has_no_test_images_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "own.npy", real(TRAIN)[:64])
    with pytest.raises(DataError, match=r"patterns cannot be evaluated: .*own.npy.*holds no 'test' split"):
        train(tmp_path / "run", data_dir=str(tmp_path / "own.npy"))
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", data_dir=str(tmp_path / "own.npy"), evaluate=None, epochs=1)


@pytest.mark.parametrize("other, message", [
    (dataclasses.replace(TEST, labels=None), "patterns cannot be evaluated: the classifier knows only digits: .* without labels"),
    (dataclasses.replace(TEST, labels=TEST.labels + 5), "patterns cannot be evaluated: the classifier knows only digits: .*labels from 0 to 9"),
    (dataclasses.replace(TEST, images=TEST.images[:, :, 2:, 2:]), r"the classifier knows only digits: .*\(1, 26, 26\)"),
    (dataclasses.replace(TEST, name="mnist"), "patterns cannot be evaluated: the test images found are those of mnist")])
def test_what_cannot_be_evaluated_is_refused_before_anything_is_made(tmp_path, monkeypatch, other, message):
    monkeypatch.setattr(evaluation, "load", lambda data_dir, split: other)
    with pytest.raises(training.RunError, match=message):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_classifier_that_fails_leaves_no_run_behind(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(digits, "train_classifier", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "run")
    monkeypatch.undo()
    train(tmp_path / "run", evaluate=None, epochs=1)


BARS = ("classifier, epoch 1 of 1", "preparing the evaluation", "looking at images", "evaluating", "sampling")


@pytest.mark.parametrize("terminal, quiet", [(True, False), (True, True), (False, False)])
def test_evaluation_shows_bars_on_a_terminal_only(tmp_path, untrained, capsys, monkeypatch, terminal, quiet):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    train(tmp_path / "run", epochs=2, quiet=quiet)
    seen = capsys.readouterr()
    for name in BARS:
        assert (f"{name}:" in seen.err) == (terminal and not quiet), name
    assert not any(f"{name}:" in seen.out for name in BARS)


def test_the_command_evaluate_shows_bars(tmp_path, untrained, capsys, monkeypatch):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    trained_by_command(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(tqdm, "tqdm", functools.partial(tqdm.tqdm, mininterval=0, miniters=1))  # shows every state
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    assert all(f"{name}:" in err for name in BARS)
    assert "looking at images: 100%" in err and "1280/1280" in err and "300/300" in err


def trained_by_command(tmp_path, *flags):
    assert cli.main(["train", "vanilla", "--run-dir", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "64",
                     "--limit-train", "128", *flags]) == 0


def test_evaluate_looks_at_the_averaged_weights_unless_they_are_refused(tmp_path, splits, capsys, monkeypatch):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    trained_by_command(tmp_path, "--ema", "0.9", "--evaluate", "1")
    assert record(tmp_path / "run")["generator"] == "averaged weights"
    gan, looked_at = training.open_run(tmp_path / "run").gan, []
    judged = metrics.Judge.__call__
    monkeypatch.setattr(metrics.Judge, "__call__", lambda judge, images: looked_at.append(images) or judged(judge, images))
    for flags, weights in (([], "averaged"), (["--raw"], "present")):
        capsys.readouterr()
        assert cli.main(["evaluate", str(tmp_path / "run"), *flags]) == 0
        assert capsys.readouterr().out.startswith(f"300 images of the generator's {weights} weights after 2 steps on patterns")
        z = gan.latent(300, Key(0).fold("evaluation"))
        np.testing.assert_array_equal(looked_at[-1], gan.sample(z=z, averaged=not flags))


def test_evaluate_says_what_to_do_where_the_data_have_gone(tmp_path, splits, capsys, monkeypatch):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    (tmp_path / "digits").mkdir()
    trained_by_command(tmp_path, "--data-dir", str(tmp_path / "digits"))
    (tmp_path / "digits").rename(tmp_path / "moved")
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert f"the data of {tmp_path / 'run'} are no longer at {tmp_path / 'digits'}: say with --data-dir where" in err
    assert cli.main(["evaluate", str(tmp_path / "run"), "--data-dir", str(tmp_path / "moved")]) == 0
    monkeypatch.setattr(tg.data, "load", lambda *_, **__: TEST)
    assert cli.main(["evaluate", str(tmp_path / "run"), "--data-dir", str(tmp_path / "moved")]) == 2
    assert f"was trained on patterns, not on patterns ({tmp_path / 'moved'})" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["idx", "npz"])
def test_other_data_with_a_test_split_are_evaluated(tmp_path, capsys, kind):
    arrays = {"train": (TRAIN.images[:320, 0], TRAIN.labels[:320].astype(np.uint8)),
              "t10k": (TEST.images[:50, 0], TEST.labels[:50].astype(np.uint8))}
    data = tmp_path / "fashion"
    data.mkdir()
    for split, pair in arrays.items():
        for name, array in zip(("images-idx3", "labels-idx1"), pair, strict=True):
            header = struct.pack(f">{1 + array.ndim}i", 2048 + array.ndim, *array.shape)
            (data / f"{split}-{name}-ubyte").write_bytes(header + array.tobytes())
    if kind == "npz":
        data = tmp_path / "fashion.npz"
        np.savez(data, **{f"{axis}_{split.replace('t10k', 'test')}": array
                          for split, pair in arrays.items() for axis, array in zip("xy", pair, strict=True)})
    run = tmp_path / "run"
    assert cli.main(["train", "vanilla", "--run-dir", str(run), "--data-dir", str(data), "--epochs", "1", "--limit-train", "64",
                     "--batch-size", "16", "--evaluate", "1"]) == 0
    record = json.loads((run / "quality.json").read_text())
    assert record["images"] == 50 and record["data"] == ("idx:fashion" if kind == "idx" else "array:fashion.npz")
    capsys.readouterr()
    assert cli.main(["evaluate", str(run)]) == 0
    assert f"50 images after 4 steps on {record['data']}" in capsys.readouterr().out


def test_photographs_are_not_evaluated_whatever_the_flags_they_were_read_with(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(4):
        PIL.Image.fromarray(np.full((8, 6 + i), 40 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    assert cli.main(["train", "vanilla", "--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "photos"), "--epochs",
                     "1", "--batch-size", "4", "--image-size", "6"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 2
    assert "images:photos cannot be evaluated: the classifier knows only digits" in capsys.readouterr().err


def test_the_commands(tmp_path, splits, capsys):
    assert cli.main(["classifier"]) == 0
    out = capsys.readouterr().out
    assert "of the 300 test images of patterns, with a mean confidence of 0." in out
    assert all(f"\n| {name} | " in out for name in (*changes.CHANGES, "all", "background"))
    trained_by_command(tmp_path)
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("300 images after 2 steps on patterns") and out.count("\n| ") == 2 + len(metrics.Quality._fields)


def test_a_preset_is_several_flags_and_flags_go_before_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training.VanillaSettings, "presets", {"odd": {"learning_rate": 0.5, "epochs": 3}})
    seen = []
    assert training.main(seen.append, "vanilla", ["--preset", "odd", "--epochs", "7", "--run-dir", str(tmp_path / "a")]) == 0
    assert (seen[0].learning_rate, seen[0].epochs, seen[0].beta1) == (0.5, 7, 0.5)
    assert training.main(seen.append, "vanilla", ["--help"]) == 0
    assert "odd: --learning-rate 0.5 --epochs 3" in " ".join(capsys.readouterr().out.split())
