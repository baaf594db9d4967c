"""The engine: `Op`, the one door `apply` through which every op runs, the `Node` it records, and `grad`, which walks back.

How to read this file: an op computes on arrays. If one of its inputs is a Tensor that requires a gradient, `apply`
records a Node: which op, which parents, what the backward pass will need. `grad` visits the nodes between outputs and
inputs, newest first, and calls each op's vjp ("vector-Jacobian product": from the gradient of the output to the
gradients of the inputs). A vjp is written in ops. On bare arrays these compute and record nothing; with
`create_graph=True` they get Tensors, record nodes of their own, and the gradient can be differentiated again.
"""
from __future__ import annotations

__all__ = ["Leaf", "Node", "Op", "apply", "backward", "grad", "op", "pullback", "reachable"]

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, overload

import numpy as np

from tinygan.backends import Array, backend_of, cpu
from tinygan.checks import (
    as_output,
    as_seed,
    check_finite,
    check_finite_gradients,
    check_finite_sums,
    check_saves,
    checked_gradients,
    explained,
    explained_rule,
    is_own,
    of_one_precision,
    users_line,
)
from tinygan.context import CONTEXT, override
from tinygan.staleness import Read, reads, refuse_stale, watched
from tinygan.tensor import FLOATS, Tensor, as_array, wrap
from tinygan.versions import Version

OUT = -1  # in `Op.saves`: the op's own output
_FLOAT32 = FLOATS[0]
_ORDER = itertools.count()
_NUMBER = (int, float)
_new_tensor = Tensor.__new__


def apply(op: Op, *inputs: Any, **static: Any) -> Any:
    """Run `op`: pick the backend, run the kernel, record the node. Every op goes through here, forward and backward.

    (Most ops of a small network take longer here than in their kernel, hence the plain loops.)
    """
    context = CONTEXT.get()
    arrays: list[Any] = []
    parents: list[Node | None] = []
    backend = version = None
    any_tensor = tracked = unusual = False
    for x in inputs:
        node = None
        if isinstance(x, Tensor):
            any_tensor = True
            node = x.node
            if node is not None:
                tracked = True
            if x.version is not None:
                version = x.version
            x = x.array
        elif not isinstance(x, np.ndarray):
            if isinstance(x, np.generic):
                x = x.item()  # like Python's numbers, NumPy's scalars don't promote the arrays they meet
            if isinstance(x, _NUMBER):
                arrays.append(x)
                parents.append(None)
                continue
        arrays.append(x)
        parents.append(node)
        here = cpu if type(x) is np.ndarray else _backend(op, x)
        if backend is None:
            backend = here
        elif here is not backend:
            raise TypeError(f"{op.name}: inputs on {backend.name} and on {here.name}: bring them to one device, by "
                            "tinygan.to_device(array, name) or network.to(name)")
        if x.dtype is not _FLOAT32:
            unusual = True
    if backend is None:  # only numbers
        backend = cpu
        arrays = [np.asarray(x, dtype=np.float32 if any_tensor else None) for x in arrays]
    rule = op.rule
    if unusual and rule is not None and not op.view:
        arrays = of_one_precision(op, arrays)
    try:
        out = op.forward(backend, *arrays, **static)
    except (ValueError, IndexError) as error:
        raise explained(op, arrays, error) from None
    if type(out) is not backend.array_type:
        out = as_output(op, backend, out)
    if context.detect_anomaly:
        check_finite(op, out, arrays)
        if context.reads is not None:
            context.reads.extend(watched((inputs, static)))
    if not any_tensor:
        return out

    result = _new_tensor(Tensor)
    result.array = out
    result.node = result.version = None
    if version is not None:
        if op.view:
            result.version = _version_of_view(out, inputs)
        if context.reads is not None:
            context.reads.extend(reads(inputs))
        if context.listener is not None:
            for x in inputs:
                if isinstance(x, Tensor) and x.version is not None:
                    context.listener.uses(x)
    if tracked and context.recording and rule is not None:
        saves = op.saves
        saved = tuple([out if i == OUT else arrays[i] for i in saves]) if saves else ()
        result.node = node = Node(op, tuple(parents), saved, static)
        if version is not None:
            node.versions = reads([inputs[i] for i in saves if i != OUT])
        if op.notes_shapes:
            shape = out.shape
            for a in arrays:
                if type(a) is not float and getattr(a, "shape", shape) != shape:
                    node.shapes = tuple([getattr(a, "shape", None) for a in arrays])
                    break
            if op.own:
                node.shapes = tuple([getattr(a, "shape", None) for a in arrays])
                node.dtypes = tuple([getattr(a, "dtype", None) for a in arrays])
        if context.detect_anomaly:
            node.line = users_line()
            node.versions += watched((saved, static))
    elif rule is None and tracked and op.own and context.recording and out.dtype in FLOATS:
        raise TypeError(f"{op.name}: has no vjp, so its result would be a constant to grad: write one under @{op.name}.vjp, "
                        "or give it tinygan.detach(x)")
    return result


class Op:
    """A named pair of functions, called like one.

    forward: `(backend, *arrays, **static) -> array`.
    vjp: `(needs, g, *saved, **static) -> one gradient per input`, in ops; `needs[i]` says whether input i wants one
        (whatever stands in the place of an input that does not is ignored). None: no dependence.
    saves: what of the inputs (by position) and the output (`OUT`) the vjp is given as `saved`, in this order.
    broadcasts: the inputs broadcast against each other; gradients are then summed back to each input's shape.
    view: the output may share the memory of an input, which may be of any dtype: labels are indexed and reshaped too.
    integers: inputs may be integers or booleans as well, without a gradient then.

    Tensors in, Tensor out; without a Tensor the bare array is returned. A bare array among Tensors is kept as it is,
    not copied: do not write to it before the backward pass. What the vjp of an op from outside tinygan returns is checked:
    a TypeError or ValueError names the op, the input and what was expected.
    """

    def __init__(self, name: str, forward: Callable[..., Array], saves: tuple[int, ...] = (),
                 broadcasts: bool = False, view: bool = False, integers: bool = False) -> None:
        self.name = name
        self.forward = forward
        self.saves = saves
        self.broadcasts = broadcasts
        self.view = view
        self.integers = integers
        self.rule: Callable[..., Sequence[Any]] | None = None  # None: not differentiable
        self.own = is_own(forward)  # a user's: checked at every use
        self.notes_shapes = broadcasts or self.own
        if self.own:
            check_saves(name, forward, saves)
        self.__doc__ = forward.__doc__

    def vjp(self, rule: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        """Decorator: `rule` is this op's vector-Jacobian product."""
        self.rule = explained_rule(self, rule) if self.own else rule
        return rule

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    __call__ = apply


@overload
def op(saves: Callable[..., Array]) -> Op: ...


@overload
def op(saves: tuple[int, ...] = (), broadcasts: bool = False, view: bool = False,
       integers: bool = False) -> Callable[[Callable[..., Array]], Op]: ...


def op(saves: Any = (), broadcasts: bool = False, view: bool = False, integers: bool = False) -> Any:
    """Decorator that makes an op of a forward function: `@op`, or `@op(saves=(0, OUT))` with the arguments of `Op`. Its vjp
    follows under `@name.vjp`, or it has no gradient."""
    if callable(saves):
        return op()(saves)
    return lambda forward: Op(forward.__name__.strip("_"), forward, saves, broadcasts, view, integers)


class Node:
    """One recorded op. Edges lead backward only and the output Tensor is not among them, so reference counting alone
    frees a graph."""

    __slots__ = ("dtypes", "line", "op", "order", "parents", "saved", "shapes", "static", "versions")

    def __init__(self, op: Op | None, parents: tuple[Node | None, ...] = (), saved: tuple[Any, ...] = (),
                 static: dict[str, Any] = {}) -> None:  # noqa: B006  (never written to)
        self.op = op
        self.parents = parents
        self.saved: tuple[Any, ...] | None = saved  # in the order of `op.saves`; None once the node has been released
        self.static = static
        self.order = next(_ORDER)
        self.versions: tuple[Read, ...] = ()  # what was saved and may change
        self.shapes: tuple[Any, ...] | None = None  # the inputs' shapes, if broadcast or of a user's op
        self.dtypes: tuple[Any, ...]  # the inputs' dtypes; set for a user's op alone
        self.line = ""  # the user's line, under `detect_anomaly`


class Leaf(Node):
    """Where a gradient can end: a Tensor made with `requires_grad=True`."""

    __slots__ = ("grad",)

    def __init__(self) -> None:
        super().__init__(None)
        self.grad: Tensor | None = None


def _backend(op: Op, x: Any) -> Any:
    try:
        return backend_of(x)
    except TypeError as error:
        raise TypeError(f"{op.name}: {error}") from None


def _version_of_view(out: Array, inputs: tuple[Any, ...]) -> Version | None:
    """A view of a Parameter goes stale with it, so it carries the same version."""
    for x in inputs:
        if isinstance(x, Tensor) and x.version is not None and backend_of(out).xp.may_share_memory(out, x.array):
            x.version.watch(out)
            return x.version
    return None


def grad(outputs: Tensor | Sequence[Tensor], inputs: Any, grad_outputs: Any = None, create_graph: bool = False,
         retain_graph: bool | None = None) -> Any:
    """The gradients of `outputs` with respect to `inputs`; nothing is written anywhere.

    outputs: a Tensor or a sequence of them. grad_outputs: what weighs their elements (of their shapes); may be left
        out for outputs of one element.
    inputs: a Tensor or an iterable of them (`module.parameters()`), leaves or computed ones.
    create_graph: record the backward pass, so that the gradients can be differentiated again.
    retain_graph: keep the graph for another `grad` through it (default: `create_graph`).
    Returns a Tensor of the input's shape, or a list of them if `inputs` is not a Tensor; zeros for an input that the
    outputs do not depend on. Raises ValueError if an output was not recorded, RuntimeError if the graph was freed or
    something it saved has been overwritten since.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for kind, tensors in (("outputs", outputs), ("inputs", wanted)):
        for i, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"grad: {kind}[{i}] should be a Tensor, got {type(tensor).__name__}")
            if tensor.node is None:
                raise ValueError(f"grad: {kind}[{i}] {tensor.shape} does not require a gradient (made without "
                                 "requires_grad=True, detached, computed under no_grad, or made of integers or booleans, as "
                                 "comparisons are)")
    seeds = _seeds("grad", outputs, grad_outputs, create_graph)
    detect_anomaly = CONTEXT.get().detect_anomaly
    with override(recording=create_graph, detect_anomaly=False):
        found = _walk([(t.node, g) for t, g in zip(outputs, seeds, strict=True)], [t.node for t in wanted],  # type: ignore[misc]
                      create_graph, create_graph if retain_graph is None else retain_graph, detect_anomaly)
    gradients = []
    for tensor in wanted:
        g = found.get(tensor.node)  # type: ignore[arg-type]  # checked above
        if g is None:
            g = backend_of(tensor.array).xp.zeros(tensor.shape, tensor.dtype)
        gradients.append(g if isinstance(g, Tensor) else wrap(g))
    return gradients[0] if isinstance(inputs, Tensor) else gradients


def pullback(fn: Callable[..., Tensor], inputs: Sequence[Any], g: Any, needs: Sequence[bool],
             captured: Sequence[Node] = ()) -> list[Any]:
    """The vjp of `fn`, a function written in ops: from the gradient g of `fn(*inputs)` to the partial derivatives with
    respect to those inputs that `needs` marks, then to the `captured` nodes; None where there is no dependence.

    For use inside a vjp: Tensors give Tensors, in the graph; bare arrays give bare arrays.
    """
    create_graph = any(isinstance(x, Tensor) for x in (g, *inputs))
    with override(recording=True):
        # Aliases, because one Tensor may stand in two places, and each place has a derivative of its own.
        aliases = [x if not need else _alias(x) if isinstance(x, Tensor) and x.node else wrap(as_array(x), Leaf())
                   for x, need in zip(inputs, needs, strict=True)]
        y = fn(*aliases)
    if y.node is None:
        return [None] * (len(inputs) + len(captured))
    g = as_seed("pullback", y, g)
    if create_graph and not isinstance(g, Tensor):
        g = wrap(g)
    ends = [x.node if need else None for x, need in zip(aliases, needs, strict=True)]
    found = _walk([(y.node, g)], [node for node in [*ends, *captured] if node], create_graph, create_graph, False,
                  partial=True)
    return [found.get(node) if node else None for node in [*ends, *captured]]


@op(view=True)
def _alias(B: Any, x: Any) -> Any:
    return x


@_alias.vjp
def _(needs: Any, g: Any) -> Any:
    return (g,)


def backward(output: Tensor, gradient: Any, retain_graph: bool) -> None:
    """`Tensor.backward`: `grad` for every leaf below `output`, added to the leaves' `.grad`."""
    if output.node is None:
        raise ValueError("backward: this Tensor does not require a gradient (made without requires_grad=True, "
                         "detached, or computed under no_grad)")
    seed, = _seeds("backward", [output], gradient if gradient is None else [gradient], False)
    leaves: list[Node] = [node for node in reachable([output.node], -1) if isinstance(node, Leaf)]
    detect_anomaly = CONTEXT.get().detect_anomaly
    with override(recording=False, detect_anomaly=False):
        found = _walk([(output.node, seed)], leaves, False, retain_graph, detect_anomaly)
        for leaf, g in found.items():
            assert isinstance(leaf, Leaf)
            leaf.grad = wrap(g if leaf.grad is None else leaf.grad.array + g)


def _seeds(caller: str, outputs: list[Tensor], gradients: Any, create_graph: bool) -> list[Any]:
    if gradients is None:
        gradients = [None] * len(outputs)
    elif not isinstance(gradients, list | tuple):
        gradients = [gradients]
    if len(gradients) != len(outputs):
        raise ValueError(f"{caller}: {len(outputs)} outputs but {len(gradients)} gradients for them")
    seeds = []
    for tensor, g in zip(outputs, gradients, strict=True):
        if g is None:
            if tensor.size != 1:
                raise ValueError(f"{caller}: an output of shape {tensor.shape} needs a gradient to start from; only "
                                 "one of a single element starts from 1")
            g = backend_of(tensor.array).xp.ones(tensor.shape, tensor.dtype)
        elif isinstance(g, Tensor | int | float | np.generic):
            g = as_seed(caller, tensor, g)
        else:
            g = as_seed(caller, tensor, g).copy()  # it may become a gradient as it is, and the caller may write to it
        if create_graph:
            seeds.append(g if isinstance(g, Tensor) else wrap(g))
        else:
            seeds.append(g.array if isinstance(g, Tensor) else g)
    return seeds


def reachable(starts: Iterable[Node], oldest: int, boundary: Collection[Node] = ()) -> list[Node]:
    """The nodes below `starts` that are not older than `oldest`, in creation order (parents first); what lies behind
    a node of `boundary` is not visited."""
    seen: set[Node] = set()
    stack = list(starts)
    while stack:
        node = stack.pop()
        if node in seen or node.order < oldest:
            continue
        seen.add(node)
        if node.saved is None and node.order > oldest:  # (nothing below the oldest matters)
            raise RuntimeError(f"grad: the graph was freed by an earlier grad (at {node.op}); pass retain_graph=True to "
                               "the first one to walk it twice")
        if node not in boundary:
            stack.extend([parent for parent in node.parents if parent is not None])
    return sorted(seen, key=lambda node: node.order)


def _walk(starts: list[tuple[Node, Any]], ends: list[Node], create_graph: bool, retain_graph: bool,
          detect_anomaly: bool, partial: bool = False) -> dict[Node, Any]:
    """The gradient of each of `ends` that the starts depend on. The starts' gradients are Tensors under
    `create_graph` and bare arrays otherwise, and so is everything computed from them.

    partial: partial derivatives; where one of `ends` depends on another, that dependence does not count."""
    if not ends:
        return {}
    wanted = set(ends)
    path = reachable([node for node, _ in starts], min(node.order for node in ends), wanted if partial else ())
    needed: set[Node] = set()  # what lies between the starts and the ends
    for node in path:
        if node in wanted or not needed.isdisjoint(node.parents):
            needed.add(node)
    gradients: dict[Node, Any] = {}
    for node, g in starts:
        gradients[node] = add(gradients[node], g) if node in gradients else g

    while path:
        node = path.pop()
        if node not in needed:
            continue
        g = gradients.get(node) if node in wanted else gradients.pop(node, None)
        op: Any = node.op
        if op is None or g is None or (partial and node in wanted):
            continue
        needs = [parent in needed for parent in node.parents]
        if True in needs:
            saved = node.saved
            for read in node.versions:
                if read.version.count != read.seen:
                    refuse_stale(node, read)
            if create_graph:
                saved = tuple([_as_tensor(node, i, value) for i, value in zip(op.saves, saved, strict=True)])  # type: ignore[arg-type]
            parts = op.rule(needs, g, *saved, **node.static)  # type: ignore[misc]
            shapes = node.shapes
            if shapes is not None and op.own:
                parts = checked_gradients(node, needs, g, parts)
            if detect_anomaly:
                check_finite_gradients(node, needs, parts, g, saved)
            for i, parent in enumerate(node.parents):
                part = parts[i] if needs[i] else None
                if part is not None:
                    if shapes is not None and part.shape != shapes[i]:
                        part = unbroadcast(part, shapes[i])
                    gradients[parent] = add(gradients[parent], part) if parent in gradients else part  # type: ignore[index]
            if detect_anomaly:
                check_finite_sums(node, gradients)
            if not retain_graph:
                node.saved = None
                node.parents = ()
    return {node: gradients[node] for node in wanted if node in gradients}


def _as_tensor(node: Node, position: int, value: Any) -> Any:
    """What was saved, back in the graph, for a vjp that is itself to be differentiated."""
    if not hasattr(value, "shape"):
        return value
    return wrap(value, node if position == OUT else node.parents[position])


from tinygan.ops.elementwise import add  # (ops are made by `op`, above)
from tinygan.ops.shape import unbroadcast
