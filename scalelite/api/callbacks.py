"""What BBB servers call by themselves: reports on meetings, and news of their end."""

from __future__ import annotations

import re
from typing import Final

from scalelite.api.admission import Admission
from scalelite.api.replies import Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb.errors import ChecksumError
from scalelite.bbb.query import parse
from scalelite.cluster.callbacks import ANALYTICS_PATH, MEETING_ENDED_PATH
from scalelite.cluster.operations.analytics import AnalyticsReports
from scalelite.cluster.operations.ended import EndedMeetings

MAX_QUERY: Final = 4096
"""Characters that a server adds to our URL; BBB's take a hundred and the meeting's id."""

# What comes in front is ours, what comes after BBB's, which the front-end is to get as it is.
_OURS: Final = re.compile(rb"token=([A-Za-z0-9_.-]+)&")
_TAKEN: Final = Reply(b"", 204)


class ServerCallbacks:
    """The routes for servers. `ended` is None where ends of meetings are not relayed."""

    def __init__(self, admission: Admission, analytics: AnalyticsReports, ended: EndedMeetings | None) -> None:
        self._admission = admission
        self._analytics = analytics
        self._ended = ended

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        routes.add(ANALYTICS_PATH, ("POST",), self.analytics_callback)
        if self._ended is not None:
            routes.add(MEETING_ENDED_PATH, ("GET",), self.meeting_ended)

    async def analytics_callback(self, request: Request) -> Reply:
        """Take a server's report on a meeting. Always 204: the server could do nothing about an error."""
        tenant = await self._admission.tenant(request) if self._admission.has_tenants else None
        authorization = request.requestHeaders.getRawHeaders(b"Authorization", [b""])[0].decode("latin-1")
        await self._analytics.take(authorization, request.content.read(), tenant)
        return _TAKEN

    async def meeting_ended(self, request: Request) -> Reply:
        """Take the news that a meeting has ended. What is not 2xx, BBB tells again for some minutes."""
        assert self._ended is not None
        ours = _OURS.match(request.raw_query)
        if ours is None:
            raise ChecksumError
        query = request.raw_query[ours.end() :]
        meeting_id = parse(query).get("meetingID")
        if request.method != b"GET" or not meeting_id or len(query) > MAX_QUERY or not query.isascii():
            raise ChecksumError
        if not await self._ended.ended(ours[1].decode(), meeting_id, query.decode()):
            raise ChecksumError
        return _TAKEN
