"""What does not fit together in Redis, and all that is known of one meeting."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from scalelite.store.connection import Redis, Script
from scalelite.store.meetings import SLICE
from scalelite.store.scripts import script


def _looking(name: str) -> Script:
    """A script that knows what fits together."""
    return Script.of(name, script("inspection_common").source + Script.load(name).source)


_GLOB: Final = re.compile(r"[*?\[\]\\]")
_SERVERS: Final = _looking("inspect_servers")
_MEETINGS: Final = _looking("inspect_meetings")
_RECORDS: Final = _looking("inspect_records")
_LEFTOVERS: Final = _looking("inspect_leftovers")
_MEND_SERVER: Final = _looking("mend_server")
_MEND_TENANT: Final = _looking("mend_tenant")
_MEND_SETTING: Final = _looking("mend_setting")
_MEND_MEETING: Final = _looking("mend_meeting")
_EXPLAIN: Final = script("explain_meeting")
#: Names of keys that removed servers and tenants may have left: a server's is its bare id.
_LEFT: Final = re.compile(r"tenant_settings?:.*|[^:]+", re.DOTALL)


@attrs.frozen
class Problem:
    """Something that does not fit: `kind` is a word of `inspection_common.lua`, `detail` what it is about."""

    id: str
    kind: str
    detail: str = ""


@attrs.frozen
class Pending:
    """A create that has not been confirmed. `since` in seconds of Redis' clock; `previous` is "" for a new meeting."""

    server_id: str
    since: float
    attempts: int
    uncertain: bool
    previous: str


@attrs.frozen
class Explanation:
    """All that is known of a meeting; times in seconds of Redis' clock, `now` among them.

    `placed` is when it was placed or confirmed, until a poll has seen it alive. `ttl`: seconds until its record expires
    unless a poll renews it; None if it never does. `old_copies` are (server id, since).
    """

    now: float
    server_id: str | None
    voice_bridge: str
    tenant_id: str
    ttl: int | None
    pending: Pending | None
    placed: float | None
    old_copies: tuple[tuple[str, float], ...]


class InspectionStore:
    """Looks, and mends one thing at a time by what is wrong at that moment. All methods raise StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def servers(self) -> list[Problem]:
        """What is wrong with servers and tenants, by id."""
        rows = await self._redis.run(_SERVERS, self._keys, ())
        return sorted((Problem(*row) for row in rows), key=_order)

    async def meetings(self) -> list[Problem]:
        """What is wrong with meetings, listed or not, by id."""
        found: set[Problem] = set()
        cursor = "0"
        while True:
            reply = await self._redis.run(_MEETINGS, self._keys, (cursor, SLICE))
            # An id that is no text can't be given to a command; it expires by itself.
            found.update(Problem(*row) for row in reply[1:] if isinstance(row[0], str))
            cursor = reply[0]
            if cursor == "0":
                break
        start = f"{self._keys[0]}meeting:"
        pattern = _GLOB.sub(r"\\\g<0>", start) + "*"
        while True:
            cursor, keys = await self._redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", SLICE)
            ids = [key.removeprefix(start) for key in keys if isinstance(key, str)]
            if ids:
                rows = await self._redis.run(_RECORDS, self._keys, ids)
                found.update(Problem(*row) for row in rows)
            if cursor == "0":
                break
        return sorted(found, key=_order)

    async def leftovers(self) -> list[Problem]:
        """What Scalelite has left of removed servers and tenants, by id: it deletes neither counters nor settings."""
        found: set[Problem] = set()
        prefix = self._keys[0]
        pattern = _GLOB.sub(r"\\\g<0>", prefix) + "*"
        cursor = "0"
        while True:
            cursor, keys = await self._redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", SLICE)
            names = [key.removeprefix(prefix) for key in keys if isinstance(key, str)]
            names = [name for name in names if _LEFT.fullmatch(name)]
            if names:
                rows = await self._redis.run(_LEFTOVERS, self._keys, names)
                found.update(Problem(*row) for row in rows)
            if cursor == "0":
                break
        return sorted(found, key=_order)

    async def mend_server(self, server_id: str) -> int:
        """Mend what can be mended of a server; how many things."""
        mended: int = await self._redis.run(_MEND_SERVER, self._keys, (server_id,))
        return mended

    async def mend_tenant(self, tenant_id: str) -> int:
        """Mend a tenant; how many things."""
        mended: int = await self._redis.run(_MEND_TENANT, self._keys, (tenant_id,))
        return mended

    async def mend_setting(self, setting_id: str) -> int:
        """Remove a setting if its tenant has no record; how many things."""
        mended: int = await self._redis.run(_MEND_SETTING, self._keys, (setting_id,))
        return mended

    async def mend_meeting(self, meeting_id: str, ttl: int) -> int:
        """Mend a meeting; how many things. `ttl` in seconds, for a record that would never expire."""
        mended: int = await self._redis.run(_MEND_MEETING, self._keys, (meeting_id, ttl))
        return mended

    async def explain(self, meeting_id: str) -> Explanation:
        """What is known of a meeting, recorded or not."""
        now, record, pending, placed, *copies = await self._redis.run(_EXPLAIN, self._keys, (meeting_id,))
        return Explanation(
            now=float(now),
            server_id=record[0] if record else None,
            voice_bridge=record[1] if record else "",
            tenant_id=record[2] if record else "",
            ttl=record[3] if record and record[3] >= 0 else None,
            pending=_pending(pending) if pending else None,
            placed=float(placed) if placed else None,
            old_copies=tuple((server_id, float(since)) for server_id, since in copies),
        )


def _pending(row: list[Any]) -> Pending:
    return Pending(row[0], float(row[1]), int(row[2]), row[3] == "1", row[4])


def _order(problem: Problem) -> tuple[str, str, str]:
    return problem.id, problem.kind, problem.detail
