"""The figure of the quality of a run's images over its epochs."""
from __future__ import annotations

__all__ = ["save_quality"]

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import write_figure

_LABELS = {
    "modes": "digits that occur, of 10", "kl": "KL of the digits from uniform, nats",
    "confidence": "confidence of the classifier", "score": "inception score", "frechet": "Fréchet distance",
    "kernel": "1,000 kernel distances", "precision": "precision", "recall": "recall", "bins": "bins of 100 that differ",
    "a_to_b": "A to B: class kept", "b_to_a": "B to A: class kept", "a_home": "A to B to A: class kept",
    "b_home": "B to A to B: class kept", "category_error": "error of the category as the digit",
    "asked": "read as the class asked for", "d_loss": "the discriminator's loss",
}  # fmt: skip
_COLUMNS = 3


def save_quality(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], floor: Mapping[str, float], *,
                 title: str) -> None:
    """Draw a panel for each measure, such as those of `metrics.Quality`, over the epochs, three panels in a row. A dashed
    line shows `floor`, the value of real test images. Where rows have a "d_loss", it is drawn last, without such a line: so
    one sees whether the loss tells of the quality."""
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("save_quality: there are no rows to draw")
    names = [*floor, *(["d_loss"] if any("d_loss" in row for row in rows) else [])]
    lines = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(10.5, 0.4 + 2.6 * lines))
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.18 / lines, top=1 - 0.27 / lines, wspace=0.22, hspace=0.38)
    panels = iter(figure.subplots(lines, _COLUMNS).flat)
    for name, axes in zip(names, panels, strict=False):
        epochs, values = zip(*((row["epoch"], row[name]) for row in rows if name in row), strict=True)
        axes.plot(epochs, values, color="#d62728", linewidth=1.3, marker="o", markersize=3)
        if name in floor:
            axes.axhline(floor[name], color="#1f77b4", linestyle="--", linewidth=1)
        axes.set_title(_LABELS[name], fontsize=10)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
    for axes in panels:
        axes.set_axis_off()
    figure.suptitle(f"{title} (dashed: real test images)")
    write_figure(path, figure, title, dpi=110)
