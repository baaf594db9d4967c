"""The page of the playground: one answer of the server, with all its scripts and styles. The drawing code is that of the
page of a run, in `teaching/web/`."""
from __future__ import annotations

__all__ = ["written"]

import base64
import functools
import hashlib
import json
import re
from importlib.resources import files

from tinygan import __version__

from .frames import LAYERS
from .games import EXTENT, PRESETS, described
from .session import MOST_AT_ONCE

SCRIPTS = ("core", "pictures", "plane", "graph", "tape", "play-settings", "play-view", "play")
STYLES = ("style", "figures", "play")


@functools.cache
def written() -> tuple[bytes, str]:
    """The page, and its content security policy: no script but its own, no connection but to its server."""
    presets = [{"name": preset.name, "settings": preset.game().settings, "rounds": preset.rounds, "about": preset.about}
               for preset in PRESETS]
    data = json.dumps({"fields": described(), "presets": presets, "layers": LAYERS, "extent": EXTENT, "most": MOST_AT_ONCE,
                       "version": __version__}, ensure_ascii=False, allow_nan=False)
    scripts = "\n" + "\n".join(_web(f"{name}.js") for name in SCRIPTS) + "\n"
    values = {"style": "\n".join(_web(f"{name}.css") for name in STYLES), "data": data.replace("<", "\\u003c"),
              "scripts": scripts, "version": __version__}
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _web("play.html"))
    digest = base64.b64encode(hashlib.sha256(scripts.encode()).digest()).decode()
    policy = (f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
              "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    return text.encode(), policy


def _web(name: str) -> str:
    return (files("tinygan.teaching") / "web" / name).read_text(encoding="utf-8").strip()
