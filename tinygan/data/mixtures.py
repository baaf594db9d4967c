"""Mixtures of Gaussians in the plane, and stacked MNIST: data whose modes are known, so that a lost one is seen."""
from __future__ import annotations

__all__ = ["Mixture", "gaussian_grid", "gaussian_ring", "stacked"]

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import Dataset
from tinygan.random import Key, as_key


class Mixture(NamedTuple):
    """Equally weighted Gaussians with the centres (M, 2) and the standard deviation sigma along each axis."""

    centres: npt.NDArray[np.float32]
    sigma: float

    def sample(self, n: int, key: Key) -> npt.NDArray[np.float32]:
        """n points (n, 2)."""
        key = as_key("Mixture.sample", key)
        chosen = self.centres[key.fold("mode").integers(n, 0, len(self.centres))]
        noise: npt.NDArray[np.float32] = key.fold("noise").normal((n, 2))
        return chosen + np.float32(self.sigma) * noise


def gaussian_ring(modes: int = 8, radius: float = 2.0, sigma: float = 0.02) -> Mixture:
    """Centres evenly around a circle. The defaults are those of the unrolled GAN's paper (Metz et al. 2017, section 3.1);
    VEEGAN and PacGAN have radius 1 and sigma 0.01.

    All centres differ. (A copy that goes around has them at linspace(0, 2 pi, 8), whose ends are one point.)
    """
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture((radius * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32), sigma)


def gaussian_grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """side x side centres around the origin (VEEGAN, Srivastava et al. 2017, section 4.1; PacGAN, Lin et al. 2018)."""
    line = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2).astype(np.float32), sigma)


def stacked(dataset: Dataset, n: int, key: Key) -> Dataset:
    """n images of three channels, each a grey image of `dataset` (N, 1, H, W) drawn by itself; the label is the three digits
    read as one number, from 0 to 999 (Metz et al. 2017, section 3.3.1; Che et al. 2017).

    ValueError if the images are not grey or have no labels from 0 to 9.
    """
    if dataset.image_shape[0] != 1 or dataset.labels is None or not 0 <= dataset.labels.min() <= dataset.labels.max() <= 9:
        raise ValueError(f"stacked: grey images with labels from 0 to 9 expected, got {dataset.name}, {dataset.image_shape}")
    if n < 1:
        raise ValueError(f"stacked: n should be at least 1, got {n}")
    key = as_key("stacked", key)
    drawn = key.integers((n, 3), 0, len(dataset))
    images: npt.NDArray[Any] = dataset.images[drawn, 0]
    digest = hashlib.sha256(f"{dataset.checksum}:{n}:{key!r}".encode()).hexdigest()
    return Dataset(f"stacked {dataset.name}", images, dataset.labels[drawn] @ np.array([100, 10, 1]), f"sha256:{digest}")
