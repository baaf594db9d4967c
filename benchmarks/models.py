"""The networks that are benchmarked, each written once as a list of layers, and the numbers that subjects start from.

A `subject_*.py` file turns these lists into its own framework's layers. Parameters are named as PyTorch names those of
a `Sequential`: "0.weight" (out, in), "0.bias" (out,), then the index of the next layer that has any.
"""
from dataclasses import dataclass
from math import sqrt

import numpy as np


@dataclass(frozen=True)
class Dense:
    """`x @ weight.T + bias`, weight (outputs, inputs), bias (outputs,)."""

    inputs: int
    outputs: int

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}

    @property
    def fan_in(self) -> int:
        return self.inputs


@dataclass(frozen=True)
class LeakyReLU:
    slope: float


@dataclass(frozen=True)
class Tanh:
    pass


Layer = Dense | LeakyReLU | Tanh
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Adam:
    """Adam with PyTorch's formula: `p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)`."""

    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Model:
    """Two players. `image_shape` is the shape of one example as the discriminator takes it."""

    name: str
    latent_dim: int
    image_shape: tuple[int, ...]
    generator: tuple[Layer, ...]
    discriminator: tuple[Layer, ...]
    optimiser: Adam = Adam()


MODELS = {
    "vanilla": Model(
        name="vanilla",
        latent_dim=100,
        image_shape=(784,),
        generator=(
            Dense(100, 256), LeakyReLU(0.2), Dense(256, 512), LeakyReLU(0.2), Dense(512, 1024), LeakyReLU(0.2),
            Dense(1024, 784), Tanh(),
        ),
        discriminator=(Dense(784, 512), LeakyReLU(0.2), Dense(512, 256), LeakyReLU(0.2), Dense(256, 1)),
    ),
}  # fmt: skip


def initial_weights(layers: tuple[Layer, ...], rng: np.random.Generator) -> Weights:
    """Uniform in +-1 / sqrt(fan_in), biases too (a bias of zero would hide a mistake), float64, named as PyTorch's."""
    weights: Weights = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, Dense):
            bound = 1 / sqrt(layer.fan_in)
            for name, shape in layer.parameter_shapes().items():
                weights[f"{index}.{name}"] = rng.uniform(-bound, bound, shape)
    return weights


@dataclass(frozen=True)
class Start:
    """What all subjects start from: weights, a batch of real examples, and the noise of both updates; float64."""

    generator: Weights
    discriminator: Weights
    real: np.ndarray  # (batch, *image_shape), in [-1, 1]
    d_noise: np.ndarray  # (batch, latent_dim)
    g_noise: np.ndarray  # (batch, latent_dim)

    def astype(self, dtype: str) -> "Start":
        return Start(
            {name: value.astype(dtype) for name, value in self.generator.items()},
            {name: value.astype(dtype) for name, value in self.discriminator.items()},
            self.real.astype(dtype),
            self.d_noise.astype(dtype),
            self.g_noise.astype(dtype),
        )


def start(model: Model, batch: int, seed: int = 0) -> Start:
    """The same numbers for every subject. They are rounded to float32 so that both precisions start at one point."""
    rng = np.random.default_rng(seed)
    exact = Start(
        initial_weights(model.generator, rng),
        initial_weights(model.discriminator, rng),
        rng.uniform(-1, 1, (batch, *model.image_shape)),
        rng.standard_normal((batch, model.latent_dim)),
        rng.standard_normal((batch, model.latent_dim)),
    )
    return exact.astype("float32").astype("float64")


@dataclass(frozen=True)
class Gradients:
    """Both players' losses and gradients at one point, by parameter name, in the shapes of `initial_weights`."""

    d_loss: float
    g_loss: float
    discriminator: Weights
    generator: Weights
