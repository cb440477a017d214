"""Signatures of the REST API that have been used, in Redis: a call that changes something counts once."""

from __future__ import annotations

from typing import Final

from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_SPEND: Final = script("spend_signature")


class SignatureStore:
    """Remembers signatures, for all instances, until they are too old to be used. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._keys = (prefix,)

    async def spend(self, signature: str, seconds: int) -> bool:
        """Use a signature. False if that has been done within the last `seconds`."""
        return bool(await self._redis.run(_SPEND, self._keys, (signature, seconds)))
