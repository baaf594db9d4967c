"""The outputs of a network's layers, for figures of the network and for features."""
from __future__ import annotations

__all__ = ["Stage", "stages"]

from collections.abc import Iterator
from typing import Any, NamedTuple

from tinygan.context import no_grad
from tinygan.nn.conv import Conv2d, ConvTranspose2d
from tinygan.nn.layers import Dense
from tinygan.nn.module import Module, mode
from tinygan.nn.sequential import Sequential
from tinygan.tensor import as_array


class Stage(NamedTuple):
    """A dense or convolution layer with the layers after it, up to the next dense or convolution layer. outputs: the array
    (N, ...) that each of the layers returned."""

    layers: tuple[Module, ...]
    outputs: tuple[Any, ...]

    @property
    def output(self) -> Any:
        """The last output that is images (N, C, H, W). If none is, the last output."""
        return next((y for y in reversed(self.outputs) if y.ndim == 4), self.outputs[-1])


def stages(network: Module, x: Any) -> list[Stage]:
    """Run a Sequential (of Sequentials) on x (N, ...) in evaluation mode, and cut it before every dense and convolution
    layer. Layers before the first of these are in no stage. Raises TypeError for another kind of module, and ValueError for
    a network without a dense or convolution layer."""
    found: list[tuple[list[Module], list[Any]]] = []
    with no_grad(), mode(network, training=False):
        for layer in _layers(network):
            x = as_array(layer(x))
            if isinstance(layer, Dense | Conv2d | ConvTranspose2d):
                found.append(([], []))
            if found:
                found[-1][0].append(layer)
                found[-1][1].append(x)
    if not found:
        raise ValueError("stages: the network has no dense or convolution layer")
    return [Stage(tuple(layers), tuple(outputs)) for layers, outputs in found]


def _layers(network: Module) -> Iterator[Module]:
    if not isinstance(network, Sequential):
        raise TypeError(f"stages: expected a Sequential, got {type(network).__name__}: only its layers run one by one")
    for layer in network:
        if isinstance(layer, Sequential):
            yield from _layers(layer)
        else:
            yield layer
