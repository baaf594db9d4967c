"""What a run shows of its own training: recordings, and the sections of the page that explains a run."""
from __future__ import annotations

__all__ = ["Recorder"]

from .recorder import Recorder
