"""What a generator minimises: one table, used by the GANs, the settings of runs and the command line.

l is the discriminator's logit for a generated image, and D = sigmoid(l) the probability that the image is real.
"""
from __future__ import annotations

__all__ = ["GENERATOR_COSTS", "GeneratorCost"]

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan.ops import binary_cross_entropy_with_logits, exp, mean, neg


class GeneratorCost(NamedTuple):
    """A cost: its name, a function of the logits (N, 1), the formula, and the source."""

    name: str
    of_logits: Callable[[Any], Any]
    formula: str
    source: str


def _minimax(logits: Any) -> Any:
    return neg(binary_cross_entropy_with_logits(logits, 0.0))


def _non_saturating(logits: Any) -> Any:
    return binary_cross_entropy_with_logits(logits, 1.0)


def _maximum_likelihood(logits: Any) -> Any:
    return neg(mean(exp(logits)))


GENERATOR_COSTS = {cost.name: cost for cost in (
    GeneratorCost("minimax", _minimax, "mean(log(1 - D)) = -mean(softplus(l))", "Goodfellow et al. 2014, equation 1"),
    GeneratorCost("non-saturating", _non_saturating, "-mean(log D) = mean(softplus(-l))",
                  "Goodfellow et al. 2014, section 3"),
    GeneratorCost("maximum-likelihood", _maximum_likelihood, "-mean(exp(l)) = -mean(D / (1 - D))",
                  'Goodfellow 2016, "NIPS 2016 tutorial", section 3.2.4'),
)}
"""The generator costs by name."""
