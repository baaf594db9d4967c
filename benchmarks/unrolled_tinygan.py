"""The unrolled step on the ring in tinygan. A variant is made of words. `recorded` keeps the graphs of all steps,
`rematerialized` one graph at a time. The step is captured, as in training, unless the variant is `eager` too."""
import numpy as np
from kernels_loaded import THREADS
from models import Dense, Layers, Weights
from subject_tinygan import training_step
from unrolled_ring import ADAM, DISCRIMINATOR, GENERATOR, LATENT, RingStart

import tinygan as tg
from tinygan import nn


def network(layers: Layers, weights: Weights) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in layers:
        assert isinstance(layer, Dense)
        modules += [nn.ReLU()] * bool(modules) + [nn.Dense(layer.inputs, layer.outputs)]
    built = nn.Sequential(*modules).initialize(tg.random.Key(0)).astype(next(iter(weights.values())).dtype)
    # Activations are layers too, so the layers with weights are 0, 2 and 4.
    return built.load_state_dict({f"{2 * int(name[0])}{name[1:]}": value for name, value in weights.items()})


class Subject:
    def __init__(self, start: RingStart, steps: int, variant: str, threads: int) -> None:
        self.real = start.real
        optimisers = {
            name: tg.optim.Adam(ADAM.lr, betas=ADAM.betas, eps=ADAM.eps) for name in ("g_optimizer", "d_optimizer")
        }  # fmt: skip
        self.gan = tg.gans.UnrolledGAN(
            network(GENERATOR, start.generator), network(DISCRIMINATOR, start.discriminator), LATENT, unroll_steps=steps,
            rematerialize="recorded" not in variant.split(), key=tg.random.Key(0), **optimisers,
        )  # fmt: skip
        self.train = training_step(self.gan, variant)

    def step(self) -> None:
        self.train(self.real)

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Make one update of the discriminator. Returns the generator's loss and gradients after it."""
        _, gradients, *_ = self.gan.d_gradients(self.real, d_noise)
        self.gan.d_optimizer.step(gradients)
        loss, found = self.gan.unrolled_gradients(self.real, g_noise)
        return loss.item(), [np.array(g) for g in found]

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights: (generator, discriminator)."""
        generator, discriminator = (
            {str(i): p.numpy().copy() for i, p in enumerate(player.parameters())}
            for player in (self.gan.generator, self.gan.discriminator)
        )
        return generator, discriminator

    def threads(self) -> int:
        return THREADS

    def blas(self) -> list[str]:
        return ["tinygan's own kernels"]
