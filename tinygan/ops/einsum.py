"""Einstein summation. The gradient of an operand is again an einsum: of the output's gradient and the other operands."""
from __future__ import annotations

__all__ = ["einsum"]

from functools import cache
from typing import Any

import numpy as np

from tinygan.graph import Op
from tinygan.ops.indexing import getitem
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import broadcast_to
from tinygan.tensor import shape_of

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Shape = tuple[int, ...]


def einsum(subscripts: str, *operands: Any) -> Any:
    """`einsum("ij,jk->ik", a, b)`: NumPy's notation, with implicit output, repeated letters (diagonals) and `...`.

    Raises ValueError if the subscripts do not fit the operands.
    """
    inputs, output = _parse(subscripts, [shape_of("einsum", x) for x in operands])
    tensors = list(operands)
    for i, letters in enumerate(inputs):
        tensors[i], letters = _take_diagonals(tensors[i], letters)
        # A letter that stands nowhere else is summed at once, so that the gradient finds every letter in its sources.
        elsewhere = output + "".join(inputs[:i] + inputs[i + 1:])
        alone = tuple([axis for axis, letter in enumerate(letters) if letter not in elsewhere])
        if alone:
            tensors[i] = sum_over(tensors[i], alone)
        inputs[i] = "".join([letter for letter in letters if letter in elsewhere])
    return _einsum(*tensors, inputs=tuple(inputs), output=output, shapes=tuple([x.shape for x in tensors]))


def _forward(B: Any, *arrays: Any, inputs: tuple[str, ...], output: str, shapes: tuple[Shape, ...]) -> Any:
    y = B.xp.einsum(",".join(inputs) + "->" + output, *arrays, optimize=True)
    return y.copy() if len(arrays) == 1 else y  # of one operand it may be a view


def _rule(needs: Any, g: Any, *arrays: Any, inputs: tuple[str, ...], output: str, shapes: tuple[Shape, ...]) -> Any:
    gradients: list[Any] = [None] * len(inputs)
    for i, need in enumerate(needs):
        if need:
            names = (output, *inputs[:i], *inputs[i + 1:])
            sources = (g, *arrays[:i], *arrays[i + 1:])
            part = _einsum(*sources, inputs=names, output=inputs[i], shapes=tuple([x.shape for x in sources]))
            # Where the other operands had size 1 along an axis of this one, every element gets the same gradient.
            gradients[i] = broadcast_to(part, np.broadcast_shapes(part.shape, shapes[i]))
    return gradients


@cache
def _op(count: int) -> Op:
    """The op for that many operands: it saves them all."""
    einsum_op = Op("einsum", _forward, saves=tuple(range(count)), broadcasts=True)
    einsum_op.vjp(_rule)
    return einsum_op


def _einsum(*operands: Any, **static: Any) -> Any:
    return _op(len(operands))(*operands, **static)


def _take_diagonals(x: Any, letters: str) -> tuple[Any, str]:
    """x with a repeated letter's axes replaced by their diagonal."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first, second = letters.index(letter), letters.rindex(letter)
            if x.shape[first] != x.shape[second]:
                raise ValueError(f"einsum: the axes named {letter!r} of an operand of shape {x.shape} differ in size")
            steps = np.arange(x.shape[first])
            index: list[Any] = [slice(None)] * len(letters)
            index[first] = steps
            index[second] = steps
            x = getitem(x, tuple(index))
            rest = letters[:first] + letters[first + 1:second] + letters[second + 1:]
            # NumPy puts the new axis where the two were if they are neighbours, and in front otherwise.
            letters = letters[:second] + letters[second + 1:] if second == first + 1 else letter + rest
    return x, letters


def _parse(subscripts: str, shapes: list[Shape]) -> tuple[list[str], str]:
    """The letters of every operand and of the output, with those that `...` stands for spelled out."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    for letters in (*inputs, output):
        if "." in letters.replace("...", "", 1):
            raise ValueError(f"einsum: {letters!r} in {subscripts!r} should hold three dots (an ellipsis) once at most")
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
    else:  # the letters that occur once, in alphabetical order, behind those of the ellipsis
        together = "".join(inputs)
        ellipsis = "".join(_hidden(spare, longest))
        output = ellipsis + "".join(sorted(c for c in set(together) if together.count(c) == 1 and c not in ellipsis))
    unknown = [c for c in output if c not in "".join(inputs)]
    if unknown or len(set(output)) != len(output) or not all(c in LETTERS for c in "".join(inputs)):
        raise ValueError(f"einsum: {subscripts!r} is not a valid expression")
    return inputs, output


def _hidden(spare: list[str], count: int) -> list[str]:
    """The letters of `count` axes behind an ellipsis; taken from the end, so that operands align at the right."""
    return spare[len(spare) - count:]
