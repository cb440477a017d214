"""Dial-in numbers in Redis: the meeting of a PIN, and how many wrong ones callers have tried, for all instances."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from enum import StrEnum
from typing import Any, Final

import attrs

from scalelite.cluster.records import Meeting, ServerState
from scalelite.store.connection import Redis
from scalelite.store.meetings import Found, Host
from scalelite.store.scripts import script

_FIND: Final = script("find_by_pin")


class PinVerdict(StrEnum):
    """How a look-up ended."""

    FOUND = "found"
    UNKNOWN = "unknown"
    LOCKED = "locked"
    """Too many wrong PINs; it is not told whether this one was right."""


@attrs.frozen
class GuessLimits:
    """How many wrong PINs within `seconds`, from one caller and from all of them; 0 for no limit."""

    per_caller: int = 10
    total: int = 1000
    seconds: int = 600


class DialInStore:
    """Finds meetings by number. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str, limits: GuessLimits) -> None:
        self._redis = redis
        self._keys = (prefix,)
        self._limits = limits

    async def find(self, numbers: Collection[str], caller: Collection[str]) -> tuple[PinVerdict, Found | None]:
        """The first meeting, of whatever tenant, that has one of `numbers`; if there is none, a wrong PIN is counted.

        `caller`: all by which the caller is known, such as number and call. Kept as digests only.
        """
        names = [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32] for name in caller]
        limits = self._limits
        reply: list[Any] = await self._redis.run(
            _FIND,
            self._keys,
            (limits.seconds, limits.per_caller, limits.total, len(names), *names, *numbers),
        )
        verdict = PinVerdict(reply[0])
        if verdict is not PinVerdict.FOUND:
            return verdict, None
        meeting_id, server_id, moderator_pw, voice_bridge, tenant_id = reply[1]
        host = None
        if len(reply) > 2:
            id_, url, secret, tag, online, state = reply[2]
            host = Host(id_, url, secret, tag, online == 1, ServerState(state))
        return verdict, Found(Meeting(meeting_id, server_id, moderator_pw, voice_bridge or None, tenant_id), host)
