"""Callback URLs that front-ends give at create, in Redis: where there is no database, or while it can't be reached."""

from __future__ import annotations

from typing import Final

import attrs

from scalelite.cluster.records import CallbackURLs
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_MERGE: Final = script("merge_callbacks")
_FIND: Final = script("find_callbacks")
_UNSAVED: Final = script("unsaved_callbacks")
_FORGET: Final = script("forget_unsaved_callbacks")
KEPT = 60 * 86400
"""Seconds: a recording may be imported weeks after its meeting."""


@attrs.frozen
class KeptURLs:
    """What is kept for a meeting. `unsaved_at`: seconds since the epoch, where SQL could not take it; else ""."""

    meeting_id: str
    tenant_id: str
    urls: CallbackURLs
    unsaved_at: str = ""


class CallbackStore:
    """One record for each meeting id and tenant, so that tenants never see each other's. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def merge(self, meeting_id: str, tenant_id: str, urls: CallbackURLs, *, unsaved_at: str = "") -> None:
        """Keep the URLs that are given; others kept for the meeting stay."""
        given = {
            "recording_ready_url": urls.recording_ready,
            "analytics_callback_url": urls.analytics,
        }
        fields = [part for name, url in given.items() if url is not None for part in (name, url)]
        if fields:
            await self._redis.run(_MERGE, self._keys, (tenant_id, meeting_id, KEPT, unsaved_at, *fields))

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs:
        """The URLs kept for a meeting."""
        return (await self.look_up(meeting_id, tenant_id)).urls

    async def look_up(self, meeting_id: str, tenant_id: str) -> KeptURLs:
        """As `find`, with whether SQL has yet to take them."""
        ready, analytics, unsaved_at = await self._redis.run(_FIND, self._keys, (tenant_id, meeting_id))
        return KeptURLs(meeting_id, tenant_id, CallbackURLs(ready, analytics), unsaved_at or "")

    async def unsaved(self, limit: int) -> list[KeptURLs]:
        """Some of those that SQL could not take."""
        rows = await self._redis.run(_UNSAVED, self._keys, (limit,))
        return [
            KeptURLs(meeting_id, tenant_id, CallbackURLs(ready, analytics), unsaved_at)
            for tenant_id, meeting_id, ready, analytics, unsaved_at in rows
        ]

    async def forget_unsaved(self, kept: KeptURLs) -> None:
        """SQL has taken them, or never will; what has been kept since stays."""
        await self._redis.run(_FORGET, self._keys, (kept.tenant_id, kept.meeting_id, kept.unsaved_at))
