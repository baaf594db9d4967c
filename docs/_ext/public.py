"""The public names: those of `tinygan` and of its rooms, as their `__all__` lists them."""
from __future__ import annotations

import functools
import importlib
import types
from typing import Any

ROOMS = ("tinygan", "tinygan.data", "tinygan.distributed", "tinygan.gans", "tinygan.metrics", "tinygan.nn",
         "tinygan.nn.initializers", "tinygan.optim", "tinygan.random", "tinygan.saving", "tinygan.training",
         "tinygan.plotting", "tinygan.teaching")
"""Those that the reference has. `tinygan.plotting` and `tinygan.teaching` are imported by those who use them."""


class Names:
    """Every public name, and which of them a short name means."""

    @functools.cached_property
    def by_room(self) -> dict[str, tuple[str, ...]]:
        """The names of each room. The rooms in a room are left out."""
        return {room: tuple(name for name in importlib.import_module(room).__all__
                            if not isinstance(self.value(f"{room}.{name}"), types.ModuleType)) for room in ROOMS}

    @functools.cached_property
    def paths(self) -> dict[str, list[str]]:
        """The dotted paths that a short name may mean."""
        found: dict[str, list[str]] = {}
        for room, names in self.by_room.items():
            for name in names:
                found.setdefault(name, []).append(f"{room}.{name}")
        return found

    def resolve(self, text: str, owner: str) -> str | None:
        """The path of the public name that `text` means in a docstring of `owner`, or None.

        A name that several rooms have, such as `load`, is taken from the owner's room, or must name its room."""
        text = text.removeprefix("tinygan.").removeprefix("tg.")
        room, _, name = text.rpartition(".")
        paths = self.paths.get(name, [])
        if room:
            paths = [path for path in paths if path == f"tinygan.{text}"]
        if len(paths) == 1:
            return paths[0]
        near = [path for path in paths if owner.startswith(path.rpartition(".")[0] + ".")]
        return near[0] if len(near) == 1 else None

    def value(self, path: str) -> Any:
        room, _, name = path.rpartition(".")
        return getattr(importlib.import_module(room), name)


NAMES = Names()


def table(value: Any) -> bool:
    """Whether the value is neither a class nor a function nor an op: a table, a number, a type, or a `partial` such as the
    initialiser `zeros`."""
    alias = type(value).__name__.endswith("GenericAlias")
    return isinstance(value, dict | tuple | int) or alias or not hasattr(value, "__name__")
