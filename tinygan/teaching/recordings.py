"""A recording of a loop of the user's own, as the sections of the page get it: the records, and the GAN as it is now.

    step = tg.training.Recorder("ring", gan)
    for batch in batches:
        step(batch)
    tg.teaching.explain("ring", gan=gan)

Such a folder has no checkpoint, and only the user's program can build the networks. So the page is made there.
"""
from __future__ import annotations

__all__ = ["Recording", "is_recording"]

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan.runs.errors import RunError
from tinygan.runs.settings import CONFIG

from .records import Absent, Run, read_records


class Examples(NamedTuple):
    """The examples of the data that a recording keeps. images (N, ...), labels (N,) or None."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, places: Any) -> npt.NDArray[np.float32]:
        """The examples at these places, as `Dataset.batch` returns them."""
        chosen: npt.NDArray[np.float32] = self.images[np.asarray(places)].astype(np.float32)
        return chosen


def is_recording(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder has records and no run."""
    folder = Path(folder).expanduser()
    return bool(read_records(folder)) and not (folder / CONFIG).exists()


class Recording(Run):
    """What `Recorder` wrote into a folder, with the GAN that made it, as it is after the training. Raises RunError without
    the GAN, or if it has made fewer steps than the recording."""

    def __init__(self, folder: str | os.PathLike[str], gan: Any) -> None:
        self.path = Path(folder).expanduser()
        self.records = read_records(self.path)
        here = f"tinygan.teaching.explain({str(folder)!r}, gan=gan)"
        if gan is None:
            raise RunError(f"{folder} is the recording of a loop of your own, and only your program has its networks: "
                           f"at the end of the loop, write in Python  {here}")
        last = self.records[-1]
        more = gan.steps - last.about.get("gan_steps", gan.steps)
        if more < 0:
            raise RunError(f"{folder} goes on to step {last.step}, and this GAN has made {-more} steps fewer: give "
                           f"{here} the GAN as it is after the training")
        self.gan, self.settings, self.rules = gan, None, {}
        self._step = last.step + more
        shape = self.records[0]["images"].shape[1:]
        what = f"images of {' x '.join(map(str, shape[1:]))}" if len(shape) == 3 else "points in the plane"
        self.config = {"variant": type(gan).__name__, "settings": {"batch_size": last.about.get("batch_size")},
                       "data": {"name": what, "images": None, "image_shape": shape}}

    @property
    def step(self) -> int:
        return self._step

    @property
    def steps_per_epoch(self) -> int | None:
        last = self.records[-1]
        return round(last.step / last.epoch) if last.epoch else None

    def initial(self) -> Any:
        raise RunError(f"{self.path} does not keep the GAN with which the loop began")

    def dataset(self) -> Any:
        first = self.records[0]
        if "data" not in first:
            return Absent(f"{self.path} keeps no data (Recorder's argument keep is 0).")
        labels = first["labels"] if "labels" in first else None  # noqa: SIM401 (a Record is no dictionary)
        return Examples(first["data"], labels)
