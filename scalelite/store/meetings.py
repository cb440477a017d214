"""Meetings in Redis: found, placed and given up in atomic steps of one round trip each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from enum import StrEnum
from typing import Any, Final

import attrs

from scalelite.cluster.placement import TagRequest
from scalelite.cluster.records import Meeting, ServerState
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_FIND: Final = script("find_meeting")
_RESERVE: Final = script("reserve_meeting")
_CONFIRM: Final = script("confirm_meeting")
_RELEASE: Final = script("release_meeting")
_DROP: Final = script("drop_meeting")
_RENEW: Final = script("renew_meeting")
_BEGIN_END: Final = script("begin_end_copy")
_FINISH_END: Final = script("finish_end_copy")
_SCAN: Final = script("scan_meetings")
_SCAN_BRIDGES: Final = script("scan_voice_bridges")
_FREE_BRIDGE: Final = script("free_voice_bridge")

SLICE = 500
"""How many records one step of a scan looks at, so that Redis is never held for long."""


@attrs.frozen
class Host:
    """The server that a meeting lives on, as far as a call to it needs to know."""

    id: str
    url: str
    secret: str = attrs.field(repr=False)
    tag: str
    online: bool
    state: ServerState

    @property
    def takes_joins(self) -> bool:
        """Whether users may be sent there."""
        return self.online and self.state is not ServerState.DISABLED


@attrs.frozen
class Found:
    """A meeting's record, and its server's unless that has been removed."""

    meeting: Meeting
    host: Host | None


class Placement(StrEnum):
    """How a reservation ended."""

    EXISTING = "existing"
    NEW = "new"
    ASK = "ask"
    """It is on a cordoned server: ask that whether it runs, then reserve again with the verdict."""
    CONFLICT = "conflict"
    NO_SERVERS = "no_servers"
    NO_TAGGED_SERVER = "no_tagged_server"
    NO_BRIDGE = "no_bridge"


@attrs.frozen
class Reservation:
    """The outcome of the first half of create. `pending` while no create of the meeting has been confirmed."""

    placement: Placement
    meeting: Meeting | None = None
    host: Host | None = None
    pending: bool = False


@attrs.frozen
class NewMeeting:
    """What a create call brings: for a record that does not exist yet."""

    id: str
    tenant_id: str
    moderator_pw: str = attrs.field(repr=False)
    tags: TagRequest
    voice_bridges: tuple[str, ...]


class MeetingStore:
    """Reads and changes meeting records. All methods raise StoreError."""

    def __init__(self, redis: Redis, prefix: str, *, ttl: int, new_meeting_load: float) -> None:
        self._redis = redis
        self._keys = (prefix,)
        self._ttl = ttl
        self._new_meeting_load = new_meeting_load

    async def find(self, meeting_id: str, tenant_id: str | None = None, *, joining: bool = False) -> Found | None:
        """The meeting of that id; with a tenant, only if it is that tenant's.

        `joining` counts a join into the server's load if it takes joins.
        """
        reply = await self._redis.run(
            _FIND, self._keys, (meeting_id, tenant_id or "", "0" if tenant_id is None else "1", "1" if joining else "0")
        )
        if not reply:
            return None
        return Found(_meeting(meeting_id, reply[0]), _host(reply[1]) if len(reply) > 1 else None)

    async def reserve(self, new: NewMeeting, verdict: str = "", excluded: Collection[str] = ()) -> Reservation:
        """Find the meeting, or place it on the least loaded fitting server and mark it pending.

        A meeting whose server is offline, disabled or gone is placed anew, and the copy left there remembered; its
        number stays, its password is the one that this call brings.
        `verdict` is "keep:ID" or "move:ID" after an ASK about the cordoned server ID. Servers whose id is in
        `excluded` are not chosen, nor those where an old copy is just being ended.
        """
        reply = await self._redis.run(
            _RESERVE,
            self._keys,
            (
                new.id, new.tenant_id, new.moderator_pw, self._ttl, self._new_meeting_load, verdict,
                "1" if new.tags.required else "0", len(new.tags.tags), len(excluded),
                *new.tags.tags, *excluded, *new.voice_bridges,
            ),
        )  # fmt: skip
        placement = Placement(reply[0])
        if len(reply) == 1:
            return Reservation(placement)
        return Reservation(placement, _meeting(new.id, reply[1]), _host(reply[2]), reply[3] == 1)

    async def confirm(self, meeting: Meeting) -> bool:
        """The server says that the meeting lives. False if it counts no more: the client must be sent elsewhere."""
        reply = await self._redis.run(
            _CONFIRM,
            self._keys,
            (
                meeting.id, meeting.server_id, meeting.moderator_pw or "", meeting.voice_bridge or "",
                meeting.tenant_id, self._ttl,
            ),
        )  # fmt: skip
        return bool(reply == "ok")

    async def release(self, meeting: Meeting, *, refused: bool) -> None:
        """A create did not succeed. `refused`: the server surely did not create it; else it may have, or may yet."""
        await self._redis.run(
            _RELEASE,
            self._keys,
            (
                meeting.id, meeting.server_id, "refused" if refused else "unknown", meeting.moderator_pw or "",
                meeting.voice_bridge or "", meeting.tenant_id, self._ttl,
            ),
        )  # fmt: skip

    async def drop_ended(self, meeting: Meeting) -> bool:
        """The meeting's server says that it is over. False if another server holds it by now."""
        return await self._drop(meeting.id, meeting.server_id, "ended", 0, 0, "0")

    async def drop_absent(self, meeting_id: str, server_id: str, asked: float, grace: float) -> bool:
        """The poller has proof that the meeting is not on its server: not in an answer asked for after `asked`.

        If its create had moved it there and nothing came of that, it is recorded on the former server again.
        False if it was confirmed since, or its create has been pending for less than `grace` seconds.
        """
        return await self._drop(meeting_id, server_id, "absent", repr(asked), grace, "0")

    async def renew(self, meeting_id: str, server_id: str, asked: float) -> bool:
        """The server, asked after `asked`, knows the meeting, though it did not list it under this id."""
        return bool(await self._redis.run(_RENEW, self._keys, (meeting_id, server_id, repr(asked), self._ttl)))

    async def begin_end_copy(self, meeting_id: str, server_id: str, grace: float) -> str:
        """An old copy is about to be ended: nothing is placed there until `finish_end_copy`, `grace` seconds at most.

        What that takes; "" if the copy must be left alone, since it counts again or may yet have to.
        """
        reply: str = await self._redis.run(_BEGIN_END, self._keys, (server_id, meeting_id, repr(float(grace))))
        return reply

    async def finish_end_copy(self, meeting_id: str, server_id: str, begun: str) -> None:
        """The call that ends an old copy has been answered, or was never sent."""
        await self._redis.run(_FINISH_END, self._keys, (server_id, meeting_id, begun))

    async def clear(self, meeting_id: str, server_id: str, *, may_live: bool) -> bool:
        """An operator gives the meeting up; a copy that `may_live` is ended once its server is back.

        If a create in doubt had moved it there, it is recorded on the former server again.
        """
        return await self._drop(meeting_id, server_id, "cleared", 0, 0, "1" if may_live else "0")

    async def _drop(self, meeting_id: str, server_id: str, why: str, *more: float | str) -> bool:
        return bool(await self._redis.run(_DROP, self._keys, (meeting_id, server_id, why, *more)))

    async def scan(self) -> AsyncIterator[Meeting]:
        """All recorded meetings, in slices (one may come twice); ids of expired records are taken off the list."""
        cursor = "0"
        while True:
            reply = await self._redis.run(_SCAN, self._keys, (cursor, SLICE))
            for row in reply[1:]:
                # An id that is no text can't be that of a call to BBB; it expires by itself.
                if isinstance(row[0], str):
                    yield _meeting(row[0], row[1:])
            cursor = reply[0]
            if cursor == "0":
                return

    async def on_server(self, server_id: str) -> list[Meeting]:
        """The meetings recorded on a server, by id."""
        found = {meeting.id: meeting async for meeting in self.scan() if meeting.server_id == server_id}
        return [found[meeting_id] for meeting_id in sorted(found)]

    async def unused_voice_bridges(self) -> list[tuple[str, str]]:
        """(number, meeting id) of numbers whose meeting has no record."""
        cursor = "0"
        unused: list[tuple[str, str]] = []
        while True:
            reply = await self._redis.run(_SCAN_BRIDGES, self._keys, (cursor, SLICE))
            unused += zip(reply[1::2], reply[2::2], strict=True)
            cursor = reply[0]
            if cursor == "0":
                return unused

    async def free_voice_bridge(self, number: str, meeting_id: str) -> bool:
        """Free a number of a meeting without record. False if it has one again."""
        return bool(await self._redis.run(_FREE_BRIDGE, self._keys, (number, meeting_id)))


def _meeting(meeting_id: str, fields: Sequence[str]) -> Meeting:
    return Meeting(meeting_id, fields[0], fields[1], fields[2] or None, fields[3])


def _host(fields: Sequence[Any]) -> Host:
    return Host(fields[0], fields[1], fields[2], fields[3], fields[4] == 1, ServerState(fields[5]))
