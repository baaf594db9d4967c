"""A program may give its GAN other rules than its settings have: the run notes them, and no other program continues it."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, training
from tinygan.data import Dataset
from tinygan.runs.rules import own_rules

SHAPE = (1, 4, 4)
RULES: dict[str, dict[str, Any]] = {
    "cost": {"cost": "minimax"}, "penalties": {"penalties": {"r1": 1.0}}, "label_smoothing": {"label_smoothing": 0.1},
    "g_optimizer": {"g_optimizer": lambda: tg.optim.Adam(1e-3)}, "instance_noise": {"instance_noise": lambda step: 0.1},
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    file = tmp_path / "images.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8))
    return file


def settings(images: Path, **changes: Any) -> training.VanillaSettings:
    return training.VanillaSettings(**{"run_dir": str(images.parent / "run"), "epochs": 1, "batch_size": 8, "data_dir": str(images), **changes})


def gan(**rules: Any) -> tg.gans.VanillaGAN:
    if "g_optimizer" in rules:  # each GAN needs one of its own
        rules = {"g_optimizer": rules["g_optimizer"]()}
    return tg.gans.VanillaGAN(*tg.gans.vanilla_networks(SHAPE), latent_dim=100, key=tg.random.Key(0), **rules)


def data(images: Path) -> Dataset:
    return tg.data.load(images)


@pytest.mark.parametrize("name", RULES)
def test_other_rules_are_noted_and_only_their_program_continues_the_run(name: str, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.train(gan(**RULES[name]), data(images), settings(images))
    noted = json.loads((images.parent / "run" / "config.json").read_text())["rules"]
    assert list(noted) == [name]
    assert cli.main(["train", "vanilla", "--run-dir", str(images.parent / "run"), "--resume", "--epochs", "2"]) == 2
    assert f"the GAN's {name} was {noted[name]}, now it is that of the settings" in capsys.readouterr().err
    with pytest.raises(training.RunError, match=f"the GAN's {name} was"):
        training.train(gan(), data(images), settings(images, epochs=2, resume=True))
    assert len(training.train(gan(**RULES[name]), data(images), settings(images, epochs=2, resume=True))) == 10


@pytest.mark.parametrize("given, used", [
    ({"noise": "uniform"}, {}), ({"ema": 0.9}, {}), ({}, {"ema": 0.9}), ({"latent_dim": 3}, {}), ({}, {"noise": "bernoulli"})])
def test_a_setting_that_is_not_passed_on_does_not_make_the_networks_foreign(
        given: dict[str, Any], used: dict[str, Any], images: Path, tmp_path: Path) -> None:
    ours = gan(**used)
    training.train(ours, data(images), settings(images, **given))
    run = images.parent / "run"
    assert cli.main(["sample", str(run), "--n", "4", "--out", str(tmp_path / "4.npy")]) == 0
    z = ours.latent(4, tg.random.Key(0).fold("sample"))
    np.testing.assert_array_equal(np.load(tmp_path / "4.npy"), ours.sample(z=z))
    assert cli.main(["info", str(run)]) == 0


def test_other_rules_are_told_at_the_start(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = "Rules that the program gave the GAN, in place of those of the settings: cost: hinge\n"
    training.train(gan(cost="hinge"), data(images), settings(images))
    assert told in capsys.readouterr().out
    training.train(gan(cost="hinge"), data(images), settings(images, cost="hinge", run_dir=str(images.parent / "same")))
    assert "place of those of the settings" not in capsys.readouterr().out


def test_settings_refuse_smoothed_labels_with_a_cost_without_targets() -> None:
    with pytest.raises(ValueError, match=r"VanillaSettings: label_smoothing changes the target .*'hinge' has no targets"):
        training.VanillaSettings(cost="hinge", label_smoothing=0.1)


def test_the_processes_that_train_a_gan_are_no_rule(images: Path) -> None:
    several, alone = gan(), gan()
    several.world = object()
    assert own_rules(several, settings(images), SHAPE) == own_rules(alone, settings(images), SHAPE) == {}


def test_the_cost_of_a_program_is_the_one_that_is_shown(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.train(gan(cost="hinge", label_smoothing=0.0), data(images), settings(images))
    run = images.parent / "run"
    assert training.open_run(run).gan.cost == "hinge"
    page = tg.teaching.explain(run).read_text()
    assert "hinge cost" in page and "rules that its settings do not have" not in page
    assert "tinygan/gans/costs.py, line" in page and "def _towards_real" in page and "def _minimax" not in page
    capsys.readouterr()
    assert cli.main(["info", str(run)]) == 0
    assert "in place of those of the settings\n  cost  hinge" in capsys.readouterr().out


def test_the_page_says_which_rules_it_does_not_know(images: Path) -> None:
    training.train(gan(g_optimizer=lambda: tg.optim.Adam(1e-3)), data(images), settings(images))
    run = images.parent / "run"
    told = "This page does not know them"
    page = tg.teaching.explain(run).read_text()
    assert told in page and "g_optimizer Adam (" in page and "learning rate" not in page.partition('class="facts"')[2].partition("</p>")[0]
    own = gan(g_optimizer=lambda: tg.optim.Adam(1e-3))
    assert told not in (page := tg.teaching.explain(run, gan=own).read_text()) and "learning rates 0.001 (generator)" in page


def test_where_a_program_has_its_images_from_is_noted(images: Path) -> None:
    training.train(gan(), tg.data.load(str(images)), settings(images, data_dir=None))
    assert json.loads((images.parent / "run" / "config.json").read_text())["data"]["data_dir"] == str(images)


def test_the_rules_of_the_settings_are_not_noted(images: Path) -> None:
    training.train(gan(), data(images), settings(images))
    assert json.loads((images.parent / "run" / "config.json").read_text())["rules"] == {}
    assert cli.main(["train", "vanilla", "--run-dir", str(images.parent / "run"), "--resume", "--epochs", "2"]) == 0
    with pytest.raises(training.RunError, match="the GAN's cost was that of the settings, now it is minimax"):
        training.train(gan(cost="minimax"), data(images), settings(images, epochs=3, resume=True))


def test_settings_of_a_users_own_have_nothing_to_compare() -> None:
    assert own_rules(gan(), training.Settings(run_dir="run"), SHAPE) is None


def test_a_cost_that_a_program_adds_is_one_of_the_settings(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tg.gans.COSTS, "mine", tg.gans.COSTS["minimax"])
    assert settings(images, cost="mine").cost == "mine"
    training.train(gan(cost="mine"), data(images), settings(images, cost="mine"))
    config = json.loads((images.parent / "run" / "config.json").read_text())
    assert config["settings"]["cost"] == "mine" and config["rules"] == {}
    monkeypatch.delitem(tg.gans.COSTS, "mine")
    with pytest.raises(ValueError, match="cost: expected one of minimax"):
        settings(images, cost="mine")


@pytest.fixture
def exponential(images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recorded run with a cost that only its program knows; the cost is in the table until `forget`."""
    usual = tg.gans.COSTS["non-saturating"]
    monkeypatch.setitem(tg.gans.COSTS, "exponential", usual._replace(name="exponential", d_formula="mean(exp(f - r))"))
    run = settings(images, cost="exponential", record=True)
    training.train(gan(cost="exponential"), data(images), run)
    return images.parent / "run"


def test_a_run_with_a_cost_of_its_own_can_be_looked_at(exponential: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert tg.teaching.explain(exponential).is_file()
    monkeypatch.delitem(tg.gans.COSTS, "exponential")
    for command in (["sample"], ["info"], ["interpolate"], ["export", "--to", "safetensors"]):
        assert cli.main([command[0], str(exponential), *command[1:]]) == 0, capsys.readouterr().err
    assert "exponential" in capsys.readouterr().out
    opened = training.open_run(exponential)
    with pytest.raises(ValueError, match="unknown cost 'exponential'"):  # no step is made with another one
        opened.gan.step(np.zeros((8, *SHAPE), np.float32))
    for command in (["explain", str(exponential)], ["train", "vanilla", "--run-dir", str(exponential), "--resume"]):
        assert cli.main(command) == 2
        told = capsys.readouterr().err
        assert told.startswith("tinygan: error: ") and told.count("\n") == 1 and "'exponential'" in told


def test_the_page_knows_a_cost_that_is_in_the_table(exponential: Path) -> None:
    page = tg.teaching.explain(exponential).read_text()
    assert "exponential cost" in page and "does not know them" not in page


def test_other_formulas_under_the_same_name_are_another_cost(exponential: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = settings(images, cost="exponential", record=True, epochs=2, resume=True)
    assert len(training.train(gan(cost="exponential"), data(images), again)) == 10
    changed = tg.gans.COSTS["exponential"]._replace(d_formula="9 * mean(exp(f - r))")
    monkeypatch.setitem(tg.gans.COSTS, "exponential", changed)
    with pytest.raises(training.RunError, match="the GAN's formula of the cost was mean"):
        training.train(gan(cost="exponential"), data(images), settings(images, cost="exponential", epochs=3, resume=True))


def test_info_says_on_what_a_run_was_continued(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.train(gan(), data(images), settings(images))
    config = images.parent / "run" / "config.json"
    older = json.loads(config.read_text())
    older["versions"]["numpy"] = "1.0"
    config.write_text(json.dumps(older))
    for _ in range(2):  # on the same machine twice: noted once
        training.train(gan(), data(images), settings(images, epochs=2, resume=True))
    assert len(json.loads(config.read_text())["resumed"]) == 1
    capsys.readouterr()
    assert cli.main(["info", str(config.parent)]) == 0
    out = capsys.readouterr().out
    assert f"to  numpy 1.0 -> {np.__version__}" in out and re.search(rf"data_dir +{images}\n", out)


def test_the_page_shows_the_code_of_a_cost_of_ones_own(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def my_loss(fake: Any, real: Any) -> Any:
        return tg.neg(tg.mean(fake))

    monkeypatch.setitem(tg.gans.COSTS, "mine", tg.gans.COSTS["hinge"]._replace(name="mine", g_loss=my_loss))
    training.train(gan(cost="mine"), data(images), settings(images, cost="mine"))
    page = tg.teaching.explain(images.parent / "run").read_text()
    assert "test_run_rules.py, line" in page and "def my_loss" in page and "def _minimax" not in page


def test_an_opened_run_prints_in_a_few_words(images: Path) -> None:
    training.train(gan(), data(images), settings(images))
    assert repr(training.open_run(images.parent / "run")) == "OpenedRun(vanilla on array:images.npy, step 5)"


def test_a_run_whose_networks_an_older_version_called_foreign_goes_on_in_its_program(images: Path) -> None:
    training.train(gan(), data(images), settings(images, noise="uniform"))
    file = images.parent / "run" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "networks": {"generator": "x", "discriminator": "y"}}))
    assert len(training.train(gan(), data(images), settings(images, noise="uniform", epochs=2, resume=True))) == 10
    file.write_text(json.dumps({**json.loads(file.read_text()), "networks": {"generator": "x", "discriminator": "y"}}))
    with pytest.raises(training.RunError, match="only the program that began the run can continue it"):
        training.train(gan(noise="uniform"), data(images), settings(images, noise="uniform", epochs=3, resume=True))
