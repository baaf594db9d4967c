"""What a run's samples are made from, and the pictures of them."""
from __future__ import annotations

__all__ = ["PREVIEWS", "draw_codes", "drawn", "inputs", "inputs_of_run", "layout", "picture", "translates"]

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.random import Key

from .errors import RunError
from .labels import columns_of, full_rows, labelled, takes_labels
from .trainable import TrainableGAN, sampler

PREVIEWS = 64
"""From how many inputs the samples of a run are made."""
_PAIRS_IN_A_ROW = 3
CYCLES = "each six: a, B from a, back to A; b, A from b, back to B"


def translates(gan: TrainableGAN) -> bool:
    """Whether the GAN translates images of the data set. Others make images from latent vectors."""
    return bool(getattr(gan, "translates", False))


def inputs(gan: TrainableGAN, dataset: Dataset, n: int, key: Key) -> Any:
    """What n samples are made from: latent vectors, or images of `dataset` if the GAN translates. If the GAN takes labels,
    there are as many of each class, one class after the other, and so perhaps more than n."""
    if translates(gan):
        return dataset.batch(key.integers(n, 0, len(dataset)))
    return labelled(gan, full_rows(gan, n), key) if takes_labels(gan) else gan.latent(n, key)


def inputs_of_run(gan: TrainableGAN, dataset: Dataset, seed: int) -> Any:
    """What the samples of a run with that seed are made from (see `inputs`)."""
    return inputs(gan, dataset, PREVIEWS, Key(seed).fold("preview"))


def picture(gan: TrainableGAN, z: Any, averaged: bool = True) -> tuple[npt.NDArray[Any], int | None, str]:
    """The images of a grid of samples, how many are in a row (None: as many as make it square), and a note for its title.
    averaged: see `sampler`.

    A GAN that takes labels shows a row for each class. A GAN that translates shows six images of each pair: a, G_AB(a),
    G_BA(G_AB(a)), b, G_BA(b), G_AB(G_BA(b)).
    """
    columns, note = layout(gan, z)
    if not translates(gan):
        return sampler(gan, averaged)(z=z), columns, note
    cycles: list[npt.NDArray[Any]] = gan.cycles(z, averaged=averaged)  # type: ignore[attr-defined]
    shown = np.stack([np.repeat(images, 3, 1) if images.shape[1] == 1 else images[:, :3] for images in cycles], axis=1)
    return shown.reshape(-1, *shown.shape[2:]), columns, note


def layout(gan: TrainableGAN, z: Any) -> tuple[int | None, str]:
    """How many images of z are in a row of the grid (None: as many as make it square), and a note for its title."""
    if takes_labels(gan):
        return columns_of(gan, z)
    return (6 * _PAIRS_IN_A_ROW, f"; {CYCLES}") if translates(gan) else (None, "")


def drawn(player: Any, pairs: Any) -> tuple[Any, Any, tuple[str, str]]:
    """The network that a figure of a translating player shows, its images among `pairs`, and names for its input and its
    output: G_AB or D_B."""
    a, b = pairs[:, :player.channels], pairs[:, player.channels:]
    return (player.ab, a, ("a", "G_AB(a)")) if hasattr(player, "ab") else (player.b, b, ("b", "logit"))


def draw_codes(gan: TrainableGAN, folder: Path, about: str, *, rows: int, steps: int, limit: float, key: Key,
               averaged: bool = True) -> Iterator[Path]:
    """Draw every code of an InfoGAN, varied from column to column, as traverse_CODE.png; gives the paths (see
    `InfoGAN.traverse`). about: the beginning of the titles. averaged: see `sampler`. Raises RunError for a GAN that has no
    codes."""
    from tinygan.plotting import save_grid

    if not hasattr(gan, "traverse"):
        raise RunError("only an InfoGAN (tinygan train infogan) has codes to vary; `tinygan interpolate` draws walks "
                       "between any latent vectors")
    folder.mkdir(parents=True, exist_ok=True)
    draw = sampler(gan, averaged)
    for name, z in gan.traverse(rows, steps, limit, key).items():
        path = folder / f"traverse_{name}.png"
        what = "each class" if name.startswith("categorical") else f"from {-limit:g} to {limit:g}"
        save_grid(path, draw(z=z.reshape(-1, z.shape[2])), columns=z.shape[1],
                  title=f"{about}: {name.replace('_', ' code ')}, {what}")
        yield path
