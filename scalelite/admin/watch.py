"""The command `watch`: the status of the pool, drawn anew every few seconds."""

from __future__ import annotations

import time
from typing import Final

from scalelite.admin.status import overview
from scalelite.admin.table import Argument, Call, Command, Context

#: Cursor to the top left, and what is below it away: drawn over, not cleared first, so that nothing flickers.
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_REST: Final = "\x1b[J"
_CLEAR: Final = "\x1b[2J"
INTERVAL: Final = 2.0


async def watch(context: Context, call: Call) -> int:
    """The table of `status` over and over, until it is interrupted."""
    from twisted.internet.task import deferLater

    console, pool = context.console, context.pool
    interval = call.get("seconds") or INTERVAL
    first = True
    while True:
        lines = overview(await pool.servers.all(), time.strftime("%H:%M:%S"))
        if console.width is None:
            console.out("\n".join(lines))
        else:
            drawn = "\n".join(f"{line[: console.width]}{_CLEAR_LINE}" for line in lines)
            console.out(f"{_CLEAR if first else ''}{_HOME}{drawn}{_CLEAR_REST}")
        first = False
        await deferLater(pool.clock, interval)


def read_seconds(text: str) -> float:
    """Seconds between two looks. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise ValueError("a number of seconds from 0.5 to 3600")
    return seconds


COMMANDS = (
    Command(
        "watch",
        watch,
        "Show what the servers are doing, again and again.\n\nCtrl-C ends it. The figures are those of the last poll.",
        "watch 5",
        (Argument("seconds", "Seconds between two looks; 2 if absent.", False, read_seconds),),
        changes=False,
    ),
)
