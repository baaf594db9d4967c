"""Links from a page to files outside docs/, which are right on GitHub and in an editor. `benchmarks/README.md` is a page of
the site (`docs/benchmarks.md`). The other files are not on it, so their links become their names."""
from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
PAGES = {"benchmarks/README.md": "benchmarks.md"}
"""Files outside docs/, and the pages of the site that include them."""


def read(app: Any, page: str, source: list[str]) -> None:
    folder = posixpath.dirname(page)
    root = Path(app.srcdir).parent

    def replaced(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        inside = posixpath.normpath(posixpath.join("docs", folder, path))
        if inside.startswith("docs/"):
            return match[0]
        if inside in PAGES:
            return f"[{text}]({posixpath.relpath(PAGES[inside], folder or '.')}{anchor})"
        if not (root / inside).exists():
            return match[0]  # (MyST warns of it)
        return text if inside in text else f"{text} (`{inside}`)"

    source[0] = LINK.sub(replaced, source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
