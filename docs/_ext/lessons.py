"""The lessons as notebooks: `docs/lessons/*.py` are scripts in jupytext's percent format."""
from __future__ import annotations

from typing import Any

import jupytext


def read(text: str) -> Any:
    """The notebook of a script, for the kernel that Jupyter calls python3."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
    return notebook
