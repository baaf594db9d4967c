"""Watching what the engine computes: a `Watcher` is told of every op, forward and backward, and of the
modules that are called.

The engine has one place for it, `watcher` in the context. `detect_anomaly` is a watcher, and so is the tape of
`tinygan.teaching`. While there is none, it costs nothing.
"""
from __future__ import annotations

__all__ = ["Watcher", "watching"]

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from tinygan.context import CONTEXT, override

if TYPE_CHECKING:
    from tinygan.graph import Node, Op
    from tinygan.tensor import Tensor


class Watcher:
    """What the engine tells of its work. A subclass overrides what it wants to know; these methods do nothing.

    What it is given belongs to the engine: it may look, and should copy the arrays that it keeps.
    """

    def computed(self, op: Op, out: Any, arrays: list[Any], inputs: Sequence[Any], static: dict[str, Any]) -> None:
        """`op` has computed the array `out` from `arrays`, which are those inside `inputs` (Tensors, arrays, numbers)."""

    def recorded(self, node: Node, result: Tensor) -> None:
        """`node` was recorded, for a result that requires a gradient. Comes right after `computed`."""

    def entered(self, module: Any, inputs: Sequence[Any]) -> None:
        """`module` has been called with these inputs. The ops and calls up to the matching `left` are inside."""

    def left(self, module: Any, result: Any) -> None:
        """`module` has returned `result`."""

    def starts(self, seeds: Sequence[tuple[Node, Any]], ends: Collection[Node], create_graph: bool) -> Watcher | None:
        """A walk back begins, from the gradients `seeds` of the outputs to the nodes `ends`. Returns the watcher of the ops
        that the vjps themselves call: None for none."""
        return None

    def walked(self, node: Node, needs: list[bool], parts: Sequence[Any], g: Any, saved: Any,
               gradients: dict[Node, Any]) -> None:
        """The vjp of `node` has run: from `g`, the gradient of the node's result, it computed `parts`, one for each input
        that `needs` marks. They have been added to `gradients`, which holds those of the nodes still to come."""


class _Both(Watcher):
    """Two watchers as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def computed(self, *told: Any) -> None:
        for watcher in self._watchers:
            watcher.computed(*told)

    def recorded(self, *told: Any) -> None:
        for watcher in self._watchers:
            watcher.recorded(*told)

    def entered(self, *told: Any) -> None:
        for watcher in self._watchers:
            watcher.entered(*told)

    def left(self, *told: Any) -> None:
        for watcher in self._watchers:
            watcher.left(*told)

    def starts(self, *told: Any) -> Watcher | None:
        inner = [found for watcher in self._watchers if (found := watcher.starts(*told)) is not None]
        return _Both(*inner) if len(inner) > 1 else inner[0] if inner else None

    def walked(self, *told: Any) -> None:
        for watcher in self._watchers:
            watcher.walked(*told)


def watching(watcher: Watcher) -> Any:
    """`with watching(watcher):` tells `watcher` of every op in the body. A watcher that is there already is told, too.

    A captured step under a watcher runs as usual, op by op, and is not replayed."""
    there = CONTEXT.get().watcher
    return override(watcher=watcher if there is None else _Both(there, watcher))
