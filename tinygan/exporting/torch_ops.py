"""PyTorch's source text of every op that the `forward` of a module may hold, by the op's name."""
from __future__ import annotations

__all__ = ["expression"]

from collections.abc import Callable
from typing import Any

from tinygan.exporting.tracing import Step, Value

Write = Callable[[Any], str]
"""Writes a value of the computation: the name of a variable, a number, a shape (a tuple of sizes)."""


def expression(caller: str, step: Step, write: Write) -> str:
    """The expression that computes the op. Raises ValueError, which names the op, if there is none."""
    name = step.op.name
    inputs = [write(x) for x in step.inputs]
    if not step.op.user_defined:
        if name in _TEXTS:
            return _TEXTS[name].format(*inputs)
        if name in _RULES:
            return _RULES[name](step, write, *inputs)
    advice = " (for ONNX, @tinygan.saving.onnx_rule(op) gives your op one)" if step.op.user_defined else ""
    raise ValueError(f"{caller}: the op {name!r} has no counterpart in PyTorch here{advice}")


_TEXTS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "pow": "{0} ** {1}", "neg": "-{0}",
    "equal": "{0} == {1}", "not_equal": "{0} != {1}", "less": "{0} < {1}", "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}", "greater_equal": "{0} >= {1}", "matmul": "{0} @ {1}",
    "linear": "F.linear({0}, {1})", "linear_input_grad": "{0} @ {1}", "exp": "{0}.exp()",
    "log": "{0}.log()", "log1p": "{0}.log1p()", "sqrt": "{0}.sqrt()", "sign": "{0}.sign()", "floor": "{0}.floor()",
    "ceil": "{0}.ceil()", "round": "{0}.round()", "abs": "{0}.abs()", "sin": "{0}.sin()", "cos": "{0}.cos()",
    "isfinite": "{0}.isfinite()", "alias": "{0}",
    "similarity": "torch.exp(-({0}[:, None] - {0}[None]).abs().sum(-1)).sum(1) - 1",
}
_RULES: dict[str, Callable[..., str]] = {}


def _rule(*names: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    def keep(rule: Callable[..., str]) -> Callable[..., str]:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return keep


@_rule("activation")
def _(step: Step, write: Write, x: str) -> str:
    name, slope = step.static["activation"], step.static["slope"]
    if name == "gelu_tanh":
        return f"F.gelu({x}, approximate='tanh')"
    return f"F.{name}({x}, {slope!r})" if name in ("leaky_relu", "elu") else f"F.{name}({x})"


@_rule("maximum", "minimum")
def _(step: Step, write: Write, a: str, b: str) -> str:
    if isinstance(step.inputs[1], Value) and isinstance(step.inputs[0], Value):
        return f"torch.{step.op.name}({a}, {b})"
    x, number = (a, b) if isinstance(step.inputs[0], Value) else (b, a)
    return f"{x}.clamp({'min' if step.op.name == 'maximum' else 'max'}={number})"


@_rule("clip")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.clamp({write(step.static['low'])}, {write(step.static['high'])})"


@_rule("where")
def _(step: Step, write: Write, a: str, b: str) -> str:
    return f"torch.where({write(step.static['condition'])}, {a}, {b})"


@_rule("astype", "cast")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.to(torch.{step.out.dtype.name})"


@_rule("reshape")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.reshape({write(step.out.shape)})"


@_rule("broadcast_to")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.expand({write(step.out.shape)})"


@_rule("transpose")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.permute{step.static['axes']!r}"


@_rule("concatenate")
def _(step: Step, write: Write, *parts: str) -> str:
    return f"torch.cat([{', '.join(parts)}], {step.static['axis']})"


@_rule("pad")
def _(step: Step, write: Write, x: str) -> str:
    widths = [width for pair in reversed(step.static["widths"]) for width in pair]
    return f"F.pad({x}, {widths}, value={write(step.static['value'])})"


@_rule("getitem")
def _(step: Step, write: Write, x: str) -> str:
    def one(part: Any) -> str:
        if isinstance(part, slice):
            if part.step is not None and part.step < 0:
                raise ValueError("torch_code: getitem: PyTorch has no slices with negative steps")
            ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
            return ":".join(ends if part.step is None else [*ends, str(part.step)])
        return "..." if part is Ellipsis else write(part)

    index = step.static["index"]
    return f"{x}[{', '.join(map(one, index)) if isinstance(index, tuple) else one(index)}]"


@_rule("gather")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.gather({step.static['axis']}, {write(step.static['index'])})"


@_rule("sum", "mean", "max", "min", "norm", "logsumexp", "largest_magnitude")
def _(step: Step, write: Write, x: str) -> str:
    method = {"max": "amax", "min": "amin", "largest_magnitude": "abs().amax"}.get(step.op.name, step.op.name)
    axes = step.static.get("axis")
    axes = tuple(range(len(step.inputs[0].shape))) if axes is None else axes
    if not axes:
        return x
    keep = ", keepdim=True" if step.static.get("keepdims") else ""
    return f"{x}.{method}(dim={axes!r}{keep})"


@_rule("softmax", "log_softmax")
def _(step: Step, write: Write, x: str) -> str:
    return f"{x}.{step.op.name}({step.static['axis'][0]})"


@_rule("centred")
def _(step: Step, write: Write, x: str) -> str:
    axes = tuple(range(len(step.inputs[0].shape))) if step.static["axis"] is None else step.static["axis"]
    return f"{x} - {x}.mean(dim={axes!r}, keepdim=True)"


@_rule("conv2d", "conv2d_input_grad")
def _(step: Step, write: Write, x: str, weight: str) -> str:
    s = step.static["geometry"]
    options = f"stride={s.stride}, padding={s.padding}, dilation={s.dilation}, groups={s.groups}"
    if step.op.name == "conv2d":
        return f"F.conv2d({x}, {weight}, {options})"
    extra = tuple([s.input[i] - ((s.output[i] - 1) * s.stride[i] - 2 * s.padding[i] + s.dilation[i] * (s.kernel[i] - 1) + 1)
                   for i in (0, 1)])
    return f"F.conv_transpose2d({x}, {weight}, {options}, output_padding={extra})"


@_rule("batch_norm_inference")
def _(step: Step, write: Write, x: str, mean: str, variance: str, weight: str, bias: str) -> str:
    return f"F.batch_norm({x}, {mean}, {variance}, {weight}, {bias}, eps={step.static['eps']})"
