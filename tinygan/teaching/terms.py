"""One entry of a vjp as a sum of products: which numbers of the gradient that arrived go into it, and times what.

A vjp is linear in the gradient of the op's result. So every entry of an input's gradient is a sum over entries of that
gradient, each times a slope. The functions here list the products of that sum. They state the mathematics themselves, in
float64, and do not call the engine's vjps: so a test can compare the two.
"""
from __future__ import annotations

__all__ = ["BAR", "Call", "Factor", "Place", "Term", "Terms", "barred", "elementwise", "labelled", "linear", "of_images",
           "of_matrices", "place_in", "triangle"]

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.backends import cpu
from tinygan.graph import Op

Array = npt.NDArray[np.float64]
Place = tuple[int, ...]
"""The place of an entry in an array."""

BAR = "\N{COMBINING MACRON}"
"""After a letter: the gradient of the loss with respect to what the letter stands for."""


class Call(NamedTuple):
    """One use of an op: its inputs and its result y in float64, the gradient g of the result, and the static arguments.
    names: what the formula calls the inputs."""

    op: Op
    x: tuple[Array, ...]
    y: Array
    g: Array
    static: dict[str, Any]
    names: tuple[str, ...]

    def arrived(self, at: Place) -> Factor:
        """An entry of the gradient of the result."""
        return Factor(labelled(f"y{BAR}", at), float(self.g[at]))

    def result(self, at: Place) -> Factor:
        """An entry of the result."""
        return Factor(labelled("y", at), float(self.y[at]))

    def given(self, i: int, at: Place) -> Factor:
        """An entry of input i."""
        return Factor(labelled(self.names[i], at), float(self.x[i][at]))


class Factor(NamedTuple):
    """A number in a product, and what it is."""

    label: str
    value: float


class Term(NamedTuple):
    """A product: a coefficient and factors."""

    factors: tuple[Factor, ...]
    coefficient: float = 1.0

    @property
    def value(self) -> float:
        """The product."""
        return self.coefficient * math.prod([factor.value for factor in self.factors])


Terms = Callable[[Call, int, Place], Iterator[Term]]
"""The products whose sum is the entry `at` of the gradient of input i."""


def barred(name: str) -> str:
    """The name of a gradient: a bar over the first letter."""
    return name[0] + BAR + name[1:]


def labelled(name: str, at: Place) -> str:
    """ "x", (0, 3) -> "x[0, 3]"; without a place the name alone."""
    return f"{name}[{', '.join(map(str, at))}]" if at else name


Factors = Callable[[Call, Place, Place], Sequence[Factor]]
"""For elementwise ops: by what the gradient at the first place (of the result) is multiplied. The second place is that of
the input which the first one was computed from."""


def elementwise(*of_inputs: Factors, coefficients: Sequence[float] = ()) -> Terms:
    """Each entry of the result depends on one entry of each input. (An input that was broadcast gets a sum.) of_inputs: the
    factors, for each input; coefficients: 1 by default."""

    def terms(call: Call, i: int, at: Place) -> Iterator[Term]:
        coefficient = coefficients[i] if coefficients else 1.0
        for place in results_of(call.x[i].shape, call.y.shape, at):
            yield Term((call.arrived(place), *of_inputs[i](call, place, at)), coefficient)

    return terms


def results_of(small: tuple[int, ...], large: tuple[int, ...], at: Place) -> Iterator[Place]:
    """The places in an array of shape `large` that the entry `at` is broadcast to."""
    new = len(large) - len(small)
    return product(*[range(n) for n in large[:new]],
                   *[range(n) if small[i] == 1 else (at[i],) for i, n in enumerate(large[new:])])


def place_in(shape: tuple[int, ...], at: Place) -> Place:
    """The place of the entry that is broadcast to the place `at`."""
    new = len(at) - len(shape)
    return tuple([0 if n == 1 else at[i + new] for i, n in enumerate(shape)])


def linear(call: Call, i: int, at: Place) -> Iterator[Term]:
    """For an op that is linear in input i, the others being 0: its forward of a unit vector is a column of its matrix."""
    x = [np.zeros_like(a) for a in call.x]
    x[i][at] = 1.0
    column = np.asarray(call.op.forward(cpu, *x, **call.static))
    for place in map(tuple, np.argwhere(column)):
        place = tuple(map(int, place))
        yield Term((call.arrived(place),), float(column[place]))


Shapes = dict[str, tuple[int, ...]]
Triples = Callable[[Shapes, dict[str, Any], str, Place], Iterator[dict[str, Place]]]
"""For a bilinear function: which places of its three arrays meet in a product, given the place in one of them."""


def triangle(triples: Triples, inputs: tuple[str, str], output: str) -> Terms:
    """The terms of a bilinear op. Its two inputs and its output have the roles x, y and w of a product x -> y with weights
    w."""

    def terms(call: Call, i: int, at: Place) -> Iterator[Term]:
        shapes = {inputs[0]: call.x[0].shape, inputs[1]: call.x[1].shape, output: call.y.shape}
        for places in triples(shapes, call.static, inputs[i], at):
            yield Term((call.arrived(places[output]), call.given(1 - i, places[inputs[1 - i]])))

    return terms


def of_matrices(shapes: Shapes, static: dict[str, Any], role: str, at: Place) -> Iterator[dict[str, Place]]:
    """y = x W transposed: x (N, in), W (out, in), y (N, out)."""
    # Each pair of roles shares one index; the third index runs.
    if role == "x":
        yield from ({"x": at, "y": (at[0], k), "w": (k, at[1])} for k in range(shapes["y"][1]))
    elif role == "y":
        yield from ({"y": at, "x": (at[0], j), "w": (at[1], j)} for j in range(shapes["x"][1]))
    else:
        yield from ({"w": at, "x": (n, at[1]), "y": (n, at[0])} for n in range(shapes["x"][0]))


def of_images(shapes: Shapes, static: dict[str, Any], role: str, at: Place) -> Iterator[dict[str, Place]]:
    """The convolution: image x (N, C, H, W), weights w (K, C / groups, kH, kW), image y (N, K, OH, OW). Pixel p of y meets
    pixel stride p - padding + dilation a of x through the weight at a."""
    g = static["geometry"]
    n_images = shapes["x"][0] if "x" in shapes else shapes["y"][0]
    kernels = shapes["y"][1] if "y" in shapes else shapes["w"][0]
    in_group = shapes["w"][1] if "w" in shapes else shapes["x"][1] // g.groups
    per_group = kernels // g.groups

    def along(i: int, x: int | None, p: int | None, a: int | None) -> Iterator[tuple[int, int, int]]:
        """The (x, p, a) that meet in direction i, where some are given."""
        for tap in range(g.kernel[i]) if a is None else (a,):
            if p is not None:
                found = [p]
            elif x is None:
                found = list(range(g.output[i]))
            else:
                p_times_stride = x + g.padding[i] - g.dilation[i] * tap
                found = [p_times_stride // g.stride[i]] if p_times_stride % g.stride[i] == 0 else []
            for pixel in found:
                source = g.stride[i] * pixel - g.padding[i] + g.dilation[i] * tap
                if 0 <= source < g.input[i] and 0 <= pixel < g.output[i]:
                    yield source, pixel, tap

    rows = [along(i, *(at[i + 2] if role == which else None for which in ("x", "y", "w"))) for i in (0, 1)]
    places = [(r, c) for (r, c) in product(list(rows[0]), list(rows[1]))]
    if role == "x":
        group, inner = divmod(at[1], in_group)
        channels = [(at[0], at[1], group * per_group + k, inner) for k in range(per_group)]
    elif role == "y":
        first = at[1] // per_group * in_group
        channels = [(at[0], first + inner, at[1], inner) for inner in range(in_group)]
    else:
        first = at[0] // per_group * in_group
        channels = [(n, first + at[1], at[0], at[1]) for n in range(n_images)]
    for n, c, k, inner in channels:
        for (i, p, a), (j, q, b) in places:
            yield {"x": (n, c, i, j), "y": (n, k, p, q), "w": (k, inner, a, b)}
