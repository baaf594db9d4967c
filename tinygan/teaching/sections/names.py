"""What the page calls a layer: its path and what it is, "7 Tanh", as the tape does."""
from __future__ import annotations

__all__ = ["activation_names", "kinds"]

from collections.abc import Sequence

from tinygan import nn


def kinds(network: nn.Module) -> dict[str, str]:
    """What each layer is, by its path: {"0": "Dense(100 → 256)", "7": "Tanh"}."""
    return {path: _kind(module) for path, module in network.named_modules() if path}


def _kind(module: nn.Module) -> str:
    about = module.describe().replace("->", "\N{RIGHTWARDS ARROW}")
    return f"{type(module).__name__}({about})" if about else type(module).__name__


def activation_names(network: nn.Module, recorded: Sequence[str]) -> list[str]:
    """The activations of a record under the names of their own layers. A record says "6 tanh": the layer whose parameters
    were used last, and the function. The activation is the next layer of that function, before other parameters come; if
    there is none, because a layer calls the function itself, the name is that layer's."""
    modules = list(network.named_modules())
    return [_activation_name(modules, name) for name in recorded]


def _activation_name(modules: list[tuple[str, nn.Module]], recorded: str) -> str:
    path, _, function = recorded.rpartition(" ")
    places = [i for i, (own, _) in enumerate(modules) if own == path]
    if not places:
        return recorded
    start = modules[places[0]][1]
    if isinstance(start, nn.PReLU):
        return f"{path} {_kind(start)}"
    for own, module in modules[places[0] + 1:]:
        if isinstance(module, nn.Activation) and module.name == function:
            return f"{own} {_kind(module)}"
        if module.parameters() and not list(module.named_children()):
            break
    return f"{path} {_kind(start)}, {function}" if path else recorded
