"""Whether Redis takes and gives back a value: Scalelite's own probe, under its own key."""

from __future__ import annotations

from scalelite.store.connection import Redis
from scalelite.store.errors import StoreReplyError

KEY = "__health_check_set__"


async def probe(redis: Redis, prefix: str) -> None:
    """Write and read the probe. Raises StoreError; returns if all is well."""
    written, read = await redis.many((("SET", prefix + KEY, "true", "EX", 10), ("GET", prefix + KEY)))
    if written != "OK" or read != "true":
        raise StoreReplyError(f"ERR the probe read back {read!r}")
