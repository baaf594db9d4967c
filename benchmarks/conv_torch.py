"""PyTorch's convolutions. The variant is the layout of images and weights."""
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from conv_layers import ConvSubject, Layer


class Subject(ConvSubject):
    def __init__(self, variant: str, threads: int) -> None:
        super().__init__(variant, threads)
        torch.set_num_threads(threads)
        self.layout = torch.channels_last if variant == "channels-last" else torch.contiguous_format

    def array(self, value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value).contiguous(memory_format=self.layout)

    def numpy(self, value: torch.Tensor) -> np.ndarray:
        return value.numpy()

    def maps(self, layer: Layer, x: Any, weight: Any, gradient: Any) -> dict[str, Callable[[], Any]]:
        c = layer.conv

        def backward(index: int) -> Callable[[], Any]:
            wanted = [index == 0, index == 1, False]
            return lambda: torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [c.stride] * 2, [c.padding] * 2, [1, 1], False, [0, 0], layer.groups, wanted
            )[index]

        return {
            "forward": lambda: torch.conv2d(x, weight, None, c.stride, c.padding, 1, layer.groups),
            "input gradient": backward(0),
            "weight gradient": backward(1),
        }

    def blas(self) -> list[str]:
        return [f"oneDNN, kernels for {torch.backends.cpu.get_cpu_capability()} (torch)"]
