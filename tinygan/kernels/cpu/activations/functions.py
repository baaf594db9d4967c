"""The activations as functions of one number, compiled by Numba from their records, and the choice of one by its code.

    leaky_relu = formula("leaky_relu", "value", types.float32)           (x, slope) -> number
    activate = chosen(FUSED, lambda name: loop_of(formula(name, "value", real)))
    activate(code, values, slope)                                        runs the loop of that activation

Choose outside of loops: the choice ends in a call, which takes as long as several vector instructions.

In float32 the exponential, tanh and the logarithm are polynomials without a branch, so that loops over them become vector
instructions.
"""
from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygan.kernels.activations import BY_NAME, CODES, FUSED
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.expressions import DEFINITIONS, Writer, body, parsed, python_function

# Polynomials for tanh(x) / x in x^2, |x| < 0.625, and for exp(r) in r, |r| < log(2) / 2, fitted by least squares at 4,000
# Chebyshev nodes. The float32 tanh that uses them is within 2 units in the last place of the exact value.
TANH_COEFFICIENTS = (1.0, -0.33333230, 0.13330448, -0.05366739, 0.02042085, -0.00547360)
EXP_COEFFICIENTS = (1.0, 1.0, 0.5, 0.16666405, 0.04166620, 0.00837598, 0.00139498)


@intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2^exponent as a float32, for an int32 from -126 to 127. The bits of the float's exponent are set directly."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.add(args[0], word(127)), word(23)), ir.FloatType())

    return types.float32(types.int32), code


@partial(inline, in_order=True)
def exp_in_parts(x: Any) -> Any:
    """(e, n) such that exp(x) = e 2^n, for a float32 x: x = n log(2) + r, and e = exp(r). log(2) is split into two
    constants, so that r has little rounding error."""
    real = np.float32
    n = np.floor(x * real(1.44269504) + real(0.5))
    r = x - n * real(0.693359375) + n * real(2.12194440e-4)
    e = real(EXP_COEFFICIENTS[6])
    for i in (5, 4, 3, 2, 1, 0):
        e = e * r + real(EXP_COEFFICIENTS[i])
    return e, np.int32(n)


@inline
def exp(x: Any) -> Any:
    """exp(x) for a float32 x from -87 to 88, without a branch."""
    e, n = exp_in_parts(x)
    return e * power_of_two(n)


@inline
def decay_float32(x: Any) -> Any:
    """exp(-x) for a float32 x >= 0, without a branch, exact also for the smallest (subnormal) results."""
    inside = x < np.float32(104)  # exp(-104) rounds to 0
    e, n = exp_in_parts(-x if inside else np.float32(0))
    half = n >> 1  # multiply by 2^n in two steps: 2^n itself may be too small for `power_of_two`
    result = e * power_of_two(half) * power_of_two(n - half)
    return result if inside else (np.float32(0) if x == x else x)


@inline
def log1p_float32(t: Any) -> Any:
    """log(1 + t) for a float32 t from 0 to 1, by the series of 2 artanh(s), where s = t / (2 + t)."""
    real = np.float32
    s = t / (t + real(2))
    square = s * s
    series = real(1 / 15)
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series = series * square + real(1 / odd)
    return real(2) * s * series


@inline
def tanh_float32(x: Any) -> Any:
    real = np.float32
    size = abs(x)
    square = x * x
    near = real(TANH_COEFFICIENTS[5])
    for i in (4, 3, 2, 1, 0):
        near = near * square + real(TANH_COEFFICIENTS[i])
    near *= x
    # For larger |x|: 1 - 2 / (exp(2|x|) + 1), which rounds to 1 from |x| = 9 on.
    t = real(2) * size
    far = real(1) - real(2) / (exp(t if t < real(18.5) else real(18.5)) + real(1))
    result = near if size < real(0.625) else (far if x > real(0) else -far)
    return result if x == x else x


@cache
def function(name: str, real: Any) -> Any:
    """The compiled function for a name in the language of `expressions`, for numbers of type `real`."""
    if name in DEFINITIONS:
        return _compiled(name, "x", parsed(DEFINITIONS[name], ("x",)), real)
    in_float32 = real is types.float32
    functions: dict[str, Any] = {
        "abs": inline(lambda x: abs(x)),
        "max": inline(lambda a, b: b if a <= b else a),  # (NaN <= b is False)
        "expm1": inline(lambda x: np.expm1(x)),
        "decay": decay_float32 if in_float32 else inline(lambda x: np.exp(-x)),
        "log1p": log1p_float32 if in_float32 else inline(lambda x: np.log1p(x)),
        "tanh": tanh_float32 if in_float32 else inline(lambda x: np.tanh(x)),
    }
    return functions[name]


def _compiled(name: str, parameters: str, tree: Any, real: Any) -> Any:
    """The compiled function for a formula. Its name contains a hash of the formula, because the cache finds functions by
    name."""
    source = python_function(name, parameters, body(tree, Writer()))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    used = sorted(called)
    outer = f"def make({', '.join(['real', *used])}):\n    {source.replace(chr(10), chr(10) + '    ')}\n    return {name}\n"
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(outer, namespace)
    found = namespace["make"](real, *(function(word, real) for word in used))
    found.__qualname__ = f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    return inline(found)


@cache
def formula(name: str, which: str, real: Any) -> Any:
    """The compiled function (argument, slope) -> number for a formula of an activation's record. which: "value", "slope",
    "curvature", "slope_from_result" or "curvature_from_result". Raises ValueError if the record has no such formula."""
    record = BY_NAME[name]
    return _compiled(f"{which}_of_{name}", f"{record.argument(which)}, slope", record.tree(which), real)


def chosen(names: Iterable[str], make: Callable[[str], Any]) -> Any:
    """A function for kernels, (code, *args). It calls make(name) for the activation with that code, which must be one of
    `names`. All these functions are made here, so a record without the needed formula is an error before any kernel runs."""
    names = tuple(names)
    functions = [(CODES[name], make(name)) for name in names]
    return _chosen(functions[0], functions[1:])


def _chosen(first: tuple[int, Any], others: list[tuple[int, Any]]) -> Any:
    code_of_first, call = first
    if not others:
        return inline(lambda code, *args: call(*args))
    otherwise = _chosen(others[0], others[1:])

    @inline
    def choose(code: Any, *args: Any) -> Any:
        return call(*args) if code == code_of_first else otherwise(code, *args)

    return choose


@cache
def activate_fused(real: Any) -> Any:
    """A function for kernels, (code, values, slope): apply a fused activation to an array in place."""
    def loop(name: str) -> Any:
        value = formula(name, "value", real)
        if name == "identity":
            return inline(lambda values, slope: None)

        @inline
        def activate(values: Any, slope: Any) -> None:
            for i in range(values.size):
                values[i] = value(values[i], slope)

        return activate

    return chosen(FUSED, loop)
