"""Functions that differentiate a function: `checkpoint` (recompute in the backward pass), `jvp` and `hvp`, built on
`grad`."""
from __future__ import annotations

__all__ = ["checkpoint", "hvp", "jvp", "with_slopes"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.context import CONTEXT, override
from tinygan.graph import Leaf, Node, Op, grad, reachable
from tinygan.ops import concatenate, reshape, split
from tinygan.ops import sum as sum_over
from tinygan.ops.composite import Composite
from tinygan.pullback import pullback
from tinygan.random import Key, KeyStream, stream
from tinygan.tensor import Tensor, wrap


def checkpoint(fn: Callable[..., Any], *inputs: Any) -> Any:
    """`fn(*inputs)`, without keeping the values that its backward pass needs. The backward pass runs fn again to compute
    them (rematerialisation; Griewank, Walther 2000).

    fn: returns a Tensor or a tuple of Tensors. It may use Tensors and modules from outside, and these get gradients too. The
    result is exact: the second run uses the same random draws and modes, and does not update running statistics. If a
    Parameter or Buffer was overwritten in between, `grad` raises an error. Differentiable to any order.
    """
    context = CONTEXT.get()
    if not context.recording:
        return fn(*inputs)
    keys = _Recorder(stream())
    start = Leaf()  # all nodes that the first run records are younger than this one
    versions: list[Any] = []
    with override(checkpoint_versions=versions, keys=keys):
        result = fn(*[_detached(x) for x in inputs])
    if context.checkpoint_versions is not None:
        context.checkpoint_versions.extend(versions)
    many = not isinstance(result, Tensor)
    outputs = list(result) if many else [result]
    found = set(reachable([y.node for y in outputs if y.node], start.order))
    inside = sorted(found, key=lambda node: node.order)
    used = [y.node for y in outputs] + [parent for node in inside for parent in node.parents]
    captured = list(dict.fromkeys(node for node in used if node and node not in found))
    tensors = [isinstance(x, Tensor) for x in inputs]

    def again(*arguments: Any) -> Tensor:
        arguments = tuple([wrap(x) if tensor and not isinstance(x, Tensor) else x
                           for x, tensor in zip(arguments, tensors, strict=True)])
        with override(training=context.training, fusion=context.fusion, updating=frozenset(), keys=_Player(keys.drawn)):
            y = fn(*arguments)
        return concatenate([reshape(part, (-1,)) for part in y]) if many else y

    def recompute(needs: Sequence[bool], g: Any, *saved: Any) -> list[Any]:
        return pullback(again, saved, g, needs[:len(saved)], captured)

    op = Op("checkpoint", again, saves=tuple(range(len(inputs))))
    op.vjp(recompute)
    parents = [x.node if isinstance(x, Tensor) else None for x in inputs] + captured
    # A node has one output. So several outputs are joined into one, and split again after it.
    arrays = [y.array for y in outputs]
    xp = backend_of(arrays[0]).xp
    joined = wrap(xp.concatenate([a.ravel() for a in arrays]) if many else arrays[0])
    if any(parents):
        joined.node = Node(op, tuple(parents), tuple([x.array if isinstance(x, Tensor) else x for x in inputs]))
        joined.node.saved_versions = tuple(versions)
        if (watcher := CONTEXT.get().watcher) is not None:
            watcher.recorded(joined.node, joined)
    if not many:
        return joined
    parts = split(joined, [a.size for a in arrays])
    return tuple([reshape(part, a.shape) for part, a in zip(parts, arrays, strict=True)])


class _Recorder(KeyStream):
    """Passes on the keys of another stream and remembers them. Others may draw from that stream in between."""

    def __init__(self, source: KeyStream) -> None:
        super().__init__(source.key)
        self.source = source
        self.drawn: list[Key] = []

    def next_key(self) -> Key:
        self.drawn.append(self.source.next_key())
        return self.drawn[-1]


class _Player(KeyStream):
    """Hands out the keys of a list."""

    def __init__(self, drawn: list[Key]) -> None:
        super().__init__(Key(0))
        self.drawn = drawn

    def next_key(self) -> Key:
        if self.count == len(self.drawn):
            raise RuntimeError("checkpoint: the function draws more random numbers in its second run than in its first")
        self.count += 1
        return self.drawn[self.count - 1]


def _detached(x: Any) -> Any:
    """x as a new leaf: the first run is recorded from here, apart from the graph that computed x, and then discarded."""
    return wrap(x.array, Leaf() if x.node else None, x.version) if isinstance(x, Tensor) else x


def jvp(fn: Callable[..., Tensor], inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """`fn(*inputs)` and its derivative in the direction `tangents` (arrays of the inputs' shapes), as Tensors.

    The vjp is a linear function of the output's gradient. Its derivative with respect to that gradient is the Jacobian again
    ("double backward").
    """
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    _check_directions("jvp", leaves, tangents)
    y = fn(*leaves)
    if y.node is None:
        return y, wrap(backend_of(y.array).xp.zeros_like(y.array))
    g = Tensor(y.array, requires_grad=True)
    gradients = grad(y, leaves, g, create_graph=True)
    pairs = [(gx, Tensor(t, dtype=gx.dtype)) for gx, t in zip(gradients, tangents, strict=True) if gx.node is not None]
    if not pairs:
        return y.detach(), wrap(backend_of(y.array).xp.zeros_like(y.array))
    return y.detach(), grad([gx for gx, _ in pairs], g, [t for _, t in pairs])


def hvp(fn: Callable[..., Tensor], inputs: Sequence[Any], vectors: Sequence[Any]) -> list[Tensor]:
    """The Hessian of the scalar `fn(*inputs)` times `vectors` (arrays of the inputs' shapes): one Tensor per input."""
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    _check_directions("hvp", leaves, vectors)
    zeros = [wrap(backend_of(x.array).xp.zeros_like(x.array)) for x in leaves]
    y = fn(*leaves)
    if y.size != 1:
        raise ValueError(f"hvp: fn should return one number, got shape {y.shape}")
    if y.node is None:
        return zeros
    gradients = grad(y, leaves, create_graph=True)
    pairs = [(gx, Tensor(v, dtype=gx.dtype)) for gx, v in zip(gradients, vectors, strict=True) if gx.node is not None]
    return grad([gx for gx, _ in pairs], leaves, [v for _, v in pairs]) if pairs else zeros


@Composite
def with_slopes(outputs: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of a network, one number for each example of x (N, ...), and the gradient of each output by its example,
    (N, ...). Both can be differentiated again. No output may depend on another example: so the gradient of the sum has all
    of these gradients. Use the outputs that are returned: `fusion/slopes.py` may have computed both as one op."""
    slopes: Tensor = grad(sum_over(outputs), x, create_graph=True)
    return outputs, slopes


def _check_directions(caller: str, inputs: Sequence[Tensor], directions: Sequence[Any]) -> None:
    shapes = [x.shape for x in inputs], [tuple(d.shape) if hasattr(d, "shape") else np.shape(d) for d in directions]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{caller}: the directions have shapes {shapes[1]}, but the inputs have shapes {shapes[0]}")
