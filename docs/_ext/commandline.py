"""The directive `flags`, which lists the flags of a command:

    ```{flags} sample
    ```

`train` alone lists the flags that all variants share, and `train NAME` those that only this one has, or has otherwise.
"""
from __future__ import annotations

from typing import Any

from parsers import flags_of, parsers
from sphinx.util.docutils import SphinxDirective


class FlagsDirective(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Any]:
        command = self.arguments[0]
        if command not in ("train", *parsers()):
            raise self.error(f"there is no command {command!r}")
        lines = []
        for written, text in flags_of(command):
            lines += [f"`{written}`", f": {escaped(text)}", ""]
        return self.parse_text_to_nodes("\n".join(lines or ["(It has none.)"]))


def escaped(text: str) -> str:
    """Text in Markdown that shows as it is."""
    return "".join("\\" + letter if letter in "\\*_<>[]#$" else letter for letter in text)


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("flags", FlagsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
