"""Small recorded runs of every variant of `tinygan train`, for the tests of recordings and of the page's sections."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinygan import data, training

SMALL: dict[str, dict[str, Any]] = {
    "vanilla": {}, "minibatch": {"kernels": 4}, "unrolled": {"unroll_steps": 2}, "dcgan": {"width": 4},
    "wgan_gp": {"width": 4, "d_steps": 2}, "discogan": {"width": 4}, "modern": {"width": 4},
    "infogan": {"width": 4, "hidden": 16}, "conditional": {"width": 4},
}
"""Settings that make each variant's networks small."""


def digits(folder: Path, count: int = 64) -> Path:
    """A file of images that are bright squares on black, with labels."""
    places = np.random.default_rng(0).integers(4, 16, (count, 2))
    images = np.zeros((count, 28, 28), np.uint8)
    for image, (y, x) in zip(images, places, strict=True):
        image[y:y + 8, x:x + 8] = 255
    path = folder / "squares.npz"
    np.savez(path, images=images[:, None], labels=np.arange(count) % 10)
    return path


def train(name: str, folder: Path, file: Path, **changes: Any) -> training.History:
    """Train that variant on the file, by default for 2 epochs with --record."""
    variant = training.VARIANTS[name]
    settings = variant.settings(**{"run_dir": str(folder), "data_dir": str(file), "epochs": 2, "batch_size": 8,
                                   "record": True, "quiet": True, **SMALL[name], **changes})
    dataset = settings.prepare(data.load(settings.data_dir, **settings.reading()))
    settings = settings.suited(dataset)
    return training.train(variant.build(settings, dataset.image_shape), dataset, settings)
