"""What the checks of the lessons are made of: an exercise, a reader's answer, and the comparison with what is right.

A check is a function of the answer. It returns nothing if the answer is right, and raises `AnswerError` if not. The message
says what was found and what was expected for the inputs of the check. It does not give away the formula that is asked for.
"""
from __future__ import annotations

__all__ = ["Answer", "AnswerError", "Exercise", "array_of", "close", "finite_differences", "function", "listed", "tensor"]

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.tensor import Tensor

Array = npt.NDArray[Any]
Answer = Callable[..., Any]


class AnswerError(Exception):
    """An answer is not right. The message says what was found and what was expected."""


class Exercise(NamedTuple):
    """name: what the answer defines. call: how it is called, such as "slope(x)". check: see the module's text."""

    name: str
    call: str
    check: Callable[[Any], None]


def function(call: str, value: Any) -> Answer:
    """The answer `value` as a function, which is called as `call` says. Raises AnswerError if it cannot be called so."""
    name, _, rest = call.partition("(")
    arguments = rest.removesuffix(")").split(", ")
    if not callable(value):
        raise AnswerError(f"{name} should be a function, {call}. Found {_in_words(value)}.")
    try:
        inspect.signature(value).bind(*arguments)
    except TypeError as error:
        raise AnswerError(f"{name} is called as {call}, with {_count(len(arguments), 'argument')}. It does not take them: "
                    f"{error}.") from None
    except ValueError:  # a function of Python's own, without a signature
        pass
    return value


def array_of(what: str, found: Any) -> Array:
    """What an answer returned, as an array of float64. Raises AnswerError if it is not numbers."""
    if found is None:
        raise AnswerError(f"{what} returned nothing (None). Does the function end with `return`?")
    try:
        return np.array(found.numpy() if isinstance(found, Tensor) else found, dtype=np.float64)
    except (TypeError, ValueError):
        raise AnswerError(f"{what} should be a number, an array or a Tensor. Found {_in_words(found)}.") from None


def close(what: str, found: Any, expected: Any, rtol: float = 1e-4, atol: float = 1e-6, hint: str = "") -> None:
    """Raise AnswerError unless `found` has the shape and the values of `expected`, up to atol + rtol * |largest value|."""
    ours, theirs = array_of("", expected), array_of(what, found)
    more = f" {hint}" if hint else ""
    if ours.shape != theirs.shape:
        raise AnswerError(f"{what} has the shape {theirs.shape}, expected {ours.shape}.{more}")
    difference = np.abs(theirs - ours)
    difference = np.where(np.isnan(difference), np.inf, difference)
    if ours.size and not difference.max() <= atol + rtol * np.abs(ours).max():
        at = np.unravel_index(difference.argmax(), ours.shape)
        place = f" at [{', '.join(map(str, at))}]" if at else ""
        raise AnswerError(f"{what}{place}: found {theirs[at]:.6g}, expected {ours[at]:.6g}.{more}")


def listed(what: str, found: Any, names: Sequence[str]) -> list[Any]:
    """A list or tuple with one entry for each of `names`. Raises AnswerError if it has another length."""
    if not isinstance(found, list | tuple) or len(found) != len(names):
        here = len(found) if isinstance(found, list | tuple) else _in_words(found)
        raise AnswerError(f"{what} should return {_count(len(names), 'value')}: {', '.join(names)}. Found {here}.")
    return list(found)


def tensor(what: str, found: Any) -> Tensor:
    """`found`, if it is a Tensor that is connected to a graph. Raises AnswerError if not."""
    if not isinstance(found, Tensor):
        raise AnswerError(f"{what} should be a Tensor, so that tg.grad can differentiate it. Found {_in_words(found)}.")
    if not found.requires_grad:
        raise AnswerError(f"{what} is a constant to tg.grad. It should be computed with tinygan's ops, outside no_grad.")
    return found


def finite_differences(of: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """The gradient of a function of a float64 array that returns a number, by central differences."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        ahead, behind = at.copy(), at.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (of(ahead) - of(behind)) / (2 * step)
    return gradient


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def _in_words(value: Any) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, bool | int | float | str):
        return repr(value)
    return f"a value of type {type(value).__name__}"
