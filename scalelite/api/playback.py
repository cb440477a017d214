"""Playback: links to recordings, and their files, for who may see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol
from urllib.parse import quote

import attrs
from twisted.logger import Logger

from scalelite.api.admission import Admission
from scalelite.api.hosts import request_host, url_prefix
from scalelite.api.playback_pages import PlaybackPages
from scalelite.api.playback_paths import file_path
from scalelite.api.replies import NO_CACHE, Reply, StreamedReply
from scalelite.api.routing import Routes, unsupported
from scalelite.api.site import Handler, Request
from scalelite.bbb import query
from scalelite.bbb.query import MalformedQuery
from scalelite.recordings.cloudfront import CloudFront
from scalelite.recordings.cookies import PlaybackCookies
from scalelite.recordings.media_types import MEDIA_TYPES, extension
from scalelite.recordings.playback_lookup import Playable, PlaybackLookup
from scalelite.store.errors import StoreError
from scalelite.store.recording_tokens import RecordingTokens

#: Where nginx has the published recordings, for itself only.
INTERNAL: Final = b"/static-resource"
#: Formats that browsers show; files of all others are offered to be saved.
SHOWN: Final = frozenset({"presentation", "video", "screenshare"})

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_NO_STORE: Final = (b"Cache-Control", b"no-store")
_ATTACHMENT: Final = (b"Content-Disposition", b"attachment")
_TEXT: Final = b"text/plain; charset=utf-8"
#: Bytes of a query that are handed to nginx: it takes headers up to a page of memory.
_MAX_QUERY: Final = 1024
# All that may stand in a URL as it is, `%` included: what is stored is encoded already.
_URL_SAFE: Final = "/:?#[]@!$&'()*+,;=%-._~"


class FileSender(Protocol):
    """Sends files itself; None where there is no such file."""

    async def send(
        self, request: Request, path: str, headers: tuple[tuple[bytes, bytes], ...]
    ) -> Reply | StreamedReply | None: ...


@attrs.frozen
class PlaybackRules:
    """Settings of playback. `protection`: files of protected recordings need the cookie.

    `secure_only`: cookies are for HTTPS, whether or not a request says that it came by it.
    """

    formats: tuple[str, ...]
    protection: bool
    secure_only: bool


class Playback:
    """The routes. Without `files`, nginx is told which file to send; with `cloudfront`, pages are played there."""

    _log = Logger()

    def __init__(
        self,
        lookup: PlaybackLookup,
        tokens: RecordingTokens,
        cookies: PlaybackCookies,
        admission: Admission,
        pages: PlaybackPages,
        rules: PlaybackRules,
        *,
        files: FileSender | None = None,
        cloudfront: CloudFront | None = None,
    ) -> None:
        self._lookup = lookup
        self._tokens = tokens
        self._cookies = cookies
        self._admission = admission
        self._pages = pages
        self._rules = rules
        self._files = files
        self._cloudfront = cloudfront

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add_below("/recording/", ("GET",), self._guarded(self.play))
        for playback_format in self._rules.formats:
            routes.add_below(f"/{playback_format}/", ("GET",), self._guarded(self.resource))

    def _guarded(self, handler: Callable[[Request], Coroutine[Any, Any, Reply | StreamedReply]]) -> Handler:
        """A viewer's browser gets a page when a store fails, not BBB's XML."""

        async def guarded(request: Request) -> Reply | StreamedReply:
            try:
                return await handler(request)
            except StoreError as error:
                self._log.error("a recording could not be looked up: {error}", error=error)
                request.note = "store"
                return self._pages.unavailable

        return guarded

    async def play(self, request: Request) -> Reply:
        """A link from getRecordings: sends to the player, and opens a protected recording by a one-time token."""
        names = request.path.removesuffix(b"/").split(b"/")[2:]
        if len(names) != 2 or not all(names) or b"." in b"".join(names):
            return unsupported(request)
        record_id, playback_format = (name.decode("latin-1") for name in names)
        found = await self._find(request, record_id, playback_format)
        if found is None:
            return self._not_found(request, "unknown")
        if found.url is None:
            self._log.error("{kind} of {id} has no address in the database", kind=playback_format, id=record_id)
            return self._not_found(request, "no address")
        headers = [(b"Location", (url_prefix(request) + quote(found.url, safe=_URL_SAFE)).encode())]
        if not found.protected:
            return Reply(b"", 307, _TEXT, (*headers, *NO_CACHE))
        token = _token(request)
        if _is_prefetch(request):
            # What is fetched ahead may never be looked at. It is refused, so that the browser comes again.
            request.note = "prefetch"
            return Reply(b"", 503, _TEXT, (_NO_STORE,))
        use = self._tokens.holds if request.method == b"HEAD" else self._tokens.spend
        if not await use(token, record_id, playback_format):
            return self._not_found(request, "token")
        if request.method != b"HEAD":
            secure = self._rules.secure_only or headers[0][1].startswith(b"https:")
            agent = _header(request, b"User-Agent")
            cookie = self._cookies.make(record_id, playback_format, secure=secure, user_agent=agent)
            headers.append((b"Set-Cookie", cookie))
        return Reply(b"", 307, _TEXT, (*headers, _NO_STORE))

    async def resource(self, request: Request) -> Reply | StreamedReply:
        """A file of a recording."""
        _, raw_format, raw_id, *rest = request.path.split(b"/", 3)
        record_id, playback_format = raw_id.decode("latin-1"), raw_format.decode("latin-1")
        if not record_id or "." in record_id or playback_format not in self._rules.formats:
            return unsupported(request)
        found = await self._find(request, record_id, playback_format)
        if found is None:
            return self._not_found(request, "unknown")
        if self._rules.protection and found.protected:
            given = request.requestHeaders.getRawHeaders(b"Cookie") or ()
            if not self._cookies.opens(given, record_id, playback_format):
                return self._not_found(request, "protected")
        path = file_path(request.path)
        if path is None:
            return self._not_found(request, "path")
        if self._cloudfront is not None and counts_as_page(_header(request, b"Accept"), path):
            return self._elsewhere(self._cloudfront, request, record_id, playback_format)
        asked = b"?" + request.raw_query if request.raw_query and len(request.raw_query) <= _MAX_QUERY else b""
        if not rest:
            # The page there names its files relative to its own address.
            return Reply(b"", 301, _TEXT, ((b"Location", request.path + b"/" + asked), *NO_CACHE))
        headers = NO_CACHE if playback_format in SHOWN else (*NO_CACHE, _ATTACHMENT)
        if self._files is None:
            # nginx finds out the content type by the file's name.
            return Reply(b"", 200, b"", ((b"X-Accel-Redirect", INTERNAL + request.path + asked), *headers), framed=True)
        return await self._files.send(request, path, headers) or self._not_found(request, "no file")

    async def _find(self, request: Request, record_id: str, playback_format: str) -> Playable | None:
        tenant = await self._admission.tenant(request) if self._admission.has_tenants else None
        if not _NAME.fullmatch(record_id) or not _NAME.fullmatch(playback_format):
            return None
        return await self._lookup.find(record_id, playback_format, None if tenant is None else tenant.id)

    def _elsewhere(self, cloudfront: CloudFront, request: Request, record_id: str, playback_format: str) -> Reply:
        cookies = cloudfront.cookies(record_id, playback_format, request_host(request))
        location = cloudfront.location(record_id, playback_format).encode()
        headers = ((b"Location", location), *((b"Set-Cookie", cookie) for cookie in cookies), _NO_STORE)
        return Reply(b"", 307, _TEXT, headers)

    def _not_found(self, request: Request, note: str) -> Reply:
        request.note = note
        return self._pages.not_found


def counts_as_page(accept: str, path: str) -> bool:
    """Whether a request is for a page rather than for a part of one, as Rails sees it.

    `*/*` among other types is what browsers say, then the path's extension decides. Else the type that is liked
    best must be HTML; so a bare `*/*`, which scripts send, is none.
    """
    types = [name for name, _ in sorted(map(_liked, accept.split(",")), key=lambda pair: -pair[1]) if name]
    if not types or (len(types) > 1 and "*/*" in types):
        kind = extension(path)
        return MEDIA_TYPES.get(kind, "text/html") == "text/html"
    return types[0] in ("text/html", "application/xhtml+xml")


def _liked(item: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    for parameter in parameters:
        if found := re.fullmatch(r"q=([0-9](?:\.[0-9]{0,3})?)", parameter):
            return name, float(found[1])
    return name, 1.0


def _token(request: Request) -> str:
    try:
        return query.parse(request.raw_query).get("token") or ""
    except MalformedQuery:
        return ""


def _is_prefetch(request: Request) -> bool:
    purposes = (_header(request, name) for name in (b"Sec-Purpose", b"Purpose", b"X-Purpose", b"X-Moz"))
    return any(word in purpose.lower() for purpose in purposes for word in ("prefetch", "prerender", "preview"))


def _header(request: Request, name: bytes) -> str:
    return b",".join(request.requestHeaders.getRawHeaders(name) or ()).decode("latin-1")
