"""The two players of any GAN, as the sections show them: what makes the images, and what judges them."""
from __future__ import annotations

__all__ = ["ACTIVITY_INPUTS", "Players", "as_update", "examples", "host", "inputs_for", "players"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.backends import backend_of
from tinygan.context import no_grad, override
from tinygan.data import Dataset
from tinygan.devices import moved
from tinygan.gans.costs import COSTS, Cost
from tinygan.random import Key, KeyStream, use_key
from tinygan.runs.labels import takes_labels
from tinygan.runs.previews import drawn, translates
from tinygan.tables import lookup
from tinygan.tensor import as_array

SHOWN = 16  # images
SHOWN_IF_LARGE = 8
LARGE = 32 * 32  # pixels: images of more count as large
ACTIVITY_INPUTS = 128  # for shares of idle units: with 16, a unit that is active for 1 image in 16 would often seem idle


class Players(NamedTuple):
    """What the figures show of a GAN, in an update on fixed inputs. A GAN that translates shows G_AB and D_B.

    generator: the network that makes the images, of `taken`. judge: images -> logits (N, 1). discriminator: the network that
    judges. real: real images beside the generated ones, or None."""

    generator: Callable[[Any], Any]
    taken: Any
    judge: Callable[[Any], Any]
    discriminator: Any
    real: Any

    def images(self) -> Any:
        """The generated images, an array without a graph."""
        with no_grad():
            return as_array(self.generator(self.taken))


def players(gan: Any, z: Any, real: Any = None) -> Players:
    """The players of `gan` in an update on the generator's inputs z, as `inputs_for` returns them. real: real images, such
    as z's pairs."""
    z = on_device(gan, z)
    real = None if real is None else on_device(gan, real)
    if not translates(gan):
        judge = gan.judge(z) if hasattr(gan, "judge") else gan.discriminator
        return Players(gan.generator, z, judge, gan.discriminator, real)
    network, images, _ = drawn(gan.generator, z)
    judged, real, _ = drawn(gan.discriminator, z if real is None else real)
    return Players(network, images, judged, judged, real)


def on_device(gan: Any, array: Any) -> Any:
    """An array in the precision of the GAN's weights, on their device."""
    _, weight = next(gan.generator.named_parameters())
    array = moved(array, backend_of(weight.array))
    return array if array.dtype == weight.dtype else array.astype(weight.dtype)


@contextmanager
def as_update(key: Key) -> Iterator[None]:
    """In the body, the networks compute as in an update, with batch statistics and dropout. But no running statistics
    change, and all random numbers come from `key`."""
    with override(recording=True, updating=frozenset()), use_key(KeyStream(key)), np.errstate(all="ignore"):
        yield


def game(gan: Any) -> Cost:
    """What the players minimise."""
    return lookup(COSTS, type(gan).__name__, "cost", gan.cost)


def inputs_for(gan: Any, n: int, key: Key) -> Any:
    """n latent vectors. If the GAN takes labels, the classes take turns. Raises TypeError for a GAN that translates."""
    if translates(gan):
        raise TypeError(f"Recorder: a {type(gan).__name__} translates images: give it images, z=... (N, C, H, W)")
    return host(gan.latent(n, key))


def examples(gan: Any, dataset: Dataset, key: Key) -> tuple[Any, Any, Any]:
    """The fixed inputs of a run's figures: z, real images beside them, and more inputs, to count active units. They follow
    from the data and the key."""
    pixels = int(np.prod(dataset.image_shape[1:]))
    n = SHOWN if pixels <= LARGE else SHOWN_IF_LARGE
    places = key.fold("images").integers(n, 0, len(dataset))
    if translates(gan):
        more = dataset.batch(key.fold("activity").integers(ACTIVITY_INPUTS, 0, len(dataset)))
        return dataset.batch(places), None, more
    if takes_labels(gan) and dataset.labels is not None:
        wanted = np.arange(n) % gan.classes  # the classes of z
        for i, label in enumerate(wanted):
            alike = np.flatnonzero(dataset.labels == label)
            places[i] = alike[places[i] % len(alike)] if len(alike) else places[i]
    real = dataset.batch(places) if game(gan).pairs else None
    return inputs_for(gan, n, key.fold("z")), real, None


def host(array: Any) -> npt.NDArray[Any]:
    """An array or Tensor as a NumPy array."""
    array = as_array(array)
    found: npt.NDArray[Any] = np.asarray(backend_of(array).to_numpy(array))
    return found
