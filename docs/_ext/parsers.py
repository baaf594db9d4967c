"""The flags of the command line, read from its parsers. `tried` is how a program itself parses its arguments. Nothing is
run."""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from unittest import mock

from tinygan import cli
from tinygan.training import VARIANTS


class Tried(BaseException):
    """How far `tried` lets a program go: it has a parser, and may have parsed its arguments."""

    def __init__(self, parser: argparse.ArgumentParser, parsed: argparse.Namespace | None) -> None:
        super().__init__()
        self.parser, self.parsed = parser, parsed


def tried(program: Callable[[], object], parse: bool = True) -> Tried:
    """Run a program up to the point where it has parsed its arguments (or, without `parse`, made its parser).

    Arguments that do not parse raise argparse's error."""
    original = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        raise Tried(parser, original(parser, args, namespace) if parse else None)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            program()
        except Tried as found:
            return found
    raise ValueError("the program has parsed no arguments")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command that does something, by its words: "sample", "train vanilla", "lesson check"."""
    found = dict(_commands(tried(lambda: cli.main([]), parse=False).parser, ""))
    del found["train"]  # it only finds the variant, whose parser is another
    for name in sorted(VARIANTS):
        found[f"train {name}"] = tried(lambda name=name: cli.main(["train", name]), parse=False).parser  # type: ignore[misc]
    return found


def _commands(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words, parser
    for action in below:
        for name, command in action.choices.items():
            yield from _commands(command, f"{words} {name}".strip())


Flag = tuple[str, str]
"""How it is written, and its help."""


def flags(parser: argparse.ArgumentParser) -> list[Flag]:
    """The arguments of a command, as `--help` says them."""
    shown = (action for action in parser._actions if action.help is not argparse.SUPPRESS)
    return [_flag(parser, action) for action in shown if not isinstance(action, argparse._HelpAction)]


def _flag(parser: argparse.ArgumentParser, action: argparse.Action) -> Flag:
    formatter = parser._get_formatter()
    written = formatter._format_action_invocation(action)
    return written, formatter._expand_help(action) if action.help else ""


def flags_of(command: str) -> list[Flag]:
    """The flags of a command, of all variants of `train`, or of one variant beside those."""
    everything = parsers()
    if command.partition(" ")[0] != "train":
        return flags(everything[command])
    variants = {words: flags(parser) for words, parser in everything.items() if words.startswith("train ")}
    shared = set.intersection(*map(set, variants.values()))
    if command == "train":
        return [flag for flag in next(iter(variants.values())) if flag in shared]
    return [flag for flag in variants[command] if flag not in shared]
