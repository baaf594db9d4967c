"""The unrolled GAN on the ring of Gaussians (Metz et al. 2017, section 3.1): the numbers from which every framework starts.

A round is an update of the discriminator by Adam, then one of the generator. The generator looks ahead over `steps` further
updates of the discriminator, which continue its moments. All updates use the same real points. The updates of the
discriminator and of the generator have new noise each.
"""
from dataclasses import dataclass

import numpy as np
from models import Adam, Dense, Layers, Weights, initial_weights

LATENT = 256
GENERATOR: Layers = (Dense(LATENT, 128), Dense(128, 128), Dense(128, 2))  # ReLU between
DISCRIMINATOR: Layers = (Dense(2, 128), Dense(128, 1))
ADAM = Adam(lr=1e-4)


@dataclass(frozen=True)
class RingStart:
    """Weights by layer ("0.weight"), a batch of points (batch, 2), and the noise of both updates (batch, LATENT), in
    float64."""

    generator: Weights
    discriminator: Weights
    real: np.ndarray
    d_noise: np.ndarray
    g_noise: np.ndarray

    def astype(self, dtype: str) -> "RingStart":
        convert = {name: value.astype(dtype) for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        players = {
            player: {name: value.astype(dtype) for name, value in getattr(self, player).items()}
            for player in ("generator", "discriminator")
        }  # fmt: skip
        return RingStart(**players, **convert)


def ring_start(batch: int, seed: int = 0) -> RingStart:
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * rng.integers(0, 8, batch) / 8
    points = 2 * np.stack([np.cos(angles), np.sin(angles)], 1) + rng.normal(0, 0.02, (batch, 2))
    noise = (rng.standard_normal((batch, LATENT)) for _ in range(2))
    generator, discriminator = initial_weights(GENERATOR, rng), initial_weights(DISCRIMINATOR, rng)
    # Each unit is active for some points. If one never were, Adam's second moment would be 0, where the slope of the square
    # root is infinite. tinygan then gives the right gradient 0, but the others give NaN unless the root is written with
    # care.
    discriminator["0.bias"] = np.abs(discriminator["0.bias"])
    exact = RingStart(generator, discriminator, points, *noise)
    return exact.astype("float32").astype("float64")
