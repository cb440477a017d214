"""The commands around imports: the importer itself, tars that failed, and single tars."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.progress import Progress
from scalelite.admin.recordings import desk_of, failure_as_json
from scalelite.admin.signals import end_signals
from scalelite.admin.table import JSON, OK, Argument, Call, Command, Context, Failed, Flag
from scalelite.admin.tables import listing
from scalelite.admin.text import counted, instant, json_text, shown

if TYPE_CHECKING:
    from scalelite.recordings.desk import RecordingDesk
    from scalelite.recordings.import_messages import Step
    from scalelite.recordings.importer import Outcome

ALL: Final = Flag("all", "All of them.")
FORCE: Final = Flag("force", "Bring the recording back if it was deleted.")
_UNPACKING: Final = "unpacking"
_HEADERS: Final = ("NAME", "ATTEMPTS", "LAST", "NEXT", "REASON")


async def watch(context: Context, call: Call) -> int:
    """Import what comes, until a signal comes."""
    from twisted.internet.defer import Deferred

    console, pool = context.console, context.pool
    if not context.own_process:
        raise Failed("The service imports by itself; on the command line, recordings:watch does so on its own")
    interval = call.get("latency") or context.settings.recording_import_poll_interval
    signalled: Deferred[str] = Deferred()
    with Progress(console, call, "kB unpacked") as progress, end_signals(pool.clock, signalled), _log_lines(progress):
        if context.settings.recording_disabled:
            progress.err("WARNING: RECORDING_DISABLED is true: nothing is imported, and tars stay where they are")
            await signalled
            return OK
        desk = pool.recordings
        service = desk.watcher(interval, _Bar(progress))
        desk.schema.startService()
        service.startService()
        progress.err(f"Importing recordings from {shown(str(desk.spool.folder))}")
        name = await signalled
        progress.err(f"Exiting importer on signal: {name}")
        await service.stopService()
        await desk.schema.stopService()
    return OK


@contextmanager
def _log_lines(progress: Progress) -> Iterator[None]:
    """What the log is told that is no warning; of those, the process's own log tells."""
    from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
    from zope.interface import provider

    @provider(ILogObserver)
    def tell(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.info and str(event.get("log_namespace", "")).startswith("scalelite."):
            progress.err(" ".join(formatEvent(event).split()))
        else:
            progress.hide()

    globalLogPublisher.addObserver(tell)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(tell)


class _Bar:
    """Shows how far the tars under way are unpacked, all together."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._at: dict[str, tuple[int, int]] = {}

    def step(self, name: str, step: Step) -> None:
        """See `import_service.Observer`."""
        if step.name == _UNPACKING:
            self._at[name] = (step.done, step.total)
        self._progress.at(
            sum(done for done, _ in self._at.values()) // 1000, sum(total for _, total in self._at.values()) // 1000
        )

    def done(self, name: str, outcome: Outcome | None, seconds: float) -> None:
        """See `import_service.Observer`."""
        self._at.pop(name, None)
        self._progress.hide()


async def list_failed(context: Context, call: Call) -> int:
    """The tars that could not be imported, and why."""
    desk = context.pool.recordings
    failed = await _in_spool(desk, desk.spool.failures.all)
    if call.has(JSON):
        context.console.out(json_text([failure_as_json(one) for one in failed]))
    elif failed:
        now = time.time()
        rows = [
            [
                shown(one.name),
                str(one.attempts),
                instant(one.failed_at) if one.attempts else "",
                "soon" if one.next_retry_at <= now else instant(one.next_retry_at),
                shown(one.reason),
            ]
            for one in failed
        ]
        context.console.out(listing(context.console, call, _HEADERS, rows, right=("ATTEMPTS",)))
    else:
        context.console.err("No import has failed")
    return OK


async def retry(context: Context, call: Call) -> int:
    """Have tars that failed tried again at once."""
    desk = context.pool.recordings
    names = [name.removesuffix(".tar") for word in call.get("names") or () for name in word.split(":") if name]
    if bool(names) == call.has(ALL):
        raise Failed("Name the tars that are to be tried again, as recordings:failed shows them, or say --all")
    known = {one.name for one in await _in_spool(desk, desk.spool.failures.all)}
    for name in names:
        if name not in known:
            raise Failed(f"No import of {shown(name)} has failed")
    again: list[str] = await _in_spool(desk, partial(_retry, desk, names))
    if not again:
        context.console.err("No import has failed")
        return OK
    context.console.out(f"{counted(len(again), 'import')} will be tried again\nOK")
    return OK


def _retry(desk: RecordingDesk, names: Sequence[str]) -> list[str]:
    failures = desk.spool.failures
    again = [name for one in names for name in failures.retry(one)] if names else failures.retry()
    if again:
        # The importer looks at the spool folder alone, every second.
        os.utime(desk.spool.folder)
    return again


async def _in_spool(desk: RecordingDesk, work: Any) -> Any:
    try:
        return await desk.in_thread(work)
    except OSError as error:
        raise Failed(f"The spool folder cannot be used: {error.strerror or error} ({error.filename})") from error


async def import_tar(context: Context, call: Call) -> int:
    """Import one tar at once."""
    from scalelite.recordings.import_messages import Job
    from scalelite.recordings.import_process import ImportDied, ImportTrouble
    from scalelite.recordings.overview import states_of

    if not context.own_process:
        raise Failed("recordings:import is for the command line; recordings:retry has the service import a tar again")
    desk = await desk_of(context)
    path: Path = await _in_spool(desk, partial(_find, desk, call.get("tar")))
    force = call.has(FORCE)
    name = path.name.removesuffix(".tar")
    states = await desk.database.read(partial(states_of, record_ids=[name]))
    if states.get(name) == "deleted" and not force:
        raise Failed(f"Recording {shown(name)} was deleted; --force brings it back")
    process = desk.importer()
    try:
        with Progress(context.console, call, "kB unpacked") as progress:
            bar = _Bar(progress)
            outcome = await process.run(Job(path, force), partial(bar.step, name))
    except (ImportTrouble, ImportDied) as error:
        raise Failed(str(error)) from error
    finally:
        process.close()
        await process.ended()
    assert outcome is not None
    context.console.out(_told(outcome))
    return OK


def _find(desk: RecordingDesk, word: str) -> Path:
    """The tar that is meant: a file, or one in the spool, waiting or failed."""
    desk.spool.prepare()
    name = word if word.endswith(".tar") else f"{word}.tar"
    spool = (desk.spool.folder, desk.spool.folder / "failed")
    if "/" not in word:
        for folder in spool:
            if (folder / name).is_file():
                return folder / name
    given = Path(word).absolute()
    if given.is_file():
        # Spelled as the importer spells it: what is in the spool is its own, and is removed.
        return next((folder / given.name for folder in spool if folder.absolute() == given.parent), given)
    raise Failed(f"There is no tar {shown(word)}, neither in the spool nor among those that failed")


def _told(outcome: Outcome) -> str:
    """What came of it, in words. Raises Failed unless the recording is there now."""
    from scalelite.recordings.importer import Result

    recording = shown(outcome.record_id or outcome.name)
    match outcome.result:
        case Result.IMPORTED:
            state = "published" if outcome.published else "unpublished"
            return f"Imported {recording}: {', '.join(outcome.formats)}, {outcome.size} bytes, {state}"
        case Result.REPEATED:
            return f"{recording} was imported already"
        case Result.DELETED:
            raise Failed(f"Recording {recording} was deleted; --force brings it back")
        case Result.TAKEN:
            raise Failed(f"{shown(outcome.name)} is being imported by another process")
        case Result.UNFINISHED:
            raise Failed(f"{shown(outcome.name)} may not be all there yet: {shown(outcome.reason or '')}")
        case Result.FAILED:
            raise Failed(f"{shown(outcome.name)} could not be imported: {shown(outcome.reason or '')}")


def read_latency(text: str) -> float:
    """Seconds between two looks. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise ValueError("a number of seconds from 0.1 to 86400")
    return seconds


COMMANDS = (
    Command(
        "recordings:watch",
        watch,
        "Import recordings in a process of its own.\n\n"
        "It stands by while another instance, such as the service itself, imports. SIGTERM ends it, once the imports "
        "under way are done.",
        "recordings:watch",
        (
            Argument("force_polling", "Without effect, as in Scalelite.", False, skippable=True, public=True),
            Argument(
                "latency",
                "Seconds between two looks into the spool; RECORDING_IMPORT_POLL_INTERVAL if absent. What comes new is "
                "noticed within a second.",
                False,
                read_latency,
                public=True,
            ),
        ),
    ),
    Command(
        "recordings:failed",
        list_failed,
        "List the tars that could not be imported, and why.\n\nThey are tried again by themselves.",
        "recordings:failed --json",
        flags=(JSON,),
        changes=False,
    ),
    Command(
        "recordings:retry",
        retry,
        "Have failed imports tried again at once.",
        "recordings:retry 0f3c9d-1609459200123",
        (
            Argument(
                "names", "The tars, as `recordings:failed` shows them; as words or joined by `:`.", False, many=True,
                public=True,
            ),
        ),
        (ALL,),
    ),
    Command(
        "recordings:import",
        import_tar,
        "Import one tar at once.\n\n"
        "It takes the place of what there is of that recording, as every import does. A file outside the spool stays.",
        "recordings:import /tmp/0f3c9d-1609459200123.tar",
        (Argument("tar", "A tar file, or its name in the spool or among the failed ones.", public=True),),
        (FORCE,),
        destructive=True,
    ),
)  # fmt: skip
