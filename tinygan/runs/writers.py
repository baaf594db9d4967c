"""The loggers that write files: the losses as `metrics.csv`, the images as pictures, and both for TensorBoard."""
from __future__ import annotations

__all__ = ["MetricsFile", "Pictures", "TensorBoard", "writer_of"]

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinygan.errors import installing
from tinygan.saving import write_atomically
from tinygan.tables import lookup

from .errors import RunError
from .history import History
from .loggers import Images, LoggedRun, Logger
from .settings import WRITERS

_FLUSH_SECONDS = 1.0
_DRAW_SECONDS = 30.0


class MetricsFile(Logger):
    """Writes `metrics.csv`. A run that is resumed writes it again from the history, so rows after the checkpoint are
    dropped. last_good: a phrase that says which checkpoint there is, for errors."""

    def __init__(self, path: Path, last_good: Callable[[], str]) -> None:
        self.path = path
        self._last_good = last_good
        self._file: IO[str] | None = None
        self._history = History(1)
        self._flushed = float("-inf")

    def start(self, run: LoggedRun) -> None:
        """Write the steps so far, and keep the file open for more."""
        self._history = run.history
        write_atomically(self.path, run.history.csv().encode())
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed in `close`)

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Add a row. About once a second, the rows are passed on to the operating system."""
        assert self._file is not None
        self._file.write(self._history.line(step) + "\n")
        seconds = self._history.seconds
        if seconds - self._flushed >= _FLUSH_SECONDS:
            self._flush()
            self._flushed = seconds

    def saved(self, step: int) -> None:
        """Pass all rows on to the operating system."""
        self._flush()

    def _flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise OSError(error.errno, f"cannot write {self.path}: {error.strerror}; {self._last_good()}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # a full disk has been reported already, and the history has every row
                self._file.close()
            self._file = None


class Pictures(Logger):
    """Draws a grid of samples after every epoch, and from time to time the losses and an animation of the grids.
    sample_path: the file of an epoch's grid."""

    def __init__(self, sample_path: Callable[[int], Path], losses: Path, animation: Path) -> None:
        self._sample_path, self._losses, self._animation = sample_path, losses, animation
        self._run: LoggedRun | None = None
        self._drawn = 0.0

    def start(self, run: LoggedRun) -> None:
        """Note the run."""
        self._run, self._drawn = run, time.perf_counter()

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Draw an epoch's samples."""
        if images is not None:
            from tinygan.plotting import save_grid

            assert self._run is not None
            epoch = step // self._run.history.steps_per_epoch
            save_grid(self._sample_path(epoch), images, title=self._run.title(epoch) + self._run.note,
                      columns=self._run.columns)

    def saved(self, step: int) -> None:
        """Draw the rest, if that was some time ago."""
        if time.perf_counter() - self._drawn > _DRAW_SECONDS:
            self.overview()

    def overview(self) -> None:
        """Draw the losses, and the animation of the samples."""
        from tinygan.plotting import animate, save_losses

        assert self._run is not None
        history = self._run.history
        epoch = -(-len(history) // history.steps_per_epoch)
        save_losses(self._losses, history["d_loss"], history["g_loss"], steps_per_epoch=history.steps_per_epoch,
                    title=self._run.title(epoch) + f" of {self._run.settings.epochs}",
                    measures={name: history[name] for name in history.measures})
        pictures = [path for path in map(self._sample_path, range(1, epoch + 1)) if path.is_file()]
        if pictures:
            animate(self._animation, pictures)
        self._drawn = time.perf_counter()


class TensorBoard(Logger):
    """Writes the losses of every step, and the samples of every epoch, for TensorBoard: `tensorboard --logdir RUN`.

    folder: where its files go; by default the folder `tensorboard` in the run's. Needs the package tensorboardX
    (the extra `tensorboard`), but not TensorBoard itself. A run that is resumed hides what was logged after its
    checkpoint.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise RunError("logging for TensorBoard needs the package tensorboardX: "
                           f"{installing('tensorboard')}") from None
        self._open: Callable[..., Any] = SummaryWriter
        self._folder = None if folder is None else Path(folder).expanduser()
        self._writer: Any = None
        self._run: LoggedRun | None = None

    def start(self, run: LoggedRun) -> None:
        """Note the run. The first step opens the file, so that a run that fails before it leaves none."""
        self._run = run

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Write a step."""
        if self._writer is None:
            assert self._run is not None
            # tensorboardX names a file after the second. The suffix keeps a resume in the same second from overwriting it.
            self._writer = self._open(str(self._folder or self._run.folder / "tensorboard"), purge_step=step,
                                      filename_suffix=f".step{step}")
        for name, value in losses.items():
            self._writer.add_scalar(name, value, step)
        if images is not None:
            from tinygan.plotting import draw_grid

            assert self._run is not None
            grid = np.asarray(draw_grid(images, columns=self._run.columns))
            self._writer.add_image("samples", grid, step, dataformats="HW" if grid.ndim == 2 else "HWC")

    def saved(self, step: int) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def writer_of(name: str) -> Logger:
    """The logger that `--log NAME` asks for."""
    return lookup(dict(zip(WRITERS, (TensorBoard,), strict=True)), "Settings", "log", name)()
