"""Recording a training: at chosen steps, what the players tell each other and how their weights move.

    step = tg.training.Recorder("recording", gan)
    for batch in batches:
        stats = step(batch)
    tg.teaching.explain("recording", gan=gan)  # a page that shows it

A recorded step is computed as every other one; only its optimisers note what they do. After it, the fixed inputs are shown
to both networks. So a run makes the same weights with and without a recording, to the last bit.
"""
from __future__ import annotations

__all__ = ["Recorder", "is_due", "record", "recorder_of_run"]

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.data import Dataset
from tinygan.gans.batches import couples_examples
from tinygan.interop.foreign import as_numbers
from tinygan.random import Key, as_key
from tinygan.saving import save

from .activity import activities
from .messages import message, surface
from .players import ACTIVITY_INPUTS, LARGE, SHOWN, SHOWN_IF_LARGE, examples, game, host, inputs_for, players
from .records import discard_after, read_records, record_path
from .updates import PLAYERS, Updates, observed

Array = npt.NDArray[Any]

EVERY = 2048
"""Steps between two records in a training without epochs. Its steps often take a third of a millisecond and a record six,
so it records the powers of four: of 4,000 such steps, 8 records take 4% of the time, and with all powers of two 7%."""
KEEP = 512  # examples of the first batch
_FIXED = ("z", "real", "limits", "data", "labels")  # in the first record only
FEWEST = 100  # steps between two records of the ends of epochs: a record takes the time of about three steps
_MARGIN = 0.25  # around the data in the plane, as a share of their extent


def is_due(step: int, every: int, fewer: bool = False) -> bool:
    """Whether the state after so many steps is recorded: after 0, 1, 2, 4, 8, ... steps and after every `every` steps.
    fewer: after 0, 1, 4, 16, ... instead. The number of the step alone decides, so that a resumed training records the
    same."""
    early = step & (step - 1) == 0 and not (fewer and step.bit_length() % 2 == 0)
    return step == 0 or early or step % every == 0


class Recorder:
    """Makes the steps of a training, and records some of them: `recorder(real)` is `gan.step(real)`.

    folder: where the records go, `step_0000001.safetensors` and so on (see `record` for the content). It is made if needed.
    None: nothing is written. If several processes train together, one of them records, and the others have a Recorder
    without a folder: all have to make the same steps in Python, because a captured step exchanges less.
    If there are records of later steps, they are deleted: so a training that goes on from a checkpoint records the same
    again. gan: a VanillaGAN or a GAN made from it, such as those of `tinygan.gans`. step: what makes a step that is not
    recorded, such as `tg.capture(gan.step)`; by default `gan.step`. every: how many steps are between two records, beside
    those after 1, 4, 16, ... steps, or after 1, 2, 4, 8, ... in a training with epochs. z: fixed inputs of the generator, 16
    by default, or 8 for images of more than 32 x 32 pixels; a DiscoGAN needs pairs of images. real: as many real images,
    which a cost that pairs images needs. more: inputs on which the active units are counted. keep: how many examples of the
    first batch, or of this process's part of it, are kept for the sections of the page that compute with data (0: none).
    done: how many steps the GAN has made, by default `gan.steps`. steps_per_epoch: for the epochs in the records. key: of
    the fixed inputs.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, gan: Any, *, step: Callable[..., Any] | None = None,
                 every: int = EVERY, z: Any = None, real: Any = None, more: Any = None, keep: int = KEEP,
                 done: int | None = None, steps_per_epoch: int | None = None, key: Key | None = None) -> None:
        _check(gan, every)
        self.folder = None if folder is None else Path(folder)
        self._gan, self._step, self._every = gan, step or gan.step, every
        self._done = gan.steps if done is None else done
        self._steps_per_epoch = steps_per_epoch
        self._key = as_key("Recorder", key, Key(0)).fold("recording")
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            discard_after(self.folder, self._done)
            self._fixed = self._inputs(self.folder, z, real)
        self._more, self._keep, self._batch_size = more, keep, 0

    def _inputs(self, folder: Path, z: Any, real: Any) -> dict[str, Array]:
        """The fixed inputs: those of the first record, if there is one, so that all records show the same."""
        earlier = read_records(folder)
        if earlier:
            return {name: earlier[0][name] for name in _FIXED if name in earlier[0]}
        if z is None:
            z = inputs_for(self._gan, SHOWN, self._key.fold("z"))
            if np.prod(self._gan.sample(z=z[:2]).shape[2:]) > LARGE:
                z = z[:SHOWN_IF_LARGE]
        fixed = {"z": host(z)}
        return fixed if real is None else {**fixed, "real": host(real)}

    def __call__(self, *batch: Any) -> Any:
        """Make a step, and record it if it is time. Takes and returns what `gan.step` does."""
        if self.folder is not None:
            self._complete(*batch)
            if self._done == 0:
                self._write(self.folder, None)
        if not is_due(self._done + 1, self._every, fewer=self._steps_per_epoch is None):
            stats = self._step(*batch)
            self._done += 1
            return stats
        with observed(self._gan) as updates:
            stats = self._gan.step(*batch)
        self._done += 1
        if self.folder is not None:
            self._write(self.folder, updates)
        return stats

    def _complete(self, real: Any, labels: Any = None) -> None:
        """Take from the first batch what the fixed inputs lack."""
        if self._batch_size:
            return
        fixed = self._fixed
        world = getattr(self._gan, "world", None)  # each process has a part of the batch
        self._batch_size = len(real) // self._gan.d_steps * (1 if world is None else world.size)
        if self._keep and "data" not in fixed:
            fixed["data"] = np.array(host(as_numbers("Recorder", real))[:self._keep], np.float32)
            if labels is not None:
                fixed["labels"] = np.array(labels)[:self._keep]
        if "real" not in fixed and game(self._gan).pairs:
            fixed["real"] = np.array(host(as_numbers("Recorder", real))[:len(fixed["z"])])
        if "limits" not in fixed and len(np.shape(real)) == 2 and np.shape(real)[1] == 2:
            points = host(as_numbers("Recorder", real))
            low, high = points.min(0), points.max(0)
            middle, half = (low + high) / 2, (high - low).max() * (0.5 + _MARGIN)
            fixed["limits"] = np.stack([middle - half, middle + half], 1).reshape(-1).astype(np.float32)

    def _write(self, folder: Path, updates: dict[str, Updates] | None) -> None:
        arrays, about = record(self._gan, self._fixed, self._more, updates, self._key)
        about |= {"step": self._done, "epoch": self._done / self._steps_per_epoch if self._steps_per_epoch else None,
                  "gan_steps": self._gan.steps, "batch_size": self._batch_size}
        if not any(earlier.step < self._done for earlier in read_records(folder)):
            arrays |= self._fixed
        save(record_path(folder, self._done), arrays, {"record": json.dumps(about)})


def _check(gan: Any, every: Any) -> None:
    missing = [name for name in ("generator", "discriminator", "cost", "g_loss", "latent", "step") if not hasattr(gan, name)]
    if missing:
        raise TypeError(f"Recorder: gan should be a VanillaGAN or made from it, because a record needs its cost and both "
                        f"networks; a {type(gan).__name__} has no {', '.join(missing)}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"Recorder: every should be a whole number of at least 1, got {every!r}")


def record(gan: Any, fixed: dict[str, Array], more: Any, updates: dict[str, Updates] | None,
           key: Key) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a record, and what to know about them. fixed: "z", and perhaps "real" and "limits". more: inputs on
    which the active units are counted, or None. updates: those of the step that led here, or None. Nothing of the GAN
    changes.

    images: uint8 (N, C, H, W), or points float32 (N, 2). logits: float32 (N,). gradient: float16 (N, ...), the gradient of
    the generator's cost with respect to each image, divided by its largest magnitude, which is gradient_scale, float32
    (N,). slopes, norms: float32 (3, N), see `messages.Message`. d.NAME and g.NAME for gradient_norm, update_ratio,
    weight_norm: float32, an entry per parameter; for dead, saturated, std: an entry per activation. surface: float16
    (64, 64), the discriminator's logits in the plane, within limits.
    """
    found = message(gan, players(gan, fixed["z"], fixed.get("real")), key.fold("message"))
    flat = np.abs(found.gradient.reshape(len(found.gradient), -1)).max(1)
    scale = np.where(flat == 0, 1, flat).reshape(-1, *[1] * (found.gradient.ndim - 1))
    arrays = {"images": as_bytes(found.images), "logits": found.logits.astype(np.float32),
              "gradient": (found.gradient / scale).astype(np.float16), "gradient_scale": flat.astype(np.float32)}
    with np.errstate(all="ignore"):
        if found.slopes is not None and found.norms is not None:
            arrays |= {"slopes": found.slopes.astype(np.float32), "norms": found.norms.astype(np.float32)}
        heights = surface(gan, fixed["limits"]) if "limits" in fixed else None
        if heights is not None:
            arrays["surface"] = heights.astype(np.float16)
    if more is None:
        more = inputs_for(gan, ACTIVITY_INPUTS, key.fold("activity"))
    about: dict[str, Any] = {"cost": gan.cost, "coupled": couples_examples(gan.discriminator), "gan": type(gan).__name__}
    for letter, activity in activities(players(gan, more), key.fold("activity")).items():
        noted = Updates(getattr(gan, PLAYERS[letter])) if updates is None else updates[letter]
        arrays |= {f"{letter}.{name}": array for name, array in {**activity.arrays(), **noted.arrays()}.items()}
        about[PLAYERS[letter]] = {"parameters": noted.names, "activations": activity.layers}
    return arrays, about


def as_bytes(images: Array) -> Array:
    """Images (N, C, H, W) in [-1, 1] as bytes; points stay as they are."""
    if images.ndim != 4:
        return images.astype(np.float32)
    return np.clip(np.rint((np.nan_to_num(images) + 1) * 127.5), 0, 255).astype(np.uint8)


def recorder_of_run(folder: Path | None, gan: Any, dataset: Dataset, step: Callable[..., Any], key: Key,
                    steps_per_epoch: int, done: int) -> Recorder:
    """The recorder of a run that `training.train` makes. folder: None in the processes beside the first one. It records the
    ends of epochs. Where epochs are short, it takes every second or third, and so on: a recording should take less than 5%
    of the time."""
    _check(gan, 1)
    every = steps_per_epoch * -(-FEWEST // steps_per_epoch)
    z, real, more = examples(gan, dataset, key.fold("recording"))
    return Recorder(folder, gan, step=step, every=every, z=z, real=real, more=more, keep=0, done=done,
                    steps_per_epoch=steps_per_epoch, key=key)
