"""The ONNX nodes of every op, by the op's name. A rule adds them to a Graph, and returns the name of the result."""
from __future__ import annotations

__all__ = ["RULES", "onnx_rule", "rule_of"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygan.backends import cpu
from tinygan.exporting.onnx_graph import Graph
from tinygan.exporting.tracing import Step, Value
from tinygan.graph import Op
from tinygan.ops.pooling import _shares

Rule = Callable[..., str]

RULES: dict[str, Rule] = {}
"""A rule is called as rule(graph, step, *inputs): the Graph, the Step with the op's arguments and shapes, and the names of
the op's inputs."""
_OWN: dict[Op, Rule] = {}  # the rules of ops that users defined


def onnx_rule(op: Op) -> Callable[[Rule], Rule]:
    """Decorator: the rule by which `saving.export_onnx` writes an op of your own. For example:

        @tg.saving.onnx_rule(cube)
        def _(graph, step, x):
            return graph.add("Mul", x, graph.add("Mul", x, x))

    graph.add(KIND, *inputs, **attributes) adds a node of ONNX and returns the name of its result, graph.constant(array) a
    constant. step.static holds the op's keyword arguments, step.inputs and step.out the arrays, with `shape` and `dtype`."""
    def keep(rule: Rule) -> Rule:
        _OWN[op] = rule
        return rule

    return keep


def rule_of(caller: str, op: Op) -> Rule:
    """The rule of an op. Raises ValueError, which names the op, if it has none."""
    rule = _OWN.get(op) or (None if op.user_defined else RULES.get(op.name))
    if rule is None:
        advice = " (@tinygan.saving.onnx_rule(op) gives your op one)" if op.user_defined else ""
        raise ValueError(f"{caller}: the op {op.name!r} has no counterpart in ONNX here{advice}")
    return rule


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return keep


# -- elementwise ---------------------------------------------------------------------------------------------------------

for _name, _kind in {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "exp": "Exp", "log": "Log",
                     "sqrt": "Sqrt", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "abs": "Abs",
                     "sin": "Sin", "cos": "Cos", "pow": "Pow", "maximum": "Max", "minimum": "Min",
                     "alias": "Identity"}.items():
    RULES[_name] = lambda g, step, *inputs, kind=_kind: g.add(kind, *inputs)


@_rule("log1p")
def _(g: Graph, step: Step, x: str) -> str:
    return g.add("Log", g.add("Add", x, g.constant(np.ones((), step.out.dtype))))


@_rule("astype", "cast")
def _(g: Graph, step: Step, x: str) -> str:
    return g.cast(x, step.out.dtype)


@_rule("clip")
def _(g: Graph, step: Step, x: str) -> str:
    low, high = (np.array(step.static[name], step.out.dtype) for name in ("low", "high"))
    return g.add("Clip", x, g.constant(low), g.constant(high))


@_rule("where")
def _(g: Graph, step: Step, a: str, b: str) -> str:
    return g.add("Where", g.of(step.static["condition"]), a, b)


@_rule("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
def _(g: Graph, step: Step, a: str, b: str) -> str:
    dtypes = [dtype for dtype in step.dtypes if dtype is not None]
    if len(set(dtypes)) > 1:  # such as a whole number and a float
        common = np.result_type(*dtypes)
        a, b = g.cast(a, common), g.cast(b, common)
    kinds = {"less_equal": "LessOrEqual", "greater_equal": "GreaterOrEqual"}
    if step.op.name == "not_equal":
        return g.add("Not", g.add("Equal", a, b))
    return g.add(kinds.get(step.op.name, step.op.name.capitalize()), a, b)


@_rule("isfinite")
def _(g: Graph, step: Step, x: str) -> str:
    return g.add("Not", g.add("Or", g.add("IsInf", x), g.add("IsNaN", x)))


@_rule("activation")
def _(g: Graph, step: Step, x: str) -> str:
    name, slope = step.static["activation"], step.static["slope"]

    def number(value: float) -> str:
        return g.constant(np.array(value, step.out.dtype))

    if name in ("relu", "tanh", "sigmoid", "softplus"):
        return g.add(name.capitalize(), x)
    if name in ("leaky_relu", "elu"):
        return g.add("LeakyRelu" if name == "leaky_relu" else "Elu", x, alpha=slope)
    if name == "silu":
        return g.add("Mul", x, g.add("Sigmoid", x))
    if name == "gelu":
        inner = g.add("Erf", g.add("Mul", x, number(math.sqrt(0.5))))
    elif name == "gelu_tanh":
        cube = g.add("Mul", g.add("Mul", x, g.add("Mul", x, x)), number(0.044715))
        inner = g.add("Tanh", g.add("Mul", g.add("Add", x, cube), number(math.sqrt(2 / math.pi))))
    else:
        raise ValueError(f"{g.caller}: the activation {name!r} has no counterpart in ONNX here")
    return g.add("Mul", g.add("Mul", x, number(0.5)), g.add("Add", inner, number(1.0)))


# -- products and convolutions -------------------------------------------------------------------------------------------

RULES["linear"] = lambda g, step, x, weight: g.add("Gemm", x, weight, transB=1)
RULES["linear_input_grad"] = RULES["matmul"] = lambda g, step, a, b: g.add("MatMul", a, b)


def _convolution(step: Step, ends: Sequence[int] | None = None) -> dict[str, Any]:
    """A convolution's attributes. ends: the padding at the end, if it is not that at the beginning."""
    sizes = step.static["geometry"]
    return {"kernel_shape": sizes.kernel, "strides": sizes.stride, "pads": (*sizes.padding, *(ends or sizes.padding)),
            "dilations": sizes.dilation, "group": sizes.groups}


@_rule("conv2d")
def _(g: Graph, step: Step, x: str, weight: str) -> str:
    return g.add("Conv", x, weight, **_convolution(step))


@_rule("conv2d_input_grad")
def _(g: Graph, step: Step, y: str, weight: str) -> str:
    """What tinygan and PyTorch call padding is cut off here. output_padding is less of it at the end, or zeros there.
    (ONNX's own output_padding has to be less than the stride.)"""
    s = step.static["geometry"]
    full = [(s.output[i] - 1) * s.stride[i] + s.dilation[i] * (s.kernel[i] - 1) + 1 for i in (0, 1)]
    ends = [full[i] - s.padding[i] - s.input[i] for i in (0, 1)]
    x = g.add("ConvTranspose", y, weight, **_convolution(step, [max(end, 0) for end in ends]))
    return x if min(ends) >= 0 else g.add("Pad", x, g.integers(*[0] * 6, *[max(-end, 0) for end in ends]))


# -- shapes and places ---------------------------------------------------------------------------------------------------


def _reshaped(g: Graph, x: str, shape: Sequence[Any]) -> str:
    return g.add("Reshape", x, g.sizes(shape, one_open=True))


RULES["reshape"] = lambda g, step, x: _reshaped(g, x, step.out.shape)
RULES["transpose"] = lambda g, step, x: g.add("Transpose", x, perm=step.static["axes"])
RULES["concatenate"] = lambda g, step, *parts: g.add("Concat", *parts, axis=step.static["axis"])


@_rule("broadcast_to")
def _(g: Graph, step: Step, x: str) -> str:
    given = step.inputs[0].shape
    new = len(step.out.shape) - len(given)
    return g.add("Expand", x, g.sizes([1 if i >= new and given[i - new] == n else n for i, n in enumerate(step.out.shape)]))


@_rule("sum_to")
def _(g: Graph, step: Step, x: str) -> str:
    given, out = step.inputs[0].shape, step.out.shape
    new = len(given) - len(out)
    axes = [i for i, n in enumerate(given) if i < new or n != out[i - new]]
    return _reshaped(g, g.add("ReduceSum", x, g.integers(*axes), keepdims=0) if axes else x, out)


@_rule("triangle")
def _(g: Graph, step: Step, x: str) -> str:
    return g.add("Trilu", x, g.constant(np.array(step.static["diagonal"], np.int64)), upper=int(not step.static["lower"]))


@_rule("pad")
def _(g: Graph, step: Step, x: str) -> str:
    before, after = zip(*step.static["widths"], strict=True)
    return g.add("Pad", x, g.integers(*before, *after), g.constant(np.array(step.static["value"], step.out.dtype)))


_FAR = 2**62  # beyond every end


@_rule("getitem")
def _(g: Graph, step: Step, x: str) -> str:
    """First an array of integers picks, then slices cut; then the axes of integers go, and those of None come."""
    cuts: list[tuple[int, int, int, int]] = []  # start, end, axis, step
    gone: list[int] = []
    new: list[int] = []
    axis = 0
    for part in _parts(g, step):
        if part is None:
            new.append(axis - len(gone) + len(new))
            continue
        if isinstance(part, Value):
            x = g.add("Gather", x, g.of(part), axis=axis)
            axis += part.array.ndim - 1
        elif isinstance(part, int | np.integer):
            cuts.append((int(part), int(part) + 1 or _FAR, axis, 1))
            gone.append(axis)
        elif part != slice(None):
            stride = 1 if part.step is None else part.step
            start, end = (0, _FAR) if stride > 0 else (_FAR, -_FAR)
            cuts.append((start if part.start is None else part.start, end if part.stop is None else part.stop, axis, stride))
        axis += 1
    if cuts:
        x = g.add("Slice", x, *[g.integers(*column) for column in zip(*cuts, strict=True)])
    if gone:
        x = g.add("Squeeze", x, g.integers(*gone))
    return g.add("Unsqueeze", x, g.integers(*new)) if new else x


def _parts(g: Graph, step: Step) -> list[Any]:
    """The parts of an index, with slices in place of `...`."""
    index = step.static["index"]
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [part for part in parts if isinstance(part, Value)]
    if len(arrays) > 1 or any(a.dtype.kind not in "iu" for a in arrays) or (
            arrays and any(isinstance(part, int) for part in parts)):
        raise ValueError(f"{g.caller}: getitem: an index may hold one array of integers, besides slices; others, such as "
                         "masks, have no counterpart in ONNX here")
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if dots:
        named = len([part for part in parts if part is not None]) - 1
        parts[dots[0]:dots[0] + 1] = [slice(None)] * (len(step.inputs[0].shape) - named)
    return parts


@_rule("gather")
def _(g: Graph, step: Step, x: str) -> str:
    return g.add("GatherElements", x, g.of(step.static["index"]), axis=step.static["axis"])


# -- reductions ----------------------------------------------------------------------------------------------------------


def _axes(g: Graph, axis: Any) -> list[str]:
    return [] if axis is None else [g.integers(*axis)]


def _reduced(g: Graph, kind: str, x: str, axis: Any, keepdims: bool) -> str:
    return x if axis == () else g.add(kind, x, *_axes(g, axis), keepdims=int(keepdims))


for _name, _kind in {"mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "norm": "ReduceL2",
                     "logsumexp": "ReduceLogSumExp"}.items():
    RULES[_name] = lambda g, step, x, kind=_kind: _reduced(g, kind, x, step.static["axis"], step.static["keepdims"])


@_rule("sum", "prod", "mean_of_integers")
def _(g: Graph, step: Step, x: str) -> str:
    kind = {"sum": "ReduceSum", "prod": "ReduceProd", "mean_of_integers": "ReduceMean"}[step.op.name]
    x = g.cast(x, step.out.dtype) if step.dtypes[0] != step.out.dtype else x  # (whole numbers, booleans)
    return _reduced(g, kind, x, step.static["axis"], step.static["keepdims"])


@_rule("any", "all")
def _(g: Graph, step: Step, x: str) -> str:
    kind = "ReduceMax" if step.op.name == "any" else "ReduceMin"
    truth = g.cast(g.cast(x, bool), np.int32)
    return g.cast(_reduced(g, kind, truth, step.static["axis"], step.static["keepdims"]), bool)


@_rule("argmax", "argmin")
def _(g: Graph, step: Step, x: str) -> str:
    axis = step.static["axis"]
    kind = "ArgMax" if step.op.name == "argmax" else "ArgMin"
    if axis is None:
        return g.add("Squeeze", g.add(kind, g.add("Reshape", x, g.integers(-1)), axis=0))
    return g.add(kind, x, axis=axis, keepdims=0)


@_rule("centred")
def _(g: Graph, step: Step, x: str) -> str:
    for _ in range(2):
        x = g.add("Sub", x, g.add("ReduceMean", x, *_axes(g, step.static["axis"])))
    return x


@_rule("largest_magnitude")
def _(g: Graph, step: Step, x: str) -> str:
    return _reduced(g, "ReduceMax", g.add("Abs", x), step.static.get("axis"), step.static.get("keepdims", False))


@_rule("softmax", "log_softmax")
def _(g: Graph, step: Step, x: str) -> str:
    kind = "Softmax" if step.op.name == "softmax" else "LogSoftmax"
    return g.add(kind, x, axis=step.static["axis"][0])


@_rule("cumsum")
def _(g: Graph, step: Step, x: str) -> str:
    x = g.cast(x, step.out.dtype) if step.dtypes[0] != step.out.dtype else x
    return g.add("CumSum", x, g.constant(np.array(step.static["axis"], np.int64)), reverse=int(step.static["backward"]))


# -- layers --------------------------------------------------------------------------------------------------------------


@_rule("batch_norm_inference")
def _(g: Graph, step: Step, x: str, mean: str, variance: str, weight: str, bias: str) -> str:
    return g.add("BatchNormalization", x, weight, bias, mean, variance, epsilon=step.static["eps"])


@_rule("similarity")
def _(g: Graph, step: Step, m: str) -> str:
    """exp(-distance) of all pairs of examples, summed; an example's nearness to itself, 1, is subtracted."""
    apart = g.add("Abs", g.add("Sub", g.add("Unsqueeze", m, g.integers(1)), g.add("Unsqueeze", m, g.integers(0))))
    near = g.add("Exp", g.add("Neg", g.add("ReduceSum", apart, g.integers(3), keepdims=0)))
    return g.add("Sub", g.add("ReduceSum", near, g.integers(1), keepdims=0), g.constant(np.ones((), step.out.dtype)))


@_rule("resample", "moved", "resample_grad")
def _(g: Graph, step: Step, x: str) -> str:
    """A linear map along an axis: a product with its matrix, which is what the op makes of the unit vectors."""
    axis, size = step.static["axis"], step.inputs[0].shape[step.static["axis"]]
    unit = np.eye(size, dtype=step.out.dtype)
    columns = step.op.forward(cpu, unit.reshape((size, 1, size, 1) if axis == 2 else (size, 1, 1, size)), **step.static)
    matrix = g.constant(columns.reshape(size, -1) if axis == 3 else columns.reshape(size, -1).T)
    return g.add("MatMul", x, matrix) if axis == 3 else g.add("MatMul", matrix, x)


@_rule("means")
def _(g: Graph, step: Step, x: str) -> str:
    """The frame of zeros is added first, so that AveragePool has no edges; then means over fewer pixels are corrected."""
    w, area = step.static["windows"], math.prod(step.static["windows"].kernel)
    after = [w.frame[i] - w.input[i] - w.padding[i] for i in (0, 1)]
    if any((*w.padding, *after)):
        x = g.add("Pad", x, g.integers(0, 0, *w.padding, 0, 0, *after))
    x = g.add("AveragePool", x, kernel_shape=w.kernel, strides=w.stride)
    share = area * _shares(cpu, step.out.dtype, w, step.static["count_include_pad"])[..., 0]
    return x if (share == 1).all() else g.add("Mul", x, g.constant(share))


@_rule("largest")
def _(g: Graph, step: Step, x: str) -> str:
    """The index of each window's largest pixel. MaxPool counts the pixels in the order (N, C, H, W), this op in the order
    (N, H, W, C)."""
    w, channels = step.static["windows"], step.inputs[0].shape[1]
    reach = [(w.output[i] - 1) * w.stride[i] + w.dilation[i] * (w.kernel[i] - 1) + 1 for i in (0, 1)]
    ends = [max(0, reach[i] - w.input[i] - w.padding[i]) for i in (0, 1)]
    _, index = g.add_several("MaxPool", 2, x, kernel_shape=w.kernel, strides=w.stride, pads=(*w.padding, *ends),
                             dilations=w.dilation)
    pixels = g.integers(math.prod(w.input))
    plane = g.add("Div", index, pixels)  # n * C + c
    pixel, channel = g.add("Mod", index, pixels), g.add("Mod", plane, g.integers(channels))
    image = g.add("Mul", g.add("Div", plane, g.integers(channels)), pixels)
    place = g.add("Add", g.add("Mul", g.add("Add", image, pixel), g.integers(channels)), channel)
    return g.add("Transpose", place, perm=(0, 2, 3, 1))
