"""`run.toml`: the settings of a run as a file for people. Every run writes one, and `--config` reads one.

Python reads TOML (`tomllib`), but does not write it. The few lines that write it here also write what each setting means,
as comments. Settings are numbers, texts and lists of them, so no more of the format is needed.
"""
from __future__ import annotations

__all__ = ["NAME", "read", "written"]

import argparse
import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunError

if TYPE_CHECKING:
    from .settings import Settings

NAME = "run.toml"
_NONE = "none"
"""How a file says that a setting has no value, where that is not its default. TOML has no word for it."""
_ELSEWHERE = ("run_dir", "resume")
"""What a run does not write about itself: where its files went, and that it was resumed."""


def written(settings: Settings, data_dir: str | None, repeat: str) -> str:
    """The content of `run.toml`: every setting with what it means. data_dir: where the data are, as an absolute path.
    repeat: how to start the same run again, in words."""
    lines = [f"# The settings of a run: {_in_one_line(settings.title)}. To repeat it:", f"#   {_in_one_line(repeat)}",
             "# What is given there too has precedence over this file. A line that begins with # sets nothing.", "",
             f"variant = {_toml(settings.variant)}"]
    for item in fields(settings):
        if item.name not in _ELSEWHERE:
            value = data_dir if item.name == "data_dir" else getattr(settings, item.name)
            lines.append(f"{_entry(item, value):<32} {_comment(item)}".rstrip())
    return "\n".join(lines) + "\n"


def _entry(item: Field[Any], value: Any) -> str:
    if value is None:
        return f"# {item.name} =" if item.default is None else f"{item.name} = {_toml(_NONE)}"
    text = _toml(value)
    return f"# {item.name} cannot be written here" if text is None else f"{item.name} = {text}"


def _comment(item: Field[Any]) -> str:
    if "help" not in item.metadata:  # a field of a user's settings that was not made by `option`
        return ""
    # The help of a flag such as --no-capture says what happens without it.
    text = ("false: " if item.default is True else "") + item.metadata["help"]
    choices = item.metadata.get("choices") or ()
    known = "" if all(choice in text for choice in choices) else f": {', '.join(choices)}"
    return f"# {_in_one_line(text + known)}"


def _in_one_line(text: str) -> str:
    """The text, fit for a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _toml(value: Any) -> str | None:
    """The value in TOML. None: it is nothing that a file of settings can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode()  # (the name of a file need not be Unicode)
        except UnicodeEncodeError:
            return None
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # what TOML escapes and JSON does not
    if isinstance(value, list | tuple):
        parts = [_toml(part) for part in value]
        return None if None in parts else f"[{', '.join(filter(None, parts))}]"
    return None


def read(file: str | os.PathLike[str], settings: type[Settings]) -> dict[str, Any]:
    """The settings in a file, by name, each checked as its flag would be. Keys are the names of flags without the first
    dashes, such as `latent-dim`, or those of `settings`, such as `latent_dim`. Raises RunError, which names the file and
    the key."""
    known = {item.name: item for item in fields(settings)}
    presets = settings.presets
    found: dict[str, Any] = {}
    preset: Mapping[str, Any] = {}
    for key, value in _parsed(Path(file).expanduser()).items():
        name = key.replace("-", "_")
        if name == "variant":
            if value != settings.variant:
                raise RunError(f"{file}: variant: these are settings of {value!r}, not of {settings.variant!r}")
        elif name == "preset" and presets:
            if not isinstance(value, str) or value not in presets:
                raise RunError(f"{file}: {key}: expected {_one_of(presets)}, got {_shown(value)}")
            preset = presets[value]
        elif name not in known:
            names = [*known, "variant", *(["preset"] if presets else [])]
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise RunError(f"{file}: unknown key {key!r}; the nearest known one is {nearest!r}")
        elif name in found:
            raise RunError(f"{file}: {key}: this key is there twice, with - and with _ in its name")
        else:
            try:
                found[name] = _checked(known[name], value)
            except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
                raise RunError(f"{file}: {key}: {error}") from None
    return {**preset, **found}


def _parsed(file: Path) -> dict[str, Any]:
    if file.is_dir():
        raise RunError(f"{file} is a folder: expected a TOML file, such as {file / NAME}")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{file} does not exist: expected a TOML file, such as the {NAME} of a run") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise RunError(f"{file} is not a TOML file: {error}") from None


def _checked(item: Field[Any], value: Any) -> Any:
    kind, choices = item.metadata.get("kind"), item.metadata.get("choices")
    if kind is None:  # a field of a user's settings that was not made by `option`
        return value
    if value == _NONE and "None" in str(item.type):
        return None
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {_shown(value)}")
        return value
    if choices is not None and value not in choices:
        raise ValueError(f"expected {_one_of(choices)}, got {_shown(value)}")
    expected = getattr(kind, "expected", "a text" if kind is str else "a number or a text")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected {expected}, got {_shown(value)}")
    try:
        made = kind(str(value))
    except argparse.ArgumentTypeError:
        if not hasattr(kind, "expected"):
            raise
        raise ValueError(f"expected {expected}, got {_shown(value)}") from None
    if isinstance(value, str) and not isinstance(made, str):
        raise ValueError(f"expected {expected}, got a text: write {value} without quotes")
    return made


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(names)


def _shown(value: Any) -> str:
    """A value of a file in an error message."""
    return "a table" if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else repr(value)
