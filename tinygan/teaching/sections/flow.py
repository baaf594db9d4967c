"""Section (b): where gradients flow. Norms and update ratios by layer over time, and how active the units are."""
from __future__ import annotations

__all__ = ["build"]

from typing import Any

import numpy as np

from tinygan.data.files import counted
from tinygan.runs.report import gives_probabilities
from tinygan.runs.warnings import learning_rates

from ..activity import SATURATED, can_be
from ..arrays import numbers
from ..records import Absent, Run
from ..updates import PLAYERS
from .findings import Curves, findings, unequal, won
from .names import activation_names, kinds
from .positions import Position, moment, positions, short

_CURVES = ("gradient_norm", "update_ratio", "weight_norm")
_ACTIVITY = ("dead", "saturated", "std")
_DATA_IMAGES = 1000  # from which the share of the data's saturated values is counted
NEARLY_NONE = 0.02  # the share of images about which a discriminator that has won may be wrong
RULE_OF_THUMB = 1e-3
"""The update-to-weight ratio that practice aims at: much less learns slowly, much more is unstable."""


def build(run: Run) -> dict[str, Any] | Absent:
    """The section's JSON. Curves are lists (layers) of lists (records); None where nothing was measured."""
    found = positions(run, updates=True)
    if isinstance(found, Absent):
        return found
    section: dict[str, Any] = {"steps": [position.step for position in found],
                               "epochs": numbers([position.epoch for position in found]), "players": {}, "activations": {}}
    told, curves = [], {}
    for letter in reversed(PLAYERS):
        player = PLAYERS[letter]
        about = found[-1].about[player]
        arrays = {name: np.stack([position.arrays[f"{letter}.{name}"] for position in found])
                  for name in (*_CURVES, *_ACTIVITY)}
        for i, name in enumerate(about["activations"]):
            for kind, possible in can_be(name.split()[-1]).items():
                if not possible:
                    arrays[kind][:, i] = np.nan
        network = getattr(run.gan, player)
        names, activations = kinds(network), activation_names(network, about["activations"])
        section["players"][player] = {"layers": about["parameters"], "kinds": names,
                                      **{name: numbers(arrays[name].T) for name in _CURVES}}
        section["activations"][player] = {"layers": activations,
                                          **{name: numbers(arrays[name].T) for name in _ACTIVITY}}
        shapes = dict(network.named_parameters())
        matrix = np.array([shapes[name].ndim > 1 for name in about["parameters"]], bool)
        curves[player] = Curves(player, about["parameters"], activations, arrays, matrix,
                                _saturated_share(run) if letter == "g" else None, names)
        told += findings(found, curves[player])
    if _has_won(run):
        told = list(map(won, told))
    told = unequal(found, curves, learning_rates(run.gan)) + told
    section["findings"] = told
    return {**section, "text": _text(found, curves, told), "alt": _alt(found, curves)}


def _has_won(run: Run) -> bool:
    """Whether the discriminator was right about nearly every image in the last epoch, or in all steps if there are no
    epochs."""
    if not gives_probabilities(run.gan) or not hasattr(run, "history"):  # (a loop of a program's own has no history)
        return False
    last = slice(-(run.steps_per_epoch or run.step), None)
    d_real, d_fake = (float(np.mean(run.history[name][last])) for name in ("d_real", "d_fake"))
    return d_real > 1 - NEARLY_NONE and d_fake < NEARLY_NONE


def _saturated_share(run: Run) -> float | None:
    """The share of the data's values that are beyond `SATURATED`: so many of a generator's have to be, too."""
    data = run.batch(_DATA_IMAGES)
    return None if isinstance(data, Absent) else float((np.abs(data) > SATURATED).mean())


def _latest(curves: Curves, name: str) -> Any:
    """The last curve values that were measured, of the layers that are matrices."""
    values = curves.arrays[name][:, curves.matrix]
    made = np.flatnonzero(~np.isnan(values).all(1))
    return values[made[-1]] if len(made) else np.full(max(values.shape[1], 1), np.nan)


def _text(found: list[Position], curves: dict[str, Curves], told: list[dict[str, Any]]) -> str:
    """What to see in this run, in at most 60 words."""
    if np.isnan(_latest(curves["generator"], "gradient_norm")).all():
        start = (f"At {moment(found[-1])}: how active both networks are. Train with --record, or give the run's data, to "
                 "see its gradients too.")
    else:
        latest = {player: _latest(one, "gradient_norm") for player, one in curves.items()}
        spans = [f"the {player}'s {'' if k else 'weights get gradients '}of {short(np.nanmin(sizes))} to "
                 f"{short(np.nanmax(sizes))}" for k, (player, sizes) in enumerate(latest.items())]
        ratios = {player: float(np.nanmedian(_latest(one, "update_ratio"))) for player, one in curves.items()}
        start = (f"At {moment(found[-1])}, {' and '.join(spans)}. A step moves a layer's weights by "
                 f"{short(ratios['generator'])} (generator) and {short(ratios['discriminator'])} (discriminator) of their "
                 f"length, in the median layer, biases aside (rule of thumb: {RULE_OF_THUMB:g}).")
    count = len(told)
    return start + (" No gradient vanishes or explodes; no units are dead or at their limits." if not count else
                    f" {'One finding' if count == 1 else f'{count} findings'} below.")


def _alt(found: list[Position], curves: dict[str, Curves]) -> str:
    parts = []
    for player, one in curves.items():
        names = [name for name, matrix in zip(one.layers, one.matrix, strict=True) if matrix]
        sizes, ratios = _latest(one, "gradient_norm"), _latest(one, "update_ratio")
        told = "; ".join(f"{name.removesuffix('.weight')} {short(size)}, {short(ratio)}"
                         for name, size, ratio in zip(names, sizes, ratios, strict=False))
        parts.append(f"{player}: {told}")
    return (f"Curves by layer over {counted(len(found), 'record')}. At the last one, the gradient's norm and the "
            f"update-to-weight ratio of each layer: {'. '.join(parts)}.")
