"""The tape: all ops of a computation in the order in which they ran, with values, layers and gradients.

`trace(function)` calls a function and watches the engine (see `tinygan.watching`). Nothing is computed in another way than
without it, except that no layers are fused, so that every op is seen.

    traced = trace(lambda: tg.grad(loss(x), [x]))
    for entry in traced:
        print(entry.name, entry.value, traced.gradient(entry))
"""
from __future__ import annotations

__all__ = ["Entry", "Input", "Pass", "Place", "Trace", "Visit", "trace"]

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.backends import backend_of
from tinygan.context import override
from tinygan.graph import Leaf, Node, Op
from tinygan.nn import Module
from tinygan.plotting.graphs import in_short
from tinygan.plotting.layout import Box
from tinygan.tensor import Tensor, as_array
from tinygan.watching import Watcher, watching

Array = npt.NDArray[Any]
_ROOT = Path(__file__).parents[2]


class Place(NamedTuple):
    """Where an op ran: the network ("generator") and the layer ("generator.3 Dense(512 -> 1024)"), both "" outside of all
    networks. call: the number of the stay in that layer; ops with the same number ran one after the other."""

    player: str = ""
    layer: str = ""
    call: int = 0


NOWHERE = Place()


class Input(NamedTuple):
    """An input of an op: the id of its entry, or a number. tracked: whether `grad` can go back to it from here. So it is
    False where a value was taken as a constant."""

    id: int | None
    number: float | None = None
    tracked: bool = False


@dataclass
class Entry:
    """One value on the tape: the result of an op, or a value that was there before."""

    id: int
    kind: str
    """"op"; "parameter"; "input", a Tensor that requires a gradient; or "constant"."""
    name: str
    """The op's name, the path of a parameter such as "generator.3.weight", or the name of an argument, if it has one."""
    value: Array
    """A copy on the host, as it was then."""
    place: Place = NOWHERE
    op: Op | None = None
    inputs: tuple[Input, ...] = ()
    static: dict[str, Any] = field(default_factory=dict)
    constant: bool = True
    """Whether it is a constant to `grad`: it does not require a gradient, or was computed under `no_grad`."""
    during: int | None = None
    """The number of the pass back in which a vjp computed it, if one did and recorded it (`create_graph=True`)."""

    @property
    def parents(self) -> list[int | None]:
        """The ids of the inputs; None for a number."""
        return [x.id for x in self.inputs]

    @property
    def source(self) -> tuple[str, int]:
        """The file and the line where the op is defined; ("", 0) if the entry is no op."""
        return _source(self.op.forward if self.op is not None else None)

    @property
    def vjp_source(self) -> tuple[str, int]:
        """The file and the line of the op's vjp; ("", 0) if there is none."""
        return _source(self.op.vjp_rule if self.op is not None else None)


class Visit(NamedTuple):
    """A node that a pass back visited: its entry, the gradient that had arrived there, which inputs needed one, and what
    the vjp returned for them (before it is summed to the input's shape)."""

    id: int
    gradient: Array
    needs: tuple[bool, ...]
    parts: tuple[Array | None, ...]


@dataclass
class Pass:
    """One call of `grad` (or `backward`): the way back through the graph."""

    create_graph: bool
    starts: list[int]
    """Where it began: the outputs."""
    ends: list[int]
    """What it was asked for."""
    visits: list[Visit] = field(default_factory=list)
    """In the order in which `grad` went back."""
    gradients: dict[int, Array] = field(default_factory=dict)
    """The gradient of every entry that it came to, by id."""

    def visited(self, id: int) -> int | None:
        """The place of an entry in the order of the visits, from 0; None if its vjp did not run."""
        return next((k for k, visit in enumerate(self.visits) if visit.id == id), None)


class Trace:
    """What `trace` returns: `entries` in the order of the computation, and the `passes` back. `result` is what the function
    returned."""

    def __init__(self, entries: list[Entry], passes: list[Pass], result: Any = None) -> None:
        self.entries, self.passes, self.result = entries, passes, result

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, id: int) -> Entry:
        return self.entries[id]

    def gradient(self, entry: Entry, number: int = -1) -> Array | None:
        """The entry's gradient in one of the passes back, by default the last; None if it has none there."""
        return self.passes[number].gradients.get(entry.id) if self.passes else None

    def inputs_of(self, entry: Entry) -> list[Array | float]:
        """The values of the op's inputs."""
        return [x.number if x.id is None else self.entries[x.id].value for x in entry.inputs]  # type: ignore[misc]

    def used(self) -> list[Entry]:
        """The entries that some pass back began from or that led there, and what it recorded: without results that are only
        reported. All entries, if there was no pass back."""
        wanted = {id for back in self.passes for id in (*back.starts, *back.ends, *back.gradients)}
        for entry in reversed(self.entries):
            if entry.id in wanted:
                wanted.update(id for id in entry.parents if id is not None)
        return [entry for entry in self.entries if entry.id in wanted or not self.passes]

    def boxes(self) -> list[Box]:
        """The used entries as `tinygan.plotting.draw_graph` draws them."""
        return [self._box(entry) for entry in self.used()]

    def _box(self, entry: Entry) -> Box:
        title = str(entry.static["activation"]) if entry.name == "activation" else entry.name or entry.kind
        g = self.gradient(entry)
        lines = [title, in_short(entry.value), *([f"gradient {in_short(g)}"] if g is not None else [])]
        cut = frozenset(x.id for x in entry.inputs if x.id is not None and not x.tracked)
        kind = "constant" if entry.kind == "op" and entry.constant else entry.kind
        return Box(entry.id, tuple(lines), tuple(x.id for x in entry.inputs if x.id is not None), entry.place.layer,
                   entry.place.call, kind, cut)

    def __repr__(self) -> str:
        lines = []
        for entry in self.entries:
            inputs = ", ".join(f"{x.number:.4g}" if x.id is None else f"#{x.id}" for x in entry.inputs)
            calls = f"{entry.name}({inputs})" if entry.kind == "op" else f"{entry.kind} {entry.name}".strip()
            lines.append(f"#{entry.id:<4} {calls:<40} {entry.value.shape!s:<18} {entry.place.layer}".rstrip())
        return "\n".join(lines)


def trace(function: Callable[..., Any], *arguments: Any, networks: Mapping[str, Module] | None = None) -> Trace:
    """Call `function(*arguments)`, and return everything that it computed.

    networks: modules by name; their parameters and layers are called after them ("generator.3.weight"). Arrays and Tensors
    among the arguments get the names of the function's parameters. Layers are not fused in the call. Values are copied, so
    this is for small batches.
    """
    tape = _Tape(networks or {})
    tape.name(function, arguments)
    with override(fusion=False), watching(tape):
        result = function(*arguments)
    return Trace(tape.entries, tape.passes, result)


def _source(function: Any) -> tuple[str, int]:
    function = inspect.unwrap(function) if function is not None else None
    code = getattr(function, "__code__", None)
    if code is None:
        return "", 0
    path = Path(code.co_filename)
    return (path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else path.name), code.co_firstlineno


def _host(value: Any) -> Array:
    """A copy of an array or a Tensor as a NumPy array."""
    array = as_array(value)
    return np.array(backend_of(array).to_numpy(array), order="C")


def _lies_in(part: Any, whole: Any) -> bool:
    """Whether the memory of one array is within that of another."""
    if type(part) is not np.ndarray or type(whole) is not np.ndarray or not part.size or part.base is None:
        return False
    (low, high), (start, end) = np.lib.array_utils.byte_bounds(part), np.lib.array_utils.byte_bounds(whole)
    return start <= low and high <= end


class _Tape(Watcher):
    """The watcher of `trace`."""

    def __init__(self, networks: Mapping[str, Module]) -> None:
        self.entries: list[Entry] = []
        self.passes: list[Pass] = []
        self._by_node: dict[Node, int] = {}
        self._by_array: dict[int, int] = {}  # by the id of an array
        self._alive: list[Any] = []  # these arrays, so that no other array gets their ids
        self._written: dict[tuple[Node, int], int] = {}  # parameters, by their node and the count of writes
        self._names: dict[int, str] = {}  # of arguments, by the id of their array
        self._paths: dict[object, tuple[str, str]] = {}  # player and layer, by a module's identity
        self._parameters: dict[Node, tuple[str, str]] = {}  # player and path, by node
        self._layer_of: dict[Node, str] = {}
        self._stay: tuple[FrameType | None, int] = None, 0  # the call of a module that the last op was in, and its number
        for name, network in networks.items():
            self._know(name, network)

    def _know(self, name: str, network: Module) -> None:
        for path, module in network.named_modules(name):
            layer = f"{path} {type(module).__name__}({module.describe()})"
            self._paths[module._identity] = name, layer
            for own, parameter in module._named_members():
                if isinstance(parameter, Tensor) and parameter.node is not None:
                    self._parameters.setdefault(parameter.node, (name, f"{path}.{own}"))
                    self._layer_of.setdefault(parameter.node, layer)

    def name(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        """Name the arguments of the function after its parameters."""
        try:
            names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # a function without a signature
            names = []
        for i, value in enumerate(arguments):
            if isinstance(value, Tensor) or hasattr(value, "shape"):
                array = value.array if isinstance(value, Tensor) else value
                self._names[id(array)] = names[i] if i < len(names) else f"argument {i}"
                self._alive.append(array)
                if isinstance(value, Tensor) and value.node is not None:
                    self._tensor(value, NOWHERE)

    # -- forward ---------------------------------------------------------------------------------------------------------

    def computed(self, op: Op, out: Any, arrays: list[Any], inputs: Sequence[Any], static: dict[str, Any]) -> None:
        self.add(op, out, inputs, static, self._place())

    def add(self, op: Op, out: Any, inputs: Sequence[Any], static: dict[str, Any], place: Place,
            during: int | None = None) -> int:
        """An entry for the result of an op. Returns its id."""
        taken = tuple([self._input(x, place) for x in inputs])
        return self._new(out, kind="op", name=op.name, value=_host(out), place=place, op=op, inputs=taken,
                         static=dict(static), during=during)

    def recorded(self, node: Node, result: Tensor) -> None:
        id_ = self._by_array.get(id(result.array))
        if id_ is None or self.entries[id_].op is not node.op:  # not from `apply`: a checkpoint
            inputs = tuple([Input(self._id(parent), tracked=True) for parent in node.parents if parent is not None])
            id_ = self._new(result.array, kind="op", name=node.op.name if node.op else "", value=_host(result),
                            place=self._place(), op=node.op, inputs=inputs)
        self._by_node[node] = id_
        self.entries[id_].constant = False

    def _new(self, array: Any, **what: Any) -> int:
        entry = Entry(id=len(self.entries), **what)
        self.entries.append(entry)
        self._alive.append(array)
        self._by_array[id(array)] = entry.id
        return entry.id

    def _input(self, x: Any, place: Place) -> Input:
        if isinstance(x, Tensor):
            return Input(self._tensor(x, place), tracked=x.node is not None)
        if not hasattr(x, "shape") or isinstance(x, np.generic):
            return Input(None, float(x))
        return Input(self._array(x, place))

    def _tensor(self, x: Tensor, place: Place) -> int:
        node = x.node
        if node is None:
            return self._array(x.array, place)
        if x.version is not None and isinstance(node, Leaf):  # (what is written to it later is another entry)
            key = node, x.version.count
            if key not in self._written:
                player, path = self._parameters.get(node, ("", self._names.get(id(x.array), "")))
                own = Place(player, self._layer_of.get(node, place.layer), place.call)
                self._written[key] = self._by_node[node] = self._new(
                    x.array, kind="parameter", name=path, value=_host(x), place=own, constant=False)
            return self._written[key]
        if node not in self._by_node:
            if isinstance(node, Leaf) and id(x.array) in self._by_array:  # a computed value, as a leaf of a new graph
                self._by_node[node] = self._by_array[id(x.array)]
            else:
                kind = "input" if isinstance(node, Leaf) else "constant"
                self._by_node[node] = self._new(x.array, kind=kind, name=self._names.get(id(x.array), ""), value=_host(x),
                                                constant=False)
        return self._by_node[node]

    def _array(self, x: Any, place: Place) -> int:
        if id(x) in self._by_array:
            return self._by_array[id(x)]
        whole = next((known for known in reversed(self._alive) if id(x) not in self._names and _lies_in(x, known)), None)
        if whole is not None:  # NumPy's own slice of an array that is known
            return self._new(x, kind="op", name="part", value=_host(x), place=Place(call=place.call),
                             inputs=(Input(self._array(whole, place)),))
        return self._new(x, kind="constant", name=self._names.get(id(x), ""), value=_host(x), place=Place(call=place.call))

    def _place(self) -> Place:
        """The layer whose `forward` is running: found on the stack."""
        frame: FrameType | None = sys._getframe(2)
        found: FrameType | None = None
        player = layer = ""
        while frame is not None and frame.f_code is not trace.__code__:
            if frame.f_code is Module.__call__.__code__:
                known = self._paths.get(frame.f_locals["self"]._identity)
                if known is not None:
                    found, (player, layer) = frame, known
                    break
            frame = frame.f_back
        if found is not self._stay[0]:
            self._stay = found, self._stay[1] + 1
        return Place(player, layer, self._stay[1])

    # -- back ------------------------------------------------------------------------------------------------------------

    def starts(self, seeds: Sequence[tuple[Node, Any]], ends: Collection[Node], create_graph: bool) -> Watcher | None:
        self._stay = None, self._stay[1] + 1
        self.passes.append(Pass(create_graph, [self._by_node[node] for node, _ in seeds if node in self._by_node],
                                [self._id(node) for node in ends]))
        for node, g in seeds:
            self.passes[-1].gradients[self._id(node)] = _host(g)
            array = as_array(g)
            self._names.setdefault(id(array), "start of grad")
            self._alive.append(array)
        return _Inside(self, len(self.passes) - 1) if create_graph else None

    def _id(self, node: Node) -> int:
        """The entry of a node, also of one that was recorded before the trace began: its value is not known then."""
        if node not in self._by_node:
            player, path = self._parameters.get(node, ("", ""))
            self._by_node[node] = self._new(
                np.zeros(0), kind="parameter" if path else "op" if node.op else "input", name=path or (
                    node.op.name if node.op else ""), value=np.zeros(0), place=Place(player, self._layer_of.get(node, "")),
                op=node.op, constant=False)
        return self._by_node[node]

    def walked(self, node: Node, needs: list[bool], parts: Sequence[Any], g: Any, saved: Any,
               gradients: dict[Node, Any]) -> None:
        back = self.passes[-1]
        id_ = self._id(node)
        returned = tuple([_host(part) if need and part is not None else None
                          for need, part in zip(needs, parts, strict=False)])
        back.visits.append(Visit(id_, _host(g), tuple(needs), returned))
        back.gradients[id_] = back.visits[-1].gradient
        for parent, need in zip(node.parents, needs, strict=True):
            if need and parent is not None and parent in gradients:
                back.gradients[self._id(parent)] = _host(gradients[parent])


class _Inside(Watcher):
    """Watches the ops that the vjps call in a pass back that is recorded itself."""

    def __init__(self, tape: _Tape, number: int) -> None:
        self._tape, self._number = tape, number

    def computed(self, op: Op, out: Any, arrays: list[Any], inputs: Sequence[Any], static: dict[str, Any]) -> None:
        tape = self._tape
        self._tape.add(op, out, inputs, static, Place(layer="gradient, recorded", call=tape._stay[1]), self._number)

    def recorded(self, node: Node, result: Tensor) -> None:
        self._tape.recorded(node, result)
