"""What a run shows in a notebook: a bar, the line of the last epoch, and a picture, each changed in place."""
from __future__ import annotations

__all__ = ["NotebookProgress", "progress_of"]

import importlib
import time
from collections.abc import Mapping
from typing import Any

from tinygan.errors import installing
from tinygan.progress import in_jupyter

from .errors import RunError
from .loggers import Images, LoggedRun
from .report import Progress
from .settings import Settings

SHOWS = ("notebook", "terminal")
_PAUSE, _SHARE = 2.0, 20.0
"""The picture changes at most every two seconds, and drawing it takes at most a twentieth of the time."""


class NotebookProgress(Progress):
    """Shows the progress of a run in Jupyter: the losses so far, and beside them the samples of the last epoch."""

    def start(self, run: LoggedRun) -> None:
        """Note the run."""
        super().start(run)
        self._line: Any = None
        self._picture: Any = None
        self._images: Images | None = None
        self._stale, self._due = False, time.perf_counter()

    def _show_bar(self, label: str, done: int, steps: int, leave: bool = True) -> None:
        """One bar for all epochs: a bar that is closed leaves a line in the notebook."""
        if self._bar is None:
            super()._show_bar(label, len(self._run.history), self._run.settings.epochs * steps, leave)
        else:
            self._bar.set_description(label, refresh=False)

    def _end_bar(self) -> None:
        """An epoch is over, but the bar is that of all epochs."""

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Move the bar on, and from time to time draw the picture again."""
        super().log(step, losses, images)
        self._images = self._images if images is None else images
        self._stale = True
        if time.perf_counter() >= self._due:
            self._draw()

    def _draw(self) -> None:
        from tinygan.plotting import draw_training

        started, run = time.perf_counter(), self._run
        epoch = -(-len(run.history) // run.history.steps_per_epoch)
        png = draw_training(run.history["d_loss"], run.history["g_loss"], self._images, title=run.title(epoch),
                            steps_per_epoch=run.history.steps_per_epoch, columns=run.columns)
        self._picture = _shown(_ipython().Image(png, format="png"), self._picture)
        self._stale, now = False, time.perf_counter()
        self._due = now + max(_PAUSE, _SHARE * (now - started))

    def _say(self, line: str) -> None:
        self._line = _shown(_ipython().Pretty(line), self._line)

    def close(self) -> None:
        """Close the bar, and draw what has not been drawn yet."""
        super().close()
        if self._stale:
            self._draw()


def _shown(content: Any, where: Any) -> Any:
    """Show that in a new place, or in the place of what was shown `where`. Returns the place."""
    if where is None:
        return _ipython().display(content, display_id=True)
    where.update(content)
    return where


def _ipython() -> Any:
    return importlib.import_module("IPython.display")


def progress_of(show: str | None, settings: Settings, images_per_step: int, probabilities: bool) -> Progress:
    """What shows a run: "notebook" or "terminal". None: what suits the place where it runs."""
    if show is not None and show not in SHOWS:
        raise ValueError(f"train: show should be {' or '.join(map(repr, SHOWS))}, or None for what suits, got {show!r}")
    if show == "notebook":
        try:
            _ipython()
        except ImportError:
            raise RunError(f'train: show="notebook" needs Jupyter: {installing("notebook")}') from None
    pictures = show == "notebook" or (show is None and in_jupyter() and not settings.quiet)
    return (NotebookProgress if pictures else Progress)(images_per_step, probabilities)
