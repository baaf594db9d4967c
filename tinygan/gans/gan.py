"""The base class of the GANs: two networks, each with an optimiser; latent vectors, samples, and a state to save."""
from __future__ import annotations

__all__ = ["GAN", "Stats"]

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import no_grad, override
from tinygan.counting import Count
from tinygan.devices import moved
from tinygan.distributed.world import World, part_of
from tinygan.gans import checks
from tinygan.gans.noises import NOISES
from tinygan.gans.stats import Stats
from tinygan.nn.state import check_state
from tinygan.optim import Adam, ExponentialMovingAverage, Optimizer, Schedule
from tinygan.random import Key, KeyStream, as_key
from tinygan.tables import lookup
from tinygan.tensor import as_array


class GAN:
    """A generator (N, latent_dim) -> images, a discriminator images -> logits (N, 1), and all that their training needs.

    noise: the distribution of the latent vectors, one of `NOISES`: "normal" (mean 0, variance 1), "uniform" in [-1, 1), or
    "bernoulli" (-1 or 1 with equal probability). Bernoulli vectors are the corners of a cube. The generator never gets a
    vector between two corners, so it can keep modes apart. Each optimiser is Adam(2e-4, betas=(0.5, 0.999)) by default.
    All random numbers of the training come from `key`. So do the parameters that are neither initialised nor loaded.

    ema: keep an exponential moving average of the generator's state (`average`), from which `sample` draws. It is the decay
    per step, a number in [0, 1) such as 0.999, or a schedule: the number of steps made -> the decay. `optim.half_life` makes
    one of a half-life in images. Every step of training ends with an update of the average. It starts from the generator's
    state when the GAN is made; if you load other weights after that, call `gan.average.reset()`.

    world: the processes that train this GAN together (see `tinygan.distributed`). Each of them makes the same GAN, and calls
    `step` with its own part of the batch. None: this process alone.
    """

    translates: ClassVar[bool] = False
    """Whether the generator translates images, instead of making them from latent vectors."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of what `step` reports beside the fields of `Stats`. A run keeps and draws them too."""
    takes_labels: ClassVar[bool] = False
    """Whether a step needs the labels of its images: step(real, labels)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int | None, *, noise: str = "normal",
                 g_optimizer: Optimizer | None = None, d_optimizer: Optimizer | None = None,
                 ema: float | Schedule | None = None, key: Key | None = None, world: World | None = None) -> None:
        lookup(NOISES, "GAN", "noise", noise)  # an error if there is no such noise
        checks.check_players(generator, discriminator, latent_dim, g_optimizer, d_optimizer, self.translates)
        checks.check_ema(ema)
        key = as_key("GAN", key, Key(0))
        self._generator = generator.initialize(key.fold("generator"))
        self._discriminator = discriminator.initialize(key.fold("discriminator"))
        self.latent_dim = latent_dim or 0
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
        self.world = world
        self.average = None if ema is None else ExponentialMovingAverage(generator, ema)
        self._steps = Count()  # (a count that also advances when a captured step is replayed)

    def __repr__(self) -> str:
        return (f"{type(self).__name__} after {self.steps:,} steps\ngenerator: {self.generator}\ndiscriminator: "
                f"{self.discriminator}")

    @property
    def generator(self) -> nn.Module:
        """Latent vectors (N, latent_dim) -> images. To train another one, make another GAN."""
        return self._generator

    @property
    def discriminator(self) -> nn.Module:
        """Images -> logits (N, 1)."""
        return self._discriminator

    @property
    def sampled_generator(self) -> nn.Module:
        """The generator that `sample` uses: the copy that holds the averages, or `generator` if the GAN has no `ema`."""
        return self.generator if self.average is None else self.average.module

    @property
    def steps(self) -> int:
        """How many training steps have been made. It can be set, and `load_state_dict` sets it."""
        return self._steps.value

    @steps.setter
    def steps(self, value: int) -> None:
        self._steps.value = value

    @property
    def input_dim(self) -> int:
        """How many numbers the generator gets for an image: a latent vector, and what a subclass adds to it."""
        return self.latent_dim

    def step(self, real: npt.ArrayLike) -> Stats:
        """One round of training on a batch of real images."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def in_step(self, examples: int) -> AbstractContextManager[None]:
        """What holds in a step on `examples` images per update: dropout and instance noise draw from the training's keys,
        too. With a `world`, these are the examples of this process, and what depends on the whole batch asks the others.
        Raises SettingsError if the processes have unequally many."""
        return override(keys=self.keys, part=part_of(self, examples))

    def end_step(self) -> None:
        """What every `step` ends with: the average of the generator is updated, and the step is counted."""
        if self.average is not None:
            self.average.update()
        self._steps.advance()

    def to(self, device: str) -> Self:
        """Move both networks to that device ("cpu", "cuda", "cuda:1"); their optimisers' state and the generator's average
        follow. Raises DeviceError if there is no such device."""
        self.generator.to(device)
        self.discriminator.to(device)
        if self.average is not None:
            self.average.follow()
        return self

    def latent(self, n: int, key: Key | None = None) -> Any:
        """n latent vectors (n, latent_dim), drawn from `key`, or by default from the training's own stream of keys."""
        key = self.keys.next_key() if key is None else as_key("latent", key)
        weight = self.g_parameters[0]
        noise = lookup(NOISES, type(self).__name__, "noise", self.noise)
        return noise.draw(key, (n, self.latent_dim), weight.dtype, backend_of(weight.array))

    def sample(self, n: int = 64, z: npt.ArrayLike | None = None, key: Key | None = None, *,
               averaged: bool = True) -> npt.NDArray[Any]:
        """Generated images as a NumPy array. Training is not affected.

        With `ema`, the average of the generator makes them, or with averaged=False the generator itself.

        They are made from the latent vectors z (n, latent_dim), if given; z may be anything that `np.asarray` takes, or an
        array on any device. Otherwise n latent vectors are drawn from `key`. The default key is fixed, so the same weights
        give the same images. Raises ValueError or TypeError for a z, n or key that cannot be used."""
        weight = self.g_parameters[0]
        if z is None:
            vectors = self.latent(checks.as_count(n), as_key("sample", key, Key(0).fold("sample")))
        else:
            vectors = moved(checks.as_latent(z, self.input_dim, weight.dtype), backend_of(weight.array))
        generator = self.sampled_generator if averaged else self.generator
        with no_grad(), nn.mode(generator, training=False):
            images = as_array(generator(vectors))
        return np.array(backend_of(images).to_numpy(images), order="C")

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that training changes: both networks, both optimisers, the generator's average (if there is one), the
        key stream, the number of steps."""
        state: dict[str, npt.NDArray[Any]] = {
            "steps": np.array(self.steps, np.int64), "key": self.keys.key.data,
            "key_count": np.array(self.keys.count, np.int64),
        }
        for name, part in self._parts():
            state.update({f"{name}.{path}": array for path, array in part.state_dict().items()})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. If an entry is missing, unexpected or of another shape, raises a ValueError
        that names it, before anything changes.

        If the state is of a GAN without `ema`, the average starts from the generator in it."""
        own, parts, average = self.state_dict(), list(self._parts()), self.average
        begins = average is not None and not any(str(name).startswith("average.") for name in state)
        if begins:
            own = {name: array for name, array in own.items() if not name.startswith("average.")}
            parts = [(name, part) for name, part in parts if part is not average]
        check_state(type(self).__name__, own, state)
        for name, part in parts:
            part.load_state_dict({path.removeprefix(name + "."): array for path, array in state.items()
                                  if path.startswith(name + ".")})
        self.keys.restore(Key.from_data(state["key"]), int(state["key_count"]))
        self.steps = int(state["steps"])
        if begins and average is not None:
            average.reset()
            average.count = self.steps

    def _parts(self) -> Sequence[tuple[str, Any]]:
        parts = (("generator", self.generator), ("discriminator", self.discriminator),
                 ("g_optimizer", self.g_optimizer), ("d_optimizer", self.d_optimizer))
        return parts if self.average is None else (*parts, ("average", self.average))
