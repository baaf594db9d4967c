"""What can end a run early."""
from __future__ import annotations

__all__ = ["DivergedError", "Interrupted", "RunError"]

import signal


class RunError(RuntimeError):
    """A run cannot start or continue, for a reason that its user can correct. shared: whether all processes that train
    together have this error, at the same moment."""

    exit_status = 2

    def __init__(self, message: str, shared: bool = False) -> None:
        super().__init__(message)
        self.shared = shared


class DivergedError(RunError):
    """A loss or a weight became NaN or infinite."""

    exit_status = 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run, after it saved a checkpoint. Like its base class it is not an `Exception`."""

    shared = True  # all processes have stopped after the same step

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_status = 128 + number

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show in place of a traceback. (The run has said how to continue it.)"""
        return [f"The training was {self}. Its run is saved."]
