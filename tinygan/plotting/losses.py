"""The loss figure of a run."""
from __future__ import annotations

__all__ = ["save_losses"]

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import write_figure

_MEASURES = ("#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
PLAYERS = (("discriminator", "#1f77b4"), ("generator", "#d62728"))


def save_losses(path: str | os.PathLike[str], d_loss: npt.ArrayLike, g_loss: npt.ArrayLike, *, steps_per_epoch: int,
                title: str, measures: Mapping[str, npt.ArrayLike] | None = None) -> None:
    """Draw two panels: both losses at every step of the first epoch, and both losses over all epochs.

    d_loss, g_loss: (steps,). The second panel shows the mean of each epoch, and a band that holds the middle 90 %
    of its steps. measures: what else the GAN reported of each step, by name, (steps,) each: a third panel shows them like
    the second.
    """
    from matplotlib.figure import Figure

    losses = [np.asarray(loss, dtype=np.float64) for loss in (d_loss, g_loss)]
    if losses[0].ndim != 1 or losses[0].shape != losses[1].shape or not losses[0].size:
        raise ValueError(f"save_losses: d_loss {losses[0].shape} and g_loss {losses[1].shape} must be one axis, not "
                         "empty, of the same length")
    panels = 3 if measures else 2
    figure = Figure(figsize=(5.5 * panels, 4.2))
    figure.subplots_adjust(left=0.11 / panels, right=0.985, bottom=0.12, top=0.84, wspace=0.14)  # (an engine draws twice)
    first, every, *rest = figure.subplots(1, panels)
    for loss, (player, colour) in zip(losses, PLAYERS, strict=True):
        _draw_steps(first, loss[:steps_per_epoch], player, colour)
        _draw_epochs(every, loss, steps_per_epoch, player, colour)
    first.set(title="first epoch, every step", xlabel="step", ylabel="loss")
    every.set(title="all epochs: mean, and the middle 90 % of the steps", xlabel="epoch", ylabel="loss")
    for axes in rest:
        for (name, values), colour in zip((measures or {}).items(), itertools.cycle(_MEASURES)):
            _draw_epochs(axes, np.asarray(values, dtype=np.float64), steps_per_epoch, name, colour)
        axes.set(title="all epochs: what else was measured", xlabel="epoch")
    for axes in (every, *rest):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0.5, -(-losses[0].size // steps_per_epoch) + 0.5)
    for axes in (first, every, *rest):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title)
    write_figure(path, figure, title, dpi=120)


def _draw_steps(axes: Any, loss: npt.NDArray[np.float64], player: str, colour: str) -> None:
    axes.plot(np.arange(1, len(loss) + 1), loss, color=colour, label=player, linewidth=0.9,
              marker="o" if len(loss) == 1 else "", markersize=4)


def _draw_epochs(axes: Any, loss: npt.NDArray[np.float64], steps_per_epoch: int, player: str, colour: str) -> None:
    epochs = [loss[start:start + steps_per_epoch] for start in range(0, len(loss), steps_per_epoch)]
    number = np.arange(1, len(epochs) + 1)
    low, high = np.array([np.percentile(epoch, (5, 95)) for epoch in epochs]).T
    axes.plot(number, [epoch.mean() for epoch in epochs], color=colour, label=player, linewidth=1.4,
              marker="o" if len(epochs) <= 20 else "", markersize=4)
    axes.fill_between(number, low, high, color=colour, alpha=0.18, linewidth=0)
