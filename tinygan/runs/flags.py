"""A parser of command lines that suggests what a misspelt word may mean."""
from __future__ import annotations

__all__ = ["Parser"]

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, whose errors are one line, and not a page of usage. The error for an unknown flag, command
    or choice names the known one that is most like it. Flags cannot be abbreviated: a shorter one may soon have another
    meaning."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The arguments, and an empty list: unknown ones are an error here.

        argparse calls this for a subcommand too. There the flags are known that a misspelt one may mean. `parse_args`, which
        reports unknown flags otherwise, has the flags and the usage of the whole program."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the error, and which flag says more. Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n(--help says more)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse calls this for a command or a value that must be one of several."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _suggestion([str(value)], list(map(str, action.choices or ())))
            raise

    def _suggestion(self, unknown: Sequence[str]) -> str:
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        return _suggestion([text.partition("=")[0] for text in unknown if text.startswith("--")], known)


def _suggestion(misspelt: Sequence[str], known: Sequence[str]) -> str:
    nearest = dict.fromkeys(word for text in misspelt for word in difflib.get_close_matches(text, known, n=1))
    return f" (did you mean {', '.join(nearest)}?)" if nearest else ""
