"""Ctrl-C and SIGTERM during a run: noted first, obeyed after the current step."""
from __future__ import annotations

__all__ = ["Signals"]

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """Inside `with`, the first Ctrl-C or SIGTERM is only noted in `caught`. A second one ends the process as usual.

    Python delivers signals to the main thread alone, so in any other thread this does nothing.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before not in (None, signal.SIG_IGN):  # nohup ignores Ctrl-C, and so must the run
                    self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
