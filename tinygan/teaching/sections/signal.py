"""Section (a): what the discriminator tells the generator."""
from __future__ import annotations

__all__ = ["build"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.gans.costs import COSTS

from ..arrays import numbers, packed
from ..messages import SIDE_BY_SIDE, lengths
from ..records import Absent, Run
from .likeness import distance_of_data, likeness
from .positions import Position, moment, percent, positions, short, thinned

MOST_POSITIONS = 30
MOST_POINTS = 256  # of the data, in the plane
MOST_BYTES = 2_600_000  # of images and gradients: base64 makes 3.5 MB of them, and the whole page should stay below 5 MB

SATURATES = 10
"""The word "saturates" is said from here on: so many times smaller is minimax's gradient than the non-saturating one's where
the discriminator gives a generated image a probability of 9%."""
_ALIKE = 1.05
"""Two gradients are called alike below this ratio, which would be written as 1."""
_MOST = 1e6
"""A larger ratio is no measurement: the smaller gradient may have been rounded to 0."""


def build(run: Run) -> dict[str, Any] | Absent:
    """The section's JSON. Arrays are (positions, images, ...), norms and slopes (positions, costs, images). For data in the
    plane there are "surface", "limits" and "data", too."""
    found = positions(run)
    if isinstance(found, Absent):
        return found
    every = found
    found = thinned(every, min(MOST_POSITIONS, max(2, MOST_BYTES // (3 * found[0].arrays["images"].size))))
    first, points = found[0], found[0].arrays["images"].ndim == 2
    compared = "slopes" in first.arrays
    section: dict[str, Any] = {
        "steps": [position.step for position in found], "epochs": numbers([position.epoch for position in found]),
        "cost": first.about["cost"], "formula": COSTS[first.about["cost"]].g_formula, "coupled": first.about["coupled"],
        "images": packed(_all(found, "images"), "f32" if points else "u8"),
        "gradient": packed(_all(found, "gradient"), "f16"),
        "scale": packed(_all(found, "gradient_scale"), "f32"), "logits": packed(_all(found, "logits"), "f32"),
        "costs": list(SIDE_BY_SIDE) if compared else None,
        "norms": packed(_all(found, "norms"), "f32") if compared else None,
        "slopes": packed(_all(found, "slopes"), "f32") if compared else None,
        "shown": f"{len(found)} of {len(every)} records" if len(found) < len(every) else "",
        "text": _text(found), "alt": _alt(found[-1]),
        "alike": likeness(every, distance_of_data(run, first.arrays["images"].shape[1:])),
    }
    if points and not isinstance(data := run.dataset(), Absent):
        section["data"] = packed(data.batch(np.arange(min(MOST_POINTS, len(data)))), "f32")
    if "surface" in first.arrays:
        section |= {"surface": packed(_all(found, "surface"), "f16"), "limits": numbers(run.records[0]["limits"])}
    return section


def _all(found: list[Position], name: str) -> npt.NDArray[Any]:
    return np.stack([position.arrays[name] for position in found])


def _text(found: list[Position]) -> str:
    """What to see in this run, in at most 60 words."""
    last = found[-1]
    logits = last.arrays["logits"].astype(np.float64)
    cost, n = last.about["cost"], len(logits)
    if "norms" not in last.arrays:
        return (f"At the end ({moment(last)}), the discriminator's scores of these {n} images go from "
                f"{short(logits.min())} to {short(logits.max())}. The gradient of its cost is drawn at each image: a step "
                "against it lowers the cost. The largest entry is "
                f"{short(float(last.arrays['gradient_scale'].max()))}.")
    real = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return (f"At the end ({moment(last)}), the discriminator takes these {n} images for real with probabilities from "
            f"{percent(real.min())} to {percent(real.max())}. The {cost} cost sends each a gradient of mean length "
            f"{short(_own(last))}. {_compared(found)}")


def _compared(found: list[Position]) -> str:
    """How much less minimax passes back than non-saturating, where that gap was largest. The untrained start does not
    count."""
    trained = [position for position in found if position.step] or found
    ratios = np.array([_mean(position, "non-saturating") / max(_mean(position, "minimax"), 1e-300) for position in trained])
    if not np.isfinite(ratios).any():
        return ""
    widest = int(np.nanargmax(ratios))
    ratio = float(ratios[widest])
    throughout = "" if len(trained) == 1 else " at every record"
    if ratio <= 1 / _ALIKE:
        return (f"Minimax pulls harder than non-saturating{throughout}, at least {short(1 / ratio)} times as hard: it does "
                "not saturate.")
    if ratio < _ALIKE:
        return f"Minimax pulls as hard as non-saturating, or harder{throughout}: it does not saturate."
    where = "is behind non-saturating" if len(trained) == 1 else (
        f"falls furthest behind non-saturating at {moment(trained[widest])}")
    verdict = "saturates" if ratio >= SATURATES else "never saturates"
    times = f"{short(ratio)} times" if ratio < _MOST else f"more than {_MOST:,.0f} times"
    return (f"Minimax {where}: its gradient is {times} smaller there. On this run's logits it {verdict} "
            f"({SATURATES} times or more).")


def _mean(position: Position, cost: str) -> float:
    """The mean length of a cost's gradient over the images."""
    return float(np.mean(position.arrays["norms"][SIDE_BY_SIDE.index(cost)], dtype=np.float64))


def _own(position: Position) -> float:
    """The mean length of the gradient of the run's own cost."""
    scale = position.arrays["gradient_scale"].astype(np.float64)
    return float((lengths(position.arrays["gradient"]) * scale).mean())


def _alt(last: Position) -> str:
    logits = ", ".join(f"{logit:.1f}" for logit in last.arrays["logits"])
    scale = last.arrays["gradient_scale"]
    return (f"{len(scale)} generated images at {moment(last)} with the gradient of the generator's cost at each. The "
            f"discriminator's outputs: {logits}. The largest entries of the gradients go from "
            f"{short(float(scale.min()))} to {short(float(scale.max()))}.")
