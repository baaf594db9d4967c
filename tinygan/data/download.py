"""Download one file over HTTP, without ever waiting for long."""

from __future__ import annotations

__all__ = ["UnavailableError", "download"]

import queue
import threading

PATIENCE = 4.0
"""After this many seconds without a byte, the download fails. Two mirrors, one after the other, take less than ten
seconds."""

LIMIT = 1 << 26
"""An answer of more bytes than this cannot be the right file."""


class UnavailableError(OSError):
    """A file could not be downloaded; the message says from where, and why."""


def download(url: str) -> bytes:
    """The content of `url`, with a progress bar on a terminal.

    Raises `UnavailableError` for any failure, and after `PATIENCE` seconds without an answer, be it during the name look-up,
    while connecting, or in the middle of the file.
    """
    from tqdm import tqdm

    # A thread reads, because the operating system's name look-up has no timeout.
    parts: queue.SimpleQueue[bytes | int | Exception] = queue.SimpleQueue()
    given_up = threading.Event()
    threading.Thread(target=_read, args=(url, parts, given_up), name="tinygan download", daemon=True).start()
    content = bytearray()
    try:
        with tqdm(desc=url.rsplit("/", 1)[-1], unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while part := parts.get(timeout=PATIENCE):
                if isinstance(part, Exception):
                    raise UnavailableError(f"{url}: {part}") from part
                if isinstance(part, int):
                    bar.total = part
                    continue
                content += part
                bar.update(len(part))
                if len(content) > LIMIT:
                    raise UnavailableError(f"{url}: more than {LIMIT} bytes, which cannot be the right file")
    except queue.Empty:
        raise UnavailableError(f"{url}: no answer for {PATIENCE:g} seconds") from None
    finally:
        given_up.set()
    return bytes(content)


def _read(url: str, parts: queue.SimpleQueue[bytes | int | Exception], given_up: threading.Event) -> None:
    """Put into `parts` the expected length (if known and not 0), the content in pieces, and an empty piece. Or the error."""
    import urllib.request  # imported here, because the import is slow

    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            if response.length:
                parts.put(response.length)
            while (part := response.read1(1 << 16)) and not given_up.is_set():
                parts.put(part)
        parts.put(b"")
    except Exception as error:  # the waiting thread raises it
        parts.put(error)
