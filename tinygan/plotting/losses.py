"""The loss figure of a run."""
from __future__ import annotations

__all__ = ["save_losses"]

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import write_figure

_MEASURES = ("#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
PLAYERS = (("discriminator", "#1f77b4"), ("generator", "#d62728"))


def save_losses(path: str | os.PathLike[str], d_loss: npt.ArrayLike, g_loss: npt.ArrayLike, *, steps_per_epoch: int,
                title: str, measures: Mapping[str, npt.ArrayLike] | None = None) -> None:
    """Draw both losses at every step of the first epoch and, from the second epoch on, a panel with both over all epochs.

    d_loss, g_loss: (steps,). The panel over all epochs shows the mean of each, and a band that holds the middle 90 % of its
    steps. measures: what else the GAN reported of each step, by name, (steps,) each. One more panel shows them over all
    epochs, or over the steps of the first one.
    """
    from matplotlib.figure import Figure

    losses = [np.asarray(loss, dtype=np.float64) for loss in (d_loss, g_loss)]
    if losses[0].ndim != 1 or losses[0].shape != losses[1].shape or not losses[0].size:
        raise ValueError(f"save_losses: d_loss {losses[0].shape} and g_loss {losses[1].shape} must be one axis, not "
                         "empty, of the same length")
    begun = losses[0].size > steps_per_epoch  # whether there is more than one epoch to compare
    panels = 1 + begun + bool(measures)
    figure = Figure(figsize=(5.5 * max(panels, 1.4), 4.2))
    figure.subplots_adjust(left=0.15 / panels, right=0.985, bottom=0.12, top=0.84, wspace=0.2)  # (an engine draws twice)
    first, *rest = np.atleast_1d(figure.subplots(1, panels))
    players = dict(PLAYERS)
    both = dict(zip(players, losses, strict=True))
    _draw_first(first, {name: loss[:steps_per_epoch] for name, loss in both.items()}, players.values())
    first.set_title("losses in every step of the first epoch")
    if begun:
        every = rest.pop(0)
        _draw_all(every, both, players.values(), steps_per_epoch)
        every.set_title("losses of all epochs: mean, and middle 90 %")
    for axes in rest:
        others = {name: np.asarray(values, dtype=np.float64) for name, values in (measures or {}).items()}
        if begun:
            _draw_all(axes, others, itertools.cycle(_MEASURES), steps_per_epoch)
        else:
            _draw_first(axes, others, itertools.cycle(_MEASURES))
        axes.set_title(f"{'all epochs' if begun else 'first epoch'}: what else was measured")
    figure.suptitle(title)
    write_figure(path, figure, title, dpi=120)


def _draw_first(axes: Any, columns: Mapping[str, npt.NDArray[np.float64]], colours: Iterable[str]) -> None:
    """Draw each column at every step."""
    for (name, values), colour in zip(columns.items(), colours, strict=False):  # (there may be more colours)
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=name, linewidth=0.9,
                  marker="o" if len(values) == 1 else "", markersize=4)
        axes.set_xlim(0.5, len(values) + 0.5)
    _finish(axes, "step")


def _draw_all(axes: Any, columns: Mapping[str, npt.NDArray[np.float64]], colours: Iterable[str],
              steps_per_epoch: int) -> None:
    """Draw the mean of each column over every epoch, and the band of its steps."""
    for (name, values), colour in zip(columns.items(), colours, strict=False):  # (there may be more colours)
        epochs = [values[start:start + steps_per_epoch] for start in range(0, len(values), steps_per_epoch)]
        number = np.arange(1, len(epochs) + 1)
        low, high = np.array([np.percentile(epoch, (5, 95)) for epoch in epochs]).T
        axes.plot(number, [epoch.mean() for epoch in epochs], color=colour, label=name, linewidth=1.4,
                  marker="o" if len(epochs) <= 20 else "", markersize=4)
        axes.fill_between(number, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlim(0.5, len(epochs) + 0.5)
    _finish(axes, "epoch")


def _finish(axes: Any, across: str) -> None:
    axes.set_xlabel(across)
    axes.xaxis.get_major_locator().set_params(integer=True)
    # Each number in full: a power of ten above the axis would move the title of this panel alone.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
