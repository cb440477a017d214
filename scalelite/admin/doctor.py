"""The command `doctor`: what is wrong in the pool, a line each, and with --fix, what is mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from scalelite.admin.progress import Progress
from scalelite.admin.table import FAILED, JSON, OK, Call, Command, Context, Flag
from scalelite.admin.text import json_text, shown

if TYPE_CHECKING:
    from scalelite.cluster.operations.diagnosis import Finding

FIX: Final = Flag("fix", "Mend what can be mended.")


async def doctor(context: Context, call: Call) -> int:
    """Show what is wrong, mended or not; status 1 while something is left."""
    from twisted.internet.defer import Deferred

    from scalelite.bbb.probe import Probe, probe
    from scalelite.cluster.operations.asking import all_of
    from scalelite.cluster.operations.diagnosis import Doctor, as_json

    console, pool, settings = context.console, context.pool, context.settings

    async def look(url: str) -> Probe:
        return await probe(pool.clock, url, settings.connect_timeout)

    examined = Doctor(
        pool.servers,
        pool.meetings,
        pool.leases,
        pool.inspection,
        look,
        pool.clock,
        time.time,
        settings.default_meeting_ttl,
        context.deadline,
    )
    with Progress(console, call, "servers looked at") as progress:
        pool_and_recordings = (examined.examine(fix=call.has(FIX), count=progress.at), _recordings(context))
        parts = await all_of([Deferred.fromCoroutine(part) for part in pool_and_recordings])
    findings = [finding for part in parts for finding in part]
    if call.has(JSON):
        console.out(json_text(as_json(findings)))
    else:
        for finding in findings:
            console.out(_line(finding))
        if not findings:
            console.out("Nothing is wrong")
    return OK if all(finding.fixed for finding in findings) else FAILED


async def _recordings(context: Context) -> list[Finding]:
    """What is wrong around recordings, where there are any."""
    settings, pool = context.settings, context.pool
    if not settings.recordings_enabled:
        return []
    from scalelite.recordings.checkup import Checkup, Place

    places = [
        Place(settings.recording_spool_dir, "tars"),
        Place(settings.recording_work_dir, "imports under way"),
    ]
    if not settings.s3_recording:
        places += [
            Place(settings.recording_publish_dir, "published recordings"),
            Place(settings.recording_unpublish_dir, "unpublished recordings"),
        ]
    return await Checkup(pool.recordings, pool.leases, pool.clock, time.time, places, context.deadline).examine()


def _line(finding: Finding) -> str:
    line = " ".join(filter(None, (finding.subject, shown(finding.id), shown(finding.problem))))
    if finding.fixed:
        return f"{line}: fixed"
    return f"{line}; --fix {finding.fix}" if finding.fix is not None else line


COMMANDS = (
    Command(
        "doctor",
        doctor,
        "Find what is wrong, and mend it.\n\n"
        "It looks at the records of servers, tenants and meetings, at telephone numbers, the poller, clocks, and "
        "certificates that end within three weeks; and at what recordings need: the database, the importer, the spool, "
        "folders and disks, notices to front-ends. Without --fix it only reads. It takes no longer than 15 seconds: "
        "what there was no time for is told.",
        "doctor --fix",
        flags=(FIX, JSON),
        changes_with=FIX,
    ),
)
