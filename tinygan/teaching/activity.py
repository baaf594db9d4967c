"""How active the units of both networks are: idle ones, saturated ones, and the spread of what each activation makes."""
from __future__ import annotations

__all__ = ["SATURATED", "Activity", "activities", "can_be"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.context import override
from tinygan.graph import Leaf, Node
from tinygan.random import Key
from tinygan.tensor import Tensor
from tinygan.watching import Watcher, watching

from .players import Players, as_update, host
from .updates import PLAYERS

SATURATED = 0.97
"""A tanh beyond this magnitude passes on less than 6% of a gradient, because its slope is 1 - 0.97^2 = 0.059."""

_BOUNDED = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
_CAN_BE_IDLE = ("relu",)


class Activity(Watcher):
    """A watcher (see `tinygan.watching`) that measures every activation of a network as it is computed.

    layers: their names, such as "6 tanh": the path of the layer before, whose parameters were used last, and the function.
    dead: the share of units that are 0 for the whole batch; of images, a unit is a channel. saturated: the share of outputs
    near an end of tanh or sigmoid: beyond `SATURATED` where the function is stretched to (-1, 1). std: the standard
    deviation of the outputs. A function that cannot be dead or saturated has 0."""

    def __init__(self, network: Any) -> None:
        self.layers: list[str] = []
        self._found: list[tuple[float, float, float]] = []
        self._owner: dict[Node | None, str] = {
            p.node: path.rpartition(".")[0] for path, p in network.named_parameters()}

    def recorded(self, node: Node, result: Tensor) -> None:
        parents = [parent for parent in node.parents if parent is not None]
        own = [self._owner[p] for p in parents if type(p) is Leaf and p in self._owner]
        before = [self._owner[p] for p in sorted(parents, key=lambda p: p.order) if p in self._owner]
        layer = self._owner[node] = (own or before or [""])[-1]
        name = "prelu" if node.op is not None and node.op.name == "prelu" else node.static.get("activation", "identity")
        if name != "identity" and node.op is not None:
            self.layers.append(f"{layer} {name}".strip())
            self._found.append(measured(name, host(result)))

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """dead, saturated and std, each float32 (activations,)."""
        columns = np.array(self._found, np.float32).reshape(-1, 3).T
        return dict(zip(("dead", "saturated", "std"), columns, strict=True))


def can_be(name: str) -> dict[str, bool]:
    """Whether units of that activation can be dead, and its outputs saturated."""
    return {"dead": name in _CAN_BE_IDLE, "saturated": name in _BOUNDED}


def measured(name: str, out: npt.NDArray[Any]) -> tuple[float, float, float]:
    """The shares of dead units and saturated outputs, and the standard deviation, of the outputs (N, ...) of an
    activation."""
    dead = saturated = 0.0
    if name in _CAN_BE_IDLE:
        units = out.reshape(*out.shape[:2], -1).any((0, 2))
        dead = 1 - float(units.mean())
    if name in _BOUNDED:
        low, high = _BOUNDED[name]
        saturated = float((np.abs((out - low) * (2 / (high - low)) - 1) > SATURATED).mean())
    return dead, saturated, float(out.std(dtype=np.float64))


def activities(shown: Players, key: Key) -> dict[str, Activity]:
    """The activity of both networks, by the letters of `PLAYERS`, on generated images, as in an update. Nothing of them
    changes."""
    found = {}
    with as_update(key), override(fusion=False):  # unfused: every activation is an op of its own
        images = None
        for letter in reversed(PLAYERS):  # the generator first
            activity = found[letter] = Activity(shown.generator if letter == "g" else shown.discriminator)
            with watching(activity):
                images = shown.generator(shown.taken).detach() if letter == "g" else shown.judge(images)
    return found
