"""MNIST's files: read from a folder, fetched from servers that misbehave, and the real ones where there are any."""
from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinygan.data import DataError, download, glyphs, load, mnist
from tinygan.data.dataset import Dataset, content_checksum

IMAGES, LABELS = mnist.FILES["train"]
REAL = os.environ.get("TINYGAN_DATA", "")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}i", 2048 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    return tmp_path / "cache" / "tinygan" / "mnist"


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small data set in MNIST's place: the decompressed content of its training files."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28)).astype(np.uint8)
    made = {IMAGES: idx(pixels), LABELS: idx(np.array([3, 1, 4, 1, 5, 9, 2], np.uint8))}
    monkeypatch.setattr(mnist, "SHA256", {
        **mnist.SHA256, **{name: hashlib.sha256(content).hexdigest() for name, content in made.items()}})
    return made


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def test_files_are_read_gzipped_or_not(tmp_path: Path, contents: dict[str, bytes]) -> None:
    data = load(write(tmp_path / "gzipped", contents))
    assert data.name == "mnist" and data.image_shape == (1, 28, 28)
    assert data.labels is not None and data.labels.tolist() == [3, 1, 4, 1, 5, 9, 2]
    assert data.images.tobytes() == contents[IMAGES][16:]
    for folder, names in (("plain", (IMAGES, LABELS)), ("dotted", (IMAGES.replace("-idx", ".idx"), LABELS))):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, contents.values(), strict=True):
            (tmp_path / folder / name).write_bytes(content)
        assert load(tmp_path / folder).checksum == data.checksum
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz .* is missing"):
        load(tmp_path / "gzipped", split="test")


def damage(kind: str, content: bytes) -> bytes:
    compressed = gzip.compress(content)
    return {
        "truncated": compressed[:len(compressed) // 2],
        "flipped": compressed[:50] + bytes([compressed[50] ^ 4]) + compressed[51:],
        "short": content[:-1],
        "empty": b"",
        "labels": b"\0\0\x08\x01" + content[4:],
        "page": b"<html>" + b"not found" * 10,
        "long": gzip.compress(content + b"x"),
        "bomb": gzip.compress(content + bytes(1 << 27), compresslevel=1),
        "type": b"\0\0\x07\x03" + content[4:],
        "two negatives": struct.pack(">4i", 2051, -7, -28, 28) + content[16:],
        "negative": struct.pack(">4i", 2051, -7, 28, 28) + content[16:],
    }[kind]


@pytest.mark.parametrize(("kind", "message"), [
    ("truncated", "truncated gzip file"),
    ("flipped", "damaged gzip file|promises|magic|truncated"),
    ("short", "5503 bytes, but its header promises 5504"),
    ("empty", "0 bytes, too few for an IDX header of 16"),
    ("labels", "magic number 2049, expected 2051"),
    ("page", "magic number"),
    ("long", "but its header promises 5504"),
    ("bomb", "but its header promises 5504"),
    ("negative", r"promises .* \(uint8 \(-7, 28, 28\)\)"),
    ("two negatives", r"promises .* \(uint8 \(-7, -28, 28\)\)"),
    ("type", "magic number 1795, expected 2051"),
])
def test_a_damaged_file_is_named_with_what_is_wrong(
        tmp_path: Path, contents: dict[str, bytes], kind: str, message: str) -> None:
    folder = write(tmp_path / "mnist", contents)
    broken = folder / f"{IMAGES}.gz"
    broken.write_bytes(damage(kind, contents[IMAGES]))
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert str(broken) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, contents: dict[str, bytes]) -> None:
    folder = write(tmp_path / "mnist", contents)
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz .* is missing"):
        load(folder)


Answer = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]


class Server(http.server.ThreadingHTTPServer):
    """Serves the files as `answer` has it, and counts the requests."""

    daemon_threads = True

    def __init__(self, contents: dict[str, bytes], answer: Answer) -> None:
        self.asked: list[str] = []
        self.stopped = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                server.asked.append(name)
                answer(self, gzip.compress(contents[name.removesuffix(".gz")]))

            def log_message(self, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mnist/"


def send(handler: http.server.BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def well(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body)


def missing(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_error(404)


def corrupted(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, gzip.compress(gzip.decompress(body)[:-1] + b"?"))


def cut(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body[:len(body) // 2], length=len(body))


def stalled(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body[:len(body) // 2], length=len(body))
    handler.server.stopped.wait(5)  # type: ignore[attr-defined]


def silent(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
    handler.server.stopped.wait(5)  # type: ignore[attr-defined]


@pytest.fixture
def serve(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Server]]]:
    """`serve(answer, ...)`: those servers are the mirrors."""
    servers: list[Server] = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PATIENCE", 0.4)

    def start(*answers: Answer) -> list[Server]:
        servers.extend(Server(contents, answer) for answer in answers)
        monkeypatch.setattr(mnist, "MIRRORS", tuple(server.url for server in servers))
        return servers

    yield start
    for server in servers:
        server.stopped.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def glyphs_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((2, 1, 28, 28), np.uint8)
    monkeypatch.setattr(glyphs, "load", lambda split: Dataset("glyphs", images, None, content_checksum(images, None)))


def test_a_download_is_kept_and_not_repeated(
        cache: Path, serve: Callable[..., list[Server]], contents: dict[str, bytes]) -> None:
    first, second = serve(well, well)
    data = load()
    assert data.name == "mnist" and data.images.tobytes() == contents[IMAGES][16:]
    assert sorted(os.listdir(cache)) == [f"{IMAGES}.gz", f"{LABELS}.gz"]
    assert load().checksum == data.checksum
    assert first.asked == [f"{IMAGES}.gz", f"{LABELS}.gz"] and second.asked == []


@pytest.mark.parametrize("answer", [missing, corrupted, cut, stalled, silent])
def test_the_second_mirror_is_asked_when_the_first_fails(
        cache: Path, serve: Callable[..., list[Server]], contents: dict[str, bytes], answer: Answer) -> None:
    _, second = serve(answer, well)
    assert load().images.tobytes() == contents[IMAGES][16:]
    assert len(second.asked) == 2 and sorted(os.listdir(cache)) == [f"{IMAGES}.gz", f"{LABELS}.gz"]


@pytest.mark.parametrize(("answer", "reason"), [
    (missing, "404"), (corrupted, "SHA-256"), (cut, "truncated|Incomplete"), (stalled, "no answer|timed out"),
    (silent, "no answer|timed out")])
def test_when_every_mirror_fails_it_says_so_and_goes_on_with_glyphs(
        cache: Path, serve: Callable[..., list[Server]], glyphs_instead: None, capsys: pytest.CaptureFixture[str],
        answer: Answer, reason: str) -> None:
    serve(answer, answer)
    start = time.monotonic()
    assert load().name == "glyphs"
    assert time.monotonic() - start < 4  # ten times less patience than usual; a stalled server would hold for longer
    assert not cache.exists() or os.listdir(cache) == []
    said = capsys.readouterr().err
    assert "no MNIST" in said and "glyphs" in said
    assert re.search(reason, said)


def test_without_a_connection_the_patience_of_all_mirrors_is_under_ten_seconds() -> None:
    assert len(mnist.MIRRORS) * download.PATIENCE < 10


def test_a_name_lookup_that_hangs_is_given_up(
        serve: Callable[..., list[Server]], glyphs_instead: None, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(well)
    hang = threading.Event()
    monkeypatch.setattr("urllib.request.urlopen", lambda *arguments, **options: hang.wait(5))
    start = time.monotonic()
    assert load().name == "glyphs"
    assert time.monotonic() - start < 3
    hang.set()


def test_a_damaged_file_in_the_cache_is_downloaded_again(
        cache: Path, serve: Callable[..., list[Server]], contents: dict[str, bytes],
        capsys: pytest.CaptureFixture[str]) -> None:
    (server,) = serve(well)
    load()
    kept = cache / f"{LABELS}.gz"
    kept.write_bytes(kept.read_bytes()[:-9])
    assert load().labels is not None and server.asked.count(f"{LABELS}.gz") == 2
    assert f"{kept}: truncated gzip file" in capsys.readouterr().err
    assert gzip.decompress(kept.read_bytes()) == contents[LABELS]


def test_a_cache_folder_that_cannot_be_written_is_said_and_does_no_harm(
        tmp_path: Path, serve: Callable[..., list[Server]], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    serve(well)
    assert load().name == "mnist"
    assert "could not save" in capsys.readouterr().err


@pytest.mark.skipif(not REAL, reason="TINYGAN_DATA does not name a folder with the real MNIST")
@pytest.mark.parametrize(("split", "count", "first"), [
    ("train", 60_000, [5, 0, 4, 1, 9]), ("test", 10_000, [7, 2, 1, 0, 4])])
def test_the_real_mnist(split: str, count: int, first: list[int]) -> None:
    data = load(REAL, split=split)  # type: ignore[arg-type]
    assert data.name == "mnist" and data.image_shape == (1, 28, 28) and len(data) == count
    assert data.labels is not None and data.labels[:5].tolist() == first
    if split == "train":
        assert data.images.mean() == pytest.approx(33.318, abs=1e-3)  # the published mean, 0.1307 of 255
