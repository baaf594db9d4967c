"""One table: each op's forward and vjp as short formulas, and one entry of the vjp with the numbers of a run put in.

In the formulas x, a, b are inputs, y is the result, and a bar over a letter means the gradient of the loss with respect to
it. Capitals are matrices or images, and W\N{MODIFIER LETTER CAPITAL T} is W transposed. `spoken` writes a formula
without bars, for a screen reader.
"""
from __future__ import annotations

__all__ = ["FORMULAS", "Formula", "Worked", "formula_of", "spoken", "work_out"]

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.optim.packed import gradients_of_advance

from . import slopes
from .tape import Entry, Trace, Visit
from .terms import (
    BAR,
    Call,
    Factor,
    Place,
    Term,
    Terms,
    barred,
    elementwise,
    labelled,
    linear,
    of_images,
    of_matrices,
    place_in,
    triangle,
)

MINUS = "\N{MINUS SIGN}"
_SHOWN = 2  # of the products of a sum; the others are added up


class Formula(NamedTuple):
    """The formulas of an op. They may contain its static arguments in braces: "{axis}". terms: the products of one entry of
    an input's gradient; None for an op without a gradient. names: what the formulas call the inputs."""

    name: str
    forward: str
    vjp: str
    terms: Terms | None = None
    names: tuple[str, ...] = ("x",)


def _slope(call: Call, place: Place, at: Place) -> list[Factor]:
    name, x = call.static["activation"], float(call.x[0][at])
    return [Factor("slope", slopes.SLOPES[name].slope(x, call.static["slope"]))]


def _curvature(call: Call, place: Place, at: Place) -> list[Factor]:
    name, x = call.static["activation"], float(call.x[1][at])
    return [call.given(0, at), Factor("curvature", slopes.SLOPES[name].curvature(x, call.static["slope"]))]


def _slope_of_x(call: Call, place: Place, at: Place) -> list[Factor]:
    name, x = call.static["activation"], float(call.x[1][at])
    return [Factor("slope", slopes.SLOPES[name].slope(x, call.static["slope"]))]


def _other(i: int) -> Callable[[Call, Place, Place], list[Factor]]:
    """The value of the other input, for a product."""
    def factors(call: Call, place: Place, at: Place) -> list[Factor]:
        return [call.given(1 - i, place_in(call.x[1 - i].shape, place))]
    return factors


def _divisor(call: Call, place: Place) -> Factor:
    b = call.given(1, place_in(call.x[1].shape, place))
    return Factor(f"1 / {b.label}", 1 / b.value)


def _one(label: str, of: Callable[[float], float], result: bool = False) -> Terms:
    """An elementwise function of one input, whose slope is `of` the input, or of the result. In the label, @ stands for its
    name and place."""
    def factors(call: Call, place: Place, at: Place) -> list[Factor]:
        used = call.result(place) if result else call.given(0, at)
        return [Factor(label.replace("@", used.label), of(used.value))]
    return elementwise(factors)


def _bce(call: Call, i: int, at: Place) -> Iterator[Term]:
    """weight * mean(softplus(x) - t x)."""
    weight = call.static["weight"] / call.x[0].size
    if i:
        for place in np.ndindex(call.x[0].shape):
            if place_in(call.x[1].shape, place) == at:
                yield Term((call.arrived(()), call.given(0, place)), -weight)
        return
    p, t = slopes.sigmoid(float(call.x[0][at])), float(call.x[1][place_in(call.x[1].shape, at)])
    yield Term((call.arrived(()), Factor(f"({labelled('p', at)} {MINUS} {labelled('t', at)})", p - t)), weight)


def _bce_grad(call: Call, i: int, at: Place) -> Iterator[Term]:
    """g * weight / n * (sigmoid(x) - t): g is one number."""
    weight = call.static["weight"] / call.y.size
    g = Factor("g", float(call.x[0].reshape(-1)[0]))
    for place in np.ndindex(call.y.shape):
        if place_in(call.x[i].shape, place) != at:
            continue
        p, t = slopes.sigmoid(float(call.x[1][place])), float(call.x[2][place_in(call.x[2].shape, place)])
        factors: tuple[Factor, ...]
        if i == 0:
            factors, sign = (Factor(f"({labelled('p', place)} {MINUS} {labelled('t', place)})", p - t),), 1
        elif i == 1:
            factors, sign = (g, Factor(f"{labelled('p', place)} (1 {MINUS} p)", p * (1 - p))), 1
        else:
            factors, sign = (g,), -1
        yield Term((call.arrived(place), *factors), sign * weight)


def _bce_curvature(call: Call, i: int, at: Place) -> Iterator[Term]:
    """gg * g * weight / n * p (1 - p)."""
    weight = call.static["weight"] / call.y.size
    g = Factor("g", float(call.x[1].reshape(-1)[0]))
    for place in np.ndindex(call.y.shape):
        if place_in(call.x[i].shape, place) != at:
            continue
        p = slopes.sigmoid(float(call.x[2][place]))
        slope, gg = Factor(f"{labelled('p', place)} (1 {MINUS} p)", p * (1 - p)), call.given(0, place)
        bent = Factor(f"{labelled('p', place)} (1 {MINUS} p) (1 {MINUS} 2 p)", p * (1 - p) * (1 - 2 * p))
        yield Term((call.arrived(place), *((g, slope), (gg, slope), (gg, g, bent))[i]), weight)


def _similarity(call: Call, i: int, at: Place) -> Iterator[Term]:
    """o[n, b] = the sum over j of exp(-|m[n, b] - m[j, b]|_1)."""
    m, (n, b, c) = call.x[0], at
    for j in range(len(m)):
        if j != n:
            near = math.exp(-float(np.abs(m[n, b] - m[j, b]).sum()))
            sign = float(np.sign(m[n, b, c] - m[j, b, c]))
            for one in (n, j):  # both outputs know of this distance
                yield Term((call.arrived((one, b)), Factor(f"nearness of {n} and {j}", near)), -sign)


def _log_softmax(call: Call, i: int, at: Place) -> Iterator[Term]:
    yield Term((call.arrived(at),))
    p = Factor(labelled("p", at), math.exp(float(call.y[at])))
    axis = call.static["axis"][0]
    for k in range(call.y.shape[axis]):
        yield Term((call.arrived((*at[:axis], k, *at[axis + 1:])), p), -1.0)


def _norm(call: Call, i: int, at: Place) -> Iterator[Term]:
    axis = call.static["axis"]
    place = tuple([0 if axis is None or k in axis else n for k, n in enumerate(at)
                   if call.static["keepdims"] or not (axis is None or k in axis)])
    y = float(call.y[place])
    yield Term((call.arrived(place), call.given(0, at), Factor(f"1 / {labelled('y', place)}", 1 / y if y else 0.0)))


def _advance(call: Call, i: int, at: Place) -> Iterator[Term]:
    """One update by an optimiser, which takes each column (a weight and its slots) by itself."""
    packed, gradient = call.x[0][:, at[-1:]], call.x[1][at[-1:]].reshape(1)
    optimizer, count = call.static["optimizer"], call.static["count"]
    wanted = ["the gradient", *(f"slot {r}" for r in range(1, len(packed)))]
    name = (wanted[0] if i else "the weight") if i or not at[0] else f"slot {at[0]}"
    for row in range(len(packed)):
        seed = np.zeros_like(packed)
        seed[row] = 1.0
        slope = gradients_of_advance(optimizer, seed, packed, gradient, count)[-1 if i else at[0], 0]
        out = "the weight" if not row else f"slot {row}"
        yield Term((call.arrived((row, at[-1])), Factor(f"slope of {out} after, by {name} before", float(slope))))


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _numbered(count: int) -> tuple[str, ...]:
    """The names x₁, x₂, ... of many inputs."""
    return tuple([f"x{i}".translate(_SUBSCRIPTS) for i in range(1, count + 1)])


FORMULAS = {formula.name: formula for formula in (
    Formula("add", "y = a + b", f"a{BAR} = y{BAR}, b{BAR} = y{BAR}", linear, ("a", "b")),
    Formula("sub", f"y = a {MINUS} b", f"a{BAR} = y{BAR}, b{BAR} = {MINUS}y{BAR}", linear, ("a", "b")),
    Formula("mul", "y = a · b", f"a{BAR} = y{BAR} · b, b{BAR} = y{BAR} · a", elementwise(_other(0), _other(1)), ("a", "b")),
    Formula("div", "y = a / b", f"a{BAR} = y{BAR} / b, b{BAR} = {MINUS}y{BAR} · y / b",
            elementwise(lambda call, place, at: [_divisor(call, place)],
                        lambda call, place, at: [call.result(place), _divisor(call, place)], coefficients=(1, -1)),
            ("a", "b")),
    Formula("neg", f"y = {MINUS}x", f"x{BAR} = {MINUS}y{BAR}", linear),
    Formula("exp", "y = eˣ", f"x{BAR} = y{BAR} · y", _one("@", lambda y: y, result=True)),
    Formula("log", "y = log x", f"x{BAR} = y{BAR} / x", _one("1 / @", lambda x: 1 / x)),
    Formula("log1p", "y = log(1 + x)", f"x{BAR} = y{BAR} / (1 + x)", _one("1 / (1 + @)", lambda x: 1 / (1 + x))),
    Formula("sqrt", "y = √x", f"x{BAR} = y{BAR} / (2 y)", _one("1 / (2 @)", lambda y: 0.5 / y, result=True)),
    Formula("abs", "y = |x|", f"x{BAR} = y{BAR} · sign x", _one("sign @", lambda x: float(np.sign(x)))),
    Formula("sin", "y = sin x", f"x{BAR} = y{BAR} · cos x", _one("cos @", math.cos)),
    Formula("cos", "y = cos x", f"x{BAR} = {MINUS}y{BAR} · sin x", _one(f"({MINUS}sin @)", lambda x: -math.sin(x))),
    Formula("activation", "{activation}", f"x{BAR} = y{BAR} · slope, slope = {{its_slope}}", elementwise(_slope)),
    Formula("activation_grad", "y = g · slope(x), slope(x) = {its_slope}",
            f"g{BAR} = y{BAR} · slope(x), x{BAR} = y{BAR} · g · curvature(x)", elementwise(_slope_of_x, _curvature),
            ("g", "x")),
    Formula("linear", "Y = X Wᵀ", f"X{BAR} = Y{BAR} W, W{BAR} = Y{BAR}ᵀ X", triangle(of_matrices, ("x", "w"), "y"),
            ("x", "W")),
    Formula("linear_input_grad", "Y = G W", f"G{BAR} = Y{BAR} Wᵀ, W{BAR} = Gᵀ Y{BAR}",
            triangle(of_matrices, ("y", "w"), "x"), ("g", "W")),
    Formula("linear_weight_grad", "Y = Gᵀ X", f"X{BAR} = G Y{BAR}, G{BAR} = X Y{BAR}ᵀ",
            triangle(of_matrices, ("x", "y"), "w"), ("x", "g")),
    Formula("conv2d", "Y = X ⋆ W, stride {stride}, padding {padding}",
            f"X{BAR} = Y{BAR} ⋆ᵀ W (transposed), W{BAR} = X ⋆ Y{BAR} (over the batch)",
            triangle(of_images, ("x", "w"), "y"), ("x", "w")),
    Formula("conv2d_input_grad", "Y = G ⋆ᵀ W (transposed), stride {stride}, padding {padding}",
            f"G{BAR} = Y{BAR} ⋆ W, W{BAR} = Y{BAR} ⋆ G (over the batch)", triangle(of_images, ("y", "w"), "x"), ("g", "w")),
    Formula("conv2d_weight_grad", "Y = X ⋆ G (over the batch), stride {stride}, padding {padding}",
            f"X{BAR} = G ⋆ᵀ Y{BAR} (transposed), G{BAR} = X ⋆ Y{BAR}", triangle(of_images, ("x", "y"), "w"), ("x", "g")),
    Formula("bce_with_logits", "y = {times}mean(log(1 + eˣ) − t x)",
            f"x{BAR} = y{BAR} · {{weight}} / n · (p {MINUS} t), p = 1 / (1 + e⁻ˣ)", _bce, ("x", "t")),
    Formula("bce_grad", "y = g · {weight} / n · (p − t), p = 1 / (1 + e⁻ˣ)",
            f"x{BAR} = y{BAR} · g · {{weight}} / n · p (1 {MINUS} p), g{BAR} = Σ y{BAR} · {{weight}} / n · (p {MINUS} t)",
            _bce_grad, ("g", "x", "t")),
    Formula("bce_curvature", "y = h · g · {weight} / n · p (1 − p), p = 1 / (1 + e⁻ˣ)",
            f"x{BAR} = y{BAR} · h · g · {{weight}} / n · p (1 {MINUS} p) (1 {MINUS} 2 p)", _bce_curvature, ("h", "g", "x")),
    Formula("sum", "y = Σ x over {axis}", f"x{BAR} = y{BAR}, repeated", linear),
    Formula("mean", "y = Σ x / n over {axis}", f"x{BAR} = y{BAR} / n, repeated", linear),
    Formula("centred", f"y = x {MINUS} mean x over {{axis}}", f"x{BAR} = y{BAR} {MINUS} mean y{BAR}", linear),
    Formula("norm", "y = √(Σ x²) over {axis}", f"x{BAR} = y{BAR} · x / y", _norm),
    Formula("log_softmax", f"y = x {MINUS} log Σ eˣ over {{axis}}", f"x{BAR} = y{BAR} {MINUS} p Σ y{BAR}, p = eʸ",
            _log_softmax),
    Formula("similarity", f"yᵢ = Σⱼ exp({MINUS}|mᵢ {MINUS} mⱼ|) over the other images j, |·| the sum of magnitudes",
            f"m{BAR}ᵢ = {MINUS}Σⱼ (y{BAR}ᵢ + y{BAR}ⱼ) · exp({MINUS}|mᵢ {MINUS} mⱼ|) · sign(mᵢ {MINUS} mⱼ)", _similarity,
            ("m",)),
    Formula("reshape", "y = x in the shape {shape}", f"x{BAR} = y{BAR} in the shape of x", linear),
    Formula("transpose", "y = x with its axes in the order {axes}", f"x{BAR} = y{BAR} with its axes in x's order", linear),
    Formula("broadcast_to", "y = x, repeated to {shape}", f"x{BAR} = Σ y{BAR} over the repetitions", linear),
    Formula("sum_to", "y = Σ x, down to {shape}", f"x{BAR} = y{BAR}, repeated", linear),
    Formula("concatenate", "y = the inputs one after the other, along axis {axis}", f"each input gets its part of y{BAR}",
            linear, _numbered(100)),
    Formula("getitem", "y = a part of x", f"x{BAR} = y{BAR} in its place, else 0", linear),
    Formula("scatter_add", "y = g in its place, else 0", f"g{BAR} = the part of y{BAR}", linear, ("g",)),
    Formula("part", "y = a part of x", "no gradient: x is a constant"),
    Formula("alias", "y = x", f"x{BAR} = y{BAR}", linear),
    Formula("where", "y = a where a condition is true, else b",
            f"a{BAR} = y{BAR} where it is true, b{BAR} = y{BAR} elsewhere", linear, ("a", "b")),
    Formula("moved", "y = x at another size: sums of neighbouring pixels", f"x{BAR} = y{BAR} through the transposed map",
            linear),
    Formula("means", "y = means over windows of x", f"x{BAR} = y{BAR} / n, added over the windows", linear),
    Formula("means_grad", "y = g / n, added over the windows", f"g{BAR} = means over windows of y{BAR}", linear, ("g",)),
    Formula("pack", "y = all inputs in one row", f"each input gets its part of y{BAR}", linear,
            _numbered(1000)),
    Formula("unpacked", "y = a part of x, in the shape {shape}", f"x{BAR} = y{BAR} in its place, else 0", linear),
    Formula("placed", "y = g in its place, else 0", f"g{BAR} = the part of y{BAR}", linear, ("g",)),
    Formula("advance", "y = x after one update by {optimizer}: weights and the optimiser's slots",
            f"x{BAR} = y{BAR} · ∂y/∂x, g{BAR} = y{BAR} · ∂y/∂g, weight by weight", _advance, ("x", "g")),
    Formula("floor", "y = x, rounded down", f"x{BAR} = 0"),
    Formula("equal", "y = 1 where a = b, else 0", "no gradient", None, ("a", "b")),
    Formula("cast", "y = x as {dtype}", "no gradient"),
)}
"""The formulas by the op's name. `formula_of` fills in the static arguments."""


def formula_of(entry: Entry) -> Formula | None:
    """The formulas of an entry, with its static arguments filled in; None if the table does not have its op."""
    found = FORMULAS.get(entry.name) if entry.kind == "op" else None
    if found is None:
        return None
    words = {name: _in_words(value) for name, value in entry.static.items()}
    if "axis" in entry.static and entry.static["axis"] is None:
        words["axis"] = "all entries"
    elif "axis" in entry.static and found.name != "concatenate":
        axes = np.atleast_1d(entry.static["axis"])
        words["axis"] = f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"
    if "weight" in words:
        words["times"] = "" if entry.static["weight"] == 1 else f"{words['weight']} · "
    geometry = entry.static.get("geometry")
    if geometry is not None:
        words |= {"stride": _in_words(geometry.stride), "padding": _in_words(geometry.padding)}
    if "activation" in entry.static:
        record = slopes.SLOPES[entry.static["activation"]]
        parameter = _number(float(entry.static["slope"]))
        words |= {"activation": record.forward.replace("@", parameter), "its_slope": record.formula.replace("@", parameter)}
    return found._replace(forward=found.forward.format(**words), vjp=found.vjp.format(**words))


def spoken(formula: str) -> str:
    """A formula without bars: "x\N{COMBINING MACRON} = ..." becomes "gradient of x = ..."."""
    out: list[str] = []
    for i, letter in enumerate(formula):
        if letter == BAR:
            out[-1] = f"gradient of {formula[i - 1]}"
        else:
            out.append(letter)
    return "".join(out)


class Worked(NamedTuple):
    """One entry of the gradient that a vjp computed, worked out: input number `input`, its place, the number of products,
    their sum, and the sum as a text with its numbers."""

    input: int
    at: Place
    products: int
    total: float
    text: str


def work_out(traced: Trace, visit: Visit, places: Mapping[int, Place] = MappingProxyType({})) -> list[Worked]:
    """For each input that got a gradient in this visit: one entry of it, worked out with the numbers of this run. Empty for
    an op that the table does not have. places: of the entry, by the input's number; by default the largest one's, or of a
    leaky ReLU the largest one's whose input is negative."""
    entry = traced[visit.id]
    formula = FORMULAS.get(entry.name) if entry.kind == "op" else None
    if formula is None or formula.terms is None:
        return []
    x = tuple([np.asarray(value, np.float64) for value in traced.inputs_of(entry)])
    call = Call(entry.op, x, entry.value.astype(np.float64), visit.gradient.astype(np.float64), entry.static,  # type: ignore[arg-type]
                formula.names)
    found = []
    for i, part in enumerate(visit.parts):
        if part is None or not part.size:
            continue
        mine = _summed(part.astype(np.float64), x[i].shape)
        at = places.get(i, _example(entry, mine, x[i]))
        terms = list(formula.terms(call, i, at))
        name = labelled(barred(formula.names[i]), at)
        total = math.fsum(term.value for term in terms)
        found.append(Worked(i, at, len(terms), total, _text(name, terms, total)))
    return found


def _example(entry: Entry, gradient: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Place:
    """The place of the entry that is worked out: a leaky ReLU shows its second slope, if it has one to show."""
    sizes = np.abs(gradient)
    if entry.name == "activation" and entry.static["activation"] == "leaky_relu" and sizes[x < 0].any():
        sizes = np.where(x < 0, sizes, 0)
    return tuple(map(int, np.unravel_index(int(sizes.argmax()), sizes.shape)))


def _summed(part: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """A gradient of the result's shape, summed to that of the input."""
    new = part.ndim - len(shape)
    part = part.sum(axis=tuple(range(new)))
    return part.sum(axis=tuple([i for i, n in enumerate(shape) if n == 1 and part.shape[i] != 1]), keepdims=True)


def _text(name: str, terms: list[Term], total: float) -> str:
    ordered = sorted(terms, key=lambda term: -abs(term.value))
    shown = ordered if len(ordered) <= _SHOWN + 1 else ordered[:_SHOWN]
    rest = ordered[len(shown):]
    symbols = _joined([_symbols(term) for term in shown])
    numbers = _joined([_numbers(term, first=not k) for k, term in enumerate(shown)])
    if rest:
        symbols += f" + {len(rest):,} more"
        numbers += f" + {_inside(math.fsum(term.value for term in rest))}"
    parts = [name, symbols, numbers, _number(total)]
    return " = ".join([part for k, part in enumerate(parts) if not k or part != parts[k - 1]])


def _joined(parts: list[str]) -> str:
    text = " + ".join(parts) or "0"
    return text.replace(f"+ {MINUS}", f"{MINUS} ")


def _symbols(term: Term) -> str:
    return " · ".join(_coefficient(term, [factor.label for factor in term.factors]))


def _numbers(term: Term, first: bool) -> str:
    """Each factor with its own sign, so that a reader finds it again in the arrays. first: of the sum."""
    bare = first and term.coefficient == 1.0
    values = [_number(factor.value) if bare and not k else _inside(factor.value) for k, factor in enumerate(term.factors)]
    return " · ".join(_coefficient(term, values))


def _coefficient(term: Term, factors: list[str]) -> list[str]:
    """The factors with the coefficient before them: 1 is left out, and -1 is a sign."""
    if term.coefficient in (1.0, -1.0):
        return [(MINUS if term.coefficient < 0 else "") + factors[0], *factors[1:]]
    return [_number(term.coefficient), *factors]


def _inside(value: float) -> str:
    """A number within a sum or a product: in brackets if it is negative."""
    return f"({_number(value)})" if value < 0 else _number(value)


def _number(value: float) -> str:
    """Three digits, with a real minus sign."""
    text = f"{value:.3g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, tuple) and value and all(isinstance(n, int) for n in value):
        return str(value[0]) if len(set(value)) == 1 and len(value) == 2 else " × ".join(map(str, value))
    return type(value).__name__ if type(value).__module__.startswith("tinygan") else str(value)
