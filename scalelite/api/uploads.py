"""Takes recordings from BBB servers by HTTPS: the protocol tus 1.0.0 (core and creation), in docs/recordings.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import attrs
import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from scalelite.api.bodies import media_type
from scalelite.api.incoming import BodyLost, BodyStalled, IncomingBody
from scalelite.api.replies import Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Handler, Request
from scalelite.recordings.upload_tokens import BadToken, Upload, read_token
from scalelite.recordings.uploads import (
    NoSpace,
    TooMuch,
    UnknownUpload,
    UploadBusy,
    UploadError,
    UploadFolder,
    UploadWriter,
    WrongContent,
    WrongOffset,
)
from scalelite.store.errors import StoreError
from scalelite.store.servers import ServerStore

T = TypeVar("T")

PATH: Final = "/scalelite/uploads"
VERSION: Final = b"1.0.0"
CHUNK_TYPE: Final = "application/offset+octet-stream"
#: Requests with content that a process takes at once: each may keep a thread.
AT_ONCE: Final = 8
#: Bytes that a client must send in each span of its patience.
LEAST: Final = 64 * 1024

_BELOW: Final = f"{PATH}/".encode()
_NUMBER: Final = re.compile(rb"[0-9]{1,18}")
_TUS: Final = ((b"Tus-Resumable", VERSION), (b"Cache-Control", b"no-store"))
_SOON: Final = (b"Retry-After", b"5")
_STATUS: Final[dict[type[UploadError], int]] = {
    UnknownUpload: 404,
    WrongOffset: 409,
    TooMuch: 413,
    WrongContent: 422,
    UploadBusy: 423,
    NoSpace: 507,
}

_log = Logger()


class InThread(Protocol):
    """Calls a function in a thread."""

    def __call__(self, work: Callable[..., T], *args: Any) -> Deferred[T]: ...


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, problem: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(problem)
        self.reply = _reply(status, *headers, problem=problem)


@attrs.frozen
class UploadRules:
    """`max_size` of a tar in bytes; `patience`, in seconds, with a client that sends nothing."""

    max_size: int
    patience: float


class Uploads:
    """The routes. `in_thread` runs what touches the disk, `now` is the time in seconds since 1970."""

    def __init__(
        self,
        servers: ServerStore,
        folder: UploadFolder,
        in_thread: InThread,
        clock: IReactorTime,
        now: Callable[[], float],
        rules: UploadRules,
    ) -> None:
        self._servers = servers
        self._folder = folder
        self._in_thread = in_thread
        self._clock = clock
        self._now = now
        self._rules = rules
        self._active = 0

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add(PATH, ("GET", "POST", "OPTIONS"), self._routed)
        routes.add_below(_BELOW.decode(), ("GET", "POST", "PATCH", "OPTIONS"), self._routed)

    def receiver(self, request: Request) -> Handler | None:
        """See `site.Receiver`: content of uploads is taken as it comes."""
        is_content = request.path.startswith(_BELOW) and _method(request) == b"PATCH"
        return self._guarded(self.append) if is_content else None

    def _routed(self, request: Request) -> Reply | Coroutine[Any, Any, Reply]:
        method, below = _method(request), request.path.startswith(_BELOW)
        if method == b"OPTIONS":
            return self.options(request)
        if method == b"POST" and not below:
            return self._guarded(self.create)(request)
        if method == b"HEAD" and below:
            return self._guarded(self.tell)(request)
        if method == b"PATCH" and below:
            return self._guarded(self.append)(request)
        return _reply(405, problem="this method is not for this address")

    def _guarded(
        self, handler: Callable[[Request], Coroutine[Any, Any, Reply]]
    ) -> Callable[[Request], Coroutine[Any, Any, Reply]]:
        """What goes wrong is told in JSON."""

        async def guarded(request: Request) -> Reply:
            try:
                if _header(request, b"Tus-Resumable") != VERSION:
                    raise _Refused(412, "the header Tus-Resumable must be 1.0.0", (b"Tus-Version", VERSION))
                return await handler(request)
            except _Refused as error:
                return error.reply
            except UploadError as error:
                status = _STATUS[type(error)]
                return _reply(status, *((_SOON,) if status in (423, 507) else ()), problem=str(error))
            except StoreError as error:
                _log.error("an upload could not be looked at: {error}", error=error)
                return _reply(503, _SOON, problem="the store of servers cannot be asked now")
            except OSError as error:
                _log.error("an upload failed: {error}", error=error)
                return _reply(503, _SOON, problem="it cannot be stored now")

        return guarded

    def options(self, request: Request) -> Reply:
        """Tell what is understood here."""
        return _reply(
            204,
            (b"Tus-Version", VERSION),
            (b"Tus-Extension", b"creation"),
            (b"Tus-Max-Size", str(self._rules.max_size).encode()),
        )

    async def create(self, request: Request) -> Reply:
        """Begin an upload, or find it again; `Upload-Offset` tells how much of it is there."""
        upload = await self._admit(request)
        if _number(request, b"Upload-Length") != upload.length:
            raise _Refused(400, "Upload-Length is not the length that the token tells")
        if upload.length > self._rules.max_size:
            raise _Refused(413, f"a recording may have {self._rules.max_size} bytes at most")
        offset = await self._in_thread(self._folder.create, upload)
        location = _BELOW + upload.id.encode()
        return _reply(201, (b"Location", location), (b"Upload-Offset", str(offset).encode()))

    async def tell(self, request: Request) -> Reply:
        """Tell how much is there."""
        upload = await self._admit(request)
        offset = await self._in_thread(self._folder.offset, upload)
        return _reply(
            200, (b"Upload-Offset", str(offset).encode()), (b"Upload-Length", str(upload.length).encode())
        )  # fmt: skip

    async def append(self, request: Request) -> Reply:
        """Take more of the content. With the last of it the tar is checked, and put into the spool."""
        upload = await self._admit(request)
        if media_type(request) != CHUNK_TYPE:
            raise _Refused(415, f"the content's type must be {CHUNK_TYPE}")
        offset = _number(request, b"Upload-Offset")
        if offset is None:
            raise _Refused(400, "the header Upload-Offset must be a number")
        if (_number(request, b"Content-Length") or 0) > upload.length - offset:
            raise TooMuch(f"more than {upload.length} bytes")
        if self._active >= AT_ONCE:
            raise _Refused(503, "too many recordings are being sent at once", _SOON)
        self._active += 1
        try:
            return await self._take(request, upload, offset)
        finally:
            self._active -= 1

    async def _take(self, request: Request, upload: Upload, offset: int) -> Reply:
        writer = await self._in_thread(self._folder.open, upload, offset)
        try:
            if request.incoming is not None:
                await self._pour(request.incoming, writer)
            done = await self._in_thread(writer.finish)
        except BodyLost:
            _log.debug("an upload was cut off; it may be resumed")
            done = False
        except BodyStalled:
            raise _Refused(408, "nothing more came; go on where the upload ends") from None
        finally:
            await self._in_thread(writer.close)
        if done:
            _log.info(
                "{server} has sent {recording}.tar, {size} bytes",
                server=upload.server_id, recording=upload.record_id, size=upload.length,
            )  # fmt: skip
        return _reply(204, (b"Upload-Offset", str(writer.offset).encode()))

    async def _pour(self, body: IncomingBody, writer: UploadWriter) -> None:
        patience = self._rules.patience
        span, came = self._clock.seconds(), 0
        while data := await body.read(patience):
            await self._in_thread(writer.write, data)
            came += len(data)
            if self._clock.seconds() - span > patience:
                if came < LEAST and not body.ended:
                    raise BodyStalled
                span, came = self._clock.seconds(), 0

    async def _admit(self, request: Request) -> Upload:
        """Check the token, and that it is for this address."""
        kind, _, token = _header(request, b"Authorization").decode("latin-1").partition(" ")
        try:
            if kind.lower() != "bearer":
                raise BadToken("there is no bearer token")
            upload = read_token(token.strip(), await self._servers.all(), self._now())
        except BadToken as error:
            request.note = "token"
            raise _Refused(401, str(error), (b"WWW-Authenticate", b"Bearer")) from None
        if request.path.startswith(_BELOW) and request.path != _BELOW + upload.id.encode():
            raise _Refused(403, "the token is for another upload")
        return upload


def _method(request: Request) -> bytes:
    """The method; behind proxies that let few pass, the one that a POST names instead."""
    return (request.method == b"POST" and _header(request, b"X-HTTP-Method-Override").upper()) or request.method


def _header(request: Request, name: bytes) -> bytes:
    return bytes((request.requestHeaders.getRawHeaders(name) or (b"",))[0])


def _number(request: Request, name: bytes) -> int | None:
    found = _NUMBER.fullmatch(_header(request, name))
    return None if found is None else int(found[0])


def _reply(status: int, *headers: tuple[bytes, bytes], problem: str | None = None) -> Reply:
    if problem is None:
        return Reply(b"", status, b"", (*_TUS, *headers))
    return Reply(orjson.dumps({"error": problem}), status, b"application/json", (*_TUS, *headers))
