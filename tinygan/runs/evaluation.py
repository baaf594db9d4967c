"""The quality of a run's images over its epochs: `quality.json` and `quality.png`."""
from __future__ import annotations

__all__ = ["ClassExaminer", "CodeExaminer", "Evaluation", "Examiner", "TranslationExaminer", "category_error"]

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.cache import say
from tinygan.data import DOMAINS, DataError, Dataset, load, two_domains
from tinygan.progress import bar, chunks
from tinygan.random import Key
from tinygan.saving import write_atomically
from tinygan.tables import lookup

from .errors import RunError
from .trainable import TrainableGAN, sampler, weights_sampled

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
            digits.refuse_others(train)
            self.train, self.test = train, load(data_dir, split="test")
            digits.refuse_others(self.test)
        except DataError as error:
            raise DataError(f"{train.name} cannot be evaluated: {error}") from error
        except ValueError as error:
            raise RunError(f"{train.name} cannot be evaluated: {error}") from error
        if self.test.name != train.name:
            raise RunError(f"{train.name} cannot be evaluated: the test images found are those of {self.test.name} "
                           "(--data-dir, in Python data_dir, names the folder of both)")
        self.about: dict[str, Any] = {"data": train.name, "images": len(self.test)}
        self.floor: dict[str, float] = {}

    def prepare(self) -> Examiner:
        """Prepare all that `examine` needs. A second call does nothing."""
        from tinygan import metrics

        if not self.floor:
            classifier = metrics.digit_classifier(self.train, self.test)
            with bar("preparing the evaluation", 2, "stage") as move:
                self._judge = metrics.Judge(classifier, self.train)
                move(1)
                self.floor = _rounded(self._judge(self.test.batch(np.arange(len(self.test)))))
                move(1)
            self.about.update(classifier_accuracy=classifier.accuracy, classifier_version=classifier.version)
        return self

    def examine(self, gan: TrainableGAN, key: Key, averaged: bool = True) -> dict[str, float]:
        """The measures by name, for images whose latent vectors are drawn from `key`. averaged: see `sampler`."""
        self.prepare()
        sample = sampler(gan, averaged)
        z = gan.latent(self.about["images"], key)
        with bar("evaluating", 2, "stage") as move:
            images = np.concatenate([sample(z=z[part]) for part in chunks(len(z), _CHUNK, "sampling")])
            if not np.isfinite(images).all():
                raise RunError("the generator makes images that are not finite")
            move(1)
            found = _rounded(self._judge(images)) | self._more(gan, z, images)
            move(1)
        return found

    def _more(self, gan: Any, z: Any, images: Any) -> dict[str, float]:
        """Further measures of the images of z."""
        return {}


class ClassExaminer(Examiner):
    """An Examiner of a GAN that takes labels. It also measures `asked`: the share of images that the classifier reads as the
    digit that was asked for. Every digit is asked for equally often."""

    def prepare(self) -> ClassExaminer:
        """Prepare all that `examine` needs. A second call does nothing."""
        super().prepare()
        self.floor.setdefault("asked", float(f"{self._judge.classifier.accuracy:.5g}"))
        return self

    def _more(self, gan: Any, z: Any, images: Any) -> dict[str, float]:
        read = self._judge.classifier(images).labels
        return {"asked": float(f"{(read == gan.labels_of(z)).mean():.5g}")}


class CodeExaminer(Examiner):
    """Measures also how well the first categorical code of an InfoGAN tells the digits apart: `category_error`, the share of
    test images whose most probable category is not matched with their digit (see `metrics.match_categories`). It is shown
    beside the error of the classifier, which was trained with labels."""

    def prepare(self) -> Examiner:
        """Prepare all that `examine` needs. A second call does nothing."""
        super().prepare()
        self.floor["category_error"] = float(f"{1 - self.about['classifier_accuracy']:.5g}")
        return self

    def examine(self, gan: Any, key: Key, averaged: bool = True) -> dict[str, float]:
        """The measures by name. The arguments are those of `Examiner.examine`."""
        return {**super().examine(gan, key, averaged), "category_error": float(f"{category_error(gan, self.test):.5g}")}


def category_error(gan: Any, test: Dataset) -> float:
    """The share of the test images, from 0 to 1, that the first categorical code of an InfoGAN puts into another category
    than the one that is matched with their digit. The matching is made with the labels of the same images, as in the
    paper."""
    from tinygan import metrics

    assert test.labels is not None
    probabilities = gan.read(test.batch(np.arange(len(test))))[0][0]
    return metrics.match_categories(probabilities.argmax(1), test.labels, probabilities.shape[1]).error


class TranslationExaminer:
    """Measures how many test digits keep their class in translations between A and B: `metrics.Kept`, beside the
    classifier's accuracy on the untranslated ones. It knows grey digits, so B's images are changed back first. The arguments
    and errors are those of `Examiner`; train: a data set of `two_domains`, domains: the name of B."""

    def __init__(self, train: Dataset, data_dir: str | None, domains: str) -> None:
        try:
            digits = load(data_dir)
        except DataError as error:
            raise DataError(f"{train.name} cannot be evaluated: {error}") from error
        self._domain = lookup(DOMAINS, "TranslationExaminer", "domains", domains)
        self._digits = Examiner(digits, data_dir)
        self._test = two_domains(self._digits.test, domains, Key(0))
        if train.name != f"{digits.name} and {domains}":
            raise RunError(f"{train.name} cannot be evaluated: the digits found are {digits.name}")
        self.about: dict[str, Any] = {"data": train.name, "images": len(self._test)}
        self.floor: dict[str, float] = {}

    def prepare(self) -> TranslationExaminer:
        """Prepare all that `examine` needs. A second call does nothing."""
        from tinygan import metrics

        if not self.floor:
            self._classifier = metrics.digit_classifier(self._digits.train, self._digits.test)
            pairs = self._test.batch(np.arange(len(self._test)))
            a, b = pairs[:, :1], pairs[:, 1:]
            changed = self._domain.change(self._test.images[:, :1], Key(0)).astype(np.float32) / 127.5 - 1
            self.floor = self._kept([a, changed, a, b, self._domain.undo(b), b])  # what a perfect translation makes
            self.about.update(classifier_accuracy=self._classifier.accuracy, classifier_version=self._classifier.version)
        return self

    def examine(self, gan: Any, key: Key, averaged: bool = True) -> dict[str, float]:
        """The measures by name, for a GAN that translates. All test digits are translated, so `key` plays no part.
        averaged: see `sampler`."""
        self.prepare()
        with bar("evaluating", 2, "stage") as move:
            parts = [gan.cycles(self._test.batch(np.arange(part.start, part.stop)), averaged=averaged)
                     for part in chunks(len(self._test), _CHUNK, "translating")]
            move(1)
            found = self._kept([np.concatenate(images) for images in zip(*parts, strict=True)])
            move(1)
        return found

    def _kept(self, cycles: list[Any]) -> dict[str, float]:
        from tinygan import metrics

        if not all(np.isfinite(images).all() for images in cycles):
            raise RunError("the generators make images that are not finite")
        assert self._test.labels is not None
        return _rounded(metrics.kept_classes(self._classifier, cycles, self._test.labels, self._domain.undo))


class Evaluation:
    """The record of a run's evaluations. If the run is resumed after `done` epochs, the record of these epochs is kept. A
    record made with another version of the classifier is moved to a file of its own: its numbers cannot be compared."""

    def __init__(self, path: Path, examiner: Examiner | TranslationExaminer, key: Key, title: str, done: int) -> None:
        from tinygan.metrics import digits

        self._path, self._examiner, self._key, self._title = path, examiner, key, title
        self._rows: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            record = json.loads(path.read_text(encoding="utf-8"))
            version = record.get("classifier_version", 1)  # the first version did not write its number
            if version == digits.VERSION:
                self._rows = [row for row in record["epochs"] if row["epoch"] <= done]
            else:
                old = path.with_name(f"{path.stem}-classifier{version}{path.suffix}")
                path.replace(old)
                say(f"{old}: the evaluations with version {version} of the classifier of digits. {path.name} starts again, "
                    f"with version {digits.VERSION}")

    def add(self, gan: TrainableGAN, epoch: int, d_loss: float) -> None:
        """Examine the GAN after `epoch`, unless that epoch is already in the record. d_loss: the mean of the discriminator's
        loss over the epoch, for the record."""
        from tinygan.plotting import save_quality

        if any(row["epoch"] == epoch for row in self._rows):
            return
        row = {"epoch": epoch, **self._examiner.examine(gan, self._key), "d_loss": float(f"{d_loss:.5g}")}
        self._rows.append(row)
        examiner, weights = self._examiner, weights_sampled(gan)
        about = {**examiner.about, **({"generator": weights} if weights else {})}
        record = {**about, "floor": examiner.floor, "epochs": self._rows}
        write_atomically(self._path, (json.dumps(record, indent=2) + "\n").encode())
        save_quality(self._path.with_suffix(".png"), self._rows, examiner.floor, title=f"{self._title}, epoch {epoch}"
                     f"{', ' + weights if weights else ''}; classifier {examiner.about['classifier_accuracy']:.2%}")


def _rounded(quality: Any) -> dict[str, float]:
    return {name: value if isinstance(value, int) else float(f"{value:.5g}") for name, value in quality._asdict().items()}
