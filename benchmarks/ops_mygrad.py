"""Small ops in MyGrad. It protects recorded arrays from writing, which costs time; the variant `unguarded` turns that
off."""
from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from ops_subject import OpsSubject, Pull


class Library:
    add, mul, matmul, tanh, transpose = (
        staticmethod(op) for op in (mg.add, mg.multiply, mg.matmul, mg.tanh, mg.transpose)
    )

    @staticmethod
    def relu(x: Any) -> Any:
        return mg.nnet.relu(x)

    @staticmethod
    def sum_rows(x: Any) -> Any:
        return mg.sum(x, axis=0, keepdims=True)

    @staticmethod
    def tail(x: Any) -> Any:
        return x[1:]

    @staticmethod
    def mean_square(x: Any) -> Any:
        return mg.mean(x * x)


class Subject(OpsSubject):
    library = Library

    def __init__(self, variant: str, threads: int) -> None:
        super().__init__(variant, threads)
        if variant == "unguarded":
            mg.turn_memory_guarding_off()

    def array(self, value: np.ndarray) -> mg.Tensor:
        return mg.tensor(value)

    def constant(self, value: np.ndarray) -> np.ndarray:
        return value

    def pullback(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, Pull]:
        result = function(inputs)

        def pull(seed: np.ndarray) -> list[Any]:
            result.backward(seed)
            return [array.grad for array in inputs]

        return result, pull

    def blas(self) -> list[str]:
        return []
