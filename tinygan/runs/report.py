"""What a run prints: a progress bar, a line for each epoch, and a summary. (`warnings` has its warnings.)"""
from __future__ import annotations

__all__ = ["Progress", "announcement", "gives_probabilities", "mean_distance", "summary"]

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.data.files import counted
from tinygan.gans import COSTS
from tinygan.progress import is_shown, new_bar

from . import advice
from .history import QUANTITIES, History
from .loggers import Images, LoggedRun, Logger
from .rules import FORMULAS
from .settings import Settings
from .trainable import TrainableGAN, weights_sampled

_HUGE_NUMBER = 1e6  # from which on an exponent is easier to read


class Progress(Logger):
    """Shows the progress of a run: a bar for each epoch if somebody sees it, and a line at the end of each. probabilities:
    see `gives_probabilities`."""

    def __init__(self, images_per_step: int, probabilities: bool = True) -> None:
        self._probabilities = probabilities
        self._images_per_step = images_per_step
        self._bar: Any = None
        self._started = self._shown = 0.0
        self._steps = 0
        self._seconds_per_step: list[float] = []

    def start(self, run: LoggedRun) -> None:
        """Note the run."""
        self._run = run

    def start_epoch(self) -> None:
        """Begin an epoch, or the rest of one."""
        self._started, self._steps = time.perf_counter(), 0
        if not self._run.settings.quiet and is_shown():
            history = self._run.history
            epoch, done = divmod(len(history), history.steps_per_epoch)
            self._show_bar(f"epoch {epoch + 1}/{self._run.settings.epochs}", done, history.steps_per_epoch)

    def _show_bar(self, label: str, done: int, steps: int, leave: bool = False) -> None:
        size = self._images_per_step
        self._bar = new_bar(total=steps * size, initial=done * size, desc=label, unit="img", unit_scale=True, leave=leave,
                            dynamic_ncols=True)

    def log(self, step: int, losses: Mapping[str, float], images: Images | None) -> None:
        """Move the bar on."""
        self._steps += 1
        if self._bar is not None:
            now = time.perf_counter()
            if now - self._shown > 0.1:
                self._shown = now
                values = {name: losses[name] for name in QUANTITIES}
                self._bar.set_postfix_str(_losses(values, self._probabilities), refresh=False)
            self._bar.update(self._images_per_step)

    def _end_bar(self) -> None:
        """An epoch is over, and so is its bar."""
        self.stop()

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def saved(self, step: int) -> None:
        """At the end of an epoch, say its means, its speed, and how long the rest will take."""
        history, epochs = self._run.history, self._run.settings.epochs
        epoch, more = divmod(step, history.steps_per_epoch)
        if more:
            return
        self._end_bar()
        seconds = time.perf_counter() - self._started
        self._seconds_per_step.append(seconds / max(1, self._steps))
        remaining = (epochs - epoch) * history.steps_per_epoch * float(np.mean(self._seconds_per_step[-5:]))
        eta = f", {_duration(remaining)} to go" if epoch < epochs else ""
        speed = self._steps * self._images_per_step / max(seconds, 1e-9)
        losses = _losses(history.mean(epoch), self._probabilities)
        self._say(f"epoch {epoch}/{epochs}  {losses}  {speed:,.0f} images/s{eta}")

    def _say(self, line: str) -> None:
        """Show the line of an epoch."""
        print(line, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self.stop()


def _losses(values: dict[str, float], probabilities: bool) -> str:
    name = "D" if probabilities else "score"
    measures = "".join(f"  {measure} {_number(value, 3)}" for measure, value in values.items() if measure not in QUANTITIES)
    return (f"d_loss {_number(values['d_loss'], 3)}  g_loss {_number(values['g_loss'], 3)}  "
            f"{name}(real) {_number(values['d_real'], 2)}  {name}(fake) {_number(values['d_fake'], 2)}{measures}")


def _number(value: float, decimals: int) -> str:
    """A number of a healthy run with so many decimals; a huge one with three digits and an exponent."""
    return f"{value:.{decimals}f}" if abs(value) < _HUGE_NUMBER else f"{value:.3g}"


def gives_probabilities(gan: TrainableGAN) -> bool:
    """Whether the d_real and d_fake of a GAN's steps are probabilities. They are scores if its cost is one that takes
    scores (see `gans.COSTS`), or one that only the program knows which added it."""
    cost = getattr(gan, "cost", None)
    return not isinstance(cost, str) or (cost in COSTS and COSTS[cost].log_odds)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def mean_distance(images: npt.NDArray[np.float32]) -> float:
    """The mean Euclidean distance over all pairs of images (N, ...)."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat -= flat.mean(axis=0)  # (or equal images would differ by the rounding error of large squares)
    squares = np.square(flat).sum(axis=1)
    between = squares[:, None] + squares - 2 * flat @ flat.T
    pairs = np.triu_indices(len(flat), 1)
    return float(np.sqrt(np.maximum(between[pairs], 0)).mean()) if len(flat) > 1 else 0.0


def announcement(gan: TrainableGAN, dataset: Dataset, settings: Settings, history: History, processes: str,
                 rules: Mapping[str, str]) -> str:
    """What a run begins with: the data, the steps, and where everything goes. processes: what there is to say of several
    ones. rules: the GAN's rules that are not those of the settings."""
    channels, height, width = dataset.image_shape
    size = settings.batch_size * gan.d_steps
    left, made = len(dataset) - history.steps_per_epoch * size, len(history)
    planned = settings.epochs * history.steps_per_epoch
    from_here = ("" if not made else f", from step {made + 1}" if made < planned else
                 ", all of them made (a larger --epochs adds more)")
    unused = f" ({counted(left, 'image')} left out, other ones in each epoch)" if left and not made else ""
    weights = weights_sampled(gan)
    drawn = f"; samples from {weights}" if weights else ""
    told = (f"{settings.title}{_cost(settings)} on {dataset.name}: "
            f"{len(dataset):,} images of {channels} x {height} x {width}; "
            f"{counted(settings.epochs, 'epoch')} of {counted(history.steps_per_epoch, 'step')} of {counted(size, 'image')}"
            f"{unused}{from_here}{drawn}{processes}; everything goes to {settings.run_dir}")
    own = "; ".join(f"{name}: {words}" for name, words in rules.items() if name != FORMULAS)
    return f"{told}\nRules that the program gave the GAN, in place of those of the settings: {own}" if own else told


def _cost(settings: Settings) -> str:
    """The cost, if it is not the usual one of the variant."""
    cost = getattr(settings, "cost", None)
    return f" with --cost {cost}" if cost != getattr(type(settings), "cost", None) else ""


def summary(settings: Settings, paths: dict[str, Path], own: bool, wrong: Collection[str]) -> str:
    """Where the files are, and how to continue. own: whether only the user's program can build the run's networks. wrong:
    the kinds of the run's warnings (see `warnings`)."""
    width = max(len(name) for name in paths)
    lines = [f"  {name:<{width}}  {path}" for name, path in paths.items()]
    longer = advice.resume(settings, 2 * settings.epochs)
    if "diverged" in wrong:
        then = "More epochs will not help: the training has diverged. Start another run, with a lower learning rate"
    elif {"won", "alike", "unequal"} & set(wrong):
        then = f"Other settings need another run, with another --run-dir. Train it longer with these:  {longer}"
    else:
        then = f"Train it longer: {longer}"
    return "\n".join(["The run is complete.", *lines, f"Sample from it:  {advice.sample(settings, own)}", then])
