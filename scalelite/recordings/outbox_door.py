"""The way into the outbox for what is not part of an import: into SQL, or into Redis while SQL can't be reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from scalelite.cluster.callbacks import Notice
from scalelite.recordings.hurry import HurriedDatabase
from scalelite.recordings.outbox import enqueue
from scalelite.recordings.times import utc
from scalelite.store.errors import StoreError
from scalelite.store.notices import NoticeStore


class OutboxDoor:
    """Takes notices; a notice that it has taken will not be lost."""

    _log = Logger()

    def __init__(self, database: HurriedDatabase, redis: NoticeStore, now: Callable[[], float]) -> None:
        self._database = database
        self._redis = redis
        self._now = now

    async def put(self, notice: Notice) -> None:
        """Have `notice` delivered. Raises StoreError if neither place takes it."""
        try:
            await self._database.run(partial(enqueue, notice=notice, now=utc(self._now())))
        except StoreError as error:
            self._log.warn("a notice is kept in Redis for now: {error}", error=error)
            await self._redis.put(notice)
