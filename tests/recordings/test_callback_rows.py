"""Callback URLs in SQL, and Scalelite's encoding of them, over both engines."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest
import pytest_twisted
from sqlalchemy import Connection, insert, select

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings import callback_rows, outbox
from scalelite.recordings.callback_rows import decoded, encoded
from scalelite.recordings.database import Database
from scalelite.recordings.tables import callback_data, callbacks, recordings

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)
DAY = timedelta(days=1)
URLS = CallbackURLs(recording_ready="""http://h/bn: #x "q\"""", analytics="https://lms.example.com/an?x=1")
# As Ruby writes it.
YAML = """---
:analytics_callback_url: https://lms.example.com/an?x=1
:recording_ready_url: 'http://h/bn: #x "q"'
"""


def test_the_encoding_is_scalelites_byte_for_byte() -> None:
    assert encoded(URLS) == YAML
    assert decoded(YAML) == URLS


@pytest.mark.parametrize(
    ("urls", "text"),
    [
        (CallbackURLs(), None),
        (CallbackURLs(recording_ready="http://h/"), "---\n:recording_ready_url: http://h/\n"),
        (CallbackURLs(analytics=""), "---\n:analytics_callback_url: ''\n"),
        (CallbackURLs(analytics="http://h/" + "x " * 300), f"---\n:analytics_callback_url: 'http://h/{'x ' * 300}'\n"),
        (CallbackURLs(analytics="http://ü/💡"), "---\n:analytics_callback_url: http://ü/💡\n"),
        (CallbackURLs(analytics="null"), "---\n:analytics_callback_url: 'null'\n"),
    ],
)
def test_what_is_encoded_reads_the_same(urls: CallbackURLs, text: str | None) -> None:
    assert encoded(urls) == text
    assert decoded(encoded(urls)) == urls


@pytest.mark.parametrize(
    "text",
    [
        None, "", "---\n", "--- []\n", "--- text\n", "---\n: :\n  - [", "---\n:analytics_callback_url: 5\n",
        '---\n":analytics": x\n', "---\nanalytics_callback_url: http://no-symbol/\n", "--- !ruby/object:Object {}\n",
        "---\n:analytics_callback_url: " + "x" * 70_000,
    ],
)  # fmt: skip
def test_what_can_not_be_read_counts_as_none(text: str | None) -> None:
    assert decoded(text) == CallbackURLs()


async def save(
    database: Database, meeting: str, tenant: str, urls: CallbackURLs, at: datetime = NOW, *, alone: bool = True
) -> None:
    await database.run(lambda c: callback_rows.save(c, meeting, tenant, urls, at, alone=alone))


async def find(database: Database, meeting: str, tenant: str = "", *, alone: bool = True) -> CallbackURLs:
    return await database.read(lambda c: callback_rows.look_up(c, meeting, tenant, alone=alone))


def scalelites(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.execute(select(callback_data).order_by(callback_data.c.id))
    return [(row.meeting_id, row.callback_attributes) for row in rows]


@pytest_twisted.ensureDeferred
async def test_urls_are_merged_and_written_for_scalelite_too(database: Database) -> None:
    await save(database, "m1", "", CallbackURLs(recording_ready=URLS.recording_ready))
    await save(database, "m1", "", CallbackURLs(analytics=URLS.analytics), NOW + DAY)
    assert await find(database, "m1") == URLS
    assert await database.run(scalelites) == [("m1", YAML)]
    row = await database.run(lambda c: c.execute(select(callback_data)).one())
    assert (row.created_at, row.updated_at, row.recording_id) == (NOW, NOW + DAY, None)


@pytest_twisted.ensureDeferred
async def test_the_later_call_counts_even_if_it_is_carried_out_first(database: Database) -> None:
    await save(database, "m1", "", CallbackURLs(recording_ready="new"), NOW + DAY)
    await save(database, "m1", "", CallbackURLs(recording_ready="old", analytics="old"), NOW)
    assert await find(database, "m1") == CallbackURLs("new", "old")
    row = await database.run(lambda c: c.execute(select(callbacks)).one())
    assert (row.created_at, row.updated_at) == (NOW + DAY, NOW + DAY)


@pytest_twisted.ensureDeferred
async def test_tenants_with_equal_meeting_ids_keep_their_own(database: Database) -> None:
    await save(database, "m1", "t1", CallbackURLs("one", "one"), alone=False)
    await save(database, "m1", "t2", CallbackURLs(recording_ready="two"), alone=False)
    assert await find(database, "m1", "t1", alone=False) == CallbackURLs("one", "one")
    assert await find(database, "m1", "t2", alone=False) == CallbackURLs("two")
    assert await find(database, "m1", "t3", alone=False) == CallbackURLs()
    # Scalelite has room for one of them, and gets nothing mixed.
    assert await database.run(scalelites) == [("m1", "---\n:recording_ready_url: two\n")]


async def wrote(database: Database, meeting: str, text: str | None) -> None:
    """A row as Scalelite writes it."""
    values = {"meeting_id": meeting, "callback_attributes": text, "created_at": NOW, "updated_at": NOW}
    await database.run(lambda c: c.execute(insert(callback_data).values(**values)))


@pytest_twisted.ensureDeferred
async def test_rows_of_scalelite_are_read_where_there_are_no_tenants(database: Database) -> None:
    await wrote(database, "m1", "---\n:recording_ready_url: old\n")
    await wrote(database, "m1", YAML)
    assert await find(database, "m1") == URLS
    assert await find(database, "m1", "t1", alone=False) == CallbackURLs()
    await save(database, "m1", "", CallbackURLs(analytics="new"))
    assert await find(database, "m1") == CallbackURLs(URLS.recording_ready, "new")
    both = encoded(CallbackURLs(URLS.recording_ready, "new"))
    assert await database.run(scalelites) == [("m1", both), ("m1", both)]


async def purge(database: Database, at: datetime, limit: int = 100) -> int:
    return await database.run(partial(callback_rows.purge, now=at, limit=limit))


@pytest_twisted.ensureDeferred
async def test_old_rows_go_unless_something_is_pending(database: Database) -> None:
    for meeting in ("old", "notice", "processed", "done", "young"):
        at = NOW + DAY if meeting == "young" else NOW
        await save(database, meeting, "", CallbackURLs("x"), at)
    await wrote(database, "by Scalelite", YAML)

    def pending(connection: Connection) -> None:
        notice = Notice(Kind.RECORDING_READY, "", "notice", "http://x/", record_id="r")
        outbox.enqueue(connection, notice, NOW)
        for state in ("processed", "published"):
            meeting = "processed" if state == "processed" else "done"
            connection.execute(insert(recordings).values(record_id=state, meeting_id=meeting, state=state))

    await database.run(pending)
    due = NOW + callback_rows.KEPT + timedelta(seconds=1)
    assert await purge(database, NOW + callback_rows.KEPT) == 0
    assert await purge(database, due, 1) == 1
    assert await purge(database, due) == 1
    assert await purge(database, due) == 0
    left = await database.run(lambda c: set(c.execute(select(callbacks.c.meeting_id)).scalars()))
    assert left == {"notice", "processed", "young"}
    assert {meeting for meeting, _ in await database.run(scalelites)} == left | {"by Scalelite"}
