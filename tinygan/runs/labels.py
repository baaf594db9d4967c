"""Runs of a GAN that takes labels: which classes the data have, the labels of samples, and what `--label` means."""
from __future__ import annotations

__all__ = ["class_of", "columns_of", "full_rows", "labelled", "named", "refuse_labels", "seen", "takes_labels",
           "within_class"]

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tinygan.data import Dataset
from tinygan.random import Key

from .errors import RunError
from .trainable import TrainableGAN


def takes_labels(gan: TrainableGAN) -> bool:
    """Whether a step needs labels, and samples have classes."""
    return bool(getattr(gan, "takes_labels", False))


def refuse_labels(gan: Any, dataset: Dataset) -> None:
    """Raise RunError if the GAN takes labels and the data have none, or have a label that is none of its classes."""
    if not takes_labels(gan):
        return
    if dataset.labels is None:
        raise RunError(f"{dataset.name} has no labels, and a conditional GAN learns from labelled images: use MNIST or "
                       "other IDX files, a .npz file with labels, or a folder in which every image is in the sub-folder "
                       "of its class")
    low, high = int(dataset.labels.min()), int(dataset.labels.max())
    if low < 0 or high >= gan.classes:
        raise RunError(f"{dataset.name} has labels from {low} to {high}, but those of a GAN with {gan.classes} classes go "
                       f"from 0 to {gan.classes - 1}")


def full_rows(gan: Any, n: int) -> int:
    """The least number of images, not below n, that fill a grid with a row for each class."""
    classes: int = gan.classes
    return classes * -(-n // classes)


def labelled(gan: Any, n: int, key: Key, label: int | None = None) -> Any:
    """n latent vectors with that label. Without one: with the labels of a grid that has a row for each class. The last row
    may be shorter."""
    columns = full_rows(gan, n) // gan.classes
    return gan.latent(n, key, np.arange(n) // columns if label is None else label)


def columns_of(gan: Any, z: Any) -> tuple[int | None, str]:
    """How many images are in a row of a grid of the images of z, and a note for its title: a row for each class, if z has
    the classes one after the other."""
    labels = gan.labels_of(z)
    if (labels == labels[0]).all():
        return None, f"; class {labels[0]}"
    return int(np.argmax(labels != labels[0])), f"; rows: classes {labels.min()} to {labels.max()}"


def within_class(gan: Any, sample: Callable[..., Any], label: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`sample` and `gan.latent` for walks that do not leave a class: both deal with latent vectors alone, without the
    class."""
    return partial(sample, labels=label), lambda n, key: gan.latent(n, key)[:, :gan.latent_dim]


def seen(gan: Any, images: Any, z: Any) -> tuple[Any, Any]:
    """The network of the discriminator that sees the images, and its input for the images of z."""
    network, x = gan.discriminator.trunk(images, z[:, gan.latent_dim:])
    return network, x


def class_of(gan: Any, config: Mapping[str, Any], text: str) -> int:
    """The class that `--label` names: by its name, if the run's data have names, or by its number. Raises RunError for
    another text, and for a GAN without labels."""
    names = config["data"].get("classes")
    if not takes_labels(gan):
        raise RunError(f"--label {text}: a run of {config['variant']!r} has no labels; `tinygan train conditional` trains a "
                       "GAN that has")
    if names and text in names:
        return int(names.index(text))
    if text.isdecimal() and int(text) < gan.classes:
        return int(text)
    raise RunError(f"--label {text}: expected a whole number from 0 to {gan.classes - 1}"
                   + (f", or one of {', '.join(names)}" if names else ""))


def named(config: Mapping[str, Any], label: int) -> str:
    """A class in words: its number, and its name if the data have names."""
    names = config["data"].get("classes")
    return f"{label}: {names[label]}" if names else str(label)
