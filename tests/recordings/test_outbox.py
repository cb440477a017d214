"""The rows of the outbox, over both engines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs
import pytest
import pytest_twisted
from sqlalchemy import Connection, func, select

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings import callback_rows, outbox
from scalelite.recordings.database import Database
from scalelite.recordings.outbox import Claimed
from scalelite.recordings.tables import outbox as table

NOW = datetime(2026, 1, 2, 3, 4, 5)
SECOND = timedelta(seconds=1)
READY = Notice(Kind.RECORDING_READY, "", "m1", "https://fe.example/ready", record_id="r1")
REPORT = Notice(Kind.ANALYTICS, "t1", "m2", "http://other.example:8080/a", '{"n":1}')


async def put(database: Database, *notices: Notice, at: datetime = NOW) -> None:
    for notice in notices:
        await database.run(partial(outbox.enqueue, notice=notice, now=at))


async def take(database: Database, at: datetime = NOW, **options: Any) -> list[Claimed]:
    settings = {"limit": 50, "room": {}, "default_room": 50, **options}
    return await database.run(partial(outbox.claim, now=at, **settings))


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest_twisted.ensureDeferred
async def test_what_is_put_in_is_claimed_as_it_was(database: Database) -> None:
    await put(database, READY, REPORT)
    claimed = await take(database)
    assert [one.notice for one in claimed] == [READY, REPORT]
    assert [one.target for one in claimed] == ["fe.example:443", "other.example:8080"]
    assert [one.attempts for one in claimed] == [1, 1]


@pytest_twisted.ensureDeferred
async def test_the_same_event_waits_once_only(database: Database) -> None:
    await put(database, READY, READY, attrs.evolve(READY, url="https://elsewhere.example/"))
    await put(database, attrs.evolve(READY, record_id="r2"), attrs.evolve(READY, tenant_id="t1"))
    assert await database.run(count) == 3
    first = (await take(database))[0]
    assert first.notice.url == "https://elsewhere.example/"


@pytest_twisted.ensureDeferred
async def test_a_claimed_notice_is_left_alone_until_the_claim_runs_out(database: Database) -> None:
    await put(database, READY)
    assert len(await take(database)) == 1
    assert await take(database, NOW + outbox.CLAIM - SECOND) == []
    (again,) = await take(database, NOW + outbox.CLAIM)
    assert again.attempts == 2


@pytest_twisted.ensureDeferred
async def test_an_event_that_comes_while_it_is_delivered_is_not_lost(database: Database) -> None:
    await put(database, READY)
    (claimed,) = await take(database)
    await put(database, READY)
    await database.run(partial(outbox.remove, claimed=claimed))
    (again,) = await take(database)
    await database.run(partial(outbox.remove, claimed=again))
    assert await database.run(count) == 0


@pytest.mark.parametrize(
    "change",
    [
        outbox.remove,
        lambda c, claimed: outbox.postpone(c, claimed, "x", NOW + SECOND),
        lambda c, claimed: outbox.bury(c, claimed, "x", NOW),
        lambda c, claimed: outbox.resolve(c, claimed, "http://x/", NOW),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_came_of_a_claim_that_ran_out_is_not_recorded(
    database: Database, change: Callable[[Connection, Claimed], None]
) -> None:
    await put(database, READY)
    (first,) = await take(database)
    (second,) = await take(database, NOW + outbox.CLAIM)
    await database.run(lambda c: change(c, first))
    (row,) = await database.run(outbox.list_outbox)
    assert (row.state, row.attempts, row.last_error) == ("waiting", second.attempts, None)
    assert row.next_attempt_at == NOW + 2 * outbox.CLAIM


@pytest_twisted.ensureDeferred
async def test_notices_of_a_meeting_to_one_target_keep_their_order(database: Database) -> None:
    later = attrs.evolve(READY, record_id="r2")
    elsewhere = attrs.evolve(READY, record_id="r3", url="https://other.example/")
    of_a_tenant = attrs.evolve(READY, tenant_id="t1")
    await put(database, READY, later, elsewhere, of_a_tenant)
    claimed = await take(database)
    assert [one.notice for one in claimed] == [READY, elsewhere, of_a_tenant]
    assert await take(database) == []
    await database.run(partial(outbox.remove, claimed=claimed[0]))
    assert [one.notice for one in await take(database)] == [later]


@pytest_twisted.ensureDeferred
async def test_a_dead_letter_holds_up_nothing(database: Database) -> None:
    await put(database, READY, attrs.evolve(READY, record_id="r2"))
    (claimed,) = await take(database)
    await database.run(partial(outbox.bury, claimed=claimed, error="HTTP 404", now=NOW))
    assert [one.notice.record_id for one in await take(database)] == ["r2"]


@pytest_twisted.ensureDeferred
async def test_targets_have_the_room_that_they_are_given(database: Database) -> None:
    notices = [
        attrs.evolve(READY, meeting_id=f"{host}{i}", url=f"http://{host}/")
        for host in ("one", "two", "three")
        for i in range(4)
    ]
    await put(database, *notices)
    claimed = await take(database, room={"one:80": 0, "two:80": 1}, default_room=3)
    assert sorted(one.target for one in claimed) == ["three:80"] * 3 + ["two:80"]
    assert len(await take(database, limit=2)) == 2


@pytest_twisted.ensureDeferred
async def test_one_that_was_given_up_starts_anew_when_it_happens_again(database: Database) -> None:
    await put(database, READY)
    (claimed,) = await take(database)
    await database.run(partial(outbox.bury, claimed=claimed, error="HTTP 404", now=NOW))
    assert await take(database, NOW + timedelta(days=1)) == []
    await put(database, READY, at=NOW + SECOND)
    (again,) = await take(database, NOW + SECOND)
    assert (again.attempts, again.created_at) == (1, NOW + SECOND)


@pytest_twisted.ensureDeferred
async def test_a_url_that_is_found_later_counts_as_no_attempt(database: Database) -> None:
    await put(database, attrs.evolve(READY, url=""))
    (claimed,) = await take(database)
    assert claimed.target == ""
    await database.run(partial(outbox.resolve, claimed=claimed, url="http://fe/x", now=NOW))
    (found,) = await take(database)
    assert (found.notice.url, found.target, found.attempts) == ("http://fe/x", "fe:80", 1)


@pytest_twisted.ensureDeferred
async def test_recording_ready_is_queued_within_the_import(database: Database) -> None:
    urls = CallbackURLs(recording_ready="https://fe.example/r?x=1")

    def importing(connection: Connection) -> None:
        callback_rows.save(connection, "m1", "t1", urls, NOW, alone=False)
        outbox.enqueue_recording_ready(connection, meeting_id="m1", tenant_id="t1", record_id="r", now=NOW)
        outbox.enqueue_recording_ready(connection, meeting_id="m1", tenant_id="t1", record_id="r", now=NOW)
        # Another tenant's meeting of that id: its URL is not this one's.
        outbox.enqueue_recording_ready(connection, meeting_id="m1", tenant_id="t2", record_id="r", now=NOW)

    await database.run(importing)
    mine, other = await take(database)
    assert mine.notice == Notice(Kind.RECORDING_READY, "t1", "m1", "https://fe.example/r?x=1", "", "r")
    assert other.notice == Notice(Kind.RECORDING_READY, "t2", "m1", "", "", "r")

    def failing(connection: Connection) -> None:
        outbox.enqueue_recording_ready(connection, meeting_id="m9", tenant_id="", record_id="r9", now=NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(failing)
    assert await database.run(count) == 2


@pytest_twisted.ensureDeferred
async def test_an_operator_lists_retries_and_drops(database: Database) -> None:
    await put(database, REPORT, attrs.evolve(READY, url="https://fe.example/ready?key=secret"))
    (claimed, _) = await take(database)
    await database.run(partial(outbox.bury, claimed=claimed, error="HTTP 410", now=NOW + SECOND))
    assert await database.run(outbox.count_outbox) == {"waiting": 1, "dead": 1}
    (dead,) = await database.run(partial(outbox.list_outbox, state=outbox.DEAD))
    assert (dead.kind, dead.tenant_id, dead.meeting_id, dead.record_id) == ("analytics", "t1", "m2", None)
    assert (dead.target, dead.path, dead.last_error) == ("other.example:8080", "/a", "HTTP 410")
    assert (dead.created_at, dead.next_attempt_at) == (NOW, NOW + SECOND)
    listed = await database.run(outbox.list_outbox)
    assert [one.state for one in listed] == ["dead", "waiting"]
    assert "secret" not in repr(listed)
    later = NOW + timedelta(days=2)
    assert await database.run(partial(outbox.retry, ids=None, now=later)) == 1
    (_, again) = await take(database, later)
    assert (again.id, again.attempts, again.created_at) == (dead.id, 1, later)
    assert await database.run(partial(outbox.retry, ids=[dead.id], now=later)) == 1
    assert await database.run(partial(outbox.drop, ids=[dead.id])) == 1
    assert await database.run(partial(outbox.drop, ids=[dead.id])) == 0
    assert await database.run(partial(outbox.retry, ids=[], now=later)) == 0


@pytest_twisted.ensureDeferred
async def test_dead_letters_are_kept_for_two_weeks(database: Database) -> None:
    await put(database, READY, REPORT)
    for one in await take(database):
        await database.run(partial(outbox.bury, claimed=one, error="x", now=NOW))
    await put(database, attrs.evolve(READY, record_id="waits"))
    until = NOW + timedelta(days=14)
    assert await database.run(partial(outbox.purge, now=until, limit=1)) == 0
    assert await database.run(partial(outbox.purge, now=until + SECOND, limit=1)) == 1
    assert await database.run(partial(outbox.purge, now=until + SECOND, limit=5)) == 1
    assert await database.run(count) == 1


@pytest_twisted.ensureDeferred
async def test_what_waits_too_long_for_a_dead_target_is_given_up(database: Database) -> None:
    await put(database, READY, REPORT, attrs.evolve(READY, meeting_id="m3"))
    await put(database, attrs.evolve(READY, meeting_id="young"), at=NOW + SECOND)
    given_up = await database.run(
        partial(outbox.bury_target, target="fe.example:443", created_before=NOW + SECOND, now=NOW + SECOND, limit=1)
    )
    assert given_up == 1
    given_up = await database.run(
        partial(outbox.bury_target, target="fe.example:443", created_before=NOW + SECOND, now=NOW + SECOND, limit=9)
    )
    assert given_up == 1
    assert await database.run(outbox.count_outbox) == {"waiting": 2, "dead": 2}


@pytest.mark.parametrize("text", ["ü💡 'quoted'; DROP TABLE", "x" * 10_000, "%_\\"])
@pytest_twisted.ensureDeferred
async def test_any_text_comes_back_as_it_was(database: Database, text: str) -> None:
    notice = Notice(Kind.ANALYTICS, text, text, f"http://fe/{text}", text)
    await put(database, notice)
    (claimed,) = await take(database)
    assert claimed.notice == notice
