"""Ops are functions to a reader and to a type checker."""
from __future__ import annotations

import inspect
import os
import pydoc
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import tinygan as tg
from tinygan import Op, Tensor, nn

HERE = Path(__file__).parent
PUBLIC = [name for name in tg.__all__ if isinstance(getattr(tg, name), Op) or inspect.isfunction(getattr(tg, name))]


RIGHT, WRONG = HERE / "typing_right.py", HERE / "typing_wrong.py"


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """What `mypy --strict` says of two users' programs, by file and line."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent",
               f"--cache-dir={tmp_path_factory.mktemp('mypy')}", str(RIGHT), str(WRONG)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "MYPYPATH": str(HERE.parent)})
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, dict[int, str]] = {RIGHT.name: {}, WRONG.name: {}}
    for name, line, message in re.findall(r"(\w+\.py):(\d+): error: (.*)", done.stdout):
        found[name][int(line)] = message
    return found


def test_a_right_program_has_the_right_types(complaints: dict[str, dict[int, str]]) -> None:
    assert complaints[RIGHT.name] == {}


def test_wrong_calls_are_found(complaints: dict[str, dict[int, str]]) -> None:
    wrong = [i for i, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("# wrong")]
    assert len(wrong) > 20 and sorted(complaints[WRONG.name]) == wrong


@pytest.mark.parametrize("name", PUBLIC)
def test_help_shows_a_signature_and_a_docstring(name: str) -> None:
    function = getattr(tg, name)
    text = pydoc.plain(pydoc.render_doc(function))
    assert function.__name__ == name and inspect.isroutine(function)
    assert re.search(rf"^{name}\((?!B\b|\.\.\.).*$", text, re.MULTILINE), text
    assert f"module {function.__module__}" in text and function.__module__.startswith("tinygan.")
    assert function.__doc__ and function.__doc__.split("\n")[0] in text


def test_the_signature_is_what_a_caller_writes() -> None:
    assert str(inspect.signature(tg.exp)) == "(x)" and str(inspect.signature(tg.add)) == "(a, b)"
    assert list(inspect.signature(tg.sum).parameters) == ["x", "axis", "keepdims"]

    @tg.op
    def scaled(B, x, factor=2.0):  # type: ignore[no-untyped-def]
        """x times a factor."""
        return x * factor

    assert str(inspect.signature(scaled)) == "(x, factor=2.0)" and scaled.__doc__ == "x times a factor."


def test_an_op_is_a_method_where_it_is_an_attribute_of_a_class() -> None:
    class Wave(Tensor):
        double = tg.op(lambda B, x: x + x)

    assert Wave([1.0, 2.0]).double().tolist() == [2, 4]
    assert isinstance(Wave.double, Op)


def test_an_op_is_a_value_where_it_is_an_attribute_of_another_class() -> None:
    class Layer(nn.Module):
        wave = tg.exp

        def forward(self, x: Tensor) -> Tensor:
            return self.wave(x)

    assert Layer()(Tensor([0.0])).tolist() == [1.0] and Layer().wave is tg.exp


def test_a_methods_argument_has_a_name() -> None:
    assert Tensor([3.0]).pow(exponent=2).tolist() == [9.0]
    with pytest.raises(TypeError, match=r"Tensor\.pow\(\) missing 1 required positional argument: 'exponent'"):
        Tensor([3.0]).pow()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Tensor\.exp\(\) takes 1 positional argument but 2 were given"):
        Tensor([3.0]).exp(1)  # type: ignore[call-arg]
    assert tg.sum.__qualname__ == "sum"


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isfunction(getattr(tg, name))])
def test_type_hints_can_be_read(name: str) -> None:
    assert typing.get_type_hints(getattr(tg, name))


def test_methods_are_the_ops() -> None:
    x = Tensor([[1.0, 4.0]])
    for name in ("exp", "sqrt", "sum", "relu", "abs", "argmax", "flatten", "sign"):
        assert getattr(x, name)().tolist() == getattr(tg, name)(x).tolist()
        assert inspect.getdoc(getattr(Tensor, name)) == inspect.getdoc(getattr(tg, name))
    with pytest.raises(TypeError):
        x.exp(1)
