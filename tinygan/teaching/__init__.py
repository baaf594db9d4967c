"""Seeing backpropagation at work: recordings of a run, the tape of a computation, the page that explains a run, and the
lessons (`lessons/`)."""
from __future__ import annotations

__all__ = ["Recorder", "Trace", "explain", "trace"]

import os
from pathlib import Path
from typing import Any

from .recorder import Recorder
from .tape import Trace, trace


def explain(run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, gan: Any = None,
            data_dir: str | None = None) -> Path:
    """Write the page that explains the run in that folder, or a `Recorder`'s folder. Returns its path.

    out: the page (default: `explain.html` in the folder). gan: as for `training.open_run`; for a `Recorder`'s folder, the
    GAN as it is after the training. data_dir: where the run's data are (default: where they were; if they cannot
    be read there, the page is made without them). Raises RunError if the run cannot be opened, and RunError, DataError or
    OSError if `data_dir` does not have its data. Nothing of the run changes.
    """
    from . import page

    return page.explain(run, out, gan, data_dir)
