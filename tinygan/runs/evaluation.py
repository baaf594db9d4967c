"""How good a run's images are, over its epochs: `quality.json` and `quality.png`."""
from __future__ import annotations

__all__ = ["Evaluation", "Examiner"]

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.data import Dataset, load
from tinygan.random import Key
from tinygan.saving import write_atomically

from .errors import RunError
from .variants import GAN

_CHUNK = 1000


class Examiner:
    """Compares a GAN's images with digits: as many as there are test images. These are measured themselves, too: no
    generator needs to do better than they do."""

    def __init__(self, train: Dataset, data_dir: str | None) -> None:
        from tinygan import metrics

        test = load(data_dir, split="test")
        try:
            classifier = metrics.digit_classifier(train, test)
        except ValueError as error:
            raise RunError(f"only digits can be evaluated: {error}") from error
        self._judge = metrics.Judge(classifier, train)
        self.about: dict[str, Any] = {"data": train.name, "images": len(test), "classifier_accuracy": classifier.accuracy}
        self.floor = _rounded(self._judge(test.batch(np.arange(len(test)))))

    def examine(self, gan: GAN, key: Key) -> dict[str, float]:
        """The measures of images whose latent vectors are drawn from `key`, by name."""
        z = gan.latent(self.about["images"], key)
        images = np.concatenate([gan.sample(z=z[start:start + _CHUNK]) for start in range(0, len(z), _CHUNK)])
        if not np.isfinite(images).all():
            raise RunError("the generator makes images that are not finite")
        return _rounded(self._judge(images))


class Evaluation:
    """A run's record of examinations. A run that goes on after `done` epochs keeps those of so many."""

    def __init__(self, path: Path, examiner: Examiner, key: Key, title: str, done: int) -> None:
        self._path, self._examiner, self._key, self._title = path, examiner, key, title
        self._rows: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            self._rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["epochs"] if row["epoch"] <= done]

    def add(self, gan: GAN, epoch: int) -> None:
        """Examine the GAN as it is after `epoch`, unless that has been done."""
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
