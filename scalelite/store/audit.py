"""The audit log in Redis: who changed what, the newest few thousand entries, under a key of our own."""

from __future__ import annotations

from typing import Any, Final

import attrs
import orjson

from scalelite.cluster.audit import Entry
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_BEGIN: Final = script("begin_audit")
_FINISH: Final = script("finish_audit")
_LIST: Final = script("list_audit")

#: Entries that are kept.
KEPT: Final = 10_000
#: Entries that one reading gives, at most.
MOST: Final = 1_000


class AuditStore:
    """Writes and reads the audit log. All methods raise StoreError."""

    def __init__(self, redis: Redis, prefix: str, *, kept: int = KEPT) -> None:
        self._redis = redis
        self._keys = (prefix,)
        self._kept = kept

    async def begin(self, entry: Entry) -> int:
        """Keep an entry; its number."""
        number: int = await self._redis.run(_BEGIN, self._keys, (_dumps(entry), self._kept))
        return number

    async def finish(self, number: int, entry: Entry) -> None:
        """Keep how it ended; nothing if so many have followed that it is gone."""
        await self._redis.run(_FINISH, self._keys, (number, _dumps(entry)))

    async def last(self, count: int) -> list[Entry]:
        """The newest entries, the oldest of them first; MOST of them at most."""
        reply = await self._redis.run(_LIST, self._keys, (min(count, MOST),))
        return [_entry(text) for text in reversed(reply)]


def _dumps(entry: Entry) -> bytes:
    fields = {name: _storable(value) for name, value in attrs.asdict(entry).items() if name != "time"}
    return orjson.dumps(fields)


def _storable(value: str) -> str:
    """Text from a command line may hold bytes that are no text."""
    return value.encode("utf-8", "backslashreplace").decode()


def _entry(text: str) -> Entry:
    seconds, _, value = text.partition(" ")
    fields: dict[str, Any] = orjson.loads(value)
    return Entry(**fields, time=float(seconds))
