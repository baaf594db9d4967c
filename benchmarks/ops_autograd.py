"""Small ops in HIPS autograd. It records ops only while it computes a gradient, so `make_vjp` is timed as its forward."""
from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp
from ops_subject import OpsSubject, Pull


class Library:
    add, mul, matmul, tanh, transpose = (
        staticmethod(op) for op in (anp.add, anp.multiply, anp.matmul, anp.tanh, anp.transpose)
    )

    @staticmethod
    def relu(x: Any) -> Any:
        return anp.maximum(x, 0)

    @staticmethod
    def sum_rows(x: Any) -> Any:
        return anp.sum(x, axis=0, keepdims=True)

    @staticmethod
    def tail(x: Any) -> Any:
        return x[1:]

    @staticmethod
    def mean_square(x: Any) -> Any:
        return anp.mean(x * x)


class Subject(OpsSubject):
    library = Library

    def array(self, value: np.ndarray) -> np.ndarray:
        return value

    def constant(self, value: np.ndarray) -> np.ndarray:
        return value

    def forward(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
        return self.pullback(function, inputs)[0]

    def pullback(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, Pull]:
        if len(inputs) == 1:
            pull, result = make_vjp(lambda x: function([x]), 0)(inputs[0])
            return result, lambda seed: [pull(seed)]
        pull, result = make_vjp(lambda *arrays: function(list(arrays)), tuple(range(len(inputs))))(*inputs)
        return result, lambda seed: list(pull(seed))

    def blas(self) -> list[str]:
        return []
