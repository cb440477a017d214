"""Sends the files of published recordings from S3, in ranges as players ask for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore

from scalelite.api.playback_files import CHUNK, INDEXES, Headers
from scalelite.api.replies import Chunks, Reply, StreamedReply
from scalelite.api.site import Request
from scalelite.recordings.bucket import Bucket, Reading
from scalelite.recordings.media_types import media_type
from scalelite.recordings.s3 import side
from scalelite.recordings.storage import StorageError
from scalelite.store.errors import StoreUnavailable

T = TypeVar("T")

#: Requests to S3 at once: each keeps a thread until S3 answers.
AT_ONCE: Final = 8

_RANGE: Final = re.compile(r"bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})", re.ASCII)


class InThread(Protocol):
    """Calls a function in a thread."""

    def __call__(self, work: Callable[..., T], *args: Any, **named: Any) -> Deferred[T]: ...


class S3Files:
    """A sender of files; see `playback.FileSender`. `in_thread` runs what waits for S3."""

    def __init__(self, bucket: Bucket, in_thread: InThread) -> None:
        self._bucket = bucket
        self._in_thread = in_thread
        self._turns = DeferredSemaphore(AT_ONCE)

    async def send(self, request: Request, path: str, headers: Headers) -> Reply | StreamedReply | None:
        """The published file at `path`, decoded and checked, that begins with a slash; None if there is none.

        Raises StoreUnavailable if S3 can't be asked.
        """
        head = request.method == b"HEAD"
        asked = _conditions(request)
        for name in INDEXES if path.endswith("/") else ("",):
            key = f"{side(True)}{path}{name}"
            reading = await self._get(key, asked, head)
            if reading is not None and reading.status == 412:
                # The client's part is of another version: it gets the whole new one.
                reading = await self._get(key, {}, head)
            if reading is not None:
                return self._answer(key, reading, headers)
        return None

    async def _get(self, key: str, asked: dict[str, Any], head: bool) -> Reading | None:
        try:
            return await self._turns.run(lambda: self._in_thread(self._bucket.get, key, asked, head=head))
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error

    def _answer(self, key: str, reading: Reading, headers: Headers) -> Reply | StreamedReply:
        if reading.status in (304, 416):
            return Reply(b"", reading.status, b"", headers, framed=True)
        kind = media_type(key)
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        told = [(b"ETag", reading.etag.encode()), (b"Accept-Ranges", b"bytes")]
        if reading.modified is not None:
            told.append((b"Last-Modified", formatdate(reading.modified.timestamp(), usegmt=True).encode()))
        if reading.content_range is not None:
            told.append((b"Content-Range", reading.content_range.encode()))
        body = S3Body(reading.body, self._read)
        return StreamedReply(body, reading.status, kind.encode(), (*told, *headers), reading.size, framed=True)

    def _read(self, body: Any) -> Deferred[bytes]:
        return self._turns.run(lambda: self._in_thread(body.read, CHUNK))


class S3Body(Chunks):
    """An object's bytes, a chunk at a time."""

    def __init__(self, body: Any, read: Callable[[Any], Deferred[bytes]]) -> None:
        self._body = body
        self._read = read

    async def asend(self, value: None) -> bytes:
        """The next chunk. Raises what botocore does."""
        data = await self._read(self._body) if self._body is not None else b""
        if not data:
            await self.aclose()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Let go of the connection, once."""
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _conditions(request: Request) -> dict[str, Any]:
    """What the client's headers ask of S3. Several ranges at once are answered by the whole file, as a server may."""
    asked: dict[str, Any] = {}
    if tags := _header(request, b"If-None-Match"):
        asked["IfNoneMatch"] = tags
    elif since := _header(request, b"If-Modified-Since"):
        # What is no date is no condition.
        with suppress(ValueError, OverflowError):
            asked["IfModifiedSince"] = parsedate_to_datetime(since)
    span = _RANGE.fullmatch(_header(request, b"Range").replace(" ", ""))
    if span is not None and request.method != b"HEAD" and _sensible(span[1]):
        asked["Range"] = f"bytes={span[1]}"
        if condition := _header(request, b"If-Range"):
            if condition.startswith('"'):
                asked["IfMatch"] = condition
            else:
                # A date, or a tag that can't be relied on.
                del asked["Range"]
    return asked


def _sensible(span: str) -> bool:
    first, _, last = span.partition("-")
    return not (first and last) or int(first) <= int(last)


def _header(request: Request, name: bytes) -> str:
    values = request.requestHeaders.getRawHeaders(name) or ()
    return ",".join(value.decode("latin-1") for value in values)
