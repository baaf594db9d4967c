"""The discriminator as a feature extractor (Radford, Metz, Chintala 2015, section 5.1)."""
from __future__ import annotations

__all__ = ["adaptive_max_pool", "discriminator_features"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.nn import Conv2d, Module
from tinygan.nn.stages import stages

_BATCH = 500


def discriminator_features(discriminator: Module, images: npt.NDArray[Any], grid: int = 4) -> npt.NDArray[Any]:
    """(N, C, H, W) -> (N, F): the outputs of all convolution layers, after batch norm (with running statistics) and
    activation. Each output is max-pooled to grid x grid, then they are flattened and joined.

    The layer that makes the logits is left out, even if it is a convolution. Raises ValueError if no layer is left.
    """
    if not len(images):
        raise ValueError(f"discriminator_features: no images (shape {images.shape})")
    parts = []
    for start in range(0, len(images), _BATCH):
        found = stages(discriminator, images[start:start + _BATCH])[:-1]
        maps = [np.asarray(stage.output) for stage in found if isinstance(stage.layers[0], Conv2d)]
        if not maps:
            raise ValueError("discriminator_features: the discriminator has no convolution before the layer of its logits")
        parts.append(np.concatenate([adaptive_max_pool(y, grid).reshape(len(y), -1) for y in maps], axis=1))
    return np.concatenate(parts)


def adaptive_max_pool(images: npt.NDArray[Any], grid: int) -> npt.NDArray[Any]:
    """(N, C, H, W) -> (N, C, grid, grid), as in PyTorch. Element (i, j) is the maximum over the rows from floor(i H / grid)
    to ceil((i + 1) H / grid) - 1, and over the columns from floor(j W / grid) to ceil((j + 1) W / grid) - 1. The regions
    overlap if grid does not divide the size."""
    n, channels, height, width = images.shape
    pooled = np.empty((n, channels, grid, grid), images.dtype)
    for i in range(grid):
        for j in range(grid):
            rows, columns = (slice(k * size // grid, -(-(k + 1) * size // grid)) for k, size in ((i, height), (j, width)))
            pooled[:, :, i, j] = images[:, :, rows, columns].max(axis=(2, 3))
    return pooled
