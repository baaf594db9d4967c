"""Runs that an earlier version wrote can be resumed, sampled and evaluated.

`fixtures/run_of_dcgan` and `fixtures/run_of_unrolled` were written by commit f01d3e4, one epoch each, the first by

    tinygan train dcgan --data-dir DATA --run-dir RUN --width 2 --latent-dim 4 --epochs 1 --batch-size 32 --label-smoothing 0.1

on the images in `fixtures/patterns`, the second by `train_unrolled` below. What that commit went on to make of them lies beside
them: the losses of a second epoch, and four samples of the first. Another processor rounds differently, so these are compared
within a tolerance.
"""
from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, nn, training
from tinygan.data import Dataset

FIXTURES = Path(__file__).parent / "fixtures"
DATA = ["--data-dir", str(FIXTURES / "patterns")]


def unrolled_gan() -> tg.gans.UnrolledGAN:
    generator = nn.Sequential(nn.Dense(3, 8), nn.ReLU(), nn.Dense(8, 16), nn.Tanh(), nn.Reshape(1, 4, 4))
    discriminator = nn.Sequential(nn.Flatten(), nn.Dense(16, 8), nn.LeakyReLU(0.2), nn.Dense(8, 1))
    return tg.gans.UnrolledGAN(generator, discriminator, latent_dim=3, unroll_steps=2, d_steps=2, key=tg.random.Key(0))


def train_unrolled(folder: Path, epochs: int, resume: bool = False) -> None:
    """A run whose networks `tinygan train` does not know."""
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 4, 4), dtype=np.uint8)
    settings = training.UnrolledSettings(run_dir=str(folder), epochs=epochs, batch_size=8, unroll_steps=2, d_steps=2,
                                         latent_dim=3, resume=resume, quiet=True)
    training.train(unrolled_gan(), Dataset("noise", images, None, "sha256:noise-0"), settings)


@pytest.fixture
def dcgan(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "run_of_dcgan", tmp_path / "dcgan"))


@pytest.fixture
def unrolled(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "run_of_unrolled", tmp_path / "unrolled"))


def losses(path: Path) -> np.ndarray:
    with open(path, encoding="utf-8", newline="") as file:
        return np.array([[float(row[name]) for name in ("step", "d_loss", "g_loss", "d_real", "d_fake")]
                         for row in csv.DictReader(file)])


def test_the_command_line_resumes_it(dcgan: Path) -> None:
    assert cli.main(["train", "dcgan", "--run-dir", str(dcgan), "--resume", "--epochs", "2", *DATA, "--quiet"]) == 0
    found = losses(dcgan / "metrics.csv")
    np.testing.assert_array_equal(found[:10], losses(FIXTURES / "run_of_dcgan" / "metrics.csv"))
    np.testing.assert_allclose(found, losses(FIXTURES / "dcgan_after_two_epochs.csv"), rtol=1e-3)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (FIXTURES / "run_of_dcgan", dcgan))
    assert before["settings"].pop("epochs") == 1 and after["settings"].pop("epochs") == 2
    before["settings"]["cost"] = before["settings"].pop("generator_cost")  # its name then
    assert before["settings"].items() <= after["settings"].items() and "generator_cost" not in after["settings"]
    assert (dcgan / "samples" / "epoch_0002.png").is_file()


def test_other_settings_are_refused_as_for_any_run(dcgan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "dcgan", "--run-dir", str(dcgan), "--resume", "--width", "3", *DATA]) == 2
    assert "--width was 2, now 3; it must stay the same" in capsys.readouterr().err


def test_the_command_line_samples_from_it(dcgan: Path, tmp_path: Path) -> None:
    assert cli.main(["sample", str(dcgan), "--n", "4", "--out", str(tmp_path / "sample.npy")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "sample.npy"), np.load(FIXTURES / "dcgan_sample.npy"), atol=1e-4)


def test_the_command_line_evaluates_it(dcgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the classifier is kept
    assert cli.main(["evaluate", str(dcgan), *DATA]) == 0
    told = capsys.readouterr().out
    assert "80 images after 10 steps on idx:patterns" in told and "| modes | 1 | 10 |" in told


def test_the_command_line_describes_it(dcgan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(dcgan)]) == 0
    assert "1 of 1" in capsys.readouterr().out


def test_a_program_resumes_and_opens_its_own_networks(unrolled: Path) -> None:
    train_unrolled(unrolled, epochs=2, resume=True)
    np.testing.assert_allclose(losses(unrolled / "metrics.csv"), losses(FIXTURES / "unrolled_after_two_epochs.csv"),
                               rtol=1e-3)
    opened = training.open_run(unrolled, unrolled_gan())
    assert opened.gan.sample(4).shape == (4, 1, 4, 4) and len(opened.history["d_loss"]) == 8


def test_settings_have_their_present_names_wherever_a_run_is_read(dcgan: Path) -> None:
    opened = training.open_run(dcgan)
    assert opened.config["settings"]["cost"] == "non-saturating" and "generator_cost" not in opened.config["settings"]
    assert opened.gan.cost == "non-saturating"  # type: ignore[attr-defined]


def test_another_cost_is_refused_for_an_old_run(dcgan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "dcgan", "--run-dir", str(dcgan), "--resume", "--cost", "minimax", *DATA]) == 2
    assert "--cost was non-saturating, now minimax; it must stay the same" in capsys.readouterr().err
    assert cli.main(["train", "dcgan", "--run-dir", str(dcgan), "--resume", "--beta2", "0.9", *DATA]) == 2
    assert "--beta2 was not given, now 0.9" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["generator_cost", "cost"])
def test_a_programs_own_setting_of_such_a_name_keeps_it(name: str, tmp_path: Path) -> None:
    kind = dataclasses.make_dataclass("Own", [(name, str, "mine")], bases=(training.Settings,), frozen=True, kw_only=True)
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 4, 4), dtype=np.uint8)
    for epochs in (1, 2):
        settings = kind(run_dir=str(tmp_path), epochs=epochs, batch_size=4, resume=epochs == 2, quiet=True)
        training.train(unrolled_gan(), Dataset("noise", images, None, "sha256:noise-0"), settings)
        assert json.loads((tmp_path / "config.json").read_text())["settings"][name] == "mine"
