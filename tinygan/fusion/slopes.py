"""The outputs of a piecewise linear network, and the gradient of each output by its example, as one op.

Both depend on the weights, and a loss of both has to be differentiated by them: a cost of the discriminator's scores, and a
penalty on their slopes. The definition (`higher_order.with_slopes`) goes forward through the network; back, for the slopes;
then forward and back once more, because the pass back is differentiated too; and it takes two products for each weight's
gradient. In a piecewise linear network that takes each example by itself, the second pass back and the second product are
not needed.

Take one example x with the output D(x), and a loss whose derivatives are c by D(x) and v by the slope dD/dx. Around x, each
layer is y_l = m_l * (W_l x_l + b_l), with a mask m_l of the activation's slopes, which does not change with the weights. Let
a_l be dD by the layer's output; the slopes needed them all. The loss's gradient is that of c D(x) + <v, dD/dx>, where
<v, dD/dx> is the output's derivative along v:

    along v, the layer's input changes by v_l:    v_0 = v,    v_(l+1) = m_l * (W_l v_l)
    by W_l, the gradient of c D(x)            is  (m_l * c a_l) x_l^T
    by W_l, the gradient of <v, dD/dx>        is  (m_l *   a_l) v_l^T
    so their sum                              is  (m_l *   a_l) u_l^T,    with u_l = c x_l + v_l

and u_l is computed like x_l: u_0 = c x + v, u_(l+1) = m_l * (W_l u_l + c b_l). By b_l the gradient is c m_l * a_l.

This file takes the network from the recorded graph. `RULES` has the ops that it knows. If the graph has another one, or one
that may couple examples, the definition runs. So it does if the gradients will be differentiated again.
"""
from __future__ import annotations

__all__ = ["RULES", "Rule"]

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygan.backends import Array, backend_of
from tinygan.context import CONTEXT, override
from tinygan.fusion.conv import _conv2d_fused
from tinygan.fusion.dense import _dense
from tinygan.graph import Node, Op, reachable, walk
from tinygan.higher_order import with_slopes
from tinygan.kernels.activations import PIECEWISE_LINEAR
from tinygan.ops.activations import _activation_keeping_output, activation_grad
from tinygan.ops.conv import _conv2d, _conv2d_input_grad, _conv2d_weight_grad
from tinygan.ops.elementwise import add, mul
from tinygan.ops.matmul import _linear, _linear_input_grad, _linear_weight_grad
from tinygan.ops.packing import cut, pack
from tinygan.ops.pooling import _means
from tinygan.ops.reduce import _sum
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import _reshape, reshape, unbroadcast
from tinygan.staleness import check_fresh
from tinygan.tensor import Tensor, wrap

Shares = Any
"""The derivatives c of the loss by the outputs, (N,)."""


class Rule(NamedTuple):
    """What a layer does, for the node of its op. In the formulas above:"""

    fits: Callable[[Node, list[bool]], bool]
    """Whether the node is such a layer. The list says which of its inputs depend on the examples."""
    masked: Callable[[Node, Any], Any]
    """m * a, from a."""
    by_inputs: Callable[[Node, Any], Sequence[Any]]
    """The gradient by each input that depends on the examples, from m * a. At the places of others is anything."""
    along: Callable[[Node, Sequence[Any], Shares], Any]
    """u of the output, from u of each input and c."""
    by_weights: Callable[[Node, Sequence[bool], Any, Any, Shares], Sequence[Any]] | None = None
    """The gradient by each other input that needs one, from u of the first input, m * a and c."""


def _saved(node: Node) -> Any:
    return node.saved


def _first_alone(node: Node, depend: list[bool]) -> bool:
    return depend[0] and not any(depend[1:])


def _layer(product: Op, by_input: Op, by_weight: Op, features: tuple[int, ...], fused: bool) -> Rule:
    """A convolution or a dense layer. features: the axes of its output over which a bias is the same, without the examples.
    fused: it has a bias and an activation."""
    def sizes(node: Node) -> dict[str, Any]:
        return {"geometry": node.static["geometry"]} if "geometry" in node.static else {}

    def saved(node: Node) -> Any:
        return node.saved if fused else (*(node.saved or ()), None, None)

    def activated(node: Node, z: Any) -> Any:
        """m * z."""
        if node.static.get("activation", "identity") == "identity":
            return z
        return activation_grad(z, saved(node)[3], activation=node.static["activation"], slope=node.static["slope"])

    def fits(node: Node, depend: list[bool]) -> bool:
        name = node.static.get("activation", "identity")
        return _first_alone(node, depend) and name in ("identity", *PIECEWISE_LINEAR)

    def along(node: Node, inputs: Sequence[Any], c: Shares) -> Any:
        _, weight, bias, _ = saved(node)
        z = product(inputs[0], weight, **sizes(node))
        if bias is not None:
            z = add(z, reshape(mul(reshape(c, (-1, 1)), bias), (len(c), -1, *[1] * len(features))))
        return activated(node, z)

    def by_weights(node: Node, needs: Sequence[bool], u: Any, a: Any, c: Shares) -> Sequence[Any]:
        def by_bias() -> Any:
            each = sum_over(a, features) if features else a
            return sum_over(mul(each, reshape(c, (-1, 1))), 0)

        return None, needs[1] and by_weight(u, a, **sizes(node)), *[need and by_bias() for need in needs[2:]]

    return Rule(fits, activated, lambda node, a: (by_input(a, saved(node)[1], **sizes(node)),), along, by_weights)


def _linear_map(op: Op, fits: Callable[[Node], bool] = lambda node: True) -> Rule:
    """An op that is linear in its only input."""
    return Rule(lambda node, depend: fits(node), lambda node, a: a,
                lambda node, a: op.vjp_rule((True,), a, **node.static),  # type: ignore[misc]
                lambda node, inputs, c: op(inputs[0], **node.static))


def _keeps_examples(node: Node) -> bool:
    """Whether a sum is over other axes than the first."""
    axis, rank = node.static["axis"], len(node.static["shape"])
    return axis is not None and all(i % rank for i in axis)


def _scales(node: Node, depend: list[bool]) -> bool:
    """Whether a product scales its first input, by a factor that is not larger than it."""
    shapes = node.shapes
    if not _first_alone(node, depend) or shapes is None:
        return _first_alone(node, depend)
    of_x, of_factor = shapes
    return of_factor is None or (len(of_factor) <= len(of_x) and all(
        size in (1, whole) for whole, size in zip(of_x[::-1], of_factor[::-1], strict=False)))


def _by_factor(node: Node, needs: Sequence[bool], u: Any, a: Any, c: Shares) -> Sequence[Any]:
    return None, needs[1] and unbroadcast(mul(a, u), _saved(node)[1].shape)


RULES = {
    _conv2d: _layer(_conv2d, _conv2d_input_grad, _conv2d_weight_grad, (2, 3), False),
    _conv2d_fused: _layer(_conv2d, _conv2d_input_grad, _conv2d_weight_grad, (2, 3), True),
    _linear: _layer(_linear, _linear_input_grad, _linear_weight_grad, (), False),
    _dense: _layer(_linear, _linear_input_grad, _linear_weight_grad, (), True),
    _activation_keeping_output: Rule(
        lambda node, depend: node.static["activation"] in PIECEWISE_LINEAR,
        lambda node, a: activation_grad(a, *_saved(node), **node.static), lambda node, a: (a,),
        lambda node, inputs, c: activation_grad(inputs[0], *_saved(node), **node.static)),
    add: Rule(lambda node, depend: all(depend) and node.shapes is None, lambda node, a: a, lambda node, a: (a, a),
              lambda node, inputs, c: add(*inputs)),
    mul: Rule(_scales, lambda node, a: a, lambda node, a: (mul(a, _saved(node)[1]),),
              lambda node, inputs, c: mul(inputs[0], _saved(node)[1]), _by_factor),
    _reshape: _linear_map(_reshape), _means: _linear_map(_means), _sum: _linear_map(_sum, _keeps_examples),
}
"""The rules by op."""


class _Layers:
    """The layers between examples x (N, ...) and their outputs (N, ...), as they were recorded."""

    def __init__(self, outputs: Tensor, x: Tensor) -> None:
        self.outputs, self.x = outputs, x
        self.layers: list[tuple[Node, Rule]] = []  # in the order in which they ran
        self.weights: list[Node] = []  # their other inputs: weights, or what was computed from them
        self.masked: dict[Node, Array] = {}  # m * a of the layers with weights
        self.slopes: Array | None = None

    def find(self) -> bool:
        """Find the layers. Returns whether there is a rule for each of them."""
        assert self.outputs.node is not None and self.x.node is not None
        depending, others = {self.x.node}, []
        for node in reachable([self.outputs.node], self.x.node.order):
            depend = [parent in depending for parent in node.parents]
            if node is self.x.node or True not in depend:
                continue
            rule = RULES.get(node.op)  # type: ignore[arg-type]
            if rule is None or not rule.fits(node, depend):
                return False
            depending.add(node)
            self.layers.append((node, rule))
            others += [parent for parent in node.parents if parent is not None and parent not in depending]
        self.weights = list(dict.fromkeys(others))
        return bool(self.layers) and self.layers[-1][0] is self.outputs.node

    def go_back(self) -> bool:
        """Compute the slopes. Returns whether each layer keeps the examples apart, as its shapes show."""
        gradients: dict[Node | None, Any] = {self.outputs.node: self._ones()}  # (bare arrays: nothing is recorded)
        inside = {self.x.node, *(node for node, _ in self.layers)}
        for node, rule in reversed(self.layers):
            a = rule.masked(node, gradients.pop(node))
            if not a.ndim or a.shape[0] != self.x.shape[0]:
                return False
            if rule.by_weights is not None:
                self.masked[node] = a
            for parent, part in zip(node.parents, rule.by_inputs(node, a), strict=False):
                if parent in inside:
                    gradients[parent] = add(gradients[parent], part) if parent in gradients else part
        self.slopes = gradients[self.x.node]
        return True

    def by_weights(self, wanted: Sequence[Node], c: Any, v: Any) -> dict[Node, Any]:
        """The gradients by these weights, for the loss's derivatives c (N,) by the outputs and v (N, ...) by the slopes."""
        found: dict[Node, Any] = {}
        children = Counter(parent for node, _ in self.layers for parent in node.parents)
        u: dict[Node | None, Any] = {self.x.node: add(v, mul(self.x.array, _for_each(c, v)))}
        for node, rule in self.layers:
            check_fresh(node)
            inputs = [u.get(parent) for parent in node.parents]
            needs = [parent in wanted for parent in node.parents]
            if rule.by_weights is not None and True in needs:
                parts = rule.by_weights(node, needs, inputs[0], self.masked[node], c)
                for parent, part in zip(node.parents, parts, strict=True):
                    if parent in wanted and parent is not None:
                        found[parent] = add(found[parent], part) if parent in found else part
            if node is not self.outputs.node:
                u[node] = rule.along(node, inputs, c)
            for parent in node.parents:
                children[parent] -= 1
                if not children[parent]:
                    u.pop(parent, None)
        return found

    def in_graph(self, ends: Sequence[Node], c: Any, v: Any) -> dict[Node, Any]:
        """The gradients by x and the weights as Tensors, by the definition."""
        x, y = self.x.node, self.outputs.node
        assert x is not None and y is not None
        with override(recording=True):
            slopes = walk([(y, wrap(self._ones()))], [x], True, True, partial=True)[x]
            starts = [(y, c), *([(slopes.node, v)] if slopes.node else [])]
            return walk(starts, ends, True, True, partial=True)

    def _ones(self) -> Array:
        y = self.outputs.array
        return backend_of(y).xp.ones(y.shape, y.dtype)


def _for_each(c: Any, like: Any) -> Any:
    """The numbers c (N,) in a shape that is broadcast against examples (N, ...)."""
    return reshape(c, (-1, *[1] * (len(like.shape) - 1)))


@with_slopes.fused
def _(outputs: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    layers = _Layers(outputs, x)
    if CONTEXT.get().watcher is not None or not (layers.find() and layers.go_back()):
        return with_slopes.definition(outputs, x)
    n = outputs.size

    def gradients(needs: Sequence[bool], g: Any) -> list[Any]:
        c, v = cut(g, 0, (n,)), cut(g, n, x.shape)
        nodes = [x.node, *layers.weights]
        wanted = [node for node, need in zip(nodes, needs, strict=True) if need and node]
        if isinstance(g, Tensor):
            found = layers.in_graph(wanted, reshape(c, outputs.shape), v)
        else:
            found = layers.by_weights(wanted, c, v)
            if needs[0] and x.node and layers.slopes is not None:
                found[x.node] = mul(layers.slopes, _for_each(c, v))
        return [found.get(node) if node else None for node in nodes]

    # A node has one output. So the two are joined, and taken apart after it.
    both = wrap(pack([outputs.array, layers.slopes]))
    op = Op("with_slopes", with_slopes.definition)
    op.vjp(gradients)
    both.node = Node(op, (x.node, *layers.weights))
    return cut(both, 0, outputs.shape), cut(both, n, x.shape)
