"""What a run tells while it trains: the interface of everything that keeps or shows its losses and images."""
from __future__ import annotations

__all__ = ["LoggedRun", "Logger", "Loggers", "loggers_of"]

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .history import History
from .settings import Settings

Images = npt.NDArray[np.float32]
Log = Callable[[int, Mapping[str, float], Images | None], object]


class LoggedRun(NamedTuple):
    """What a logger is told of a run before its next step.

    folder: the run's folder. settings: its settings. data: the name of its data set. history: the losses of all steps; it
    grows while the run goes on, and `len(history)` steps have been made, so it is not empty in a run that is resumed.
    columns: how many of the images belong in a row of a grid; None: as many as make it square. note: what a title of the
    images should say, such as "; rows: classes 0 to 9".
    """

    folder: Path
    settings: Settings
    data: str
    history: History
    columns: int | None = None
    note: str = ""

    def title(self, epoch: int) -> str:
        """A title for what is drawn of an epoch."""
        return f"{self.settings.title} on {self.data}, epoch {epoch}"


class Logger:
    """Is told of a run while it trains. Write a class with those of these methods that you need, and give an object of it to
    `train`:

        class Printer(tg.training.Logger):
            def log(self, step, losses, images):
                print(step, losses["d_loss"])

        tg.training.train(gan, data, settings, log=Printer())

    If all you need is `log`, a function with its arguments is enough. An error that a method raises ends the run.
    """

    def start(self, run: LoggedRun) -> None:
        """Called once, before the first step that this process makes."""

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Called for every step, in order.

        step: its number, from 1 on, over all epochs. losses: what `metrics.csv` has of it: d_loss, g_loss, d_real, d_fake,
        and what else the GAN reports. images: None, except at the last step of an epoch: then samples of the generator,
        made from the same latent vectors each time, (N, C, H, W) in [-1, 1]. On a GPU the calls come some steps late,
        because reading losses waits for the GPU.
        """

    def saved(self, step: int) -> None:
        """Called when the checkpoint has been written after that step. What is logged later is logged again if the run is
        killed and resumed."""

    def close(self) -> None:
        """Called at the end, also at that of a run that fails or is interrupted."""


class _Function(Logger):
    """A function as a logger."""

    def __init__(self, function: Log) -> None:
        self._function = function

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        self._function(step, losses, images)


class Loggers(Logger):
    """Several loggers as one. All of them are closed, even if closing one fails."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = tuple(loggers)

    def start(self, run: LoggedRun) -> None:
        for logger in self._loggers:
            logger.start(run)

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        for logger in self._loggers:
            logger.log(step, losses, images)

    def saved(self, step: int) -> None:
        for logger in self._loggers:
            logger.saved(step)

    def close(self) -> None:
        with ExitStack() as closing:
            for logger in self._loggers:
                closing.callback(logger.close)


def loggers_of(log: Any) -> list[Logger]:
    """The loggers that `train(log=...)` was given: one or several, a function being one too."""
    given = [log] if isinstance(log, Logger) or callable(log) else log
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        given = [log]
    found = list(given)
    for one in found:
        if not isinstance(one, Logger) and (isinstance(one, type) or not callable(one)):
            what = f"the class {one.__name__}, not an object of it" if isinstance(one, type) else type(one).__name__
            raise TypeError("train: log should be a tinygan.training.Logger, a function of (step, losses, images), or a "
                            f"list of these, got {what}")
    return [one if isinstance(one, Logger) else _Function(one) for one in found]
