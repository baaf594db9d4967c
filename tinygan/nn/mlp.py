"""A network that is a multilayer perceptron, as a function of all its weights in one array."""
from __future__ import annotations

__all__ = ["MLP", "as_mlp"]

from collections.abc import Iterator
from typing import Any, NamedTuple

from tinygan import ops
from tinygan.nn.layers import Activation, Dense, Sequential
from tinygan.nn.module import Module

MOST = 10_000  # weights, up to which one op takes less time than layer by layer (measured at batches of 128 and 512)


class MLP(NamedTuple):
    """Modules without parameters (a Flatten, say), and behind them dense layers with what activates them."""

    before: tuple[Module, ...]
    layers: tuple[ops.MLPLayer, ...]

    def __call__(self, x: Any, weights: Any) -> Any:
        """The network on x, with these weights (total,): its parameters packed in their order."""
        for module in self.before:
            x = module(x)
        return ops.mlp(x, weights, self.layers)


def as_mlp(network: Module) -> MLP | None:
    """The network as a function of its packed weights; None if it is not a Sequential of that kind, or a large one, whose
    layers are better off as they are."""
    before: list[Module] = []
    layers: list[ops.MLPLayer] = []
    for module in _flat(network):
        if type(module) is Dense and module.bias is not None:
            layers.append(ops.MLPLayer(module.weight.shape[1], module.weight.shape[0]))
        elif isinstance(module, Activation) and layers and layers[-1].activation == "identity":
            layers[-1] = layers[-1]._replace(activation=module.name, slope=module.slope)
        elif not layers and not list(module.parameters()):
            before.append(module)
        else:
            return None
    size = sum(layer.size for layer in layers)
    if not 0 < size <= MOST or size != sum(p.size for p in network.parameters()):  # (a layer that stands there twice)
        return None
    return MLP(tuple(before), tuple(layers))


def _flat(network: Module) -> Iterator[Module]:
    if type(network) is not Sequential:
        yield network
        return
    for module in network:
        yield from _flat(module)
