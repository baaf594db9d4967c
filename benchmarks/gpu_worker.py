"""Runs the parts of `gpu.py` in another process. After a kernel has read from an invalid address, its process cannot use the
GPU any more, and a process that hangs must be killed. In both cases only one part is lost, and the next part gets a new
process."""
from __future__ import annotations

import importlib
import multiprocessing
import traceback
from typing import Any, NamedTuple

from gpu_card import Card, NotHereError
from harness import DifferentWorkError


class Outcome(NamedTuple):
    """status: "done", "skipped" (not possible here), "refused" (different work) or "failed"."""

    status: str
    result: dict[str, Any]
    error: str = ""
    traceback: str = ""


def attempt(card: Card, module: str, function: str, arguments: dict[str, Any]) -> Outcome:
    """Call the function with the card and the arguments."""
    try:
        return Outcome("done", getattr(importlib.import_module(module), function)(card, **arguments))
    except NotHereError as error:
        return Outcome("skipped", {}, str(error))
    except DifferentWorkError as error:
        return Outcome("refused", {}, str(error))
    except Exception as error:
        return Outcome("failed", {}, f"{type(error).__name__}: {error}", traceback.format_exc())


class Here:
    """Runs the parts in this process, without a time limit."""

    def __init__(self, device: str) -> None:
        self.card = Card(device)

    def call(self, module: str, function: str, arguments: dict[str, Any], seconds: float) -> Outcome:
        return attempt(self.card, module, function, arguments)

    def stop(self) -> None:
        return


class Worker:
    """Runs the parts in another process. The process is killed after `seconds` without an answer, and after any failure,
    even if only a piece of a part failed."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.process: Any = None
        self.connection: Any = None

    def call(self, module: str, function: str, arguments: dict[str, Any], seconds: float) -> Outcome:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, self.device))
            self.process.start()
            theirs.close()
        try:
            self.connection.send((module, function, arguments))
            if not self.connection.poll(seconds):
                self.stop()
                return Outcome("failed", {}, f"no answer within {seconds:.0f} s")
            outcome = Outcome(*self.connection.recv())
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            self.stop()
            return Outcome("failed", {}, f"its process died (exit {code})")
        if outcome.status == "failed" or outcome.result.get("failed"):
            self.stop()
        return outcome

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join(5)
            self.connection.close()
            self.process = None


def serve(connection: Any, device: str) -> None:
    """Answer calls until the connection is closed."""
    card = None
    while True:
        try:
            module, function, arguments = connection.recv()
        except EOFError:
            return
        try:
            card = card or Card(device)
        except Exception as error:
            connection.send(tuple(Outcome("failed", {}, f"{type(error).__name__}: {error}", traceback.format_exc())))
            continue
        connection.send(tuple(attempt(card, module, function, arguments)))
