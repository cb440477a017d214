"""A BBB server says that a meeting has ended: its record goes, and the front-end is told."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.bbb.client import BackendError, BBBClient
from scalelite.cluster.callbacks import EndCallbacks, Kind, Notice
from scalelite.cluster.operations.analytics import Outbox
from scalelite.store.errors import StoreError
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore

LOOKS: Final = (0.0, 1.0, 5.0)
"""Seconds before each question whether the meeting is really over; then the poller will see."""

MOST: Final = 100
"""Meetings that are looked into at once; the poller sees to the others."""


class EndedMeetings:
    """Takes the news. `grace`: seconds for which a create may be under way (see the poller)."""

    _log = Logger()

    def __init__(
        self,
        ends: EndCallbacks,
        outbox: Outbox,
        meetings: MeetingStore,
        leases: LeaseStore,
        client: BBBClient,
        clock: IReactorTime,
        grace: float,
    ) -> None:
        self._ends = ends
        self._outbox = outbox
        self._meetings = meetings
        self._leases = leases
        self._client = client
        self._clock = clock
        self._grace = grace
        self._looking: dict[str, Deferred[None]] = {}

    async def ended(self, token: str, meeting_id: str, query: str) -> bool:
        """Have the front-end told, with the `query` that the server gave. False for a `token` that is not ours.

        Raises StoreError if the notice can't be kept: the server will call again.
        """
        held = self._ends.unwrapped(token, meeting_id)
        if held is None:
            self._log.warn("news of the end of a meeting without a valid signature was dropped")
            return False
        await self._outbox.put(Notice(Kind.MEETING_ENDED, held.tenant_id, meeting_id, held.url, query))
        if meeting_id not in self._looking and len(self._looking) < MOST:
            looking = Deferred.fromCoroutine(self._drop_if_over(meeting_id, held.tenant_id))
            self._looking[meeting_id] = looking
            looking.addBoth(self._looked, meeting_id)
        return True

    def _looked(self, result: object, meeting_id: str) -> None:
        self._looking.pop(meeting_id, None)
        if isinstance(result, Failure):
            self._log.failure("could not see whether a meeting is over", failure=result)

    async def _drop_if_over(self, meeting_id: str, tenant_id: str) -> None:
        """Drop the record on the word of the meeting's own server that it does not know it; nothing else is proof.

        The call may be late, or forged by who has seen the URL, and the meeting be there again.
        """
        try:
            for wait in LOOKS:
                if wait:
                    await deferLater(self._clock, wait)
                found = await self._meetings.find(meeting_id, tenant_id or None)
                if found is None or found.host is None:
                    return
                asked = await self._leases.now()
                answer = await self._client.call(found.host, "getMeetingInfo", {"meetingID": meeting_id})
                absent = answer.text("messageKey") == "notFound" and not answer.success
                if absent and await self._meetings.drop_absent(meeting_id, found.host.id, asked, self._grace):
                    return
        except (BackendError, StoreError) as error:
            self._log.info("whether a meeting is over is left to the poller: {error}", error=error)
