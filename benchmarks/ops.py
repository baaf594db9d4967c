"""The small ops whose overhead is measured. Each is written once, with functions of `Library`, which every framework has."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

CHAIN = 20  # ops in a chain


class Library(Protocol):
    """The functions that a framework provides, for its own float32 arrays. All of them are recorded for the gradient."""

    def add(self, x: Any, y: Any) -> Any: ...
    def mul(self, x: Any, y: Any) -> Any: ...
    def matmul(self, x: Any, y: Any) -> Any: ...
    def relu(self, x: Any) -> Any: ...
    def tanh(self, x: Any) -> Any: ...
    def sum_rows(self, x: Any) -> Any: ...
    def tail(self, x: Any) -> Any: ...
    def mean_square(self, x: Any) -> Any: ...
    def transpose(self, x: Any) -> Any: ...


@dataclass(frozen=True)
class Case:
    """`function(library, inputs, n)` computes n ops in a chain: each takes the result of the one before. Every input needs a
    gradient. An op that cannot be chained (the small network) is a chain of one.

    replayed: the other inputs than the first are weights, which stay where they are. tinygan captures the function that
    computes the result and all gradients from the first input, and replays it.
    """

    shapes: tuple[tuple[int, ...], ...]
    function: Callable[[Library, list[Any], int], Any]
    chained: bool = True
    scale: float = 1.0
    replayed: bool = False

    def inputs(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [(self.scale * rng.standard_normal(shape)).astype(np.float32) for shape in self.shapes]


def repeat(op: Callable[..., Any]) -> Callable[[Library, list[Any], int], Any]:
    """A function that calls op(library, result so far, the other inputs) n times."""

    def chain(library: Library, inputs: list[Any], n: int) -> Any:
        result, *others = inputs
        for _ in range(n):
            result = op(library, result, *others)
        return result

    return chain


def network(library: Library, inputs: list[Any], n: int) -> Any:
    """The mean square of a network's output, with two hidden layers and a batch of 32."""
    x, *weights = inputs
    for index in range(0, len(weights), 2):
        x = library.add(library.matmul(x, library.transpose(weights[index])), weights[index + 1])
        if index + 2 < len(weights):
            x = library.tanh(x)
    return library.mean_square(x)


SQUARE = (32, 32)
NETWORK = ((32, 64), (64, 64), (64,), (64, 64), (64,), (10, 64), (10,))  # a batch, then weights and biases
CASES = {
    "add": Case((SQUARE, SQUARE), repeat(lambda library, x, y: library.add(x, y))),
    "add, broadcast (32, 32) + (32,)": Case((SQUARE, (32,)), repeat(lambda library, x, y: library.add(x, y))),
    "mul": Case((SQUARE, SQUARE), repeat(lambda library, x, y: library.mul(x, y))),
    "matmul 8x8": Case(((8, 8), (8, 8)), repeat(lambda library, x, y: library.matmul(x, y)), scale=0.3),
    "matmul 32x32": Case((SQUARE, SQUARE), repeat(lambda library, x, y: library.matmul(x, y)), scale=0.15),
    "relu": Case((SQUARE,), repeat(lambda library, x: library.relu(x))),
    "tanh": Case((SQUARE,), repeat(lambda library, x: library.tanh(x))),
    "sum over rows, kept": Case((SQUARE,), repeat(lambda library, x: library.sum_rows(x))),
    "getitem [1:]": Case(((64, 32),), repeat(lambda library, x: library.tail(x))),
    "network 64-64-64-10": Case(NETWORK, network, chained=False, scale=0.2),
    "network 64-64-64-10, replayed": Case(NETWORK, network, chained=False, scale=0.2, replayed=True),
}
