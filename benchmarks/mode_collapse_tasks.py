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
class Task:
    """An experiment. networks: the names of the pairs of networks to choose from. samples: how many samples are measured.
    columns: the measures and their headings. published: rows with published results for the table. classifier: the version
    of the classifier that the measures need, or None."""

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
    between the corners, so it need not make any."""
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
        steps=25_000, batch=512, looks=20, samples=2500, networks=("metz", "deep", "normed", "leaky", "corners"),
        cost="minimax",
        columns={"modes": "modes", "high_quality": "high quality, %", "reverse_kl": "reverse KL"},
        published=published, open=open_, players=planar_players,
    )  # fmt: skip


# -- stacked MNIST ---------------------------------------------------------------------------------------------------


def stacked_players(networks: str, method: str) -> tuple[nn.Module, nn.Module, int, Rates, str]:
    """The networks with that name. "quarter" and "half": the small networks of Metz et al. as PacGAN implemented them, named
    after the size of the discriminator. "dcgan": those of DCGAN, with a quarter of their width or all of it."""
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
        steps=500_000, batch=128, looks=5, samples=26_000, networks=("quarter", "half", "dcgan16", "dcgan64"),
        cost="non-saturating", classifier=digits.VERSION,
        columns={"modes": "modes", "kl": "KL", "confidence": "confidence", "classifier": "classifier, %"},
        published=tuple(
            {"method": method, "modes": modes, "kl": kl}
            for method, modes, kl in (
                ("K = 0, quarter, Metz et al.", "30.6 ± 20.7", "5.99 ± 0.42"),
                ("K = 10, quarter, Metz et al.", "327.2 ± 74.7", "4.66 ± 0.46"),
                ("K = 0, half, Metz et al.", "628.0 ± 140.9", "2.58 ± 0.75"),
                ("K = 10, half, Metz et al.", "817.4 ± 37.9", "1.43 ± 0.12"),
                ("K = 0, quarter, PacGAN's table", "78.5 ± 17.6", "5.21 ± 0.19"),
                ("K = 0, half, PacGAN's table", "487.7 ± 34.6", "2.24 ± 0.15"),
                ("DCGAN, PacGAN's table", "78.9 ± 6.5", "4.50"), ("DCGAN, VEEGAN's table", "99", "3.4"),
                ("DCGAN, GDPP's table", "427", "3.163"), ("PacDCGAN2", "1000", "0.06"),
                ("uniform labels (expected)", "1000", "0.019"),
            )
        ),
        open=open_stacked, players=stacked_players,
    ),
}  # fmt: skip
