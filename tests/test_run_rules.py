"""A program may give its GAN other rules than its settings have: the run notes them, and no other program continues it."""
from __future__ import annotations

import json
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
