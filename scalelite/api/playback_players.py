"""The players' pages, where there is no nginx to send them; the same addresses as in `deploy/nginx`."""

from __future__ import annotations

import re
from typing import Final

from scalelite.api.playback import FileSender
from scalelite.api.playback_pages import PlaybackPages
from scalelite.api.playback_paths import file_path
from scalelite.api.replies import NO_CACHE, Reply, StreamedReply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb import query
from scalelite.bbb.query import MalformedQuery

PLAYER: Final = "/playback/presentation/2.3"
"""Address of the player of presentations, and its folder beside that of the published recordings."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TEXT: Final = b"text/plain; charset=utf-8"


class Players:
    """The routes. `files` sends what is beside the folder of published recordings."""

    def __init__(self, files: FileSender, pages: PlaybackPages) -> None:
        self._files = files
        self._pages = pages

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add_below(f"{PLAYER}/", ("GET",), self.presentation)
        routes.add("/playback/presentation/playback.html", ("GET",), self.first_player)
        routes.add("/playback/presentation/2.0/playback.html", ("GET",), self.second_player)
        routes.add_below("/playback/video/", ("GET",), self.moved)
        routes.add_below("/recording/screenshare/", ("GET",), self.moved)

    async def presentation(self, request: Request) -> Reply | StreamedReply:
        """A file of the player, or its page: that finds the recording by the address itself."""
        for path in (file_path(request.path), f"{PLAYER}/index.html"):
            reply = None if path is None or path.endswith("/") else await self._files.send(request, path, NO_CACHE)
            if reply is not None and reply.status != 301:
                return reply
        request.note = "no player"
        return self._pages.not_found

    def first_player(self, request: Request) -> Reply:
        """The oldest address of the player for old recordings."""
        return _redirect(301, b"/playback/presentation/0.81/playback.html", request.raw_query)

    def second_player(self, request: Request) -> Reply:
        """The address of the former player, which took the recording as `meetingId`."""
        try:
            record_id = query.parse(request.raw_query).get("meetingId") or ""
        except MalformedQuery:
            record_id = ""
        if not _NAME.fullmatch(record_id):
            request.note = "unknown"
            return self._pages.not_found
        return _redirect(301, f"{PLAYER}/{record_id}".encode(), request.raw_query)

    def moved(self, request: Request) -> Reply:
        """The address of a recording that is played without a player of its own."""
        _, _, playback_format, rest = request.path.split(b"/", 3)
        if file_path(b"/" + rest) is None:
            return self._pages.not_found
        return _redirect(307, b"/" + playback_format + b"/" + rest)


def _redirect(status: int, path: bytes, raw_query: bytes = b"") -> Reply:
    location = path + (b"?" + raw_query if raw_query else b"")
    return Reply(b"", status, _TEXT, ((b"Location", location), *NO_CACHE))
