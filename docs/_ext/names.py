"""The public names: those of `tinygan` and of its rooms, as their `__all__` lists them; and the directive `names`, which
puts some of them, with their docstrings, on a page of the reference:

    ```{names} tinygan.nn
    Dense Dropout
    ```
"""
from __future__ import annotations

import functools
import importlib
import inspect
import sys
import types
from typing import Any

from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

ROOMS = ("tinygan", "tinygan.data", "tinygan.gans", "tinygan.metrics", "tinygan.nn", "tinygan.nn.initializers",
         "tinygan.optim", "tinygan.random", "tinygan.saving", "tinygan.training", "tinygan.plotting", "tinygan.teaching")
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


class NamesDirective(SphinxDirective):
    """The docstrings of some names of a room. Content: the names, separated by spaces."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[Any]:
        room = self.arguments[0]
        self.env.note_dependency(__file__)
        lines = ["````{eval-rst}"]
        for name in " ".join(self.content).split():
            if name not in NAMES.by_room.get(room, ()):
                raise self.error(f"{name} is not a public name of {room}")
            lines += [*described(f"{room}.{name}"), ""]
        return self.parse_text_to_nodes("\n".join([*lines, "````"]))


def described(path: str) -> list[str]:
    """The directive that documents a public name, in reStructuredText."""
    value = NAMES.value(path)
    elsewhere = [other for other in NAMES.paths[path.rpartition(".")[2]] if other != path and NAMES.value(other) is value]
    if elsewhere and path.startswith("tinygan.training."):  # (a class is described once)
        return [f".. py:class:: {path}", "", f"   The same as :py:obj:`{elsewhere[0]}`."]
    if inspect.isclass(value):
        public = [base for base in value.__bases__ if any(NAMES.value(other) is base for other in NAMES.paths.get(base.__name__, ()))]
        return [f".. autoclass:: {path}", *(["   :show-inheritance:"] if public else [])]
    if not table(value):
        return [f".. autofunction:: {path}"]
    from docstrings import converted

    lines = [f".. py:data:: {path}", ""]
    lines += [f"   {line}" for line in converted(comment_on(path), path, set())]
    if isinstance(value, dict):
        lines += ["", *(f"   - ``{key!r}``{details(record)}" for key, record in value.items())]
    elif isinstance(value, int | tuple):
        lines += ["", f"   Its value: ``{value!r}``."]
    return lines


def details(record: Any) -> str:
    """What a record of a table says of itself in words and formulas, such as the source of a cost."""
    names = getattr(record, "_fields", None) or [field for field in getattr(record, "__dataclass_fields__", ())]
    texts = {name: getattr(record, name) for name in names if name != "name"}
    told = [f"{name} ``{text}``" for name, text in texts.items() if isinstance(text, str) and text]
    return ": " + "; ".join(told) if told else ""


def table(value: Any) -> bool:
    """Whether the value is neither a function nor an op: a table, a number, a type."""
    return isinstance(value, dict | tuple | int) or not hasattr(value, "__name__") or "typing" in type(value).__module__ \
        or type(value).__name__.endswith("GenericAlias")
    # (an initialiser such as `zeros` is a `partial`, which has no name)


def comment_on(path: str) -> str:
    """The text below the line that defines a value, in whichever module does."""
    room, _, name = path.rpartition(".")
    value = NAMES.value(path)
    for module in [importlib.import_module(room), *map(sys.modules.get, sorted(sys.modules))]:
        if module is not None and module.__name__.startswith("tinygan") and vars(module).get(name) is value:
            found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs().get(("", name))
            if found:
                return "\n".join(found)
    raise ValueError(f"{path} has no text below the line that defines it")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("names", NamesDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
