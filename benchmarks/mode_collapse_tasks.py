"""The experiments of `mode_collapse.py`: two mixtures in the plane, and stacked MNIST."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.data import Mixture
from tinygan.metrics import digits
from tinygan.random import Key

Measure = Callable[[np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Rates:
    """The settings of both networks' Adam."""

    g: float
    d: float
    beta1: float
    beta2: float


@dataclass(frozen=True)
class Game:
    """What the players of a method minimise: a cost of `tg.gans.COSTS`, and the penalties on the discriminator."""

    cost: str
    penalties: tuple[str, ...]


GAMES = {
    "rpgan": Game("relativistic", ("r1", "r2")),
    "gan-r1-r2": Game("non-saturating", ("r1", "r2")),
    "rpgan-r1": Game("relativistic", ("r1",)),
    "gan-r1": Game("non-saturating", ("r1",)),
}
"""The methods that Huang et al. 2024 compare in table 1: with and without relativistic pairing, and R2."""


@dataclass(frozen=True)
class Task:
    """An experiment. looks: how often the samples are measured during the training. networks: the names of the pairs of
    networks to choose from. samples: how many samples are measured. columns: the measures and their headings. published:
    rows with published results for the table. classifier: the version of the classifier that the measures need, or None.
    gamma: the weight of the penalties of `GAMES`."""

    steps: int
    batch: int
    looks: int
    samples: int
    networks: tuple[str, ...]
    cost: str
    columns: Mapping[str, str]
    published: tuple[dict[str, str], ...]
    open: Callable[..., tuple[Callable[[Key], np.ndarray], Measure]] = field(repr=False)
    """A function (batch size, folder of the data, split="train") that returns two functions: from a key to a batch of real
    samples, and from generated samples to the measures."""
    players: Callable[[str, str], tuple[nn.Module, nn.Module, int, Rates, str]] = field(repr=False)
    """(networks, method) -> (generator, discriminator, latent dimension, rates, noise)."""
    classifier: int | None = None
    gamma: float = 1.0


# -- mixtures in the plane -------------------------------------------------------------------------------------------

LATENT = 256
HIDDEN = 128
SCALE = 4.0  # what the discriminator divides points by (Metz et al.)


class Divide(nn.Module):
    """x / by."""

    couples_examples = False

    def __init__(self, by: float) -> None:
        self.by = by

    def forward(self, x: Any) -> Any:
        return tg.mul(x, 1 / self.by)


def planar_players(networks: str, method: str) -> tuple[nn.Module, nn.Module, int, Rates, str]:
    """The networks with that name.

    "metz": those of Metz et al. 2017, section 3.1: 256-128-128-2 and 2-128-1, ReLU, orthogonal with gain 0.8.
    "deep": the same with a second hidden layer in the discriminator.
    "normed": like those of PacGAN, with a third of their width: latent vectors in the plane, three hidden layers in each
    network, batch norm in the generator.
    "leaky": the same without batch norm, whose statistics change from batch to batch and so blur the modes.
    "corners": as "leaky", but with latent vectors of 16 random signs, the corners of a cube. A generator is a continuous
    function. If its latent vectors fill the plane, it must make points between the modes. There are no latent vectors
    between the corners, so it need not make any.
    "r3gan": 64-256-256-2 with ReLU and 2-256-256-1 with leaky ReLU 0.2, for RpGAN + R1 + R2 (Huang et al. 2024)."""
    if networks == "r3gan":
        generator = nn.Sequential(nn.Dense(64, 256), nn.ReLU(), nn.Dense(256, 256), nn.ReLU(), nn.Dense(256, 2))
        leaky = nn.LeakyReLU(0.2)
        discriminator = nn.Sequential(nn.Dense(2, 256), leaky, nn.Dense(256, 256), leaky, nn.Dense(256, 1))
        return generator, discriminator, 64, Rates(2e-4, 2e-4, 0.0, 0.99), "normal"
    start = None if networks in ("normed", "leaky", "corners") else nn.initializers.orthogonal(0.8)

    def dense(inputs: int, outputs: int) -> nn.Dense:
        return nn.Dense(inputs, outputs, initializer=start)

    pairs, features = [], HIDDEN
    if method == "minibatch":
        pairs, features = [nn.MinibatchDiscrimination(HIDDEN, 10, 4, average=True)], HIDDEN + 10
    noise = "normal"
    if networks in ("normed", "leaky", "corners"):
        latent_dim, up, down = 2, [], []
        if networks == "corners":
            latent_dim, noise = 16, "bernoulli"
        for inputs in (latent_dim, HIDDEN, HIDDEN):
            up.append(dense(inputs, HIDDEN))
            up += [nn.BatchNorm(HIDDEN), nn.ReLU()] if networks == "normed" else [nn.LeakyReLU(0.2)]
        for inputs in (2, HIDDEN, HIDDEN):
            down += [dense(inputs, HIDDEN), nn.LeakyReLU(0.2)]
    else:
        latent_dim = LATENT
        up = [dense(latent_dim, HIDDEN), nn.ReLU(), dense(HIDDEN, HIDDEN), nn.ReLU()]
        down = [dense(2, HIDDEN), nn.ReLU(), *([dense(HIDDEN, HIDDEN), nn.ReLU()] if networks == "deep" else [])]
    generator = nn.Sequential(*up, dense(HIDDEN, 2))
    discriminator = nn.Sequential(Divide(SCALE), *down, *pairs, dense(features, 1))
    return generator, discriminator, latent_dim, Rates(1e-4, 1e-4, 0.5, 0.999), noise


def planar(mixture: Mixture, published: tuple[dict[str, str], ...]) -> Task:
    def measure(samples: np.ndarray) -> dict[str, float]:
        found = tg.metrics.mixture_coverage(samples, mixture.centres, mixture.sigma)
        return {"modes": found.modes, "high_quality": 100 * found.high_quality, "reverse_kl": found.reverse_kl}

    def open_(batch: int, data_dir: str | None, split: str = "train") -> tuple[Callable[[Key], np.ndarray], Measure]:
        return lambda key: mixture.sample(batch, key), measure

    return Task(
        steps=25_000, batch=512, looks=20, samples=2500, networks=("metz", "deep", "normed", "leaky", "corners", "r3gan"),
        cost="minimax",
        columns={"modes": "modes", "high_quality": "high quality, %", "reverse_kl": "reverse KL"},
        published=published, open=open_, players=planar_players,
    )  # fmt: skip


# -- stacked MNIST ---------------------------------------------------------------------------------------------------


def plain_players(width: int) -> tuple[nn.Module, nn.Module]:
    """A generator and a discriminator of two convolutions, 4x4 with stride 2, between `width` and 2 * `width` channels, and
    two dense layers with 256 values between them. The dense layers see a digit as a whole, convolutions only 10x10 pixels.
    Leaky ReLU 0.2; no normalisation, as in R3GAN; the generator has no tanh at its end."""
    generator = nn.Sequential(
        nn.Dense(64, 256), nn.LeakyReLU(0.2),
        nn.Dense(256, 2 * width * 7 * 7), nn.Reshape(2 * width, 7, 7), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(width, 3, 4, 2, 1),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Dense(2 * width * 7 * 7, 256), nn.LeakyReLU(0.2), nn.Dense(256, 1),
    )  # fmt: skip
    return generator, discriminator


def stacked_players(networks: str, method: str) -> tuple[nn.Module, nn.Module, int, Rates, str]:
    """The networks with that name. "quarter" and "half": the small networks of Metz et al. as PacGAN implemented them, named
    after the size of the discriminator. "dcgan": those of DCGAN, with a quarter of their width or all of it. "plain": those
    of `plain_players`, named after their width."""
    if networks.startswith("plain"):
        return *plain_players(int(networks.removeprefix("plain"))), 64, Rates(1e-3, 1e-3, 0.0, 0.99), "normal"
    if networks.startswith("dcgan"):
        width = int(networks.removeprefix("dcgan"))
        generator, discriminator = tg.gans.dcgan_networks((3, 28, 28), 100, width)
        if method == "minibatch":
            features = 2 * width * 7 * 7
            discriminator = nn.Sequential(
                *discriminator[:-1], nn.MinibatchDiscrimination(features, 50, 5, nn.initializers.normal(0.02)),
                nn.Dense(features + 50, 1, initializer=nn.initializers.dcgan),
            )  # fmt: skip
        return generator, discriminator, 100, Rates(2e-4, 2e-4, 0.5, 0.999), "uniform"
    first = 2 if networks == "quarter" else 4
    start = nn.initializers.dcgan

    def up(inputs: int, outputs: int, more: int) -> list[nn.Module]:
        layer = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=more, bias=False, initializer=start)
        return [layer, nn.BatchNorm(outputs), nn.ReLU()]

    def down(inputs: int, outputs: int) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False, initializer=start)
        return [layer, nn.BatchNorm(outputs), nn.LeakyReLU(0.3)]

    generator = nn.Sequential(
        nn.Dense(256, 64 * 4 * 4, bias=False, initializer=start), nn.Reshape(64, 4, 4), nn.BatchNorm(64), nn.ReLU(),
        *up(64, 32, 0), *up(32, 16, 1), *up(16, 8, 1), nn.Conv2d(8, 3, 3, 1, 1, initializer=start), nn.Tanh(),
    )  # fmt: skip
    features = 4 * first * 4 * 4
    layers = [*down(3, first), *down(first, 2 * first), *down(2 * first, 4 * first), nn.Flatten()]
    if method == "minibatch":
        layers.append(nn.MinibatchDiscrimination(features, 50, 5))
        features += 50
    discriminator = nn.Sequential(*layers, nn.Dense(features, 1, initializer=start))
    return generator, discriminator, 256, Rates(1e-4, 2e-4, 0.5, 0.99), "normal"


def open_stacked(batch: int, data_dir: str | None, split: str = "train") -> tuple[Callable[[Key], np.ndarray], Measure]:
    train, test = (tg.data.load(data_dir, split=name) for name in ("train", "test"))
    if train.name != "mnist":
        raise RuntimeError("stacked MNIST needs MNIST: --data-dir, or the environment variable TINYGAN_DATA")
    classifier = tg.metrics.digit_classifier(train, test)

    def measure(samples: np.ndarray) -> dict[str, float]:
        found = classifier.coverage(samples)
        assert found.confidence is not None
        return {"modes": found.modes, "kl": found.kl, "confidence": found.confidence,
                "classifier": round(100 * classifier.accuracy, 2)}

    def real(key: Key) -> np.ndarray:
        return tg.data.stacked(train if split == "train" else test, batch, key).batch(np.arange(batch))

    return real, measure


# -- all of them -----------------------------------------------------------------------------------------------------


def found(method: str, *values: str) -> dict[str, str]:
    return dict(zip(("method", "modes", "high_quality", "reverse_kl"), (method, *values), strict=False))


STACKED_PUBLISHED = (
    ("K = 0, quarter, Metz et al.", "30.6 ± 20.7", "5.99 ± 0.42", "64 M"),
    ("K = 10, quarter, Metz et al.", "327.2 ± 74.7", "4.66 ± 0.46", "64 M"),
    ("K = 0, half, Metz et al.", "628.0 ± 140.9", "2.58 ± 0.75", "64 M"),
    ("K = 10, half, Metz et al.", "817.4 ± 37.9", "1.43 ± 0.12", "64 M"),
    ("K = 0, quarter, PacGAN's table", "78.5 ± 17.6", "5.21 ± 0.19", "64 M"),
    ("K = 0, half, PacGAN's table", "487.7 ± 34.6", "2.24 ± 0.15", "64 M"),
    ("DCGAN, PacGAN's table", "78.9 ± 6.5", "4.50", "6.4 M"), ("PacDCGAN2", "1000", "0.06", "6.4 M"),
    ("DCGAN, VEEGAN's table", "99", "3.4"), ("VEEGAN", "150", "2.95"),
    ("DCGAN, GDPP's table", "427", "3.163"), ("WGAN-GP, GDPP's table", "995", "0.148"), ("GDPP", "1000", "0.135"),
    ("WGAN-GP, R3GAN's table", "959", "0.73"), ("StyleGAN2, R3GAN's table", "940", "0.42"), ("PresGAN", "1000", "0.12"),
    ("VAEBM", "1000", "0.087"), ("DDGAN", "1000", "0.071"), ("MEG", "1000", "0.031"),
    ("RpGAN + R1 + R2, R3GAN's table 1", "1000", "0.0781"), ("GAN + R1 + R2, R3GAN's table 1", "693", "0.9270"),
    ("RpGAN + R1, R3GAN's table 1", "diverges"), ("GAN + R1, R3GAN's table 1", "diverges"),
    ("R3GAN, config E, on eight GPUs", "1000", "0.029", "10 M", "20.7 M + 20.7 M"),
    ("uniform labels (expected)", "1000", "0.019"),
)
"""Method, modes, KL and, where the source gives them, images seen and parameters of generator and discriminator."""

TASKS = {
    "ring": planar(tg.data.gaussian_ring(), (
        found("GAN, VEEGAN's table (radius 1, sigma 0.01)", "1", "99.3"),
        found("unrolled, K = 5, VEEGAN's table", "7.6", "35.6"), found("VEEGAN", "8", "52.9"),
        found("GAN, PacGAN's table (radius 1, sigma 0.01)", "6.3 ± 0.5", "98.2 ± 0.2", "0.45"),
        found("PacGAN2", "7.9 ± 0.1", "95.6", "0.07"), found("GDPP", "8.0", "71.7"),
        found("the mixture itself (closed form)", "8", "98.9", "0.001"),
    )),
    "grid": planar(tg.data.gaussian_grid(), (
        found("GAN, VEEGAN's table", "3.3", "0.5"), found("unrolled, K = 5, VEEGAN's table", "23.6", "16"),
        found("VEEGAN", "24.6", "40"), found("GAN, PacGAN's table", "17.3 ± 0.8", "94.8", "0.70"),
        found("PacGAN4", "24.8 ± 0.2", "93.6", "0.04"), found("GDPP", "24.8", "68.5"),
        found("the mixture itself (closed form)", "25", "98.9", "0.005"),
    )),
    "stacked_mnist": Task(
        steps=500_000, batch=128, looks=15, samples=26_000,
        networks=("quarter", "half", "dcgan16", "dcgan64", "plain32", "plain256"),
        cost="non-saturating", classifier=digits.VERSION,
        columns={"modes": "modes", "kl": "KL", "confidence": "confidence", "classifier": "classifier, %"},
        published=tuple(
            dict(zip(("method", "modes", "kl", "images", "parameters"), row, strict=False)) for row in STACKED_PUBLISHED
        ),
        open=open_stacked, players=stacked_players, gamma=0.5,
    ),
}  # fmt: skip
