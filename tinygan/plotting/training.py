"""A picture of a training that is going on."""
from __future__ import annotations

__all__ = ["draw_training"]

import io

import numpy as np
import numpy.typing as npt

from .grids import draw_grid
from .losses import PLAYERS

_POINTS = 400


def draw_training(d_loss: npt.ArrayLike, g_loss: npt.ArrayLike, images: npt.ArrayLike | None = None, *, title: str,
                  steps_per_epoch: int, columns: int | None = None) -> bytes:
    """A PNG file: both losses so far, and beside them a grid of images (see `draw_grid`), if there are any.

    d_loss, g_loss: (steps,). Of a long training, each point of a line is the mean of several steps.
    """
    from matplotlib.figure import Figure

    losses = [np.asarray(loss, dtype=np.float64) for loss in (d_loss, g_loss)]
    if losses[0].ndim != 1 or losses[0].shape != losses[1].shape or not losses[0].size:
        raise ValueError(f"draw_training: d_loss {losses[0].shape} and g_loss {losses[1].shape} must be one axis, not "
                         "empty, of the same length")
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes, grid = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for loss, (player, colour) in zip(losses, PLAYERS, strict=True):
        at, means = _thinned(loss)
        axes.plot(at / steps_per_epoch, means, color=colour, label=player, linewidth=1, marker="o" if len(at) == 1 else "")
    axes.set(xlabel="epochs", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    grid.axis("off")
    if images is not None:
        picture = np.asarray(draw_grid(images, columns=columns))
        grid.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _thinned(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """At most `_POINTS` points (the number of the last step, the mean) of neighbouring steps."""
    size = -(-len(values) // _POINTS)
    starts = np.arange(0, len(values), size)
    ends = np.minimum(starts + size, len(values))
    return ends.astype(np.float64), np.add.reduceat(values, starts) / (ends - starts)
