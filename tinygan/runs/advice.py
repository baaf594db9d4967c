"""The commands that a run suggests to its user. They depend on how the run was started, and on which program can build its
networks again."""
from __future__ import annotations

__all__ = ["Origin", "given_arguments", "open_in_python", "origin", "repeat", "resume", "sample", "start_again", "started"]

import builtins
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, NamedTuple

from tinygan.launched import on_several_machines, size

from .settings import Settings

Start = Literal["command", "script", "main", "train"]


class Origin(NamedTuple):
    """How a run was started.

    kind: "command" (`tinygan train`), "script" (`training.main` in a script that parses the command line), "main"
    (`training.main` with its caller's arguments, or in a notebook) or "train" (`training.train` in the user's program).
    body: the name of the function that `training.main` was given.
    """

    kind: Start = "train"
    body: str = "main"


_ORIGIN: ContextVar[Origin] = ContextVar("tinygan_origin", default=Origin())


def origin() -> Origin:
    """How the run of this context was started."""
    return _ORIGIN.get()


@contextmanager
def started(how: Origin) -> Iterator[None]:
    """`with started(how):` notes for the runs in the body that they were started in this way."""
    token = _ORIGIN.set(how)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def given_arguments(arguments: Sequence[str] | None) -> list[str] | None:
    """The arguments to parse; None means those of the process. In a notebook None becomes an empty list, because the
    process's arguments belong to the Jupyter kernel (`-f kernel.json`)."""
    if arguments is not None:
        return list(arguments)
    return [] if _in_notebook() else None


def _in_notebook() -> bool:
    """Whether sys.argv belongs to IPython or to a Jupyter kernel. (With `ipython script.py --epochs 2` or `%run script.py
    --epochs 2` it belongs to the script.)"""
    started_with = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    if started_with.stem.endswith("kernel_launcher") or "ipykernel" in started_with.parts:
        return True
    shell = getattr(builtins, "get_ipython", None) or getattr(sys.modules.get("IPython"), "get_ipython", None)
    if shell is None or shell() is None:
        return False
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return script is None or os.path.realpath(script) != os.path.realpath(started_with)


def resume(settings: Settings, epochs: int | None = None) -> str:
    """How to continue this run, up to `epochs` if given: a command line, or a call in Python."""
    how = origin()
    flags = ["--run-dir", settings.run_dir, "--resume", *(["--epochs", str(epochs)] if epochs else [])]
    if how.kind == "command":
        return f"{_together()}{_tinygan()} train {settings.variant} {_joined(*flags)}"
    if how.kind == "script":
        return f"{_together()}{_script()} {_joined(*flags)}"
    if how.kind == "main":
        listed = ", ".join(_quoted(flag) for flag in flags)
        return f'tg.training.main({how.body}, "{settings.variant}", [{listed}])'
    more = f", epochs={epochs}" if epochs else ""
    return (f"tg.training.train(gan, data, dataclasses.replace(settings, resume=True{more}))  "
            "# after: import dataclasses, tinygan as tg")


def repeat(settings: Settings, file: Path) -> str:
    """How to start a run with the settings in `file` again, in a new folder."""
    how = origin()
    flags = f"--config {shlex.quote(str(file))} --run-dir ANOTHER"
    if how.kind == "command":
        return f"tinygan train {settings.variant} {flags}"
    if how.kind == "script":
        return f"{_script()} {flags}"
    if how.kind == "main":
        return (f'tg.training.main({how.body}, "{settings.variant}", ["--config", {_quoted(str(file))}, "--run-dir", '
                '"ANOTHER"])')
    return f'settings = {type(settings).__name__}.from_toml({_quoted(str(file))}, run_dir="ANOTHER")'


def start_again(run_dir: str, variant: str, own: bool) -> str:
    """How to start a stopped run again, if it is not known how it was started."""
    if own:
        return "the program that started it, with resume=True in its settings (or the flag --resume)"
    return f"{_tinygan()} train {variant} --run-dir {_joined(run_dir)} --resume"


def sample(settings: Settings, own: bool) -> str:
    """How to draw images from this run: a command line, or a call in Python if the networks are the user's own."""
    return open_in_python(settings.run_dir) if own else f"{_tinygan()} sample {_joined(settings.run_dir)}"


def open_in_python(run_dir: str) -> str:
    """How to draw images in Python from a run whose networks `tinygan train` does not know."""
    return f"tg.training.open_run({_quoted(run_dir)}, gan).gan.sample(64)  # gan built as for the training"


def _quoted(text: str) -> str:
    """A Python string literal, with double quotes unless that would need escapes."""
    return repr(text) if '"' in text or "\\" in text or not text.isprintable() else f'"{text}"'


def _joined(*words: str) -> str:
    """The words as a part of a command line, quoted where the system's shell needs it."""
    if os.name == "nt":
        from subprocess import list2cmdline

        return list2cmdline(words)
    return shlex.join(words)


def _together() -> str:
    """What comes before the command if several processes run it. MACHINES stands for the file that names the machines: a
    process cannot find out what the file is called."""
    machines = "-hostfile MACHINES " if on_several_machines() else ""
    return f"mpirun {machines}-n {size()} " if size() > 1 else ""


def _tinygan() -> str:
    return _program("tinygan") or f"{_program('python') or 'python'} -m tinygan.cli"


def _script() -> str:
    """How this process's script was called."""
    python = _program("python") or "python"
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = Path(sys.argv[0])
    if spec is not None and spec.origin and os.path.realpath(spec.origin) == os.path.realpath(script):
        return f"{python} -m {spec.name.removesuffix('.__main__')}"
    quoted = _joined(str(script))
    return f"{python} {quoted}" if script.suffix == ".py" else quoted


def _program(name: str) -> str | None:
    """How to call a program of this Python's environment: by its name if that finds the program, otherwise by its path."""
    file = f"{name}.exe" if os.name == "nt" else name
    path = Path(sys.executable) if name == "python" else Path(sys.executable).with_name(file)
    found = shutil.which(name)
    if found and Path(found).absolute() == path.with_name(file):
        return name
    if not path.exists():
        return None
    return _joined(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
