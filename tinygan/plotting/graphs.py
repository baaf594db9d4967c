"""`draw_graph`: the graph of a small computation as an SVG picture, for a notebook or a file."""
from __future__ import annotations

__all__ = ["MOST", "Drawing", "draw_graph"]

import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.context import override
from tinygan.graph import Leaf, Node, reachable, walk
from tinygan.nn import Module
from tinygan.ops.reduce import largest_magnitude
from tinygan.tensor import Tensor, as_array
from tinygan.watching import Watcher

from .layout import Box, Layout, Point, arrange

MOST = 200
"""How many nodes a picture may have. With more, a reader would find nothing in it."""

_FEW = 4  # entries that are written out

_STYLE = """
.tg-graph { --ink: #1f2933; --soft: #5f6c7b; --paper: #ffffff; --frame: #f3f5f8; --edge: #c9d2dd;
  --op: #e4edf8; --op-line: #4a75a8; --own: #fdf0dc; --own-line: #b06d00; --fixed: #f4f4f4; --fixed-line: #8a8f98;
  --back: #a04a00; font-family: system-ui, sans-serif; font-size: 12px; background: var(--paper); }
@media (prefers-color-scheme: dark) { .tg-graph { --ink: #e6eaf0; --soft: #9aa7b5; --paper: #15191e; --frame: #1d232a;
  --edge: #3a4653; --op: #22354d; --op-line: #7fa8da; --own: #41310f; --own-line: #dca23a; --fixed: #24282e;
  --fixed-line: #7c8590; --back: #ffb066; } }
.tg-graph text { fill: var(--ink); text-anchor: middle; } .tg-graph .title { font-weight: 600; }
.tg-graph .gradient { fill: var(--back); } .tg-graph .name { fill: var(--soft); text-anchor: start; font-size: 11px;
  paint-order: stroke; stroke: var(--frame); stroke-width: 5px; stroke-linejoin: round; }
.tg-graph .frame { fill: var(--frame); stroke: var(--edge); } .tg-graph .box { stroke-width: 1.3; }
.tg-graph .op { fill: var(--op); stroke: var(--op-line); }
.tg-graph .parameter, .tg-graph .input { fill: var(--own); stroke: var(--own-line); stroke-width: 2; }
.tg-graph .constant { fill: var(--fixed); stroke: var(--fixed-line); stroke-dasharray: 4 3; }
.tg-graph .way { fill: none; stroke: var(--soft); stroke-width: 1.2; } .tg-graph .cut { stroke-dasharray: 3 4; }
.tg-graph .tip { fill: var(--soft); }
"""
_TIP = ('<defs><marker id="tg-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>')


class Drawing:
    """A graph that can be drawn: a notebook shows it, `save` writes it, `svg` is the picture as a text.

    The gradients of the leaves are looked up each time it is drawn. So if it is shown again after `loss.backward()`, it
    shows them."""

    def __init__(self, boxes: Callable[[], Sequence[Box]], about: str) -> None:
        self._boxes, self._about = boxes, about
        self.layout: Layout = arrange(boxes())

    @property
    def svg(self) -> str:
        """The picture, as SVG."""
        boxes = self._boxes()
        self.layout = arrange(boxes)  # (a gradient makes a box larger)
        return _picture(boxes, self.layout, self._about)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file whose name ends in .svg. Raises ValueError for another name."""
        if Path(path).suffix.lower() != ".svg":
            raise ValueError(f"draw_graph: the file should end in .svg, got {os.fspath(path)!r}")
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{self.svg}</div>'


def draw_graph(what: Any, path: str | os.PathLike[str] | None = None, *, gradients: bool = False,
               names: Mapping[str, Any] | None = None, limit: int = MOST) -> Drawing:
    """The graph of a computation: ops from top to bottom, each with the shape or the value of its result.

    what: a Tensor such as a loss, or what `tinygan.teaching.trace` returned. names: Tensors and Modules by name; parameters
    are called after them, and the ops of a layer get a frame. gradients: compute the gradient of `what` (whose elements
    count equally) at every node and write it into the boxes; the graph is kept. Without it, the leaves show the gradients
    that `backward` has computed, and a trace shows those of its last pass back. path: a file to write, ending in .svg.

    Raises ValueError for a graph of more than `limit` nodes, and for a Tensor that no op has computed; RuntimeError for a
    graph that an earlier `grad` has freed.
    """
    if hasattr(what, "boxes"):
        boxes: Callable[[], Sequence[Box]] = what.boxes
        count, about = len(what), "Graph of a traced computation"
    elif isinstance(what, Tensor):
        if what.node is None:
            raise ValueError("draw_graph: this Tensor does not require a gradient, so it has no graph")
        nodes = reachable([what.node], oldest=-1)
        count, about = len(nodes), f"Graph of a Tensor of shape {what.shape}"
        if count <= limit:
            boxes = _OfTensor(what, nodes, gradients, names or {}).boxes
    else:
        raise TypeError(f"draw_graph: expected a Tensor or a Trace, got {type(what).__name__}")
    if count > limit:
        raise ValueError(f"draw_graph: the graph has {count:,} nodes, more than the limit of {limit:,}: draw a smaller "
                         "computation, or set a larger limit")
    drawing = Drawing(boxes, f"{about}, {count} nodes, drawn from inputs at the top to the result at the bottom.")
    if path is not None:
        drawing.save(path)
    return drawing


class _Gradients(Watcher):
    """Notes the gradient that arrives at every node."""

    def __init__(self) -> None:
        self.found: dict[Node, Any] = {}

    def walked(self, node: Node, needs: list[bool], parts: Sequence[Any], g: Any, saved: Any,
               gradients: dict[Node, Any]) -> None:
        self.found[node] = g


class _OfTensor:
    """The boxes of a Tensor's graph."""

    def __init__(self, tensor: Tensor, nodes: list[Node], gradients: bool, names: Mapping[str, Any]) -> None:
        assert tensor.node is not None
        self._end: Node = tensor.node
        self._nodes = nodes
        self._parents = {node: node.parents for node in nodes}  # (`grad` takes them from the nodes when it frees the graph)
        self._names: dict[Node, str] = {}
        self._layers: dict[Node, str] = {}
        for name, value in names.items():
            self._call(name, value)
        self._gradients = self._backward(tensor, gradients)
        self._shapes = {node: g.shape for node, g in self._gradients.items()}
        self._shows_all = gradients
        self._values = self._known(tensor)
        self._frames = self._grouped()

    def _call(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            for path, module in value.named_modules(name):
                for own, member in module._named_members():
                    if isinstance(member, Tensor) and member.node is not None:
                        self._names.setdefault(member.node, f"{path}.{own}")
                        self._layers.setdefault(member.node, f"{path} {type(module).__name__}({module.describe()})")
        elif isinstance(value, Tensor) and value.node is not None:
            self._names[value.node] = name

    def _backward(self, tensor: Tensor, must: bool) -> dict[Node, Any]:
        """The gradient at every node, which also tells the shapes."""
        leaves = [node for node in self._nodes if isinstance(node, Leaf)]
        seed = backend_of(tensor.array).xp.ones(tensor.shape, tensor.dtype)
        watcher = _Gradients()
        try:
            with override(recording=False, watcher=None):
                found = walk([(self._end, seed)], leaves, False, True, watcher)
        except RuntimeError:  # a value was overwritten since
            if must:
                raise
            return {}
        return watcher.found | found | {self._end: seed}

    def _known(self, tensor: Tensor) -> dict[Node, Any]:
        """The values that the graph holds: nodes save some of their inputs and results."""
        found: dict[Node, Any] = {self._end: tensor.array}
        for node in self._nodes:
            for position, value in zip(node.op.saves if node.op else (), node.saved or (), strict=False):
                of = node if position < 0 else node.parents[position]
                if of is not None and hasattr(value, "shape"):
                    found.setdefault(of, value)
        return found

    def _grouped(self) -> dict[Node, tuple[str, int]]:
        """For each node the layer of the parameter that it uses, or else of the node before it, with a number: a layer that
        is used twice has two frames."""
        found: dict[Node, tuple[str, int]] = {}
        for node in self._nodes:
            parents = self._parents[node]
            own = [parent for parent in parents if parent is not None and parent in self._layers]
            before = [found[parent] for parent in parents if parent in found and parent not in self._layers]
            if own:
                layer = self._layers[own[0]]
                inherited = [group for group in before if group[0] == layer]
                group = inherited[-1] if inherited else (layer, node.order)
                found[node] = group
                for parent in own:
                    found.setdefault(parent, group)
            elif len(parents) == len(before) == 1 and node.op is not None:
                found[node] = before[0]
        return found

    def boxes(self) -> list[Box]:
        """The boxes, in the order of the computation."""
        return [self._box(node) for node in self._nodes]

    def _box(self, node: Node) -> Box:
        group, call = self._frames.get(node, ("", 0))
        name, value = self._names.get(node, ""), self._values.get(node)
        title = name or (_title(node.op.name, node.static) if node.op else "leaf")
        shape = self._shapes.get(node, getattr(value, "shape", None))
        second = in_short(value) if value is not None else "" if shape is None else shape_text(shape)
        g = self._gradients.get(node) if self._shows_all else None
        if isinstance(node, Leaf) and g is None and node.grad is not None:
            g = node.grad
        lines = [title, second, f"gradient {in_short(g)}" if g is not None else ""]
        kind = "op" if node.op else "parameter" if node in self._layers else "input"
        return Box(node.order, tuple(line for line in lines if line),
                   tuple(parent.order for parent in self._parents[node] if parent is not None), group, call, kind)


def _title(name: str, static: dict[str, Any]) -> str:
    return str(static["activation"]) if name == "activation" and "activation" in static else name


def shape_text(shape: tuple[int, ...]) -> str:
    """The shape in words, such as "64 numbers"."""
    if len(shape) < 2:
        return f"{shape[0]:,} numbers" if shape and shape[0] != 1 else "one number"
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


def in_short(value: Any) -> str:
    """A few numbers as they are; of more, the shape and the largest magnitude."""
    array = as_array(value)
    if array.size <= _FEW:
        numbers = [f"{x:.3g}".replace("-", "\N{MINUS SIGN}") for x in np.ravel(backend_of(array).to_numpy(array)).tolist()]
        return numbers[0] if not array.shape else f"[{', '.join(numbers)}]"
    largest = float(as_array(largest_magnitude(array))) if array.dtype.kind == "f" else None
    return shape_text(array.shape) + ("" if largest is None else f", up to {largest:.2g}")


def _picture(boxes: Sequence[Box], layout: Layout, about: str) -> str:
    width, height = layout.size
    box = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" class="tg-graph" role="img" {box}><title>{escape(about)}</title>',
             f"<style>{_STYLE}</style>{_TIP}"]
    for frame in layout.frames:
        x, y, across, down = (f"{value:.1f}" for value in frame[1:])
        parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{across}" height="{down}" rx="8"/>')
    cuts = {(parent, box.key) for box in boxes for parent in box.cut}
    parts += [f'<path class="way{" cut" if edge in cuts else ""}" marker-end="url(#tg-tip)" d="{_curve(points)}"/>'
              for edge, points in layout.routes.items()]
    names = [f'<text class="name" x="{frame.x + 8:.1f}" y="{frame.y + 15:.1f}">{escape(frame.title)}</text>'
             for frame in layout.frames]  # (above the edges, so that they can be read)
    return "".join([*parts, *names, *[_drawn(box, layout.centers[box.key]) for box in boxes], "</svg>"])


def _drawn(box: Box, center: Point) -> str:
    (x, y), (width, height) = center, box.size
    round_ = 0 if box.kind == "parameter" else 6
    parts = [f'<g><title>{escape("; ".join(box.lines))}</title><rect class="box {box.kind}" x="{x - width / 2:.1f}" '
             f'y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_}"/>']
    for i, line in enumerate(box.lines):
        kind = "title" if not i else "gradient" if line.startswith("gradient ") else "value"
        parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y - height / 2 + 17 + 16 * i:.1f}">{escape(line)}</text>')
    return "".join([*parts, "</g>"])


def _curve(points: Sequence[Point]) -> str:
    """A smooth line through the points, vertical at each of them."""
    (x, y), *rest = points
    text = f"M{x:.1f} {y:.1f}"
    for u, v in rest:
        bend = (v - y) / 2
        text += f" C{x:.1f} {y + bend:.1f} {u:.1f} {v - bend:.1f} {u:.1f} {v:.1f}"
        x, y = u, v
    return text
