"""How to time the small ops of a framework."""
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ops import CASES, CHAIN, Case

Pull = Callable[[Any], list[Any]]  # from the gradient of a result to those of all inputs
Step = Callable[[], tuple[Any, list[Any]]]  # computes a result and the gradients of all inputs
BEFORE_A_REPLAY = 2  # calls: the second one is recorded


class OpsSubject:
    """The base class for a framework, which implements `library`, `array` and `pullback`.

    `pullback(function, inputs)` computes and records function(*inputs). It returns the result, and a function from the
    gradient of the result to the gradients of all inputs.
    """

    library: Any

    def array(self, value: np.ndarray) -> Any:
        """An input that needs a gradient."""
        raise NotImplementedError

    def constant(self, value: np.ndarray) -> Any:
        """The gradient of a result, for the start of the backward pass."""
        raise NotImplementedError

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def forward(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> Any:
        return function(inputs)

    def pullback(self, function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, Pull]:
        raise NotImplementedError

    def training(self, function: Callable[[list[Any]], Any], inputs: list[Any], seed: Any) -> Step:
        """A function from the first input to the result and the gradients of all inputs. The other inputs stay the same."""
        first, *weights = inputs

        def step(x: Any) -> tuple[Any, list[Any]]:
            result, pull = self.pullback(function, [x, *weights])
            return result, pull(seed)

        return lambda: step(first)

    def threads(self) -> int:
        return self.count

    def __init__(self, variant: str, threads: int) -> None:
        self.variant, self.count = variant, threads

    def values(self, name: str) -> tuple[np.ndarray, list[np.ndarray]]:
        """The result of a case and its gradients. The subjects are compared before they are timed."""
        function, inputs, seed = self._prepare(CASES[name], CHAIN)
        if CASES[name].replayed:
            step = self.training(function, inputs, seed)
            for _ in range(BEFORE_A_REPLAY):
                step()
            result, gradients = step()
        else:
            result, pull = self.pullback(function, inputs)
            gradients = pull(seed)
        return np.array(self.numpy(result)), [np.array(self.numpy(gradient)) for gradient in gradients]

    def microseconds(self, name: str, seconds: float) -> dict[str, float]:
        """Microseconds per op: forward, forward and backward, and both for a single op instead of a chain. A replayed case
        has only the second one."""
        case = CASES[name]
        per_chain = CHAIN if case.chained else 1
        if case.replayed:
            return {"forward_backward": per_call(self.training(*self._prepare(case, 1)), seconds)}
        chain, chain_inputs, chain_seed = self._prepare(case, per_chain)
        single, single_inputs, single_seed = self._prepare(case, 1)

        def backward(function: Any, inputs: list[Any], seed: Any) -> None:
            _, pull = self.pullback(function, inputs)
            pull(seed)

        share = seconds / 3
        return {
            "forward": per_call(lambda: self.forward(chain, chain_inputs), share) / per_chain,
            "forward_backward": per_call(lambda: backward(chain, chain_inputs, chain_seed), share) / per_chain,
            "single": per_call(lambda: backward(single, single_inputs, single_seed), share),
        }

    def _prepare(self, case: Case, n: int) -> tuple[Callable[[list[Any]], Any], list[Any], Any]:
        n = n if case.chained else 1
        inputs = [self.array(value) for value in case.inputs()]

        def function(arrays: list[Any]) -> Any:
            return case.function(self.library, arrays, n)

        shape = self.numpy(function(inputs)).shape
        return function, inputs, self.constant(np.ones(shape, np.float32))


def per_call(function: Callable[[], Any], seconds: float, batches: int = 10) -> float:
    """Microseconds of one call: the mean in each of `batches` batches of calls, then the median of these. All calls together
    take about `seconds`."""
    for _ in range(5):
        function()
    begin = time.perf_counter()
    function()
    once = max(time.perf_counter() - begin, 1e-7)
    calls = max(1, int(seconds / batches / once))
    figures = []
    for _ in range(batches):
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        figures.append((time.perf_counter() - begin) / calls * 1e6)
    return float(np.median(figures))
