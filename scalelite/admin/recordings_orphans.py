"""The command `recordings:orphans`: rows and files that do not fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from scalelite.admin.console import confirm
from scalelite.admin.progress import Progress
from scalelite.admin.recordings import desk_of
from scalelite.admin.table import FAILED, JSON, OK, YES, Call, Command, Context, Failed, Flag
from scalelite.admin.text import counted, json_text, shown

if TYPE_CHECKING:
    from scalelite.recordings.orphans import Census, Orphan

FIX: Final = Flag("fix", "Mend what can be mended without losing anything that is of use.")


async def orphans(context: Context, call: Call) -> int:
    """Show what does not fit, mended or not; status 1 while something is left."""
    from scalelite.recordings.orphans import Orphans
    from scalelite.recordings.storage import StorageError
    from scalelite.recordings.upkeep import count_recordings

    console = context.console
    if not context.own_process:
        raise Failed("It looks at every row and every folder: run it on the command line, not in the service")
    desk = await desk_of(context)
    search = Orphans(desk.database, desk.storage, desk.files, desk.in_thread, desk.changed)
    total = await desk.database.read(count_recordings)
    try:
        with Progress(console, call, "recordings looked at") as progress:
            census = await search.find(lambda done: progress.at(min(done, total), total))
    except StorageError as error:
        raise Failed(str(error)) from error
    mendable = [orphan for orphan in census.orphans if orphan.fix is not None]
    fixed: set[Orphan] = set()
    if call.has(FIX) and mendable:
        if not (call.has(JSON) or call.has(YES)):
            console.out("\n".join(_line(orphan) for orphan in mendable))
        question = f"WARNING: You are trying to mend {counted(len(mendable), 'thing')}, as shown."
        refused = await confirm(console, question, agreed=call.has(YES), piped=call.rake)
        if refused:
            return refused
        with Progress(console, call, "things mended") as progress:
            for number, orphan in enumerate(mendable, 1):
                try:
                    await search.mend(orphan)
                    fixed.add(orphan)
                except StorageError as error:
                    progress.err(f"WARNING: {error}")
                progress.at(number, len(mendable))
    _show(context, call, census, fixed)
    return OK if len(fixed) == len(census.orphans) else FAILED


def _show(context: Context, call: Call, census: Census, fixed: set[Orphan]) -> None:
    console = context.console
    if call.has(JSON):
        console.out(json_text([_as_json(one, one in fixed) for one in census.orphans]))
    elif census.orphans:
        console.out("\n".join(_line(one, fixed=one in fixed) for one in census.orphans))
    else:
        console.out(f"Nothing is wrong: {counted(census.rows, 'recording')}, {counted(census.files, 'folder')}")
    if census.cut_off:
        console.err("There is more than this")
    if census.orphans and census.rows and not census.files and not census.cut_off:
        console.err("WARNING: There are no files at all: is the disk of the recordings mounted?")


def _line(orphan: Orphan, *, fixed: bool = False) -> str:
    line = f"{shown(orphan.record_id)} {shown(orphan.problem)}"
    if fixed:
        return f"{line}: fixed"
    return line if orphan.fix is None else f"{line}; --fix {orphan.fix}"


def _as_json(orphan: Orphan, fixed: bool) -> dict[str, Any]:
    return {**attrs.asdict(orphan), "fixed": fixed}


COMMANDS = (
    Command(
        "recordings:orphans",
        orphans,
        "Find rows and files that do not fit each other.\n\n"
        "Recordings without files, files without a recording, formats on the wrong side or on both, files of deleted "
        "recordings, text tracks without one or the other. Without --fix it only reads. Recordings are never removed, "
        "nor files that may be wanted: of those, you decide.",
        "recordings:orphans --fix",
        flags=(FIX, YES, JSON),
        changes_with=FIX,
        destructive=True,
    ),
)
