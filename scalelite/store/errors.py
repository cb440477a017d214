"""What can go wrong between this program and Redis."""

from __future__ import annotations

import re
from typing import Final

# Redis 6 wraps what failed inside a script: "ERR Error running script (...): ... -READONLY You can't write".
_SCRIPT_ERROR: Final = re.compile(r"^ERR Error running script\b.*?-([A-Z]+)\b", re.DOTALL)


class StoreError(Exception):
    """Redis could not be asked, or answered with an error."""


class StoreUnavailable(StoreError):
    """Redis is down, did not answer within the deadline, or too many calls are waiting for it.

    Whether a command that was under way has been carried out is not known.
    """


class StoreReplyError(StoreError):
    """Redis answered a command with an error; `code` is its first word (`WRONGTYPE`, `OOM`, `READONLY`, `ERR`)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        wrapped = _SCRIPT_ERROR.match(message)
        self.code: str = wrapped[1] if wrapped else message.split(" ", 1)[0]
