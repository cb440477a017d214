"""Notices to front-ends that SQL could not take, in Redis until it can."""

from __future__ import annotations

from typing import Final

import attrs
import orjson
from twisted.logger import Logger

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.store.connection import Redis
from scalelite.store.errors import StoreError
from scalelite.store.scripts import script

_PUT: Final = script("put_notice")
_PEEK: Final = script("peek_notices")
_REMOVE: Final = script("remove_notice")

KEPT: Final = 14 * 86400
"""Seconds."""

MOST: Final = 2000
"""How many may wait."""

LONGEST: Final = 256 * 1024
"""Bytes of one. With MOST, Redis holds half a gigabyte at the very worst."""


class NoticeStore:
    """A queue, first in, first out. Raises StoreError."""

    _log = Logger()

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def put(self, notice: Notice) -> None:
        """Let a notice wait. Raises StoreError as well if it is too long, or too many wait."""
        text = orjson.dumps(attrs.asdict(notice)).decode()
        if len(text) > LONGEST:
            raise StoreError("the notice is too long to be kept in Redis")
        if not await self._redis.run(_PUT, self._keys, (text, MOST, KEPT)):
            raise StoreError("too many notices wait in Redis for the database")

    async def waiting(self, limit: int) -> list[tuple[str, Notice]]:
        """The oldest ones, each as it is stored and as it reads."""
        found: list[tuple[str, Notice]] = []
        for text in await self._redis.run(_PEEK, self._keys, (limit,)):
            try:
                fields = orjson.loads(text)
                found.append((text, Notice(**{**fields, "kind": Kind(fields["kind"])})))
            except (TypeError, ValueError, KeyError):
                self._log.error("a notice in Redis that can't be read is dropped")
                await self.remove(text)
        return found

    async def remove(self, text: str) -> None:
        """SQL has taken it, or never will."""
        await self._redis.run(_REMOVE, self._keys, (text,))
