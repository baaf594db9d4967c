"""The codes of an InfoGAN's latent vectors, and how much of them can be read off an image (Chen et al. 2016, section 5).

The bound of the information is L_I = H(c) + mean(log Q(c | G(z, c))), in nats. It is at most H(c): log K for a code of K
equally likely classes. A continuous code has log 2, its differential entropy, in place of H(c), and no such limit.
"""
from __future__ import annotations

__all__ = ["Codes"]

import math
from typing import Any, NamedTuple

import numpy as np

from tinygan.ops import add, astype, equal, floor, log, log_softmax, mean, mul, split, sub
from tinygan.ops import sum as sum_over
from tinygan.random import Key, draw_examples

_LOG_2, _HALF_LOG_2_PI = math.log(2.0), 0.5 * math.log(2 * math.pi)


def _is_whole(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool)


class Codes(NamedTuple):
    """The codes of a latent vector, in this order: each categorical code as one number per class, 1 for its class and 0 for
    the others; then the continuous codes, uniform in [-1, 1).

    Q's output has the same width and order: logits of the classes, and means of normal distributions."""

    categorical: tuple[int, ...] = (10,)
    """The number of classes of each categorical code."""
    continuous: int = 2
    """How many continuous codes there are."""

    @property
    def width(self) -> int:
        """How many numbers all codes have together."""
        return sum(self.categorical) + self.continuous

    def check(self, caller: str) -> Codes:
        """The codes. Raises ValueError unless there is at least one, and each category has two classes or more."""
        if not all(map(_is_whole, self.categorical)) or min(self.categorical, default=2) < 2:
            raise ValueError(f"{caller}: categorical should be the numbers of classes of the categorical codes, at least 2 "
                             f"each, such as (10,), got {self.categorical}")
        if not _is_whole(self.continuous) or self.continuous < 0:
            raise ValueError(f"{caller}: continuous should be the number of continuous codes, at least 0, got "
                             f"{self.continuous!r}")
        if not self.width:
            raise ValueError(f"{caller}: there should be at least one code, got categorical=() and continuous=0")
        return self

    def split(self, x: Any) -> tuple[list[Any], Any]:
        """(N, width) -> the part (N, K) of each categorical code, and that of the continuous codes (N, M)."""
        *categorical, continuous = split(x, [*self.categorical, self.continuous], axis=1)
        return categorical, continuous

    def draw(self, key: Key, n: int, dtype: Any, backend: Any) -> list[Any]:
        """n codes of each kind, drawn from `key`: their parts, (n, K) and (n, M)."""
        parts = []
        for i, classes in enumerate(self.categorical):
            numbers = draw_examples(key.fold(f"categorical {i}").uniform, (n, 1), low=0.0, high=classes, dtype=np.float64,
                                    backend=backend)
            chosen = floor(numbers)
            parts.append(astype(equal(chosen, backend.xp.arange(classes, dtype=np.float64)), dtype))
        if self.continuous:
            parts.append(draw_examples(key.fold("continuous").uniform, (n, self.continuous), low=-1.0, high=1.0, dtype=dtype,
                                       backend=backend))
        return parts

    def fit(self, found: Any, codes: Any) -> tuple[Any, Any]:
        """How well Q reads the codes. found: its output (N, width) for the images that were made with `codes` (N, width).

        Returns L_I of the categorical codes together, log K - cross-entropy for each code of K equally likely classes, and
        the mean square errors (M,) of the continuous ones. The first is 0.0 if there are no categorical codes."""
        logits, means = self.split(found)
        classes, numbers = self.split(codes)
        category: Any = 0.0
        for one, chosen in zip(logits, classes, strict=True):
            known = mean(sum_over(mul(log_softmax(one, 1), chosen), 1))
            category = add(add(known, math.log(one.shape[1])), category)
        off = sub(means, numbers)
        return category, mean(mul(off, off), 0)

    def bound(self, category: Any, squares: Any) -> Any:
        """L_I in nats of all codes together, from what `fit` returned. For a continuous code Q is a normal distribution of
        variance 1, as in the paper's program."""
        if not self.continuous:
            return category
        return add(sub(self.continuous * (_LOG_2 - _HALF_LOG_2_PI), mul(sum_over(squares), 0.5)), category)

    def measured(self, category: Any, squares: Any) -> tuple[Any, Any]:
        """L_I in nats of the categorical and of the continuous codes, as a run reports it, from what `fit` returned. For a
        continuous code Q has the variance that fits the batch best, which is its mean square error: with variance 1 even a
        perfect Q would seem to know nothing (-0.23 nats)."""
        if not self.continuous:
            return category, 0.0
        return category, sub(self.continuous * (_LOG_2 - _HALF_LOG_2_PI - 0.5), mul(sum_over(log(squares)), 0.5))
