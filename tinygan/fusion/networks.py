"""A network as a function of its parameters, which are packed one after the other into one array.

A small multilayer perceptron runs as one op, `perceptron.mlp`. Any other network runs layer by layer.
"""
from __future__ import annotations

__all__ = ["Function", "Layers", "Perceptron", "as_function", "as_perceptron"]

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from tinygan.context import CONTEXT
from tinygan.fusion.perceptron import MLPLayer, mlp
from tinygan.fusion.table import kind_of
from tinygan.kernels.activations import BY_NAME, KNOWN_FROM_RESULT, result_tells_slope
from tinygan.nn.activations import Activation
from tinygan.nn.layers import Dense
from tinygan.nn.module import Module, with_parameters
from tinygan.nn.sequential import Sequential
from tinygan.ops.packing import unpacked

LARGEST = 10_000
"""Up to this number of weights, one op is faster than layer by layer (measured with batches of 128 and 512)."""


class Function(Protocol):
    """A network as a function of its parameters."""

    def parameters(self, packed: Any) -> list[Any]:
        """The parameters from the beginning of `packed`, in the network's order: one by one, or all in one array. Gradients
        are taken with respect to these."""

    def __call__(self, parameters: list[Any]) -> Callable[[Any], Any]:
        """The network with these parameters."""


class Layers:
    """The function of a network that runs layer by layer."""

    def __init__(self, network: Module) -> None:
        self._network = network
        self._named = list(network.named_parameters())

    def parameters(self, packed: Any) -> list[Any]:
        """The parameters one by one, in their shapes."""
        found, start = [], 0
        for _, parameter in self._named:
            found.append(unpacked(packed, start, parameter.shape))
            start += parameter.size
        return found

    def __call__(self, parameters: list[Any]) -> Module:
        paths = [path for path, _ in self._named]
        return with_parameters(self._network, dict(zip(paths, parameters, strict=True)))


class Perceptron(NamedTuple):
    """The function of a multilayer perceptron. It consists of modules without parameters (a Flatten, say), and then dense
    layers with their activations."""

    before: tuple[Module, ...]
    layers: tuple[MLPLayer, ...]
    size: int  # of all weights and biases

    def parameters(self, packed: Any) -> list[Any]:
        """All parameters in one array."""
        return [unpacked(packed, 0, (self.size,))]

    def __call__(self, parameters: list[Any]) -> Callable[[Any], Any]:
        weights, = parameters

        def network(x: Any) -> Any:
            for module in self.before:
                x = module(x)
            return mlp(x, weights, self.layers)

        return network


def as_function(network: Module) -> Function:
    """The network as a function of its parameters. It is one op if the network is a small perceptron and fusion is on."""
    return (as_perceptron(network) if CONTEXT.get().fusion else None) or Layers(network)


def as_perceptron(network: Module) -> Perceptron | None:
    """The network as one op. None if it is not a Sequential of dense layers with biases and of activations, or if it is so
    large that one op would be slower."""
    before: list[Module] = []
    layers: list[MLPLayer] = []
    weights: list[Any] = []
    for module in _flat(network):
        kind = kind_of(module)
        if kind is Dense and module.bias is not None:
            layers.append(MLPLayer(module.weight.shape[1], module.weight.shape[0]))
            weights += [module.weight, module.bias]
        elif (kind is Activation and layers and layers[-1].activation == "identity"
              and module.name in KNOWN_FROM_RESULT and result_tells_slope(BY_NAME[module.name], module.slope)):
            layers[-1] = layers[-1]._replace(activation=module.name, slope=module.slope)
        elif not layers and not list(module.parameters()):
            before.append(module)
        else:
            return None
    size = sum(layer.size for layer in layers)
    # A layer may occur twice, and a subclass may compute its weight.
    if not 0 < size <= LARGEST or list(map(id, weights)) != list(map(id, network.parameters())):
        return None
    return Perceptron(tuple(before), tuple(layers), size)


def _flat(network: Module) -> Iterator[Any]:
    if type(network) is not Sequential or "forward" in network.__dict__:
        yield network
        return
    for module in network:
        yield from _flat(module)
