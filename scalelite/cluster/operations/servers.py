"""What operators do with servers: cordon, enable, disable, panic. Tells what happens; prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from scalelite.bbb.client import BBBClient
from scalelite.cluster.operations.asking import all_of, end_until
from scalelite.cluster.operations.counting import Count, counted, uncounted
from scalelite.cluster.records import Meeting, Server, ServerState
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore

#: Seconds between the beginnings of two `end` calls, at most.
PACE: Final = 0.003
#: The share of the deadline until all of them have begun, at most.
LONGEST_START: Final = 0.1


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
    """Empties servers. `deadline`: seconds for all `end` calls together; they are made in parallel.

    They begin `pace` seconds apart, or less where they are many, and each has as long as the others.
    """

    def __init__(
        self,
        servers: ServerStore,
        meetings: MeetingStore,
        client: Callable[[], BBBClient],
        clock: IReactorTime,
        deadline: float,
        *,
        pace: float = PACE,
    ) -> None:
        self._servers = servers
        self._meetings = meetings
        self._client = client
        self._clock = clock
        self._deadline = deadline
        self._pace = pace

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
        # Begun all at once, they would fail all at once as well, and hold up the requests of front-ends each time.
        pace = min(self._pace, LONGEST_START * self._deadline / max(1, len(recorded)))
        clear = partial(self._clear, server, tell=tell, skip=skip_end_calls)
        delays = [number * pace for number in range(len(recorded))]
        limits = [limit - delay for delay in reversed(delays)]
        ended = await all_of(counted([clear(*each) for each in zip(recorded, delays, limits, strict=True)], count))
        remaining = await self._meetings.on_server(server.id)
        return Cleared(len(recorded), ended.count(False), len(remaining))

    async def _clear(
        self, server: Server, meeting: Meeting, delay: float, limit: float, *, tell: Progress, skip: bool
    ) -> bool:
        """End one meeting after a delay, and drop its record; whether it is surely over."""
        if delay:
            await deferLater(self._clock, delay)
        tell(Clearing(meeting.id))
        reason = None if skip else await end_until(self._client(), self._clock, limit, server, meeting)
        over = not skip and reason is None
        await self._meetings.clear(meeting.id, server.id, may_live=not over)
        if reason is not None:
            tell(NotEnded(meeting.id, reason))
        return over
