"""The code in docs/: the Python of each page runs from top to bottom in a process of its own, and the command lines parse."""
from __future__ import annotations

import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from tinygan import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))
from parsers import tried  # noqa: E402

BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PAGES = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))
         if "_build" not in path.parts}
SECONDS = 300


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """(line, code) of the blocks in that language."""
    return [(text.count("\n", 0, match.start()) + 2, re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE))
            for match in BLOCK.finditer(text) if match[2] in (language, {"bash": "sh"}.get(language))]


def program(text: str) -> str:
    """The Python of a page as one program, whose lines have the numbers that they have on the page."""
    lines: list[str] = []
    for line, code in blocks(text, "python"):
        lines += [""] * (line - 1 - len(lines)) + code.splitlines()
    return "\n".join(lines) + "\n"


OPTIONAL = ("torch", "onnx", "onnxruntime", "tensorboardX", "IPython", "ipywidgets", "nbclient", "nbformat")


def needs(page: str) -> list[str]:
    """The packages of extras that a page imports."""
    imported = re.findall(r"^(?:import|from) (\w+)", program(PAGES[page]), re.MULTILINE)
    return [name for name in OPTIONAL if name in imported]


WITH_PYTHON = [page for page, text in PAGES.items() if blocks(text, "python")]


def run(page: str, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in a folder. `tg.data.load()` has 512 images of noise there: no page may need MNIST or a network."""
    data = folder / ".data"
    data.mkdir()
    for name, shape in (("train-images-idx3-ubyte", (512, 28, 28)), ("train-labels-idx1-ubyte", (512,))):
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        (data / name).write_bytes(header + np.random.default_rng(0).integers(0, 10, shape, np.uint8).tobytes())
    (folder / "code").write_text(code, encoding="utf-8")
    start = f"import pathlib, warnings; warnings.simplefilter('error'); " \
            f"exec(compile(pathlib.Path('code').read_text(encoding='utf-8'), {page!r}, 'exec'))"
    environment = {**os.environ, "TINYGAN_DATA": str(data)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, "-c", start], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=SECONDS, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.oracle) if "torch" in needs(page) else page
                                  for page in WITH_PYTHON])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    for package in needs(page):
        pytest.importorskip(package, reason=f"docs/{page} needs {package}")
    ended = run(page, tmp_path, program(PAGES[page]))
    assert ended.returncode == 0, f"{page}\n{ended.stdout}\n{ended.stderr}"
    if page == "explanation/engine.md":
        drawn, kept = (folder / "engine-graph.svg" for folder in (tmp_path, DOCS / "explanation"))
        same = drawn.read_bytes() == kept.read_bytes()
        assert same, f"{kept} is not what the page draws: draw it again"


def test_an_error_names_the_page_and_its_line(tmp_path: Path) -> None:
    text = "# A page\n\n```python\nx = 1\n```\nText.\n\n```bash\nls\n```\n\n```python\nprint(x)\nmissing\n```\n"
    ended = run("a-page.md", tmp_path, program(text))
    assert ended.returncode == 1 and ended.stdout == "1\n"
    assert 'File "a-page.md", line 14' in ended.stderr and "'missing' is not defined" in ended.stderr


# The command lines


def parses(arguments: list[str], start: Any) -> bool:
    """Whether a program accepts its arguments. It does nothing else."""
    with mock.patch.object(sys, "argv", arguments):
        try:
            return tried(start).parsed is not None
        except SystemExit:
            return False


def typed(shown: str) -> str:
    """What is typed in a block that shows commands after "$ " and their output."""
    return "\n".join(line[2:] if line.startswith("$ ") else "" for line in shown.splitlines())


def commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of each command of a page. The body of a loop over words is taken once for each word."""
    for start, code in [*blocks(text, "bash"), *((line, typed(shown)) for line, shown in blocks(text, "console"))]:
        joined = re.sub(r"\\\n", lambda _: " \0", code)  # (\0 keeps the count of the lines)
        loop: tuple[str, list[str]] = "", [""]
        line = start
        for row in joined.splitlines():
            lexer = shlex.shlex(row.replace("\0", ""), posix=True, punctuation_chars=";&|<>")
            lexer.whitespace_split = True
            for separator, part in itertools.groupby(lexer, lambda word: set(word) <= set(";&|")):
                words = [] if separator else list(itertools.takewhile(lambda word: word not in ("<", ">", ">>"), part))
                while words and (words[0] == "do" or re.fullmatch(r"[A-Z_]+=\S*", words[0])):
                    words = words[1:]
                if words[:1] == ["for"]:
                    loop = words[1], words[3:]
                elif words == ["done"]:
                    loop = "", [""]
                elif words:
                    for value in loop[1]:
                        yield line, [re.sub(rf"\$\{{?{loop[0]}\b\}}?", value, word) if loop[0] else word for word in words]
            line += 1 + row.count("\0")


ENVIRONMENT = "tinygan-env/bin/"  # of the pages that call programs by their paths
OTHERS = ("git", "nox", "cd", "jupyter", "tensorboard", "sudo", "ssh", "ssh-keygen", "ssh-copy-id", "scp")


def complaint(words: list[str]) -> str | None:
    """None if the command is right, and otherwise what is wrong with it."""
    name, rest = words[0].removeprefix(ENVIRONMENT), words[1:]
    if name == "mpirun":
        while rest[:1] and rest[0] in ("-n", "-f", "-hostfile"):
            rest = rest[2:]
        return complaint(rest) if rest else "mpirun starts nothing"
    if name == "tinygan":
        return None if parses(words, lambda: cli.main(rest)) else "tinygan refuses it"
    if name in ("python", "python3") and rest[:1] == ["program.py"]:
        return None  # the reader has saved the page's own program under that name
    if name in ("python", "python3") and rest[:1] != ["-m"]:
        script = ROOT / rest[0]
        if not script.is_file():
            return f"there is no {rest[0]}"
        if "lessons" in script.parts:
            return None if len(rest) <= 2 else "a lesson takes one argument, a folder"
        with mock.patch.object(sys, "path", [str(script.parent), *sys.path]):
            return None if parses(rest, lambda: runpy.run_path(str(script), run_name="__main__")) else "the script refuses it"
    if name == "pip" or words[1:3] == ["-m", "pip"]:
        metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
        unknown = [extra for found in extras for extra in found.split(",") if extra not in metadata["optional-dependencies"]]
        return f"there is no extra {', '.join(unknown)}" if unknown else None
    if words[1:3] in (["-m", "pytest"], ["-m", "sphinx"], ["-m", "venv"]) or name in OTHERS:
        return None
    return "no test knows this command"


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "bash") or blocks(text, "console")])
def test_the_commands_of_a_page_parse(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [f"{page}:{line}: {shlex.join(words)}: {wrong}" for line, words in commands(PAGES[page])
             if (wrong := complaint(words)) is not None]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("command", "wrong"), [
    ("tinygan train vanilla --epoch-count 3", "tinygan refuses it"), ("tinygan trian vanilla", "tinygan refuses it"),
    ("tinygan train vanilla --epochs 0", "tinygan refuses it"), ("tinygan sample runs/first --n 3", None),
    ("python benchmarks/mode_collapse.py --experiment circle", "the script refuses it"), ("python examples/none.py", "there is no examples/none.py"),
    ("pip install '.[" "cuda9]'", "there is no extra cuda9"), ("pip install '.[test,docs]'", None), ("frobnicate", "no test knows this command"),
    ("python examples/vanilla_mnist.py --epochs 3", None), ("python examples/vanilla_mnist.py --epoch-count 3", "the script refuses it"),
    ("mpirun -n 2 tinygan trian vanilla", "tinygan refuses it"), ("mpirun -f hosts -n 8 tinygan train dcgan", None), ("mpirun -n 2", "mpirun starts nothing"),
])
def test_a_wrong_command_is_found(command: str, wrong: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(shlex.split(command)) == wrong


def test_a_page_has_data_without_a_network(tmp_path: Path) -> None:
    text = "```python\nimport tinygan as tg\ndata = tg.data.load()\nprint(len(data), data.image_shape, data.classes)\n```\n"
    ended = run("a-page.md", tmp_path, program(text))
    assert ended.stdout == "512 (1, 28, 28) 10\n", ended.stderr


def test_the_commands_of_a_block() -> None:
    text = ("# Page\n\n```bash\nA=1 tinygan info; tinygan play   # or: not this\nfor x in b c; do\n    tinygan \\\n        train $x-${x}\n"
            "done\ntinygan a && tinygan 'b; c' > file\n```\n\n```console\n$ tinygan d\nsaid\n```\n")
    assert list(commands(text)) == [
        (4, ["tinygan", "info"]), (4, ["tinygan", "play"]), (6, ["tinygan", "train", "b-b"]), (6, ["tinygan", "train", "c-c"]),
        (9, ["tinygan", "a"]), (9, ["tinygan", "b; c"]), (13, ["tinygan", "d"])]


def test_every_page_is_looked_at() -> None:
    assert len(WITH_PYTHON) >= 10 and "index.md" in WITH_PYTHON
