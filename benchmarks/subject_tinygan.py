"""The GAN's step as users of tinygan have it. A variant is `captured`, as training does by itself: `tg.capture(gan.step)`,
recorded once and replayed. Or it is `eager`: `gan.step(real)`, which runs in Python every time."""
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from kernels_loaded import THREADS
from models import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    Gradients,
    Layer,
    Layers,
    LeakyReLU,
    Model,
    ReLU,
    Reshape,
    Start,
    Tanh,
    Weights,
    running_statistics,
)

import tinygan as tg
from tinygan import nn
from tinygan.backends import backend_of
from tinygan.gans import penalties


def build(layers: Layers) -> nn.Sequential:
    def module(layer: Layer) -> nn.Module:
        match layer:
            case Dense(inputs, outputs, bias):
                return nn.Dense(inputs, outputs, bias)
            case ConvTranspose(inputs, outputs, kernel, stride, padding, bias):
                return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias)
            case Conv(inputs, outputs, kernel, stride, padding, bias, groups):
                return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
            case BatchNorm(channels, eps, momentum):
                return nn.BatchNorm(channels, eps=eps, momentum=momentum)
            case ReLU():
                return nn.ReLU()
            case Reshape(shape):
                return nn.Reshape(*shape)
            case Flatten():
                return nn.Flatten()
            case LeakyReLU(slope):
                return nn.LeakyReLU(slope)
            case Tanh():
                return nn.Tanh()
        raise ValueError(f"subject_tinygan: no layer for {layer}")

    return nn.Sequential(*map(module, layers))


def players(model: Model) -> tuple[nn.Sequential, nn.Sequential]:
    """(generator, discriminator). If the model has the name of tinygan's own networks, they are those, so that users'
    training is measured."""
    if model.own is None:
        return build(model.generator), build(model.discriminator)
    networks: Callable[..., tuple[nn.Sequential, nn.Sequential]] = getattr(tg.gans, model.own)
    return networks(model.image_shape, model.latent_dim, model.width)


def start_from(network: nn.Sequential, weights: Weights) -> nn.Sequential:
    """The same network with these parameters, in their dtype. It must have exactly these parameters."""
    network.initialize(tg.random.Key(0)).astype(next(iter(weights.values())).dtype)
    buffers = {name: buffer.numpy() for name, buffer in network.named_buffers()}
    return network.load_state_dict({**buffers, **weights})


def training_step(gan: Any, variant: str) -> Callable[[Any], Any]:
    """The step of a variant."""
    return gan.step if "eager" in variant.split() else tg.capture(gan.step)


class Subject:
    def __init__(self, model: Model, start: Start, variant: str, threads: int) -> None:
        self.real, self.shares = start.real, start.shares
        adam = model.optimiser
        generator, discriminator = players(model)
        self.gan = tg.gans.VanillaGAN(
            start_from(generator, start.generator),
            start_from(discriminator, start.discriminator),
            latent_dim=model.latent_dim,
            cost=model.cost,
            penalties=dict(model.penalties),
            g_optimizer=tg.optim.Adam(adam.lr, betas=adam.betas, eps=adam.eps),
            d_optimizer=tg.optim.Adam(adam.lr, betas=adam.betas, eps=adam.eps),
            key=tg.random.Key(0),
        )
        self.train = training_step(self.gan, variant)

    def step(self) -> None:
        self.train(self.real)

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        d_loss, d_gradients, *_ = self.with_shares(lambda: self.gan.d_gradients(self.real, d_noise))
        g_loss, g_gradients, *_ = self.gan.g_gradients(g_noise, self.real)
        d_names, g_names = (
            [name for name, _ in network.named_parameters()] for network in (self.gan.discriminator, self.gan.generator)
        )
        return Gradients(
            float(d_loss.item()),
            float(g_loss.item()),
            {name: np.array(value) for name, value in zip(d_names, d_gradients, strict=True)},
            {name: np.array(value) for name, value in zip(g_names, g_gradients, strict=True)},
            running_statistics(self.gan.generator.state_dict(), self.gan.discriminator.state_dict()),
        )

    def with_shares(self, call: Callable[[], Any]) -> Any:
        """The result of a call in which a gradient penalty takes the given shares, instead of drawing them."""
        drawing = penalties.next_key
        penalties.next_key = lambda: SimpleNamespace(uniform=lambda *_, **__: self.shares)
        try:
            return call()
        finally:
            penalties.next_key = drawing

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights: (generator, discriminator)."""
        generator, discriminator = (
            {name: parameter.numpy().copy() for name, parameter in network.named_parameters()}
            for network in (self.gan.generator, self.gan.discriminator)
        )
        return generator, discriminator

    def second_moments(self) -> tuple[Weights, Weights]:
        """Copies of Adam's second moments: (generator, discriminator)."""
        generator, discriminator = (
            {name: np.array(backend_of(moment).to_numpy(moment))
             for (name, _), moment in zip(network.named_parameters(), optimizer.state().slots["v"], strict=True)}
            for network, optimizer in (
                (self.gan.generator, self.gan.g_optimizer), (self.gan.discriminator, self.gan.d_optimizer)
            )
        )  # fmt: skip
        return generator, discriminator

    def threads(self) -> int:
        return THREADS

    def blas(self) -> list[str]:
        return ["tinygan's own kernels"]
