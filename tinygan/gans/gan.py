"""The base class of the GANs: two networks, each with an optimiser; latent vectors, samples, and a state to save."""
from __future__ import annotations

__all__ = ["GAN", "Stats"]

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import no_grad
from tinygan.counting import Count
from tinygan.devices import moved
from tinygan.gans import checks
from tinygan.gans.noises import NOISES
from tinygan.gans.stats import Stats
from tinygan.nn.state import check_state
from tinygan.optim import Adam, Optimizer
from tinygan.random import Key, KeyStream, as_key
from tinygan.tables import lookup
from tinygan.tensor import as_array


class GAN:
    """A generator (N, latent_dim) -> images, a discriminator images -> logits (N, 1), and all that their training needs.

    noise: the distribution of the latent vectors, one of `NOISES`: "normal" (mean 0, variance 1), "uniform" in [-1, 1), or
    "bernoulli" (-1 or 1 with equal probability). Bernoulli vectors are the corners of a cube. The generator never gets a
    vector between two corners, so it can keep modes apart. Each optimiser is Adam(2e-4, betas=(0.5, 0.999)) by default.
    All random numbers of the training come from `key`. So do the parameters that are neither initialised nor loaded.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, noise: str = "normal",
                 g_optimizer: Optimizer | None = None, d_optimizer: Optimizer | None = None,
                 key: Key | None = None) -> None:
        lookup(NOISES, "GAN", "noise", noise)  # an error if there is no such noise
        checks.check_players(generator, discriminator, latent_dim, g_optimizer, d_optimizer)
        key = as_key("GAN", key, Key(0))
        self._generator = generator.initialize(key.fold("generator"))
        self._discriminator = discriminator.initialize(key.fold("discriminator"))
        self.latent_dim = latent_dim
        self.noise = noise
        self.g_optimizer = g_optimizer or Adam()
        self.d_optimizer = d_optimizer or Adam()
        self.g_optimizer.bind(generator)
        self.d_optimizer.bind(discriminator)
        # Every step needs these, and finding them takes a walk through the network: so it is done once.
        self.g_parameters = generator.parameters()
        self.d_parameters = discriminator.parameters()
        # A player's own update changes the running statistics (of batch norm) of these modules only (`Context.updating`):
        self.g_modules = nn.identities(generator)
        self.d_modules = nn.identities(discriminator)
        self.keys = KeyStream(key.fold("training"))  # all random numbers of the training are drawn from these keys
        self._steps = Count()  # (a count that also advances when a captured step is replayed)

    @property
    def generator(self) -> nn.Module:
        """Latent vectors (N, latent_dim) -> images. To train another one, make another GAN."""
        return self._generator

    @property
    def discriminator(self) -> nn.Module:
        """Images -> logits (N, 1)."""
        return self._discriminator

    @property
    def steps(self) -> int:
        """How many training steps have been made. It can be set, and `load_state_dict` sets it."""
        return self._steps.value

    @steps.setter
    def steps(self, value: int) -> None:
        self._steps.value = value

    def step(self, real: npt.ArrayLike) -> Stats:
        """One round of training on a batch of real images."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def to(self, device: str) -> Self:
        """Move both networks to that device ("cpu", "cuda", "cuda:1"); their optimisers' state follows. Raises DeviceError
        if there is no such device."""
        self.generator.to(device)
        self.discriminator.to(device)
        return self

    def latent(self, n: int, key: Key | None = None) -> Any:
        """n latent vectors (n, latent_dim), drawn from `key`, or by default from the training's own stream of keys."""
        key = self.keys.next_key() if key is None else as_key("latent", key)
        weight = self.g_parameters[0]
        noise = lookup(NOISES, type(self).__name__, "noise", self.noise)
        return noise.draw(key, (n, self.latent_dim), weight.dtype, backend_of(weight.array))

    def sample(self, n: int = 64, z: npt.ArrayLike | None = None, key: Key | None = None) -> npt.NDArray[Any]:
        """Generated images as a NumPy array. Training is not affected.

        They are made from the latent vectors z (n, latent_dim), if given; z may be anything that `np.asarray` takes, or an
        array on any device. Otherwise n latent vectors are drawn from `key`. The default key is fixed, so the same weights
        give the same images. Raises ValueError or TypeError for a z, n or key that cannot be used."""
        weight = self.g_parameters[0]
        if z is None:
            vectors = self.latent(checks.as_count(n), as_key("sample", key, Key(0).fold("sample")))
        else:
            vectors = moved(checks.as_latent(z, self.latent_dim, weight.dtype), backend_of(weight.array))
        with no_grad(), nn.mode(self.generator, training=False):
            images = as_array(self.generator(vectors))
        return np.array(backend_of(images).to_numpy(images), order="C")

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that training changes: both networks, both optimisers, the key stream, the number of steps."""
        state: dict[str, npt.NDArray[Any]] = {
            "steps": np.array(self.steps, np.int64), "key": self.keys.key.data,
            "key_count": np.array(self.keys.count, np.int64),
        }
        for name, part in self._parts():
            state.update({f"{name}.{path}": array for path, array in part.state_dict().items()})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. If an entry is missing, unexpected or of another shape, raises a ValueError
        that names it, before anything changes."""
        check_state(type(self).__name__, self.state_dict(), state)
        for name, part in self._parts():
            part.load_state_dict({path.removeprefix(name + "."): array for path, array in state.items()
                                  if path.startswith(name + ".")})
        self.keys.restore(Key.from_data(state["key"]), int(state["key_count"]))
        self.steps = int(state["steps"])

    def _parts(self) -> Sequence[tuple[str, Any]]:
        return (("generator", self.generator), ("discriminator", self.discriminator),
                ("g_optimizer", self.g_optimizer), ("d_optimizer", self.d_optimizer))
