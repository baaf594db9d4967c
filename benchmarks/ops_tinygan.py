"""Small ops in tinygan."""
from collections.abc import Callable
from typing import Any

import numpy as np
from ops_subject import OpsSubject, Pull, Step

import tinygan as tg


class Library:
    add, mul, matmul, relu, tanh, transpose = (
        staticmethod(op) for op in (tg.add, tg.mul, tg.matmul, tg.relu, tg.tanh, tg.transpose)
    )

    @staticmethod
    def sum_rows(x: Any) -> Any:
        return tg.sum(x, axis=0, keepdims=True)

    @staticmethod
    def tail(x: Any) -> Any:
        return x[1:]

    @staticmethod
    def mean_square(x: Any) -> Any:
        return tg.mean(tg.mul(x, x))


class Subject(OpsSubject):
    library = Library

    def array(self, value: np.ndarray) -> tg.Tensor:
        return tg.Tensor(value, requires_grad=True)

    def constant(self, value: np.ndarray) -> np.ndarray:
        return value

    def pullback(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, Pull]:
        result = function(inputs)
        return result, lambda seed: tg.grad(result, inputs, seed)

    def training(self, function: Callable[[list[Any]], Any], inputs: list[Any], seed: Any) -> Step:
        first, *values = inputs
        weights = [tg.Parameter(np.array(value.numpy())) for value in values]

        @tg.capture
        def step(x: Any) -> tuple[Any, list[Any]]:
            arrays = [tg.Tensor(x, requires_grad=True), *weights]
            result = function(arrays)
            return result, tg.grad(result, arrays, seed)

        batch = first.numpy()
        return lambda: step(batch)

    def blas(self) -> list[str]:
        return []
