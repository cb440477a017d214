"""An entry of the audit log."""

from __future__ import annotations

from typing import Final

import attrs

UNFINISHED: Final = "unfinished"


@attrs.frozen
class Entry:
    """One changing command. `origin` tells the door and the place; `target` what it was given, secrets masked.

    `result` is "ok", or what went wrong in one line, or UNFINISHED while it runs and for ever if its process was
    killed. `time` is Redis' clock in seconds since the epoch, at the beginning.
    """

    actor: str
    origin: str
    command: str
    target: str
    result: str = UNFINISHED
    time: float = 0.0
