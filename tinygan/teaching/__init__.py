"""What a run shows of its own training: recordings, the tape of a computation, and the sections of the page that explains a
run."""
from __future__ import annotations

__all__ = ["Recorder", "Trace", "trace"]

from .recorder import Recorder
from .tape import Trace, trace
