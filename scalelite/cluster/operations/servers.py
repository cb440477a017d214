"""What operators do with servers: cordon, enable, disable, panic. Tells what happens; prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
from twisted.internet.interfaces import IReactorTime

from scalelite.bbb.client import BBBClient
from scalelite.cluster.operations.asking import all_of, end_until
from scalelite.cluster.operations.counting import Count, counted, uncounted
from scalelite.cluster.records import Meeting, Server, ServerState
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore


class ServerGone(Exception):
    """The server was removed meanwhile."""

    def __init__(self, server_id: str) -> None:
        super().__init__(f"Server with id '{server_id}' is deleted")


@attrs.frozen
class Clearing:
    """A meeting is about to be ended and its record dropped."""

    meeting_id: str


@attrs.frozen
class NotEnded:
    """The server did not say that a meeting is over. Its record is dropped, and the copy remembered, all the same."""

    meeting_id: str
    reason: str


Progress = Callable[[Clearing | NotEnded], None]


@attrs.frozen
class Cleared:
    """What clearing a server came to.

    `meetings` had a record there; `may_live` of them may still run, and the poller ends them once the server answers;
    `remaining` records point to the server now.
    """

    meetings: int
    may_live: int
    remaining: int


async def change_state(servers: ServerStore, server_id: str, state: ServerState) -> None:
    """Enable, cordon or disable a server. Raises ServerGone, StoreError."""
    if await servers.set_state(server_id, state) is None:
        raise ServerGone(server_id)


class ServerClearance:
    """Empties servers. `deadline`: seconds for all `end` calls together; they are made in parallel."""

    def __init__(
        self,
        servers: ServerStore,
        meetings: MeetingStore,
        client: Callable[[], BBBClient],
        clock: IReactorTime,
        deadline: float,
    ) -> None:
        self._servers = servers
        self._meetings = meetings
        self._client = client
        self._clock = clock
        self._deadline = deadline

    async def panic(
        self,
        server: Server,
        tell: Progress,
        *,
        keep_state: bool = False,
        skip_end_calls: bool = False,
        count: Count = uncounted,
    ) -> Cleared:
        """Disable a server unless its state is to be kept, end its meetings unless skipped, and drop their records.

        The state goes first, so that no meeting is placed there meanwhile. A meeting that was not seen to end is
        remembered as an old copy, which the poller ends later: a room never lives twice. `count` is told
        how many are done. Raises ServerGone, and StoreError after having tried all meetings.
        """
        limit = self._clock.seconds() + self._deadline
        if not keep_state:
            await change_state(self._servers, server.id, ServerState.DISABLED)
        recorded = await self._meetings.on_server(server.id)
        clear = partial(self._clear, server, tell=tell, limit=limit, skip=skip_end_calls)
        ended = await all_of(counted([clear(meeting) for meeting in recorded], count))
        remaining = await self._meetings.on_server(server.id)
        return Cleared(len(recorded), ended.count(False), len(remaining))

    async def _clear(self, server: Server, meeting: Meeting, *, tell: Progress, limit: float, skip: bool) -> bool:
        """End one meeting and drop its record; whether it is surely over."""
        tell(Clearing(meeting.id))
        reason = None if skip else await end_until(self._client(), self._clock, limit, server, meeting)
        over = not skip and reason is None
        await self._meetings.clear(meeting.id, server.id, may_live=not over)
        if reason is not None:
            tell(NotEnded(meeting.id, reason))
        return over
