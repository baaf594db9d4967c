"""WGAN-GP: the paper's settings, its networks, and its runs."""
from __future__ import annotations

import json
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import content

import tinygan as tg
from tinygan import cli, devices, nn, training
from tinygan.data import Dataset

EXAMPLE = Path(__file__).parents[1] / "examples" / "wgan_gp_mnist.py"
DATA = Dataset("tiny", np.random.default_rng(0).integers(0, 256, (25, 1, 28, 28), dtype=np.uint8), None, "sha256:tiny")


def run(folder: Path, interrupt_at: int | None = None, **changes: Any) -> training.History:
    settings = training.WGANGPSettings(**{"run_dir": str(folder), "epochs": 2, "batch_size": 4, "d_steps": 2, "width": 2,
                                          "latent_dim": 4, "quiet": True, **changes})
    gan: Any = training.find("wgan_gp").build(settings, DATA.image_shape)
    step = gan.step

    def interrupted(real: Any) -> Any:
        stats = step(real)
        if gan.steps == interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return stats

    if interrupt_at is not None:
        gan.step = interrupted
    return training.train(gan, DATA, settings)


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


def test_interrupted_and_resumed_equals_the_whole(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "eager", capture=False)
    with pytest.raises(training.Interrupted):
        run(tmp_path / "halves", interrupt_at=2)
    assert len(run(tmp_path / "halves", resume=True)) == 6
    assert content(tmp_path / "halves") == content(tmp_path / "whole") == content(tmp_path / "eager")


def test_a_run_on_a_device_is_that_of_the_cpu(other_device: str, tmp_path: Path) -> None:
    here = run(tmp_path / "here", epochs=1)
    there = run(tmp_path / "there", epochs=1, device=other_device)
    for name in ("d_loss", "g_loss", "d_real", "d_fake"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-3, atol=1e-3)
    assert json.loads((tmp_path / "there" / "config.json").read_text())["device"] == devices.device(other_device).name


def test_the_example_and_the_command_are_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", DATA.images[:, 0])
    flags = ["--epochs", "1", "--width", "2", "--batch-size", "4", "--ema", "0.9", "--data-dir", str(tmp_path / "images.npy")]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "example"), *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert cli.main(["train", "wgan_gp", "--run-dir", str(tmp_path / "command"), *flags]) == 0
    assert content(tmp_path / "example") == content(tmp_path / "command")
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    out = capsys.readouterr().out
    assert "score(real)" in out and "score(fake)" in out and "D(real)" not in out
    for command in ("info", "sample"):
        assert cli.main([command, str(tmp_path / "command")]) == 0
    assert "gradient_penalty  10.0" in capsys.readouterr().out


@pytest.mark.parametrize("flags, message", [
    (["wgan_gp", "--label-smoothing", "0.1"], "the cost 'wasserstein' has no targets: label_smoothing should be 0, got 0.1"),
    (["dcgan", "--r1", "1"], "the penalty 'r1' is about the output for each image alone, but in the discriminator its layer 3 (BatchNorm)"),
    (["minibatch", "--gradient-penalty", "10"], "(MinibatchDiscrimination) lets the images of a batch depend on each other"),
    (["unrolled", "--networks", "dcgan", "--r2", "1"], "the penalty 'r2' is about the output for each image alone")])
def test_what_does_not_go_together_is_one_line_before_training(flags: list[str], message: str, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", DATA.images[:, 0])
    assert cli.main(["train", *flags, "--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "images.npy")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "run").exists()


def test_flags_of_penalties(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", DATA.images[:, 0])
    flags = ["--cost", "relativistic", "--r1", "0.5", "--r2", "1", "--epochs", "1", "--batch-size", "8"]
    where = ["--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "images.npy")]
    assert cli.main(["train", "vanilla", *flags, *where]) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (stored["cost"], stored["r1"], stored["r2"], stored["gradient_penalty"]) == ("relativistic", 0.5, 1.0, None)
    assert cli.main(["train", "vanilla", *where, "--resume", "--epochs", "2", "--r1", "1"]) == 2
    assert "--r1 was 0.5, now 1.0; it must stay the same" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["train", "vanilla", "--r1", "-1"])
    assert "--r1: expected a number of at least 0, got '-1'" in capsys.readouterr().err
