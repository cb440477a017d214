"""The access log: one JSON line a request, without what would let a reader sign or join."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import orjson

if TYPE_CHECKING:
    from scalelite.api.site import Request

_SECRET_NAME = re.compile(rb"password|passcode|pw|secret|token|auth|^checksum$", re.IGNORECASE)
MAX_QUERY = 2048
MAX_PATH = 256


def masked(raw_query: bytes) -> str:
    """The beginning of a raw query, fit for a log: values of secrets, checksums, passwords and tokens become `*`.

    A query with an escape inside a parameter's name, or in a piece without value, is left out whole: it could hide
    such a name; so could a semicolon, which some take for an ampersand. Takes time in proportion to the length,
    whatever is in it.
    """
    if b";" in raw_query:
        return "*"
    shown = []
    for piece in raw_query[:MAX_QUERY].split(b"&"):
        name, equals, _ = piece.partition(b"=")
        if b"%" in name:
            return "*"
        shown.append(name + b"=*" if equals and _SECRET_NAME.search(name) else piece)
    return b"&".join(shown).decode("ascii", "replace")


def shown_path(path: bytes) -> str:
    """A path fit for a log: cut where it is long, or where somebody seems to have put parameters into it."""
    return path[:MAX_PATH].partition(b"=")[0].decode("ascii", "replace")


class LineSink(Protocol):
    """Where lines of the log go."""

    def write(self, line: bytes) -> None: ...
    def flush(self) -> None: ...


class AccessLog:
    """Formats the lines."""

    def __init__(self, sink: LineSink | None) -> None:
        self._sink = sink

    def flush(self) -> None:
        """Write what is buffered."""
        if self._sink is not None:
            self._sink.flush()

    def write(self, request: Request, seconds: float) -> None:
        """One line about an answered request that took `seconds`."""
        if self._sink is None:
            return
        entry = {
            "time": round(time.time(), 3),
            "client": getattr(request.client, "host", "-"),
            "method": request.method.decode("ascii", "replace"),
            "path": shown_path(request.path),
            "query": masked(request.raw_query) if request.raw_query else "",
            "status": request.code,
            "bytes": request.sentLength,
            "ms": round(seconds * 1000, 2),
            "id": request.request_id,
        }
        if request.note is not None:
            entry["note"] = request.note
        self._sink.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def write_refusal(self, client: str, status: int, size: int) -> None:
        """One line about a client that sent what is no request, or too much; `size` of the answer in bytes."""
        if self._sink is not None:
            entry = {
                "time": round(time.time(), 3),
                "client": client,
                "status": status,
                "bytes": size,
                "note": "refused",
            }
            self._sink.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))


class BufferedFile:
    """A sink that writes to a file, or to standard output for None, when `flush` is called or the buffer is full.

    A file that was moved away (by logrotate) is opened anew at the next flush.
    """

    LIMIT = 65536

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._size = 0
        self._fd = self._open()

    def _open(self) -> int:
        if self._path is None:
            return sys.stdout.fileno()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= self.LIMIT:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. A full disk loses lines, never requests."""
        if not self._lines:
            return
        data = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            if self._path is not None and self._moved():
                os.close(self._fd)
                self._fd = self._open()
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            sys.stderr.write(f"the access log could not be written: {error}\n")

    def _moved(self) -> bool:
        assert self._path is not None
        try:
            return os.stat(self._path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return True
