"""Check a file of answers. It runs in a process of its own, so an endless loop or a crash in it ends that process only."""
from __future__ import annotations

__all__ = ["Result", "check"]

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, NamedTuple

from .catalogue import LessonError, lesson

SECONDS = 60.0
_START = 120.0  # to import tinygan, on a busy machine


class Result(NamedTuple):
    """An exercise, and what is wrong with the answer: None if it is right."""

    name: str
    wrong: str | None


def check(number: int, file: Path, seconds: float = SECONDS) -> list[Result]:
    """Check the answers to lesson `number` in `file`. seconds: how long each exercise may take, and so the file itself.

    Returns a result for each exercise. Raises LessonError if there is no such lesson or file, or if the file itself fails.
    """
    if file.suffix == ".ipynb":
        raise LessonError(f"{file} is a notebook: expected a Python file (a notebook can be saved as one)")
    if not file.is_file():
        raise LessonError(f"there is no file {file}")
    left = [exercise.name for exercise in lesson(number).exercises()]
    results: list[Result] = []
    while left:
        for result in _run(number, file.resolve(), left, seconds):
            results.append(result)
            left.remove(result.name)
    return results


def _run(number: int, file: Path, names: list[str], seconds: float) -> list[Result]:
    """The results of one process: of all exercises that are left, or of those up to one that it did not survive."""
    command = [sys.executable, "-m", f"{__package__}.running", str(number), str(file), *names]
    results: list[Result] = []
    now, limit = None, _START
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            events = _events(process)
            while len(results) < len(names):
                event = events.get(timeout=limit)
                if event is None:
                    break
                if "broken" in event:
                    raise LessonError(f"{file.name} cannot be run: {event['broken']}")
                if "begins" in event:
                    now, limit = event["begins"], seconds
                else:
                    results.append(Result(event["name"], event["wrong"]))
                    now = None
        except queue.Empty:
            if now is None:
                raise LessonError(f"the process that checks {file.name} did not start within {_START:g} seconds") from None
            if not now:
                raise LessonError(f"{file.name} itself did not end within {seconds:g} seconds, before any exercise was "
                                  "checked (--seconds gives it more)") from None
            results.append(Result(now, f"{now} did not end within {seconds:g} seconds. Is there an endless loop? "
                                       "(--seconds gives it more.)"))
            now = None
        finally:
            process.kill()
    if now is None and len(results) == 0:
        raise LessonError(f"the process that checks {file.name} did not start (exit status {process.returncode})")
    if now == "":
        raise LessonError(f"{file.name} ended the process that runs it (exit status {process.returncode})")
    if now:
        results.append(Result(now, f"{now} ended the process that runs it (exit status {process.returncode})."))
    return results


def _events(process: subprocess.Popen[str]) -> queue.Queue[dict[str, Any] | None]:
    """The process's lines as they come, and None at their end. (A thread reads them: only so can there be a time limit on
    every system.)"""
    found: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read(lines: IO[str]) -> None:
        for line in lines:
            found.put(json.loads(line))
        found.put(None)

    assert process.stdout is not None
    threading.Thread(target=read, args=(process.stdout,), daemon=True).start()
    return found
