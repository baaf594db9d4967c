"""How well a set of labelled images teaches a nearest-neighbour classifier."""
from __future__ import annotations

__all__ = ["nearest", "nearest_neighbour_error"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.progress import chunks

Array = npt.NDArray[Any]
_ROWS, _COLUMNS = 500, 5000  # the distances are computed in blocks of so many images and references


def nearest(references: Array, images: Array) -> npt.NDArray[np.int64]:
    """The place of the nearest reference (N,) of each of the images (N, ...), by Euclidean distance of the values.
    references (M, ...). The images are compared in blocks with matrix products, in float32."""
    one, two = (np.ascontiguousarray(x.reshape(len(x), -1), np.float32) for x in (images, references))
    if not len(two) or one.shape[1] != two.shape[1]:
        raise ValueError(f"nearest: expected at least one reference, and images of one shape, got {references.shape} and "
                         f"{images.shape}")
    centre = two.mean(axis=0)  # (smaller values, smaller rounding errors)
    one, two = one - centre, two - centre
    squares = np.square(two).sum(axis=1)
    found = np.empty(len(one), np.int64)
    for part in chunks(len(one), _ROWS, "comparing images"):
        best = np.full(len(one[part]), np.inf, np.float32)
        for start in range(0, len(two), _COLUMNS):
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, and |a|^2 is the same for all references
            distances = squares[start:start + _COLUMNS] - 2 * (one[part] @ two[start:start + _COLUMNS].T)
            places = distances.argmin(axis=1)
            least = distances[np.arange(len(best)), places]
            closer = least < best
            found[part] = np.where(closer, start + places, found[part])
            best = np.where(closer, least, best)
    return found


def nearest_neighbour_error(references: Array, labels: Array, images: Array, truth: Array) -> float:
    """The share of images (N, ...) that get a wrong label from their nearest reference: the test of Radford, Metz, Chintala
    2015, Table 3, where the references are generated and the images real. references (M, ...) with labels (M,); truth (N,):
    the labels of the images."""
    if labels.shape != (len(references),) or truth.shape != (len(images),) or not len(images):
        raise ValueError(f"nearest_neighbour_error: expected a label for each image, got labels {labels.shape} for "
                         f"{len(references)} references and {truth.shape} for {len(images)} images")
    return float((labels[nearest(references, images)] != truth).mean())
