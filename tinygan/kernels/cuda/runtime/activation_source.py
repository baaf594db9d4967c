"""The activations as C++ functions, generated from their records. The launcher inserts them before each kernel file, after
the definition of `real`."""
from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from tinygan.kernels.activations import FUSED, RECORDS, Activation
from tinygan.kernels.expressions import DEFINITIONS, Body, CWriter, body, c_function, parsed

# Functions of the language of `expressions` that CUDA does not have under these names.
_FUNCTIONS = """\
__device__ __forceinline__ real decay(real t) { return exp(-t); }
__device__ __forceinline__ real larger(real a, real b) { return a > b || a != a ? a : b; }  // NaN if a or b is NaN
"""
_NAMES = {"abs": "fabs", "max": "larger"}


class _Writer(CWriter):
    """Writes calls under the names that CUDA has."""

    def call(self, name: str, arguments: list[str]) -> str:
        return super().call(_NAMES.get(name, name), arguments)


FORMULAS = ("value", "slope", "curvature", "slope_from_result", "curvature_from_result")


def _switch(name: str, which: str, records: Iterable[Activation], comment: str) -> str:
    cases = "".join(f"        case {r.name.upper()}: return {which}_of_{r.name}(x, slope);\n" for r in records)
    return (f"// {comment}\n__device__ __forceinline__ real {name}(real x, int kind, real slope) {{\n"
            f"    switch (kind) {{\n{cases}"
            '        default: return real(nan(""));  // no activation has this code\n    }\n}\n')


def _choice(name: str, which: str, records: Iterable[Activation], comment: str) -> str:
    """The same for a few short formulas. The function computes all of them without a branch, which saves registers."""
    lines = "".join(f"    if (kind == {r.name.upper()}) y = {which}_of_{r.name}(x, slope);\n" for r in records)
    return (f"// {comment}\n__device__ __forceinline__ real {name}(real x, int kind, real slope) {{\n"
            f'    real y = real(nan(""));  // stays if no fused activation has this code\n{lines}    return y;\n}}\n')


@cache
def cuda_source() -> str:
    """C++ functions (x, slope) for each record: value_of_NAME, slope_of_NAME, curvature_of_NAME, kept_slope_of_NAME. If the
    result tells them, also slope_from_result_of_NAME and curvature_from_result_of_NAME. And functions (x, kind, slope) that
    choose a record by its code, kind:

    activated                f(x)                      fused_activated    the same, only for fused activations
    slope_at                 f'(x)                     fused_slope_at     the same, only for fused activations
    curvature_at             f''(x)
    slope_from_result        f', computed from the result x = f(...)
    curvature_from_result    f'', computed from the result x = f(...)
    slope_from_kept          f', computed from what backward keeps: the result of a fused activation, the input of any other
    """
    fused = [record for record in RECORDS if record.name in FUSED]
    from_result = [record for record in RECORDS if record.is_known_from_result]
    codes = ", ".join(f"{record.name.upper()} = {code}" for code, record in enumerate(RECORDS))
    parts = [f"enum Activation {{ {codes} }};\n", _FUNCTIONS]
    parts += [c_function(name, "real x", body(parsed(text, ("x",)), _Writer())) for name, text in DEFINITIONS.items()]
    for record in RECORDS:
        missing = {"slope_from_result": not (record.slope_from_result or record.is_known_from_result),
                   "curvature_from_result": not record.is_known_from_result}
        for which in FORMULAS:
            if missing.get(which):
                continue
            parameters = f"real {record.argument(which)}, real slope"
            parts.append(c_function(f"{which}_of_{record.name}", parameters, body(record.tree(which), _Writer())))
        parts.append(c_function(f"kept_slope_of_{record.name}", "real x, real slope",
                                Body((), f"{record.kept_slope}_of_{record.name}(x, slope)")))
    parts += [
        _switch("activated", "value", RECORDS, "The activation's value at x."),
        _switch("slope_at", "slope", RECORDS, "Its slope at x."),
        _switch("curvature_at", "curvature", RECORDS, "Its second derivative at x."),
        _switch("slope_from_result", "slope_from_result", from_result,
                "Its slope, computed from its result x. The error is as large as that of x, so small slopes are lost."),
        _switch("curvature_from_result", "curvature_from_result", from_result,
                "Its second derivative, computed from its result x."),
        _switch("slope_from_kept", "kept_slope", RECORDS,
                "Its slope, computed from what backward keeps: its result if it is fused, else its input."),
        _choice("fused_activated", "value", fused, "The value at x of a fused activation."),
        _choice("fused_slope_at", "slope", fused, "The slope at x of a fused activation."),
    ]
    return "\n".join(parts)
