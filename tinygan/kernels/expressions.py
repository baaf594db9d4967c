"""A small language for formulas of one number, and its translation to Python, C++ and calls of functions.

An expression is written in Python, with numbers, names, + - * /, comparisons, `a if condition else b`, and calls of
FUNCTIONS. For example, `x if x > 0 else slope * x` becomes

    Writer              x if x > real(0) else slope * x                  for Numba, one number at a time
    CWriter             x > real(0) ? x : slope * x                      for CUDA
    FunctionalWriter    choose(greater(x, 0), x, multiply(slope, x))     for NumPy and for ops, whole arrays at a time

A function that must be computed with care, such as the exponential, has a name in the language. Each target implements it
under this name. NumPy computes both branches of a choice, so the branch that is not taken must not overflow either. That is
why a formula says expm1(-abs(x)) where it needs expm1(x) for negative x.
"""
from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, reduce
from typing import Any, NamedTuple

FUNCTIONS = {
    "abs": "the absolute value",
    "max": "the larger of two numbers; NaN if one of them is NaN",
    "decay": "exp(-t) for t >= 0, which cannot overflow",
    "expm1": "exp(t) - 1, exact for small t",
    "log1p": "log(1 + t) for 0 <= t <= 1, exact for small t",
    "tanh": "the hyperbolic tangent",
    "sigmoid": "1 / (1 + exp(-x)), without overflow, exact for very negative x",
    "sigmoid_slope": "the derivative of sigmoid, exact where p * (1 - p) would lose a small 1 - p",
    "limited": "x between -800 and 800. Beyond, exp(-abs(x)) is 0 in float64, too, so inf times it becomes 0, not NaN",
    "normal_density": "the density of the standard normal distribution, exp(-x * x / 2) / sqrt(2 * pi)",
    "normal_cdf": "its distribution function, exact for very negative x",
    "normal_tail": "normal_cdf(-x) for x >= 0",
    "mills": "a polynomial: normal_tail(t) / normal_density(t) is s * mills(2 * s - 1), where s = 4 / (4 + t)",
}
POLYNOMIALS = {
    "mills": (
        -1.0582092821670057e-09, 8.003884308843899e-10, 1.006874161166981e-08, -1.2263433773102639e-08,
        -4.9370301981818625e-08, 1.0166359900617224e-07, 1.6589726208738796e-07, -6.435668269541386e-07,
        -3.916325358693878e-07, 3.711623252605653e-06, 4.4781049053492345e-07, -2.2024240150529743e-05,
        -1.1954586693590822e-06, 0.00014481740162684159, 8.356109123478413e-05, -0.0010219639316197489,
        -0.002180573812050009, 0.004725112716371126, 0.03784794057776185, 0.11688524074954684,
        0.24260238871690443, 0.38094272770499626, 0.47330476582712133),
}
"""The coefficients of polynomials, the highest power first. `mills` was fitted at 66 Chebyshev nodes, in 60 digits. Its
relative error is 7e-16 for every t >= 0."""
DEFINITIONS = {
    "sigmoid": "(decay(abs(x)) if x < 0 else 1) / (1 + decay(abs(x)))",
    "sigmoid_slope": "decay(abs(x)) / ((1 + decay(abs(x))) * (1 + decay(abs(x))))",
    "limited": "-max(-max(x, -800), -800)",
    "normal_density": "0.3989422804014327 * decay(limited(x) * limited(x) / 2)",
    **{name: reduce("({} * x + {})".format, map(str, coefficients)) for name, coefficients in POLYNOMIALS.items()},
    "normal_tail": "normal_density(x) * (4 / (4 + x)) * mills(8 / (4 + x) - 1)",
    "normal_cdf": "1 - normal_tail(abs(x)) if x > 0 else normal_tail(abs(x))",
}
"""Functions that are defined in the language itself, as expressions of x. Each uses only those before it."""

_SYMBOLS: dict[type[ast.AST], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Gt: ">", ast.Lt: "<",
                                      ast.GtE: ">=", ast.LtE: "<="}
_WORDS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", ">": "greater", "<": "less", ">=": "greater_equal",
          "<=": "less_equal"}


@cache
def parsed(text: str, names: tuple[str, ...]) -> ast.expr:
    """The tree of an expression whose variables are `names`. Raises ValueError for an unknown name."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"expression {text!r}: expected one Python expression") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            known: Iterable[str] = FUNCTIONS if id(node) in called else names
            if node.id not in known:
                raise ValueError(f"expression {text!r}: unknown name {node.id!r}, expected one of {', '.join(known)}")
    return tree


class _Expander(ast.NodeTransformer):
    """Replaces calls of the functions in DEFINITIONS by their definitions. Polynomials stay."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in DEFINITIONS or name in POLYNOMIALS:
            return node
        found: ast.AST = self.visit(_Substitute(node.args[0]).visit(ast.parse(DEFINITIONS[name], mode="eval").body))
        return found


class _Substitute(ast.NodeTransformer):
    """Replaces x by an expression."""

    def __init__(self, argument: ast.expr) -> None:
        self._argument = argument

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._argument if node.id == "x" else node


def expanded(tree: ast.expr) -> ast.expr:
    """The expression with the functions in DEFINITIONS, but not the polynomials, replaced by their definitions."""
    found: ast.expr = _Expander().visit(copy.deepcopy(tree))
    return found


class Writer:
    """Writes trees as Python. In the text, `real` is the type of the numbers."""

    def number(self, value: float) -> str:
        return f"real({value})"

    def choice(self, condition: str, a: str, b: str) -> str:
        return f"({a} if {condition} else {b})"

    def negative(self, a: str) -> str:
        return f"(-{a})"

    def operation(self, symbol: str, a: str, b: str) -> str:
        return f"({a} {symbol} {b})"

    def call(self, name: str, arguments: list[str]) -> str:
        return f"{name}({', '.join(arguments)})"

    def write(self, node: ast.expr, known: dict[str, str] | None = None) -> str:
        """The text of a tree. known: the text of some sub-trees, by their `ast.dump`. Raises ValueError for what is not in
        the language."""
        if known and (found := known.get(ast.dump(node))):
            return found

        def text(part: ast.expr) -> str:
            return self.write(part, known)

        match node:
            case ast.Constant(value=int() | float() as value):
                return self.number(value)
            case ast.Name(id=name):
                return name
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return self.negative(text(a))
            case ast.BinOp(left=a, op=operator, right=b) | ast.Compare(left=a, ops=[operator], comparators=[b]) \
                    if type(operator) in _SYMBOLS:
                return self.operation(_SYMBOLS[type(operator)], text(a), text(b))
            case ast.IfExp(test=condition, body=a, orelse=b):
                return self.choice(text(condition), text(a), text(b))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(name, [text(argument) for argument in arguments])
        raise ValueError(f"{ast.unparse(node)!r} is not in the language of expressions")


class CWriter(Writer):
    """Writes trees as C++."""

    def choice(self, condition: str, a: str, b: str) -> str:
        return f"({condition} ? {a} : {b})"


class FunctionalWriter(Writer):
    """Writes trees as calls of functions on arrays. Numbers, and what is computed from numbers and `slope` alone, stay
    Python numbers, so that results have the arrays' dtype. A choice between two of them would lose this dtype, so there
    `kind`, the arrays' type, converts them."""

    def write(self, node: ast.expr, known: dict[str, str] | None = None) -> str:
        if is_number(node):
            called = any(isinstance(part, ast.Call) for part in ast.walk(node))
            return f"float({super().write(node)})" if called else ast.unparse(node)
        if isinstance(node, ast.IfExp):
            a, b = (f"kind({self.write(part)})" if is_number(part) else self.write(part, known)
                    for part in (node.body, node.orelse))
            return self.choice(self.write(node.test, known), a, b)
        return super().write(node, known)

    def number(self, value: float) -> str:
        return repr(value)

    def choice(self, condition: str, a: str, b: str) -> str:
        return f"choose({condition}, {a}, {b})"

    def negative(self, a: str) -> str:
        return f"negative({a})"

    def operation(self, symbol: str, a: str, b: str) -> str:
        return f"{_WORDS[symbol]}({a}, {b})"


def is_number(node: ast.expr) -> bool:
    """Whether an expression is one number for all elements: it has no argument but `slope`."""
    called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in called} <= {"slope"}


class Body(NamedTuple):
    """The body of a function: (name, text) of its local variables, in order, and the text of its result."""

    variables: tuple[tuple[str, str], ...]
    result: str


def body(tree: ast.expr, writer: Writer) -> Body:
    """The body that computes an expression. A part that occurs several times is computed once."""
    parts = [node for node in ast.walk(tree) if isinstance(node, ast.Call | ast.BinOp) and not is_number(node)]
    counts = Counter(map(ast.dump, parts))
    known: dict[str, str] = {}
    variables: list[tuple[str, str]] = []
    for node in reversed(parts):  # inner parts first
        key = ast.dump(node)
        if counts[key] > 1 and key not in known:
            text = writer.write(node, known)
            known[key] = f"t{len(variables)}"
            variables.append((known[key], text))
    return Body(tuple(variables), writer.write(tree, known))


def python_function(name: str, parameters: str, body: Body) -> str:
    """The source of a function in Python."""
    lines = [f"    {variable} = {text}\n" for variable, text in body.variables]
    return f"def {name}({parameters}):\n{''.join(lines)}    return {body.result}\n"


def array_function(name: str, parameters: str, body: Body) -> str:
    """`python_function` for what FunctionalWriter writes. `kind` is what the function `kind_of` returns for the first
    parameter."""
    text = python_function(name, parameters, body)
    return text.replace("\n", f"\n    kind = kind_of({parameters.split(',')[0]})\n", 1) if "kind(" in text else text


def in_calls(tree: ast.expr, parameters: tuple[str, ...], functions: dict[str, Any],
             writer: FunctionalWriter | None = None) -> Callable[..., Any]:
    """A function that computes an expression by calling `functions`: add, subtract, multiply, divide, negative, greater,
    ..., choose, kind_of, and the functions of the language."""
    namespace = dict(functions)
    exec(array_function("function", ", ".join(parameters), body(tree, writer or FunctionalWriter())), namespace)
    function: Callable[..., Any] = namespace["function"]
    return function


def c_function(name: str, parameters: str, body: Body) -> str:
    """The C++ source of a function that runs on the GPU."""
    lines = [f"    real {variable} = {text};\n" for variable, text in body.variables]
    return f"__device__ __forceinline__ real {name}({parameters}) {{\n{''.join(lines)}    return {body.result};\n}}\n"
