"""A small GAN of every variant for the tests of exports, with weights that make its outputs neither tiny nor saturated."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.runs.players import players
from tinygan.runs.variants import VARIANTS

SMALL: dict[str, list[tuple[dict[str, Any], tuple[int, int, int]]]] = {
    "vanilla": [({}, (1, 28, 28))], "minibatch": [({"kernels": 9}, (1, 28, 28))],
    "unrolled": [({"networks": "dense"}, (1, 28, 28)), ({"networks": "dcgan"}, (1, 28, 28))],
    "dcgan": [({"width": 8}, (1, 28, 28)), ({"width": 4}, (3, 64, 64))],
    "infogan": [({"width": 8, "hidden": 32, "categorical": "10,3"}, (1, 28, 28))],
    "discogan": [({"width": 8}, (4, 28, 28)), ({"width": 8, "reconstruction": "one-sided"}, (4, 28, 28))],
    "conditional": [({"width": 8, "classes": 10, "conditioning": name}, (1, 28, 28)) for name in ("input", "projection")],
    "wgan_gp": [({"width": 8}, (1, 28, 28))], "modern": [({"width": 8, "ema": 0.9}, (1, 28, 28)), ({"width": 4}, (1, 64, 64))],
}
GANS = [(name, i) for name, cases in SMALL.items() for i in range(len(cases))]


def small_gan(name: str, case: int) -> Any:
    """The GAN of a variant, an average of its generator's weights included."""
    options, shape = SMALL[name][case]
    settings = VARIANTS[name].settings(**{"ema": 0.9, **options})
    gan = VARIANTS[name].build(settings, shape)
    for seed, network in enumerate((gan.generator, gan.discriminator, gan.sampled_generator)):  # type: ignore[attr-defined]
        give_weights(network, seed)
    return gan


def give_weights(network: nn.Module, seed: int) -> None:
    """Weights and statistics with which numbers keep their size from layer to layer."""
    draw = np.random.default_rng(seed)
    fans = {f"{path}.weight": layer.weight.shape[0] * math.prod(layer.weight.shape[2:]) / 4  # (the stride is 2 by 2)
            for path, layer in network.named_modules() if isinstance(layer, nn.ConvTranspose2d)}
    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.dtype.kind != "f":
            continue
        if path.endswith("running_var") or (len(tensor.shape) == 1 and path.endswith("weight")):
            tensor.assign(draw.uniform(0.5, 1.5, tensor.shape))
        else:
            tensor.assign(draw.standard_normal(tensor.shape) * math.sqrt(1.5 / fans.get(path, math.prod(tensor.shape[1:]) if len(tensor.shape) > 1 else 10)))


def networks_of(gan: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """(name, the network's player, a batch of five for each input) of every network of the GAN."""
    draw = np.random.default_rng(1)
    for name, player in players(gan).items():
        inputs = [draw.uniform(-1, 1, (5, *x.shape[1:])).astype(np.float32) for x in player.inputs.values()]
        if name == "generator" and "z" in player.inputs:
            inputs = [gan.latent(5)]
        yield name, player, [np.eye(x.shape[1], dtype=np.float32)[[0, 3, 2, 9, 3]] if key == "classes" else x
                             for key, x in zip(player.inputs, inputs, strict=True)]


def in_tinygan(network: nn.Module, inputs: list[Any]) -> np.ndarray[Any, Any]:
    """What the network makes of the inputs in evaluation mode, without the rounding of tiled convolutions."""
    with nn.mode(network, training=False), tg.conv_algorithm("direct"):
        return np.array(network(*inputs))
