"""When the spool is looked into, by whom, how much at once, and what a stop and trouble do to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from scalelite.recordings.import_messages import Job, Step
from scalelite.recordings.import_process import ImportDied, ImportTrouble
from scalelite.recordings.import_service import IDLE, ImportService
from scalelite.recordings.importer import Outcome, Result
from scalelite.recordings.spool import Spool
from scalelite.store.errors import StoreUnavailable
from tests.recordings.tars import recording, write_tar

INTERVAL = 60.0


class FakeElection:
    leading = True
    stopped = False

    def startService(self) -> None:
        pass

    def stopService(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)


class FakeProcess:
    """Takes jobs, and does them when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.result: Deferred[Outcome | None] | None = None
        self.on_step: Callable[[Step], object] = lambda step: None
        self.closed = self.killed = False
        self._ended: list[Deferred[None]] = []

    async def run(self, job: Job, on_step: Callable[[Step], object]) -> Outcome | None:
        self.jobs.append(job)
        self.on_step = on_step
        if job.path is None:
            return None
        self.result = Deferred()
        return await self.result

    @property
    def tar(self) -> Path:
        """The tar that it is at."""
        assert self.result is not None
        path = self.jobs[-1].path
        assert path is not None
        return path

    def answer(self, result: Any = Result.IMPORTED) -> None:
        waiting, self.result = self.result, None
        assert waiting is not None
        path = self.jobs[-1].path
        assert path is not None
        if isinstance(result, Exception):
            waiting.errback(result)
            return
        path.unlink()
        waiting.callback(Outcome(result, path.stem, path.stem, ("video",), published=True, size=7, reason="so"))
        self._end_if_closed()

    def close(self) -> None:
        self.closed = True
        self._end_if_closed()

    def kill(self) -> None:
        self.killed = True
        if self.result is not None:
            self.answer(ImportDied("the import process ended: by SIGKILL"))
        self._end_if_closed()

    def ended(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._ended.append(waiting)
        self._end_if_closed()
        return waiting

    def _end_if_closed(self) -> None:
        if self.closed and self.result is None:
            ended, self._ended = self._ended, []
            for waiting in ended:
                waiting.callback(None)


class World:
    def __init__(self, folder: Path, count: int = 2) -> None:
        self.clock = Clock()
        self.spool = Spool(folder / "spool", lambda: 4_000_000_000.0 + self.clock.seconds())
        self.processes = [FakeProcess() for _ in range(count)]
        self.election = FakeElection()
        self.database: Exception | None = None
        self.service = ImportService(
            self.clock,
            maybeDeferred,
            self.spool,
            self.processes,  # type: ignore[arg-type]
            self.ready,
            self.election,
            interval=INTERVAL,
            drain_timeout=30.0,
        )

    async def ready(self) -> None:
        if self.database is not None:
            raise self.database

    def put(self, *names: str) -> None:
        for name in names:
            write_tar(self.spool.folder, recording(), name)

    @property
    def working(self) -> list[str]:
        """The tars that are being imported."""
        return sorted(process.tar.stem for process in self.processes if process.result is not None)

    def finish(self) -> None:
        """Let all that waits be imported."""
        while busy := [process for process in self.processes if process.result is not None]:
            busy[0].answer()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def told() -> Any:
    """What was logged, formatted."""
    from twisted.logger import formatEvent

    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("scalelite.recordings"):
            lines.append(f"{event['log_level'].name}: {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def started(world: World) -> World:
    world.service.startService()
    world.service.elected()
    return world


def test_an_elected_instance_puts_things_in_order_and_imports_all_in_order_several_at_once(world: World) -> None:
    world.put("c", "a", "b")
    started(world)
    assert world.processes[0].jobs[0] == Job(None)
    assert world.working == ["a", "b"]
    world.processes[1].answer()
    assert world.working == ["a", "c"]
    world.finish()
    assert world.spool.waiting() == []


def test_an_elected_instance_goes_on_where_another_was_killed(world: World) -> None:
    world.spool.prepare()
    write_tar(world.spool.folder / ".importing", recording(), "a")
    started(world)
    assert world.working == ["a"]


def test_nothing_is_started_while_there_is_nothing_to_do(world: World) -> None:
    started(world)
    world.clock.pump([1.0] * 200)
    assert [process.jobs for process in world.processes] == [[], []]


def test_an_instance_that_is_not_elected_leaves_the_spool_alone(world: World) -> None:
    world.election.leading = False
    world.put("a")
    world.service.startService()
    world.clock.pump([1.0] * 200)
    assert [process.jobs for process in world.processes] == [[], []]


def test_what_comes_is_noticed_within_a_second(world: World) -> None:
    started(world)
    assert world.working == []
    world.put("a")
    world.clock.advance(1)
    assert world.working == ["a"]


def test_what_comes_during_a_pass_is_noticed_after_it(world: World) -> None:
    started(world).put("a")
    world.clock.advance(1)
    world.put("b")
    world.clock.advance(1)
    assert world.working == ["a"]
    world.finish()
    world.clock.advance(1)
    assert world.working == ["b"]


def test_a_failed_tar_is_retried_when_its_time_has_come(world: World) -> None:
    started(world).put("a")
    claim = world.spool.claim(world.spool.folder / "a.tar")
    assert claim is not None
    claim.fail("no good")
    claim.release()
    world.clock.advance(1)
    assert world.working == []
    world.clock.advance(INTERVAL)
    world.clock.advance(1)
    assert world.working == ["a"]


def test_trouble_that_is_not_the_tars_ends_the_pass_until_the_next_one(world: World, told: list[str]) -> None:
    world.put("a", "b", "c")
    started(world)
    world.processes[0].answer(ImportTrouble("the database was lost"))
    world.processes[1].answer()
    assert world.working == []
    assert "error: a.tar could not be imported for now, and stays where it is: the database was lost" in told
    world.clock.advance(INTERVAL)
    assert world.working == ["a", "c"]


def test_tars_that_meet_trouble_again_and_again_do_not_keep_others_waiting(world: World) -> None:
    world.put("a", "b", "c")
    started(world)
    for process in world.processes:
        process.answer(ImportTrouble("it is too long for an index"))
    world.clock.advance(INTERVAL)
    assert world.working == ["a", "c"]
    for process in sorted(world.processes, key=lambda process: process.tar.stem):
        process.answer(ImportTrouble("it is too long for an index") if process.tar.stem == "a" else Result.IMPORTED)
    world.put("d")
    world.clock.advance(INTERVAL)
    assert world.working == ["a", "d"]


def test_without_a_database_no_tar_is_touched(world: World, told: list[str]) -> None:
    world.database = StoreUnavailable("it is down")
    world.put("a")
    started(world)
    world.clock.pump([1.0] * 30)
    assert [process.jobs for process in world.processes] == [[], []]
    assert [line for line in told if "it is down" in line] == ["error: recordings are not imported for now: it is down"]
    world.database = None
    world.clock.advance(INTERVAL)
    assert world.working == ["a"]


def test_a_spool_that_cannot_be_read_is_told(world: World, told: list[str]) -> None:
    world.spool.folder.write_text("a file")
    started(world)
    assert "error: the spool folder cannot be used" in told[0]


def test_a_tar_over_which_the_process_dies_is_kept_with_that_reason(world: World, told: list[str]) -> None:
    world.put("a")
    started(world)
    world.processes[0].answer(ImportDied("the import process ended: by SIGSEGV"))
    (failed,) = world.spool.failures.all()
    assert (failed.name, failed.reason) == ("a", "the import process ended: by SIGSEGV")
    assert "could not import a.tar: the import process ended: by SIGSEGV" in told[-1]


def test_an_instance_that_loses_the_lease_only_finishes_what_it_is_at(world: World) -> None:
    world.put("a", "b", "c")
    started(world)
    world.election.leading = False
    world.finish()
    world.clock.pump([1.0] * 100)
    assert [path.name for path in world.spool.waiting()] == ["c.tar"]


@pytest_twisted.ensureDeferred
async def test_a_stop_lets_imports_under_way_finish_and_begins_no_others(world: World) -> None:
    world.put("a", "b", "c")
    started(world)
    stopped = world.service.stopService()
    assert (world.election.stopped, world.working) == (False, ["a", "b"])
    world.finish()
    await stopped
    assert world.election.stopped
    assert [path.name for path in world.spool.waiting()] == ["c.tar"]
    assert not world.clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_stop_breaks_off_what_takes_too_long_and_blames_no_tar(world: World) -> None:
    world.put("a")
    started(world)
    stopped = world.service.stopService()
    world.clock.advance(30)
    await stopped
    assert world.processes[0].killed
    assert [path.name for path in world.spool.waiting()] == ["a.tar"]
    assert world.spool.failures.all() == []


@pytest_twisted.ensureDeferred
async def test_all_may_be_imported_at_once_by_command(world: World) -> None:
    world.election.leading = False
    world.put("a", "b")
    done = Deferred.fromCoroutine(world.service.import_all_now())
    world.processes[0].answer(Result.DELETED)
    world.processes[1].answer(Result.IMPORTED)
    assert await done == {Result.DELETED: 1, Result.IMPORTED: 1}
    for call in world.clock.getDelayedCalls():
        call.cancel()


def test_long_imports_are_told_of_every_ten_seconds(world: World, told: list[str]) -> None:
    world.put("a")
    started(world)
    for second in range(25):
        world.processes[0].on_step(Step("unpacking", second, 100))
        world.clock.advance(1)
    assert [line for line in told if "importing" in line] == [
        "info: importing a.tar for 10 s: unpacking, 10 of 100",
        "info: importing a.tar for 20 s: unpacking, 20 of 100",
    ]


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (Result.IMPORTED, "info: imported a: video, 7 bytes in 2.00 s, published"),
        (Result.REPEATED, "info: a.tar was imported before the program ended, and is removed now"),
        (Result.DELETED, "info: a was deleted and stays so; a.tar is removed"),
        (Result.TAKEN, "info: a.tar is in other hands"),
        (Result.UNFINISHED, "info: a.tar may not be all there yet (so), and is left for later"),
        (Result.FAILED, "error: could not import a.tar: so; it is kept in the folder `failed` and tried again"),
    ],
)
def test_each_tar_has_its_line_in_the_log(world: World, told: list[str], result, line) -> None:
    world.put("a")
    started(world)
    world.clock.advance(2)
    world.processes[0].answer(result)
    assert line in told


def test_processes_without_work_are_let_go(world: World) -> None:
    world.put("a")
    started(world)
    world.processes[0].answer()
    world.clock.advance(IDLE - 1)
    assert not world.processes[0].closed
    world.put("b")
    world.clock.advance(1)
    assert world.working == ["b"]
    assert not world.processes[0].closed
    world.processes[0].answer()
    world.clock.advance(IDLE)
    assert world.processes[0].closed
