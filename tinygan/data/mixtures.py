"""Mixtures of Gaussians in the plane, and stacked MNIST: data with known modes, so that a lost mode can be noticed."""
from __future__ import annotations

__all__ = ["Mixture", "gaussian_grid", "gaussian_ring", "stacked"]

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.data.dataset import Dataset
from tinygan.random import Key, as_key


class Mixture(NamedTuple):
    """A mixture of equally weighted Gaussians. centres (M, 2); sigma: the standard deviation along each axis."""

    centres: npt.NDArray[np.float32]
    sigma: float

    def sample(self, n: int, key: Key) -> npt.NDArray[np.float32]:
        """n points (n, 2)."""
        key = as_key("Mixture.sample", key)
        chosen = self.centres[key.fold("mode").integers(n, 0, len(self.centres))]
        noise: npt.NDArray[np.float32] = key.fold("noise").normal((n, 2))
        return chosen + np.float32(self.sigma) * noise


def gaussian_ring(modes: int = 8, radius: float = 2.0, sigma: float = 0.02) -> Mixture:
    """Centres at equal distances on a circle. The defaults are those of the unrolled GAN's paper (Metz et al. 2017, section
    3.1); VEEGAN and PacGAN use radius 1 and sigma 0.01.

    All centres are different. (A widely copied version places them at linspace(0, 2 pi, 8), where the first and the last are
    the same point.)
    """
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture((radius * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32), sigma)


def gaussian_grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """side x side centres around the origin (VEEGAN, Srivastava et al. 2017, section 4.1; PacGAN, Lin et al. 2018)."""
    line = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2).astype(np.float32), sigma)


def stacked(dataset: Dataset, n: int, key: Key) -> Dataset:
    """n images of three channels. Each channel is a grey image of `dataset` (N, 1, H, W), drawn independently. The label is
    the number that the three digits form, from 0 to 999 (Metz et al. 2017, section 3.3.1; Che et al. 2017).

    Raises ValueError if the images are not grey or have no labels from 0 to 9.
    """
    if dataset.image_shape[0] != 1 or dataset.labels is None or not 0 <= dataset.labels.min() <= dataset.labels.max() <= 9:
        raise ValueError(f"stacked: expected grey images with labels from 0 to 9, got {dataset.name}, {dataset.image_shape}")
    if n < 1:
        raise ValueError(f"stacked: n should be at least 1, got {n}")
    key = as_key("stacked", key)
    drawn = key.integers((n, 3), 0, len(dataset))
    images: npt.NDArray[Any] = dataset.images[drawn, 0]
    digest = hashlib.sha256(f"{dataset.checksum}:{n}:{key!r}".encode()).hexdigest()
    return Dataset(f"stacked {dataset.name}", images, dataset.labels[drawn] @ np.array([100, 10, 1]), f"sha256:{digest}")
