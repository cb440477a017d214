"""Making the pool what a file says: servers are added, changed, switched, and those it does not name taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from scalelite.bbb.client import BBBClient
from scalelite.cluster.operations.asking import all_of, end_until
from scalelite.cluster.operations.counting import Count, uncounted
from scalelite.cluster.records import Meeting, Server, ServerState
from scalelite.store.meetings import MeetingStore
from scalelite.store.servers import ServerStore

Tell = Callable[[str], None]

#: How often a server that somebody else adds or removes at the same moment is tried.
_TRIES: Final = 5


class Mode(StrEnum):
    """What becomes of servers that the file does not name."""

    KEEP = "keep"
    CORDON = "cordon"
    """Taken out if they are empty, else cordoned."""
    FORCE = "force"
    """Their meetings are ended, and they are taken out."""


@attrs.frozen
class Wanted:
    """A server as the file wants it; `tag` is "" for none."""

    id: str
    url: str
    secret: str = attrs.field(repr=False)
    enabled: bool = True
    load_multiplier: float = 1.0
    tag: str = ""


class Sync:
    """Makes the pool what is wanted, or only tells what would be done (`dry`). All methods raise StoreError.

    Each field is a step of its own, made only where it differs, so that what others change meanwhile stays.
    `deadline`: seconds for all `end` calls of one server. `count` is told of servers, and of meetings to be ended.
    """

    def __init__(
        self,
        servers: ServerStore,
        meetings: MeetingStore,
        client: Callable[[], BBBClient],
        clock: IReactorTime,
        tell: Tell,
        warn: Tell,
        *,
        deadline: float,
        dry: bool,
        count: Count = uncounted,
    ) -> None:
        self._servers = servers
        self._meetings = meetings
        self._client = client
        self._clock = clock
        self._tell = tell
        self._warn = warn
        self._deadline = deadline
        self._dry = dry
        self._count = count
        self._done = 0
        self._total = 0

    async def run(self, wanted: Sequence[Wanted], mode: Mode) -> bool:
        """Do it; whether the pool is now what is wanted, as far as the mode allows."""
        present = {server.id: server for server in await self._servers.all()}
        named = {one.id for one in wanted}
        leaving = [server for server_id, server in present.items() if server_id not in named]
        self._total = len(wanted) + len(leaving)
        for one in wanted:
            await self._settle(one, present.get(one.id))
            self._step()
        held: dict[str, list[Meeting]] = {}
        if leaving and mode is not Mode.KEEP:
            async for meeting in self._meetings.scan():
                held.setdefault(meeting.server_id, []).append(meeting)
        if mode is Mode.FORCE:
            self._total += sum(len(held.get(server.id, ())) for server in leaving)
        done = True
        for server in leaving:
            if mode is Mode.KEEP:
                self._tell(f"[{server.id}] Server not removed")
            elif not await self._take_out(server, held.get(server.id, []), force=mode is Mode.FORCE):
                done = False
            self._step()
        return done

    def _step(self) -> None:
        self._done = min(self._done + 1, self._total)
        self._count(self._done, self._total)

    async def _settle(self, wanted: Wanted, server: Server | None) -> None:
        for _ in range(_TRIES):
            if server is None:
                if self._dry or await self._servers.add(
                    wanted.id, wanted.url, wanted.secret, wanted.load_multiplier, wanted.tag
                ):
                    self._tell(f"[{wanted.id}] Server created")
                    if self._dry:
                        return
                server = await self._servers.find(wanted.id)
                if server is None:
                    continue
            if await self._update(wanted, server) and await self._switch(wanted, server):
                return
            # Removed meanwhile: the last word is the file's.
            server = await self._servers.find(wanted.id)
        self._warn(f"[{wanted.id}] Server is removed as often as it is created")

    async def _update(self, wanted: Wanted, server: Server) -> bool:
        changes: dict[str, Any] = {}
        for name, before in (
            ("url", server.url),
            ("secret", server.secret),
            ("load_multiplier", server.load_multiplier),
            ("tag", server.tag or ""),
        ):
            value = getattr(wanted, name)
            if value != before:
                changes[name] = value
        if changes and not self._dry and not await self._servers.update(server.id, **changes):
            return False
        for name, value in changes.items():
            self._tell(f"[{server.id}] Server updated: {name}={'*****' if name == 'secret' else value}")
        return True

    async def _switch(self, wanted: Wanted, server: Server) -> bool:
        enabled = server.state is ServerState.ENABLED
        if wanted.enabled == enabled:
            return True
        state = ServerState.ENABLED if wanted.enabled else ServerState.CORDONED
        if not wanted.enabled and not enabled:
            return True
        if not self._dry and await self._servers.set_state(server.id, state) is None:
            return False
        self._tell(f"[{server.id}] Server {'enabled' if wanted.enabled else 'disabled (cordoned)'}")
        return True

    async def _take_out(self, server: Server, meetings: Sequence[Meeting], *, force: bool) -> bool:
        """Take a server out that the file does not name; False if it should be gone, and is not."""
        if not meetings and await self._remove(server):
            return True
        if server.state is ServerState.ENABLED:
            if not self._dry:
                await self._servers.set_state(server.id, ServerState.CORDONED)
            self._tell(f"[{server.id}] Server not empty. Cordoned for removal")
        if not force:
            return True
        self._tell(f"[{server.id}] Server not empty. Ending meetings now...")
        if self._dry:
            for meeting in meetings:
                self._tell(f"[{server.id}] Try to end meeting id={meeting.id}")
            self._tell(f"[{server.id}] Server removed")
            return True
        # Again: since it was cordoned, no new ones come.
        limit = self._clock.seconds() + self._deadline
        recorded = await self._meetings.on_server(server.id)
        await all_of([Deferred.fromCoroutine(self._end(server, meeting, limit)) for meeting in recorded])
        if await self._remove(server):
            return True
        self._warn(f"[{server.id}] Server still not empty!")
        return False

    async def _end(self, server: Server, meeting: Meeting, limit: float) -> None:
        self._tell(f"[{server.id}] Try to end meeting id={meeting.id}")
        reason = await end_until(self._client(), self._clock, limit, server, meeting)
        if reason is not None:
            self._warn(f"[{server.id}] Failed to end meeting id={meeting.id}: {reason}")
        await self._meetings.clear(meeting.id, server.id, may_live=reason is not None)
        self._step()

    async def _remove(self, server: Server) -> bool:
        """Remove it if no meeting is recorded there at this moment."""
        if not self._dry and await self._servers.remove(server.id):
            return False
        self._tell(f"[{server.id}] Server removed")
        return True
