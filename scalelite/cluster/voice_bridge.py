"""Telephone numbers of meetings: drawn from a generator seeded by the meeting id, so that a meeting keeps its own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

RESERVED = "99999"
"""Never given out: FreeSWITCH uses it itself (Scalelite's rule)."""

TRIES = 10


def candidates(meeting_id: str, length: int, preferred: str | None = None) -> Iterator[str]:
    """Up to ten numbers of `length` digits to try in turn, `preferred` (as sent by the client) first.

    The sequence equals Scalelite's: its generator is the Mersenne Twister, seeded with the first 16 bytes of the
    SHA-256 of the id, and draws a digit by rejecting nibbles that are too large.
    """
    tries = TRIES
    if preferred is not None:
        tries -= 1
        if preferred != RESERVED:
            yield preferred
    digest = hashlib.sha256(meeting_id.encode()).digest()
    seed = int.from_bytes(digest[:8], "little") << 64 | int.from_bytes(digest[8:16], "little")
    draw = random.Random(seed).getrandbits  # noqa: S311 - numbers must be reproducible, not secret

    def digit(most: int) -> int:
        while (value := draw(32) & 15) > most:
            pass
        return value

    for _ in range(tries):
        number = str(1 + digit(8)) + "".join([str(digit(9)) for _ in range(length - 1)])
        if number != RESERVED:
            yield number
