"""A run of a real VanillaGAN that takes milliseconds a step, for the tests of runs."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import nn, saving, training
from tinygan.data import Dataset

SHAPE = (1, 4, 4)


def tiny_gan(settings: training.Settings, hidden: int = 8) -> tg.gans.VanillaGAN:
    """3-8-16 against 16-8-1, a GAN that `tinygan train` does not know, with batch norm for the sake of its buffers and dropout for that of its random draws."""
    generator = nn.Sequential(nn.Dense(3, hidden), nn.BatchNorm(hidden), nn.LeakyReLU(0.2), nn.Dense(hidden, 16), nn.Tanh(),
                              nn.Reshape(*SHAPE))
    discriminator = nn.Sequential(nn.Flatten(), nn.Dense(16, 8), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Dense(8, 1))
    key = tg.random.Key(settings.seed)
    return tg.gans.VanillaGAN(generator, discriminator, latent_dim=3, d_steps=getattr(settings, "d_steps", 1),
                              ema=getattr(settings, "ema", None), key=key)


def tiny_data(count: int = 43, seed: int = 0) -> Dataset:
    images = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return Dataset("tiny", images, None, f"sha256:of-seed-{seed}")


def tiny_settings(folder: Path, **changes: Any) -> training.VanillaSettings:
    """Five steps an epoch (43 images, so an incomplete batch is left out)."""
    return training.VanillaSettings(**{"run_dir": str(folder), "epochs": 4, "batch_size": 8, **changes})


def tiny_train(folder: Path, **changes: Any) -> training.History:
    settings = tiny_settings(folder, **changes)
    return training.train(tiny_gan(settings), tiny_data(), settings)


def train_until(folder: Path, step: int, action: Callable[[Any], Any], **changes: Any) -> training.History:
    """Train, and do `action` within the given step (from 1) of this process."""
    settings = tiny_settings(folder, **changes)
    gan = tiny_gan(settings)
    original, steps = gan.step, iter(range(1, 10_000))

    def hooked(real: Any) -> Any:
        stats = original(real)
        return (action(stats) or stats) if next(steps) == step else stats

    gan.step = hooked  # type: ignore[method-assign]
    return training.train(gan, tiny_data(), settings)


def content(folder: Path) -> tuple[dict[str, bytes], list[str], dict[str, bytes]]:
    """What must not depend on interruptions: the checkpoint's arrays, the CSV, the grids; all but the clock."""
    arrays, _ = saving.load(folder / "checkpoint.safetensors")
    del arrays["history.seconds"]
    rows = [line.rpartition(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()]
    grids = {path.name: path.read_bytes() for path in sorted((folder / "samples").iterdir())}
    return {name: array.tobytes() for name, array in arrays.items()}, rows, grids


def recorded(folder: Path, name: str = "recording") -> dict[str, dict[str, Any]]:
    """What all records hold: the bytes of the arrays, and the notes."""
    found = {}
    for path in sorted((folder / name).glob("step_*")):
        arrays, notes = saving.load(path)
        found[path.name] = {**notes, **{name: array.tobytes() for name, array in arrays.items()}}
    return found
