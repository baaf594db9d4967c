"""WGAN-GP: the paper's settings, its networks, and its runs."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from variant_runs import (
    VariantRuns,
    check_evaluation,
    check_pictures_of_networks,
    check_sample,
    command,
    failure,
    grey_images,
    info,
)

import tinygan as tg
from tinygan import cli, nn, training

FLAGS = ("--batch-size", 4, "--d-steps", 2, "--width", 2, "--latent-dim", 4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> VariantRuns:
    """Three steps an epoch."""
    return VariantRuns("wgan_gp", grey_images(tmp_path_factory.mktemp("wgan_gp") / "images.npy", 25), (*FLAGS, "--quiet"), 3)


@pytest.fixture(scope="module")
def run(runs: VariantRuns) -> Path:
    return runs.train(runs.data.parent / "run")


def test_the_defaults_are_the_papers() -> None:
    settings = training.WGANGPSettings()
    assert (settings.d_steps, settings.cost, settings.penalties) == (5, "wasserstein", {"gradient-penalty": 10.0})
    assert (settings.learning_rate, settings.betas, settings.batch_size) == (1e-4, (0.0, 0.9), 64)
    gan: Any = training.find("wgan_gp").build(settings, (1, 28, 28))
    assert (gan.d_optimizer.learning_rate, gan.d_optimizer.betas) == (1e-4, (0.0, 0.9)) == (
        gan.g_optimizer.learning_rate, gan.g_optimizer.betas)
    assert training.VanillaSettings().betas == (0.5, 0.999)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_the_networks_are_dcgans_without_batch_norm_in_the_critic(shape: tuple[int, int, int]) -> None:
    generator, critic = tg.gans.wgan_gp_networks(shape, 5, 3)
    expected_generator, discriminator = tg.gans.dcgan_networks(shape, 5, 3)
    assert str(generator) == str(expected_generator)
    kinds = [type(layer) for layer in discriminator if not isinstance(layer, nn.BatchNorm)]
    assert [type(layer) for layer in critic] == kinds and len(kinds) < len(list(discriminator))
    assert all(layer.bias is not None for layer in critic if isinstance(layer, nn.Conv2d | nn.Dense))
    assert not any(module.couples_examples for _, module in critic.named_modules())


def test_a_run_is_resumed_bit_for_bit(runs: VariantRuns, run: Path, tmp_path: Path) -> None:
    runs.check_resuming(run, tmp_path, at=5)


def test_a_run_on_a_device_is_that_of_the_cpu(other_device: str, runs: VariantRuns, tmp_path: Path) -> None:
    runs.check_device(other_device, tmp_path, "--limit-train", 16)  # two steps an epoch


def test_the_example_and_the_command_are_the_same_run(runs: VariantRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = runs.train(tmp_path / "command", "--ema", 0.9)
    runs.check_example(averaged, tmp_path, monkeypatch, "--ema", 0.9)


def test_the_other_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gradient_penalty  10.0" in info(run, capsys)
    check_sample(run, tmp_path)
    check_pictures_of_networks(run, tmp_path)


def test_a_run_with_five_updates_of_the_critic_prints_scores(runs: VariantRuns, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", "wgan_gp", "--run-dir", tmp_path, "--data-dir", runs.data, "--epochs", 1, "--batch-size", 4,
                   "--width", 2) == 0
    out = capsys.readouterr().out
    assert "score(real)" in out and "score(fake)" in out and "D(real)" not in out


def test_a_run_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check_evaluation("wgan_gp", tmp_path / "run", monkeypatch, capsys, *FLAGS, steps=5)


@pytest.mark.parametrize("flags, message", [
    (["wgan_gp", "--label-smoothing", "0.1"], "the cost 'wasserstein' has no targets: label_smoothing should be 0, got 0.1"),
    (["dcgan", "--r1", "1"], "the penalty 'r1' is about the output for each image alone, but in the discriminator its layer 3 (BatchNorm)"),
    (["minibatch", "--gradient-penalty", "10"], "(MinibatchDiscrimination) lets the images of a batch depend on each other"),
    (["unrolled", "--networks", "dcgan", "--r2", "1"], "the penalty 'r2' is about the output for each image alone")])
def test_what_does_not_go_together_is_one_line_before_training(flags: list[str], message: str, runs: VariantRuns,
                                                              tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in failure(capsys, "train", *flags, "--run-dir", tmp_path / "run", "--data-dir", runs.data)
    assert not (tmp_path / "run").exists()


def test_flags_of_penalties(runs: VariantRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vanilla = ("train", "vanilla", "--run-dir", tmp_path / "run", "--data-dir", runs.data)
    flags = ("--cost", "relativistic", "--r1", 0.5, "--r2", 1, "--epochs", 1, "--batch-size", 8)
    assert command(*vanilla, *flags) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (stored["cost"], stored["r1"], stored["r2"], stored["gradient_penalty"]) == ("relativistic", 0.5, 1.0, None)
    assert "--r1 was 0.5, now 1.0; it must stay the same" in failure(capsys, *vanilla, "--resume", "--epochs", 2, "--r1", 1)
    with pytest.raises(SystemExit):
        cli.main(["train", "vanilla", "--r1", "-1"])
    assert "--r1: expected a number of at least 0, got '-1'" in capsys.readouterr().err
