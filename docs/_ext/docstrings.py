"""From a docstring of tinygan's to reStructuredText.

The docstrings are plain text, to be read in an editor: code in single backticks, code blocks indented, and what an argument
is after its name and a colon. Autodoc expects reStructuredText. `converted` does what a careful reader does: it makes each
argument an item of a list, an indented part a code block, a public name in backticks a link, and escapes the rest.
"""
from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import typing
from collections.abc import Iterator
from typing import Any

from public import NAMES

CODE = re.compile(r"``(.+?)``|`([^`]+)`")
TABLE = re.compile(r"\S {2,}\S")  # two columns
BULLET = "- "


def arguments_of(what: Any) -> set[str]:
    """The names that a docstring may explain: the arguments of a function, of a class, and the class's attributes."""
    found: set[str] = set()
    with contextlib.suppress(TypeError, ValueError):
        found.update(inspect.signature(what).parameters)
    if inspect.isclass(what):
        found.update(name for base in what.__mro__ for name in vars(base).get("__annotations__", {}))
        found.update(name for name, value in vars(what).items() if isinstance(value, property))
    return {name for name in found if not name.startswith("_")}


def converted(text: str, owner: str, arguments: set[str]) -> list[str]:
    """The lines of reStructuredText. owner: the dotted name that the docstring belongs to."""
    out: list[str] = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            out += literal(lines)
        else:
            out += paragraph(lines, owner, arguments)
    return out


def paragraph(lines: list[str], owner: str, arguments: set[str]) -> Iterator[str]:
    """A paragraph, with the arguments that it explains as a list."""
    items: list[tuple[str, list[str]]] = [("", [])]  # (names, text); a text of several lines is a code block
    start = argument_pattern(arguments)

    def add(line: str) -> None:
        place = 0
        for match in start.finditer(line):
            items[-1][1].append(line[place:match.start()].strip())
            items.append((match["names"], []))
            place = match.end()
        items[-1][1].append(line[place:].strip())

    for indented, group in itertools.groupby(lines, lambda line: line.startswith("    ")):
        part = list(group)
        if indented and (not items[-1][0] or any(TABLE.search(row) for row in part)):
            items[-1][1].append("\n".join(literal(part)))
            continue
        for line in map(str.strip, part):
            if line.startswith(BULLET):
                items.append((BULLET, []))
            elif line.startswith(("Returns ", "Raises ")) and items[-1][0]:
                items.append(("", []))
            add(line.removeprefix(BULLET))
    for names, texts in items:
        if any(texts) or names:
            yield from item(names, texts, owner)


def item(names: str, texts: list[str], owner: str) -> Iterator[str]:
    """One item of the list, or a paragraph if it has no names."""
    indent = "  " if names else ""
    parts: list[str] = []
    words: list[str] = []
    for text in texts:
        if "\n" in text:
            parts += [inline(" ".join(words), owner), text]
            words = []
        else:
            words.append(text)
    parts.append(inline(" ".join(filter(None, words)), owner))
    title = "".join(f"**{name}**" if re.match(r"\w", name) else name.replace("*", r"\*")
                    for name in re.split(r"(\W+)", names)) + ": " if names not in ("", BULLET) else ""
    parts[0] = title + parts[0]
    for number, part in enumerate(filter(None, parts)):
        for row, line in enumerate(part.splitlines()):
            first = names and number == 0 and row == 0
            yield (BULLET if first else indent if line else "") + line
        yield ""


def argument_pattern(arguments: set[str]) -> re.Pattern[str]:
    """Where a docstring begins to explain arguments: at the start of a line or of a sentence, "names, separated: "."""
    if not arguments:
        return re.compile(r"(?!)(?P<names>)")
    name = r"\*{0,2}`?(?:" + "|".join(sorted(map(re.escape, arguments), key=len, reverse=True)) + ")`?"
    return re.compile(rf"(?:^|(?<=[.;)] ))(?P<names>{name}(?:(?:, | and |, and ){name})*): +")


def literal(lines: list[str]) -> list[str]:
    """A code block."""
    return ["::", "", *(f"    {line[4:]}" if line.strip() else "" for line in lines), ""]


def inline(text: str, owner: str) -> str:
    """Text with its code as code or links, and nothing else that reStructuredText would take for markup."""
    out, place = [], 0
    for match in CODE.finditer(text):
        out += [escaped(text[place:match.start()]), code(match[1] or match[2], owner)]
        if text[match.end():match.end() + 1].isalnum():
            out.append("\\ ")
        place = match.end()
    return "".join([*out, escaped(text[place:])])


def escaped(text: str) -> str:
    return re.sub(r"_(?!\w)", r"\\_", re.sub(r"([\\*|`])", r"\\\1", text))


def code(text: str, owner: str) -> str:
    """A link if it is a public name (as seen from its owner's module first), and otherwise code."""
    bare = text.removesuffix("()")
    target = NAMES.resolve(bare, owner)
    if target is not None and target != owner:
        return f":py:obj:`{text} <{target}>`"
    return f"``{text}``"


def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data") and not isinstance(value, typing.Callable):  # type: ignore[arg-type]
        arguments: set[str] = set()
    else:
        arguments = arguments_of(value)
    lines[:] = converted("\n".join(lines), name, arguments)


WRITTEN = (  # annotations as the code has them, for readers who do not know its abbreviations
    (r"\bnpt\.ArrayLike\b", "ArrayLike"), (r"\b(?:npt\.NDArray|NumPyArray)(?:\[[^\]]*\])?", "ndarray"),
    (r"\bnp\.ndarray(?:\[Any, Any\])?", "ndarray"), (r"\bOperand\b", "Tensor | ndarray | float"),
    (r"\bX\b", "Tensor | ndarray"), (r"\b(?:Array|Values)\b", "ndarray"),
    (r"\b(?:np|nn|os|contextlib)\.", ""), (r"\bSize\b", "int | tuple[int, int]"))


def signature_of(app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, back: str | None) -> Any:
    """The signature as it is written in the code. (Autodoc would replace each type by what it stands for.)"""
    if signature is None or what not in ("function", "method", "class"):
        return None
    try:
        return written_signature(value, method=what == "method", of_tensor=name.startswith("tinygan.Tensor."))
    except (TypeError, ValueError):
        return None


def written_signature(value: Any, method: bool = False, of_tensor: bool = False) -> tuple[str, str | None]:
    """(the arguments in brackets, the annotation of the result or None) of a function, an op, a method or a class."""
    found = inspect.signature(value)
    parameters = list(found.parameters.values())
    if method and parameters and (parameters[0].name in ("self", "cls") or of_tensor):
        parameters = parameters[1:]
    parameters = [p.replace(annotation=Raw(written(p.annotation)) if p.annotation is not p.empty else p.empty,
                            default=Raw(shown(p.default)) if p.default is not p.empty else p.empty) for p in parameters]
    text = str(inspect.Signature(parameters))
    has_result = found.return_annotation is not found.empty and not inspect.isclass(value)
    return text, written(found.return_annotation) if has_result else None


class Raw:
    """A text that stands in a signature as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def written(annotation: Any) -> str:
    annotation = getattr(annotation, "__forward_arg__", annotation)
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for pattern, plain in WRITTEN:
        text = re.sub(pattern, plain, text)
    return text


def shown(default: Any) -> str:
    """A default as one would write it."""
    return default.__name__ if isinstance(default, type) else repr(default)


def skip(app: Any, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what a reader cannot use: fields without a text of their own."""
    if type(value).__name__ in ("_tuplegetter", "member_descriptor"):
        return True
    return None


def link(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A type in an annotation that autodoc knows by another name than the public one, such as `tinygan.tensor.Tensor`."""
    if node.get("refdomain") != "py":
        return None
    target = NAMES.resolve(node["reftarget"].rpartition(".")[2], node.get("py:module") or "tinygan")
    domain = env.domains.python_domain
    if target not in domain.objects or node["reftarget"] == target:
        return None
    from sphinx.util.nodes import make_refnode

    found = domain.objects[target]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, target)


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature_of)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
