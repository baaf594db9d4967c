"""Whether a run records one training step and replays it."""
from __future__ import annotations

__all__ = ["step_of"]

from collections.abc import Callable, Iterator
from typing import Any

from tinygan.capture import capture
from tinygan.nn import Module

from .trainable import TrainableGAN


def step_of(gan: TrainableGAN, captured: bool, on_cpu: bool) -> Callable[..., Any]:
    """`gan.step`, captured (see `tinygan.capture`) if that is wanted and possible.

    A replay does not run Python code. So on the CPU, where nobody asked for it, a step with code of the user's own (a GAN, a
    layer, an optimiser, a `step` that wraps another one) runs as it is: it may print or count.
    """
    if captured and (not on_cpu or all(map(_is_ours, _parts(gan)))):
        return capture(gan.step)
    return gan.step


def _parts(gan: TrainableGAN) -> Iterator[Any]:
    yield gan
    yield from (part for name, part in getattr(gan, "__dict__", {}).items() if name in ("d_optimizer", "g_optimizer"))
    for network in (gan.generator, gan.discriminator):
        yield from (part for _, part in network.named_modules()) if isinstance(network, Module) else [network]


def _is_ours(part: Any) -> bool:
    """Whether all code of an object is tinygan's: its class is, and no function was assigned to the object itself."""
    assigned = getattr(part, "__dict__", {}).items()
    own = [name for name, value in assigned if callable(value) and callable(getattr(type(part), name, None))]
    return type(part).__module__.partition(".")[0] == "tinygan" and not own
