"""Small ops in PyTorch, eager."""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ops_subject import OpsSubject, Pull


class Library:
    add, mul, matmul, relu, tanh = (
        staticmethod(op) for op in (torch.add, torch.mul, torch.matmul, torch.relu, torch.tanh)
    )

    @staticmethod
    def transpose(x: Any) -> Any:
        return x.t()

    @staticmethod
    def sum_rows(x: Any) -> Any:
        return torch.sum(x, 0, keepdim=True)

    @staticmethod
    def tail(x: Any) -> Any:
        return x[1:]

    @staticmethod
    def mean_square(x: Any) -> Any:
        return torch.mean(x * x)


class Subject(OpsSubject):
    library = Library

    def __init__(self, variant: str, threads: int) -> None:
        super().__init__(variant, threads)
        torch.set_num_threads(threads)

    def array(self, value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value, requires_grad=True)

    def constant(self, value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value)

    def numpy(self, value: Any) -> np.ndarray:
        return value.detach().numpy()

    def pullback(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, Pull]:
        result = function(inputs)
        return result, lambda seed: list(torch.autograd.grad(result, inputs, seed))

    def blas(self) -> list[str]:
        return [f"kernels for {torch.backends.cpu.get_cpu_capability()} (torch)"]
