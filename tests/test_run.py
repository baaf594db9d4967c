"""The contract of a run: what its folder holds, resuming bit for bit, refusing what would mix runs up, what it says."""
import csv
import dataclasses
import json
import os
import signal
import sys
import threading
import types

import numpy as np
import pytest
from PIL import Image
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train, train_until

import tinygan as tg
from tinygan import nn, saving, training
from tinygan.runs import previews, report
from tinygan.runs.folder import RunFolder
from tinygan.runs.history import History, Row
from tinygan.runs.warnings import Alarm, last_epoch, warnings, warnings_of_run


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of four epochs at once."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    tiny_train(folder)
    return folder


def test_a_run_folder_holds_what_it_should(reference):
    assert sorted(path.name for path in reference.iterdir()) == [
        ".lock", "checkpoint.safetensors", "config.json", "losses.png", "metrics.csv", "run.toml", "samples",
        "samples.gif"]
    assert sorted(path.name for path in (reference / "samples").iterdir()) == [f"epoch_000{i}.png" for i in (1, 2, 3, 4)]
    config = json.loads((reference / "config.json").read_text())
    assert config["settings"]["epochs"] == 4 and config["settings"]["seed"] == 0
    assert config["data"] == {"name": "tiny", "images": 43, "image_shape": [1, 4, 4], "checksum": "sha256:of-seed-0",
                              "data_dir": None}
    assert {"tinygan", "python", "numpy"} <= config["versions"].keys() and config["machine"]["threads"] >= 1
    with open(reference / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "d_loss", "g_loss", "d_real", "d_fake", "seconds"]
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert [int(row["epoch"]) for row in rows] == [epoch for epoch in (1, 2, 3, 4) for _ in range(5)]
    assert all(0 < float(row["d_real"]) < 1 and float(row["d_loss"]) > 0 for row in rows)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    with Image.open(reference / "samples/epoch_0003.png") as image:
        assert image.text["Title"] == "vanilla GAN on tiny, epoch 3"
    with Image.open(reference / "losses.png") as image:
        assert image.text["Title"] == "vanilla GAN on tiny, epoch 4 of 4"
    with Image.open(reference / "samples.gif") as image:
        assert image.n_frames == 4


def test_the_metrics_are_what_the_gan_reported(reference, tmp_path):
    settings, data = tiny_settings(tmp_path), tiny_data()
    gan = tiny_gan(settings)
    seen = []
    original = gan.step
    gan.step = lambda real: (seen.append((real.copy(), original(real))), seen[-1][1])[1]
    history = training.train(gan, data, settings)
    np.testing.assert_array_equal(history["d_loss"], np.array([stats.d_loss for _, stats in seen], np.float32))
    np.testing.assert_array_equal(history["d_fake"], np.array([stats.d_fake for _, stats in seen], np.float32))
    for epoch in range(4):  # a pass over the data: 40 different images of the 43, in a new order each time
        batch = np.concatenate([real for real, _ in seen[5 * epoch:5 * epoch + 5]]).reshape(40, -1)
        known = {image.tobytes() for image in data.batch(np.arange(43))}
        assert len({image.tobytes() for image in batch}) == 40 and {image.tobytes() for image in batch} <= known
    assert not np.array_equal(seen[0][0], seen[5][0])


def test_several_discriminator_steps_share_the_data_of_an_epoch(tmp_path):
    assert len(tiny_train(tmp_path, d_steps=2, epochs=3)) == 3 * (43 // 16)


@pytest.mark.parametrize("first", [1, 3])
def test_two_halves_equal_the_whole(reference, tmp_path, first):
    tiny_train(tmp_path, epochs=first)
    history = tiny_train(tmp_path, epochs=4, resume=True)
    assert len(history) == 20
    assert content(tmp_path) == content(reference)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 5, 13])
def test_interrupted_within_an_epoch_and_resumed_equals_the_whole(reference, tmp_path, step, number, capsys):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(training.Interrupted) as caught:
        train_until(tmp_path, step, lambda _: signal.raise_signal(number))
    assert caught.value.exit_status == 128 + number
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    said = capsys.readouterr().out
    assert f"saved after step {step}" in said and "resume=True" in said
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + step
    assert len(tiny_train(tmp_path, resume=True)) == 20
    assert content(tmp_path) == content(reference)


def test_a_second_interrupt_ends_the_run_at_once(tmp_path):
    def twice(_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train_until(tmp_path, 2, twice)
    assert not isinstance(caught.value, training.Interrupted)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_long_epoch_is_saved_on_the_way(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_SAVE_SECONDS", 0.0)

    def crash(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path, 8, crash)
    arrays, _ = saving.load(tmp_path / "checkpoint.safetensors")
    assert arrays["cursor"].tolist() == [1, 2]
    monkeypatch.undo()
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)


def test_a_crash_loses_only_what_came_after_the_checkpoint(reference, tmp_path):
    def crash(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path, 8, crash)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("2,8,0.1")  # half a row, as a killed process leaves it
    (tmp_path / ".config.json.99.tmp").touch()
    (tmp_path / "samples/.epoch_0002.png.99.tmp").touch()
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)
    assert not list(tmp_path.rglob("*.tmp"))


def test_resuming_before_the_first_checkpoint_starts_afresh(reference, tmp_path):
    def crash(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path, 3, crash)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)


def test_resuming_a_complete_run_changes_nothing(reference, tmp_path):
    tiny_train(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    tiny_train(tmp_path, resume=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert content(tmp_path) == content(reference)


def test_previews_do_not_disturb_training(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "PREVIEWS", 9)
    tiny_train(tmp_path)
    assert content(tmp_path)[:2] == content(reference)[:2]


def test_another_seed_is_another_run(reference, tmp_path):
    tiny_train(tmp_path, seed=1)
    assert content(tmp_path)[1] != content(reference)[1]


def test_a_new_run_is_refused_where_something_lies(reference, tmp_path):
    before = content(reference)
    with pytest.raises(training.RunError, match="already holds a run: resume=True continues it, another run_dir"):
        tiny_train(reference)
    assert content(reference) == before
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(training.RunError, match="already holds other files: another run_dir"):
        tiny_train(tmp_path)
    with pytest.raises(training.RunError, match=r"thesis\.tex is a file"):
        tiny_train(tmp_path / "thesis.tex")
    with pytest.raises(training.RunError, match="absent does not exist, so there is nothing to resume"):
        tiny_train(tmp_path / "absent", resume=True)


@pytest.mark.parametrize("changes, message", [
    ({"batch_size": 4}, "--batch-size was 8, now 4"), ({"seed": 1}, "--seed was 0, now 1"),
    ({"learning_rate": 1e-3}, r"--learning-rate was 0\.0002, now 0\.001"),
    ({"limit_train": 20}, "--limit-train was not given, now 20"),
    ({"epochs": 1}, "2 epochs are done: --epochs must be at least 2, got 1")])
def test_resuming_under_other_settings_is_refused(tmp_path, changes, message):
    tiny_train(tmp_path, epochs=2)
    before = content(tmp_path)
    with pytest.raises(training.RunError, match=f"cannot resume .*{message}"):
        tiny_train(tmp_path, resume=True, **{"epochs": 2, **changes})
    assert content(tmp_path) == before


@pytest.mark.parametrize("data, message", [
    (tiny_data(seed=1), "the data set's checksum was sha256:of-seed-0, now sha256:of-seed-1"),
    (dataclasses.replace(tiny_data(), images=np.zeros((43, 1, 5, 4), np.uint8)),
     r"image shape was \[1, 4, 4\], now \[1, 5, 4\]")])
def test_resuming_on_other_data_is_refused(tmp_path, data, message):
    tiny_train(tmp_path, epochs=1)
    settings = tiny_settings(tmp_path, epochs=2, resume=True)
    with pytest.raises(training.RunError, match=message):
        training.train(tiny_gan(settings), data, settings)


def test_other_data_that_are_too_few_are_called_other_data(tmp_path):
    tiny_train(tmp_path, epochs=1)
    settings = tiny_settings(tmp_path, epochs=2, resume=True)
    with pytest.raises(training.RunError, match=r"cannot resume .*: its data were tiny, and these are few: name the run's own"):
        training.train(tiny_gan(settings), dataclasses.replace(tiny_data(seed=1), name="few").limit(4), settings)


def test_where_and_how_a_run_goes_on_may_change(reference, tmp_path):
    tiny_train(tmp_path / "a", epochs=2)
    (tmp_path / "a").rename(tmp_path / "b")
    tiny_train(tmp_path / "b", resume=True, quiet=True, device="cpu")
    assert content(tmp_path / "b") == content(reference)


def test_another_machine_is_noted_and_remembered(tmp_path, capsys):
    tiny_train(tmp_path, epochs=1)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["versions"]["numpy"] = "1.0"
    assert config["machine"].pop("vectors").endswith(" bytes")  # older versions did not record it
    path.write_text(json.dumps(config))
    tiny_train(tmp_path, epochs=2, resume=True)
    noted = capsys.readouterr().err
    assert "numpy 1.0 -> " + np.__version__ in noted and "vectors" not in noted
    config = json.loads(path.read_text())
    assert config["versions"]["numpy"] == "1.0" and config["resumed"][0]["versions"]["numpy"] == np.__version__
    assert config["settings"]["epochs"] == 2


def test_a_folder_in_use_is_locked(tmp_path):
    settings = tiny_settings(tmp_path)
    expected = rf"is in use by another run \(process {os.getpid()}\)"
    with RunFolder(settings, tiny_data()), pytest.raises(training.RunError, match=expected):
        tiny_train(tmp_path, resume=True)
    tiny_train(tmp_path, resume=True)


def test_two_new_runs_cannot_both_get_an_empty_folder(tmp_path):
    with RunFolder(tiny_settings(tmp_path), tiny_data()), pytest.raises(training.RunError, match=r"already holds|in use"):
        tiny_train(tmp_path)


def test_less_data_than_a_batch_is_refused(tmp_path):
    with pytest.raises(training.RunError, match=r"tiny has 7 images, with --limit-train; a step takes 8 .*lower --batch-size"):
        tiny_train(tmp_path, limit_train=7)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch_size": -1}, {"noise": "pink"}, {"learning_rate": float("nan")}])
def test_impossible_settings_are_refused(tmp_path, changes):
    with pytest.raises(ValueError, match=f"VanillaSettings: {next(iter(changes))}: expected"):
        tiny_settings(tmp_path, **changes)


def test_a_run_in_another_thread_leaves_signals_alone(reference, tmp_path):
    thread = threading.Thread(target=tiny_train, args=(tmp_path,))
    thread.start()
    thread.join()
    assert content(tmp_path) == content(reference)


def history_of(*rows):
    history = History(steps_per_epoch=2)
    for row in rows:
        history.append(Row(*row))
    return history


HEALTHY, WON = ({"d_loss": 1.2, "g_loss": 0.9, "d_real": 0.6, "d_fake": 0.4},
                {"d_loss": 0.001, "g_loss": 9.0, "d_real": 0.999, "d_fake": 0.001})
REAL = np.random.default_rng(0).uniform(-1, 1, (64, 1, 8, 8)).astype(np.float32)
ALIKE = (np.broadcast_to(REAL[:1], REAL.shape) + 0.01 * REAL).astype(np.float32)


def game(d_rate=2e-4, g_rate=2e-4, **settings):
    players = nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 1))
    return tg.gans.VanillaGAN(*players, 3, d_optimizer=tg.optim.Adam(d_rate), g_optimizer=tg.optim.Adam(g_rate), **settings)


def test_a_discriminator_that_has_won_and_what_the_run_can_still_try():
    assert warnings(game(), HEALTHY, 2000, REAL[::-1], REAL) == []
    assert warnings(game(), WON, 2000, REAL[::-1], REAL, probabilities=False) == []  # scores
    (alarm,) = warnings(game(), WON, 2000, REAL[::-1], REAL)
    assert str(alarm).startswith("Warning: the discriminator has won (D(real) 0.999, D(fake) 0.001)")
    assert "Try a lower --learning-rate, or --label-smoothing 0.1." in str(alarm)  # the run has the other cures already
    (alarm,) = warnings(game(cost="minimax", d_steps=3), WON, 2000, REAL[::-1], REAL)
    assert "--d-steps 1, or --cost non-saturating, or a lower" in alarm.text
    (alarm,) = warnings(game(label_smoothing=0.1), {**WON, "d_real": 0.9}, 2000, REAL[::-1], REAL)
    assert "won" in alarm.kind and "--label-smoothing" not in alarm.text
    (alarm,) = warnings(game(d_rate=5e-3, g_rate=1e-6), WON, 2000, REAL[::-1], REAL)
    assert "The discriminator's learning rate is 5,000 times the generator's: lower --learning-rate, or raise --g-learning-rate" in alarm.text
    (alarm,) = warnings(game(d_rate=2e-4, g_rate=1e-2), WON, 2000, REAL[::-1], REAL)
    assert "is 50 times the discriminator's: lower --g-learning-rate. " in alarm.text
    (alarm,) = warnings(game(d_rate=2e-4, g_rate=1e-5), WON, 2000, REAL[::-1], REAL)
    assert "is 20 times the generator's: raise --g-learning-rate. " in alarm.text


def test_a_collapse_and_its_cause():
    (alarm,) = warnings(game(), HEALTHY, 1000, ALIKE, REAL)
    assert "nearly alike" in alarm.text and "collapsed" in alarm.text and "Try more --epochs" in alarm.text
    (alarm,) = warnings(game(d_rate=2e-5, g_rate=4e-4), HEALTHY, 1000, ALIKE, REAL)
    assert ("The generator's learning rate is 20 times the discriminator's: lower --g-learning-rate, or raise --learning-rate"
            in alarm.text)


@pytest.mark.parametrize("d_rate, g_rate, told", [
    (2e-4, 1e-2, "The generator's learning rate is 50 times the discriminator's"),
    (1e-2, 2e-4, "The discriminator's learning rate is 50 times the generator's")])
def test_a_discriminator_that_has_won_at_unequal_rates_is_told_of_them_only(d_rate, g_rate, told):
    (alarm,) = warnings(game(d_rate=d_rate, g_rate=g_rate), WON, 2000, REAL[::-1], REAL)
    assert alarm.kind == "won" and told in alarm.text and "--label-smoothing" not in alarm.text


def test_the_values_of_a_cost_that_is_not_known_are_scores():
    for cost, expected in (("minimax", True), ("hinge", False), ("of a program", False)):
        assert report.gives_probabilities(types.SimpleNamespace(cost=cost)) is expected
    assert report.gives_probabilities(types.SimpleNamespace())


def test_a_run_that_diverged_in_an_earlier_epoch_has_not_recovered():
    history = {name: np.array([1.0, 0.7, 3e4, 9e3, 30.0, 20.0, 15.0]) for name in ("d_loss", "g_loss", "d_real", "d_fake")}
    history["g_loss"] = history["g_loss"] / 2
    (alarm,) = warnings_of_run(game(d_rate=0.1, g_rate=0.1), history, 2, ALIKE, REAL)
    assert alarm.kind == "diverged" and "the discriminator's loss was huge in epoch 2 (1.95e+04)" in alarm.text
    assert "a much lower --learning-rate, such as 0.0002." in alarm.text
    (alarm,) = warnings_of_run(game(), {name: values[:4] for name, values in history.items()}, 2)
    assert "loss is huge (1.95e+04)" in alarm.text and "such as" not in alarm.text
    assert warnings_of_run(game(), {name: values[:2] for name, values in history.items()}, None) == []


def test_huge_losses_have_diverged_and_nobody_has_won():
    (alarm,) = warnings(game(), {**WON, "d_loss": 1.6e6, "g_loss": 2.2e6}, 2000, REAL[::-1], REAL)
    assert alarm.kind == "diverged" and "a much lower --learning-rate" in alarm.text
    assert "the generator's loss is huge (2.2e+06)" in alarm.text
    (alarm,) = warnings(game(), {**HEALTHY, "d_loss": -2.6e36}, 40, ALIKE, REAL, probabilities=False)  # alike, but that is no news
    assert alarm.kind == "diverged"
    assert warnings(game(), {**HEALTHY, "d_loss": -400.0}, 40, REAL[::-1], REAL, probabilities=False) == []


def test_a_run_that_has_diverged_is_not_advised_to_go_on(tmp_path):
    told = [report.summary(tiny_settings(tmp_path), {"samples": tmp_path}, False, wrong) for wrong in ([], ["diverged"], ["won"], ["unequal"])]
    assert ["Train it longer" in text for text in told] == [True, False, True, True]
    assert "Start another run, with a lower learning rate" in told[1]
    for text in told[2:]:
        assert "Other settings need another run, with another --run-dir. Train it longer with these:" in text


@pytest.mark.parametrize("steps", [1, 40, 468])
def test_a_short_run_is_not_called_collapsed(steps):
    (alarm,) = warnings(game(), HEALTHY, steps, np.zeros_like(REAL), REAL)
    assert str(alarm).startswith("Note: the samples are nearly alike") and f"this run has made {steps}" in alarm.text
    assert "collapsed" not in alarm.text and "try more --epochs." in str(alarm)
    (alarm,) = warnings(game(), HEALTHY, steps, ALIKE, REAL, per_epoch=2)
    assert "try more --epochs, or a smaller --batch-size." in str(alarm)
    (alarm,) = warnings(game(d_rate=5e-3, g_rate=5e-6), HEALTHY, steps, ALIKE, REAL, per_epoch=2)
    assert "But the discriminator's learning rate is 1,000 times the generator's" in alarm.text
    assert "more --epochs" not in alarm.text
    assert alarm.kind == "unequal" and str(alarm).startswith("Note: ")


def test_a_winner_is_seen_to_before_similar_samples():
    (alarm,) = warnings(game(), WON, 40, ALIKE, REAL)
    assert alarm.kind == "won"
    won, alike = warnings(game(), WON, 2000, ALIKE, REAL)
    assert (won.kind, alike.kind) == ("won", "alike")
    assert "See to the discriminator first" in alike.text and "more --epochs" not in alike.text


def test_without_images_only_the_losses_are_looked_at():
    assert warnings(game(), HEALTHY, 2000) == []
    assert [alarm.kind for alarm in warnings(game(), WON, 2000)] == ["won"]


def test_the_last_epoch_may_have_only_begun():
    history = {"d_loss": np.arange(7, dtype=np.float32)}
    assert [last_epoch(history, n)["d_loss"] for n in (3, 7, None)] == [6, 3, 3]
    assert last_epoch({"d_loss": np.arange(6.0)}, 3)["d_loss"] == 4


def test_a_warning_comes_when_it_begins(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "warnings_of_run", lambda gan, history, *_: [Alarm("won", "it is so")] * (len(history["d_loss"]) > 5))
    tiny_train(tmp_path, epochs=4)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("Warning: it is so.") == 2  # after epoch 2, and at the end


def test_the_mean_distance_is_that_over_all_pairs():
    images = np.random.default_rng(0).normal(size=(7, 2, 3, 3)).astype(np.float32)
    pairs = [np.linalg.norm((images[i] - images[j]).ravel()) for i in range(7) for j in range(i)]
    assert report.mean_distance(images) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_a_line_an_epoch_and_the_way_on_are_printed(tmp_path, capsys):
    tiny_train(tmp_path, epochs=2)
    out = capsys.readouterr().out.splitlines()
    assert "on tiny: 43 images of 1 x 4 x 4; 2 epochs of 5 steps of 8 images" in out[0]
    assert out[1] == "Rules that the program gave the GAN, in place of those of the settings: latent_dim: 3"
    assert out[2].startswith("epoch 1/2  d_loss ") and "images/s" in out[2] and "to go" in out[2]
    assert out[3].startswith("epoch 2/2  d_loss ") and "to go" not in out[3]
    told = "\n".join(out[4:])
    assert f'open_run("{tmp_path}", gan).gan.sample(64)' in told and "replace(settings, resume=True, epochs=4)" in told


def test_huge_losses_are_short_in_the_line_of_an_epoch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(History, "mean", lambda self, epoch: {"d_loss": -7.7081434e27, "g_loss": 123456.78, "d_real": 0.5, "d_fake": 2e6})
    tiny_train(tmp_path, epochs=1)
    assert "d_loss -7.71e+27  g_loss 123456.780  D(real) 0.50  D(fake) 2e+06  " in capsys.readouterr().out


def test_a_terminal_gets_a_bar_unless_quiet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tiny_train(tmp_path / "a", epochs=1)
    seen = capsys.readouterr()
    assert "epoch 1/1:" in seen.err and "epoch 1/1  d_loss" in seen.out
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tiny_train(tmp_path / "b", epochs=1, quiet=True)
    seen = capsys.readouterr()
    assert "epoch 1/1:" not in seen.err and "epoch 1/1  d_loss" in seen.out


def test_runs_from_before_a_setting_go_on():
    from tinygan.runs.folder import digest

    data = {"name": "d", "data_dir": None}
    old, unset, now = ({"variant": "vanilla", "data": data, "settings": {"seed": 0, **more}} for more in
                       ({}, {"g_learning_rate": None}, {"g_learning_rate": 1e-3}))
    assert digest(old) == digest(unset) != digest(now)
