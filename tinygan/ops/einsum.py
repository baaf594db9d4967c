"""Einstein summation, made of products, sums and transpositions. Its gradients, of every order, come from these ops."""
from __future__ import annotations

__all__ = ["einsum"]

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tinygan.ops.elementwise import astype, mul
from tinygan.ops.indexing import getitem
from tinygan.ops.matmul import matmul
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import reshape, transpose
from tinygan.tensor import FLOATS, shape_of

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Shape = tuple[int, ...]
Term = tuple[Any, str]  # an operand, and the letters of its axes, all different


def einsum(subscripts: str, *operands: Any) -> Any:
    """`einsum("ij,jk->ik", a, b)`: NumPy's notation, with implicit output, repeated letters (diagonals) and `...`.

    Operands are multiplied in pairs, the cheapest pair first; where a letter is summed, as a matrix product. Axes of size 1
    broadcast. Raises ValueError if the subscripts do not fit the operands, and TypeError if the operands are not all
    float32 or all float64.
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: the subscripts should be a str, got {type(subscripts).__name__}")
    shapes = [shape_of("einsum", x) for x in operands]
    operands = _of_one_precision(operands)
    inputs, output = _parse(subscripts, shapes)
    terms = [_diagonal(x, letters) for x, letters in zip(operands, inputs, strict=True)]
    _check_sizes(terms, shapes)
    for chosen in _order(tuple([letters for _, letters in terms]), output, tuple([x.shape for x, _ in terms])):
        taken = [terms.pop(i) for i in sorted(chosen, reverse=True)][::-1]
        while len(taken) > 1:
            first, second, *taken = taken
            others = {letter for _, letters in (*terms, *taken) for letter in letters}
            taken.append(_contracted(first, second, others.union(output)))
        terms += taken
    (x, letters), = terms
    x, letters = _summed(x, letters, set(output))
    return _arranged(x, letters, output)


def _contracted(a: Term, b: Term, kept: set[str]) -> Term:
    """The product of two operands, summed over all letters but those in `kept`."""
    x, of_x = _without_ones(*a, b[1])
    y, of_y = _without_ones(*b, of_x)
    x, of_x = _summed(x, of_x, kept.union(of_y))
    y, of_y = _summed(y, of_y, kept.union(of_x))
    size = dict(zip(of_x + of_y, (*x.shape, *y.shape), strict=True))
    both = [letter for letter in of_x if letter in of_y]
    batch, inner = [c for c in both if c in kept], [c for c in both if c not in kept]
    left, right = [c for c in of_x if c not in both], [c for c in of_y if c not in both]

    def many(letters: Sequence[str]) -> int:
        return math.prod([size[c] for c in letters])

    letters = "".join([*batch, *left, *right])
    if inner and many(left) * many(right) != 1:
        x = reshape(_arranged(x, of_x, [*batch, *left, *inner]), (many(batch), many(left), many(inner)))
        y = reshape(_arranged(y, of_y, [*batch, *inner, *right]), (many(batch), many(inner), many(right)))
        if not batch:
            x, y = reshape(x, x.shape[1:]), reshape(y, y.shape[1:])
        return reshape(matmul(x, y), tuple([size[c] for c in letters])), letters
    order = [*batch, *left, *right, *inner]
    product = mul(_spread(x, of_x, order), _spread(y, of_y, order))
    return (sum_over(product, tuple(range(len(letters), len(order)))) if inner else product), letters


def _summed(x: Any, letters: str, kept: set[str]) -> Term:
    """x summed over all its letters but those in `kept`."""
    axes = tuple([axis for axis, letter in enumerate(letters) if letter not in kept])
    return (sum_over(x, axes), "".join([c for c in letters if c in kept])) if axes else (x, letters)


def _without_ones(x: Any, letters: str, others: str) -> Term:
    """x without those axes of size 1 that another operand has too. (Its axis may be longer, and then x broadcasts.)"""
    kept = [axis for axis, letter in enumerate(letters) if x.shape[axis] != 1 or letter not in others]
    if len(kept) == len(letters):
        return x, letters
    return reshape(x, tuple([x.shape[axis] for axis in kept])), "".join([letters[axis] for axis in kept])


def _arranged(x: Any, letters: str, order: Sequence[str]) -> Any:
    """x with its axes in that order."""
    axes = tuple([letters.index(letter) for letter in order])
    return x if axes == tuple(range(len(letters))) else transpose(x, axes)


def _spread(x: Any, letters: str, order: Sequence[str]) -> Any:
    """x with an axis for every letter in `order`; the axis has size 1 if x does not have the letter."""
    x = _arranged(x, letters, [letter for letter in order if letter in letters])
    sizes = iter(x.shape)
    shape = tuple([next(sizes) if letter in letters else 1 for letter in order])
    return x if shape == x.shape else reshape(x, shape)


def _diagonal(x: Any, letters: str) -> Term:
    """x with the axes of each repeated letter replaced by their diagonal, as the last axis. In an n x n matrix in row-major
    order, the diagonal is every (n + 1)-th element."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first, second = letters.index(letter), letters.rindex(letter)
            rest = [axis for axis in range(len(letters)) if axis not in (first, second)]
            n = x.shape[first]
            if n != x.shape[second]:
                raise ValueError(f"einsum: the axes named {letter!r} of an operand of shape {x.shape} differ in size")
            shape = tuple([x.shape[axis] for axis in rest])
            x = getitem(reshape(transpose(x, (*rest, first, second)), (*shape, n * n)), (..., slice(None, None, n + 1)))
            letters = "".join([letters[axis] for axis in rest]) + letter
    return x, letters


@lru_cache(1000)
def _order(inputs: tuple[str, ...], output: str, shapes: tuple[Shape, ...]) -> list[tuple[int, ...]]:
    """Which operands are multiplied in each step, by their positions in a list. They are then removed from the list, and
    their product is appended to it."""
    like = [np.broadcast_to(np.float32(), shape) for shape in shapes]  # (the path depends on the shapes alone)
    _, *path = np.einsum_path(",".join(inputs) + "->" + output, *like, optimize="greedy")[0]
    return [chosen for chosen in path if len(chosen) > 1]


def _of_one_precision(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands in one precision, float32 or float64. A mask counts as 0 and 1, as in every op."""
    floats = list(dict.fromkeys([x.dtype for x in operands if x.dtype in FLOATS]))
    for dtype in [x.dtype for x in operands if x.dtype not in FLOATS]:
        if dtype.kind != "b" or not floats:
            raise TypeError(f"einsum: needs float32 or float64, got {dtype}; convert with tinygan.astype first")
    if len(floats) > 1:
        raise TypeError(f"einsum: inputs of different precision ({', '.join(map(str, floats))}); convert one with "
                        "tinygan.astype first")
    return tuple([x if x.dtype in FLOATS else astype(x, floats[0]) for x in operands])


def _check_sizes(terms: Sequence[Term], shapes: Sequence[Shape]) -> None:
    """Raise ValueError, which quotes the shapes, if a letter stands for axes of two different sizes, neither of them 1."""
    sizes: dict[str, int] = {}
    for x, letters in terms:
        for letter, n in zip(letters, x.shape, strict=True):
            if sizes.setdefault(letter, n) == 1:
                sizes[letter] = n
            elif n not in (1, sizes[letter]):
                raise ValueError(f"einsum: inputs of shape {', '.join(map(str, shapes))}: the axes named {letter!r} have "
                                 f"sizes {sizes[letter]} and {n}")


def _parse(subscripts: str, shapes: list[Shape]) -> tuple[list[str], str]:
    """The letters of every operand and of the output, with letters in place of `...`."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    for letters in (*inputs, output):
        if "." in letters.replace("...", "", 1):
            raise ValueError(f"einsum: {letters!r} in {subscripts!r} should hold three dots (an ellipsis) at most once")
    if len(inputs) != len(shapes):
        raise ValueError(f"einsum: {subscripts!r} names {len(inputs)} operands, got {len(shapes)}")
    spare = [letter for letter in LETTERS if letter not in subscripts]
    longest = 0
    for i, (letters, shape) in enumerate(zip(inputs, shapes, strict=True)):
        before, dots, after = letters.partition("...")
        hidden = len(shape) - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            raise ValueError(f"einsum: {letters!r} does not fit an operand of shape {shape}")
        inputs[i] = before + "".join(_hidden(spare, hidden)) + after
        longest = max(longest, hidden)
    if arrow:
        before, dots, after = output.partition("...")
        output = before + ("".join(_hidden(spare, longest)) if dots else "") + after
    else:  # the letters of the ellipsis, then those that occur once, in alphabetical order
        together = "".join(inputs)
        ellipsis = "".join(_hidden(spare, longest))
        output = ellipsis + "".join(sorted(c for c in set(together) if together.count(c) == 1 and c not in ellipsis))
    unknown = [c for c in output if c not in "".join(inputs)]
    if unknown or len(set(output)) != len(output) or not all(c in LETTERS for c in "".join(inputs)):
        raise ValueError(f"einsum: {subscripts!r} is not a valid expression")
    return inputs, output


def _hidden(spare: list[str], count: int) -> list[str]:
    """The letters for the `count` axes of an ellipsis. They are taken from the end, so that operands align at the right."""
    return spare[len(spare) - count:]
