"""The server of the playground: the standard library's, on loopback only.

One page, and commands in JSON. `POST /TOKEN/open` answers with a stream, a JSON object a line, that stays open as long as
the page does. Its thread owns one engine, makes all that engine's moves, and writes the frames of a run. When the connection
closes, because the tab was closed, the engine is freed. `POST /TOKEN/do/ID` hands a command to that thread and answers with
what it returns.

Whoever else runs a page in the reader's browser must not reach an engine: the address holds a random token, and requests
whose Host or Origin is not this server's are refused. No file is served by its path.
"""
from __future__ import annotations

__all__ = ["LARGEST", "MOST_ENGINES", "Playground"]

import hmac
import json
import os
import queue
import re
import secrets
import select
import socket
import sys
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import page
from .engine import StoppedError
from .games import GameError, read
from .session import GONE, Session

HOST = "127.0.0.1"
MOST_ENGINES = 4
"""Engines at once. A browser opens at most six connections to a server, and each engine holds one of them."""
LARGEST = 65_536  # bytes of a request
IDLE = 30 * 60.0
"""Seconds without a command after which an engine is freed."""
_LOOK = 0.5  # seconds between two looks at whether the page is still there
_WAIT = 60.0  # seconds for the answer to a command


class RefusedError(Exception):
    """A request that is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Playground(ThreadingHTTPServer):
    """The server. port: 0 takes a free one. `address` is where the page is. idle: see `IDLE`."""

    daemon_threads = False  # `close` waits for them, so that none is left
    block_on_close = True
    allow_reuse_address = os.name != "nt"  # on Windows this would let two servers have one port

    def __init__(self, port: int = 0, *, idle: float = IDLE) -> None:
        self.token = secrets.token_urlsafe(18)
        self.idle = idle
        self.sessions: dict[str, Session] = {}
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/{self.token}/"

    def hosts(self) -> tuple[str, ...]:
        """The names under which a browser on this machine may ask for the page."""
        return f"{HOST}:{self.port}", f"localhost:{self.port}"

    def add(self, session: Session) -> str:
        """Take a session in; returns its id. Raises RefusedError if there are too many."""
        with self._lock:
            if len(self.sessions) >= MOST_ENGINES:
                raise RefusedError(503, f"{MOST_ENGINES} games are open already, which is as many as this server keeps. "
                                        "Close one of their tabs, then load this page again.")
            name = secrets.token_urlsafe(9)
            self.sessions[name] = session
        return name

    def remove(self, name: str) -> None:
        with self._lock:
            self.sessions.pop(name, None)

    def close(self) -> None:
        """Free all engines, close all connections, and wait until every thread has ended."""
        self.closing.set()
        with self._lock:
            sessions, connections = list(self.sessions.values()), list(self._connections)
        for session in sessions:
            session.stop()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                continue
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An error in a connection: a page that goes away is none."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"tinygan: error: {type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Playground
    protocol_version = "HTTP/1.1"
    server_version = "tinygan"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 120  # seconds that a connection may be silent between requests

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged: the address holds the token."""

    def version_string(self) -> str:
        return self.server_version

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, action: Any) -> None:
        try:
            action()
        except RefusedError as refusal:
            self._json(refusal.status, {"error": str(refusal)})
        except GameError as error:
            self._json(400, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            raise  # the page is gone
        except Exception as error:  # a fault of ours: the page is told, and the server lives on
            self._json(500, {"error": f"The server failed: {type(error).__name__}: {error}"})

    # -- requests --------------------------------------------------------------------------------------------------------

    def _path(self) -> str:
        """The path behind the token. Raises RefusedError for a request that is not this page's."""
        host = self.headers.get("Host", "")
        if host not in self.server.hosts():
            raise self._refused(403, "this server answers only on loopback, under its own address")
        found = re.fullmatch(r"/([\w-]+)/([\w/-]*)", self.path)
        if not found or not hmac.compare_digest(found[1].encode(), self.server.token.encode()):
            raise self._refused(404, "there is nothing here; the address is the one that `tinygan play` printed")
        origin = self.headers.get("Origin")
        if (origin is not None or self.command == "POST") and origin != f"http://{host}":
            raise self._refused(403, "the request comes from another page")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise self._refused(403, "the request comes from another page")
        return found[2]

    def _refused(self, status: int, message: str) -> RefusedError:
        self.close_connection = True  # the body, if there is one, was not read
        return RefusedError(status, message)

    def _get(self) -> None:
        if self._path():
            raise RefusedError(404, "there is nothing here but the page")
        content, policy = page.written()
        self._send(200, "text/html; charset=utf-8", content, {"Content-Security-Policy": policy})

    def _post(self) -> None:
        path = self._path()
        body = self._body()
        if path == "open":
            self._open(read(body.get("settings", {})))
        elif path.startswith("do/"):
            self._json(*self._do(path.removeprefix("do/"), body))
        else:
            raise RefusedError(404, "there is nothing here")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise self._refused(415, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length):
            raise self._refused(411, "expected a Content-Length")
        if int(length) > LARGEST:
            raise self._refused(413, f"a request has at most {LARGEST:,} bytes, this one has {int(length):,}")
        content = self.rfile.read(int(length))
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise RefusedError(400, "the request is not JSON") from None
        if not isinstance(body, dict):
            raise RefusedError(400, f"expected an object, got {type(body).__name__}")
        return body

    def _do(self, name: str, command: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        session = self.server.sessions.get(name)
        if session is None:
            return GONE
        answer: Future[tuple[int, dict[str, Any]]] = session.ask(command)
        try:
            return answer.result(_WAIT)
        except TimeoutError:
            raise RefusedError(503, "the engine is busy") from None

    # -- the stream of an engine -------------------------------------------------------------------------------------------

    def _open(self, game: Any) -> None:
        session = Session(game)
        name = self.server.add(session)
        try:
            first = {"kind": "opened", "id": name, **session.engine.opening(), "frame": session.engine.frame()}
            self.close_connection = True  # the end of the stream is the end of the connection
            self.send_response(200)
            self._headers("application/x-ndjson", {})
            self.end_headers()
            self._line(first)
            self._serve(session)
        except (ConnectionError, TimeoutError):
            pass  # the page is gone
        finally:
            self.server.remove(name)
            session.end()

    def _serve(self, session: Session) -> None:
        """Do what the page asks, and write the frames of a run, until the page or the server goes away."""
        while not self.server.closing.is_set():
            if self._gone():
                return
            try:
                line = session.turn(_LOOK)
            except queue.Empty:
                if session.silent() > self.server.idle:
                    self._line({"kind": "closed", "error": f"The game was freed after {self.server.idle / 60:.0f} minutes "
                                                           "without a command. Start it again."})
                    return
                continue
            except StoppedError:
                return
            if line is not None:
                self._line(line)

    def _gone(self) -> bool:
        """Whether the page has closed the connection."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _line(self, content: dict[str, Any]) -> None:
        self.wfile.write(_dumped(content) + b"\n")

    # -- answers -----------------------------------------------------------------------------------------------------------

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, "application/json", _dumped(content), {})

    def _send(self, status: int, kind: str, content: bytes, more: dict[str, str]) -> None:
        self.send_response(status)
        self._headers(kind, {"Content-Length": str(len(content)), **more})
        self.end_headers()
        self.wfile.write(content)

    def _headers(self, kind: str, more: dict[str, str]) -> None:
        always = {"Content-Type": kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
                  "Referrer-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
                  "Cross-Origin-Opener-Policy": "same-origin"}
        for name, value in {**always, **more, **({"Connection": "close"} if self.close_connection else {})}.items():
            self.send_header(name, value)


def _dumped(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
