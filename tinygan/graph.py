"""The engine: `Op`; `apply`, through which every op runs; the `Node` that it records; and `grad`, which walks back.

How to read this file: an op computes on arrays. If one of its inputs is a Tensor that requires a gradient, `apply` records a
Node: the op, its parents, and the values that the backward pass will need. `grad` visits the nodes between outputs and
inputs, newest first. It calls each op's vjp ("vector-Jacobian product"), which turns the gradient of the output into the
gradients of the inputs. A vjp is written in ops. On bare arrays these ops only compute. With `create_graph=True` they get
Tensors and record nodes of their own, so the gradient can be differentiated again.

The values of a Parameter or Buffer may be overwritten between the two passes. So it has a version, which counts the writes.
A node notes the versions of the values that it saves, and `grad` raises an error if one has changed (`tinygan.staleness`).
The texts of the other errors are in `tinygan.checks`.
"""
from __future__ import annotations

__all__ = ["Leaf", "Node", "Op", "apply", "grad", "op", "reachable", "walk", "watched_walk"]

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygan import checks
from tinygan.backends import Array, backend_of, cpu
from tinygan.context import CONTEXT, override
from tinygan.staleness import UsedVersion, check_fresh, note_uses, told_uses, used_versions
from tinygan.tensor import FLOATS, Tensor, wrap

if TYPE_CHECKING:
    from tinygan.watching import Watcher

OUT = -1  # in `Op.saves`: the op's own output
_FLOAT32 = FLOATS[0]
_ORDER = itertools.count()
_NUMBER = (int, float)
_new_tensor = Tensor.__new__


def apply(op: Op, *inputs: Any, **static: Any) -> Any:
    """Run `op`: compute on the arrays inside the inputs, and record a node if one of them requires a gradient.

    Every op goes through here, forward and backward. This function is long because every function call costs time, and in a
    small network an op spends more time here than in its kernel. Only the rare cases are functions of their own.
    """
    context = CONTEXT.get()
    # The inputs: collect their arrays and the nodes that computed them. Note whether one of them is a Tensor, requires a
    # gradient (tracked), may be overwritten (versioned), or is not float32 (unusual).
    arrays: list[Any] = []
    parents: list[Node | None] = []
    backend = None
    any_tensor = tracked = versioned = unusual = False
    for x in inputs:
        node = None
        if isinstance(x, Tensor):
            any_tensor = True
            node = x.node
            if node is not None:
                tracked = True
            if x.version is not None:
                versioned = True
            x = x.array
        elif not isinstance(x, np.ndarray):
            if isinstance(x, np.generic):
                x = x.item()  # so that NumPy's scalars, like Python's numbers, don't promote the arrays beside them
            if isinstance(x, _NUMBER):
                arrays.append(x)
                parents.append(None)
                continue
        arrays.append(x)
        parents.append(node)
        here = cpu if type(x) is np.ndarray else checks.backend_for(op, x)
        if backend is None:
            backend = here
        elif here is not backend:
            raise checks.two_devices(op, backend, here)
        if x.dtype is not _FLOAT32:
            unusual = True
    if backend is None:  # all inputs are numbers
        backend, arrays = cpu, [np.asarray(x, dtype=np.float32 if any_tensor else None) for x in arrays]
    if context.listener is not None:
        arrays = told_uses(inputs, arrays)
    rule = op.vjp_rule
    if unusual and rule is not None and not op.view:  # ops with a gradient compute in one precision
        arrays = checks.of_one_precision(op, arrays)
    # Compute the result, an array.
    try:
        out = op.forward(backend, *arrays, **static)
    except (ValueError, IndexError) as error:
        raise checks.explained(op, arrays, error) from None
    if type(out) is not backend.array_type:
        out = checks.as_output(op, backend, out)
    if context.watcher is not None:
        context.watcher.computed(op, out, arrays, inputs, static)
    if not any_tensor:
        return out
    # Wrap it in a Tensor, with a node if an input requires a gradient.
    result = _new_tensor(Tensor)
    result.array = out
    result.node = result.version = None
    # A view of an input that may be overwritten gets the input's version. Whoever records a checkpoint is told of the input.
    if versioned and (op.view or context.checkpoint_versions is not None):
        note_uses(op, inputs, result)
    if tracked and context.recording:
        if rule is None:  # no vjp: the result is a constant
            if op.user_defined:
                checks.refuse_constant(op, out)
            return result
        saves = op.saves
        saved = tuple([out if i == OUT else arrays[i] for i in saves]) if saves else ()
        result.node = node = Node(op, tuple(parents), saved, static)
        if versioned:
            node.saved_versions = used_versions([inputs[i] for i in saves if i != OUT])
        if op.broadcasts:
            shape = out.shape
            for a in arrays:  # (the shapes are needed only if one of them differs)
                if type(a) is not float and getattr(a, "shape", shape) != shape:
                    node.shapes = tuple([getattr(a, "shape", None) for a in arrays])
                    break
        if op.user_defined:
            checks.note_inputs(node, arrays)
        if context.watcher is not None:
            context.watcher.recorded(node, result)
    return result


class Op:
    """A function with a name, `forward`, and its gradient, the vjp. The op is called like the function.

    forward: `(backend, *arrays, **static) -> array`. static: the keyword arguments, such as an axis. No gradients.
    vjp: `(needs, g, *saved, **static) -> one gradient per input`, written in ops. `needs[i]` says whether input i needs a
        gradient; if it does not, its place in the result is ignored. None means that the output does not depend on an input.
        The decorator `@name.vjp` stores it in `vjp_rule`. An op without one has results that are constants to `grad`.
    saves: which inputs (by position) the vjp gets as `saved`, in this order; `OUT` is the output.
    broadcasts: the inputs broadcast against each other. Gradients are then summed back to each input's shape.
    view: the output may share an input's memory. The input may have any dtype, because labels are indexed and reshaped too.
    integers: inputs may also be integers or booleans. They have no gradient.

    With a Tensor among the inputs the result is a Tensor, otherwise an array. A bare array beside a Tensor is not copied: do
    not write to it before the backward pass. If a user defined the op, the gradients that its vjp returns are checked. A
    TypeError or ValueError names the op, the input and what was expected.
    """

    def __init__(self, name: str, forward: Callable[..., Array], saves: tuple[int, ...] = (),
                 broadcasts: bool = False, view: bool = False, integers: bool = False) -> None:
        self.name = self.__name__ = name
        self.__doc__ = forward.__doc__
        self.forward: Callable[..., Array] = forward
        self.saves = saves
        self.broadcasts = broadcasts
        self.view = view
        self.integers = integers
        self.vjp_rule: Callable[..., Sequence[Any]] | None = None  # set by the decorator `vjp`; None: no gradient
        self.user_defined = checks.is_user_defined(forward)  # if so, it is checked at every use
        if self.user_defined:
            checks.check_saves(name, forward, saves)

    def vjp(self, rule: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        """Decorator: `rule` is this op's vector-Jacobian product. It is kept in `vjp_rule`, for `walk`."""
        self.vjp_rule = checks.explained_rule(self, rule) if self.user_defined else rule
        return rule

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __get__(self, tensor: Any, kind: type | None = None) -> Any:
        """An op that is an attribute of Tensor (`Tensor.exp`) is a method, as a function would be. In any other class it is
        a value."""
        return MethodType(self, tensor) if isinstance(tensor, Tensor) else self

    __call__ = apply


class Node:
    """One recorded op. Its references lead to its parents only, never to its output Tensor. So there are no reference
    cycles, and a graph is freed as soon as nobody uses it."""

    __slots__ = ("dtypes", "line", "op", "order", "parents", "saved", "saved_versions", "shapes", "static")

    def __init__(self, op: Op | None, parents: tuple[Node | None, ...] = (), saved: tuple[Any, ...] = (),
                 static: dict[str, Any] = {}) -> None:  # noqa: B006  (never written to)
        self.op = op
        self.parents = parents
        self.saved: tuple[Any, ...] | None = saved  # in the order of `op.saves`; None once the node has been freed
        self.static = static
        self.order = next(_ORDER)  # its place in the order of creation: parents come before their children
        self.saved_versions: tuple[UsedVersion, ...] = ()  # those of the saved values that may be overwritten
        self.shapes: tuple[Any, ...] | None = None  # the inputs' shapes, if they differ or a user defined the op
        self.dtypes: tuple[Any, ...]  # the inputs' dtypes; set only if a user defined the op
        self.line = ""  # the user's line, under `detect_anomaly`


class Leaf(Node):
    """Where a gradient can end: a Tensor made with `requires_grad=True`."""

    __slots__ = ("grad",)

    def __init__(self) -> None:
        super().__init__(None)
        self.grad: Tensor | None = None


def grad(outputs: Tensor | Sequence[Tensor], inputs: Any, grad_outputs: Any = None, create_graph: bool = False,
         retain_graph: bool | None = None) -> Any:
    """The gradients of `outputs` with respect to `inputs`. They are returned, and stored nowhere.

    outputs: a Tensor or a sequence of Tensors. grad_outputs: weights for their elements, of the same shapes. Outputs of one
        element need none.
    inputs: a Tensor or an iterable of Tensors (`module.parameters()`). They may be leaves or results of ops.
    create_graph: record the backward pass, so that the gradients can be differentiated again.
    retain_graph: keep the graph for another `grad` through it (default: `create_graph`).
    Returns a Tensor of the input's shape, or a list of Tensors if `inputs` is not a Tensor. It holds zeros for an input that
    the outputs do not depend on. Raises ValueError if an output was not recorded, and RuntimeError if the graph was freed or
    a saved value has been overwritten.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    starts, ends = checks.nodes("grad", "outputs", outputs), checks.nodes("grad", "inputs", wanted)
    seeds = checks.seeds("grad", outputs, grad_outputs, create_graph)
    retain_graph = create_graph if retain_graph is None else retain_graph
    found = watched_walk(zip(starts, seeds, strict=True), ends, create_graph, retain_graph)
    gradients = []
    for tensor, node in zip(wanted, ends, strict=True):
        g = found.get(node)
        if g is None:
            g = backend_of(tensor.array).xp.zeros(tensor.shape, tensor.dtype)
        gradients.append(g if isinstance(g, Tensor) else wrap(g))
    return gradients[0] if isinstance(inputs, Tensor) else gradients


def watched_walk(starts: Iterable[tuple[Node, Any]], ends: Collection[Node], create_graph: bool,
                 retain_graph: bool) -> dict[Node, Any]:
    """`walk`, of which the context's watcher is told. The ops of the vjps are recorded if `create_graph` says so."""
    watcher, inner = CONTEXT.get().watcher, None
    if watcher is not None:
        starts = list(starts)
        inner = watcher.starts(starts, ends, create_graph)
    with override(recording=create_graph, watcher=inner):
        return walk(starts, ends, create_graph, retain_graph, watcher)


def walk(starts: Iterable[tuple[Node, Any]], ends: Collection[Node], create_graph: bool, retain_graph: bool,
         watcher: Watcher | None = None, partial: bool = False) -> dict[Node, Any]:
    """The chain rule: from the gradients of `starts` to the gradients of those `ends` that they depend on.

    With `create_graph` all gradients are Tensors, otherwise bare arrays. partial: compute partial derivatives, as `pullback`
    wants them: for ends x and y = f(x), the gradient of y is not passed on to x. watcher: is told of every vjp.
    """
    if not ends:
        return {}
    wanted = set(ends)
    gradients: dict[Node, Any] = {}
    for node, g in starts:
        gradients[node] = add(gradients[node], g) if node in gradients else g
    path = reachable(gradients, min(node.order for node in ends), wanted if partial else ())
    needed: set[Node] = set()  # the nodes between the starts and the ends
    for node in path:
        if node in wanted or not needed.isdisjoint(node.parents):
            needed.add(node)

    while path:  # newest first: when we visit a node, all nodes that depend on it have added their parts
        node = path.pop()
        if node not in needed:
            continue
        g = gradients.get(node) if node in wanted else gradients.pop(node, None)  # (popped: its memory is free again)
        op: Any = node.op
        if op is None or g is None or (partial and node in wanted):
            continue  # a leaf; or no gradient came here; or an end, if only partial derivatives are wanted
        needs = [parent in needed for parent in node.parents]
        if True in needs:
            saved = node.saved
            if node.saved_versions:
                check_fresh(node)
            if create_graph:
                saved = tuple([_in_graph(node, i, value) for i, value in zip(op.saves, saved, strict=True)])  # type: ignore[arg-type]
            parts = op.vjp_rule(needs, g, *saved, **node.static)  # type: ignore[misc]
            shapes = node.shapes
            if op.user_defined:
                parts = checks.checked_gradients(node, needs, g, parts)
            for i, parent in enumerate(node.parents):
                part = parts[i] if needs[i] else None
                if part is not None:
                    if shapes is not None and part.shape != shapes[i]:  # the input was broadcast
                        part = unbroadcast(part, shapes[i])
                    gradients[parent] = add(gradients[parent], part) if parent in gradients else part  # type: ignore[index]
            if watcher is not None:
                watcher.walked(node, needs, parts, g, saved, gradients)
            if not retain_graph:  # free what this node holds
                node.saved = None
                node.parents = ()
    return {node: gradients[node] for node in wanted if node in gradients}


def reachable(starts: Iterable[Node], oldest: int, boundary: Collection[Node] = ()) -> list[Node]:
    """The nodes that `starts` depend on and that are not older than `oldest`, in creation order (parents first). The search
    stops at the nodes of `boundary`."""
    seen: set[Node] = set()
    stack = list(starts)
    while stack:
        node = stack.pop()
        if node in seen or node.order < oldest:
            continue
        seen.add(node)
        if node.saved is None and node.order > oldest:  # (of the oldest node nothing is needed, so it may have been freed)
            raise checks.freed(node)
        if node not in boundary:
            stack.extend([parent for parent in node.parents if parent is not None])
    return sorted(seen, key=lambda node: node.order)


def _in_graph(node: Node, position: int, value: Any) -> Any:
    """A saved value as a Tensor in the graph, for a vjp that will be differentiated itself."""
    if not hasattr(value, "shape"):
        return value
    return wrap(value, node if position == OUT else node.parents[position])


from tinygan.making import op  # (the import cycle: these modules use what is defined above)
from tinygan.ops.elementwise import add
from tinygan.ops.shape import unbroadcast
