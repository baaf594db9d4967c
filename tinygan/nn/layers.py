"""The layers. Each takes a Tensor or an array and gives a Tensor."""
from __future__ import annotations

__all__ = ["Activation", "BatchNorm", "Dense", "Dropout", "ELU", "Embedding", "Flatten", "LayerNorm", "LeakyReLU",
           "MinibatchDiscrimination", "ReLU", "Reshape", "Sequential", "Sigmoid", "Softplus", "Tanh"]

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.parameters import Buffer, Parameter
from tinygan.tensor import as_array


class Activation(Module):
    """An elementwise activation, which the layer before it in a Sequential applies in its own pass where it can."""

    couples_examples = False

    def __init__(self, name: str, slope: float = 0.2) -> None:
        ops.activation(np.zeros(0, np.float32), name, slope)  # refuses an unknown name or a negative slope at once
        self.name = name
        self.slope = slope

    def forward(self, x: Any) -> Any:
        return ops.activation(x, self.name, self.slope)


class ReLU(Activation):
    """max(x, 0)."""

    def __init__(self) -> None:
        super().__init__("relu")


class LeakyReLU(Activation):
    """x where positive, slope * x elsewhere."""

    def __init__(self, slope: float = 0.2) -> None:
        super().__init__("leaky_relu", slope)

    def describe(self) -> str:
        return f"{self.slope:g}"


class ELU(Activation):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__("elu", alpha)

    def describe(self) -> str:
        return f"{self.slope:g}"


class Tanh(Activation):
    """tanh(x)."""

    def __init__(self) -> None:
        super().__init__("tanh")


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    def __init__(self) -> None:
        super().__init__("sigmoid")


class Softplus(Activation):
    """log(1 + exp(x))."""

    def __init__(self) -> None:
        super().__init__("softplus")


IDENTITY = Activation("identity")


class Dense(Module):
    """activation(x @ weight.T + bias): (..., in_features) -> (..., out_features).

    weight (out_features, in_features), bias (out_features,). initializer: of the weight; by default both are uniform
    within 1 / sqrt(in_features), as PyTorch's are; with an initializer the bias starts at zero.
    """

    couples_examples = False
    fuses_activation = True
    taken = -1, "features"

    def __init__(self, in_features: int, out_features: int, bias: bool = True,
                 initializer: Initializer | None = None) -> None:
        bound = 1 / math.sqrt(max(in_features, 1))
        self.weight = Parameter(shape=(out_features, in_features), initializer=initializer or initializers.fan_in_uniform)
        self.bias = Parameter(shape=(out_features,), initializer=initializers.zeros if initializer
                              else initializers.uniform(-bound, bound)) if bias else None

    def forward(self, x: Any, activation: Activation = IDENTITY) -> Any:
        return ops.dense(x, self.weight, self.bias, activation.name, activation.slope)

    def describe(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features} -> {out_features}{'' if self.bias is not None else ', no bias'}"


class BatchNorm(Module):
    """Each channel of (N, C, ...) normalised over the batch in training and by running statistics otherwise, then
    scaled by weight and shifted by bias (C,) (Ioffe, Szegedy 2015).

    momentum: the share of the batch in the running statistics; their variance is the unbiased one, as PyTorch's.
    """

    fuses_activation = True
    taken = 1, "channels"

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1,
                 initializer: Initializer = initializers.ones) -> None:
        self.weight = Parameter(shape=(channels,), initializer=initializer)
        self.bias = Parameter(shape=(channels,), initializer=initializers.zeros)
        self.running_mean = Buffer(np.zeros(channels, np.float32))
        self.running_var = Buffer(np.ones(channels, np.float32))
        self.num_batches_tracked = Buffer(np.array(0, np.int64))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Any, activation: Activation = IDENTITY, statistics: Any = None) -> Any:
        """statistics: the mean and the biased variance of x, where the layer before has measured them."""
        if not self.training:
            y = ops.batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
            return activation(y)
        measured = statistics is not None
        if not measured:
            statistics = ops.empty_statistics(x, x.shape[1])
        y = ops.batch_norm(x, self.weight, self.bias, self.eps, statistics, activation.name, activation.slope, measured)
        if self.updates_buffers:
            self._update(statistics, as_array(x).size // x.shape[1])
        return y

    def _update(self, statistics: Any, count: int) -> None:
        mean, variance = statistics
        for buffer, value in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
            running = buffer.writable()
            running += (value - running) * running.dtype.type(self.momentum)
        self.num_batches_tracked.assign(self.num_batches_tracked.array + 1)

    def describe(self) -> str:
        return f"{self.weight.size}"


class LayerNorm(Module):
    """The last axes, of the given shape, normalised for each example, then scaled and shifted (Ba et al. 2016)."""

    couples_examples = False

    def __init__(self, shape: int | Sequence[int], eps: float = 1e-5) -> None:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.weight = Parameter(shape=shape, initializer=initializers.ones)
        self.bias = Parameter(shape=shape, initializer=initializers.zeros)
        self.eps = eps

    def forward(self, x: Any) -> Any:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class Dropout(Module):
    """In training each element is zeroed with probability `rate` and the rest divided by 1 - rate; draws come from the
    context's key."""

    couples_examples = False

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate should be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Any) -> Any:
        return ops.dropout(x, self.rate) if self.training else x

    def describe(self) -> str:
        return f"{self.rate:g}"


class MinibatchDiscrimination(Module):
    """Appends to each example's features how near it is to the others in the batch, so that a discriminator sees when a
    generator makes one thing only (Salimans et al. 2016, section 3.2): (N, in_features) -> (N, in_features + kernels).

    Each kernel projects the features to `dimensions` numbers and sums exp(-L1 distance) over the other examples. weight
    (kernels * dimensions, in_features): the paper's T. average: the mean over the others instead of the sum, at most 1
    in a batch of any size. What it gives depends on the whole batch, in evaluation too.
    """

    taken = -1, "features"

    def __init__(self, in_features: int, kernels: int = 50, dimensions: int = 5,
                 initializer: Initializer = initializers.normal(0.05), average: bool = False) -> None:  # noqa: B008
        if kernels < 1 or dimensions < 1:
            raise ValueError(f"MinibatchDiscrimination: kernels and dimensions should be at least 1, got {kernels} and "
                             f"{dimensions}")
        self.weight = Parameter(shape=(kernels * dimensions, in_features), initializer=initializer)
        self.kernels = kernels
        self.average = average

    def forward(self, x: Any) -> Any:
        projected = ops.dense(x, self.weight)
        near = ops.minibatch_similarity(ops.reshape(projected, (x.shape[0], self.kernels, -1)))
        if self.average:
            near = ops.mul(near, 1 / max(x.shape[0] - 1, 1))
        return ops.concatenate([x, near], 1)

    def describe(self) -> str:
        rows, in_features = self.weight.shape
        return f"{in_features} -> {in_features + self.kernels}, {rows // self.kernels} dimensions"


class Flatten(Module):
    """(N, ...) -> (N, the product of the rest)."""

    couples_examples = False

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Module):
    """(N, ...) -> (N, *shape)."""

    couples_examples = False

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], *self.shape))

    def describe(self) -> str:
        return ", ".join(map(str, self.shape))


class Embedding(Module):
    """Integers of any shape -> their rows of weight (count, dimension)."""

    couples_examples = False

    def __init__(self, count: int, dimension: int, initializer: Initializer | None = None) -> None:
        self.weight = Parameter(shape=(count, dimension), initializer=initializer or initializers.normal(1.0))

    def forward(self, x: Any) -> Any:
        return ops.embedding(self.weight, x)

    def describe(self) -> str:
        return " -> ".join(map(str, self.weight.shape))


class Sequential(Module):
    """One module after the other. A layer with `fuses_activation` is handed the Activation that follows it. One whose own
    class (a subclass may do otherwise) has `measured_channels` measures its result for the BatchNorm in training that
    does."""

    couples_examples = False

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: layer {i} should be a Module, got {type(layer).__name__}")
        self.layers = layers

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def forward(self, x: Any) -> Any:
        layers = deque(self.layers)
        statistics: Any = None  # of x, for the layer that comes next
        while layers:
            layer: Any = layers.popleft()
            activations: list[Any] = []
            told: dict[str, Any] = {}
            if statistics is not None:
                told["statistics"], statistics = statistics, None
            following = layers[0] if layers else None
            if isinstance(following, Activation) and layer.fuses_activation:
                activations.append(layers.popleft())
            elif type(following) is BatchNorm and following.training and "measured_channels" in vars(type(layer)):
                told["statistics"] = statistics = ops.empty_statistics(x, layer.measured_channels)
            x = layer(x, *activations, **told)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: Any) -> Any:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]
