"""The unrolled step on the ring in PyTorch, fully recorded. `eager` updates array by array, `foreach` all arrays at once.

(torch.compile cannot differentiate a backward pass again.)
"""
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, softplus
from unrolled_ring import ADAM, LATENT, RingStart


def apply(parameters: list[Tensor], x: Tensor) -> Tensor:
    """Dense layers with ReLU between; parameters: weight, bias, weight, ..."""
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in layers[:-1]:
        x = torch.relu(linear(x, weight, bias))
    return linear(x, *layers[-1])


class Subject:
    def __init__(self, start: RingStart, steps: int, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.steps, self.foreach = steps, variant == "foreach"
        self.real, self.shape = torch.tensor(start.real), (len(start.real), LATENT)
        self.g = [torch.tensor(value, requires_grad=True) for value in start.generator.values()]
        self.d = [torch.tensor(value, requires_grad=True) for value in start.discriminator.values()]
        self.g_optimiser, self.d_optimiser = (
            torch.optim.Adam(parameters, ADAM.lr, ADAM.betas, ADAM.eps, fused=True) for parameters in (self.g, self.d)
        )

    def _d_loss(self, d: list[Tensor], fake: Tensor) -> Tensor:
        real_logits, fake_logits = apply(d, torch.cat([self.real, fake])).split(len(self.real))
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def _update_d(self, z: Tensor) -> None:
        with torch.no_grad():
            fake = apply(self.g, z)
        for parameter, gradient in zip(self.d, torch.autograd.grad(self._d_loss(self.d, fake), self.d), strict=True):
            parameter.grad = gradient
        self.d_optimiser.step()

    def _g_gradients(self, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        (b1, b2), fake, d = ADAM.betas, apply(self.g, z), self.d
        states = [self.d_optimiser.state[parameter] for parameter in self.d]
        m, v = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        t = self._updates()
        for _ in range(self.steps):
            gradients = torch.autograd.grad(self._d_loss(d, fake), d, create_graph=True)
            t += 1
            rate, root = ADAM.lr / (1 - b1**t), (1 - b2**t) ** 0.5
            if self.foreach:
                m = torch._foreach_add(torch._foreach_mul(m, b1), torch._foreach_mul(gradients, 1 - b1))
                squares = torch._foreach_mul(gradients, gradients)
                v = torch._foreach_add(torch._foreach_mul(v, b2), torch._foreach_mul(squares, 1 - b2))
                below = torch._foreach_add(torch._foreach_div(torch._foreach_sqrt(v), root), ADAM.eps)
                d = torch._foreach_sub(d, torch._foreach_mul(torch._foreach_div(m, below), rate))
            else:
                m = [b1 * mi + (1 - b1) * g for mi, g in zip(m, gradients, strict=True)]
                v = [b2 * vi + (1 - b2) * g * g for vi, g in zip(v, gradients, strict=True)]
                d = [p - rate * mi / (vi.sqrt() / root + ADAM.eps) for p, mi, vi in zip(d, m, v, strict=True)]
        loss = -softplus(apply(d, fake)).mean()
        return loss, torch.autograd.grad(loss, self.g)

    def _updates(self) -> float | Tensor:
        """The number of the discriminator's updates so far."""
        return float(self.d_optimiser.state[self.d[0]]["step"])

    def _noise(self) -> Tensor:
        return torch.randn(self.shape, dtype=self.real.dtype, device=self.real.device)

    def step(self) -> None:
        self._update_d(self._noise())
        _, gradients = self._g_gradients(self._noise())
        for parameter, gradient in zip(self.g, gradients, strict=True):
            parameter.grad = gradient
        self.g_optimiser.step()

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Make one update of the discriminator. Returns the generator's loss and gradients after it."""
        self._update_d(torch.tensor(d_noise, device=self.real.device))
        loss, found = self._g_gradients(torch.tensor(g_noise, device=self.real.device))
        return loss.item(), [g.numpy(force=True).copy() for g in found]

    def threads(self) -> int:
        return torch.get_num_threads()

    def blas(self) -> list[str]:
        return ["mkl (torch)"]
