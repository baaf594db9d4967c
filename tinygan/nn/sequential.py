"""Sequential: layers that run one after the other."""
from __future__ import annotations

__all__ = ["Sequential"]

from collections.abc import Iterator
from typing import Any

from tinygan.nn.module import Module
from tinygan.ops.composite import Composite


@Composite
def in_turn(layers: tuple[Module, ...], x: Any) -> Any:
    """Run the layers in order: the first takes x, each other one takes the output of the layer before."""
    for layer in layers:
        x = layer(x)
    return x


class Sequential(Module):
    """Modules that run one after the other: each takes the output of the one before."""

    couples_examples = False

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                function = ": put a function into a Module, whose forward calls it" if callable(layer) else ""
                raise TypeError(f"Sequential: layer {i} should be a Module, got {type(layer).__name__}{function}")
        self.layers = layers

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def forward(self, x: Any) -> Any:
        return in_turn(self.layers, x)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: Any) -> Any:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]
