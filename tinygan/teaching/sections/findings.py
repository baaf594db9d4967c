"""What the curves of section (b) show, in words: layers that vanish, explode, die or saturate, and since when."""
from __future__ import annotations

__all__ = ["Curves", "findings", "unequal", "won"]

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..activity import SATURATED
from .positions import Position, moment, percent, short

Array = npt.NDArray[Any]

VANISHED = 1e-3
"""A gradient counts as vanished below this share of another one. Gradient descent would then move a layer a thousand times
less than its neighbour: it stands still while the others learn. (Layers of one network differ by 10 to 100 in healthy
runs.)"""

EXPLODED = 1e2
"""A gradient counts as exploding above this multiple of its median over the first steps: in a healthy run it stays within a
factor of about 10 of that."""

FIRST_STEPS = 16
"""The steps whose median gradient is the reference for explosions: before them, nothing has had the time to grow."""

STANDS_STILL = 1e-6
"""An update smaller than this share of the weights: a thousand of them move a layer by 0.1%, and float32 begins to round
them off (its numbers are 6e-8 apart)."""

UNEQUAL = 10.0
"""A step that moves one player's weights so many times as far as the other's: one runs ahead, and the game is no longer one
between equals."""

MOSTLY = 0.5
"""The share of saturated outputs that is worth a word: the layer passes on less than half of its gradient."""

DEAD = 0.1
"""The share of dead units that is worth a word. A healthy layer has nearly none, and they do not come back by themselves,
because no gradient passes through them."""

_VERDICTS = {
    "vanishing gradients": "Bad: it hardly learns while this lasts.",
    "stands still": "Bad: it learns nothing while this lasts.",
    "not finite": "Bad: after such a step the weights are lost.",
    "vanishing gradient": "A bad sign: this layer hardly learns, unless its optimiser makes up for it.",
    "exploding gradient": "A bad sign: such steps can undo what was learnt.",
    "dead units": "A bad sign: no gradient passes through them, so they learn nothing.",
    "saturated": "A bad sign: hardly any gradient passes through them.",
}
"""Whether a finding is bad, and why."""
_AHEAD = {"generator": ", if the samples become alike: it changes faster than the discriminator can follow",
          "discriminator": ", if it is right about nearly every image: the generator cannot follow"}
"""When it is a bad sign that a player runs ahead, and why."""
_LIMITS = {
    "vanishing gradients": f"below {short(VANISHED)}", "vanishing gradient": f"below {short(VANISHED)}",
    "stands still": f"below {short(STANDS_STILL)}", "exploding gradient": f"more than {short(EXPLODED)} times",
    "runs ahead": f"more than {short(UNEQUAL)} times as far",
    "dead units": f"more than {percent(DEAD)}", "saturated": f"more than {percent(MOSTLY)}",
}
"""What was true at every record of a finding, beside the number of its last record."""
_AS_MANY = 0.05  # more saturated outputs than the data have saturated values are no alarm yet


class Curves(NamedTuple):
    """The curves of one player: arrays (records, layers). layers, activations: the names without the player's. matrix:
    which of the layers are matrices or kernels of convolutions, (layers,). own: the share of the data's values that are
    beyond `SATURATED`, for the end of a generator; None if it is not known. kinds: what the layers are, by path."""

    player: str
    layers: list[str]
    activations: list[str]
    arrays: dict[str, Array]
    matrix: Array
    own: float | None = None
    kinds: Mapping[str, str] = MappingProxyType({})


def findings(moments: Sequence[Position], curves: Curves) -> list[dict[str, Any]]:
    """All findings about one player: {"layer", "player", "what", "since_epoch", "sentence", "verdict"}. since_epoch is
    the epoch in which it began, or None if there are no epochs. verdict: whether it is bad. What lasts to the end of the
    run comes first."""
    found = [*_whole(moments, curves), *_gradients(moments, curves), *_activations(moments, curves)]
    return sorted(found, key=lambda finding: not finding.pop("lasts"))


def unequal(moments: Sequence[Position], curves: Mapping[str, Curves], rates: tuple[float | None, float | None],
            ) -> list[dict[str, Any]]:
    """The finding that one player's steps are much longer than the other's. rates: the learning rates of the generator and
    of the discriminator, where they are known."""
    lengths = {}
    for player, one in curves.items():
        ratios = one.arrays["update_ratio"][:, one.matrix]
        known = ~np.isnan(ratios).all(1) if ratios.size else np.zeros(len(moments), bool)
        lengths[player] = np.full(len(moments), np.nan)
        lengths[player][known] = np.nanmedian(ratios[known], 1)
    found = []
    told = "" if None in rates else f" The learning rates are {rates[0]:g} (generator) and {rates[1]:g} (discriminator)."
    for ahead, behind in (("generator", "discriminator"), ("discriminator", "generator")):
        share = lengths[ahead] / np.where(lengths[behind] > 0, lengths[behind], np.nan)
        verdict = f"A bad sign{_AHEAD[ahead]}.{told}"
        found += _stretch(moments, curves[ahead], "", "runs ahead", share > UNEQUAL, ~np.isnan(share), [
            f"{ahead}: a step moves its weights {short(ratio)} times as far as the {behind}'s, in the median layer"
            for ratio in share], [verdict] * len(moments))
    for finding in found:
        del finding["lasts"]
    return found


def won(found: dict[str, Any]) -> dict[str, Any]:
    """A finding about a discriminator that is right about nearly every image: that its gradients vanish is no fault of
    its own."""
    if found["player"] == "discriminator" and found["what"] == "vanishing gradients":
        return {**found, "verdict": "It has won: it is right about nearly every image, so there is little left to learn for "
                                    "it. The generator learns hardly anything from it then."}
    return found


def _whole(moments: Sequence[Position], curves: Curves) -> list[dict[str, Any]]:
    """About all layers of the player together."""
    gradients, ratios = (curves.arrays[name] for name in ("gradient_norm", "update_ratio"))
    total, found = np.sqrt(np.square(gradients, dtype=np.float64).sum(1)), []
    made = ~np.isnan(total)  # records without an update, such as the first
    finite = total[np.isfinite(total)]
    if finite.size and finite.max() > 0:
        shares = total / finite.max()
        found += _stretch(moments, curves, "", "vanishing gradients", shares < VANISHED, made, [
            f"{curves.player}: all its gradients together are {short(share)} of what they were at their largest"
            for share in shares])
    if curves.matrix.any():
        largest = np.nan_to_num(ratios[:, curves.matrix], nan=0.0).max(1)
        found += _stretch(moments, curves, "", "stands still", largest < STANDS_STILL, made, [
            f"{curves.player}: a step moves its weights by {short(ratio)} of their length at most" for ratio in largest])
    broken = np.isinf(gradients).any(1)
    return found + _stretch(moments, curves, "", "not finite", broken, np.ones(len(moments), bool),
                            [f"{curves.player}: its gradients are not finite"] * len(moments))


def _gradients(moments: Sequence[Position], curves: Curves) -> list[dict[str, Any]]:
    """About the gradients of single layers."""
    weights = [i for i, matrix in enumerate(curves.matrix) if matrix]
    if not weights:
        return []
    gradients, found = curves.arrays["gradient_norm"][:, weights].astype(np.float64), []
    paths = [curves.layers[i].removesuffix(".weight") for i in weights]
    names = [f"{curves.player}.{path} {curves.kinds.get(path, '')}".rstrip() for path in paths]
    made = ~np.isnan(gradients).all(1)
    early = made & np.array([position.step <= FIRST_STEPS for position in moments])
    strongest = np.nan_to_num(gradients).argmax(1)
    most = gradients[np.arange(len(gradients)), strongest]
    for layer, name in enumerate(names):
        own = gradients[:, layer]
        shares = own / np.where((most > 0) & np.isfinite(most), most, np.nan)  # (infinity by infinity would be a warning)
        usual = float(np.median(own[early])) if early.any() else np.nan
        times = own / (usual if usual > 0 else np.nan)
        found += _stretch(moments, curves, paths[layer], "vanishing gradient", shares < VANISHED, made, [
            f"the gradient of {name} is {short(share)} of that of {names[other]}"
            for share, other in zip(shares, strongest, strict=True)])
        found += _stretch(moments, curves, paths[layer], "exploding gradient", times > EXPLODED, made, [
            f"the gradient of {name} is {short(ratio)} times what it was in the first steps" for ratio in times])
    return found


def _activations(moments: Sequence[Position], curves: Curves) -> list[dict[str, Any]]:
    found, every = [], np.ones(len(moments), bool)
    for i, layer in enumerate(curves.activations):
        dead, saturated = (curves.arrays[kind][:, i] for kind in ("dead", "saturated"))
        own = curves.own if i == len(curves.activations) - 1 else None
        found += _stretch(moments, curves, layer, "dead units", dead > DEAD, every, [
            f"{curves.player}.{layer}: {percent(share)} of its units are 0 for every image" for share in dead])
        found += _stretch(moments, curves, layer, "saturated", saturated > MOSTLY, every, [
            f"{curves.player}.{layer}: {percent(share)} of its outputs are at their limits (beyond {SATURATED})"
            for share in saturated], None if own is None else [_beside_the_data(share, own) for share in saturated])
    return found


def _beside_the_data(share: float, own: float) -> str:
    """The verdict on the saturated outputs of a generator's end: images have extreme values, too."""
    if share <= own + _AS_MANY:
        return f"No alarm: {percent(own)} of the data's values are too."
    return f"{_VERDICTS['saturated']} Only {percent(own)} of the data's values are so extreme."


def _stretch(moments: Sequence[Position], curves: Curves, layer: str, what: str, holds: Any, known: Any,
             sentences: Sequence[str], verdicts: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The finding, if it holds to the end of the run, or else held for at least two records in a row. known: at which
    records it can be said. sentences: what to say, with the numbers of each record, of
    which the last one's are said. verdicts: whether it is bad, likewise
    (default: as for every finding of the kind)."""
    places = np.flatnonzero(known)
    if not places.size:
        return []
    stretches: list[list[int]] = []
    for before, place in zip([-1, *places[:-1]], places, strict=True):
        if holds[place]:
            if before >= 0 and holds[before] and stretches:
                stretches[-1].append(int(place))
            else:
                stretches.append([int(place)])
    if not stretches:
        return []
    lasts = stretches[-1][-1] == places[-1]
    longest = stretches[-1] if lasts else max(stretches, key=len)
    if len(longest) < 2 and not (lasts and len(places) == 1):
        return []
    start, end = longest[0], longest[-1]
    began = moment(moments[start])
    when = f"since {began}" if lasts else f"from {began} to {moment(moments[end])}"
    if lasts and start == places[0]:
        when = "at every record of the run" if len(places) > 1 else f"at {began}"
    epoch = moments[start].epoch
    if what in _LIMITS and len(places) > 1:
        when = f"at {moment(moments[end])}, and {_LIMITS[what]} {when}"
    return [{"layer": layer, "player": curves.player, "what": what, "lasts": lasts, "sentence": f"{sentences[end]} {when}.",
             "verdict": _VERDICTS[what] if verdicts is None else verdicts[end],
             "since_epoch": None if epoch is None else int(np.ceil(epoch - 1e-9))}]
