"""All measures of a generator of digits at once: modes, scores, distances, bins."""
from __future__ import annotations

__all__ = ["Judge", "Quality"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.metrics.digits import CLASSES, DigitClassifier
from tinygan.metrics.images import fit_bins, frechet_distance, inception_score, kernel_distance, precision_recall
from tinygan.metrics.modes import label_coverage
from tinygan.random import Key, as_key

BINS = 100
NEIGHBOUR = 3
_CONSTANT = 0.01  # a feature with a smaller share of the largest deviation is as good as constant


class Quality(NamedTuple):
    """The quality of a set of images, compared with the training images.

    modes: the number of digits that occur. confidence: the classifier's mean confidence in them (`digits.Seen`). kl: the
    divergence of the digits from uniform, in nats. score: the inception score, from 1 to 10. frechet, kernel: distances
    between features, which are scaled to variance 1 on the training images, but for those that are nearly constant there;
    kernel is multiplied by 1,000. precision, recall: with the 3rd nearest neighbour. bins: how many of 100 bins have a
    significantly different share."""

    modes: int
    confidence: float
    kl: float
    score: float
    frechet: float
    kernel: float
    precision: float
    recall: float
    bins: int


class Judge:
    """Compares images with a data set of digits. `judge(images)` takes (N, 1, 28, 28), float32 in [-1, 1].

    The distances use all training images. Precision and recall depend on the numbers of samples, so they use as many
    training images as there are images. Compare only results from the same number of images.
    """

    def __init__(self, classifier: DigitClassifier, train: Dataset, key: Key | None = None) -> None:
        key = as_key("Judge", key, Key(0))
        self.classifier = classifier
        images = train.batch(np.arange(len(train)))
        features = classifier(images).features
        # The scale of the classifier's features means nothing. With variance 1, distances have a meaningful scale. A feature
        # that is 0 for nearly all training images has no scale: divided by it, a single image would outweigh all others.
        deviation = features.std(axis=0, dtype=np.float64)
        self._scale = np.where(deviation > _CONSTANT * deviation.max(), deviation, 1).astype(np.float32)
        self._features = features / self._scale
        self._order = key.fold("reference").permutation(len(train))
        self._bins = fit_bins(images, min(BINS, len(train)), key.fold("bins"))

    def __call__(self, images: npt.NDArray[Any]) -> Quality:
        seen = self.classifier(images)
        seen.warn()
        coverage = label_coverage(seen.labels, CLASSES, seen.confidence)
        features, some = seen.features / self._scale, self._features[self._order[:len(images)]]
        near = precision_recall(some, features, NEIGHBOUR)
        return Quality(
            coverage.modes, seen.confidence, coverage.kl, inception_score(seen.probabilities),
            frechet_distance(self._features, features), 1000 * kernel_distance(some, features),
            near.precision, near.recall, self._bins.compare(images).different,
        )
