"""Section (c): the tape. One round of Algorithm 1 on this run's networks, op by op, forward and back."""
from __future__ import annotations

__all__ = ["build", "described", "shown"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.runs.labels import takes_labels

from ..arrays import numbers, packed
from ..formulas import Formula, formula_of, work_out
from ..records import Absent, Run
from ..rounds import BATCH, Round, trace_round
from ..tape import Entry, Visit
from ..terms import BAR
from .positions import fixed_inputs, short

FEW = 16
"""So many entries of an array are shown as numbers."""
BINS = 12
_SMALLEST_IMAGE = 8  # pixels on a side
_DIGITS = 9  # of a number that is shown by itself: a float32 as it is


def build(run: Run) -> dict[str, Any] | Absent:
    """The section's JSON. Absent if the run's data cannot be loaded, or if its GAN is a class of the user's own that is not
    trained by `d_gradients` and `g_gradients`."""
    if not all(hasattr(run.gan, name) for name in ("d_gradients", "g_gradients", "d_steps")):
        return Absent(f"The tape shows GANs that compute their gradients in d_gradients and g_gradients; "
                      f"{type(run.gan).__name__} does not.")
    data = run.dataset()
    if isinstance(data, Absent):
        return Absent(f"The tape needs {BATCH} images of the run's data. {data.reason}")
    places = np.arange(BATCH) % len(data)
    labels = data.labels[places] if takes_labels(run.gan) and data.labels is not None else None
    rounds = trace_round(run.gan, data.batch(places), labels)
    if {one.player for one in rounds} != {"discriminator", "generator"}:
        return Absent(f"{type(run.gan).__name__}.step does not call d_gradients and g_gradients, where the tape listens.")
    return {**described(rounds), "mean": _mean(run)}


def _mean(run: Run) -> str:
    """Over how many images the loss is a mean: section (a) has more, and smaller gradients for it."""
    fixed = fixed_inputs(run)
    n = BATCH if isinstance(fixed, Absent) else len(fixed["z"])
    if n == BATCH:
        return ""
    return (f"The loss is a mean over {BATCH} images here and over {n} in section (a). For that reason a gradient at an "
            f"image is {short(n / BATCH)} times as large here; the images are others, too.")


def described(rounds: Sequence[Round]) -> dict[str, Any]:
    """The section's JSON for the updates of a round, as `trace_round` returns them."""
    return {"rounds": [_round(one) for one in rounds], "text": _text(rounds), "alt": _alt(rounds)}


def _round(one: Round) -> dict[str, Any]:
    visits = {visit.id: (k, visit) for k, visit in enumerate(one.back.visits)}
    return {
        "name": one.name, "note": one.note,
        "nodes": [_node(one, entry, *visits.get(entry.id, (None, None))) for entry in one.traced.used()],
        "leaves": [{"name": name, "player": player, "gets_gradient": filled} for name, player, filled in one.leaves],
        "taken_as_constants": [entry.id for entry in one.taken_as_constants()],
    }


def _node(one: Round, entry: Entry, visited: int | None, visit: Visit | None) -> dict[str, Any]:
    traced, formula = one.traced, formula_of(entry)
    (file, line), (vjp_file, vjp_line) = entry.source, entry.vjp_source
    gradient = one.back.gradients.get(entry.id)
    return {
        "id": entry.id, "kind": entry.kind, "op": entry.name or entry.kind, "layer": entry.place.layer,
        "parents": entry.parents, "shape": list(entry.value.shape),
        "value": shown(entry.value), "gradient": None if gradient is None else shown(gradient, signed=True),
        "visited": visited, "formula": None if formula is None else {
            "forward": formula.forward, "vjp": _computed(formula, visit),
            "with_numbers": "\n".join(worked.text for worked in work_out(traced, visit)) if visit is not None else ""},
        "file": file, "line": line, "vjp_file": vjp_file, "vjp_line": vjp_line, "constant": entry.constant,
    }


def _computed(formula: Formula, visit: Visit | None) -> str:
    """The vjp, with those gradients only that this visit computes: grad skips inputs that lead to nothing it was asked
    for."""
    parts = formula.vjp.split(", ")
    skipped: list[str] = []
    for name, needed in zip(formula.names, visit.needs if visit is not None else (), strict=False):
        own = [part for part in parts if part.lower().startswith(name.lower() + BAR)]
        if not needed and own:
            parts.remove(own[0])
            skipped.append(own[0].partition(" = ")[0])
    if not skipped:
        return formula.vjp
    return f"{', '.join(parts)}\n{' and '.join(skipped)}: not computed here"


def shown(array: npt.NDArray[Any], signed: bool = False) -> dict[str, Any]:
    """An array as JSON: {"kind": "number", "value"}; up to `FEW` entries {"kind": "small", "values"}; images (N, C, H, W) of
    one or three channels {"kind": "image", "images", "min", "max"} in u8, where 0 is min and 255 is max; else {"kind":
    "summary", "mean", "std", "min", "max", "histogram"}. signed: an image's min and max are equally far from 0."""
    if array.size == 1 and not array.shape:
        return {"kind": "number", "value": numbers(float(array), _DIGITS)}
    if array.size <= FEW:
        return {"kind": "small", "values": numbers(array, _DIGITS)}
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if array.ndim == 4 and array.shape[1] in (1, 3) and min(array.shape[2:]) >= _SMALLEST_IMAGE:
        if signed:
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        levels = (np.nan_to_num(wide, nan=0.0, posinf=high, neginf=low) - low) / max(high - low, 1e-300) * 255
        return {"kind": "image", "images": packed(np.clip(levels + 0.5, 0, 255), "u8"), "min": numbers(low, _DIGITS),
                "max": numbers(high, _DIGITS)}
    counts, edges = np.histogram(finite, BINS, (low, high) if high > low else (low - 0.5, low + 0.5))
    return {"kind": "summary", "mean": numbers(float(finite.mean()) if finite.size else 0.0, 6),
            "std": numbers(float(finite.std()) if finite.size else 0.0, 6), "min": numbers(low, 6), "max": numbers(high, 6),
            "histogram": {"counts": counts.tolist(), "edges": numbers(edges)}}


def _filled(one: Round) -> int:
    return sum(filled for _, _, filled in one.leaves)


def _through(one: Round, player: str) -> int:
    """How many ops of a player's network the last pass back visited."""
    return sum(one.traced[visit.id].place.player == player for visit in one.back.visits)


def _text(rounds: Sequence[Round]) -> str:
    """What to see in this run, in at most 60 words."""
    d, g = (next(one for one in rounds if one.player == player) for player in ("discriminator", "generator"))
    others = sum(player == "discriminator" for _, player, _ in g.leaves)
    return (f"One round on {BATCH} images. The update of D fills {_filled(d)} gradients, all of D's; the generated images "
            f"come in as constants. The update of G goes back through {_through(g, 'discriminator')} ops of D and "
            f"{_through(g, 'generator')} of G: it fills G's {_filled(g)} gradients and none of D's {others}. "
            f"{_arriving(g)}").strip()


def _arriving(one: Round) -> str:
    """How large the gradient is where it leaves D for G."""
    largest = [float(np.abs(one.back.gradients[entry.id]).max()) for entry in one.made() if entry.id in one.back.gradients]
    return f"At the images, the largest entry is {max(largest):.2g}." if largest else ""


def _alt(rounds: Sequence[Round]) -> str:
    parts = []
    for one in rounds:
        loss = one.traced[one.back.starts[0]].value
        value = f" The loss is {float(loss):.4g}." if loss.size == 1 else ""
        names = ", ".join(dict.fromkeys(entry.place.layer for entry in one.traced.used() if entry.place.player))
        parts.append(f"Graph of the {one.name}: {len(one.traced.used())} nodes. Layers from top to bottom: {names}. "
                     f"grad visits {len(one.back.visits)} of them and fills {_filled(one)} gradients of the {one.player}."
                     f"{value}")
    return " ".join(parts)
