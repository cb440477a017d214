"""The commands around notices to front-ends that are under way."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.console import confirm
from scalelite.admin.recordings import LIMIT, USUAL, desk_of
from scalelite.admin.table import JSON, OK, YES, Argument, Call, Command, Context, Failed, Flag
from scalelite.admin.tables import listing
from scalelite.admin.text import counted, json_text, shown, utc_instant, utc_json

if TYPE_CHECKING:
    from scalelite.recordings.outbox import OutboxEntry

DEAD_ONLY: Final = Flag("dead", "Those that were given up only.")
ALL_DEAD: Final = Flag("all", "All that were given up.")
_HEADERS: Final = ("ID", "KIND", "MEETING ID", "TARGET", "STATE", "ATTEMPTS", "NEXT", "LAST ERROR")
_AT_ONCE: Final = 1000


async def show(context: Context, call: Call) -> int:
    """What waits and what was given up, the oldest first."""
    from scalelite.recordings.outbox import DEAD, list_outbox

    desk = await desk_of(context)
    limit = call.value(LIMIT) or USUAL
    state = DEAD if call.has(DEAD_ONLY) else None
    found = await desk.database.read(partial(list_outbox, state=state, limit=limit + 1))
    entries = found[:limit]
    if call.has(JSON):
        context.console.out(json_text([_as_json(entry) for entry in entries]))
    elif entries:
        cells = [_cells(entry) for entry in entries]
        context.console.out(listing(context.console, call, _HEADERS, cells, right=("ID", "ATTEMPTS")))
    else:
        context.console.err("No notice was given up" if state else "No notice waits")
    if len(found) > limit:
        context.console.err(f"There are more than {counted(limit, 'notice')}: --limit shows more of them")
    return OK


def _cells(entry: OutboxEntry) -> list[str]:
    return [
        str(entry.id),
        entry.kind,
        shown(entry.meeting_id),
        shown(entry.target or "yet to be looked up"),
        entry.state,
        str(entry.attempts),
        utc_instant(entry.next_attempt_at) if entry.state == "waiting" else "",
        shown(entry.last_error or ""),
    ]


def _as_json(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "kind": entry.kind,
        "tenant_id": entry.tenant_id,
        "meeting_id": entry.meeting_id,
        "record_id": entry.record_id,
        "target": entry.target,
        "path": entry.path,
        "state": entry.state,
        "attempts": entry.attempts,
        "last_error": entry.last_error,
        "created": utc_json(entry.created_at),
        "next_attempt": utc_json(entry.next_attempt_at),
    }


async def retry(context: Context, call: Call) -> int:
    """Have notices delivered again from now on."""
    from scalelite.recordings import outbox
    from scalelite.recordings.times import utc

    ids = _ids(call)
    desk = await desk_of(context)
    count = await desk.database.run(partial(outbox.retry, ids=ids, now=utc(time.time())))
    _check(ids, count)
    context.console.out(f"{counted(count, 'notice')} will be tried again\nOK")
    return OK


async def drop(context: Context, call: Call) -> int:
    """Forget notices, once that is agreed to."""
    from scalelite.recordings.outbox import DEAD, count_outbox, list_outbox
    from scalelite.recordings.outbox import drop as drop_rows

    ids = _ids(call)
    desk = await desk_of(context)
    number = len(ids) if ids is not None else (await desk.database.read(count_outbox))[DEAD]
    question = f"WARNING: You are trying to drop {counted(number, 'notice')}. Front-ends will never be told."
    refused = await confirm(context.console, question, agreed=call.has(YES), piped=call.rake)
    if refused:
        return refused
    if ids is not None:
        count = await desk.database.run(partial(drop_rows, ids=ids))
        _check(ids, count)
    else:
        count = 0
        while dead := await desk.database.read(partial(list_outbox, state=DEAD, limit=_AT_ONCE)):
            dropped = await desk.database.run(partial(drop_rows, ids=[entry.id for entry in dead]))
            count += dropped
            if not dropped:
                break
    context.console.out(f"{counted(count, 'notice')} dropped\nOK")
    return OK


def _ids(call: Call) -> list[int] | None:
    """The notices that are named; None for all that were given up."""
    words = [word for given in call.get("ids") or () for word in given.split(":") if word]
    if bool(words) == call.has(ALL_DEAD):
        raise Failed("Name the notices by their ids, as outbox shows them, or say --all")
    if not words:
        return None
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            raise Failed(f"The id of a notice is a number, not '{shown(word)}'")
    return list(dict.fromkeys(map(int, words)))


def _check(ids: list[int] | None, count: int) -> None:
    if ids is not None and count < len(ids):
        raise Failed(f"{counted(len(ids) - count, 'notice')} of {len(ids)} could not be found; the others are done")


_IDS: Final = Argument("ids", "Notices, as `outbox` shows them; as words or joined by `:`.", False, many=True)

COMMANDS = (
    Command(
        "outbox",
        show,
        "List what front-ends have yet to be told.\n\n"
        "Recordings that are ready, analytics and ends of meetings: what waits, and what was given up after a day.",
        "outbox --dead",
        flags=(DEAD_ONLY, JSON),
        changes=False,
        options=(LIMIT,),
    ),
    Command(
        "outbox:retry",
        retry,
        "Have notices tried again, for another day.",
        "outbox:retry 17",
        (_IDS,),
        (ALL_DEAD,),
    ),
    Command(
        "outbox:drop",
        drop,
        "Forget notices: front-ends will never be told.",
        "outbox:drop 17 --yes",
        (_IDS,),
        (ALL_DEAD, YES),
        destructive=True,
    ),
)  # fmt: skip
