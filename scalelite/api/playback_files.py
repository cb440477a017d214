"""Sends the files of published recordings, in ranges as players ask for them, where there is no nginx to do it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Awaitable, Callable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from scalelite.api.replies import Chunks, Reply, StreamedReply
from scalelite.api.site import Request
from scalelite.recordings.media_types import media_type

CHUNK: Final = 128 * 1024
"""Bytes that are read at once: held for each client that takes its time."""

InThread = Callable[..., Awaitable[object]]
"""Calls a function with arguments in a thread."""

INDEXES: Final = ("index.html", "index.htm")

Headers = tuple[tuple[bytes, bytes], ...]

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class NoFile(Exception):
    """There is no such file that may be sent."""


class IsFolder(Exception):
    """A folder, named without a slash at the end."""


@attrs.frozen
class OpenFile:
    """A regular file, open for reading; whoever gets it closes it."""

    descriptor: int
    name: str
    size: int
    modified_ns: int

    @property
    def etag(self) -> str:
        """Changes whenever the file does: whole recordings are replaced, never parts of a file."""
        return f'"{self.modified_ns:x}-{self.size:x}"'

    @property
    def last_modified(self) -> str:
        return formatdate(self.modified_ns // 1_000_000_000, usegmt=True)


class RecordingFiles:
    """Sends what is below `root`. Symbolic links are not followed there, and folders not listed.

    `in_thread` runs what reads the disk.
    """

    def __init__(self, root: Path, in_thread: InThread) -> None:
        self._root = root
        self._in_thread = in_thread

    async def send(self, request: Request, path: str, headers: Headers) -> Reply | StreamedReply | None:
        """The file at `path`, decoded and checked, that begins with a slash; None if there is none."""
        try:
            opened = await self._in_thread(open_file, self._root, path)
        except NoFile:
            return None
        except IsFolder:
            location = quote(path).encode() + b"/"
            return Reply(b"", 301, b"", ((b"Location", location), *headers))
        assert isinstance(opened, OpenFile)
        body = FileBody(opened.descriptor, self._in_thread)
        sent = request.requestHeaders.getAllRawHeaders()
        asked = {name.lower(): b",".join(values).decode("latin-1") for name, values in sent}
        reply = answer(opened, body, asked, headers, head=request.method == b"HEAD")
        if isinstance(reply, Reply):
            await body.aclose()
        return reply


def answer(
    opened: OpenFile, body: FileBody, asked: dict[bytes, str], headers: Headers, *, head: bool
) -> Reply | StreamedReply:
    """What to answer to a request with the headers `asked`, in lower case (RFC 9110, sections 13 and 14).

    Several ranges at once are answered by the whole file, as a server may.
    """
    common: Headers = (
        (b"ETag", opened.etag.encode()),
        (b"Last-Modified", opened.last_modified.encode()),
        (b"Accept-Ranges", b"bytes"),
        *headers,
    )
    if _is_known(opened, asked):
        return Reply(b"", 304, b"", common, framed=True)
    kind = media_type(opened.name)
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    span = None if head else _span(opened, asked)
    if span is None:
        body.limit(0, opened.size)
        return StreamedReply(body, 200, kind.encode(), common, opened.size, framed=True)
    first, end = span
    if first >= end:
        return Reply(b"", 416, b"", ((b"Content-Range", b"bytes */%d" % opened.size), *common), framed=True)
    body.limit(first, end)
    content_range = (b"Content-Range", b"bytes %d-%d/%d" % (first, end - 1, opened.size))
    return StreamedReply(body, 206, kind.encode(), (content_range, *common), end - first, framed=True)


def _is_known(opened: OpenFile, asked: dict[bytes, str]) -> bool:
    """Whether the client has the file as it is."""
    tags = asked.get(b"if-none-match")
    if tags is not None:
        return any(tag.strip().removeprefix("W/") in (opened.etag, "*") for tag in tags.split(","))
    since = asked.get(b"if-modified-since")
    if since is None:
        return False
    try:
        return opened.modified_ns // 1_000_000_000 <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False


def _span(opened: OpenFile, asked: dict[bytes, str]) -> tuple[int, int] | None:
    """The first byte asked for, and the one after the last; no bytes where the range lies outside. None: all."""
    found = _RANGE.fullmatch(asked.get(b"range", "").replace(" ", ""))
    condition = asked.get(b"if-range")
    if found is None or (condition is not None and condition.strip() not in (opened.etag, opened.last_modified)):
        return None
    first, last = found.groups()
    if not first:
        # The last so many bytes.
        return (max(0, opened.size - int(last)) if int(last) else opened.size, opened.size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, opened.size) if last else opened.size


class FileBody(Chunks):
    """A file's bytes, a chunk at a time, each read in a thread."""

    def __init__(self, descriptor: int, in_thread: InThread) -> None:
        self._descriptor = descriptor
        self._in_thread = in_thread
        self._position = 0
        self._end = 0
        self._closed = False

    def limit(self, first: int, end: int) -> None:
        """Send the bytes from `first` up to, not including, `end`."""
        self._position, self._end = first, end

    async def asend(self, value: None) -> bytes:
        """The next chunk. Raises EOFError if the file has become shorter, and OSError."""
        if self._closed or self._position >= self._end:
            await self.aclose()
            raise StopAsyncIteration
        size = min(CHUNK, self._end - self._position)
        data = await self._in_thread(os.pread, self._descriptor, size, self._position)
        assert isinstance(data, bytes)
        if not data:
            raise EOFError("the file has become shorter")
        self._position += len(data)
        return data

    async def aclose(self) -> None:
        """Close the file, once."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)


def open_file(root: Path, path: str) -> OpenFile:
    """Open the regular file at `path` below `root`, or a folder's index where the path ends with a slash.

    Goes from folder to folder, so that no symbolic link on the way leads out. Raises NoFile or IsFolder.
    """
    *folders, name = path.split("/")[1:]
    try:
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NoFile from error
    try:
        for folder in folders:
            below = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        if name:
            return _open_regular(here, name)
        for index in INDEXES:
            try:
                return _open_regular(here, index)
            except (FileNotFoundError, IsFolder):
                continue
        raise NoFile
    except (OSError, ValueError) as error:
        raise NoFile from error
    finally:
        os.close(here)


def _open_regular(folder: int, name: str) -> OpenFile:
    descriptor = os.open(name, _FLAGS, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsFolder
        if not stat.S_ISREG(status.st_mode):
            raise NoFile
    except BaseException:
        os.close(descriptor)
        raise
    return OpenFile(descriptor, name, status.st_size, status.st_mtime_ns)
