"""The networks of a run's GAN, each with inputs to try it on, and how they are exported."""
from __future__ import annotations

__all__ = ["FORMATS", "Player", "exported", "files", "player", "players"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan import nn
from tinygan.exporting.onnx_graph import OPSET
from tinygan.random import Key
from tinygan.saving import export_onnx, save_weights, torch_code
from tinygan.tables import lookup

from .errors import RunError
from .labels import takes_labels
from .previews import translates
from .trainable import TrainableGAN

FORMATS = ("onnx", "safetensors")
BOTH = "both"


class Player(NamedTuple):
    """A network. inputs: an example of each input, a batch of two, by name. output: the name of what it makes."""

    network: nn.Module
    inputs: dict[str, Any]
    output: str


def players(gan: TrainableGAN, averaged: bool = True) -> dict[str, Player]:
    """The networks by name: "generator", "discriminator" and, for some GANs, their parts. averaged: as for `sampler`."""
    generator: Any = getattr(gan, "sampled_generator", gan.generator) if averaged else gan.generator
    if translates(gan):
        return _translating(gan, generator)
    z = gan.latent(2, Key(0).fold("export"))
    images = np.random.default_rng(0).uniform(-1, 1, gan.sample(z=z).shape).astype(np.float32)
    judged: dict[str, Any] = {"images": images}
    if takes_labels(gan):
        judged["classes"] = np.eye(gan.classes, dtype=np.float32)[[0, -1]]  # type: ignore[attr-defined]
    found = {"generator": Player(generator, {"z": z}, "images"),
             "discriminator": Player(gan.discriminator, judged, "logits")}
    if hasattr(gan, "codes"):  # an InfoGAN, whose second network reads the codes
        found["q"] = Player(nn.Sequential(gan.trunk, gan.q), {"images": images}, "codes")  # type: ignore[attr-defined]
    return found


def _translating(gan: Any, generator: Any) -> dict[str, Player]:
    """Those of a DiscoGAN: both generators together, pairs -> pairs, and each alone; so for the discriminators."""
    draw = np.random.default_rng(0)
    a, b = (draw.uniform(-1, 1, (2, *shape)).astype(np.float32) for shape in (gan.shape_a, gan.shape_b))
    pairs = np.concatenate([a, b], 1)
    found = {"generator": Player(generator, {"pairs": pairs}, "translations"),
             "g_ab": Player(generator.ab, {"a": a}, "b"), "g_ba": Player(generator.ba, {"b": b}, "a"),
             "discriminator": Player(gan.discriminator, {"pairs": pairs}, "logits")}
    for name, network, images in (("a", gan.discriminator.a, a), ("b", gan.discriminator.b, b)):
        if network is not None:
            found[f"d_{name}"] = Player(network, {name: images}, "logits")
    return found


def player(gan: TrainableGAN, name: str, averaged: bool = True) -> Player:
    """The network of that name. Raises RunError for another name."""
    found = players(gan, averaged)
    try:
        return lookup(found, "--player", "network", name)
    except ValueError as error:
        raise RunError(f"{error}, both") from None


def files(run: Path, name: str, to: Sequence[str]) -> dict[str, tuple[str, Path]]:
    """The format and the file of every network that is exported. to: what `--to` gave, a format and perhaps a file or a
    folder. Raises RunError for another format, and for one file for two networks."""
    kind, *places = to
    if kind not in FORMATS or len(places) > 1:
        raise RunError(f"--to: expected {' or '.join(FORMATS)}, and perhaps a file, got {' '.join(to)}")
    place = Path(places[0]) if places else run
    names = ("generator", "discriminator") if name == BOTH else (name,)
    if place.suffix != f".{kind}":
        if place.suffix and not place.is_dir():
            raise RunError(f"--to {kind} {place}: expected a name that ends in .{kind}, or a folder")
        return {one: (kind, place / f"{one}.{kind}") for one in names}
    if name == BOTH:
        raise RunError(f"--to {kind} {place}: two networks need two files: give a folder")
    return {name: (kind, place)}


def exported(network: Player, name: str, kind: str, path: Path, notes: Mapping[str, str]) -> str:
    """Write the file. Returns what there is to say about it: for safetensors, a program in PyTorch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    examples = network.inputs.values()
    if kind == "onnx":
        try:
            export_onnx(network.network, path, *examples, input_names=list(network.inputs), output_names=[network.output],
                        notes=notes)
        except ImportError as error:
            raise RunError(str(error)) from error
        inputs = ", ".join(f"{name} (N, {', '.join(map(str, x.shape[1:]))})" for name, x in network.inputs.items())
        return f"{path}: {inputs} -> {network.output}, for any number N, opset {OPSET}"
    save_weights(network.network, path)
    return f"# {path}: the weights of the {name}. This program loads them into PyTorch.\n" + torch_code(
        network.network, *examples, name=name, file=str(path))
