"""The convolution layers that are benchmarked, and how to run and time the three maps of a layer in a framework."""
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from models import Conv, dcgan28, dcgan64

MAPS = ("forward", "input gradient", "weight gradient")


@dataclass(frozen=True)
class Layer:
    """A convolution of square images. Its three maps are the forward pass and the two gradients. The transposed convolution
    has the same maps: its forward pass is this one's gradient with respect to the input, and vice versa."""

    name: str
    conv: Conv
    size: int  # of the input, pixels
    groups: int = 1

    @property
    def output(self) -> int:
        return (self.size + 2 * self.conv.padding - self.conv.kernel) // self.conv.stride + 1

    def describe(self) -> str:
        c = self.conv
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return (f"{self.name}: {c.inputs} x {self.size}² to {c.outputs} x {self.output}², {c.kernel}x{c.kernel}/{c.stride}"
                f"{groups}")

    def gflop(self, batch: int) -> float:
        """The billions of operations in any of the three maps, by the definition: one multiplication and one addition for
        each weight that is applied."""
        c = self.conv
        return 2e-9 * batch * self.output**2 * c.outputs * c.inputs / self.groups * c.kernel**2

    def inputs(self, batch: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images (N, C, H, W), weight (K, C / groups, k, k) and the output's gradient (N, K, OH, OW); float32 values."""
        c, rng = self.conv, np.random.default_rng(0)
        shapes = (
            (batch, c.inputs, self.size, self.size), (c.outputs, c.inputs // self.groups, c.kernel, c.kernel),
            (batch, c.outputs, self.output, self.output),
        )  # fmt: skip
        x, weight, gradient = (rng.standard_normal(shape, np.float32).astype(dtype) for shape in shapes)
        return x, weight, gradient


def of_discriminator(name: str, layers: tuple[Any, ...], size: int) -> list[Layer]:
    found = []
    for conv in layers:
        if isinstance(conv, Conv):
            found.append(Layer(f"{name} {len(found) + 1}", conv, size))
            size = found[-1].output
    return found


PAPER = tuple(Conv(inputs, outputs, 5, 2, 2) for inputs, outputs in ((3, 64), (64, 128), (128, 256), (256, 512)))
GROUPED = ((96, 32, 6), (96, 32, 12), (96, 28, 12), (192, 16, 12), (192, 14, 24), (192, 8, 24), (192, 4, 12), (192, 4, 24),
           (96, 16, 96))  # channels, size, groups
LAYERS = {
    "dcgan28": of_discriminator("dcgan28", dcgan28().discriminator, 28),
    # The generator's convolutions are the transposes of the discriminator's, except for its first one.
    "dcgan64": [*of_discriminator("dcgan64", dcgan64().discriminator, 64), Layer("dcgan64 latent", Conv(512, 100, 4), 4)],
    "dcgan5x5": of_discriminator("dcgan5x5", PAPER, 64),
    # 3x3, as in the residual blocks of R3GAN (Huang et al. 2024), and depthwise.
    "grouped": [Layer(f"grouped {number}", Conv(channels, channels, 3, 1, 1), size, groups)
                for number, (channels, size, groups) in enumerate(GROUPED, 1)],
}


class ConvSubject:
    """The base class for a framework, which implements `maps`, `array` and `numpy`."""

    def __init__(self, variant: str, threads: int) -> None:
        self.variant, self.count = variant, threads
        self._ready: dict[tuple[str, int], dict[str, Callable[[], Any]]] = {}

    def array(self, value: np.ndarray) -> Any:
        """The value as the framework's array, in the variant's layout."""
        raise NotImplementedError

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def maps(self, layer: Layer, x: Any, weight: Any, gradient: Any) -> dict[str, Callable[[], Any]]:
        """By the names in MAPS: y = conv(x, weight), and the gradients of sum(gradient * y) with respect to x and weight."""
        raise NotImplementedError

    def results(self, layer: Layer, batch: int, dtype: str = "float32") -> dict[str, np.ndarray]:
        """The results of the three maps, in C order."""
        maps = self.maps(layer, *map(self.array, layer.inputs(batch, dtype)))
        return {name: np.array(self.numpy(function()), order="C") for name, function in maps.items()}

    def milliseconds(self, layer: Layer, batch: int, name: str, seconds: float) -> float:
        """The median time of a call. As many calls are made as fit into `seconds`, at least three, after an untimed one."""
        if (layer.name, batch) not in self._ready:
            self._ready[layer.name, batch] = self.maps(layer, *map(self.array, layer.inputs(batch, "float32")))
        function = self._ready[layer.name, batch][name]
        function()
        times: list[float] = []
        while len(times) < 3 or sum(times) < 1e3 * seconds:
            begin = time.perf_counter_ns()
            function()
            times.append((time.perf_counter_ns() - begin) / 1e6)
        return float(np.median(times))

    def threads(self) -> int:
        return self.count
