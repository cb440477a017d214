"""What a route answers with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType

import attrs

from scalelite.bbb import errors, xml
from scalelite.bbb.errors import BBBError

NO_CACHE = ((b"Cache-Control", b"no-cache"),)


@attrs.define(slots=True)
class Reply:
    """A complete answer: body in bytes, HTTP status, content type (none if empty), further headers.

    `framed`: pages of other sites may show it in a frame.
    """

    body: bytes
    status: int = 200
    content_type: bytes = xml.CONTENT_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    framed: bool = False


class Chunks(AsyncGenerator[bytes, None]):
    """A body in chunks that holds something open: `asend` gives the next one, `aclose` lets go.

    Not a generator function: those don't close what never ran.
    """

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> bytes:
        await self.aclose()
        raise typ


@attrs.define(slots=True)
class StreamedReply:
    """An answer sent piece by piece, as its client takes it.

    `chunks` is closed in any case, and not asked for anything after a HEAD or once the client is gone. What it
    raises breaks the connection: the head is sent by then. `length` in bytes, where it is known.
    """

    chunks: AsyncGenerator[bytes, None]
    status: int = 200
    content_type: bytes = xml.CONTENT_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    length: int | None = None
    framed: bool = False


def error_reply(error: BBBError, status: int = 200) -> Reply:
    """BBB's FAILED answer. Its HTTP status is 200 but for requests that are no proper HTTP."""
    return Reply(xml.render_error(error), status)


UNSUPPORTED = error_reply(errors.UnsupportedRequest())
MALFORMED = error_reply(errors.InternalError(errors.MALFORMED_REQUEST), 400)
TOO_LARGE = error_reply(errors.InternalError(errors.REQUEST_TOO_LARGE), 413)
URI_TOO_LONG = error_reply(errors.InternalError(errors.REQUEST_TOO_LARGE), 414)
STORE_FAILED = error_reply(errors.InternalError(errors.STORE_UNREACHABLE))
UNEXPECTED = error_reply(errors.InternalError(errors.UNEXPECTED))
FORBIDDEN_HOST = error_reply(errors.UnsupportedRequest(), 403)
