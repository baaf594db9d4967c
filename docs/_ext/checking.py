"""Checks of the finished site, whose findings are warnings (errors, with -W): every link inside the site leads to a page
and an anchor that exist, every image is there, every public name is in the reference, and the lessons show their figures."""
from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from public import NAMES
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors.update(filter(None, (given.get("id"), given.get("name") if tag == "a" else None)))
        link = given.get("href") if tag in ("a", "link") else given.get("src")
        if link:
            self.links.add(link)


def broken_links(site: Path) -> list[tuple[str, str]]:
    """(page, link) of every link inside the site that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchored = not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors
            if not target.exists() or not anchored:
                found.append((str(path.relative_to(site.resolve())), link))
    return found


def missing_names(documented: Any) -> list[str]:
    """The public names that are not among the documented ones."""
    return [f"{room}.{name}" for room, names in NAMES.by_room.items() for name in names
            if f"{room}.{name}" not in documented]


def missing_figures(site: Path, lessons: Path) -> list[tuple[str, int, int]]:
    """(lesson, figures on its page, figures that its script saves) where some are missing."""
    found = []
    for script in sorted(lessons.glob("0*.py")):
        page = Page(site / "lessons" / f"{script.stem}.html")
        shown = sum(link.startswith("../_images/") for link in page.links)
        saved = len(re.findall(r"^ *save\(", script.read_text(encoding="utf-8"), re.MULTILINE))
        if shown < saved:
            found.append((script.name, shown, saved))
    return found


def check(app: Any, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    for page, link in broken_links(Path(app.outdir)):
        logger.warning("%s: the link %s leads nowhere", page, link)
    if app.config.nb_execution_mode != "off":
        for lesson, shown, saved in missing_figures(Path(app.outdir), Path(app.srcdir) / "lessons"):
            logger.warning("%s: its page shows %d figures, and its script saves %d", lesson, shown, saved)
    for name in missing_names(app.env.domains.python_domain.objects):
        logger.warning("the reference lacks %s", name)


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
