"""One-time tokens of links to protected recordings, in Redis, in Scalelite's layout."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import DeferredList

from scalelite.store.connection import Redis
from scalelite.store.scripts import script

_ISSUE: Final = script("issue_recording_tokens")
_SPEND: Final = script("spend_recording_token")
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
#: Tokens that one script writes: others wait for Redis meanwhile.
_BATCH: Final = 500


def _new_token() -> str:
    return secrets.token_hex(32)


class RecordingTokens:
    """Issues tokens that are good for `minutes`, each for one format of one recording. Raises StoreError."""

    def __init__(self, redis: Redis, prefix: str, minutes: int, new_token: Callable[[], str] = _new_token) -> None:
        self._redis = redis
        self._keys = (prefix,)
        self._seconds = minutes * 60
        self._new_token = new_token

    async def issue(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """A new token for each record id and format, in that order; one round trip for all of them."""
        tokens = [self._new_token() for _ in pairs]
        written = []
        for start in range(0, len(pairs), _BATCH):
            arguments: list[str | int] = [self._seconds]
            for token, (record_id, playback_format) in zip(
                tokens[start : start + _BATCH], pairs[start : start + _BATCH], strict=True
            ):
                value = {"record_id": record_id, "format": playback_format}
                arguments += (token, json.dumps(value, separators=(",", ":"), ensure_ascii=False))
            written.append(self._redis.run(_ISSUE, self._keys, arguments))
        # The calls leave in one write, whatever their number.
        for done, outcome in await DeferredList(written, consumeErrors=True):
            if not done:
                outcome.raiseException()
        return tokens

    async def spend(self, token: str, record_id: str, playback_format: str) -> bool:
        """Whether the token is for this format of this recording; it is good no more then. Else it stays as it is."""
        return await self._use(token, record_id, playback_format, spend=True)

    async def holds(self, token: str, record_id: str, playback_format: str) -> bool:
        """As `spend`, but the token stays good: for who only looks whether the link leads anywhere."""
        return await self._use(token, record_id, playback_format, spend=False)

    async def _use(self, token: str, record_id: str, playback_format: str, *, spend: bool) -> bool:
        if not _TOKEN.fullmatch(token):
            return False
        arguments = (token, record_id, playback_format, 1 if spend else 0)
        return bool(await self._redis.run(_SPEND, self._keys, arguments))
