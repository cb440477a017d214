"""Callback URLs while the database is up, down, or gone for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.task import Clock

from scalelite.cluster.callbacks import MAX_MEETING_ID
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings.callback_records import MAX_URL, CallbackCopier, CallbackRecords
from scalelite.recordings.database import Database, DatabaseUnavailable
from scalelite.recordings.hurry import REST, HurriedDatabase
from scalelite.store.callbacks import CallbackStore
from scalelite.store.connection import connect_memory
from scalelite.store.errors import StoreError
from tests.recordings.databases import open_database
from tests.recordings.test_outbox_service import House

URLS = CallbackURLs(recording_ready="http://fe/r", analytics="http://fe/a")


@pytest_twisted.async_yield_fixture
async def house(database: Database) -> AsyncIterator[House]:
    redis = connect_memory(reactor, timeout=10)
    redis.startService()
    yield House(database, redis)
    await redis.stopService()


def copier(house: House) -> CallbackCopier:
    return CallbackCopier(house.switched, house.callbacks, alone=True)


@pytest_twisted.ensureDeferred
async def test_urls_go_into_sql_and_not_into_redis(house: House) -> None:
    records = house.records()
    await records.merge("m1", "", URLS)
    assert await records.find("m1", "") == URLS
    assert await house.callbacks.find("m1", "") == CallbackURLs()
    assert await records.find("m2", "") == CallbackURLs()


@pytest_twisted.ensureDeferred
async def test_while_sql_is_down_urls_are_kept_in_redis_and_copied_later(house: House) -> None:
    records = house.records()
    house.switched.off = True
    await records.merge("m1", "", URLS)
    assert await records.find("m1", "") == URLS
    with pytest.raises(DatabaseUnavailable):
        await records.find("m2", "")
    with pytest.raises(DatabaseUnavailable):
        await copier(house).copy()
    house.switched.off = False
    assert await copier(house).copy() == 1
    assert await copier(house).copy() == 0
    assert await house.callbacks.find("m1", "") == CallbackURLs()
    house.clock.advance(REST)
    assert await records.find("m1", "") == URLS


@pytest_twisted.ensureDeferred
async def test_a_failed_database_is_not_asked_again_at_once(house: House) -> None:
    records = house.records()
    house.switched.off = True
    await records.merge("m1", "", URLS)
    house.switched.off = False
    await records.merge("m2", "", URLS)
    assert (await house.callbacks.look_up("m2", "")).unsaved_at
    house.clock.advance(REST)
    await records.merge("m3", "", URLS)
    assert not (await house.callbacks.look_up("m3", "")).unsaved_at


@pytest_twisted.ensureDeferred
async def test_what_is_given_while_sql_is_down_beats_what_sql_had(house: House) -> None:
    records = house.records()
    await records.merge("m1", "", URLS)
    house.clock.advance(10)
    house.switched.off = True
    await records.merge("m1", "", CallbackURLs(analytics="http://fe/new"))
    house.switched.off = False
    house.clock.advance(REST)
    newest = CallbackURLs("http://fe/r", "http://fe/new")
    assert await records.find("m1", "") == newest
    await copier(house).copy()
    assert await records.find("m1", "") == newest


@pytest_twisted.ensureDeferred
async def test_what_is_given_to_sql_afterwards_is_not_undone_by_the_copy(house: House) -> None:
    records = house.records()
    house.switched.off = True
    await records.merge("m1", "", CallbackURLs("http://fe/old", "http://fe/a"))
    house.switched.off = False
    house.clock.advance(REST)
    await records.merge("m1", "", CallbackURLs(recording_ready="http://fe/new"))
    await copier(house).copy()
    assert await records.find("m1", "") == CallbackURLs("http://fe/new", "http://fe/a")


@pytest_twisted.ensureDeferred
async def test_urls_from_before_there_was_a_database_are_found(house: House) -> None:
    await house.callbacks.merge("m1", "", URLS)
    records = house.records()
    assert await records.find("m1", "") == URLS
    await records.merge("m1", "", CallbackURLs(analytics="http://fe/new"))
    assert await records.find("m1", "") == CallbackURLs("http://fe/r", "http://fe/new")
    assert await copier(house).copy() == 0


@pytest_twisted.ensureDeferred
async def test_tenants_never_get_each_others(house: House) -> None:
    records = house.records(alone=False)
    await records.merge("m1", "t1", URLS)
    house.switched.off = True
    await records.merge("m2", "t1", URLS)
    house.switched.off = False
    house.clock.advance(REST)
    for meeting in ("m1", "m2"):
        assert await records.find(meeting, "t1") == URLS
        assert await records.find(meeting, "t2") == await records.find(meeting, "") == CallbackURLs()


@pytest_twisted.ensureDeferred
async def test_without_tenants_a_tenants_recording_is_everybodys(house: House) -> None:
    records = house.records(alone=True)
    await records.merge("m1", "", URLS)
    assert await records.find("m1", "tenant of old times") == URLS


@pytest.mark.parametrize(
    ("meeting", "urls"),
    [
        ("m" * (MAX_MEETING_ID + 1), URLS),
        ("m1", CallbackURLs()),
        ("m1", CallbackURLs(recording_ready="http://" + "x" * MAX_URL)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_no_server_would_take_is_not_kept(house: House, meeting: str, urls: CallbackURLs) -> None:
    records = house.records()
    await records.merge(meeting, "", urls)
    assert await records.find(meeting, "") == CallbackURLs()


@pytest_twisted.ensureDeferred
async def test_odd_texts_are_kept(house: House) -> None:
    records = house.records()
    odd = CallbackURLs("http://fe/'; DROP TABLE balancer_callbacks; --", "http://fe/💡%_\\\"'")
    await records.merge("a'b\"c%_💡", "", odd)
    assert await records.find("a'b\"c%_💡", "") == odd


@pytest_twisted.ensureDeferred
async def test_a_database_that_hangs_costs_a_create_one_second() -> None:
    clock = Clock()

    class Hanging:
        asked = 0

        async def run(self, work: object, *, deadline: float) -> None:
            Hanging.asked += 1
            await defer.Deferred().addTimeout(deadline, clock, onTimeoutCancel=self._late)

        def _late(self, *_: object) -> None:
            raise DatabaseUnavailable("the database did not answer in time")

    redis = connect_memory(reactor, timeout=10)
    redis.startService()
    kept = CallbackStore(redis, "x:")
    records = CallbackRecords(HurriedDatabase(Hanging(), clock), kept, clock.seconds, alone=True)  # type: ignore[arg-type]
    merging = defer.Deferred.fromCoroutine(records.merge("m1", "", URLS))
    clock.advance(1)
    await merging
    await records.merge("m2", "", URLS)
    assert Hanging.asked == 1
    assert await kept.find("m1", "") == await kept.find("m2", "") == URLS
    await redis.stopService()


@pytest_twisted.ensureDeferred
async def test_a_database_that_can_not_be_opened_is_a_database_that_is_down(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite3")
    database.startService()
    redis = connect_memory(reactor, timeout=10)
    redis.startService()
    kept = CallbackStore(redis, "x:")
    records = CallbackRecords(HurriedDatabase(database, Clock()), kept, lambda: 5.0, alone=True)
    await records.merge("m1", "", URLS)
    assert await kept.find("m1", "") == URLS
    await redis.stopService()
    with pytest.raises(StoreError):
        await records.merge("m1", "", URLS)
    await database.stopService()
