"""tinygan's convolutions. The variant is the algorithm. Images are channels-last in memory, as in tinygan's layers."""
from collections.abc import Callable
from typing import Any

import numpy as np
from conv_layers import ConvSubject, Layer
from kernels_loaded import THREADS

import tinygan as tg
from tinygan.kernels.cpu.runtime.workspace import empty


class Subject(ConvSubject):
    def array(self, value: np.ndarray) -> np.ndarray:
        """Images in memory of the engine, as activations are: channels-last, and at whole cache lines."""
        found = empty((len(value), *value.shape[2:], value.shape[1]), value.dtype)
        found[...] = value.transpose(0, 2, 3, 1)
        return found.transpose(0, 3, 1, 2)

    def maps(self, layer: Layer, x: Any, weight: Any, gradient: Any) -> dict[str, Callable[[], Any]]:
        c = layer.conv
        weight = np.ascontiguousarray(weight)  # as parameters are
        left_over = layer.size - ((layer.output - 1) * c.stride - 2 * c.padding + c.kernel)

        def run(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            def call() -> Any:
                with tg.conv_algorithm(self.variant):
                    return function(*arguments)

            return call

        return {
            "forward": run(tg.conv2d, x, weight, None, c.stride, c.padding, 1, layer.groups),
            "input gradient": run(tg.conv_transpose2d, gradient, weight, None, c.stride, c.padding, left_over, layer.groups),
            "weight gradient": run(tg.conv2d_weight_grad, x, gradient, c.kernel, c.stride, c.padding, 1, layer.groups),
        }

    def threads(self) -> int:
        return THREADS

    def blas(self) -> list[str]:
        return ["tinygan's own kernels"]
