"""PyTorch's networks, made from the lists of layers in `models.py`, and helpers for their training."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from models import (
    Basis,
    BatchNorm,
    Bilinear,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    Layer,
    Layers,
    LeakyReLU,
    Projection,
    ReLU,
    Reshape,
    Residual,
    Tanh,
    Weights,
)
from torch import Tensor, nn


class Sum(nn.Module):
    """x + block(x)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Scaled(nn.Module):
    """A learnt image times the outputs of a dense layer: see `models.Basis`."""

    def __init__(self, inputs: int, channels: int, size: int) -> None:
        super().__init__()
        self.scales = nn.Linear(inputs, channels, bias=False)
        self.image = nn.Parameter(torch.empty(channels, size, size))

    def forward(self, z: Tensor) -> Tensor:
        return self.scales(z)[:, :, None, None] * self.image


class Projected(nn.Module):
    """A dense layer of images times a learnt one, summed over pixels: see `models.Projection`."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.empty(channels, size, size))
        self.scores = nn.Linear(channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores((x * self.image).sum((2, 3)))
        return scores


def build(layers: Layers, weights: Weights) -> nn.Sequential:
    """A network of these layers. weights: all parameters, and the buffers that should not have PyTorch's initial values."""

    def module(layer: Layer) -> nn.Module:
        match layer:
            case Residual(block):
                return Sum(nn.Sequential(*map(module, block)))
            case Bilinear(scale):
                return nn.Upsample(scale_factor=scale, mode="bilinear") if scale > 1 else nn.AvgPool2d(2)
            case Basis(inputs, channels, size):
                return Scaled(inputs, channels, size)
            case Projection(channels, size):
                return Projected(channels, size)
            case Dense(inputs, outputs, bias):
                return nn.Linear(inputs, outputs, bias)
            case ConvTranspose(inputs, outputs, kernel, stride, padding, bias):
                return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias)
            case Conv(inputs, outputs, kernel, stride, padding, bias, groups):
                return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
            case BatchNorm(channels, eps, momentum):
                return nn.BatchNorm2d(channels, eps, momentum)
            case ReLU():
                return nn.ReLU(inplace=True)
            case LeakyReLU(slope):
                return nn.LeakyReLU(slope, inplace=True)
            case Tanh():
                return nn.Tanh()
            case Reshape(shape):
                return nn.Unflatten(1, shape)
            case Flatten():
                return nn.Flatten()
        raise ValueError(f"torch_networks: no layer for {layer}")

    network = nn.Sequential(*map(module, layers))
    arrays = {name: torch.tensor(value) for name, value in weights.items()}
    network.to(next(iter(arrays.values())).dtype)
    buffers = dict(network.named_buffers())
    network.load_state_dict({**buffers, **arrays})
    return network


@contextmanager
def statistics_still(network: nn.Module) -> Iterator[None]:
    """Inside `with`, batch norm works as in training, but does not update its running statistics."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside `with`, the network's parameters get no gradients, and its running statistics are not updated."""
    network.requires_grad_(False)
    try:
        with statistics_still(network):
            yield
    finally:
        network.requires_grad_(True)


def to_numpy(tensors: Iterator[tuple[str, Tensor]]) -> Weights:
    """Copies by name."""
    return {name: tensor.numpy(force=True).copy() for name, tensor in tensors}
