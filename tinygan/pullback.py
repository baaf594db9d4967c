"""`pullback` computes the vjp of a function that is written in ops. An op may use it in its own vjp."""
from __future__ import annotations

__all__ = ["alias", "pullback"]

from collections.abc import Callable, Sequence
from typing import Any

from tinygan.checks import as_seed
from tinygan.context import override
from tinygan.graph import Leaf, Node, walk
from tinygan.making import op
from tinygan.tensor import Tensor, as_array, wrap


def pullback(fn: Callable[..., Tensor], inputs: Sequence[Any], g: Any, needs: Sequence[bool],
             captured: Sequence[Node] = ()) -> list[Any]:
    """The vjp of `fn`, a function written in ops. g is the gradient of `fn(*inputs)`.

    Returns a list: the partial derivative with respect to each input, None for an input that `needs` does not mark, and then
    one for each of the `captured` nodes. It is None where `fn` does not depend on an input or a node. Inside a vjp, Tensors
    give Tensors that are in the graph, and bare arrays give bare arrays.
    """
    create_graph = any(isinstance(x, Tensor) for x in (g, *inputs))
    with override(recording=True):
        # Aliases, because one Tensor may be given as two inputs, and each of them has its own partial derivative.
        aliases = [x if not need else alias(x) if isinstance(x, Tensor) and x.node else wrap(as_array(x), Leaf())
                   for x, need in zip(inputs, needs, strict=True)]
        y = fn(*aliases)
    if y.node is None:
        return [None] * (len(inputs) + len(captured))
    g = as_seed("pullback", y, g)
    if create_graph and not isinstance(g, Tensor):
        g = wrap(g)
    ends = [x.node if need else None for x, need in zip(aliases, needs, strict=True)]
    found = walk([(y.node, g)], [node for node in [*ends, *captured] if node], create_graph, create_graph, partial=True)
    return [found.get(node) if node else None for node in [*ends, *captured]]


@op(view=True)
def alias(B: Any, x: Any) -> Any:
    """alias(x): x once more, with a node of its own. The gradient with respect to it leaves out all other uses of x."""
    return x


@alias.vjp
def _(needs: Any, g: Any) -> Any:
    return (g,)
