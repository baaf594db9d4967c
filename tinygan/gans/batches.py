"""How real and generated images go through the discriminator in an update: in one pass together if possible, else in two.

One pass is faster: the weights are read once, and their gradient is computed once. It is right only if the discriminator's
output for an image does not depend on the other images of the batch. Batch norm and minibatch discrimination couple the
images of a batch. With these layers, real and generated images stay two batches.
"""
from __future__ import annotations

__all__ = ["DiscriminatorBatch", "Logits", "couples_examples", "discriminator_batch", "logits_of", "one_each"]

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.ops import binary_cross_entropy_with_logits, concatenate
from tinygan.tensor import as_array

DiscriminatorBatch = Any
"""The images of an update: either one array (2 * N, ...) with the real ones first, or a pair (real, generated)."""


class Logits(NamedTuple):
    """What the discriminator returned: one array (2 * N, 1) for the real images and then the generated ones, if they went
    through it in one pass, or else a pair (N, 1), (M, 1)."""

    returned: Any

    @property
    def both(self) -> Any:
        """All of them, if they came from one pass; otherwise None."""
        return None if isinstance(self.returned, tuple) else self.returned

    @property
    def real(self) -> Any:
        """Those of the real images (N, 1)."""
        return self.returned[0] if isinstance(self.returned, tuple) else self.returned[:len(self.returned) // 2]

    @property
    def fake(self) -> Any:
        """Those of the generated images (M, 1)."""
        return self.returned[1] if isinstance(self.returned, tuple) else self.returned[len(self.returned) // 2:]

    def arrays(self) -> tuple[Any, Any]:
        """Both as arrays, without a graph."""
        plain = Logits(tuple(map(as_array, self.returned)) if self.both is None else as_array(self.returned))
        return plain.real, plain.fake

    def cross_entropy(self, real_target: float, fake_target: float) -> Any:
        """The mean cross-entropy of the real images with their target, plus that of the generated images with theirs."""
        both = self.both
        if both is None:
            return (binary_cross_entropy_with_logits(self.real, real_target)
                    + binary_cross_entropy_with_logits(self.fake, fake_target))
        targets = backend_of(as_array(both)).xp.full(both.shape, fake_target, both.dtype)
        targets[:len(both) // 2] = real_target
        return binary_cross_entropy_with_logits(both, targets, 2.0)  # twice the mean over both is the sum of the two


def couples_examples(discriminator: nn.Module) -> bool:
    """Whether an image's logit depends on the other images of its batch."""
    return any(module.couples_examples for _, module in discriminator.named_modules())


def discriminator_batch(real: Any, fake: Any, apart: bool) -> DiscriminatorBatch:
    """Real images (N, ...) and generated images (M, ...) as one batch. They stay a pair if they should stay `apart`, or if N
    and M differ."""
    if apart or fake.shape[0] != real.shape[0]:
        return real, fake
    return concatenate([real, fake])


def logits_of(caller: str, discriminator: Callable[[Any], Any], images: DiscriminatorBatch) -> Logits:
    """The discriminator's logits for images that `discriminator_batch` returned. Raises ValueError unless there is one logit
    per image."""
    if isinstance(images, tuple):
        return Logits(tuple([one_each(caller, discriminator(part), part.shape[0]) for part in images]))
    return Logits(one_each(caller, discriminator(images), images.shape[0]))


def one_each(caller: str, logits: Any, images: int) -> Any:
    """The logits. Raises ValueError unless there is one per image."""
    if logits.size != images:
        raise ValueError(f"{caller}: the discriminator should make one logit per image, got shape {logits.shape} for "
                         f"{images} images")
    return logits
