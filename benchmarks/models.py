"""The networks that are benchmarked, each written once as a list of layers, and the numbers from which all subjects start.

A `subject_*.py` file turns these lists into the layers of its framework. Parameters have the names of those in PyTorch's
`Sequential`: "0.weight" (out, in), "0.bias" (out,), then the index of the next layer with parameters. Images are
(N, C, H, W).
"""
from dataclasses import dataclass, field
from math import prod, sqrt

import numpy as np

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Dense:
    """`x @ weight.T + bias`, weight (outputs, inputs), bias (outputs,)."""

    inputs: int
    outputs: int
    bias: bool = True

    def parameter_shapes(self) -> Shapes:
        return {"weight": (self.outputs, self.inputs), **({"bias": (self.outputs,)} if self.bias else {})}


@dataclass(frozen=True)
class Conv:
    """A square convolution, weight (outputs, inputs, kernel, kernel), bias (outputs,)."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def parameter_shapes(self) -> Shapes:
        shape = (self.outputs, self.inputs, self.kernel, self.kernel)
        return {"weight": shape, **({"bias": (self.outputs,)} if self.bias else {})}


@dataclass(frozen=True)
class ConvTranspose(Conv):
    """Its transpose, weight (inputs, outputs, kernel, kernel), bias (outputs,)."""

    def parameter_shapes(self) -> Shapes:
        shapes = super().parameter_shapes()
        return {**shapes, "weight": (self.inputs, self.outputs, self.kernel, self.kernel)}


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm in training mode, with running mean and unbiased variance. momentum: the weight of a new batch in them."""

    channels: int
    eps: float = 1e-5
    momentum: float = 0.1

    def parameter_shapes(self) -> Shapes:
        return {"weight": (self.channels,), "bias": (self.channels,)}


@dataclass(frozen=True)
class ReLU:
    pass


@dataclass(frozen=True)
class LeakyReLU:
    slope: float


@dataclass(frozen=True)
class Tanh:
    pass


@dataclass(frozen=True)
class Reshape:
    """(N, ...) -> (N, *shape), shape (C, H, W)."""

    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Flatten:
    """(N, C, H, W) -> (N, C * H * W)."""


Layer = Dense | Conv | ConvTranspose | BatchNorm | ReLU | LeakyReLU | Tanh | Reshape | Flatten
Layers = tuple[Layer, ...]
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Adam:
    """Adam with PyTorch's formula: `p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)`."""

    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Model:
    """A generator and a discriminator. `image_shape`: the shape of one example for the discriminator.

    dcgan_width: if it is given, tinygan uses its own `dcgan_networks` with this width. They must have the same parameters as
    the lists.
    """

    name: str
    latent_dim: int
    image_shape: tuple[int, ...]
    generator: Layers
    discriminator: Layers
    optimiser: Adam = Adam()
    dcgan_width: int | None = None

    @property
    def convolutional(self) -> bool:
        """Whether the examples are images with several axes. (Only in dense models are the examples of a batch never
        coupled.)"""
        return len(self.image_shape) == 3


def dcgan28(channels: int = 1, latent_dim: int = 100, width: int = 64) -> Model:
    """DCGAN for 28 x 28."""
    flat = 2 * width * 7 * 7
    return Model(
        "dcgan28", latent_dim, (channels, 28, 28),
        generator=(
            Dense(latent_dim, flat, bias=False), Reshape((2 * width, 7, 7)), BatchNorm(2 * width), ReLU(),
            *up(2 * width, width), ConvTranspose(width, channels, 4, 2, 1), Tanh(),
        ),
        discriminator=(
            Conv(channels, width, 4, 2, 1), LeakyReLU(0.2), *down(width, 2 * width), Flatten(), Dense(flat, 1),
        ),
        dcgan_width=width,
    )  # fmt: skip


def dcgan64(channels: int = 3, latent_dim: int = 100, width: int = 64) -> Model:
    """DCGAN for 64 x 64."""
    w = width
    return Model(
        "dcgan64", latent_dim, (channels, 64, 64),
        generator=(
            Reshape((latent_dim, 1, 1)), *up(latent_dim, 8 * w, stride=1, padding=0), *up(8 * w, 4 * w), *up(4 * w, 2 * w),
            *up(2 * w, w), ConvTranspose(w, channels, 4, 2, 1), Tanh(),
        ),
        discriminator=(
            Conv(channels, w, 4, 2, 1), LeakyReLU(0.2), *down(w, 2 * w), *down(2 * w, 4 * w), *down(4 * w, 8 * w),
            Conv(8 * w, 1, 4), Flatten(),
        ),
        dcgan_width=width,
    )  # fmt: skip


def dcgan128(channels: int = 3, latent_dim: int = 100, width: int = 64) -> Model:
    """DCGAN for 128 x 128: the one for 64 x 64 with one more stage. tinygan has no networks of this size of its own."""
    w = width
    return Model(
        "dcgan128", latent_dim, (channels, 128, 128),
        generator=(
            Reshape((latent_dim, 1, 1)), *up(latent_dim, 16 * w, stride=1, padding=0), *up(16 * w, 8 * w),
            *up(8 * w, 4 * w), *up(4 * w, 2 * w), *up(2 * w, w), ConvTranspose(w, channels, 4, 2, 1), Tanh(),
        ),
        discriminator=(
            Conv(channels, w, 4, 2, 1), LeakyReLU(0.2), *down(w, 2 * w), *down(2 * w, 4 * w), *down(4 * w, 8 * w),
            *down(8 * w, 16 * w), Conv(16 * w, 1, 4), Flatten(),
        ),
    )  # fmt: skip


def up(inputs: int, outputs: int, stride: int = 2, padding: int = 1) -> Layers:
    """Layers that enlarge the images. There is no bias: batch norm would subtract it again, and its gradient would be
    noise."""
    return ConvTranspose(inputs, outputs, 4, stride, padding, bias=False), BatchNorm(outputs), ReLU()


def down(inputs: int, outputs: int) -> Layers:
    return Conv(inputs, outputs, 4, 2, 1, bias=False), BatchNorm(outputs), LeakyReLU(0.2)


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
    "dcgan28": dcgan28(),
    "dcgan64": dcgan64(),
}  # fmt: skip


def initial_weights(layers: Layers, rng: np.random.Generator) -> Weights:
    """Initial weights in float64, with PyTorch's names. They are uniform in +-1 / sqrt(fan_in), and so are the biases,
    because a bias of zero would hide mistakes. The weights of batch norm are around 1."""
    weights: Weights = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, Dense | Conv | BatchNorm):
            shapes = layer.parameter_shapes()
            bound = 0.25 if isinstance(layer, BatchNorm) else 1 / sqrt(prod(shapes["weight"][1:]))
            for name, shape in shapes.items():
                centre = 1 if isinstance(layer, BatchNorm) and name == "weight" else 0
                weights[f"{index}.{name}"] = centre + rng.uniform(-bound, bound, shape)
    return weights


@dataclass(frozen=True)
class Start:
    """The common start of all subjects, in float64: weights, a batch of real examples, and the noise for both updates."""

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
    """The same numbers for every subject. They are rounded to float32, so that both precisions start from the same
    values."""
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
    """The losses and gradients of both networks at one point, by parameter name, in the shapes of `initial_weights`. And the
    running statistics afterwards ("generator.1.running_mean"); those of a network are updated only for its own loss."""

    d_loss: float
    g_loss: float
    discriminator: Weights
    generator: Weights
    statistics: Weights = field(default_factory=dict)


def running_statistics(generator: Weights, discriminator: Weights) -> Weights:
    """The statistics for `Gradients.statistics`, taken from all arrays of both networks under PyTorch's names."""
    return {
        f"{player}.{name}": value
        for player, arrays in (("generator", generator), ("discriminator", discriminator))
        for name, value in arrays.items()
        if name.endswith(("running_mean", "running_var"))
    }
