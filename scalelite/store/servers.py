"""Servers in Redis, in Scalelite's layout."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

import attrs
import orjson

from scalelite.cluster.records import Server, ServerState
from scalelite.cluster.statistics import PollLimits, ServerStatistics
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_ADD: Final = script("add_server")
_LIST: Final = script("list_servers")
_RECORD_POLL: Final = script("record_poll")
_REMOVE: Final = script("remove_server")
_SET_STATE: Final = script("set_server_state")
_SET_VERSION: Final = script("set_bbb_version")
_TARGETS: Final = script("list_targets")
_UPDATE: Final = script("update_server")
_FORGET_COPY: Final = script("forget_old_copy")


@attrs.frozen
class OldCopy:
    """A meeting that may still run on a server that does not hold it any more; `since` in seconds of Redis' clock."""

    meeting_id: str
    moderator_pw: str = attrs.field(repr=False)
    since: float


@attrs.frozen
class PollOutcome:
    """What recording a poll changed.

    `event` is "", "online", "offline", "emptied" (was cordoned, is disabled now) or "gone".
    """

    event: str
    old_copies: tuple[OldCopy, ...] = ()


@attrs.frozen
class Target:
    """A server that getMeetings asks; meetings in `moved` live elsewhere now and don't count."""

    id: str
    url: str
    secret: str = attrs.field(repr=False)
    moved: frozenset[str]


class ServerStore:
    """Reads and changes server records; every change is one atomic step. All methods raise StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def all(self) -> list[Server]:
        """Every server of the pool, by id."""
        rows = await self._redis.run(_LIST, self._keys, ("",))
        return sorted((_server(row) for row in rows), key=lambda server: server.id)

    async def find(self, server_id: str) -> Server | None:
        """The server of that id."""
        rows = await self._redis.run(_LIST, self._keys, (server_id,)) if server_id else []
        return _server(rows[0]) if rows else None

    async def targets(self) -> list[Target]:
        """The servers that hold meetings which can be listed: online and not disabled."""
        rows = await self._redis.run(_TARGETS, self._keys)
        return [Target(row[0], row[1], row[2], frozenset(row[3:])) for row in rows]

    async def add(self, server_id: str, url: str, secret: str, load_multiplier: float = 1.0, tag: str = "") -> bool:
        """Record a new server, disabled and offline. False if the id is taken."""
        added = await self._redis.run(_ADD, self._keys, (server_id, url, secret, repr(float(load_multiplier)), tag))
        return bool(added)

    async def update(
        self,
        server_id: str,
        *,
        url: str | None = None,
        secret: str | None = None,
        load_multiplier: float | None = None,
        tag: str | None = None,
    ) -> bool:
        """Change fields; None leaves one as it is then, an empty tag removes it. False if there is no such server."""
        multiplier = None if load_multiplier is None else repr(float(load_multiplier))
        changes = {"url": url, "secret": secret, "load_multiplier": multiplier, "tag": tag}
        pairs = [part for field, value in changes.items() if value is not None for part in (field, value)]
        return bool(await self._redis.run(_UPDATE, self._keys, (server_id, *pairs)))

    async def remove(self, server_id: str, *, force: bool = False) -> int | None:
        """Remove a server; unless forced, not while meetings are recorded there. Their number; None: no such server.

        Forced, it takes the records of its meetings with it.
        """
        count: int = await self._redis.run(_REMOVE, self._keys, (server_id, "1" if force else "0"))
        return None if count < 0 else count

    async def set_state(self, server_id: str, state: ServerState) -> ServerState | None:
        """Put a server into `state`. The state that it had; None if there is no such server."""
        before = await self._redis.run(_SET_STATE, self._keys, (server_id, state.value))
        return ServerState(before) if before else None

    async def set_bbb_version(self, server_id: str, version: str) -> None:
        """Keep the version that a server tells; nothing if the server is gone."""
        await self._redis.run(_SET_VERSION, self._keys, (server_id, version))

    async def record_poll(
        self, server_id: str, asked: float, statistics: ServerStatistics | None, limits: PollLimits
    ) -> PollOutcome:
        """Apply what a poll found (None: no good answer) to the server as it is now.

        `asked` is Redis' time in seconds at which the server had not been asked yet.
        """
        s = statistics or ServerStatistics()
        reply = await self._redis.run(
            _RECORD_POLL,
            self._keys,
            (
                server_id, repr(asked), "1" if statistics is not None else "0", s.load, s.users, s.meetings,
                s.largest_meeting, s.videos, limits.healthy_threshold, limits.unhealthy_threshold,
                limits.meeting_ttl, limits.new_meeting_load, limits.pending_grace, *s.meeting_ids,
            ),
        )  # fmt: skip
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return PollOutcome(reply[0], tuple(_old_copy(meeting_id, text) for meeting_id, text in pairs))

    async def forget_old_copy(self, server_id: str, meeting_id: str) -> None:
        """The copy has ended."""
        await self._redis.run(_FORGET_COPY, self._keys, (server_id, meeting_id))


def _old_copy(meeting_id: str, text: str) -> OldCopy:
    value = orjson.loads(text)
    return OldCopy(meeting_id, value["moderator_pw"], value["since"])


def _number(text: str | None, default: float | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return default
    return number if isfinite(number) else default


def _server(row: Sequence[str]) -> Server:
    fields = dict(zip(row[3::2], row[4::2], strict=True))
    return Server(
        id=row[0],
        url=fields.get("url", ""),
        secret=fields.get("secret", ""),
        state=ServerState(row[1]),
        online=fields.get("online") == "true",
        tag=fields.get("tag") or None,
        load=_number(row[2], None),
        load_multiplier=_number(fields.get("load_multiplier"), 1.0) or 1.0,
        meetings=fields.get("meetings"),
        users=fields.get("users"),
        largest_meeting=fields.get("largest_meeting"),
        videos=fields.get("videos"),
        bbb_version=fields.get("bbb_version"),
    )
