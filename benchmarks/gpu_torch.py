"""PyTorch's training steps on a GPU, like those of `subject_torch.py` and `unrolled_torch.py` on the CPU.

A variant is made of words. `eager`: without compilation. `graphed`: the whole step in one CUDA graph, which also draws the
noise. `compiled`: torch.compile of both losses, forward and backward, with mode="max-autotune". `channels-last`, `joined`
and, on the ring, `foreach` can be added. The optimisers are always fused.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import subject_torch
import torch
import unrolled_torch
from models import Gradients, Model, Start, Weights
from torch import Tensor
from torch_networks import to_numpy
from unrolled_ring import ADAM, RingStart

WARM_UP = 3  # steps before a graph is recorded: they make the optimiser's state, and cuDNN chooses its algorithms


@contextmanager
def precision(name: str) -> Iterator[None]:
    """ "float32" or "tf32", for products and convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Graphed:
    """Records a subject's step as a CUDA graph. A new batch is copied to the memory that the graph reads, as a user would
    do."""

    real: Tensor
    batch: Tensor
    graph: Any = None

    def record(self, step: Any) -> None:
        self.batch = self.real.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        self.graph = graph

    def replay(self) -> None:
        self.real.copy_(self.batch)
        self.graph.replay()


class Subject(subject_torch.Subject, Graphed):
    def __init__(self, model: Model, start: Start, variant: str, device: str) -> None:
        self.words = variant.split()
        known = " ".join(word for word in self.words if word in ("channels-last", "joined"))
        with torch.device(device):
            super().__init__(model, start, known, torch.get_num_threads())
        if "graphed" in self.words:
            adam = model.optimiser
            self.g_optimiser, self.d_optimiser = (
                torch.optim.Adam(network.parameters(), adam.lr, adam.betas, adam.eps, fused=True, capturable=True)
                for network in (self.generator, self.discriminator)
            )
        if "compiled" in self.words:
            torch._dynamo.reset()
            self.d_loss, self.g_loss = (torch.compile(f, mode="max-autotune") for f in (self._d_loss, self._g_loss))

    def step(self) -> None:
        if "graphed" not in self.words:
            if "compiled" in self.words:
                torch.compiler.cudagraph_mark_step_begin()
            super().step()
            return
        if self.graph is None:
            self.record(super().step)
        self.replay()


class Ring(unrolled_torch.Subject, Graphed):
    """The unrolled GAN. The number of updates is counted in Python or, if a graph is recorded, on the GPU. So nothing is
    read from the device."""

    def __init__(self, start: RingStart, steps: int, variant: str, device: str) -> None:
        self.words = variant.split()
        with torch.device(device):
            super().__init__(start, steps, "foreach" if "foreach" in self.words else "eager", torch.get_num_threads())
        self.count = 0
        if "graphed" in self.words:
            self.g_optimiser, self.d_optimiser = (
                torch.optim.Adam(parameters, ADAM.lr, ADAM.betas, ADAM.eps, fused=True, capturable=True)
                for parameters in (self.g, self.d)
            )

    def _updates(self) -> float | Tensor:
        if "graphed" in self.words:
            return self.d_optimiser.state[self.d[0]]["step"].double()
        return float(self.count)

    def _update_d(self, z: Tensor) -> None:
        super()._update_d(z)
        self.count += 1

    def step(self) -> None:
        if "graphed" not in self.words:
            super().step()
            return
        if self.graph is None:
            self.record(super().step)
        self.replay()

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        """The generator's loss and gradients, after one update of the discriminator."""
        loss, found = super().gradients(d_noise, g_noise)
        return Gradients(0.0, loss, {}, {str(i): g for i, g in enumerate(found)})

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights: (generator, discriminator)."""
        generator, discriminator = (to_numpy((str(i), p) for i, p in enumerate(player)) for player in (self.g, self.d))
        return generator, discriminator
