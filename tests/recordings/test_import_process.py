"""Import processes as they are: what they do, how they die, and two of them over one spool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import func, select
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from scalelite.recordings.import_messages import (
    Done,
    Job,
    NoMessage,
    Ready,
    Step,
    Trouble,
    Warned,
    decode_event,
    decode_job,
    encode_event,
    encode_job,
)
from scalelite.recordings.import_process import START, STUCK, ImportDied, ImportProcess, ImportTrouble
from scalelite.recordings.importer import Outcome, Result
from tests.recordings.importing import Site
from tests.recordings.killing import carried_out
from tests.recordings.tars import RECORD, metadata_xml, recording

reactor: Any = _reactor
PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "scalelite.import_worker"]


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Any:
    made = Site(tmp_path / "bigbluebutton", database_url)
    yield made
    made.engine.dispose()


def environment(site: Site, **settings: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)]),
        "LOADBALANCER_SECRET": "secret",
        "DATABASE_URL": site.url,
        "RECORDING_SPOOL_DIR": str(site.spool.folder),
        "RECORDING_WORK_DIR": str(site.root / "work"),
        "RECORDING_PUBLISH_DIR": str(site.root / "published"),
        "RECORDING_UNPUBLISH_DIR": str(site.root / "unpublished"),
        **settings,
    }


@pytest.fixture
def processes() -> Any:
    """Makes import processes, and sees to it that none outlives the test."""
    made: list[ImportProcess] = []

    def make(site: Site, command: list[str] | None = None, clock: Any = reactor, **settings: str) -> ImportProcess:
        process = ImportProcess(clock, command or COMMAND, environment(site, **settings), site.root)
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()
        pytest_twisted.blockon(process.ended())


Processes = Callable[..., ImportProcess]


def nothing(step: Step) -> None:
    """Progress is of no interest."""


@pytest_twisted.ensureDeferred
async def test_a_process_imports_one_tar_after_the_other(site: Site, processes: Processes) -> None:
    process, steps = processes(site), []
    assert await process.run(Job(None), nothing) is None
    first = process.pid
    for name in ("rec-1", "rec-2"):
        path = site.put(recording({"video": metadata_xml("video", name)}, name), name)
        outcome = await process.run(Job(path), steps.append)
        assert outcome == Outcome(
            Result.IMPORTED, name, name, ("video",), published=True, size=outcome.size if outcome else 0
        )
    assert process.pid == first
    assert {step.name for step in steps} == {"unpacking", "storing video", "writing rows"}
    assert site.left() == []


@pytest_twisted.ensureDeferred
async def test_a_process_ends_when_it_is_let_go_and_starts_again_when_needed(site: Site, processes: Processes) -> None:
    process = processes(site)
    await process.run(Job(None), nothing)
    first = process.pid
    process.close()
    await process.run(Job(None), nothing)
    assert process.pid not in (None, first)
    process.close()
    await process.ended()
    assert process.pid is None


@pytest_twisted.ensureDeferred
async def test_rules_and_force_reach_the_importer(site: Site, processes: Processes) -> None:
    process = processes(site, RECORDING_IMPORT_UNPUBLISHED="true", PROTECTED_RECORDINGS_ENABLED="true")
    outcome = await process.run(Job(site.put(recording())), nothing)
    assert outcome is not None
    assert outcome.published is False
    assert site.recording["protected"] is True
    small = processes(site, SCALELITE_IMPORT_MAX_SIZE="1024", SCALELITE_IMPORT_MAX_FILES="2")
    outcome = await small.run(Job(site.put(recording())), nothing)
    assert outcome is not None
    assert (outcome.result, outcome.reason) == (
        Result.FAILED,
        "it has more than 2 files (SCALELITE_IMPORT_MAX_FILES)",
    )


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_killed_leaves_a_tar_that_can_be_imported(site: Site, processes: Processes) -> None:
    process = processes(site)
    path = site.put([*recording(), (f"presentation/{RECORD}/big", bytes(50_000_000))])

    def kill(step: Step) -> None:
        if step.name == "unpacking" and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(ImportDied, match="by SIGKILL"):
        await process.run(Job(path), kill)
    assert path.exists()
    outcome = await process.run(Job(path), nothing)
    assert outcome is not None
    assert outcome.result is Result.IMPORTED
    assert site.left() == []


@pytest_twisted.ensureDeferred
async def test_signals_that_are_meant_for_the_program_do_not_break_an_import_off(
    site: Site, processes: Processes
) -> None:
    process = processes(site)

    def terminate(step: Step) -> None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)

    outcome = await process.run(Job(site.put(recording())), terminate)
    assert outcome is not None
    assert outcome.result is Result.IMPORTED


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_away_is_trouble_and_no_fault_of_the_tar(site: Site, processes: Processes) -> None:
    process = processes(site, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", DB_CONNECTION_RETRY_COUNT="0")
    path = site.put(recording())
    with pytest.raises(ImportTrouble, match="onnection"):
        await process.run(Job(path), nothing)
    assert path.exists()


@pytest_twisted.ensureDeferred
async def test_settings_that_cannot_be_used_are_trouble(site: Site, processes: Processes) -> None:
    process = processes(site, SCALELITE_IMPORT_MAX_FILES="many")
    with pytest.raises(ImportTrouble, match="ended: with status 2"):
        await process.run(Job(site.put(recording())), nothing)


@pytest.mark.parametrize(
    ("script", "kind", "why"),
    [
        ("raise SystemExit(3)", ImportTrouble, "with status 3"),
        ("print('hello', flush=True); import time; time.sleep(60)", ImportTrouble, "an event that can't be read"),
        ("print('x' * 100000, flush=True); import time; time.sleep(60)", ImportTrouble, "an event that can't be read"),
        (f"print({encode_event(Ready()).decode()!r}, end='', flush=True); raise SystemExit(3)", ImportDied, "status 3"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_fails_is_told_apart_from_a_tar_that_does(
    site: Site, processes: Processes, script, kind, why
) -> None:
    with pytest.raises(kind, match=why):
        await processes(site, [sys.executable, "-c", script]).run(Job(None), nothing)


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there_is_trouble(site: Site, processes: Processes) -> None:
    with pytest.raises(ImportTrouble):
        await processes(site, ["/nowhere/at/all"]).run(Job(None), nothing)


class Slow(Clock):
    """A clock of its own; processes are started by the real reactor."""

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        return reactor.spawnProcess(*args, **kwargs)


@pytest.mark.parametrize(
    ("script", "kind", "patience"),
    [
        ("import time; time.sleep(60)", ImportTrouble, START),
        (
            f"print({encode_event(Ready()).decode()!r}, end='', flush=True)\n"
            f"while True: print({encode_event(Step('unpacking', 1, 2)).decode()!r}, end='', flush=True); "
            "import time; time.sleep(0.01)",
            ImportDied,
            STUCK,
        ),
    ],
    ids=["never ready", "no progress"],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_is_stuck_is_ended(site: Site, processes: Processes, script, kind, patience) -> None:
    clock, stepped = Slow(), Deferred()
    process = processes(site, [sys.executable, "-c", script], clock)
    result = Deferred.fromCoroutine(process.run(Job(None), lambda step: stepped.called or stepped.callback(step)))
    if kind is ImportDied:
        await stepped
    clock.advance(patience)
    with pytest.raises(kind, match="it made no progress for"):
        await result
    await deferLater(reactor, 0)


@pytest.mark.parametrize(
    "event",
    [
        Ready(),
        Step("unpacking", 5, 10),
        Warned("über"),
        Trouble("no"),
        Done(None),
        Done(Outcome(Result.IMPORTED, "a\udcff", "a", ("video", "notes"), published=True, size=5)),
        Done(Outcome(Result.FAILED, "a", reason="so", retry_at=1.5)),
    ],
)
def test_events_come_as_they_were_sent(event: Any) -> None:
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


@pytest.mark.parametrize("job", [Job(None), Job(Path("/spool/ü \udcff.tar"), force=True)])
def test_jobs_come_as_they_were_sent(job: Job) -> None:
    assert decode_job(encode_job(job)) == job


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"event": "Step"}', b'{"event": "Other"}', b'{"event": "Done"}'])
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(NoMessage):
        decode_event(line)


def test_two_programs_over_one_spool_import_each_tar_once(site: Site) -> None:
    names = [f"rec-{number}" for number in range(40)]
    for name in names:
        site.put(recording({"video": metadata_xml("video", name)}, name), name)
    carried_out.metadata.create_all(site.engine)
    site.engine.dispose()
    command = [sys.executable, "-m", "tests.recordings.contending", site.url, str(site.root)]
    running = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=110) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert sum(int(out) for out, _ in said) == len(names)
    with site.engine.connect() as connection:
        counts = connection.execute(select(carried_out.c.record, func.count()).group_by(carried_out.c.record)).all()
    assert sorted((record, count) for record, count in counts) == sorted((name, 1) for name in names)
    assert site.left() == []
