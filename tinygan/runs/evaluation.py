"""The quality of a run's images over its epochs: `quality.json` and `quality.png`."""
from __future__ import annotations

__all__ = ["Evaluation", "Examiner"]

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.data import DataError, Dataset, load
from tinygan.progress import bar, chunks
from tinygan.random import Key
from tinygan.saving import write_atomically

from .errors import RunError
from .trainable import TrainableGAN

_CHUNK = 1000


class Examiner:
    """Compares a GAN's images with digits. It measures as many images as there are test images. The test images are measured
    in the same way, as a reference: a generator need not be better than they are.

    Raises RunError or DataError at once for data that cannot be evaluated. `prepare` trains the classifier, if it is not in
    the cache, and measures the test images. That may take minutes.
    """

    def __init__(self, train: Dataset, data_dir: str | None) -> None:
        from tinygan.metrics import digits

        try:
            self._train, self._test = train, load(data_dir, split="test")
        except DataError as error:
            raise DataError(f"{train.name} cannot be evaluated: {error}") from error
        try:
            digits.refuse_others(train, self._test)
        except ValueError as error:
            raise RunError(f"only digits can be evaluated: {error}") from error
        if self._test.name != train.name:
            raise RunError(f"{train.name} cannot be evaluated: the test images found are those of {self._test.name} "
                           "(--data-dir, in Python data_dir, names the folder of both)")
        self.about: dict[str, Any] = {"data": train.name, "images": len(self._test)}
        self.floor: dict[str, float] = {}

    def prepare(self) -> Examiner:
        """Prepare all that `examine` needs. A second call does nothing."""
        from tinygan import metrics

        if not self.floor:
            classifier = metrics.digit_classifier(self._train, self._test)
            with bar("preparing the evaluation", 2, "stage") as move:
                self._judge = metrics.Judge(classifier, self._train)
                move(1)
                self.floor = _rounded(self._judge(self._test.batch(np.arange(len(self._test)))))
                move(1)
            self.about["classifier_accuracy"] = classifier.accuracy
        return self

    def examine(self, gan: TrainableGAN, key: Key) -> dict[str, float]:
        """The measures by name, for images whose latent vectors are drawn from `key`."""
        self.prepare()
        z = gan.latent(self.about["images"], key)
        with bar("evaluating", 2, "stage") as move:
            images = np.concatenate([gan.sample(z=z[part]) for part in chunks(len(z), _CHUNK, "sampling")])
            if not np.isfinite(images).all():
                raise RunError("the generator makes images that are not finite")
            move(1)
            found = _rounded(self._judge(images))
            move(1)
        return found


class Evaluation:
    """The record of a run's evaluations. If the run is resumed after `done` epochs, the record of these epochs is kept."""

    def __init__(self, path: Path, examiner: Examiner, key: Key, title: str, done: int) -> None:
        self._path, self._examiner, self._key, self._title = path, examiner, key, title
        self._rows: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            self._rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["epochs"] if row["epoch"] <= done]

    def add(self, gan: TrainableGAN, epoch: int) -> None:
        """Examine the GAN after `epoch`, unless that epoch is already in the record."""
        from tinygan.plotting import save_quality

        if any(row["epoch"] == epoch for row in self._rows):
            return
        row = {"epoch": epoch, **self._examiner.examine(gan, self._key)}
        self._rows.append(row)
        examiner = self._examiner
        record = {**examiner.about, "floor": examiner.floor, "epochs": self._rows}
        write_atomically(self._path, (json.dumps(record, indent=2) + "\n").encode())
        save_quality(self._path.with_suffix(".png"), self._rows, examiner.floor, title=f"{self._title}, epoch {epoch}; "
                     f"classifier {examiner.about['classifier_accuracy']:.2%}")


def _rounded(quality: Any) -> dict[str, float]:
    return {name: value if isinstance(value, int) else float(f"{value:.5g}") for name, value in quality._asdict().items()}
