"""The one training loop.

    python examples/vanilla_mnist.py        and        tinygan train vanilla

both call `train`. It decides the order of the data, keeps the run folder and prints the progress. The GAN decides what a
step is.
"""
from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .data import Dataset
from .data.feeding import Feeder
from .devices import device as find_device
from .devices import matmul_precision
from .distributed import join
from .launched import first_speaks
from .progress import hidden
from .random import Key
from .runs import advice, report
from .runs.errors import DivergedError, Interrupted, RunError
from .runs.evaluation import Evaluation, Examiner
from .runs.flags import Parser
from .runs.folder import RunFolder, refuse_moved_data, refuse_occupied, refuse_other_data, refuse_own_samples_as_data
from .runs.guarding import guarded
from .runs.history import QUANTITIES, History, Row
from .runs.labels import refuse_labels, takes_labels
from .runs.loggers import Log, LoggedRun, Logger, Loggers, loggers_of
from .runs.notebook import progress_of
from .runs.opening import OpenedRun, open_run, own_networks, untrained
from .runs.previews import PREVIEWS, inputs, inputs_of_run, layout, picture
from .runs.report import Progress
from .runs.rules import own_rules
from .runs.settings import Settings, add_flags, complete
from .runs.signals import Signals
from .runs.stepping import step_of
from .runs.team import Follower, Team
from .runs.trainable import TrainableGAN, weights_sampled
from .runs.variants import (
    VARIANTS,
    ConditionalSettings,
    DCGANSettings,
    DiscoGANSettings,
    InfoGANSettings,
    MinibatchSettings,
    ModernSettings,
    UnrolledSettings,
    VanillaSettings,
    Variant,
    WGANGPSettings,
    find,
)
from .runs.warnings import EARLY, Alarm, warnings_of_run
from .runs.writers import MetricsFile, Pictures, TensorBoard, writer_of
from .teaching import Recorder
from .teaching.recorder import recorder_of_run
from .teaching.records import discard_after

__all__ = ["ConditionalSettings", "DCGANSettings", "DiscoGANSettings", "DivergedError", "History", "InfoGANSettings",
           "Interrupted", "LoggedRun", "Logger", "MinibatchSettings", "ModernSettings", "OpenedRun", "Recorder", "RunError",
           "Settings", "TensorBoard", "UnrolledSettings", "VARIANTS", "VanillaSettings", "Variant", "WGANGPSettings",
           "main", "open_run", "train", "untrained"]

_SAVE_SECONDS = 600.0
_READ_SECONDS, _READ_STEPS = 0.2, 256  # the losses are read from a GPU at least this often


def train(gan: TrainableGAN, dataset: Dataset, settings: Settings, *, show: str | None = None,
          log: Logger | Log | Iterable[Logger | Log] = ()) -> History:
    """Train `gan` on `dataset` up to `settings.epochs` epochs, keeping everything in `settings.run_dir`.

    An epoch is one pass over the data, in an order that is drawn for that epoch. A step takes d_steps * batch_size images.
    show: "notebook" shows the progress as a bar, the losses and the samples, each changed in place; "terminal" as text.
    None: what suits the place. log: what else is told the losses and images (see `Logger`).

    Returns the losses of all steps. On Ctrl-C or SIGTERM, saves after the current step and raises `Interrupted`. Raises
    `DivergedError` if a loss or weight is not finite, and `RunError` or `OSError` if the folder or the settings cannot be
    used.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError("train: dataset should be a Dataset, such as tinygan.data.load(...) or tinygan.data.Dataset(name, "
                        f"images, labels, checksum), got {type(dataset).__name__}")
    if not isinstance(settings, Settings):
        raise TypeError(f"train: settings should be Settings, such as tinygan.training.Settings(run_dir=...), got "
                        f"{type(settings).__name__}")
    team = Team.of(gan)
    with team.taking_in(gan, settings):
        return _train(gan, dataset, settings, team, show, log)


def _train(gan: TrainableGAN, dataset: Dataset, settings: Settings, team: Team, show: str | None,
           log: Logger | Log | Iterable[Logger | Log]) -> History:
    whole, dataset = dataset, dataset.limit(settings.limit_train)
    per_step = gan.d_steps * settings.batch_size
    steps = len(dataset) // per_step
    if steps == 0:
        refuse_other_data(settings, dataset)
        limited = ", with --limit-train" if len(dataset) < len(whole) else ""
        raise RunError(f"{dataset.name} has {len(dataset)} images{limited}; a step takes {per_step} (d_steps {gan.d_steps} "
                       f"* batch size {settings.batch_size}): lower --batch-size")
    settings = settings.suited(whole)
    # All checks of the arguments come first, before the folder is made.
    if team.leads:
        refuse_occupied(settings)
    refuse_own_samples_as_data(settings, dataset)
    history = History(steps, getattr(gan, "measures", ()))  # (a class of a user's own need not have it)
    loggers = [*([] if settings.log is None else [writer_of(settings.log)]), *loggers_of(log)]
    progress = progress_of(show, settings, per_step, report.gives_probabilities(gan))
    backend = find_device(settings.device)
    gan.to(backend.name)
    if not settings.resume:
        _refuse_other_images(gan, dataset)
    refuse_labels(gan, dataset)
    examiner = settings.examiner(whole, settings.data_dir) if settings.evaluate is not None and team.leads else None
    by_command = advice.origin().kind == "command"  # then the settings have made the GAN
    rules = {} if by_command else own_rules(gan, settings, dataset.image_shape)
    own = {} if by_command else own_networks(gan, settings, dataset.image_shape, rules or {})
    # NumPy need not warn about overflow, because the loop checks every loss, and all weights before it saves them.
    team.agree(dataset, settings, backend.name)
    with (RunFolder(settings, dataset, backend.name, steps, own, rules) if team.leads else Follower(settings) as folder,
          np.errstate(over="ignore", invalid="ignore"), matmul_precision(settings.precision or "float32"),
          hidden(settings.quiet)):
        try:
            if examiner is not None:
                examiner.prepare()
            with Signals() as signals:
                folder.load(gan, history)
                team.follow(gan, history)
                for note in folder.notes:
                    print(f"Note: {note}.", file=sys.stderr)
                if isinstance(folder, RunFolder):
                    discard_after(folder.recording, len(history))
                    print(report.announcement(gan, dataset, settings, history, team.told(), rules or {}), flush=True)
                with _Run(gan, dataset, settings, history, folder, progress, loggers, examiner, bool(own), team) as run:
                    run.evaluate()  # in case the run was killed just before an evaluation
                    while len(history) < settings.epochs * steps:
                        run.epoch(signals)
                if team.leads:
                    run.finish()
        except BaseException:
            if not len(history):
                folder.vacate()
            raise
    return history


def _refuse_other_images(gan: TrainableGAN, dataset: Dataset) -> None:
    """Refuse a generator whose images have another shape than the data. If the generator raises an error, it does so
    here."""
    shape = gan.sample(z=inputs(gan, dataset, 2, Key(0))).shape[1:]
    if shape != dataset.image_shape:
        raise RunError(f"the generator makes images of shape {shape}, but those of {dataset.name} have shape "
                       f"{dataset.image_shape}")


class _Run:
    """The part of a run that this process makes. It continues from the end of the history, epoch by epoch."""

    def __init__(self, gan: TrainableGAN, dataset: Dataset, settings: Settings, history: History, folder: Any,
                 progress: Progress, loggers: Sequence[Logger], examiner: Examiner | None, own: bool, team: Team) -> None:
        key = Key(settings.seed)
        self._order = key.fold("data")
        self._previews = inputs_of_run(gan, dataset, settings.seed)
        self._gan, self._dataset, self._settings = gan, dataset, settings
        self._history, self._folder, self._own, self._team = history, folder, own, team
        self._per_step = gan.d_steps * settings.batch_size
        backend = find_device(settings.device)
        self._feeder = Feeder(dataset, backend, takes_labels(gan))
        self._waits = backend.name == "cpu"  # whether a step waits until its losses are computed
        self._round = step_of(gan, settings.capture, on_cpu=self._waits)
        if settings.record:
            self._round = recorder_of_run(folder.recording if team.leads else None, gan, dataset, self._round, key,
                                          history.steps_per_epoch, len(history))
        self._checked = False  # whether all processes have been found to have the same weights after a step
        self._unread: list[tuple[Any, float]] = []  # steps whose losses are still on the GPU
        self._read = 0.0
        self._progress = progress
        self._loggers = Loggers([])
        if team.leads:
            self._pictures = Pictures(folder.sample_path, folder.losses, folder.animation)
            self._loggers = Loggers([MetricsFile(folder.metrics, folder.last_good), self._pictures, progress, *loggers])
        self._earlier, self._started = history.seconds, time.perf_counter()
        self._saved = self._started
        self._real = dataset.batch(np.arange(min(PREVIEWS, len(dataset))))
        self._warned: set[str] = set()
        self._evaluation = None
        if examiner is not None:
            title = f"{settings.title} on {dataset.name}"
            self._evaluation = Evaluation(folder.quality, examiner, key.fold("evaluation"), title,
                                          len(history) // history.steps_per_epoch)

    def __enter__(self) -> _Run:
        columns, note = layout(self._gan, self._previews)
        weights = weights_sampled(self._gan)
        with contextlib.ExitStack() as failed:
            failed.callback(self._loggers.close)
            self._loggers.start(LoggedRun(self._folder.path, self._settings, self._dataset.name, self._history, columns,
                                          (f", {weights}" if weights else "") + note))
            failed.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._loggers.close()

    def epoch(self, signals: Signals) -> None:
        """Make the rest of the current epoch, then its samples and the checkpoint."""
        history, steps = self._history, self._history.steps_per_epoch
        epoch, done = divmod(len(history), steps)
        order = self._order.fold(epoch).permutation(len(self._dataset))
        own = self._team.share(order[done * self._per_step:], self._per_step, self._gan.d_steps)
        self._saved = time.perf_counter()
        if self._team.leads:
            self._progress.start_epoch()
        for i, batch in enumerate(self._feeder.arguments(*own), start=done):
            self._step(*batch)
            if not self._checked:
                self._team.refuse_other_weights(self._gan, len(history))
                self._checked = True
            last = i == steps - 1
            caught, save = self._team.heard(signals.caught, time.perf_counter() - self._saved > _SAVE_SECONDS)
            if caught is not None and not last:
                self._settle()
                self._interrupt(caught)
            if save and not last:
                self._settle()
                self._save(self._finite_state())
        self._settle()
        self._end_epoch()
        self.evaluate()
        caught, _ = self._team.heard(signals.caught, False)
        if caught is not None:
            self._interrupt(caught, saved=True)

    def _end_epoch(self) -> None:
        """Log the epoch's last step, with its images, and save. So every saved epoch has its samples."""
        state = self._gan.state_dict()
        self._team.refuse_other_weights(self._gan, len(self._history))
        broken = self._broken(state)
        self._loggers.log(len(self._history), self._history.last(),
                          None if broken else picture(self._gan, self._previews)[0])
        if broken:
            raise DivergedError(broken, self._team.size > 1)
        self._save(state)
        if self._team.leads and len(self._history) < self._settings.epochs * self._history.steps_per_epoch:
            for warning in self._warnings():  # once, when it begins; `finish` tells what holds at the end
                if warning.kind not in {*self._warned, EARLY}:
                    self._warned.add(warning.kind)
                    print(warning, file=sys.stderr)

    def _warnings(self) -> list[Alarm]:
        """What is wrong after the last epoch, or has been since an earlier one."""
        columns = {name: self._history[name] for name in QUANTITIES}
        return warnings_of_run(self._gan, columns, self._history.steps_per_epoch, self._gan.sample(z=self._previews),
                               self._real)

    def evaluate(self) -> None:
        """Measure the quality of the images, every `settings.evaluate` epochs."""
        epoch, more = divmod(len(self._history), self._history.steps_per_epoch)
        if self._evaluation is not None and epoch and not more and epoch % (self._settings.evaluate or 1) == 0:
            self._evaluation.add(self._gan, epoch, self._history.mean(epoch)["d_loss"])

    def _step(self, *batch: Any) -> None:
        stats, now = self._round(*batch), time.perf_counter()
        self._unread.append((stats, self._earlier + now - self._started))
        # Several processes read after the same steps, so that all notice a divergence at once.
        late = self._team.world is None and now - self._read > _READ_SECONDS
        if self._waits or late or len(self._unread) >= _READ_STEPS:
            self._settle()

    def _settle(self) -> None:
        """Read the losses of all steps started so far. On a GPU this waits for them."""
        unread, self._unread = self._unread, []
        for stats, seconds in unread:
            measures = tuple(float(getattr(stats, name)) for name in self._history.measures)
            self._append(Row(float(stats.d_loss), float(stats.g_loss), float(stats.d_real), float(stats.d_fake), seconds,
                             measures))
        self._read = time.perf_counter()

    def _append(self, row: Row) -> None:
        """Note a step, and log it unless it is the last one of an epoch (see `_end_epoch`)."""
        history = self._history
        history.append(row)
        epoch, more = divmod(len(history), history.steps_per_epoch)
        broken = row.broken()
        if more or broken:
            self._loggers.log(len(history), history.last(), None)
        if broken:
            raise DivergedError(f"step {len(history)} (epoch {epoch + (more > 0)}): {broken}; {self._last_good()}",
                                self._team.size > 1)

    def _broken(self, state: dict[str, npt.NDArray[Any]]) -> str | None:
        """A message if the state is not finite: the last update may have made weights infinite, which no loss has shown
        yet."""
        for name, values in state.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"step {len(self._history)}: {name} holds NaN or infinity; {self._last_good()}"
        return None

    def _last_good(self) -> str:
        return (f"{self._folder.last_good()}. A new run with a lower --learning-rate may go well: "
                "docs/how-to/when-training-fails.md says more")

    def _finite_state(self) -> dict[str, npt.NDArray[Any]]:
        """The GAN's state, to be saved. Raises DivergedError if it is not finite."""
        state = self._gan.state_dict()
        broken = self._broken(state)
        if broken:
            raise DivergedError(broken, self._team.size > 1)
        return state

    def _save(self, state: dict[str, npt.NDArray[Any]]) -> None:
        self._folder.save(state, self._history)
        self._loggers.saved(len(self._history))
        self._saved = time.perf_counter()

    def _interrupt(self, number: int, saved: bool = False) -> None:
        self._progress.stop()
        if not saved:
            self._save(self._finite_state())
        if self._team.leads:
            print(f"Stopped and saved after step {len(self._history)}. Go on with:  {advice.resume(self._settings)}",
                  flush=True)
            self._pictures.overview()
        raise Interrupted(number)

    def finish(self) -> None:
        """Draw the figures, and print how the run ended and where its files are."""
        self._pictures.overview()
        alarms = self._warnings()
        for alarm in alarms:
            print(alarm, file=sys.stderr)
        folder = self._folder
        last = folder.sample_path(self._settings.epochs)
        print(report.summary(self._settings, {
            "samples": last.parent, "last sample": last, "animation": folder.animation, "losses": folder.losses,
            "metrics": folder.metrics, "checkpoint": folder.checkpoint}, self._own,
            {alarm.kind for alarm in alarms}), flush=True)


def main(body: Callable[[Any], object], variant: str, arguments: Sequence[str] | None = None, *,
         program: str | None = None) -> int:
    """The main function of a training script: parse the flags, call `body(settings)`, and print errors as one clear line.

    body: a function that loads the data, makes the GAN and calls `train`. variant: whose flags and settings the script has,
    such as "vanilla" (see `VARIANTS`). arguments: the flags, such as ["--epochs", "3"]. None: those of the command line; in
    a notebook, none.

    Returns the exit status: 0, 2 for an error that the user can correct, 1 for a loss that is not finite, 130 and 143 for
    Ctrl-C and SIGTERM, 141 if the reader of its output has closed the pipe (`| head -1`).
    """
    first_speaks()
    chosen = find(variant)
    listed = advice.given_arguments(arguments)
    kind: advice.Start = "command" if program is not None else "script" if listed is None else "main"
    parser = Parser(prog=program or ("training.main" if kind == "main" else None),
                    description=f"Train a {chosen.settings.title}.")
    add_flags(parser, chosen.settings)
    try:
        given = vars(parser.parse_args(listed))
    except SystemExit as ended:  # argparse's way to say that a flag is wrong, or that it has printed the help
        if kind == "main":  # (a cell of a notebook need not know of it)
            return int(ended.code or 0)
        raise
    with advice.started(advice.Origin(kind, getattr(body, "__name__", "main"))):
        return guarded(lambda: _start(body, chosen, given))


def _start(body: Callable[[Any], object], variant: Variant, given: dict[str, Any]) -> None:
    def chosen() -> Settings:
        settings = complete(variant.settings, given)
        refuse_occupied(settings)  # before the data are loaded or downloaded
        if settings.resume and given.get("data_dir") is None:
            refuse_moved_data(settings.run_dir, settings.data_dir)
        return settings

    settings = Team(join()).settle(chosen)
    find_device(settings.device)
    body(settings)
