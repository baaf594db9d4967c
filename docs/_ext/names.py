"""The directive `names`, which puts public names of a room, with their docstrings, on a page of the reference:

    ```{names} tinygan.nn
    Dense Dropout
    ```
"""
from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

from docstrings import converted, written_signature
from public import NAMES, table
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


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
        has_public_base = any(NAMES.value(other) is base for base in value.__bases__
                              for other in NAMES.paths.get(base.__name__, ()))
        return [f".. autoclass:: {path}", *(["   :show-inheritance:"] if has_public_base else [])]
    if not table(value):  # (with its signature: autodoc would list the overloads that type checkers read)
        signature, back = written_signature(value)
        return [f".. autofunction:: {path}{signature}" + (f" -> {back}" if back else "")]

    lines = [f".. py:data:: {path}", ""]
    lines += [f"   {line}" for line in converted(comment_on(path), path, set())]
    if isinstance(value, dict):
        lines += ["", *(f"   - ``{key!r}``{details(record)}" for key, record in value.items())]
    elif isinstance(value, int | tuple):
        lines += ["", f"   Its value: ``{value!r}``."]
    return lines


def details(record: Any) -> str:
    """What a record of a table says of itself in words and formulas, such as the source of a cost."""
    names = getattr(record, "_fields", None) or list(getattr(record, "__dataclass_fields__", ()))
    texts = {name: getattr(record, name) for name in names if name != "name"}
    told = [f"{name} ``{text}``" for name, text in texts.items() if isinstance(text, str) and text]
    return ": " + "; ".join(told) if told else ""


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
