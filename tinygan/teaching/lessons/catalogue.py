"""Which lessons there are, where their texts lie, and what is read from these texts."""
from __future__ import annotations

__all__ = ["LESSONS", "Lesson", "LessonError", "lesson"]

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinygan.runs.errors import RunError

if TYPE_CHECKING:
    from .judging import Exercise

PLACES = (Path(__file__).with_name("texts"), Path(__file__).parents[3] / "docs" / "lessons")
"""Where the scripts lie: in an installed tinygan, or in a checkout."""


class LessonError(RunError):
    """A lesson or a file of answers cannot be used, for a reason that its reader can correct."""


class Lesson(NamedTuple):
    """A lesson. name: that of its script (without the number) and of the module with its checks."""

    number: int
    name: str

    @property
    def path(self) -> Path:
        """Its script. Raises LessonError if there is none in this installation."""
        file = f"{self.number:02}_{self.name}.py"
        for place in PLACES:
            if (place / file).is_file():
                return place / file
        places = " or ".join(map(str, PLACES))
        raise LessonError(f"lesson {self.number}: its script {file} should be in {places}: install tinygan again")

    @property
    def title(self) -> str:
        """The heading of its script."""
        heading = next(line for line in self._text() if line.startswith("# # "))
        return heading.removeprefix("# # ").partition(": ")[2]

    def exercises_text(self) -> str:
        """The cell of the script that states the exercises."""
        lines = self._text()
        start = lines.index("# ## Exercises")
        ends = (i for i in range(start, len(lines)) if lines[i].startswith("# %%") or not lines[i].startswith("#"))
        return "\n".join(line[2:] for line in lines[start:next(ends, len(lines))])

    def exercises(self) -> tuple[Exercise, ...]:
        """What an answer has to define, with the checks."""
        found: tuple[Exercise, ...] = importlib.import_module(f"{__package__}.{self.name}").EXERCISES
        return found

    def _text(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()


LESSONS = tuple(Lesson(number, name) for number, name in enumerate((
    "one_neuron", "your_own_op", "algorithm_1", "whose_gradients", "saturation", "collapse", "two_cures", "convolution",
    "gradients_of_gradients"), start=1))
"""All lessons, in the order in which they are read."""


def lesson(number: int) -> Lesson:
    """The lesson of that number. Raises LessonError if there is none."""
    if not 1 <= number <= len(LESSONS):
        raise LessonError(f"there is no lesson {number}: the lessons are 1 to {len(LESSONS)} (tinygan lesson list)")
    return LESSONS[number - 1]
