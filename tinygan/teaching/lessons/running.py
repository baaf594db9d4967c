"""The process in which a reader's answers run: `python -m tinygan.teaching.lessons.running NUMBER FILE NAME...`.

It writes a line of JSON to standard output when it begins something and when it knows a verdict. What the answers themselves
print goes to standard error. `checking.py` starts this process, and ends it when it takes too long.
"""
from __future__ import annotations

__all__ = ["answers_in", "verdict_on"]

import json
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from .catalogue import lesson
from .judging import AnswerError, Exercise


def answers_in(path: Path) -> ModuleType:
    """Run the file, and return its names. (`if __name__ == "__main__":` does not run.)"""
    sys.path.insert(0, str(path.parent))
    spec = spec_from_loader("answers", SourceFileLoader("answers", str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["answers"] = module
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


def verdict_on(exercise: Exercise, answers: Any, file: Path) -> str | None:
    """None if the answer is right, and otherwise what is wrong."""
    if not hasattr(answers, exercise.name):
        return f"{file.name} does not define {exercise.name}. The exercise asks for {exercise.call}."
    try:
        exercise.check(getattr(answers, exercise.name))
    except AnswerError as wrong:
        return str(wrong)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the answer's own, SystemExit included
        told = _told(error, file)
        return f"{exercise.name} raised {told}" if " in line " in told else f"What {exercise.name} returned led to {told}"
    return None


def _told(error: BaseException, file: Path) -> str:
    """The error, with the last line of the file that led to it."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{type(error).__name__} in line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    where = f" in line {lines[-1]}" if lines else ""
    text = str(error)
    return f"{type(error).__name__}{where}{': ' + text if text else ''}"


def main(arguments: list[str]) -> None:
    number, file, *names = arguments
    path = Path(file)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as events:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def say(**event: Any) -> None:
            print(json.dumps(event), file=events, flush=True)

        exercises = [exercise for exercise in lesson(int(number)).exercises() if exercise.name in names]
        say(begins="")  # from here on, the time is the file's
        try:
            answers = answers_in(path)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            say(broken=_told(error, path))
            return
        for exercise in exercises:
            say(begins=exercise.name)
            say(name=exercise.name, wrong=verdict_on(exercise, answers, path))


if __name__ == "__main__":
    main(sys.argv[1:])
