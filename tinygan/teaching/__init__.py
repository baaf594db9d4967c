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
    """Write the page that explains a run: see `teaching.page`, which is loaded at the first use."""
    from . import page

    return page.explain(run, out, gan, data_dir)
