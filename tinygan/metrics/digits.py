"""The classifier whose features and labels measure the quality of digits: a small convolutional network, trained here."""
from __future__ import annotations

__all__ = ["DigitClassifier", "Seen", "digit_classifier", "train_classifier"]

import hashlib
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan import nn, saving
from tinygan.cache import cache_folder, say
from tinygan.context import no_grad
from tinygan.data import Dataset
from tinygan.graph import grad
from tinygan.ops import softmax, softmax_cross_entropy
from tinygan.optim import Adam, cosine_decay
from tinygan.progress import chunks
from tinygan.random import Key, as_key, use_key

Array = npt.NDArray[Any]

FEATURES = 128
CLASSES = 10
EPOCHS = 6
_BATCH = 128
_LOOK = 500
_RATE = 2e-3
_SHIFT = 2
_VERSION = 1  # of the network and its training; change it whenever the weights would change


class Seen(NamedTuple):
    """The classifier's results for images: features (N, 128) of its last hidden layer, class probabilities (N, 10)."""

    features: Array
    probabilities: Array

    @property
    def labels(self) -> Array:
        """The most probable class of each image, (N,)."""
        return self.probabilities.argmax(1)


class DigitClassifier(NamedTuple):
    """body: images (N, 1, 28, 28) in [-1, 1] -> features; head: features -> logits. accuracy: on the test images."""

    body: nn.Module
    head: nn.Module
    accuracy: float

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

    def stacked_labels(self, images: Array) -> Array:
        """The labels (N,) of stacked digits (N, 3, 28, 28): the number from 0 to 999 that the digits of the channels
        form."""
        if images.ndim != 4 or images.shape[1:] != (3, 28, 28):
            raise ValueError(f"DigitClassifier.stacked_labels: expected images (N, 3, 28, 28), got {images.shape}")
        digits = self(images.reshape(-1, 1, 28, 28)).labels.reshape(-1, 3)
        return digits @ np.array([100, 10, 1])


def refuse_others(train: Dataset, test: Dataset) -> None:
    """Raise ValueError if the images are not 28x28 and grey, or have no labels from 0 to 9."""
    for dataset in (train, test):
        labels = dataset.labels
        if dataset.image_shape != (1, 28, 28) or labels is None or not 0 <= labels.min() <= labels.max() < CLASSES:
            raise ValueError(f"digit_classifier: expected images (1, 28, 28) with labels from 0 to 9, got {dataset.name}, "
                             f"{dataset.image_shape}" + (" without labels" if labels is None else ""))


def digit_classifier(train: Dataset, test: Dataset) -> DigitClassifier:
    """The classifier of these digits from the user's cache. If it is not there, it is trained, which takes minutes on two
    cores, and saved there.

    Raises ValueError if the images are not 28x28 and grey, or have no labels from 0 to 9.
    """
    refuse_others(train, test)
    told = f"{_VERSION} {train.checksum} {len(train)} {test.checksum} {len(test)}"
    path = cache_folder() / f"digits-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
    body, head = _networks()
    both = nn.Sequential(body, head)
    try:
        arrays, metadata = saving.load(path)
        both.load_state_dict(arrays)
        return DigitClassifier(body, head, float(metadata["accuracy"]))
    except FileNotFoundError:
        pass
    except (saving.CheckpointError, KeyError, ValueError) as error:
        say(f"{path} cannot be used ({error}): training the classifier again")
    classifier = train_classifier(train, test)
    state = nn.Sequential(classifier.body, classifier.head).state_dict()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        saving.save(path, state, {"accuracy": repr(classifier.accuracy), "data": train.name})
    except OSError as error:
        say(f"could not save {path} for the next start: {error.strerror or error}")
    return classifier


def train_classifier(train: Dataset, test: Dataset, epochs: int | None = None, key: Key | None = None) -> DigitClassifier:
    """Train on `train` with Adam and a learning rate that falls to 0. Each batch is shifted by up to two pixels. Progress is
    reported on stderr. The accuracy is measured on `test`, once, at the end."""
    assert train.labels is not None and test.labels is not None
    key, epochs = as_key("train_classifier", key, Key(0)), epochs or EPOCHS
    body, head = _networks()
    network = nn.Sequential(body, head).initialize(key.fold("weights"))
    size = min(_BATCH, len(train))
    steps = len(train) // size
    optimizer = Adam(cosine_decay(_RATE, 0.0, epochs * steps), betas=(0.9, 0.999))
    optimizer.bind(network)
    begin = time.perf_counter()
    with use_key(key.fold("dropout")):
        for epoch in range(epochs):
            order = key.fold("order").fold(epoch).permutation(len(train))
            shifts = key.fold("shifts").fold(epoch).integers((steps, 2), -_SHIFT, _SHIFT + 1)
            losses = []
            for i, part in enumerate(chunks(steps * size, size, f"classifier, epoch {epoch + 1} of {epochs}")):
                chosen = order[part]
                loss = softmax_cross_entropy(network(_shifted(train.batch(chosen), *shifts[i])), train.labels[chosen])
                optimizer.step(grad(loss, network.parameters()))
                losses.append(loss.item())
            say(f"training the classifier of {train.name}: epoch {epoch + 1} of {epochs}, loss {np.mean(losses):.4f}, "
                f"{time.perf_counter() - begin:.0f} s")
    classifier = DigitClassifier(body, head, 0.0)
    seen = classifier(test.batch(np.arange(len(test))))
    return classifier._replace(accuracy=float((seen.labels == test.labels).mean()))


def _networks() -> tuple[nn.Sequential, nn.Sequential]:
    body = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm(32), nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1, bias=False), nn.BatchNorm(64), nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False), nn.BatchNorm(128), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.3), nn.Dense(128 * 7 * 7, FEATURES), nn.ReLU(),
    )  # fmt: skip
    return body, nn.Sequential(nn.Dropout(0.3), nn.Dense(FEATURES, CLASSES))


def _shifted(images: Array, down: int, right: int) -> Array:
    """Images (N, C, H, W) moved by `down` and `right` pixels. The pixels at the edge are repeated (for digits, they are
    background)."""
    padded = np.pad(images, ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)), mode="edge")
    height, width = images.shape[2:]
    return padded[:, :, _SHIFT - down:_SHIFT - down + height, _SHIFT - right:_SHIFT - right + width]
