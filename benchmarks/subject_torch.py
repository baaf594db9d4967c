"""The GAN's step as a PyTorch user who cares about speed writes it.

A variant is made of words. `eager` or `compiled`: torch.compile of both losses, forward and backward. `channels-last`:
images and the weights of convolutions have this layout. `joined`: the discriminator gets real and generated examples as one
batch (the loss is the same if no layer couples the examples of a batch). `functional`: the gradients that are penalised are
taken by `torch.func.grad`, which can be compiled; otherwise by `torch.autograd.grad` with `create_graph`, as nearly all
programs do, which does not compile: "double backward" is not supported. Adam is always fused. In D's update there is no
graph through the generator, and in G's update D is frozen. The running statistics of batch norm are updated only in the
update of their own network, as in tinygan. Plain PyTorch would update them in every pass, which is more work.
"""
from collections.abc import Callable

import numpy as np
import torch
from models import Gradients, Model, Start, Weights, running_statistics
from torch import Tensor
from torch.nn.functional import softplus
from torch_networks import build, frozen, statistics_still, to_numpy

# Torch would import these at its first step or compilation. Imported here, their memory does not count for the step.
import torch._dynamo  # isort: skip
import torch._inductor.compile_fx  # isort: skip

D_COSTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of the scores of real and of generated examples
    "non-saturating": lambda r, f: softplus(-r).mean() + softplus(f).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: softplus(f - r).mean(),
}
G_COSTS: dict[str, Callable[[Tensor | None, Tensor], Tensor]] = {
    "non-saturating": lambda r, f: softplus(-f).mean(),
    "wasserstein": lambda r, f: -f.mean(),
    "relativistic": lambda r, f: softplus(r - f).mean(),
}


class Subject:
    def __init__(self, model: Model, start: Start, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        words = variant.split()
        layout = {"memory_format": torch.channels_last if "channels-last" in words else torch.contiguous_format}
        self.shape = start.d_noise.shape
        self.cost, self.penalties = model.cost, dict(model.penalties)
        self.generator = build(model.generator, start.generator).to(**layout)
        self.discriminator = build(model.discriminator, start.discriminator).to(**layout)
        self.real = torch.tensor(start.real).contiguous(**layout)
        self.shares = torch.tensor(start.shares)
        adam = model.optimiser
        self.g_optimiser, self.d_optimiser = (
            torch.optim.Adam(network.parameters(), adam.lr, adam.betas, adam.eps, fused=True)
            for network in (self.generator, self.discriminator)
        )
        self.joined, self.functional = "joined" in words, "functional" in words
        self.d_loss, self.g_loss = self._d_loss, self._g_loss
        if "compiled" in words:
            self.d_loss, self.g_loss = torch.compile(self._d_loss), torch.compile(self._g_loss)

    def _d_loss(self, real: Tensor, z: Tensor, shares: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.generator(z)
        if "r1" in self.penalties:
            return self._penalised_at_both(real, fake)
        if self.joined:
            r, f = self.discriminator(torch.cat([real, fake])).split(len(real))
        else:
            r, f = self.discriminator(real), self.discriminator(fake)
        loss = D_COSTS[self.cost](r, f)
        if self.penalties:
            _, slopes = self._with_slopes(shares * real + (1 - shares) * fake)
            distances = slopes.square().sum((1, 2, 3)).sqrt() - 1
            loss = loss + self.penalties["gradient-penalty"] * distances.square().mean()
        return loss

    def _penalised_at_both(self, real: Tensor, fake: Tensor) -> Tensor:
        """The loss with R1 and R2."""
        if self.joined:
            scores, slopes = self._with_slopes(torch.cat([real, fake]))
            (r, f), both = scores.split(len(real)), slopes.split(len(real))
        else:
            (r, of_real), (f, of_fake) = self._with_slopes(real), self._with_slopes(fake)
            both = (of_real, of_fake)
        loss = D_COSTS[self.cost](r, f)
        for name, slopes in zip(("r1", "r2"), both, strict=True):
            loss = loss + self.penalties[name] / 2 * slopes.square().sum((1, 2, 3)).mean()
        return loss

    def _with_slopes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of images, and the gradient of each score by its image, with a graph."""
        if self.functional:
            def total(images: Tensor) -> tuple[Tensor, Tensor]:
                scores = self.discriminator(images)
                return scores.sum(), scores

            slopes, scores = torch.func.grad(total, has_aux=True)(images)
        else:
            images = images.detach().requires_grad_()
            scores = self.discriminator(images)
            slopes, = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return scores, slopes

    def _g_loss(self, z: Tensor, real: Tensor) -> Tensor:
        r = None
        if self.cost == "relativistic":
            with torch.no_grad():
                r = self.discriminator(real)
        return G_COSTS[self.cost](r, self.discriminator(self.generator(z)))

    def _d_backward(self, real: Tensor, z: Tensor, shares: Tensor) -> Tensor:
        self.d_optimiser.zero_grad(set_to_none=True)
        with statistics_still(self.generator):
            loss = self.d_loss(real, z, shares)
        loss.backward()
        return loss

    def _g_backward(self, z: Tensor) -> Tensor:
        self.g_optimiser.zero_grad(set_to_none=True)
        with frozen(self.discriminator):
            loss = self.g_loss(z, self.real)
            loss.backward()
        return loss

    def step(self) -> None:
        shares = torch.rand_like(self.shares) if "gradient-penalty" in self.penalties else self.shares
        self._d_backward(self.real, torch.randn(self.shape, device=self.real.device), shares)
        self.d_optimiser.step()
        self._g_backward(torch.randn(self.shape, device=self.real.device))
        self.g_optimiser.step()

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        def found(loss: Tensor, network: torch.nn.Module) -> tuple[float, Weights]:
            return loss.item(), to_numpy((name, p.grad) for name, p in network.named_parameters())

        device = self.real.device
        z = torch.tensor(d_noise, device=device)
        d_loss, d_gradients = found(self._d_backward(self.real, z, self.shares), self.discriminator)
        g_loss, g_gradients = found(self._g_backward(torch.tensor(g_noise, device=device)), self.generator)
        return Gradients(
            d_loss,
            g_loss,
            d_gradients,
            g_gradients,
            running_statistics(to_numpy(self.generator.named_buffers()), to_numpy(self.discriminator.named_buffers())),
        )

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights: (generator, discriminator)."""
        return to_numpy(self.generator.named_parameters()), to_numpy(self.discriminator.named_parameters())

    def second_moments(self) -> tuple[Weights, Weights]:
        """Copies of Adam's second moments: (generator, discriminator)."""
        generator, discriminator = (
            to_numpy((name, optimiser.state[p]["exp_avg_sq"]) for name, p in network.named_parameters())
            for network, optimiser in ((self.generator, self.g_optimiser), (self.discriminator, self.d_optimiser))
        )
        return generator, discriminator

    def threads(self) -> int:
        return torch.get_num_threads()

    def blas(self) -> list[str]:
        library = "mkl" if torch.backends.mkl.is_available() else "built-in BLAS"
        return [f"{library}, kernels for {torch.backends.cpu.get_cpu_capability()} (torch)"]
