"""The figure of the quality of a run's images over its epochs."""
from __future__ import annotations

__all__ = ["save_quality"]

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import write_figure

_PANELS = (
    ("modes", "digits that occur, of 10"), ("kl", "KL of the digits from uniform, nats"), ("score", "inception score"),
    ("frechet", "Fréchet distance"), ("kernel", "1,000 kernel distances"), ("precision", "precision"), ("recall", "recall"),
    ("bins", "bins of 100 that differ"),
)  # fmt: skip


def save_quality(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], floor: Mapping[str, float], *,
                 title: str) -> None:
    """Draw a panel for each measure of `metrics.Quality` over the epochs. A dashed line shows `floor`, the value of real
    test images."""
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("save_quality: there are no rows to draw")
    figure = Figure(figsize=(12.5, 5.6))
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.09, top=0.88, wspace=0.22, hspace=0.38)
    epochs = [row["epoch"] for row in rows]
    for axes, (name, label) in zip(figure.subplots(2, 4).flat, _PANELS, strict=True):
        axes.plot(epochs, [row[name] for row in rows], color="#d62728", linewidth=1.3, marker="o", markersize=3)
        axes.axhline(floor[name], color="#1f77b4", linestyle="--", linewidth=1)
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
    figure.suptitle(f"{title} (dashed: real test images)")
    write_figure(path, figure, title, dpi=110)
