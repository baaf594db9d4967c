"""What one tab asks of its engine: commands, which arrive from other threads, and the frames of a run."""
from __future__ import annotations

__all__ = ["FRAMES", "Session"]

import queue
import time
from concurrent.futures import Future
from typing import Any

from . import frames
from .engine import MOST_MOVES, MOVES, Engine, MoveError, StoppedError
from .games import Game, GameError

FRAMES = 30.0
"""Frames a second, at most."""
MOST_AT_ONCE = 100
"""Moves in a command or between two frames, at most."""

_SLICE = 0.25
"""Seconds of a run after which a frame is due, even if fewer moves are made: so `pause` is never far."""

Answer = tuple[int, dict[str, Any]]

GONE: Answer = 410, {"error": "this game was freed; start it again"}


class Session:
    """An engine and its commands. One thread owns it and calls `turn` again and again; any thread may `ask`.

    A command is an object with a "do":
    {"do": "round" | "d" | "g", "times": n}     moves; answers with a frame
    {"do": "go", "to": n}                       to the state after n moves; answers with a frame
    {"do": "run", "times": n, "until": m}       from now on n rounds between two frames, as far as move m if there is one;
                                                the frames go to the stream
    {"do": "pause"}                             ends a run; answers with a frame
    {"do": "look", "layers": [...]}             what frames contain from now on; answers with a frame
    {"do": "ops"}                               answers with the ops of the next round
    """

    def __init__(self, game: Game) -> None:
        self.engine = Engine(game)
        self.layers: frozenset[str] = frozenset(frames.LAYERS)
        self._commands: queue.Queue[tuple[dict[str, Any], Future[Answer]] | None] = queue.Queue()
        self._running = 0  # rounds between two frames; 0: no run
        self._until: int | None = None
        self._next = 0.0  # when the next frame of a run is due
        self._heard = time.monotonic()

    def ask(self, command: dict[str, Any]) -> Future[Answer]:
        """Hand in a command. The result is the status of the answer and its JSON."""
        answer: Future[Answer] = Future()
        self._commands.put((command, answer))
        return answer

    def stop(self) -> None:
        """Make the present or the next `turn` raise StoppedError."""
        self.engine.stopped = True
        self._commands.put(None)

    def end(self) -> None:
        """Answer what is still asked: the engine is gone."""
        while True:
            try:
                waiting = self._commands.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                waiting[1].set_result(GONE)

    def silent(self) -> float:
        """Seconds since the last command."""
        return time.monotonic() - self._heard

    def turn(self, patience: float) -> dict[str, Any] | None:
        """Do one command if there is one, or else the next frame of a run, and return what goes to the stream. Raises
        queue.Empty if nothing was to be done for so many seconds, and StoppedError after `stop`."""
        due = max(self._next - time.monotonic(), 0.0)
        try:
            waiting = self._commands.get(timeout=due if self._running else patience)
        except queue.Empty:
            if self._running:
                return self._frame_of_run()
            raise
        if waiting is None:
            raise StoppedError
        command, answer = waiting
        self._heard = time.monotonic()
        try:
            found = 200, self._done(command)
        except StoppedError:
            answer.set_result(GONE)
            raise
        except (GameError, MoveError) as error:
            found = 400, {"error": str(error)}
        except Exception as error:  # a fault of ours: the page is told, and the engine lives on
            found = 500, {"error": f"The engine failed: {type(error).__name__}: {error}"}
        answer.set_result(found)
        return None

    def _frame_of_run(self) -> dict[str, Any]:
        self._next = time.monotonic() + 1 / FRAMES
        self._heard = time.monotonic()
        try:
            left = self._running if self._until is None else min(self._running, self._until - self.engine.at)
            begun = time.monotonic()
            for _ in range(left):
                self.engine.move("round")
                if time.monotonic() - begun > _SLICE:
                    break
            if self._until is not None and self.engine.at >= self._until:
                self._running = 0
            return {"kind": "frame", "running": bool(self._running), "frame": self.engine.frame(self.layers)}
        except MoveError as error:
            self._running = 0
            return {"kind": "stopped", "error": str(error), "frame": self.engine.frame(self.layers)}
        except StoppedError:
            raise
        except Exception as error:  # a fault of ours: the page is told, and the engine lives on
            self._running = 0
            return {"kind": "stopped", "error": f"The engine failed: {type(error).__name__}: {error}"}

    def _done(self, command: dict[str, Any]) -> dict[str, Any]:
        name, engine = command.get("do"), self.engine
        if name == "run":
            until = None if command.get("until") is None else _whole(command, "until", None, engine.at + 1, MOST_MOVES)
            self._running, self._until, self._next = _whole(command, "times", 1, 1, MOST_AT_ONCE), until, 0.0
            return {"running": True}
        if name == "ops":
            self._running = 0
            return {"ops": engine.ops(), "move": engine.at}
        if name == "look":
            self.layers = _layers(command.get("layers"))
            return {"running": bool(self._running), "frame": engine.frame(self.layers)}
        self._running = 0
        if name in MOVES:
            for _ in range(_whole(command, "times", 1, 1, MOST_AT_ONCE)):
                engine.move(str(name))
        elif name == "go":
            engine.go(_whole(command, "to", None, 0, len(engine.moves)))
        elif name != "pause":
            raise GameError(f"do: expected one of {', '.join(MOVES)}, go, run, pause, look, ops, got {name!r:.60}")
        return {"running": False, "frame": engine.frame(self.layers)}


def _whole(command: dict[str, Any], name: str, default: int | None, low: int, high: int) -> int:
    value = command.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise GameError(f"{name}: expected a whole number from {low} to {high}, got {value!r:.60}")
    return value


def _layers(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name in frames.LAYERS for name in value):
        raise GameError(f"layers: expected a list of {', '.join(frames.LAYERS)}, got {value!r:.60}")
    return frozenset(value)
