"""How well categories that were found without labels agree with classes."""
from __future__ import annotations

__all__ = ["Matching", "match_categories"]

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Matching(NamedTuple):
    """error: the share of examples, from 0 to 1, whose category is not matched with their class. classes: the class with
    which each category is matched, or -1 for a category too many."""

    error: float
    classes: tuple[int, ...]


def match_categories(found: npt.NDArray[Any], labels: npt.NDArray[Any], categories: int) -> Matching:
    """Match each category with a class of its own so that as few examples as possible are wrong (the Hungarian method: Kuhn
    1955, "The Hungarian method for the assignment problem"). This is the error of Chen et al. 2016, section 7.2.

    found: (N,) integers, the category of each example, from 0 to categories - 1. labels: (N,) integers, its class. If there
    are more categories than classes, some are matched with none, and if there are fewer, some classes are always wrong.
    Raises ValueError for arrays of other shapes or values.
    """
    from scipy.optimize import linear_sum_assignment

    if found.ndim != 1 or found.shape != labels.shape or not found.size:
        raise ValueError("match_categories: found and labels should be two arrays (N,), not empty, got "
                         f"{found.shape} and {labels.shape}")
    if found.min() < 0 or found.max() >= categories:
        raise ValueError(f"match_categories: found should be from 0 to {categories - 1}, got {found.min()} to {found.max()}")
    kinds, index = np.unique(labels, return_inverse=True)
    counts = np.zeros((categories, len(kinds)), np.int64)
    np.add.at(counts, (found, index), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    classes = np.full(categories, -1)
    classes[rows] = kinds[columns]
    return Matching(float(1 - counts[rows, columns].sum() / len(found)), tuple(classes.tolist()))
