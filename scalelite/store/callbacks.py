"""Callback URLs that front-ends give at create, kept until BBB reports what they wait for.

Kept in Redis for now; the interface is what a table in SQL will answer as well.
"""

from __future__ import annotations

from typing import Final

from scalelite.cluster.records import CallbackURLs
from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_MERGE: Final = script("merge_callbacks")
_FIND: Final = script("find_callbacks")
KEPT = 60 * 86400
"""Seconds: a recording may be imported weeks after its meeting."""


class CallbackStore:
    """One record for each meeting id and tenant, so that tenants never see each other's. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def merge(self, meeting_id: str, tenant_id: str, urls: CallbackURLs) -> None:
        """Keep the URLs that are given; others kept for the meeting stay."""
        given = {
            "recording_ready_url": urls.recording_ready,
            "analytics_callback_url": urls.analytics,
        }
        fields = [part for name, url in given.items() if url is not None for part in (name, url)]
        if fields:
            await self._redis.run(_MERGE, self._keys, (tenant_id, meeting_id, KEPT, *fields))

    async def find(self, meeting_id: str, tenant_id: str) -> CallbackURLs:
        """The URLs kept for a meeting."""
        recording_ready, analytics = await self._redis.run(_FIND, self._keys, (tenant_id, meeting_id))
        return CallbackURLs(recording_ready=recording_ready, analytics=analytics)
