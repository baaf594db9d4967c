"""The package's metadata, and what the files around the code say about them."""
from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import tinygan
from tinygan import cli

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"])
TEXTS = [path for path in ROOT.rglob("*") if path.suffix in (".md", ".py", ".yml", ".toml", ".yaml", ".cff", ".ipynb")
         and not any(part.startswith((".venv", ".nox", "build", "dist", "_build", "site-packages", "shared"))
                     for part in path.relative_to(ROOT).parts)]
EXTRA = re.compile(r"(?:tinygan|(?<=[\s'\"`])\.)\[([a-z0-9_,]+)\]|\bextra `([a-z0-9_]+)`")
"""`tinygan[docs]`, `pip install '.[test]'`, the extra `oracle`."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def extras_named(text: str) -> set[str]:
    return {name for several, one in EXTRA.findall(text) for name in (several or one).split(",")}


def test_the_version_has_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    """The metadata are made from `tinygan.__version__`, and so is what the command prints."""
    assert PROJECT["project"]["dynamic"] == ["version"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tinygan.__version__"}
    assigned = [node for node in ast.parse(read("tinygan/__init__.py")).body if isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__version__"]
    assert len(assigned) == 1 and isinstance(assigned[0].value, ast.Constant)  # so it is read without an import
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tinygan {tinygan.__version__}\n"
    for name in ("setup.py", "noxfile.py", "pyproject.toml"):
        assert f'"{tinygan.__version__}"' not in read(name), f"{name} states the version, too"


def test_the_command_prints_the_version_of_the_metadata() -> None:
    try:
        version = metadata.version("tinygan")
    except metadata.PackageNotFoundError:
        pytest.skip("tinygan is not installed here")
    told = subprocess.run([sys.executable, "-m", "tinygan.cli", "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"tinygan {version}\n"


def test_the_changelog_and_the_citation_tell_this_release() -> None:
    """The newest release of the changelog is the version of the code, or the code is on its way to the next one."""
    releases = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", read("CHANGELOG.md"), re.M)
    assert releases[0] == ("Unreleased", "") and all(date for _, date in releases[1:])
    assert releases[1][0] == tinygan.__version__
    assert [date for _, date in releases[1:]] == sorted((date for _, date in releases[1:]), reverse=True)
    citation = read("CITATION.cff")
    assert f"\nversion: {releases[1][0]}\n" in citation and f"\ndate-released: {releases[1][1]}\n" in citation


def test_the_changelog_has_the_sections_of_its_form() -> None:
    sections = re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.M)
    assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_extras_that_texts_name_exist() -> None:
    assert len(TEXTS) > 300
    named = {path.relative_to(ROOT).as_posix(): extras_named(path.read_text(encoding="utf-8")) for path in TEXTS
             if path.name != Path(__file__).name}
    assert set().union(*named.values()) >= {"test", "dev", "oracle", "docs"}  # the search finds them
    assert {name: unknown for name, extras in named.items() if (unknown := extras - EXTRAS)} == {}


@pytest.mark.parametrize(("text", "extras"), [
    ("pip install 'tinygan[cuda12]'", {"cuda12"}), ("pip install -e '.[dev,oracle]'", {"dev", "oracle"}),
    ("pip install .[bench]", {"bench"}), ("the extra `onnx`", {"onnx"}), ("session.install(\".[docs]\")", {"docs"}),
    ("x.shape[axis]", set()), ("columns[a]", set()), ("tinygan[0]", {"0"}),
])
def test_extras_are_found(text: str, extras: set[str]) -> None:
    assert extras_named(text) == extras


def test_every_extra_is_documented() -> None:
    """In CONTRIBUTING, which lists all of them."""
    table = re.findall(r"^\| `([a-z0-9]+)` \|", read("CONTRIBUTING.md"), re.M)
    assert set(table) == EXTRAS and len(table) == len(EXTRAS)


def test_the_pythons_are_the_same_everywhere() -> None:
    classified = [name.rpartition(" ")[2] for name in PROJECT["project"]["classifiers"] if ":: 3." in name]
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert classified[0] == oldest == PROJECT["tool"]["mypy"]["python_version"]
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assigned = next(node.value for node in ast.parse(read("noxfile.py")).body if isinstance(node, ast.Assign)
                    and ast.unparse(node.targets[0]) == "PYTHONS")
    assert list(ast.literal_eval(assigned)) == classified
    assert f"python: {str(classified).replace(chr(39), chr(34))}" in read(".github/workflows/ci.yml")


def nox_sessions() -> dict[str, str]:
    """The names of the sessions, with their source."""
    source = read("noxfile.py")
    return {node.name: ast.get_source_segment(source, node) or "" for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and "nox.session" in ast.unparse(node.decorator_list)}


def test_the_workflow_calls_nox_and_nothing_else() -> None:
    workflow, sessions = read(".github/workflows/ci.yml"), nox_sessions()
    commands = re.findall(r"- run: (.+)", workflow)
    assert commands and all(re.fullmatch(r"pipx run (--python python )?nox -s [\w${}. -]+", command) for command in commands)
    assert "run: |" not in workflow
    listed = re.search(r"session: \[(.+)\]", workflow)
    assert listed is not None
    called = set(listed[1].split(", ")) | {"tests", "wheel"}
    assert called == set(sessions) - {"coverage"}


def test_ci_run_calls_sessions_that_exist() -> None:
    script = read(".ci/run")
    called = set(re.findall(r"^session (\w+)", script, re.M))
    for names in re.findall(r"^for name in ([\w ]+); do", script, re.M):
        called |= set(names.split())
    assert {"oracle", "lint", "lessons", "pages", "build"} <= called <= set(nox_sessions())


def test_the_kernel_tests_of_the_vectors_session_exist() -> None:
    assigned = next(node.value for node in ast.parse(read("noxfile.py")).body if isinstance(node, ast.Assign)
                    and ast.unparse(node.targets[0]) == "KERNEL_TESTS")
    assert isinstance(assigned, ast.ListComp)
    names = ast.literal_eval(assigned.generators[0].iter)
    assert len(names) > 20 and all((ROOT / "tests" / f"test_{name}.py").is_file() for name in names)


def test_every_file_of_the_package_is_installed() -> None:
    packaged = {found for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items() for pattern in patterns
                for found in (ROOT / package.replace(".", "/")).glob(pattern)}
    files = [path for path in (ROOT / "tinygan").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [path for path in files if path.suffix != ".py" and path not in packaged] == []
    code = {path.parent for path in files if path.suffix == ".py"}
    assert [folder for folder in code if not (folder / "__init__.py").is_file()] == []  # setup.py finds packages by that file
