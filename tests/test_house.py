"""The house's rules: which room may import which, and how long files and functions may be."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tinygan"

FLOORS = (
    ("cache", "context", "errors", "launched", "progress", "tables"),  # know nobody
    ("listening", "versions", "watching"),  # what is said while a step is recorded or watched; how often a weight was written to
    ("counting",),
    ("kernels",),  # on arrays
    ("backends",),  # tables of kernels: the CPU's and the GPU's
    ("devices", "distributed", "random"),
    ("anomalies", "checks", "graph", "interop", "making", "ops", "parameters", "pullback", "staleness", "tensor"),  # engine
    ("bound", "capture", "gradcheck", "higher_order", "nn"),
    ("exporting", "profiling"),  # a network's ops for other programs; what a recorded step executes
    ("fusion", "saving"),  # which layers run as one op; neither ops nor layers know of it
    ("gradcheck_cases", "optim"),
    ("gans",),
    ("data",),
    ("metrics", "plotting"),
    ("runs",),
    ("teaching",),
    ("training",),
    ("__init__",),  # the table of contents
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. A room (a module or a package of tinygan) imports only from floors below its own. On one floor, the
engine's, rooms know each other: Tensor has the ops as methods, and ops are made of Tensors."""

ENGINE = next(floor for floor in FLOORS if "tensor" in floor)
APART = (("kernels.cpu", "kernels.cuda"),)  # and these two know nothing of each other
FACTS = {"__version__"}  # of `tinygan` itself, which any room may ask for

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 80
EXCUSE = "long because"  # in a function's docstring or a comment inside it, with the reason

FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in FILES.items()}


def imported(name: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) for each module of tinygan that one imports, inside functions too; without what only a type checker
    reads. Modules are named from tinygan on: "ops.conv"."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING") and not isinstance(tree.test, ast.UnaryOp):
        for child in tree.orelse:
            yield from imported(name, child)
        return
    if isinstance(tree, ast.Import):
        for alias in tree.names:
            if alias.name.partition(".")[0] == "tinygan":
                yield tree.lineno, alias.name.partition(".")[2] or "__init__"
    elif isinstance(tree, ast.ImportFrom):
        package = ["tinygan", *name.split(".")][:-tree.level] if tree.level else []
        path = [*package, *(tree.module or "").split(".")]
        path = [part for part in path if part]
        if path[:1] == ["tinygan"]:
            for alias in tree.names:
                inner = ".".join([*path[1:], alias.name])
                if inner in FILES or f"{inner}.__init__" in FILES:
                    yield tree.lineno, inner
                elif path[1:]:
                    yield tree.lineno, ".".join(path[1:])
                elif alias.name not in FACTS:
                    yield tree.lineno, "__init__"
    for child in ast.iter_child_nodes(tree):
        yield from imported(name, child)


def broken(name: str, source: str) -> list[str]:
    """The rules about imports that a module breaks, in words."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    here, found = name.partition(".")[0], []
    for line, other in imported(name, ast.parse(source)):
        there, place = other.partition(".")[0], f"tinygan/{name.replace('.', '/')}.py:{line}"
        if here not in floor or there not in floor:
            found.append(f"{place}: say in FLOORS where {here if here not in floor else there} stands")
        elif floor[there] > floor[here]:
            found.append(f"{place} imports {other} from above: {here} stands below {there}")
        elif here != there and floor[there] == floor[here] and here not in ENGINE:
            found.append(f"{place} imports {other} from its own floor: only the engine's rooms know each other")
        for pair in APART:
            for one, two in (pair, pair[::-1]):
                if f"{name}.".startswith(f"{one}.") and f"{other}.".startswith(f"{two}."):
                    found.append(f"{place} imports {other}: {one} and {two} know nothing of each other")
    return found


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its name inside the module, inner ones and methods too."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name, child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ((f"{child.name}.{name}", function) for name, function in functions(child))
        else:
            yield from functions(child)


def long_functions(name: str, source: str) -> list[str]:
    """Functions of more lines than may be, inner functions included, and without an excuse."""
    lines = source.splitlines()
    return [f"{name}.{inner}" for inner, function in functions(ast.parse(source))
            if len(span(function)) > LINES_OF_A_FUNCTION and EXCUSE not in "\n".join([lines[i - 1] for i in span(function)]).lower()]


def span(function: ast.FunctionDef | ast.AsyncFunctionDef) -> range:
    return range(function.lineno, (function.end_lineno or function.lineno) + 1)


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_upwards(name: str) -> None:
    assert not broken(name, SOURCES[name])


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name: str) -> None:
    lines = len(SOURCES[name].splitlines())
    assert lines <= LINES_OF_A_FILE, f"{name}: {lines} lines; a file this long is two rooms"
    assert not long_functions(name, SOURCES[name])


def test_every_room_has_a_floor() -> None:
    rooms = {name.partition(".")[0] for name in FILES}
    named = [room for floor in FLOORS for room in floor]
    assert len(set(named)) == len(named)
    assert rooms <= set(named), f"say in FLOORS where {sorted(rooms - set(named))} stand"


@pytest.mark.parametrize(("name", "source", "message"), [
    ("ops.conv", "from tinygan.nn import Dense", "ops stands below nn"),
    ("ops.conv", "def f():\n    from tinygan import metrics", "conv.py:2 imports metrics from above"),
    ("ops.conv", "import tinygan.gans.vanilla", "imports gans.vanilla from above"),
    ("ops.conv", "from ..nn.layers import Dense", "ops stands below nn"),
    ("kernels.cpu.conv", "from tinygan.backends import Array", "kernels stands below backends"),
    ("kernels.cpu.conv.plan", "from ..cuda import conv", ""),
    ("kernels.cpu.conv.plan", "from tinygan.kernels.cuda.conv import plan", "know nothing of each other"),
    ("nn.layers", "from tinygan.bound import Bound", "from its own floor"),
    ("gans.dcgan", "import tinygan as tg", "imports __init__ from above"),
    ("attic.box", "from tinygan.context import CONTEXT", "where attic stands"),
])
def test_a_broken_rule_is_found(name: str, source: str, message: str) -> None:
    found = broken(name, source)
    assert len(found) == bool(message) and message in "".join(found)


@pytest.mark.parametrize(("name", "source"), [
    ("tensor", "from tinygan import ops"),
    ("ops.conv", "from tinygan.tensor import Tensor"),
    ("runs.machine", "from tinygan import __version__"),
    ("context", "if TYPE_CHECKING:\n    from tinygan.random import KeyStream"),
    ("kernels.cuda.conv", "import numpy\nfrom tinygan.context import CONTEXT\nfrom . import tiles"),
])
def test_what_is_allowed(name: str, source: str) -> None:
    assert broken(name, source) == []


def test_a_long_function_is_found_unless_it_says_why() -> None:
    body = "\n".join(["    x = 1"] * LINES_OF_A_FUNCTION)
    assert long_functions("m", f"def f():\n{body}") == ["m.f"]
    assert long_functions("m", f"class C:\n  def f():\n{body}") == ["m.C.f"]
    assert long_functions("m", f"def f():\n    # long because it is unrolled\n{body}") == []
    assert long_functions("m", "def f():\n" + "\n".join(["    x = 1"] * (LINES_OF_A_FUNCTION - 1))) == []
    inner = "\n".join(["        x = 1"] * (LINES_OF_A_FUNCTION - 1))
    assert long_functions("m", f"def f():\n    def g():\n{inner}\n    def h():\n{inner}") == ["m.f"]  # inner functions count, too
