"""The activations as layers."""
from __future__ import annotations

__all__ = ["ELU", "GELU", "Activation", "LeakyReLU", "PReLU", "ReLU", "Sigmoid", "SiLU", "Softplus", "Tanh"]

from typing import Any

import numpy as np

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.module import Module
from tinygan.ops.activations import GELUS
from tinygan.ops.windows import is_whole
from tinygan.parameters import Parameter


class Activation(Module):
    """The elementwise activation of that name, with its slope if it has one: see `tinygan.activation`."""

    couples_examples = False

    def __init__(self, name: str, slope: float = 0.2) -> None:
        ops.activation(np.zeros(0, np.float32), name, slope)  # raises the error for an unknown name or a negative slope
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


class SiLU(Activation):
    """x * sigmoid(x): see `tinygan.silu`."""

    def __init__(self) -> None:
        super().__init__("silu")


class GELU(Activation):
    """x times the normal distribution function at x, or with approximate="tanh" nearly that: see `tinygan.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        ops.gelu(np.zeros(0, np.float32), approximate)  # raises the error for an unknown name
        super().__init__(GELUS[approximate])

    def describe(self) -> str:
        return "tanh" if self.name == "gelu_tanh" else ""


class PReLU(Module):
    """x where positive, weight * x elsewhere, with a learnt weight (channels,): see `tinygan.prelu`.

    channels: 1 for one weight, or one for every channel of x (N, channels, ...). initial: the weights at the beginning.
    """

    couples_examples = False
    taken = 1, "channels"

    def __init__(self, channels: int = 1, initial: float = 0.25) -> None:
        if not is_whole(channels) or channels < 1:
            raise ValueError(f"PReLU: channels should be a whole number, 1 or more, got {channels!r}")
        self.weight = Parameter(shape=(channels,), initializer=initializers.constant(float(initial)))

    def forward(self, x: Any) -> Any:
        return ops.prelu(x, self.weight)

    def describe(self) -> str:
        return "" if self.weight.size == 1 else f"{self.weight.size}"
