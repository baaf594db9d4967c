"""The moments of a run that a section shows: its records, and its present state from the checkpoint."""
from __future__ import annotations

__all__ = ["Position", "fixed_inputs", "moment", "percent", "positions", "short", "thinned"]

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from tinygan.gans.costs import COSTS
from tinygan.random import Key
from tinygan.runs.errors import RunError
from tinygan.runs.labels import takes_labels
from tinygan.runs.previews import translates

from ..players import ACTIVITY_INPUTS, LARGE, SHOWN, SHOWN_IF_LARGE, examples, inputs_for
from ..recorder import record
from ..records import Absent, Run
from ..updates import Updates, observed, unchanged


class Position(NamedTuple):
    """A moment of a run: after `step` steps, or `epoch` epochs (None if there are no epochs). arrays, about: as in a
    record."""

    step: int
    epoch: float | None
    arrays: Any
    about: Mapping[str, Any]


def positions(run: Run, updates: bool = False) -> list[Position] | Absent:
    """All records of a run. The present state comes last, if no record has it. updates: whether a step is rehearsed for it,
    if the data are there, so that it has gradients and updates as a record."""
    found = [Position(record.step, record.epoch, record, record.about) for record in run.records if record.step <= run.step]
    if found and found[-1].step == run.step:
        return found
    now = _present(run, updates)
    if isinstance(now, Absent):
        return found or now
    return [*found, now]


def _present(run: Run, updates: bool) -> Position | Absent:
    fixed = fixed_inputs(run)
    if isinstance(fixed, Absent):
        return fixed
    fixed, more = dict(fixed), fixed.pop("more", None)
    noted = _rehearsed(run) if updates else None
    arrays, about = record(run.gan, fixed, more, noted, _key(run))
    return Position(run.step, run.epoch, arrays, about)


def fixed_inputs(run: Run) -> dict[str, Any] | Absent:
    """"z" and perhaps "real", "limits" and "more", as a Recorder has them: those of the first record, or those that a
    recording would have had."""
    key = _key(run)
    if run.records:
        first = run.records[0]
        fixed: dict[str, Any] = {name: first[name] for name in ("z", "real", "limits") if name in first}
        if translates(run.gan):
            fixed["more"] = fixed["z"]
        if "z" in fixed:
            return fixed
    if translates(run.gan) or COSTS[run.gan.cost].pairs:
        data = run.dataset()
        if isinstance(data, Absent):
            return Absent(f"The figure needs the run's data: {data.reason}.")
        z, real, more = examples(run.gan, data, key)
        return {"z": z, **({} if real is None else {"real": real}), **({} if more is None else {"more": more})}
    pixels = np.prod(run.config["data"]["image_shape"][1:])
    return {"z": inputs_for(run.gan, SHOWN if pixels <= LARGE else SHOWN_IF_LARGE, key.fold("z"))}


def _rehearsed(run: Run) -> dict[str, Updates] | None:
    """What both optimisers would do in the next step. The GAN stays as it is. None if the data cannot be loaded."""
    data, settings = run.dataset(), run.config["settings"]
    if isinstance(data, Absent):
        return None
    n = min(run.gan.d_steps * settings.get("batch_size", ACTIVITY_INPUTS), len(data))
    n -= n % run.gan.d_steps
    places = _key(run).fold("rehearsal").permutation(len(data))[:n]
    batch = [data.batch(places)]
    if takes_labels(run.gan) and data.labels is not None:
        batch.append(data.labels[places])
    with ExitStack() as inside, np.errstate(all="ignore"):
        inside.enter_context(unchanged(run.gan))
        updates = inside.enter_context(observed(run.gan))
        try:
            run.gan.step(*batch)
        except (ValueError, RunError):  # other data than the GAN takes
            return None
    return updates


def _key(run: Run) -> Key:
    return Key(run.config["settings"].get("seed", 0)).fold("recording")


def thinned(found: Sequence[Any], most: int) -> list[Any]:
    """At most that many of them, evenly, the first and the last included."""
    if len(found) <= most:
        return list(found)
    places = np.unique(np.rint(np.linspace(0, len(found) - 1, max(most, 2))).astype(int))
    return [found[i] for i in places]


def moment(position: Position) -> str:
    """A moment in words: "epoch 3", or "step 64" within the first epoch and where there are no epochs; "the start" before
    the training."""
    if position.step == 0:
        return "the start"
    if position.epoch is None or position.epoch < 1:
        return f"step {position.step:,}"
    return f"epoch {int(np.ceil(position.epoch - 1e-9)):,}"


def short(value: float) -> str:
    """A number with two significant digits: 0.012, 3.4e-06, 120, 1,200,000."""
    if not np.isfinite(value):
        return "not finite"
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2g}"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.4g}"


def percent(share: float) -> str:
    """A share in words: "83 %", "0.4 %", "less than 0.0001 %"."""
    if 0 < share < 1e-6:
        return "less than 0.0001 %"
    return f"{100 * share:.0f} %" if share >= 0.0095 or share == 0 else f"{100 * share:.1g} %"
