"""Looking up what is played: over both databases, kept for seconds, shared, and going on when the database fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import text
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scalelite.recordings.database import Database, DatabaseError, DatabaseUnavailable
from scalelite.recordings.playback_lookup import FOUND, MAX_FLIGHTS, MISSING, PATIENCE, STALE, Playable, PlaybackLookup
from scalelite.store.errors import StoreUnavailable
from tests.recordings.playable import add_recording, change_recording

R = "0f3c9d-1609459200123"


class CountingDatabase:
    """Answers when told: by a recording, None or an error. `asked` counts the look-ups."""

    def __init__(self) -> None:
        self.asked = 0
        self.waiting: list[Deferred[Any]] = []

    async def run(self, work: Callable[[Any], Any]) -> Any:
        self.asked += 1
        answer: Deferred[Any] = Deferred()
        self.waiting.append(answer)
        return work(await answer)

    def answer(self, *rows: tuple[str, str]) -> None:
        """Let the oldest look-up find a published recording with these formats and URLs; nothing without."""
        self.waiting.pop(0).callback(_Rows(rows))

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0).errback(error)


class _Row:
    published, protected, value = True, False, None

    def __init__(self, pair: tuple[str, str]) -> None:
        self.format, self.url = pair


class _Rows:
    def __init__(self, rows: tuple[tuple[str, str], ...]) -> None:
        self._rows = [_Row(row) for row in rows]

    def execute(self, statement: object) -> _Rows:
        return self

    def all(self) -> list[_Row]:
        return self._rows


class Rig:
    """A look-up over a database that answers when told, on a clock that stands still."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.database = CountingDatabase()
        database: Any = self.database
        self.lookup = PlaybackLookup(database, self.clock, deadline=10, **options)

    def find(self, record_id: str = R) -> Outcome:
        return Outcome(Deferred.fromCoroutine(self.lookup.find(record_id, "video", None)))

    def known(self, record_id: str = R) -> None:
        """Have the recording looked up and found."""
        outcome = self.find(record_id)
        self.database.answer(("video", "/v"))
        assert outcome.result == Playable("/v", False)


class Outcome:
    """What a look-up came to, if it did."""

    def __init__(self, deferred: Deferred[Playable | None]) -> None:
        self.result: Any = "waiting"
        deferred.addCallbacks(self._set, lambda failure: self._set(failure.value))

    def _set(self, result: Any) -> None:
        self.result = result


@pytest_twisted.ensureDeferred
async def test_published_format_is_found_with_its_address(database: Database) -> None:
    lookup = PlaybackLookup(database, Clock(), deadline=10)
    formats = {"video": "/playback/video/r?a=b", "notes": None}
    await database.run(lambda connection: add_recording(connection, R, formats, protected=True, tenant_id="t1"))
    assert await lookup.find(R, "video", None) == Playable("/playback/video/r?a=b", True)
    assert await lookup.find(R, "notes", "t1") == Playable(None, True)
    assert await lookup.find(R, "video", "t2") is None
    assert await lookup.find(R, "presentation", None) is None
    assert await lookup.find(R.upper(), "video", None) is None


@pytest.mark.parametrize("record_id", ["%", "_", "0f3c9d-%", "' OR 1=1 --", "", R[:-1], R + " "])
@pytest_twisted.ensureDeferred
async def test_ids_are_taken_as_they_are(database: Database, record_id: str) -> None:
    await database.run(lambda connection: add_recording(connection, R, {"video": "/v"}))
    assert await PlaybackLookup(database, Clock(), deadline=10).find(record_id, "video", None) is None


@pytest_twisted.ensureDeferred
async def test_recording_of_no_tenant_is_no_tenants(database: Database) -> None:
    await database.run(lambda connection: add_recording(connection, R, {"video": "/v"}))
    lookup = PlaybackLookup(database, Clock(), deadline=10)
    assert await lookup.find(R, "video", "t1") is None
    assert await lookup.find(R, "video", "") is None
    assert await lookup.find(R, "video", None) == Playable("/v", False)


@pytest_twisted.ensureDeferred
async def test_unpublished_recording_is_not_found(database: Database) -> None:
    await database.run(lambda connection: add_recording(connection, R, {"video": "/v"}, published=False))
    assert await PlaybackLookup(database, Clock(), deadline=10).find(R, "video", None) is None


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_flags_that_are_null_are_false(postgres_url: str) -> None:
    from tests.recordings.databases import open_database

    database = open_database(postgres_url)
    database.startService()
    try:
        for column in ("published", "protected"):
            alter = text(f"ALTER TABLE recordings ALTER {column} DROP NOT NULL")
            await database.run(lambda connection, alter=alter: connection.execute(alter) and None)
        await database.run(lambda connection: add_recording(connection, R, {"video": "/v"}))
        await database.run(lambda connection: change_recording(connection, R, protected=None))
        lookup = PlaybackLookup(database, Clock(), deadline=10)
        assert await lookup.find(R, "video", None) == Playable("/v", False)
        await database.run(lambda connection: change_recording(connection, R, published=None))
        lookup.invalidate(R)
        assert await lookup.find(R, "video", None) is None
    finally:
        await database.stopService()


def test_found_recording_is_kept_for_some_seconds() -> None:
    rig = Rig()
    rig.known()
    rig.clock.advance(FOUND - 0.1)
    assert rig.find().result == Playable("/v", False)
    assert rig.database.asked == 1
    rig.clock.advance(0.1)
    assert rig.find().result == "waiting"
    assert rig.database.asked == 2


def test_recording_that_is_not_there_is_looked_for_again_soon() -> None:
    rig = Rig()
    outcome = rig.find()
    rig.database.answer()
    assert outcome.result is None
    rig.clock.advance(MISSING - 0.1)
    assert rig.find().result is None
    rig.clock.advance(0.1)
    outcome = rig.find()
    rig.database.answer(("video", "/v"))
    assert outcome.result == Playable("/v", False)


def test_equal_look_ups_share_one_query() -> None:
    rig = Rig()
    outcomes = [rig.find() for _ in range(50)]
    other = rig.find("other")
    assert rig.database.asked == 2
    rig.database.answer(("video", "/v"))
    assert {outcome.result for outcome in outcomes} == {Playable("/v", False)}
    assert other.result == "waiting"


def test_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    rig = Rig()
    outcomes = [rig.find() for _ in range(3)]
    rig.database.fail(DatabaseError("no such table"))
    assert [type(outcome.result) for outcome in outcomes] == [DatabaseError] * 3
    rig.known()


def test_changed_recording_is_read_anew_at_once() -> None:
    rig = Rig()
    rig.known()
    rig.lookup.invalidate(R)
    outcome = rig.find()
    rig.database.answer()
    assert outcome.result is None


def test_what_was_being_read_during_a_change_is_not_kept() -> None:
    rig = Rig()
    before = rig.find()
    rig.lookup.invalidate(R)
    after = rig.find()
    assert rig.database.asked == 2
    rig.database.answer(("video", "/v"))
    assert (before.result, after.result) == (Playable("/v", False), "waiting")
    rig.database.answer()
    assert after.result is None
    assert rig.find().result is None


def test_only_the_last_recordings_are_kept() -> None:
    rig = Rig(size=2)
    for record_id in ("a", "b"):
        rig.known(record_id)
    assert rig.find("a").result == Playable("/v", False)
    rig.known("c")
    assert rig.find("a").result == Playable("/v", False)
    assert rig.find("b").result == "waiting"


@pytest.mark.parametrize("error", [DatabaseUnavailable("down"), DatabaseError("broken")])
def test_known_recording_is_played_on_while_the_database_fails(error: Exception) -> None:
    rig = Rig()
    rig.known()
    rig.clock.advance(FOUND)
    outcome = rig.find()
    rig.database.fail(error)
    assert outcome.result == Playable("/v", False)
    # The database is not asked by each request meanwhile.
    assert rig.find().result == Playable("/v", False)
    assert rig.database.asked == 2


def test_known_recording_does_not_wait_long_for_a_database_that_hangs() -> None:
    rig = Rig()
    rig.known()
    rig.clock.advance(FOUND)
    outcome = rig.find()
    rig.clock.advance(PATIENCE)
    assert outcome.result == Playable("/v", False)
    rig.database.answer()
    assert rig.find().result is None


def test_nothing_stands_in_for_long() -> None:
    rig = Rig()
    rig.known()
    rig.clock.advance(STALE)
    outcome = rig.find()
    rig.database.fail(DatabaseUnavailable("down"))
    assert isinstance(outcome.result, DatabaseUnavailable)


def test_changed_recording_is_not_played_by_what_was_known_of_it() -> None:
    rig = Rig()
    rig.known()
    rig.clock.advance(FOUND)
    outcome = rig.find()
    rig.lookup.invalidate(R)
    rig.database.fail(DatabaseUnavailable("down"))
    assert isinstance(outcome.result, DatabaseUnavailable)


def test_unknown_recording_waits_for_the_deadline_only() -> None:
    rig = Rig()
    outcome = rig.find()
    rig.clock.advance(10)
    assert isinstance(outcome.result, StoreUnavailable)


def test_look_ups_do_not_pile_up() -> None:
    rig = Rig()
    outcomes = [rig.find(f"r-{i}") for i in range(MAX_FLIGHTS + 1)]
    assert rig.database.asked == MAX_FLIGHTS
    assert isinstance(outcomes[-1].result, StoreUnavailable)
    assert outcomes[0].result == "waiting"
