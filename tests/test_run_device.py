"""A run on a device: captured steps, losses read late, checkpoints that move."""
import json

import numpy as np
import pytest

import tinygan as tg
from tinygan import devices, nn, training
from tinygan.data.dataset import Dataset
from tinygan.random import Key

DATA = Dataset("own", Key(3).integers((24, 1, 4, 4), 0, 256).astype(np.uint8), None, "sha256:0")


def game():
    """(No bias before batch norm: its gradient is rounding, which Adam makes a whole step of.)"""
    generator = nn.Sequential(nn.Dense(3, 8, bias=False), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 16), nn.Tanh(), nn.Reshape(1, 4, 4))
    return tg.gans.VanillaGAN(generator, nn.Sequential(nn.Flatten(), nn.Dense(16, 8), nn.LeakyReLU(0.2), nn.Dense(8, 1)), 3,
                              key=Key(0))


def run(folder, device, epochs, resume=False):
    settings = training.VanillaSettings(epochs=epochs, batch_size=4, device=device, run_dir=str(folder), resume=resume,
                                        quiet=True)
    gan = game()
    history = training.train(gan, DATA, settings)
    return gan.state_dict(), history


def same(a, b):
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_two_halves_are_the_whole(other_device, tmp_path):
    whole, history = run(tmp_path / "whole", other_device, 4)
    run(tmp_path / "halves", other_device, 2)
    halves, again = run(tmp_path / "halves", other_device, 4, resume=True)
    same(whole, halves)
    assert len(history) == len(again) == 24
    np.testing.assert_array_equal(history["d_loss"], again["d_loss"])
    lines = (tmp_path / "whole" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 25 and lines[-1].startswith("4,24,")
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["device"] == devices.device(other_device).name
    assert (tmp_path / "whole" / "samples" / "epoch_0004.png").is_file()


def test_a_run_moves_between_devices(other_device, tmp_path):
    here, _ = run(tmp_path / "here", "cpu", 3)
    run(tmp_path / "moved", other_device, 2)
    moved, history = run(tmp_path / "moved", "cpu", 3, resume=True)
    assert len(history) == 18
    for name, value in here.items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_diverging_run_stops(other_device, tmp_path):
    settings = training.VanillaSettings(epochs=3, batch_size=4, device=other_device, run_dir=str(tmp_path / "run"), quiet=True)
    gan = game()
    gan.d_optimizer.learning_rate = 1e30
    with pytest.raises(training.DivergedError, match="step"):
        training.train(gan, DATA, settings)
