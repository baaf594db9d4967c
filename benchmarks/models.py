"""The networks that are benchmarked, each written once as a list of layers, and the numbers from which all subjects start.

A `subject_*.py` file turns these lists into the layers of its framework. Parameters have the names of those in PyTorch's
`Sequential`: "0.weight" (out, in), "0.bias" (out,), then the index of the next layer with parameters; those in a residual
block "3.block.0.weight". Images are (N, C, H, W).
"""
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
    """A square convolution, weight (outputs, inputs / groups, kernel, kernel), bias (outputs,)."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    groups: int = 1

    def parameter_shapes(self) -> Shapes:
        shape = (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        return {"weight": shape, **({"bias": (self.outputs,)} if self.bias else {})}


@dataclass(frozen=True)
class ConvTranspose(Conv):
    """Its transpose, weight (inputs, outputs, kernel, kernel), bias (outputs,), without groups."""

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


@dataclass(frozen=True)
class Residual:
    """x + block(x)."""

    block: "Layers"


@dataclass(frozen=True)
class Bilinear:
    """Images (N, C, H, W) at twice or half the size, by bilinear interpolation."""

    scale: float


@dataclass(frozen=True)
class Basis:
    """(N, inputs) -> (N, channels, size, size): a learnt image times the outputs of a dense layer, one for each channel."""

    inputs: int
    channels: int
    size: int

    def parameter_shapes(self) -> Shapes:
        return {"scales.weight": (self.channels, self.inputs), "image": (self.channels, self.size, self.size)}


@dataclass(frozen=True)
class Projection:
    """(N, channels, size, size) -> (N, 1): times a learnt image, summed over pixels, then a dense layer."""

    channels: int
    size: int

    def parameter_shapes(self) -> Shapes:
        return {"image": (self.channels, self.size, self.size), "scores.weight": (1, self.channels)}


WithParameters = Dense | Conv | BatchNorm | Basis | Projection
Layer = WithParameters | ReLU | LeakyReLU | Tanh | Reshape | Flatten | Residual | Bilinear
Layers = tuple[Layer, ...]
Weights = dict[str, np.ndarray]


def with_parameters(layers: Layers, prefix: str = "") -> Iterator[tuple[str, WithParameters]]:
    """The layers that have parameters, those in residual blocks too, each with what the names of its parameters begin
    with."""
    for index, layer in enumerate(layers):
        if isinstance(layer, Residual):
            yield from with_parameters(layer.block, f"{prefix}{index}.block.")
        elif isinstance(layer, WithParameters):
            yield f"{prefix}{index}.", layer


@dataclass(frozen=True)
class Adam:
    """Adam with PyTorch's formula: `p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)`."""

    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Model:
    """A generator and a discriminator. `image_shape`: the shape of one example for the discriminator.

    own: if it is given, tinygan uses its own networks, which this function of `tinygan.gans` makes with that width. They
    must have the same parameters as the lists. cost: what both players minimise. penalties: those on the discriminator, with
    their weights. Both have tinygan's names.
    """

    name: str
    latent_dim: int
    image_shape: tuple[int, ...]
    generator: Layers
    discriminator: Layers
    optimiser: Adam = Adam()
    own: str | None = None
    width: int = 0
    cost: str = "non-saturating"
    penalties: tuple[tuple[str, float], ...] = ()

    @property
    def couples_examples(self) -> bool:
        """Whether the discriminator's output for an example depends on the others of its batch."""
        return any(isinstance(layer, BatchNorm) for layer in self.discriminator)

    @property
    def convolutional(self) -> bool:
        """Whether the examples are images with several axes."""
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
        own="dcgan_networks", width=width,
    )  # fmt: skip


def wgan_gp(channels: int = 1, latent_dim: int = 100, width: int = 64) -> Model:
    """WGAN-GP for 28 x 28, on DCGAN's networks without batch norm in the critic. One update of each player is a step here;
    the paper has five of the critic."""
    critic = (
        Conv(channels, width, 4, 2, 1), LeakyReLU(0.2), Conv(width, 2 * width, 4, 2, 1), LeakyReLU(0.2), Flatten(),
        Dense(2 * width * 7 * 7, 1),
    )  # fmt: skip
    return replace(
        dcgan28(channels, latent_dim, width), name="wgan_gp", discriminator=critic, optimiser=Adam(1e-4, (0.0, 0.9)),
        own="wgan_gp_networks", cost="wasserstein", penalties=(("gradient-penalty", 10.0),),
    )  # fmt: skip


def modern(channels: int = 1, latent_dim: int = 64, width: int = 32) -> Model:
    """R3GAN at small size for 28 x 28."""
    w = width
    return Model(
        "modern", latent_dim, (channels, 28, 28),
        generator=(
            Basis(latent_dim, 4 * w, 7), residual(4 * w), Conv(4 * w, 2 * w, 1, bias=False), Bilinear(2), residual(2 * w),
            Conv(2 * w, w, 1, bias=False), Bilinear(2), residual(w), Conv(w, channels, 1, bias=False),
        ),
        discriminator=(
            Conv(channels, w, 1, bias=False), residual(w), Bilinear(0.5), Conv(w, 2 * w, 1, bias=False), residual(2 * w),
            Bilinear(0.5), Conv(2 * w, 4 * w, 1, bias=False), residual(4 * w), Projection(4 * w, 7),
        ),
        optimiser=Adam(2e-4, (0.0, 0.99)), own="modern_networks", width=width, cost="relativistic",
        penalties=(("r1", 1.0), ("r2", 1.0)),
    )  # fmt: skip


def residual(channels: int) -> Residual:
    """R3GAN's block, with 16 channels in a group."""
    inner = 2 * channels
    return Residual((
        Conv(channels, inner, 1), LeakyReLU(0.2), Conv(inner, inner, 3, 1, 1, groups=max(inner // 16, 1)), LeakyReLU(0.2),
        Conv(inner, channels, 1, bias=False),
    ))  # fmt: skip


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
        own="dcgan_networks", width=width,
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
    "wgan_gp": wgan_gp(),
    "modern": modern(),
}  # fmt: skip
TINY = {  # for the emulated device
    "vanilla": Model(
        "vanilla", 3, (5,),
        generator=(Dense(3, 4), LeakyReLU(0.2), Dense(4, 5), Tanh()),
        discriminator=(Dense(5, 4), LeakyReLU(0.2), Dense(4, 1)),
    ),
    "dcgan28": dcgan28(1, 3, 2),
    "dcgan64": dcgan64(1, 3, 2),
}  # fmt: skip


def initial_weights(layers: Layers, rng: np.random.Generator) -> Weights:
    """Initial weights in float64, with PyTorch's names. They are uniform in +-1 / sqrt(fan_in), and so are the biases,
    because a bias of zero would hide mistakes. The weights of batch norm are around 1."""
    weights: Weights = {}
    for prefix, layer in with_parameters(layers):
        shapes = layer.parameter_shapes()
        for name, shape in shapes.items():
            fan_in = prod((shapes["weight"] if name == "bias" else shape)[1:])
            bound = 0.25 if isinstance(layer, BatchNorm) else 1 / sqrt(fan_in)
            centre = 1 if isinstance(layer, BatchNorm) and name == "weight" else 0
            weights[prefix + name] = centre + rng.uniform(-bound, bound, shape)
    return weights


@dataclass(frozen=True)
class Start:
    """The common start of all subjects, in float64: weights, a batch of real examples, and the noise for both updates. And,
    for the check, where between a real and a generated example a gradient penalty takes its gradient."""

    generator: Weights
    discriminator: Weights
    real: np.ndarray  # (batch, *image_shape), in [-1, 1]
    d_noise: np.ndarray  # (batch, latent_dim)
    g_noise: np.ndarray  # (batch, latent_dim)
    shares: np.ndarray  # (batch, 1, ...), of the real example, in [0, 1)

    def astype(self, dtype: str) -> "Start":
        return Start(
            {name: value.astype(dtype) for name, value in self.generator.items()},
            {name: value.astype(dtype) for name, value in self.discriminator.items()},
            self.real.astype(dtype),
            self.d_noise.astype(dtype),
            self.g_noise.astype(dtype),
            self.shares.astype(dtype),
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
        rng.uniform(0, 1, (batch, *[1] * len(model.image_shape))),
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
