"""Leases in Redis: of several instances, the one that holds it does the work."""

from __future__ import annotations

from typing import Final

from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_TAKE: Final = script("lease")
_RELEASE: Final = script("release_lease")
_HOLDER: Final = script("lease_holder")


class LeaseStore:
    """Takes, renews and gives back leases. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def take(self, name: str, holder: str, seconds: float) -> bool:
        """Take the lease, or renew one that `holder` has. False if somebody else has it."""
        return bool(await self._redis.run(_TAKE, self._keys, (name, holder, int(seconds * 1000))))

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back, so that another need not wait until it runs out."""
        await self._redis.run(_RELEASE, self._keys, (name, holder))

    async def holder(self, name: str) -> str | None:
        """Who has the lease; None if nobody."""
        holder: str | None = await self._redis.run(_HOLDER, self._keys, (name,))
        return holder

    async def now(self) -> float:
        """Redis' clock in seconds: the one that all instances share."""
        seconds, microseconds = await self._redis.call("TIME")
        return int(seconds) + int(microseconds) / 1e6
