"""What each server answered to getMeetings last, for when it does not answer in time."""

from __future__ import annotations

from collections import OrderedDict

MAX_BYTES = 16 * 1024 * 1024


class LastAnswers:
    """The last good answer of each server (XML as it came), by server id; beyond `max_bytes` the oldest go."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._answers: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def put(self, server_id: str, asked: float, answer: bytes) -> None:
        """Keep what a server answered that was asked at the time `asked` (seconds, any clock).

        An answer asked for later than this one stays.
        """
        kept = self._answers.get(server_id)
        if kept is not None and kept[0] > asked:
            return
        self.forget(server_id)
        self._answers[server_id] = (asked, answer)
        self._size += len(answer)
        while self._size > self._max_bytes:
            self.forget(next(iter(self._answers)))

    def get(self, server_id: str, not_before: float) -> bytes | None:
        """The answer of a server if it was asked for at `not_before` or later."""
        kept = self._answers.get(server_id)
        return kept[1] if kept and kept[0] >= not_before else None

    def forget(self, server_id: str) -> None:
        """Drop a server's answer, if there is one."""
        kept = self._answers.pop(server_id, None)
        if kept:
            self._size -= len(kept[1])
