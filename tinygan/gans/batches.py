"""How real and generated images go through the discriminator in an update: in one pass together if possible, else in two.

One pass is faster: the weights are read once, and their gradient is computed once. It is right only if the discriminator's
output for an image does not depend on the other images of the batch. Batch norm and minibatch discrimination couple the
images of a batch. With these layers, real and generated images stay two batches.
"""
from __future__ import annotations

__all__ = ["DiscriminatorBatch", "Logits", "couples_examples", "discriminator_batch", "logits_of"]

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.ops import binary_cross_entropy_with_logits, concatenate
from tinygan.tensor import as_array

DiscriminatorBatch = Any
"""The images of an update: either one array (2 * N, ...) with the real ones first, or a pair (real, generated)."""


class Logits(NamedTuple):
    """The discriminator's logits for real images (N, 1) and for generated images (M, 1). If they came from one pass,
    `both` holds all of them in one Tensor (2 * N, 1)."""

    real: Any
    fake: Any
    both: Any = None

    @property
    def returned(self) -> Any:
        """What the discriminator returned (last)."""
        return self.fake if self.both is None else self.both

    def cross_entropy(self, real_target: float, fake_target: float) -> Any:
        """The mean cross-entropy of the real images with their target, plus that of the generated images with theirs."""
        if self.both is None:
            return (binary_cross_entropy_with_logits(self.real, real_target)
                    + binary_cross_entropy_with_logits(self.fake, fake_target))
        targets = backend_of(as_array(self.both)).xp.full(self.both.shape, fake_target, self.both.dtype)
        targets[:len(self.real)] = real_target
        return binary_cross_entropy_with_logits(self.both, targets, 2.0)  # twice the mean over both is the sum of the two


def couples_examples(discriminator: nn.Module) -> bool:
    """Whether an image's logit depends on the other images of its batch."""
    return any(module.couples_examples for _, module in discriminator.named_modules())


def discriminator_batch(real: Any, fake: Any, couples: bool) -> DiscriminatorBatch:
    """Real images (N, ...) and generated images (M, ...) as one batch. They stay a pair if the discriminator `couples` the
    images of a batch, or if N and M differ."""
    if couples or fake.shape[0] != real.shape[0]:
        return real, fake
    return concatenate([real, fake])


def logits_of(caller: str, discriminator: Callable[[Any], Any], images: DiscriminatorBatch) -> Logits:
    """The discriminator's logits for images that `discriminator_batch` returned. Raises ValueError unless there is one logit
    per image."""
    if isinstance(images, tuple):
        real, fake = (_one_each(caller, discriminator(part), part.shape[0]) for part in images)
        return Logits(real, fake)
    n = images.shape[0] // 2
    both = _one_each(caller, discriminator(images), 2 * n)
    return Logits(as_array(both)[:n], as_array(both)[n:], both)


def _one_each(caller: str, logits: Any, images: int) -> Any:
    if logits.size != images:
        raise ValueError(f"{caller}: the discriminator should make one logit per image, got shape {logits.shape} for "
                         f"{images} images")
    return logits
