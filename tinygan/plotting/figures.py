"""What all matplotlib figures need: writing them to a file."""
from __future__ import annotations

__all__ = ["write_figure"]

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tinygan.saving import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
"""The endings of the files that figures are written to."""


def write_figure(path: str | os.PathLike[str], figure: Figure, title: str, *, dpi: int = 200) -> None:
    """Write a figure to `path`, with `title` in its metadata. Raises ValueError unless the name ends in .png, .pdf or
    .svg."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"write_figure: expected a name that ends in {', '.join(FORMATS)}, got {path}")
    buffer = io.BytesIO()
    metadata = {"Title": title, "Software" if suffix == ".png" else "Creator": "tinygan"}
    figure.savefig(buffer, format=suffix[1:], dpi=dpi, metadata=metadata)
    write_atomically(path, buffer.getbuffer())
