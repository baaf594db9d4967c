"""Powers. Their gradients, of every order, are right even if the base is 0."""
from __future__ import annotations

__all__ = ["pow"]

import math
from itertools import zip_longest
from typing import Any

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import binary
from tinygan.ops.elementwise import mul

Polynomial = tuple[int, ...]  # a polynomial in b: its coefficients, the constant first
FAR = 1e12  # stands for an infinite logarithm, so that 0 * inf never occurs; its cube is finite in float32


@binary(saves=(0, 1, OUT))
def pow(B: Any, a: Any, b: Any) -> Any:
    """a to the power b, elementwise.

    At a = 0 the gradients are the limits from the right. With respect to b this is 0 for b > 0 and -inf for b < 0; at b = 0
    there is no limit, and it is 0 by convention. For a < 0 the gradient with respect to b is NaN.
    """
    return B.xp.power(a, b)


@pow.vjp
def _(needs: Any, g: Any, a: Any, b: Any, y: Any) -> Any:
    ga = gb = None
    if needs[0]:
        if isinstance(b, int | float):
            ga = mul(g, mul(float(b), pow(a, b - 1 if b else 0)))
        else:
            ga = mul(g, _power_and_log(a, b, shift=1, terms=((0, 1),)))
    if needs[1]:
        if isinstance(a, int | float) and 0 < a < math.inf:
            gb = mul(mul(g, y), math.log(a))
        else:
            gb = mul(g, _power_and_log(a, b, shift=0, terms=((), (1,))))
    return ga, gb


@op(saves=(0, 1), broadcasts=True)
def _power_and_log(B: Any, a: Any, b: Any, shift: int, terms: tuple[Polynomial, ...]) -> Any:
    """a^(b - shift) * (p0(b) + p1(b) log a + p2(b) log^2 a + ...): every derivative of a^b has this form.

    At a = 0 and at a = inf, the power decides whether the limit is 0 or infinite. The last term that is not 0 decides its
    sign.
    """
    xp = B.xp
    kind = b.dtype.type
    if not hasattr(a, "dtype"):
        a = kind(a)
    with np.errstate(all="ignore"):
        power = xp.power(a, b - shift if shift else b)
        factor = _value(terms[-1], b)
        if len(terms) == 1:
            return xp.where(xp.equal(factor, 0), kind(0), power * factor)
        exact = xp.log(a)
        log = xp.clip(exact, kind(-FAR), kind(FAR))
        for polynomial in terms[-2::-1]:
            factor = factor * log
            if polynomial:
                factor = factor + _value(polynomial, b)
        # If the exponent is 0, the limit is that of the logarithms, except for the convention at a = b = 0.
        limit = factor * kind(np.inf) if shift else xp.maximum(exact, kind(0))
        return xp.where(xp.isinf(exact) & xp.equal(power, 1), limit, power * factor)


@_power_and_log.vjp
def _(needs: Any, g: Any, a: Any, b: Any, shift: int, terms: tuple[Polynomial, ...]) -> Any:
    return (needs[0] and mul(g, _power_and_log(a, b, shift=shift + 1, terms=_by_base(shift, terms))),
            needs[1] and mul(g, _power_and_log(a, b, shift=shift, terms=_by_exponent(terms))))


def _by_base(shift: int, terms: tuple[Polynomial, ...]) -> tuple[Polynomial, ...]:
    """The terms of the derivative with respect to a: (b - shift) p_k + (k + 1) p_(k+1)."""
    return tuple([tuple([x - shift * y + (k + 1) * z for x, y, z in zip_longest((0, *p), p, following, fillvalue=0)])
                  for k, (p, following) in enumerate(zip(terms, (*terms[1:], ()), strict=True))])


def _by_exponent(terms: tuple[Polynomial, ...]) -> tuple[Polynomial, ...]:
    """The terms of the derivative with respect to b: p_k' + p_(k-1)."""
    slopes = [tuple([i * c for i, c in enumerate(p)][1:]) for p in (*terms, ())]
    return tuple([tuple([x + y for x, y in zip_longest(slope, before, fillvalue=0)])
                  for slope, before in zip(slopes, ((), *terms), strict=True)])


def _value(polynomial: Polynomial, b: Any) -> Any:
    total: Any = polynomial[-1] if polynomial else 0
    for coefficient in polynomial[-2::-1]:
        total = total * b + coefficient
    return total
