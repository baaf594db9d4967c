"""PyTorch's networks, made from the lists of layers in `models.py`, and helpers for their training."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from models import BatchNorm, Conv, ConvTranspose, Dense, Flatten, Layer, Layers, LeakyReLU, ReLU, Reshape, Tanh, Weights
from torch import Tensor, nn


def build(layers: Layers, weights: Weights) -> nn.Sequential:
    """A network of these layers. weights: all parameters, and the buffers that should not have PyTorch's initial values."""

    def module(layer: Layer) -> nn.Module:
        match layer:
            case Dense(inputs, outputs, bias):
                return nn.Linear(inputs, outputs, bias)
            case ConvTranspose(inputs, outputs, kernel, stride, padding, bias):
                return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias)
            case Conv(inputs, outputs, kernel, stride, padding, bias):
                return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)
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
