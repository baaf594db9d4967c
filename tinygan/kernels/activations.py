"""The activations. Each is one record of formulas, from which NumPy, Numba and CUDA get their code.

    kernels/cpu/activations/in_numpy.py          functions of whole arrays
    kernels/cpu/activations/functions.py         functions of one number, and loops over them, compiled by Numba
    kernels/cuda/runtime/activation_source.py    functions of one number in C++
    ops/activations.py                           the second derivative in ops, which have derivatives themselves

`reference.py` and the tests do not read the records. They state the formulas independently, so that they can find an error.
"""
from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from functools import cache

from tinygan.kernels.expressions import DEFINITIONS, Writer, body, parsed, python_function


@dataclass(frozen=True)
class Activation:
    """An activation f of x with a parameter `slope`. The formulas are written in the language of `expressions`."""

    name: str
    value: str
    """f(x)."""
    slope: str
    """f'(x)."""
    curvature: str
    """f''(x)."""
    slope_from_result: str = ""
    """f'(x), computed from y = f(x). The perceptron keeps only results, so it needs this formula. (The absolute error is as
    large as that of y, so a small slope is lost.) A fused record that is piecewise linear may leave it empty. Then its
    `slope` is computed from y instead of x: such a slope depends on the sign of x alone, and y has the same sign."""
    curvature_from_result: str = ""
    """f''(x), computed from y. The perceptron needs it, too."""
    fused: bool = False
    """Whether products and convolutions apply f themselves. They keep only y, and backward computes the slope from y, so
    `slope_from_result` must be exact enough for training."""

    def __post_init__(self) -> None:
        for which in ("value", "slope", "curvature", *["slope_from_result"] * self.fused):
            self.tree(which)

    def tree(self, which: str) -> ast.expr:
        """The parsed formula of that name. Raises ValueError if the record has none."""
        text = getattr(self, which)
        if which.endswith("_from_result"):
            if text:
                return parsed(text, ("y", "slope"))
            if self.fused and self.is_piecewise_linear:
                return self.tree(which.removesuffix("_from_result"))
        if not text:
            raise ValueError(f"activation {self.name!r} has no {which}")
        return parsed(text, ("x", "slope"))

    def argument(self, which: str) -> str:
        """The name of the formula's argument: "x" for the input, "y" for the result."""
        return "y" if which.endswith("_from_result") and getattr(self, which) else "x"

    @property
    def kept_slope(self) -> str:
        """The name of the formula that backward uses. Backward keeps y of a fused activation, and x of any other."""
        return "slope_from_result" if self.fused else "slope"

    @property
    def is_piecewise_linear(self) -> bool:
        return self.curvature == "0"

    @property
    def is_known_from_result(self) -> bool:
        """Whether slope and curvature can be computed from y."""
        return bool(self.slope_from_result and self.curvature_from_result) or (self.fused and self.is_piecewise_linear)


_V = "(1.5957691216057308 * limited(x) * (1 + 0.044715 * limited(x) * limited(x)))"
_V1 = "(1.5957691216057308 * (1 + 0.134145 * limited(x) * limited(x)))"
_V2 = "(0.4281288976351985 * limited(x))"
"""v = 2 sqrt(2 / pi) (x + 0.044715 x^3), v' and v'': sigmoid(v) is near the normal distribution function (Hendrycks, Gimpel
2016, section 2)."""

RECORDS = (
    Activation("identity", value="x", slope="1", curvature="0", fused=True),
    Activation("relu", value="max(x, 0)", slope="1 if x > 0 else 0", curvature="0", fused=True),
    Activation("leaky_relu", value="x * (1 if x > 0 else slope)", slope="1 if x > 0 else slope", curvature="0", fused=True),
    Activation("tanh", value="tanh(x)", slope="4 * sigmoid_slope(2 * x)",
               curvature="-2 * tanh(x) * (4 * sigmoid_slope(2 * x))",
               slope_from_result="1 - y * y", curvature_from_result="-2 * y * (1 - y * y)"),
    Activation("sigmoid", value="sigmoid(x)", slope="sigmoid_slope(x)", curvature="-tanh(x / 2) * sigmoid_slope(x)",
               slope_from_result="y * (1 - y)", curvature_from_result="y * (1 - y) * (1 - 2 * y)"),
    Activation("softplus", value="max(x, 0) + log1p(decay(abs(x)))", slope="sigmoid(x)", curvature="sigmoid_slope(x)",
               slope_from_result="-expm1(-y)", curvature_from_result="-expm1(-y) * decay(y)"),
    Activation("elu", value="x if x > 0 else slope * expm1(-abs(x))", slope="1 if x > 0 else slope * decay(abs(x))",
               curvature="0 if x > 0 else slope * decay(abs(x))",
               slope_from_result="1 if y > 0 else y + slope", curvature_from_result="0 if y > 0 else y + slope"),
    Activation("silu", value="max(x, -800) * sigmoid(x)", slope="sigmoid(x) + limited(x) * sigmoid_slope(x)",
               curvature="sigmoid_slope(x) * (2 - limited(x) * tanh(x / 2))"),
    Activation("gelu", value="max(x, -800) * normal_cdf(x)", slope="normal_cdf(x) + limited(x) * normal_density(x)",
               curvature="(2 - limited(x) * limited(x)) * normal_density(x)"),
    Activation("gelu_tanh", value=f"max(x, -800) * sigmoid({_V})",
               slope=f"sigmoid({_V}) + limited(x) * {_V1} * sigmoid_slope({_V})",
               curvature=f"sigmoid_slope({_V}) * (2 * {_V1} + limited(x) * ({_V2} - {_V1} * {_V1} * tanh({_V} / 2)))"),
)
"""The place of a record in this list is the activation's code, by which kernels know it."""

CODES = {record.name: code for code, record in enumerate(RECORDS)}
BY_NAME = {record.name: record for record in RECORDS}
IDENTITY = CODES["identity"]


def python_source(record: Activation, which: str) -> str:
    """The source of a Python function (argument, slope) -> number. In it, `real` is the type of the numbers."""
    return python_function(which, f"{record.argument(which)}, slope", body(record.tree(which), Writer()))


@cache
def result_tells_slope(record: Activation, slope: float) -> bool:
    """Whether the slope can be computed from the result. It cannot if two places have the same value but different slopes.
    Leaky ReLU with `slope` 0 would be such a case if its slope at 0 were 1: its value is 0 both there and below."""
    if not record.fused or record.slope_from_result:
        return bool(record.slope_from_result)
    functions: dict[str, object] = {"real": float, "max": lambda a, b: b if a <= b else a, "decay": lambda t: math.exp(-t),
                                    "expm1": math.expm1, "log1p": math.log1p, "tanh": math.tanh}
    for name, text in DEFINITIONS.items():
        exec(python_function(name, "x", body(parsed(text, ("x",)), Writer())), functions)
    for which in ("value", "slope"):
        exec(python_source(record, which), functions)
    value, slope_at = functions["value"], functions["slope"]
    assert callable(value) and callable(slope_at)
    return all(slope_at(value(x, slope), slope) == slope_at(x, slope) for x in (-1.0, -0.0, 0.0, 1.0))


FUSED = {record.name: CODES[record.name] for record in RECORDS if record.fused and result_tells_slope(record, 0.0)}
"""The codes, by name, of the activations that products and convolutions apply themselves."""
PIECEWISE_LINEAR = {name: code for name, code in FUSED.items() if BY_NAME[name].is_piecewise_linear}
"""The codes, by name, of the activations that batch normalisation applies itself. Its second gradients leave out f'', which
is 0 for these."""
KNOWN_FROM_RESULT = {record.name: CODES[record.name] for record in RECORDS if record.is_known_from_result}
"""The codes, by name, of the activations that a perceptron applies itself. It keeps only results."""
