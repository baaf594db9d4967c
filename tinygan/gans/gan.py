"""What every GAN here has: two players with an optimiser each, latent vectors from a key, sampling, and its whole state."""
from __future__ import annotations

__all__ = ["GAN", "Stats"]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import no_grad
from tinygan.devices import moved
from tinygan.foreign import as_numbers
from tinygan.listening import advanced
from tinygan.nn.state import check_state
from tinygan.optim import Adam, Optimizer
from tinygan.random import Key, KeyStream, as_key
from tinygan.tensor import as_array

NOISES = ("normal", "uniform", "bernoulli")


class Stats(NamedTuple):
    """What one step reports: both players' losses, and the mean probability that the discriminator gave to real and
    to generated images before its update. On a GPU these are arrays of one number, and `float` waits for them."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float


class GAN:
    """A generator (N, latent_dim) -> images and a discriminator images -> logits (N, 1), and what training them needs.

    noise: "normal" (mean 0, variance 1), "uniform" in [-1, 1), or "bernoulli": -1 or 1, as likely each. Between the corners
    that these are a generator need not make anything, so that it can leave modes apart. Optimisers default to
    Adam(2e-4, betas=(0.5, 0.999)). Parameters that are neither initialised nor loaded are drawn from `key`, and so is
    everything random in training.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent_dim: int, *, noise: str = "normal",
                 g_optimizer: Optimizer | None = None, d_optimizer: Optimizer | None = None,
                 key: Key | None = None) -> None:
        if noise not in NOISES:
            raise ValueError(f"GAN: unknown noise {noise!r}, expected one of {', '.join(NOISES)}")
        if isinstance(latent_dim, bool) or not isinstance(latent_dim, int | np.integer) or latent_dim < 1:
            raise ValueError(f"GAN: latent_dim should be a whole number of at least 1, got {latent_dim!r}")
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(network, nn.Module):
                raise TypeError(f"GAN: {name} should be a Module, such as nn.Sequential(...), got {_kind(network)}")
        for name, optimizer in (("g_optimizer", g_optimizer), ("d_optimizer", d_optimizer)):
            if not isinstance(optimizer, Optimizer | None):
                raise TypeError(f"GAN: {name} should be an optimiser, such as Adam(2e-4), got {_kind(optimizer)}")
        if generator is discriminator:
            raise ValueError("GAN: generator and discriminator are one and the same network; they should be two")
        if not generator.parameters() or not discriminator.parameters():
            raise ValueError("GAN: both networks should have parameters")
        key = as_key("GAN", key, Key(0))
        self._generator = generator.initialize(key.fold("generator"))
        self._discriminator = discriminator.initialize(key.fold("discriminator"))
        self.latent_dim = latent_dim
        self.noise = noise
        self.g_optimizer = g_optimizer or Adam()
        self.d_optimizer = d_optimizer or Adam()
        self.g_optimizer.bind(generator)
        self.d_optimizer.bind(discriminator)
        # What every step asks the networks for, looked up once.
        self.g_parameters = generator.parameters()
        self.d_parameters = discriminator.parameters()
        self.g_identities = nn.identities(generator)
        self.d_identities = nn.identities(discriminator)
        self.keys = KeyStream(key.fold("training"))
        self.steps = 0

    @property
    def generator(self) -> nn.Module:
        """Latent vectors (N, latent_dim) -> images. To train another one, make another GAN."""
        return self._generator

    @property
    def discriminator(self) -> nn.Module:
        """Images -> logits (N, 1)."""
        return self._discriminator

    def step(self, real: Any) -> Stats:
        """One round of training on a batch of real images."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def to(self, device: str) -> Self:
        """Bring both networks to that device ("cpu", "cuda", "cuda:1"); their optimisers' state follows. Raises DeviceError
        where there is none."""
        self.generator.to(device)
        self.discriminator.to(device)
        return self

    def _counted(self) -> None:
        """One step more."""
        self.steps += 1
        advanced(self._counted)

    def latent(self, n: int, key: Key | None = None) -> Any:
        """n latent vectors (n, latent_dim), from `key` or else from the training's own stream."""
        key = self.keys.next_key() if key is None else as_key("latent", key)
        weight = self.g_parameters[0]
        backend = backend_of(weight.array)
        if self.noise == "uniform":
            return key.uniform((n, self.latent_dim), -1.0, 1.0, weight.dtype, backend=backend)
        if self.noise == "bernoulli":
            return (key.bits((n, self.latent_dim), backend=backend) & 1).astype(weight.dtype) * 2.0 - 1.0
        return key.normal((n, self.latent_dim), weight.dtype, backend=backend)

    def sample(self, n: int = 64, z: Any = None, key: Key | None = None) -> np.ndarray[Any, Any]:
        """Generated images as a NumPy array: from the latent vectors z (n, latent_dim) if given (whatever `np.asarray`
        takes, and arrays of any device), else from `key` (by default a fixed one, so the same images for the same weights).
        Training is not disturbed. Raises ValueError or TypeError where z, n or key will not do."""
        if z is None:
            if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
                given = type(n).__name__ if np.ndim(n) else repr(n)
                raise TypeError(f"sample: n should be a number of images, got {given}; "
                                "latent vectors go in by name: sample(z=...)")
            z = self.latent(int(n), as_key("sample", key, Key(0).fold("sample")))
        else:
            z = self._checked_latent(z)
        with no_grad(), nn.mode(self.generator, training=False):
            images = as_array(self.generator(z))
        return np.array(backend_of(images).to_numpy(images), order="C")

    def _checked_latent(self, z: Any) -> Any:
        """z (n, latent_dim) beside the generator and in its precision."""
        weight = self.g_parameters[0]
        z = as_numbers("sample: z", z)
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"sample: z should have shape (n, {self.latent_dim}), got {tuple(z.shape)}")
        with np.errstate(over="ignore"):
            z = z.astype(weight.dtype, copy=False)
        finite = np.isfinite(backend_of(z).to_numpy(z)).all(axis=1)
        if not finite.all():
            raise ValueError(f"sample: z[{int(finite.argmin())}] holds NaN or infinity (in {z.dtype})")
        return moved(z, backend_of(weight.array))

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that training changes: both networks, both optimisers, the key stream, the number of steps."""
        state: dict[str, np.ndarray[Any, Any]] = {
            "steps": np.array(self.steps, np.int64), "key": self.keys.key.data,
            "key_count": np.array(self.keys.count, np.int64),
        }
        for name, part in self._parts():
            state.update({f"{name}.{path}": array for path, array in part.state_dict().items()})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises ValueError, before anything changes, naming what is missing,
        unexpected or of another shape."""
        check_state(type(self).__name__, self.state_dict(), state)
        for name, part in self._parts():
            part.load_state_dict({path.removeprefix(name + "."): array for path, array in state.items()
                                  if path.startswith(name + ".")})
        self.keys.restore(Key.from_data(state["key"]), int(state["key_count"]))
        self.steps = int(state["steps"])

    def _parts(self) -> Sequence[tuple[str, Any]]:
        return (("generator", self.generator), ("discriminator", self.discriminator),
                ("g_optimizer", self.g_optimizer), ("d_optimizer", self.d_optimizer))


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
