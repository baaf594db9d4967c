"""run.toml: what a run writes repeats it, flags override a file, and errors name the file and the key."""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import runpy
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train

from tinygan import cli, training
from tinygan.runs import config_file
from tinygan.runs.settings import Settings, add_flags, complete, option

EXAMPLES = Path(__file__).parents[1] / "examples"
VANILLA = training.VanillaSettings


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def run(images):
    """Two epochs of `tinygan train vanilla` under settings of which few are the usual ones."""
    folder = images.parent / "run"
    flags = ["--epochs", "2", "--batch-size", "8", "--latent-dim", "7", "--seed", "5", "--r1", "0.5", "--cost", "minimax",
             "--preset", "collapsing", "--learning-rate", "1e-5", "--no-capture", "--ema", "0.9"]
    assert train(folder, "--data-dir", str(images), *flags) == 0
    return folder


def train(folder, *flags):
    return cli.main(["train", "vanilla", "--run-dir", str(folder), *map(str, flags)])


def parsed(settings, *flags):
    """The settings that these flags give."""
    parser = argparse.ArgumentParser()
    add_flags(parser, settings)
    return complete(settings, vars(parser.parse_args(list(map(str, flags)))))


def file_of(folder, text, name="my.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- a run's own file --------------------------------------------------------------------------------------------------


def test_the_file_of_a_run_repeats_it(run, tmp_path):
    assert train(tmp_path / "again", "--config", run / "run.toml") == 0
    assert content(tmp_path / "again") == content(run)
    first, again = (json.loads((folder / "config.json").read_text()) for folder in (run, tmp_path / "again"))
    assert {name: value for name, value in first.items() if name != "versions"} == {
        name: value for name, value in again.items() if name != "versions"}


def test_the_example_takes_a_file_too(run, tmp_path, monkeypatch, capsys):
    script = EXAMPLES / "vanilla_mnist.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--run-dir", str(tmp_path / "b"), "--config", str(run / "run.toml")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert content(tmp_path / "b") == content(run)
    assert f"{script} --config {tmp_path / 'b' / 'run.toml'}" in (tmp_path / "b" / "run.toml").read_text()


def test_the_file_of_a_run_says_what_everything_means(run):
    text = (run / "run.toml").read_text()
    assert f"tinygan train vanilla --config {run / 'run.toml'} --run-dir ANOTHER" in text
    held = tomllib.loads(text)
    assert held["variant"] == "vanilla" and held["data_dir"] == str(run.parent / "images.npy")
    assert held["r1"] == 0.5 and held["learning_rate"] == 1e-5 and held["g_learning_rate"] == 4e-4 and held["capture"] is False
    assert not {"run_dir", "resume", "r2"} & held.keys()
    for item in dataclasses.fields(VANILLA):
        lines = [line for line in text.splitlines() if line.removeprefix("# ").startswith(f"{item.name} =")]
        assert len(lines) == (item.name not in ("run_dir", "resume"))
        assert not lines or item.metadata["help"] in lines[0]
    assert "# what the two players minimise: minimax, non-saturating, " in text
    assert "# false: run every step in Python" in text  # the help of --no-capture says what happens without


@pytest.mark.parametrize("variant", training.VARIANTS.values(), ids=lambda variant: variant.name)
def test_every_variants_settings_come_back(variant, tmp_path):
    settings = variant.settings(run_dir=str(tmp_path), seed=3, epochs=1)
    file = file_of(tmp_path, config_file.written(settings, None, "x"))
    assert variant.settings.from_toml(file, run_dir=str(tmp_path)) == settings


def test_a_setting_without_a_value_comes_back(tmp_path):
    settings = training.WGANGPSettings(gradient_penalty=None, beta2=None)  # by default they have one
    file = file_of(tmp_path, config_file.written(settings, None, "x"))
    assert training.WGANGPSettings.from_toml(file) == settings


@pytest.mark.parametrize("name", ["a'b\"c\\d", "Grüße, 世界", "two\nlines\tand\x7f\x01", "#", " = "])
def test_texts_of_every_kind_come_back(tmp_path, name):
    written = config_file.written(VANILLA(), name, f"the run in {name}")
    assert VANILLA.from_toml(file_of(tmp_path, written)).data_dir == name


@pytest.mark.parametrize("number", [1e-5, 1e22, 5e-324, 0.1 + 0.2, 3.0, 1.7976931348623157e308])
def test_numbers_come_back_to_the_last_digit(tmp_path, number):
    written = config_file.written(VANILLA(learning_rate=number), None, "x")
    assert VANILLA.from_toml(file_of(tmp_path, written)).learning_rate == number


def test_a_name_that_is_no_text_is_left_out(tmp_path):
    written = config_file.written(VANILLA(), os.fsdecode(b"/data/\xff"), "x")
    assert "# data_dir cannot be written here" in written
    assert "data_dir" not in tomllib.loads(written)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSettings(Settings):
    sizes: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    depth: int = option(3, "layers", int)


def test_a_users_own_settings_come_back(tmp_path):
    settings = OwnSettings(run_dir=str(tmp_path), sizes=[4, 5], depth=7, epochs=2)
    written = config_file.written(settings, None, "x")
    assert "# table cannot be written here" in written
    assert OwnSettings.from_toml(file_of(tmp_path, written), run_dir=str(tmp_path)) == settings


def test_a_run_in_python_says_how_it_is_repeated(tmp_path):
    tiny_train(tmp_path / "a", epochs=2, seed=4)
    line = next(line for line in (tmp_path / "a" / "run.toml").read_text().splitlines() if "from_toml" in line)
    names = {"VanillaSettings": VANILLA}
    exec(line.removeprefix("#").strip().replace("ANOTHER", str(tmp_path / "b")), names)
    training.train(tiny_gan(names["settings"]), tiny_data(), names["settings"])
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_run_that_fails_at_once_leaves_no_file(tmp_path):
    settings = tiny_settings(tmp_path / "run")
    gan = tiny_gan(settings)

    def broken(real):
        raise ZeroDivisionError

    gan.step = broken
    with pytest.raises(ZeroDivisionError):
        training.train(gan, tiny_data(), settings)
    assert not (tmp_path / "run" / "run.toml").exists()
    tiny_train(tmp_path / "run", epochs=1)


# -- which of them counts ----------------------------------------------------------------------------------------------


def test_flags_override_the_file_and_the_file_overrides_defaults(tmp_path):
    file = file_of(tmp_path, 'variant = "vanilla"\nepochs = 7\nlatent-dim = 9\nbatch_size = 5\nrecord = true\ncapture = false\n')
    settings = parsed(VANILLA, "--config", file, "--epochs", 3)
    assert (settings.epochs, settings.latent_dim, settings.batch_size, settings.seed) == (3, 9, 5, 0)
    assert settings.record and not settings.capture
    settings = parsed(VANILLA, "--config", file, "--no-record", "--capture")
    assert not settings.record and settings.capture


def test_a_preset_in_the_file_and_one_among_the_flags(tmp_path):
    file = file_of(tmp_path, 'preset = "collapsing"\nlearning_rate = 1e-3\n')
    settings = parsed(VANILLA, "--config", file)
    assert (settings.learning_rate, settings.g_learning_rate) == (1e-3, 4e-4)
    file = file_of(tmp_path, "learning_rate = 1e-3\n")
    settings = parsed(VANILLA, "--config", file, "--preset", "collapsing", "--g-learning-rate", "1")
    assert (settings.learning_rate, settings.g_learning_rate) == (2e-5, 1)


def test_a_resumed_run_takes_the_file_before_its_folder(run, images, tmp_path, capsys):
    assert train(tmp_path / "a", "--data-dir", images, "--batch-size", 8, "--epochs", 1) == 0
    file = file_of(tmp_path, "epochs = 2\nevaluate = 4\n")
    assert train(tmp_path / "a", "--resume", "--config", tmp_path / "a" / "run.toml") == 0  # nothing is left to do
    settings = parsed(VANILLA, "--resume", "--run-dir", tmp_path / "a", "--config", file, "--evaluate", 3)
    assert (settings.epochs, settings.evaluate, settings.batch_size, settings.data_dir) == (2, 3, 8, str(images))
    capsys.readouterr()
    file = file_of(tmp_path, "epochs = 2\nseed = 1\n")
    assert train(tmp_path / "a", "--resume", "--config", file) == 2
    assert "--seed was 0, now 1; it must stay the same" in capsys.readouterr().err
    assert train(tmp_path / "a", "--resume", "--config", file, "--seed", 0) == 0
    assert tomllib.loads((tmp_path / "a" / "run.toml").read_text())["epochs"] == 2  # what the run has become
    assert train(tmp_path / "b", "--data-dir", images, "--batch-size", 8, "--epochs", 2) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_an_equal_number_does_not_make_another_run(tmp_path):
    """A program may say 10 where a flag or a file says 10.0."""
    tiny_train(tmp_path, epochs=1, gradient_penalty=10)
    for flags in (["--gradient-penalty", "10"], ["--config", tmp_path / "run.toml"]):
        settings = parsed(VANILLA, "--run-dir", tmp_path, "--resume", *flags)
        training.train(tiny_gan(settings), tiny_data(), settings)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, message", [
    ("epoch = 3", "unknown key 'epoch'; the nearest known one is 'epochs'"),
    ("learning-rates = 3", "unknown key 'learning-rates'; the nearest known one is 'learning_rate'"),
    ("presets = 3", "unknown key 'presets'; the nearest known one is 'preset'"),
    ("qqq = 1", "unknown key 'qqq'; the nearest known one is "),
    ("[run]\nepochs = 3", "unknown key 'run'; the nearest known one is "),
    ("epochs = 0", "epochs: expected a whole number of at least 1, got 0"),
    ("epochs = 2.5", "epochs: expected a whole number of at least 1, got 2.5"),
    ("epochs = true", "epochs: expected a whole number of at least 1, got true"),
    ('epochs = "3"', "epochs: expected a whole number of at least 1, got a text: write 3 without quotes"),
    ("epochs = [3]", "epochs: expected a whole number of at least 1, got [3]"),
    ("[epochs]\nx = 1", "epochs: expected a whole number of at least 1, got a table"),
    ("learning-rate = -1", "learning-rate: expected a positive number, got -1"),
    ("learning_rate = nan", "learning_rate: expected a positive number, got nan"),
    ("r1 = 2000-01-01", "r1: expected a number of at least 0, got datetime.date"),
    ('cost = "minmax"', "cost: expected one of minimax, "),
    ("cost = 3", "cost: expected one of minimax, "),
    ("record = 1", "record: expected true or false, got 1"),
    ('capture = "no"', "capture: expected true or false, got 'no'"),
    ('device = "gpu"', "device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
    ('preset = "collapse"', "preset: expected one of collapsing, got 'collapse'"),
    ('variant = "dcgan"', "variant: these are settings of 'dcgan', not of 'vanilla'"),
    ("latent_dim = 3\nlatent-dim = 3", "latent-dim: this key is there twice, with - and with _ in its name"),
    ("epochs = 3\nepochs = 3", "is not a TOML file: Cannot overwrite a value"),
    ("epochs: 3", "is not a TOML file: Expected '=' after a key"),
])
def test_a_wrong_file_is_named_with_the_key(tmp_path, capsys, text, message):
    file = file_of(tmp_path, text)
    assert train(tmp_path / "run", "--config", file) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"tinygan: error: {file}") and message in told and len(told.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "latin.toml").write_bytes(b'data_dir = "\xff"')
    for name, message in ((".", "is a folder: expected a TOML file"), ("none.toml", "does not exist"),
                          ("latin.toml", "is not a TOML file: 'utf-8' codec can't decode")):
        assert train(tmp_path / "run", "--config", tmp_path / name) == 2
        told = capsys.readouterr().err
        assert str(tmp_path / name) in told and message in told


def test_an_unknown_change_in_python_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="epoch"):
        VANILLA.from_toml(file_of(tmp_path, "seed = 1"), epoch=3)


def test_the_help_tells_of_the_file_and_hides_what_only_a_file_needs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "vanilla", "--help"])
    told = capsys.readouterr().out
    assert "--config FILE" in told and "--no-capture" in told and "--no-record" not in told and " --capture" not in told
