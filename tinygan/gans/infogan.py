"""InfoGAN (Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel 2016, "InfoGAN: Interpretable representation learning by
information maximizing generative adversarial nets", sections 4 to 6 and appendix C.1).

A latent vector is noise followed by codes c. A network Q reads the codes off the generated image, and both players also
maximise a lower bound of the mutual information of the codes and the image (equations 5 and 6):

    L_I = H(c) + mean(log Q(c | G(z, c)))

So the generator has to show every code in its images, such as which digit it makes. Q shares all layers but the last ones
with the discriminator. As in the paper's program, the discriminator's optimiser trains Q and the shared layers too; what it
minimises is the discriminator's cost minus weight * L_I. The generator's optimiser trains the generator alone, by the
generator's cost minus weight * L_I.
"""
from __future__ import annotations

__all__ = ["InfoGAN", "InfoStats", "infogan_networks"]

import math
from typing import Any, ClassVar, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.backends import backend_of
from tinygan.context import no_grad, override
from tinygan.devices import moved
from tinygan.gans import checks
from tinygan.gans.arguments import VanillaArguments
from tinygan.gans.codes import Codes
from tinygan.gans.dcgan import norm, up
from tinygan.gans.noises import NOISES
from tinygan.gans.stats import Stats, mean_of, number
from tinygan.gans.vanilla import VanillaGAN
from tinygan.graph import grad
from tinygan.nn.initializers import dcgan
from tinygan.ops import concatenate, mul, softmax
from tinygan.ops.ranks import mean_over_ranks
from tinygan.random import Key, as_key
from tinygan.tables import lookup
from tinygan.tensor import Tensor, as_array

Array = npt.NDArray[Any]
_CHUNK = 1000


class InfoStats(NamedTuple):
    """What a step reports: `Stats`, and the bound of the information in nats (see `Codes.measured`) before the
    discriminator's update. For one code of K classes it approaches log K: 2.30 for 10."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float
    categorical_nats: float
    continuous_nats: float


class Discriminator(nn.Module):
    """The shared layers `trunk`, the discriminator's own end `head`, and Q's own end `q`. Images -> logits (N, 1)."""

    couples_examples = False  # (this module itself: what its parts do, they say)

    def __init__(self, trunk: nn.Module, head: nn.Module, q: nn.Module) -> None:
        self.trunk = trunk
        self.head = head
        self.q = q

    def forward(self, images: Any) -> Any:
        return self.head(self.trunk(images))

    @property
    def in_a_row(self) -> nn.Sequential:
        """The layers from the image to the logit as one network, for figures."""
        return nn.Sequential(self.trunk, self.head)


class InfoGAN(VanillaGAN):
    """A GAN whose generator gets noise and codes, and a network Q that reads the codes off the images.

    generator: latent vectors (N, noise_dim + the codes' width) -> images. trunk: images -> features. head: features ->
    logits (N, 1). q: features -> (N, the codes' width). categorical: the number of classes of each categorical code, 2 or
    more. continuous: the number of codes that are uniform in [-1, 1). See `Codes`. weight: of the information, lambda in the
    paper. The other arguments are those of VanillaGAN; `noise` is the distribution of the noise alone. Raises ValueError or
    TypeError for codes without sense, and for networks that do not fit each other.
    """

    measures: ClassVar[tuple[str, ...]] = InfoStats._fields[4:]

    def __init__(self, generator: nn.Module, trunk: nn.Module, head: nn.Module, q: nn.Module, noise_dim: int, *,
                 categorical: tuple[int, ...] = (10,), continuous: int = 2, weight: float = 1.0,
                 **settings: Unpack[VanillaArguments]) -> None:
        self.codes = Codes(tuple(categorical), continuous).check("InfoGAN")
        if not isinstance(noise_dim, int) or noise_dim < 1:
            raise ValueError(f"InfoGAN: noise_dim should be a whole number of at least 1, got {noise_dim!r}")
        if not 0 < weight < math.inf:
            raise ValueError(f"InfoGAN: weight should be a positive number, got {weight}")
        for name, network in (("trunk", trunk), ("head", head), ("q", q)):
            if not isinstance(network, nn.Module):
                raise TypeError(f"InfoGAN: {name} should be a Module, such as nn.Sequential(...), got "
                                f"{type(network).__name__}")
        if len({id(network) for network in (trunk, head, q)}) < 3:
            raise ValueError("InfoGAN: trunk, head and q should be different networks")
        self.noise_dim, self.weight = noise_dim, weight
        self.trunk, self.head, self.q = trunk, head, q
        self._bounds: list[tuple[Any, Any]] = []  # of the discriminator's updates in this step
        super().__init__(generator, Discriminator(trunk, head, q), noise_dim + self.codes.width, **settings)
        self._check_networks()

    def _check_networks(self) -> None:
        """Raise ValueError unless the generator takes noise and codes, and q makes as many numbers as the codes have."""
        with no_grad(), nn.mode(self.generator, training=False), nn.mode(self.discriminator, training=False):
            try:
                images = self.generator(self.latent(2, Key(0)))
            except ValueError as error:
                raise ValueError(f"InfoGAN: generator should take latent vectors (N, {self.latent_dim}), {self.noise_dim} "
                                 f"numbers of noise and {self.codes.width} of codes: {error}") from error
            found = tuple(as_array(self.q(self.trunk(images))).shape)
        if found != (2, self.codes.width):
            raise ValueError(f"InfoGAN: q should make {self.codes.width} numbers per image, for categorical="
                             f"{self.codes.categorical} and continuous={self.codes.continuous}, but makes {found} of 2 "
                             "images")

    def latent(self, n: int, key: Key | None = None) -> Any:
        """n latent vectors (n, latent_dim), noise and then codes, drawn as `GAN.latent` says."""
        key = self.keys.next_key() if key is None else as_key("latent", key)
        weight = self.g_parameters[0]
        backend = backend_of(weight.array)
        noise = lookup(NOISES, type(self).__name__, "noise", self.noise)
        drawn = noise.draw(key.fold("noise"), (n, self.noise_dim), weight.dtype, backend)
        return concatenate([drawn, *self.codes.draw(key, n, weight.dtype, backend)], axis=1)

    def step(self, real: npt.ArrayLike) -> InfoStats:  # type: ignore[override]
        """One round of Algorithm 1, as `VanillaGAN.step`. Reports the information too."""
        self._bounds = []
        stats: Stats = super().step(real)
        bounds, self._bounds = self._bounds, []
        return InfoStats(*stats, *(mean_of(values) for values in zip(*bounds, strict=True)))

    def d_gradients(self, real: Any, z: Any) -> tuple[Tensor, list[Tensor], Any, Any]:
        """For real images (N, ...) and latent vectors z (M, latent_dim): what the discriminator and Q minimise, its
        gradients in the order of `discriminator.parameters()`, and the logits of the real and of the generated images."""
        with override(recording=False, updating=frozenset()):
            fake = self.generator(z)
        self._image_shape = fake.shape[1:]
        checks.check_shape(type(self).__name__, real, self._image_shape)
        images, codes = self.discriminator_batch(real, fake), z[:, self.noise_dim:]
        features: list[Any] = []

        def judge(images: Any) -> Any:
            features.append(self.trunk(images))
            return self.head(features[-1])

        with override(updating=self.d_modules):
            loss, real_logits, fake_logits = self.d_loss(judge, images)
            # The generated images come last: they are the second pass, or the end of the only one.
            seen = features[1] if isinstance(images, tuple) else features[0][len(real):]
            fit = self.codes.fit(self.q(seen), codes)
            loss = loss - mul(self.codes.bound(*fit), self.weight)
        self._bounds.append(self._numbers(fit))
        return loss, grad(loss, self.d_parameters), real_logits, fake_logits

    def g_gradients(self, z: Any, real: Any = None) -> tuple[Tensor, list[Tensor]]:
        """For latent vectors z (N, latent_dim): what the generator minimises, and its gradients in the order of
        `generator.parameters()`. real (N, ...): real images, for a cost that pairs images."""
        with override(updating=self.g_modules):
            fake = self.generator(z)
            self._first_step_checks.check_generated(fake)
            compared = (self._scores_of(real, fake, self.discriminator),) if self._game().pairs else ()
            features = self.trunk(self.with_instance_noise(fake))
            information = self.codes.bound(*self.codes.fit(self.q(features), z[:, self.noise_dim:]))
            loss = self.g_loss(self.head(features), *compared) - mul(information, self.weight)
        return loss, grad(loss, self.g_parameters)

    def _numbers(self, fit: tuple[Any, Any]) -> tuple[Any, ...]:
        """The measures of an update, as numbers (see `stats.number`)."""
        found = self.codes.measured(*(part if isinstance(part, float) else mean_over_ranks(as_array(part)) for part in fit))
        return tuple(part if isinstance(part, float) else number(part) for part in found)

    def read(self, images: npt.ArrayLike) -> tuple[list[Array], Array]:
        """What Q reads off images (N, C, H, W) in [-1, 1]: the probabilities (N, K) of the classes of each categorical code,
        and the means (N, M) of the continuous codes, as NumPy arrays. Batch norm uses its running statistics, so that each
        image is read by itself. Raises ValueError for images of another shape."""
        weight = self.d_parameters[0]
        backend = backend_of(weight.array)
        x = checks.as_images(images, weight.dtype)
        made = self.sample(1).shape[1:]
        if x.shape[1:] != made:
            raise ValueError(f"InfoGAN.read: images should be (N, {', '.join(map(str, made))}), got {tuple(x.shape)}")
        rows = []
        with no_grad(), nn.mode(self.discriminator, training=False):
            for start in range(0, max(len(x), 1), _CHUNK):
                found = self.q(self.trunk(moved(x[start:start + _CHUNK], backend)))
                logits, means = self.codes.split(as_array(found))
                rows.append([backend.to_numpy(part) for part in [*(softmax(one, 1) for one in logits), means]])
        *categorical, continuous = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        return categorical, continuous

    def traverse(self, rows: int, steps: int, limit: float, key: Key) -> dict[str, Array]:
        """Latent vectors in which one code is varied: for every code, by name, an array (rows, columns, latent_dim).

        Each row has noise and other codes of its own, drawn from `key` and the same for all codes. The columns of a
        categorical code ("categorical_1", ...) are its classes. Those of a continuous one ("continuous_1", ...) are `steps`
        values from -limit to limit; the generator was trained on -1 to 1. There the rows show all classes of the first
        categorical code in turn."""
        drawn = self.latent(rows, key)
        base = np.array(backend_of(drawn).to_numpy(drawn))
        found, first = {}, self.noise_dim
        for i, classes in enumerate(self.codes.categorical, 1):
            z = np.repeat(base[:, None], classes, axis=1)
            z[:, :, first:first + classes] = np.eye(classes, dtype=z.dtype)
            found[f"categorical_{i}"] = z
            first += classes
        if self.codes.categorical:
            classes = self.codes.categorical[0]
            base[:, self.noise_dim:self.noise_dim + classes] = np.eye(classes, dtype=base.dtype)[np.arange(rows) % classes]
        for i in range(self.codes.continuous):
            z = np.repeat(base[:, None], steps, axis=1)
            z[:, :, first + i] = np.linspace(-limit, limit, steps, dtype=z.dtype)
            found[f"continuous_{i + 1}"] = z
        return found


def infogan_networks(image_shape: tuple[int, int, int] = (1, 28, 28), noise_dim: int = 62, *,
                     categorical: tuple[int, ...] = (10,), continuous: int = 2, width: int = 64, hidden: int = 1024,
                     d_norm: bool = True) -> tuple[nn.Sequential, nn.Sequential, nn.Module, nn.Sequential]:
    """The generator, trunk, head and q of the paper's table for MNIST (appendix C.1), for images (C, H, W) in [-1, 1].

    width: channels at half the image's size; there are twice as many at a quarter. hidden: units of the dense layers; q has
    128. d_norm: False leaves out batch norm in trunk and q, so that the discriminator's gradient can be penalised. As in the
    paper, there is batch norm before every activation but those next to the image. Raises ValueError for sides that are no
    multiples of 4.
    """
    codes = Codes(tuple(categorical), continuous).check("infogan_networks")
    channels, height, across = image_shape
    if height % 4 or across % 4 or min(image_shape) < 1:
        raise ValueError(f"infogan_networks: image_shape should be (channels, H, W), H and W multiples of 4, got "
                         f"{tuple(image_shape)}")
    for name, value in (("noise_dim", noise_dim), ("width", width), ("hidden", hidden)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"infogan_networks: {name} should be a whole number of at least 1, got {value!r}")
    small = (2 * width, height // 4, across // 4)
    flat = math.prod(small)

    def dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        norms = [norm(outputs)] if d_norm else []
        return nn.Dense(inputs, outputs, bias=not d_norm, initializer=dcgan), *norms, nn.LeakyReLU(0.1)

    generator = nn.Sequential(
        nn.Dense(noise_dim + codes.width, hidden, bias=False, initializer=dcgan), norm(hidden), nn.ReLU(),
        nn.Dense(hidden, flat, bias=False, initializer=dcgan), norm(flat), nn.ReLU(), nn.Reshape(*small),
        *up(2 * width, width),
        nn.ConvTranspose2d(width, channels, 4, 2, 1, initializer=dcgan), nn.Tanh(),
    )
    trunk = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1, initializer=dcgan), nn.LeakyReLU(0.1),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=not d_norm, initializer=dcgan), *([norm(2 * width)] if d_norm else []),
        nn.LeakyReLU(0.1),
        nn.Flatten(), *dense(flat, hidden),
    )
    q = nn.Sequential(*dense(hidden, 128), nn.Dense(128, codes.width, initializer=dcgan))
    return generator, trunk, nn.Dense(hidden, 1, initializer=dcgan), q
