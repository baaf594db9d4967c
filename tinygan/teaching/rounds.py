"""One round of Algorithm 1 of a GAN, traced: the updates of the discriminator and of the generator.

The GAN makes a real step, as in training, on few images; `unchanged` puts its state back afterwards.
"""
from __future__ import annotations

__all__ = ["BATCH", "Round", "trace_round"]

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygan.context import override
from tinygan.gans import UnrolledGAN
from tinygan.runs.labels import takes_labels

from .tape import Entry, Pass, Trace, trace
from .updates import unchanged

BATCH = 2
"""How many images a traced update has: few, so that a reader can follow their numbers."""

_AHEAD = 1
"""How many of an unrolled GAN's updates ahead are traced: they are all alike, and each has hundreds of ops."""

_UPDATES = {"d_gradients": "discriminator", "g_gradients": "generator", "unrolled_gradients": "generator"}
"""The methods in which a player's gradients are computed, and whose they are."""


@dataclass
class Round:
    """One update of a player, traced."""

    player: str
    """"discriminator" or "generator"."""
    traced: Trace
    networks: dict[str, Any]
    note: str = ""
    """What is different from the training's update, in words; "" if nothing is."""

    @property
    def name(self) -> str:
        """ "update of D" or "update of G"."""
        return f"update of {self.player[0].upper()}"

    @property
    def back(self) -> Pass:
        """The last pass back: it computes the player's gradients."""
        return self.traced.passes[-1]

    @property
    def leaves(self) -> list[tuple[str, str, bool]]:
        """For every parameter of both networks: its path, its player, and whether this update computes its gradient."""
        filled = {entry.name for entry in self.traced if entry.kind == "parameter" and entry.id in self.back.gradients}
        return [(f"{player}.{path}", player, f"{player}.{path}" in filled)
                for player, network in self.networks.items() for path, _ in network.named_parameters()]

    def made(self) -> list[Entry]:
        """What the generator made that others use: its images."""
        inside = {entry.id for entry in self.traced if entry.place.player == "generator"}
        used = {id_ for entry in self.traced.used() if entry.id not in inside for id_ in entry.parents}
        return [entry for entry in self.traced if entry.kind == "op" and entry.id in inside & used]

    def taken_as_constants(self) -> list[Entry]:
        """The generated images that `grad` cannot go back through, as in the update of D."""
        return [entry for entry in self.made() if entry.constant]


def trace_round(gan: Any, real: Any, labels: Any = None) -> list[Round]:
    """One round of training on the first images of `real` (N, ...), N at least `BATCH`, traced: the update of the
    discriminator (one, if `d_steps` are more) and that of the generator, in the GAN's order. Nothing of the GAN changes.

    labels: those of the images, for a GAN whose `step` takes labels. Raises ValueError for too few images.
    """
    if len(real) < BATCH:
        raise ValueError(f"trace_round: expected at least {BATCH} images, got {len(real)}")
    batch = np.array(real[:BATCH])
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    rounds: list[Round] = []
    changed = _shortened(gan)
    changed |= {name: _traced(gan, name, networks, rounds, _note(gan, changed, player))
                for name, player in _UPDATES.items() if hasattr(gan, name)}
    with unchanged(gan), override(recording=True), _attributes(gan, changed):
        gan.step(batch, *([np.array(labels[:BATCH])] if takes_labels(gan) else []))
    return rounds


def _shortened(gan: Any) -> dict[str, Any]:
    """The attributes of the GAN that are others while it is traced."""
    found: dict[str, Any] = {}
    if gan.d_steps > 1:
        found["d_steps"] = 1
    if isinstance(gan, UnrolledGAN):
        found["rematerialize"] = False  # all in one graph
        if gan.unroll_steps > _AHEAD:
            found |= {"unroll_steps": _AHEAD, "truncate": None if gan.truncate is None else min(gan.truncate, _AHEAD)}
    return found


def _note(gan: Any, changed: dict[str, Any], player: str) -> str:
    notes = []
    if "d_steps" in changed and player == "discriminator":
        notes.append(f"The training makes {gan.d_steps} such updates in each round; this is one of them.")
    if "unroll_steps" in changed and player == "generator":
        notes.append(f"The training looks {gan.unroll_steps} updates ahead; here it is {_AHEAD}.")
    return " ".join(notes)


@contextmanager
def _attributes(gan: Any, values: dict[str, Any]) -> Iterator[None]:
    """In the body, the object has other values for these attributes."""
    before = {name: gan.__dict__[name] for name in values if name in gan.__dict__}
    gan.__dict__.update(values)
    try:
        yield
    finally:
        for name in values:
            del gan.__dict__[name]
        gan.__dict__.update(before)


def _traced(gan: Any, name: str, networks: dict[str, Any], rounds: list[Round], note: str) -> Any:
    """The GAN's method of that name, which adds a Round to the list at every call."""
    method = getattr(gan, name)

    def update(*arguments: Any) -> Any:
        traced = trace(method, *arguments, networks=networks)
        rounds.append(Round(_UPDATES[name], traced, networks, note))
        return traced.result

    return update

