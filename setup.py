"""What `pyproject.toml` cannot say: two folders without an `__init__.py` are installed as packages, too. One has the
lessons' scripts and is in `docs/`, the other has the parts of the pages that `tinygan explain` and `tinygan play` write."""
from setuptools import find_packages, setup

LESSONS = "tinygan.teaching.lessons.texts"
PAGES = "tinygan.teaching.web"

setup(packages=[*find_packages(include=["tinygan", "tinygan.*"]), LESSONS, PAGES], package_dir={LESSONS: "docs/lessons"})
