"""Layers and games on a device: outputs, gradients and running statistics as on the CPU."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key, KeyStream, use_key

LAYERS = {
    "Dense": (lambda: nn.Dense(6, 3), (4, 6)),
    "Dense without bias, tanh": (lambda: nn.Sequential(nn.Dense(6, 1, bias=False), nn.Tanh()), (4, 6)),
    "Conv2d": (lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2)), (2, 3, 8, 8)),
    "Conv2d in groups": (lambda: nn.Conv2d(4, 6, 3, 1, 1, groups=2), (2, 4, 5, 6)),
    "ConvTranspose2d": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU()), (2, 3, 4, 5)),
    "BatchNorm": (lambda: nn.Sequential(nn.BatchNorm(3), nn.LeakyReLU(0.2)), (4, 3, 5, 2)),
    "Conv2d and BatchNorm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm(4), nn.LeakyReLU(0.2)), (2, 3, 8, 8)),
    "ConvTranspose2d and BatchNorm": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1, bias=False), nn.BatchNorm(4)),
                                      (2, 3, 4, 5)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (4, 6)),
    "GroupNorm and PReLU": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.PReLU(4)), (2, 4, 3, 2)),
    "InstanceNorm2d and SiLU": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.SiLU()), (2, 3, 5, 5)),
    "PixelNorm and GELU": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.PixelNorm(), nn.GELU("tanh")), (2, 3, 5, 5)),
    "MinibatchStd": (lambda: nn.Sequential(nn.MinibatchStd(2), nn.Conv2d(4, 2, 3)), (4, 3, 4, 4)),
    "Conv1d": (lambda: nn.Sequential(nn.ReflectionPad1d(2), nn.Conv1d(3, 4, 3, 2), nn.SiLU(), nn.ConvTranspose1d(4, 2, 4, 2, 1)), (2, 3, 7)),
    "padding and pixel shuffle": (lambda: nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.CircularPad2d(1),
                                                        nn.PixelUnshuffle(2)), (2, 3, 4, 4)),
    "twice and half the size": (lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 4, 3, padding=1),
                                                      nn.Upsample(scale_factor=0.5, mode="bilinear")), (2, 3, 4, 4)),
    "Dropout": (lambda: nn.Dropout(0.4), (4, 6)),
    "MinibatchDiscrimination": (lambda: nn.MinibatchDiscrimination(6, 3, 2), (5, 6)),
    "SpectralNorm": (lambda: nn.SpectralNorm(nn.Conv2d(3, 4, 3)), (2, 3, 5, 5)),
    "pooling and upsampling": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Upsample(2)), (2, 3, 4, 4)),
    "reshaped": (lambda: nn.Sequential(nn.Reshape(3, 2, 2), nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Dense(16, 2)), (4, 12)),
}


def close(there, here, what):
    there, here = tg.to_device(there.array, "cpu"), here.array
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-10 * max(1.0, np.abs(here).max()), err_msg=what)


def looked_at(layer, x, device):
    """(the output, then the gradients by the parameters and by x, and of those gradients' squares once more)."""
    layer = layer.initialize(Key(1)).astype(np.float64).to(device)
    x = tg.Tensor(tg.to_device(x, device), requires_grad=True)
    ends = [*layer.parameters(), x]
    with use_key(Key(3)):
        y = layer(x)
        weights = tg.to_device(Key(4).normal(y.shape, np.float64), device)
        first = tg.grad((y * y * weights).sum(), ends, create_graph=True)
        second = tg.grad(sum((g * g).sum() for g in first), ends)
    return [y, *first, *second], layer.state_dict()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_the_cpu(other_device, name):
    make, shape = LAYERS[name]
    x = Key(2).normal(shape, np.float64)
    there, state = looked_at(make(), x, other_device)
    here, expected = looked_at(make(), x, "cpu")
    for i, (a, b) in enumerate(zip(there, here, strict=True)):
        close(a, b, f"{name}, {i}")
    for key, value in expected.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-10, atol=1e-12, err_msg=key)


def dcgan():
    return tg.gans.dcgan_networks((1, 28, 28), 3, width=2)


def pairs():
    generator = nn.Sequential(nn.Dense(3, 6), nn.BatchNorm(6), nn.ReLU(), nn.Dense(6, 4), nn.Tanh())
    return generator, nn.Sequential(nn.Dense(4, 5), nn.LeakyReLU(0.2), nn.MinibatchDiscrimination(5, 3, 2), nn.Dense(8, 1))


GAMES = {
    "dcgan": lambda: tg.gans.VanillaGAN(*dcgan(), 3, key=Key(0)),
    "pairs": lambda: tg.gans.VanillaGAN(*pairs(), 3, key=Key(0), cost="minimax"),
    "unrolled": lambda: tg.gans.UnrolledGAN(*pairs(), 3, key=Key(0), unroll_steps=2),
    "unrolled, recorded": lambda: tg.gans.UnrolledGAN(*pairs(), 3, key=Key(0), unroll_steps=2, rematerialize=False),
}


def small():
    generator = nn.Sequential(nn.Dense(3, 4 * 4), nn.Reshape(4, 2, 2), nn.BatchNorm(4), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1))
    return generator, nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Dense(16, 1))


PENALTIES = {"r1": 0.5, "gradient-penalty": 10.0, "r2": 1.0}
GAMES |= {cost: lambda cost=cost: tg.gans.VanillaGAN(*small(), 3, key=Key(0), cost=cost, penalties=PENALTIES)
          for cost in tg.gans.COSTS}
GAMES["unrolled, relativistic"] = lambda: tg.gans.UnrolledGAN(*small(), 3, key=Key(0), unroll_steps=2, cost="relativistic",
                                                              penalties=PENALTIES)


def played(name, device):
    """The gradients of both players."""
    gan = GAMES[name]()
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    gan.to(device)
    shape = gan.sample(1).shape[1:]
    real = tg.to_device(Key(5).uniform((4, *shape), -1.0, 1.0, np.float64), device)
    z = tg.to_device(Key(6).normal((4, 3), np.float64), device)
    with use_key(KeyStream(Key(7))):
        d_loss, by_d, *_ = gan.d_gradients(real, z)
    g_loss, by_g = gan.unrolled_gradients(real, z) if hasattr(gan, "unrolled_gradients") else gan.g_gradients(z, real)
    return [d_loss, *by_d, g_loss, *by_g]


@pytest.mark.parametrize("name", GAMES)
def test_games_have_the_gradients_of_the_cpu(other_device, name):
    for i, (a, b) in enumerate(zip(played(name, other_device), played(name, "cpu"), strict=True)):
        close(a, b, f"{name}, {i}")
