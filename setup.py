"""What `pyproject.toml` cannot say: the lessons' scripts, which stand in `docs/`, are installed as a package, too."""
from setuptools import find_packages, setup

LESSONS = "tinygan.teaching.lessons.texts"

setup(packages=[*find_packages(include=["tinygan", "tinygan.*"]), LESSONS], package_dir={LESSONS: "docs/lessons"})
