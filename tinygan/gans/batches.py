"""How the discriminator judges an update's real and generated images: in one pass where it can, else in two.

In one pass over both it reads its weights once, and their gradient is computed once. That is allowed only where its output
for an image does not depend on the other images of the batch. Batch norm and minibatch discrimination couple a batch's
images: there real and generated images stay two batches.
"""
from __future__ import annotations

__all__ = ["Judged", "Logits", "couples_examples", "joined", "logits_of"]

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.ops import binary_cross_entropy_with_logits, concatenate
from tinygan.tensor import as_array

Judged = Any
"""The images of an update: one array (2 * N, ...) with the real ones first, or the pair (real, generated)."""


class Logits(NamedTuple):
    """The discriminator's logits for real images (N, 1) and for generated ones (M, 1); and both in one Tensor (2 * N, 1), if
    they were judged in one pass."""

    real: Any
    fake: Any
    both: Any = None

    def cross_entropy(self, real_target: float) -> Any:
        """The mean cross-entropy of real images with that target, plus that of generated images with the target 0."""
        if self.both is None:
            return (binary_cross_entropy_with_logits(self.real, real_target)
                    + binary_cross_entropy_with_logits(self.fake, 0.0))
        targets = backend_of(as_array(self.both)).xp.zeros(self.both.shape, self.both.dtype)
        targets[:len(self.real)] = real_target
        return binary_cross_entropy_with_logits(self.both, targets, 2.0)  # twice the mean over both is the sum of the two


def couples_examples(discriminator: nn.Module) -> bool:
    """Whether an image's logit depends on the other images of its batch."""
    return any(module.couples_examples for _, module in discriminator.named_modules())


def joined(real: Any, fake: Any, couples: bool) -> Judged:
    """Real images (N, ...) and generated ones (M, ...) as one batch; as a pair if `couples`, or if N and M differ."""
    if couples or fake.shape[0] != real.shape[0]:
        return real, fake
    return concatenate([real, fake])


def logits_of(caller: str, discriminator: Callable[[Any], Any], images: Judged) -> Logits:
    """What the discriminator says of images as `joined` returns them. ValueError if it is not one logit an image."""
    if isinstance(images, tuple):
        real, fake = (_one_each(caller, discriminator(part), part.shape[0]) for part in images)
        return Logits(real, fake)
    n = images.shape[0] // 2
    both = _one_each(caller, discriminator(images), 2 * n)
    return Logits(as_array(both)[:n], as_array(both)[n:], both)


def _one_each(caller: str, logits: Any, images: int) -> Any:
    if logits.size != images:
        raise ValueError(f"{caller}: the discriminator should make one logit an image, got shape {logits.shape} for "
                         f"{images} images")
    return logits
