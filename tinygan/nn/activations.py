"""The activations as layers."""
from __future__ import annotations

__all__ = ["ELU", "Activation", "LeakyReLU", "ReLU", "Sigmoid", "Softplus", "Tanh"]

from typing import Any

import numpy as np

from tinygan import ops
from tinygan.nn.module import Module


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
