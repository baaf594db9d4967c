"""docs/reference: every public name and every command is on it, and docstrings become what they say. Needs no Sphinx; the
build of the site checks the same of the finished pages."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
sys.path.append(str(ROOT / "docs" / "_ext"))
from docstrings import arguments_of, converted, written, written_signature  # noqa: E402
from parsers import flags_of, parsers  # noqa: E402
from public import NAMES, ROOMS, table  # noqa: E402

import tinygan as tg  # noqa: E402

TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md")))


def listed(room: str) -> list[str]:
    """The names of a room that the reference lists."""
    return [name for block in re.findall(rf"```{{names}} {re.escape(room)}\n(.*?)```", TEXT, re.DOTALL) for name in block.split()]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference_once(room: str) -> None:
    assert sorted(listed(room)) == sorted(NAMES.by_room[room])


def test_every_public_room_is_in_the_reference() -> None:
    """Those that `tinygan` names, with the modules that they name in turn."""
    import types

    def rooms(module: types.ModuleType) -> set[str]:
        found = {module.__name__}
        for name in getattr(module, "__all__", ()):
            if isinstance(getattr(module, name), types.ModuleType):
                found |= rooms(getattr(module, name))
        return found

    assert rooms(tg) | {"tinygan.plotting", "tinygan.teaching"} == set(ROOMS)


def test_every_public_name_has_a_docstring() -> None:
    """Tables and other values have a text below them instead, which the build of the site asks for."""
    bare = []
    for path in (f"{room}.{name}" for room, names in NAMES.by_room.items() for name in names):
        value = NAMES.value(path)
        doc = value.__doc__ or ""
        made_by_python = doc.startswith(f"{getattr(value, '__name__', '')}(")  # as of a dataclass
        if hasattr(value, "__name__") and not table(value) and (not doc.strip() or made_by_python):
            bare.append(path)
    assert not bare


def test_every_command_is_on_the_page_of_the_command_line() -> None:
    page = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"```{flags} (.+)", page)) == sorted(["train", *parsers()])
    for command in parsers():
        assert f"\n## tinygan {command}\n" in page


def test_flags_are_those_of_the_help() -> None:
    shared = dict(flags_of("train"))
    vanilla, unrolled = dict(flags_of("train vanilla")), dict(flags_of("train unrolled"))
    assert "--seed N" in shared and "--seed N" not in vanilla and "--unroll-steps N" in unrolled and "--unroll-steps N" not in shared
    told = subprocess.run([sys.executable, "-m", "tinygan.cli", "train", "unrolled", "--help"], cwd=ROOT, capture_output=True, text=True,
                          check=True).stdout
    assert set(re.findall(r"^  (--[\w-]+)", told, re.MULTILINE)) == {flag.split()[0] for flag in shared | unrolled}


# Docstrings to reStructuredText


def rst(text: str, *arguments: str, owner: str = "tinygan.somewhere") -> list[str]:
    return [line for line in converted(text, owner, set(arguments)) if line]


def test_arguments_become_a_list() -> None:
    assert rst("Does it.\n\nx, y: two arrays\n    of one shape. size: a number.\nReturns one.", "x", "y", "size") == [
        "Does it.", "- **x**, **y**: two arrays of one shape.", "- **size**: a number.", "Returns one."]
    assert rst("So: a word before a colon is no argument.", "x") == ["So: a word before a colon is no argument."]


def test_code_and_links() -> None:
    assert rst("`grad` of `x`s, `tg.nn.Dense` and `load`. It is x*y, **kw and name_.") == [
        r":py:obj:`grad <tinygan.grad>` of ``x``\ s, :py:obj:`tg.nn.Dense <tinygan.nn.Dense>` and ``load``. It is x\*y, \*\*kw and name\_."]
    assert rst("`load` here", owner="tinygan.saving.save") == [":py:obj:`load <tinygan.saving.load>` here"]


def test_indented_parts_are_code() -> None:
    assert converted("Text.\n\n    y = f(x)\n\n    z = 1", "", set()) == [
        "Text.", "", "::", "", "    y = f(x)", "", "::", "", "    z = 1", ""]
    assert rst('cost: one of\n    "a"   the first\n    "bc"  the second\nMore.', "cost") == [
        "- **cost**: one of", "  ::", '      "a"   the first', '      "bc"  the second', "  More."]


def test_annotations_are_written_as_in_the_code() -> None:
    assert written("npt.ArrayLike | None") == "ArrayLike | None" and written("npt.NDArray[np.float32]") == "ndarray"
    signature, back = written_signature(tg.gans.GAN.sample, method=True)
    assert signature == "(n: int = 64, z: ArrayLike | None = None, key: Key | None = None, *, averaged: bool = True)" and back == "ndarray"
    assert written_signature(tg.exp) == ("(x)", None) and written_signature(tg.gans.Stats)[0].startswith("(d_loss: float, ")
    assert {"x", "weight"} <= arguments_of(tg.conv2d) and {"d_loss", "g_loss"} <= arguments_of(tg.gans.Stats)
