"""The lessons: nine scripts with text, each with three exercises, and the checks of their answers.

The scripts are in `docs/lessons/`, where a reader looks for them. An installed tinygan carries a copy in `texts/`, which
setup.py makes. Each module here that has a lesson's name holds the checks of that lesson. So `tinygan lesson` works without
a checkout. A lesson's title and the words of its exercises stand only in its script.
"""
from .catalogue import LESSONS, Lesson, LessonError, lesson
from .checking import Result, check
from .drawing import figure, save

__all__ = ["LESSONS", "Lesson", "LessonError", "Result", "check", "figure", "lesson", "save"]
