"""The commands that show recordings; and what all commands about recordings have in common."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.table import JSON, OK, Argument, Call, Command, Context, Failed, Flag, Option
from scalelite.admin.tables import listing
from scalelite.admin.text import counted, instant, json_text, shown, utc_instant, utc_json

if TYPE_CHECKING:
    from scalelite.recordings.desk import RecordingDesk
    from scalelite.recordings.failures import FailedTar
    from scalelite.recordings.overview import Details, Recording
    from scalelite.settings import Settings

STATES: Final = ("processing", "processed", "published", "unpublished", "deleted")
ANY: Final = "any"
#: Recordings that are listed if nothing else is said, and at most.
USUAL: Final = 50
MOST: Final = 10_000

_HEADERS: Final = ("RECORD ID", "MEETING ID", "NAME", "STATE", "PROTECTED", "STARTED", "MINUTES", "FORMATS")
_FILES: Final = {True: "published", False: "unpublished"}

RECORD_IDS: Final = Argument("ids", "Record ids, as words or joined by `:`.", many=True)
NO_RECORDING: Final = "Error: Please input a record id!"


async def desk_of(context: Context) -> RecordingDesk:
    """What to work with. Raises Failed where the database is missing or lacks its tables, and StoreError."""
    desk = context.pool.recordings
    found = await desk.examine()
    if not found.usable:
        raise Failed(f"the database is {found.text}; `scalelite db:upgrade` makes its tables")
    return desk


def ids_of(call: Call) -> list[str]:
    """The record ids that were given, each once."""
    return list(dict.fromkeys(one for word in call.get("ids") or () for one in word.split(":") if one))


def read_limit(text: str) -> int:
    """How many rows. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST):
        raise ValueError(f"a whole number from 1 to {MOST}")
    return int(text)


def read_states(text: str) -> tuple[str, ...]:
    """States, joined by commas. Raises ValueError."""
    states = tuple(filter(None, text.split(",")))
    if not states or any(state not in (*STATES, ANY) for state in states):
        raise ValueError(f"{', '.join(STATES)} or {ANY}, or several of them joined by commas")
    return STATES if ANY in states else states


MEETING: Final = Option("meeting", "Of this meeting id only.")
STATE: Final = Option("state", "In these states; all but deleted ones if absent.", read_states, (*STATES, ANY))
TENANT: Final = Option("tenant", "Of this tenant, by its id or name.")
LIMIT: Final = Option("limit", f"How many; {USUAL} if absent.", read_limit)
PROTECTED: Final = Flag("protected", "Protected ones only.")


async def list_recordings(context: Context, call: Call) -> int:
    """The newest recordings that match."""
    from scalelite.recordings.overview import Filter, newest

    desk = await desk_of(context)
    limit = call.value(LIMIT) or USUAL
    wanted = Filter(
        meeting_id=call.value(MEETING),
        states=call.value(STATE),
        tenant_id=await _tenant_id(context, call.value(TENANT)),
        protected=True if call.has(PROTECTED) else None,
    )
    found = await desk.database.read(partial(newest, wanted=wanted, limit=limit + 1))
    rows = found[:limit]
    if call.has(JSON):
        context.console.out(json_text([_as_json(row) for row in rows]))
    elif rows:
        cells = [_cells(row) for row in rows]
        context.console.out(listing(context.console, call, _HEADERS, cells, right=("MINUTES",)))
    else:
        context.console.err("No recordings found")
    if len(found) > limit:
        context.console.err(f"There are more than {counted(limit, 'recording')}: --limit shows more of them")
    return OK


async def _tenant_id(context: Context, word: str | None) -> str | None:
    if word is None:
        return None
    for tenant in await context.pool.tenants.all():
        if word == tenant.name:
            return tenant.id
    # A tenant need not exist any more for its recordings to be there.
    return word


def _cells(row: Recording) -> list[str]:
    return [
        shown(row.record_id),
        shown(row.meeting_id),
        shown(row.name),
        shown(row.state or ""),
        "yes" if row.protected else "no",
        utc_instant(row.started),
        str(_minutes(row.started, row.ended) if row.started and row.ended else ""),
        shown(", ".join(row.formats)),
    ]


def _minutes(started: datetime, ended: datetime) -> int:
    return round((ended - started).total_seconds() / 60)


def _as_json(row: Recording) -> dict[str, Any]:
    return {
        "record_id": row.record_id,
        "meeting_id": row.meeting_id,
        "name": row.name,
        "state": row.state,
        "published": row.published,
        "protected": row.protected,
        "tenant_id": row.tenant_id,
        "started": utc_json(row.started),
        "ended": utc_json(row.ended),
        "participants": row.participants,
        "formats": list(row.formats),
    }


async def info(context: Context, call: Call) -> int:
    """Everything that is known of one recording."""
    from scalelite.recordings.changes import safe_part
    from scalelite.recordings.overview import details
    from scalelite.recordings.storage import StorageError

    desk = await desk_of(context)
    record_id: str = call.get("id")
    found = await desk.database.read(partial(details, record_id=record_id))
    try:
        tars = await desk.in_thread(_tars, desk, record_id)
        kept = await desk.in_thread(desk.storage.kept, record_id) if safe_part(record_id) else []
    except (OSError, StorageError) as error:
        context.console.err(f"WARNING: {error}")
        tars, kept = ([], None), []
    waiting, failed = tars
    if found is None and not waiting and failed is None:
        raise Failed(f"Couldn't find Recording with id={shown(record_id)}")
    if call.has(JSON):
        body = None if found is None else _details_as_json(found, kept, context.settings)
        document = {
            "record_id": record_id,
            "recording": body,
            "waiting": [str(path) for path in waiting],
            "failed_import": None if failed is None else failure_as_json(failed),
        }
        context.console.out(json_text(document))
        return OK
    lines = [f"Record ID: {shown(record_id)}"]
    lines += _lines(found, kept, context.settings) if found is not None else ["\tnot imported"]
    lines += [f"\tWaits to be imported: {shown(str(path))}" for path in waiting]
    if failed is not None:
        lines.append(f"\tFailed import: {shown(failed.reason)}, {_attempts(failed)}")
    context.console.out("\n".join(lines))
    return OK


def _tars(desk: RecordingDesk, record_id: str) -> tuple[list[Path], FailedTar | None]:
    """The tar of that recording that waits, if any, and the one that failed."""
    path = desk.spool.folder / f"{record_id}.tar"
    waiting = [path] if "/" not in record_id and path.is_file() else []
    failed = next((failed for failed in desk.spool.failures.all() if failed.name == record_id), None)
    return waiting, failed


def _attempts(failed: FailedTar) -> str:
    return f"{counted(failed.attempts, 'attempt')}, next at {instant(failed.next_retry_at)}"


def failure_as_json(failed: FailedTar) -> dict[str, Any]:
    """A failed import."""
    return {
        "name": failed.name,
        "reason": failed.reason,
        "attempts": failed.attempts,
        "first_failed": instant(failed.first_failed_at),
        "last_failed": instant(failed.failed_at),
        "next_retry": instant(failed.next_retry_at),
        "size": failed.size,
    }


def link(settings: Settings, path: str | None) -> str | None:
    """A player's address as front-ends are given it, but for the tenant's host."""
    if path is None:
        return None
    return f"https://{settings.url_host}{path}" if settings.url_host else path


def _sides(kept: list[tuple[str, bool]], playback_format: str) -> list[str]:
    return [_FILES[published] for name, published in kept if name == playback_format]


def _lines(found: Details, kept: list[tuple[str, bool]], settings: Settings) -> list[str]:
    row = found.recording
    lines = [
        f"\tMeeting ID: {shown(row.meeting_id)}",
        f"\tName: {shown(row.name)}",
        f"\tState: {shown(row.state or 'none')}{' (by hand)' if row.by_hand else ''}",
        f"\tPublished: {'yes' if row.published else 'no'}",
        f"\tProtected: {'yes' if row.protected else 'no'}",
        f"\tTenant: {shown(row.tenant_id or 'none')}",
        f"\tStarted: {utc_instant(row.started)}",
        f"\tEnded: {utc_instant(row.ended)}",
        f"\tParticipants: {'' if row.participants is None else row.participants}",
    ]
    if row.deleted_at is not None:
        lines.append(f"\tDeleted: {utc_instant(row.deleted_at)}")
    for one in found.formats:
        sides = " and ".join(_sides(kept, one.name)) or "MISSING"
        address = shown(link(settings, one.url) or "none")
        length = "unknown" if one.length is None else counted(one.length, "minute")
        pictures = counted(one.thumbnails, "thumbnail")
        lines += [f"\tFormat: {shown(one.name)}", f"\t\tLink: {address}", f"\t\tLength: {length}, {pictures}"]
        lines.append(f"\t\tFiles: {sides}")
    known = {one.name for one in found.formats}
    lines += [f"\tFiles without a row: {_FILES[published]}/{name}" for name, published in kept if name not in known]
    if row.protected:
        lines.append("\tThe links of a protected recording are those that getRecordings gives: each is good once")
    lines += ["\tMetadata:", *(f"\t\t{shown(key)}: {shown(value or '')}" for key, value in found.metadata.items())]
    lines += [
        f"\tText track: {shown(track.lang)} {shown(track.kind)}, {shown(track.label)} ({shown(track.source)})"
        for track in found.tracks
    ]
    return lines


def _details_as_json(found: Details, kept: list[tuple[str, bool]], settings: Settings) -> dict[str, Any]:
    row = found.recording
    return {
        **_as_json(row),
        "by_hand": row.by_hand,
        "deleted": utc_json(row.deleted_at),
        "formats": [
            {
                "format": one.name,
                "url": link(settings, one.url),
                "length": one.length,
                "processing_time": one.processing_time,
                "thumbnails": one.thumbnails,
                "files": _sides(kept, one.name),
            }
            for one in found.formats
        ],
        "files": [{"format": name, "side": _FILES[published]} for name, published in kept],
        "metadata": dict(found.metadata),
        "text_tracks": [
            {"kind": track.kind, "lang": track.lang, "label": track.label, "source": track.source}
            for track in found.tracks
        ],
    }


COMMANDS = (
    Command(
        "recordings:list",
        list_recordings,
        "List recordings, the newest first.",
        "recordings:list --state unpublished --limit 20",
        flags=(PROTECTED, JSON),
        changes=False,
        options=(MEETING, STATE, TENANT, LIMIT),
    ),
    Command(
        "recordings:info",
        info,
        "Show everything about one recording.\n\n"
        "Its rows and metadata, where its files are, the links of its players, text tracks, and what became of its "
        "tar.",
        "recordings:info 0f3c9d-1609459200123",
        (Argument("id", "The record id."),),
        (JSON,),
        missing=NO_RECORDING,
        changes=False,
    ),
)
