"""The classifier whose features and labels measure the quality of digits: a small convolutional network, trained here."""
from __future__ import annotations

__all__ = ["DigitClassifier", "Seen", "digit_classifier", "train_classifier"]

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan import nn, saving
from tinygan.cache import cache_folder, say
from tinygan.context import no_grad
from tinygan.data import Dataset
from tinygan.graph import grad
from tinygan.metrics.changes import changed, changed_sets, without_digits
from tinygan.metrics.modes import LabelCoverage, label_coverage
from tinygan.ops import add, log_softmax, mean, mul, neg, softmax, softmax_cross_entropy
from tinygan.optim import Adam, cosine_decay
from tinygan.progress import chunks
from tinygan.random import Key, as_key, use_key

Array = npt.NDArray[Any]

FEATURES = 128
CLASSES = 10
EPOCHS = 8
_BATCH = 128
_LOOK = 500
_RATE = 2e-3
_SHARE = 0.5  # of the images that get a change
_OTHERS = 8  # beside so many digits there is one image without a digit
_WEIGHT = 0.5  # of these images in the loss, as in the paper
VERSION = 2  # of the network and its training; change it whenever the weights would change
LOW_CONFIDENCE = 0.9
"""A mean confidence below this is warned of. It was chosen with a classifier that was trained for three epochs on 50,000
of MNIST's training images, from seed 1000. Its mean confidence was 0.99 on test images, 0.98 or more on those with one
change, and 0.95 on those with all changes; 0.84 to 0.89 on pairs of digits laid over each other, 0.1 on noise, and 0.1 to
0.57 on images of generators in their first 500 steps. The classifier that is used (eight epochs, all images, Key(0)) has
0.995 on test images, 0.99 or more with one change, and 0.98 with all."""


class Seen(NamedTuple):
    """The classifier's results for images: features (N, 128) of its last hidden layer, class probabilities (N, 10)."""

    features: Array
    probabilities: Array

    @property
    def labels(self) -> Array:
        """The most probable class of each image, (N,)."""
        return self.probabilities.argmax(1)

    @property
    def confidence(self) -> float:
        """The mean, over the images, of the largest probability: from 0.1 to 1."""
        return float(self.probabilities.max(1).mean(dtype=np.float64))

    def warn(self) -> None:
        """Print a warning on stderr if the confidence is below LOW_CONFIDENCE."""
        if self.confidence < LOW_CONFIDENCE:
            say("many of these images are not clearly digits: the classifier's mean confidence is "
                f"{self.confidence:.3f}, below {LOW_CONFIDENCE}. Its counts of digits and modes are "
                "uncertain, and so are distances, precision and recall")


class DigitClassifier(NamedTuple):
    """body: images (N, 1, 28, 28) in [-1, 1] -> features; head: features -> logits. accuracy, confidence: on the test
    images (see `Seen.confidence`). changed: the accuracy on changed test images, by the names of
    `metrics.changes.changed_sets`."""

    body: nn.Module
    head: nn.Module
    accuracy: float
    confidence: float
    changed: Mapping[str, float]

    def __call__(self, images: Array) -> Seen:
        """Features and probabilities for images (N, 1, 28, 28), float32 in [-1, 1]."""
        if images.ndim != 4 or images.shape[1:] != (1, 28, 28) or not len(images):
            raise ValueError(f"DigitClassifier: expected images (N, 1, 28, 28), got {images.shape}")
        parts = []
        with no_grad(), nn.mode(self.body, self.head, training=False):
            for part in chunks(len(images), _LOOK, "looking at images"):
                features = self.body(images[part])
                parts.append((np.asarray(features), np.asarray(softmax(self.head(features)))))
        features, probabilities = zip(*parts, strict=True)
        return Seen(np.concatenate(features), np.concatenate(probabilities))

    @property
    def version(self) -> int:
        """A number that changes with the classifier's network or training. Compare only counts of the same version."""
        return VERSION

    def coverage(self, images: Array) -> LabelCoverage:
        """How digits (N, 1, 28, 28) cover the ten classes, or stacked digits (N, 3, 28, 28) the 1,000 modes; with the mean
        confidence over all digits. A warning on stderr says so if it is below LOW_CONFIDENCE."""
        if images.ndim != 4 or images.shape[1:] not in ((1, 28, 28), (3, 28, 28)):
            raise ValueError("DigitClassifier.coverage: expected images (N, 1, 28, 28) or (N, 3, 28, 28), got "
                             f"{images.shape}")
        channels = images.shape[1]
        seen = self(images.reshape(-1, 1, 28, 28))
        seen.warn()
        labels = seen.labels.reshape(-1, channels) @ 10 ** np.arange(channels - 1, -1, -1)
        return label_coverage(labels, CLASSES**channels, seen.confidence)

    def stacked_labels(self, images: Array) -> Array:
        """The labels (N,) of stacked digits (N, 3, 28, 28): the number from 0 to 999 that the digits of the channels
        form."""
        if images.ndim != 4 or images.shape[1:] != (3, 28, 28):
            raise ValueError(f"DigitClassifier.stacked_labels: expected images (N, 3, 28, 28), got {images.shape}")
        digits = self(images.reshape(-1, 1, 28, 28)).labels.reshape(-1, 3)
        return digits @ np.array([100, 10, 1])


def refuse_others(*datasets: Dataset) -> None:
    """Raise ValueError if the images are not 28x28 and grey, or have no labels from 0 to 9."""
    for dataset in datasets:
        labels = dataset.labels
        if dataset.image_shape != (1, 28, 28) or labels is None or not 0 <= labels.min() <= labels.max() < CLASSES:
            raise ValueError("the classifier knows only digits: images (1, 28, 28) with labels from 0 to 9. The images of "
                             f"{dataset.name} are {dataset.image_shape}" + (" without labels" if labels is None else ""))


def digit_classifier(train: Dataset, test: Dataset) -> DigitClassifier:
    """The classifier of these digits from the user's cache. If it is not there, it is trained, which takes minutes on two
    cores, and saved there.

    Raises ValueError if the images are not 28x28 and grey, or have no labels from 0 to 9.
    """
    refuse_others(train, test)
    told = f"{VERSION} {train.checksum} {len(train)} {test.checksum} {len(test)}"
    path = cache_folder() / f"digits-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
    body, head = _networks()
    both = nn.Sequential(body, head)
    try:
        arrays, metadata = saving.load(path)
        both.load_state_dict(arrays)
        return DigitClassifier(body, head, *json.loads(metadata["measured"]))
    except FileNotFoundError:
        pass
    except (saving.CheckpointError, KeyError, TypeError, ValueError) as error:
        say(f"{path} cannot be used ({error}): training the classifier again")
    unfinished = path.with_suffix(".unfinished")
    classifier = train_classifier(train, test, unfinished=unfinished)
    state = nn.Sequential(classifier.body, classifier.head).state_dict()
    _save(path, state, {"measured": json.dumps(classifier[2:]), "data": train.name, "version": str(VERSION)})
    unfinished.unlink(missing_ok=True)
    return classifier


def train_classifier(train: Dataset, test: Dataset, epochs: int | None = None, key: Key | None = None,
                     unfinished: Path | None = None) -> DigitClassifier:
    """Train on `train` with Adam and a learning rate that falls to 0. Progress is reported on stderr. unfinished: a file
    where the state is saved after each epoch. If it is there, training goes on from it, with the same result to the last
    bit; the caller should remove it at the end.

    Images are shifted, and get each other change of `metrics.changes` with probability 1/2. Beside every 128 digits the
    network sees 16 images without a digit, for which it should find all digits equally probable (Hendrycks, Mazeika,
    Dietterich 2019, "Deep anomaly detection with outlier exposure"): without them it would be confident about noise, too.
    Accuracy and confidence are measured on `test`, once, at the end."""
    assert train.labels is not None and test.labels is not None
    key, epochs = as_key("train_classifier", key, Key(0)), epochs or EPOCHS
    body, head = _networks()
    network = nn.Sequential(body, head).initialize(key.fold("weights"))
    size = min(_BATCH, len(train))
    steps = len(train) // size
    optimizer = Adam(cosine_decay(_RATE, 0.0, epochs * steps), betas=(0.9, 0.999))
    optimizer.bind(network)
    done = _resumed(unfinished, network, optimizer, steps)
    begin = time.perf_counter()
    for epoch in range(done, epochs):
        order = key.fold("order").fold(epoch).permutation(len(train))
        losses = []
        with use_key(key.fold("dropout").fold(epoch)):
            for part in chunks(steps * size, size, f"classifier, epoch {epoch + 1} of {epochs}"):
                chosen = order[part]
                changing = key.fold("changes").fold(epoch).fold(part.start)
                loss = _loss(network, train.batch(chosen), train.labels[chosen], changing)
                optimizer.step(grad(loss, network.parameters()))
                losses.append(loss.item())
        say(f"training the classifier of {train.name}: epoch {epoch + 1} of {epochs}, loss {np.mean(losses):.4f}, "
            f"{time.perf_counter() - begin:.0f} s")
        if unfinished is not None:
            state = _prefixed("network.", network.state_dict()) | _prefixed("optimizer.", optimizer.state_dict())
            _save(unfinished, state, {})
    images = test.batch(np.arange(len(test)))
    classifier = DigitClassifier(body, head, 0.0, 0.0, {})
    seen = classifier(images)
    found = {name: float((classifier(some).labels == test.labels).mean())
             for name, some in changed_sets(images, Key(0).fold("test"))}
    return DigitClassifier(body, head, float((seen.labels == test.labels).mean()), seen.confidence, found)


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {prefix + name: array for name, array in arrays.items()}


def _save(path: Path, arrays: Mapping[str, Array], notes: Mapping[str, str]) -> None:
    """Save a file in the cache. If that is impossible, say so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        saving.save(path, arrays, notes)
    except OSError as error:
        say(f"could not save {path} for the next start: {error.strerror or error}")


def _resumed(path: Path | None, network: nn.Module, optimizer: Adam, steps: int) -> int:
    """Load the state of an unfinished training, if there is one. Returns how many epochs are done."""
    if path is None:
        return 0
    try:
        arrays, _ = saving.load(path)
    except FileNotFoundError:
        return 0
    except saving.CheckpointError as error:
        say(f"{path} cannot be used ({error}): training the classifier from the start")
        return 0
    for prefix, part in (("network.", network), ("optimizer.", optimizer)):
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        part.load_state_dict(own)
    done = optimizer.count // steps
    say(f"the training of the classifier goes on after epoch {done}")
    return done


def _loss(network: nn.Module, images: Array, labels: Array, key: Key) -> Any:
    """The cross-entropy of changed digits, plus _WEIGHT times that of images without a digit, for which every class is
    equally right."""
    others = without_digits(images[:max(1, len(images) // _OTHERS)], key.fold("others"))
    both = changed(np.concatenate([images, others]), key, _SHARE)
    logits = network(both)
    uniform = neg(mean(log_softmax(logits[len(images):], 1)))
    return add(softmax_cross_entropy(logits[:len(images)], labels), mul(uniform, _WEIGHT))


def _networks() -> tuple[nn.Sequential, nn.Sequential]:
    body = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm(32), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1, bias=False), nn.BatchNorm(64), nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False), nn.BatchNorm(128), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.3), nn.Dense(128 * 7 * 7, FEATURES), nn.ReLU(),
    )  # fmt: skip
    return body, nn.Sequential(nn.Dropout(0.3), nn.Dense(FEATURES, CLASSES))
