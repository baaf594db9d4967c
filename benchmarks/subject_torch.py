"""The GAN's step as a PyTorch user who cares about speed writes it.

A variant is made of words. `eager` or `compiled`: torch.compile of both losses, forward and backward. `channels-last`:
images and the weights of convolutions have this layout. `joined`: the discriminator gets real and generated examples as one
batch (the loss is the same if no layer couples the examples of a batch). Adam is always fused. In D's update there is no
graph through the generator, and in G's update D is frozen. The running statistics of batch norm are updated only in the
update of their own network, as in tinygan. Plain PyTorch would update them in every pass, which is more work.
"""
import numpy as np
import torch
from models import Gradients, Model, Start, Weights, running_statistics
from torch import Tensor
from torch.nn.functional import softplus
from torch_networks import build, frozen, statistics_still, to_numpy

# Torch would import these at its first step or compilation. Imported here, their memory does not count for the step.
import torch._dynamo  # isort: skip
import torch._inductor.compile_fx  # isort: skip


class Subject:
    def __init__(self, model: Model, start: Start, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        words = variant.split()
        layout = {"memory_format": torch.channels_last if "channels-last" in words else torch.contiguous_format}
        self.shape = start.d_noise.shape
        self.generator = build(model.generator, start.generator).to(**layout)
        self.discriminator = build(model.discriminator, start.discriminator).to(**layout)
        self.real = torch.tensor(start.real).contiguous(**layout)
        adam = model.optimiser
        self.g_optimiser, self.d_optimiser = (
            torch.optim.Adam(network.parameters(), adam.lr, adam.betas, adam.eps, fused=True)
            for network in (self.generator, self.discriminator)
        )
        self.joined = "joined" in words
        self.d_loss, self.g_loss = self._d_loss, self._g_loss
        if "compiled" in words:
            self.d_loss, self.g_loss = torch.compile(self._d_loss), torch.compile(self._g_loss)

    def _d_loss(self, real: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.generator(z)
        if self.joined:
            real_logits, fake_logits = self.discriminator(torch.cat([real, fake])).split(len(real))
        else:
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def _g_loss(self, z: Tensor) -> Tensor:
        return softplus(-self.discriminator(self.generator(z))).mean()

    def _d_backward(self, real: Tensor, z: Tensor) -> Tensor:
        self.d_optimiser.zero_grad(set_to_none=True)
        with statistics_still(self.generator):
            loss = self.d_loss(real, z)
        loss.backward()
        return loss

    def _g_backward(self, z: Tensor) -> Tensor:
        self.g_optimiser.zero_grad(set_to_none=True)
        with frozen(self.discriminator):
            loss = self.g_loss(z)
            loss.backward()
        return loss

    def step(self) -> None:
        self._d_backward(self.real, torch.randn(self.shape, device=self.real.device))
        self.d_optimiser.step()
        self._g_backward(torch.randn(self.shape, device=self.real.device))
        self.g_optimiser.step()

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        def found(loss: Tensor, network: torch.nn.Module) -> tuple[float, Weights]:
            return loss.item(), to_numpy((name, p.grad) for name, p in network.named_parameters())

        device = self.real.device
        d_loss, d_gradients = found(self._d_backward(self.real, torch.tensor(d_noise, device=device)), self.discriminator)
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

    def threads(self) -> int:
        return torch.get_num_threads()

    def blas(self) -> list[str]:
        library = "mkl" if torch.backends.mkl.is_available() else "built-in BLAS"
        return [f"{library}, kernels for {torch.backends.cpu.get_cpu_capability()} (torch)"]
