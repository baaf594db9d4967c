"""Figures of a generator's points in the plane, of where its gradient moves them, and of where they came from."""
from __future__ import annotations

__all__ = ["save_densities", "save_pushes", "save_translations"]

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .figures import write_figure

_BINS = 160


def save_densities(path: str | os.PathLike[str], rows: Mapping[str, Sequence[npt.NDArray[Any]]], columns: Sequence[str], *,
                   radius: float, title: str) -> None:
    """Draw heat maps of sets of points (N, 2) in the square from -radius to radius. There is a row for each name and a
    column for each moment, as in figure 2 of Metz et al. 2017. Each map is scaled to its own largest density."""
    from matplotlib.figure import Figure
    from scipy.ndimage import gaussian_filter

    if not rows or any(len(maps) != len(columns) for maps in rows.values()):
        raise ValueError(f"save_densities: expected {len(columns)} sets of points in each row, got "
                         f"{ {name: len(maps) for name, maps in rows.items()} }")
    figure = Figure(figsize=(1.5 * len(columns) + 0.9, 1.5 * len(rows) + 0.7))
    figure.subplots_adjust(left=0.9 / figure.get_figwidth(), right=0.995, bottom=0.01, wspace=0.04, hspace=0.04,
                           top=1 - 0.65 / figure.get_figheight())
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    edges = np.linspace(-radius, radius, _BINS + 1)
    for line, (name, maps) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, points in zip(line, maps, strict=True):
            density = gaussian_filter(np.histogram2d(points[:, 0], points[:, 1], (edges, edges))[0], 1.5)
            axes.imshow(density.T, origin="lower", cmap="Greens", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=10)
    figure.suptitle(title, fontsize=11)
    write_figure(path, figure, title, dpi=110)


def save_pushes(path: str | os.PathLike[str], panels: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
                centres: npt.NDArray[Any], *, title: str) -> None:
    """Draw points (N, 2) with arrows (N, 2). There is a column for each name: above the whole plane, below only the part
    with the points. The centres (M, 2) are marked. All arrows have the same scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.3 * len(panels), 7), layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False)
    radius = 1.3 * float(np.abs(centres).max())
    lengths = np.concatenate([np.linalg.norm(arrows, axis=1) for _, arrows in panels.values()])
    longest = float(np.quantile(lengths, 0.98)) or 1.0
    for column, (name, (points, arrows)) in enumerate(panels.items()):
        middle = np.median(points, axis=0)
        reach = 1.3 * float(np.quantile(np.abs(points - middle).max(axis=1), 0.98)) + 1e-6
        for axes, centre, size in ((grid[0, column], np.zeros(2), radius), (grid[1, column], middle, reach)):
            axes.scatter(*centres.T, s=60, facecolors="none", edgecolors="#888888", linewidths=1)
            axes.scatter(*points.T, s=4, color="#1f77b4", alpha=0.6, linewidths=0)
            axes.quiver(*points.T, *(arrows * (0.35 * size / longest)).T, angles="xy", scale_units="xy", scale=1,
                        color="#d62728", alpha=0.6, width=0.005)
            axes.set(xlim=(centre[0] - size, centre[0] + size), ylim=(centre[1] - size, centre[1] + size), xticks=[],
                     yticks=[], aspect="equal")
        grid[0, column].set_title(name, fontsize=10)
        grid[1, column].set_xlabel(f"the points alone, {2 * reach:.2g} wide")
    figure.suptitle(title, fontsize=11)
    write_figure(path, figure, title, dpi=110)


def save_translations(path: str | os.PathLike[str], panels: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
                      centres: npt.NDArray[Any], *, title: str) -> None:
    """Draw translated points (N, 2) in the colours of the modes (N,) that they were translated from, with a panel for each
    name (Kim et al. 2017, toy experiment). Crosses mark the centres (M, 2) of the domain that they should lie in."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(panels), 3.9), layout="constrained")
    radius = 1.3 * float(np.abs(centres).max())
    for axes, (name, (points, modes)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.scatter(*centres.T, s=70, color="black", marker="x", linewidths=1)
        axes.scatter(*points.T, s=5, c=modes, cmap="tab10", vmin=0, vmax=9, alpha=0.7, linewidths=0)
        axes.set(xlim=(-radius, radius), ylim=(-radius, radius), xticks=[], yticks=[], aspect="equal")
        axes.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=11)
    write_figure(path, figure, title, dpi=110)
