"""Callback URLs that front-ends give at create: in SQL, or in Redis while SQL can't be reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection
from twisted.logger import Logger

from scalelite.cluster.callbacks import MAX_MEETING_ID
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings import callback_rows
from scalelite.recordings.database import Database, DatabaseUnavailable
from scalelite.recordings.hurry import HurriedDatabase
from scalelite.recordings.times import utc
from scalelite.store.callbacks import CallbackStore, KeptURLs
from scalelite.store.errors import StoreError

MAX_URL: Final = 8192
"""Characters; a longer one can't have come through a URL that BBB's web server takes."""

COPIED_AT_ONCE: Final = 100


class CallbackRecords:
    """One record for each meeting and tenant. `alone`: there are no tenants."""

    _log = Logger()

    def __init__(
        self, database: HurriedDatabase, redis: CallbackStore, now: Callable[[], float], *, alone: bool
    ) -> None:
        self._database = database
        self._redis = redis
        self._now = now
        self._alone = alone

    async def merge(self, meeting_id: str, tenant_id: str, urls: CallbackURLs) -> None:
        """Keep the URLs that are given; others kept for the meeting stay. Raises StoreError if Redis fails as well."""
        urls = CallbackURLs(_fit(urls.recording_ready), _fit(urls.analytics))
        if len(meeting_id) > MAX_MEETING_ID or urls == CallbackURLs():
            return
        at = self._now()

        def save(connection: Connection) -> None:
            callback_rows.save(connection, meeting_id, tenant_id, urls, utc(at), alone=self._alone)

        try:
            await self._database.run(save)
        except StoreError as error:
            self._log.warn("callback URLs of a meeting are kept in Redis for now: {error}", error=error)
            await self._redis.merge(meeting_id, tenant_id, urls, unsaved_at=repr(at))

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs:
        """The URLs kept for a meeting, wherever they are. Raises StoreError if either place can't be asked."""
        if self._alone:
            # A recording may name a tenant of the time when there were tenants; all is one customer's now.
            tenant_id = ""
        kept = await self._redis.look_up(meeting_id, tenant_id)

        def look_up(connection: Connection) -> CallbackURLs:
            return callback_rows.look_up(connection, meeting_id, tenant_id, alone=self._alone)

        try:
            saved = await self._database.read(look_up)
        except DatabaseUnavailable:
            # Kept since the database is down: no need to wait for it.
            if kept.unsaved_at and kept.urls.recording_ready is not None and kept.urls.analytics is not None:
                return kept.urls
            raise
        # What SQL has yet to take is newer; what has been in Redis from before there was a database is older.
        first, second = (kept.urls, saved) if kept.unsaved_at else (saved, kept.urls)
        return CallbackURLs(
            recording_ready=second.recording_ready if first.recording_ready is None else first.recording_ready,
            analytics=second.analytics if first.analytics is None else first.analytics,
        )


class CallbackCopier:
    """Takes into SQL what had to be kept in Redis."""

    _log = Logger()

    def __init__(self, database: Database, redis: CallbackStore, *, alone: bool) -> None:
        self._database = database
        self._redis = redis
        self._alone = alone

    async def copy(self) -> int:
        """Copy what there is, a hundred records at most; how many. Raises StoreError."""
        waiting = await self._redis.unsaved(COPIED_AT_ONCE)
        for kept in waiting:
            try:
                await self._database.run(partial(_save, kept=kept, alone=self._alone))
            except DatabaseUnavailable:
                raise
            except StoreError as error:
                self._log.error("the database does not take the callback URLs of a meeting: {error}", error=error)
            await self._redis.forget_unsaved(kept)
        return len(waiting)


def _save(connection: Connection, kept: KeptURLs, alone: bool) -> None:
    at = utc(float(kept.unsaved_at))
    callback_rows.save(connection, kept.meeting_id, kept.tenant_id, kept.urls, at, alone=alone)


def _fit(url: str | None) -> str | None:
    return url if url is None or len(url) <= MAX_URL else None
