"""The figures of the lessons: a figure with axes, and where it is written."""
from __future__ import annotations

__all__ = ["figure", "save"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinygan.plotting.figures import write_figure
from tinygan.runs.advice import given_arguments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "lesson-output"


def figure(columns: int = 1, rows: int = 1, width: float = 4.5, height: float = 3.5, **settings: Any) -> tuple[Figure, Any]:
    """A figure and its axes: one, or an array of them. width, height: of each, in inches. settings: for
    `Figure.subplots`, such as sharey=True. Without pyplot, so that it works without a display."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, **settings)


def save(made: Figure, name: str) -> Path:
    """Write a lesson's figure as NAME.png into the folder that the script was given as its argument, or into
    `lesson-output`. A notebook shows it, too."""
    listed = given_arguments(None)
    given = sys.argv[1:] if listed is None else listed
    path = Path(given[0] if given else FOLDER) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, made, name, dpi=100)
    print(path)
    if "IPython" in sys.modules and listed is not None:
        from IPython.display import Image, display

        display(Image(filename=str(path)))
    return path
