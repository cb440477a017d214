"""publishRecordings, updateRecordings and deleteRecordings through a whole balancer: rows and files, both engines."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, func, select, update
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from scalelite.recordings.storage import StorageError
from scalelite.recordings.tables import playback_formats, recording_metadata, recordings, thumbnails
from tests.api.archives import Library, library, record_ids
from tests.api.support import FORM, post
from tests.balancer import Answer

DONE = "<response>\n  <returncode>SUCCESS</returncode>\n  <{0}>{1}</{0}>\n</response>\n"


@pytest_twisted.async_yield_fixture
async def shelf(database_url: str, tmp_path: Path) -> AsyncIterator[Library]:
    """A library over SQLite and PostgreSQL in turn."""
    async with library(database_url, tmp_path) as opened:
        yield opened


def done(answer: Answer, name: str, value: bool) -> bool:
    return answer.code == 200 and answer.body.decode() == DONE.format(name, str(value).lower())


async def state_of(shelf: Library, record_id: str) -> tuple[bool | None, str | None, bool | None]:
    row = await shelf.row(record_id)
    return row.published, row.state, row.publish_updated


@pytest.mark.parametrize(
    ("action", "params", "key", "message"),
    [
        ("publishRecordings", {}, "missingParamRecordID", "You must specify a recordID."),
        ("publishRecordings", {"recordID": " "}, "missingParamRecordID", "You must specify a recordID."),
        (
            "publishRecordings", {"recordID": "r1"},
            "missingParamPublish", "You must specify a publish value true or false.",
        ),
        (
            "publishRecordings", {"recordID": "r1", "publish": " "},
            "missingParamPublish", "You must specify a publish value true or false.",
        ),
        ("publishRecordings", {"recordID": "x", "publish": "true"}, "notFound", "We could not find recordings"),
        ("publishRecordings", {"recordID": ",", "publish": "true"}, "notFound", "We could not find recordings"),
        ("publishRecordings", {"recordID": "r", "publish": "true"}, "notFound", "We could not find recordings"),
        ("publishRecordings", {"recordID": "%", "publish": "true"}, "notFound", "We could not find recordings"),
        ("updateRecordings", {}, "missingParamRecordID", "You must specify a recordID."),
        ("updateRecordings", {"recordID": "", "meta_a": "b"}, "missingParamRecordID", "You must specify a recordID."),
        ("deleteRecordings", {}, "missingParamRecordID", "You must specify a recordID."),
        ("deleteRecordings", {"recordID": "x"}, "notFound", "We could not find recordings"),
        ("deleteRecordings", {"recordID": ","}, "notFound", "We could not find recordings"),
        ("deleteRecordings", {"recordID": "r"}, "notFound", "We could not find recordings"),
        ("deleteRecordings", {"recordID": "r_"}, "notFound", "We could not find recordings"),
        ("deleteRecordings", {"recordID": "' OR 1=1 --"}, "notFound", "We could not find recordings"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_refused_calls_say_why(
    sqlite_url: str, tmp_path: Path, action: str, params: dict[str, str], key: str, message: str
) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1")
        answer = await shelf.balancer.call(action, **params)

        assert (answer.code, answer.returncode, answer.key, answer.message) == (200, "FAILED", key, message)
        assert answer.body.startswith(b'<?xml version="1.0"?>\n<response>\n  <returncode>FAILED</returncode>\n')
        assert await shelf.listed() == ["r1"]
        assert shelf.kept("r1") == ["published/presentation"]


@pytest_twisted.ensureDeferred
async def test_publishing_moves_all_formats_and_tells_row_and_list(shelf: Library) -> None:
    await shelf.add("r1", formats=("presentation", "video"))

    answer = await shelf.balancer.call("publishRecordings", recordID="r1", publish="false")
    assert done(answer, "published", False)
    assert shelf.kept("r1") == ["unpublished/presentation", "unpublished/video"]
    assert await state_of(shelf, "r1") == (False, "unpublished", True)
    assert await shelf.listed(state="unpublished") == ["r1"]

    answer = await shelf.balancer.call("publishRecordings", recordID="r1,r1,,unknown", publish="TRUE")
    assert done(answer, "published", True)
    assert shelf.kept("r1") == ["published/presentation", "published/video"]
    assert await state_of(shelf, "r1") == (True, "published", True)


@pytest.mark.parametrize(("value", "published"), [("true", True), ("True", True), ("banana", False), ("1", False)])
@pytest_twisted.ensureDeferred
async def test_only_true_publishes(sqlite_url: str, tmp_path: Path, value: str, published: bool) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1", state="unpublished")
        await shelf.add("r2")

        assert done(
            await shelf.balancer.call("publishRecordings", recordID="r1,r2", publish=value), "published", published
        )
        for record_id in ("r1", "r2"):
            assert (await state_of(shelf, record_id))[:2] == (published, "published" if published else "unpublished")


@pytest.mark.parametrize("state", ["processing", "processed", "deleted", None])
@pytest_twisted.ensureDeferred
async def test_what_is_neither_published_nor_unpublished_is_not_found(
    sqlite_url: str, tmp_path: Path, state: str | None
) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1", state=state, published=False)
        answer = await shelf.balancer.call("publishRecordings", recordID="r1", publish="true")

        assert answer.key == "notFound"
        assert await state_of(shelf, "r1") == (False, state, False)


@pytest_twisted.ensureDeferred
async def test_recording_that_is_as_it_should_be_is_left_alone(shelf: Library) -> None:
    await shelf.add("r1", files=False)

    assert done(await shelf.balancer.call("publishRecordings", recordID="r1", publish="true"), "published", True)
    assert await state_of(shelf, "r1") == (True, "published", False)


@pytest_twisted.ensureDeferred
async def test_state_that_contradicts_the_flag_is_mended(shelf: Library) -> None:
    await shelf.add("r1", state="published", published=False)
    await shelf.add("r2", state="unpublished", published=True)

    assert done(await shelf.balancer.call("publishRecordings", recordID="r1,r2", publish="false"), "published", False)
    for record_id in ("r1", "r2"):
        assert await state_of(shelf, record_id) == (False, "unpublished", True)
        assert shelf.kept(record_id) == ["unpublished/presentation"]


@pytest.mark.integration
@pytest_twisted.ensureDeferred
async def test_flags_that_are_null_count_as_false(postgres_url: str, tmp_path: Path) -> None:
    async with library(postgres_url, tmp_path) as shelf:

        def loosen(connection: Connection) -> None:
            for column in ("published", "protected", "publish_updated"):
                connection.exec_driver_sql(f"ALTER TABLE recordings ALTER COLUMN {column} DROP NOT NULL")

        await shelf.sql(loosen)
        await shelf.add("r1", published=None, protected=None, publish_updated=None, state="published")

        assert b"<published>false</published>" in (await shelf.balancer.call("getRecordings")).body
        assert done(await shelf.balancer.call("publishRecordings", recordID="r1", publish="false"), "published", False)
        assert await state_of(shelf, "r1") == (False, "unpublished", True)
        assert shelf.kept("r1") == ["unpublished/presentation"]


@pytest_twisted.ensureDeferred
async def test_files_of_both_sides_become_one(shelf: Library) -> None:
    await shelf.add("r1", formats=("presentation", "video"))
    shelf.put(shelf.unpublished, "video", "r1")

    assert done(await shelf.balancer.call("publishRecordings", recordID="r1", publish="false"), "published", False)
    assert shelf.kept("r1") == ["unpublished/presentation", "unpublished/video"]


@pytest_twisted.ensureDeferred
async def test_failing_recording_ends_the_call_and_stays_as_it_was(shelf: Library) -> None:
    await shelf.add("r1")
    # Its formats' names in order: the first can be moved, the second has no files.
    await shelf.add("r2", formats=("presentation",))
    await shelf.sql(
        lambda connection: connection.execute(
            playback_formats.insert().values(
                recording_id=select(recordings.c.id).where(recordings.c.record_id == "r2").scalar_subquery(),
                format="video",
            )
        )
    )
    await shelf.add("r3")

    answer = await shelf.balancer.call("publishRecordings", recordID="r3,r2,r1", publish="false")

    assert (answer.key, answer.message) == ("internalError", "Unable to publish/unpublish recording.")
    assert await state_of(shelf, "r1") == (False, "unpublished", True)
    for record_id in ("r2", "r3"):
        assert await state_of(shelf, record_id) == (True, "published", False)
        assert shelf.kept(record_id) == ["published/presentation"]


@pytest_twisted.ensureDeferred
async def test_recording_without_formats_is_a_row_only(shelf: Library) -> None:
    await shelf.add("r1", formats=())

    assert done(await shelf.balancer.call("publishRecordings", recordID="r1", publish="false"), "published", False)
    assert await state_of(shelf, "r1") == (False, "unpublished", True)


@pytest.mark.parametrize("record_id", ["../../victim", "a/b", "a.b", "ünï", "a\\b", "a b"])
@pytest_twisted.ensureDeferred
async def test_id_that_is_no_folders_name_touches_no_file(sqlite_url: str, tmp_path: Path, record_id: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add(record_id, files=False)
        answer = await shelf.balancer.call("publishRecordings", recordID=record_id, publish="false")
        assert answer.key == "internalError"
        assert done(await shelf.balancer.call("deleteRecordings", recordID=record_id), "deleted", True)
    assert victim.exists()


@pytest_twisted.ensureDeferred
async def test_deleting_removes_files_of_both_sides_and_all_but_the_row(shelf: Library) -> None:
    await shelf.add("r1", formats=("presentation", "video"), images=2, metadata={"a": "b"})
    await shelf.add("r2", metadata={"a": "b"}, images=1)
    shelf.put(shelf.unpublished, "notes", "r1")
    shelf.put(shelf.published, "podcast", "r1")

    assert done(await shelf.balancer.call("deleteRecordings", recordID="r1,unknown,r1"), "deleted", True)

    assert shelf.kept("r1") == []
    row = await shelf.row("r1")
    assert (row.state, row.published, row.meeting_id) == ("deleted", False, "meeting of r1")
    assert row.deleted_at is not None

    def counts(connection: Connection) -> list[int | None]:
        tables = (recording_metadata, playback_formats, thumbnails)
        return [connection.scalar(select(func.count()).select_from(table)) for table in tables]

    assert await shelf.sql(counts) == [1, 1, 1]
    assert shelf.kept("r2") == ["published/presentation"]
    assert await shelf.listed() == ["r2"]
    assert await shelf.listed(state="deleted") == ["r1"]
    # It may be repeated.
    assert done(await shelf.balancer.call("deleteRecordings", recordID="r1"), "deleted", True)


@pytest.mark.parametrize("state", ["unpublished", "processing", None])
@pytest_twisted.ensureDeferred
async def test_recordings_of_every_state_can_be_deleted(sqlite_url: str, tmp_path: Path, state: str | None) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1", state=state, published=False)

        assert done(await shelf.balancer.call("deleteRecordings", recordID="r1"), "deleted", True)
        assert shelf.kept("r1") == []


@pytest_twisted.ensureDeferred
async def test_recording_whose_files_cannot_be_removed_can_be_deleted_again(shelf: Library) -> None:
    await shelf.add("r1", metadata={"a": "b"})
    archive = shelf.balancer.parts.archive
    assert archive is not None
    remove = archive.storage.remove

    def fail(record_id: str) -> None:
        raise StorageError("the disk is away")

    object.__setattr__(archive.storage, "remove", fail)
    answer = await shelf.balancer.call("deleteRecordings", recordID="r1")
    object.__setattr__(archive.storage, "remove", remove)

    assert (answer.key, answer.message) == ("internalError", "Unable to delete recording.")
    assert await shelf.listed() == ["r1"]
    assert await shelf.metadata("r1") == {"a": "b"}
    assert done(await shelf.balancer.call("deleteRecordings", recordID="r1"), "deleted", True)
    assert shelf.kept("r1") == []


@pytest_twisted.ensureDeferred
async def test_metadata_are_set_and_removed_on_all_recordings(shelf: Library) -> None:
    await shelf.add("r1", metadata={"kept": "1", "gone": "x", "changed": "old"})
    await shelf.add("r2", metadata={"kept": "2"})

    answer = await shelf.balancer.call(
        "updateRecordings", recordID="r1,r2,,r1",
        meta_Changed="new & <ü😀>", meta_gone=" ", meta_ADDED="1", meta_both="1", meta_BOTH="", x="y",
    )  # fmt: skip

    assert done(answer, "updated", True)
    assert await shelf.metadata("r1") == {"kept": "1", "changed": "new & <ü😀>", "added": "1"}
    assert await shelf.metadata("r2") == {"kept": "2", "changed": "new & <ü😀>", "added": "1"}
    assert await shelf.listed(meta_changed="new & <ü😀>") == ["r2", "r1"]


@pytest_twisted.ensureDeferred
async def test_keys_in_other_letter_case_are_changed_under_their_spelling(shelf: Library) -> None:
    await shelf.add("r1", metadata={"MeetingTag": "old", "Gone": "x", "gone": "y"})
    await shelf.add("r2")

    params = {"meta_meetingtag": "new", "meta_gone": ""}
    assert done(await shelf.balancer.call("updateRecordings", recordID="r1,r2", **params), "updated", True)
    assert await shelf.metadata("r1") == {"MeetingTag": "new"}
    assert await shelf.metadata("r2") == {"meetingtag": "new"}


@pytest.mark.parametrize(
    ("params", "updated", "metadata"),
    [
        ({"recordID": "r1", "meta_a": "b"}, True, {"a": "b"}),
        # Even if there is nothing to remove.
        ({"recordID": "r1", "meta_a": ""}, True, {}),
        ({"recordID": "r1"}, False, {}),
        ({"recordID": "r1", "Meta_a": "b"}, False, {}),
        ({"recordID": "r1", "protect": " "}, False, {}),
        ({"recordID": ",", "meta_a": "b"}, False, {}),
        # All or none.
        ({"recordID": "r1,unknown", "meta_a": "b", "protect": "true"}, False, {}),
        ({"recordID": "r", "meta_a": "b"}, False, {}),
        ({"recordID": "%", "meta_a": "b"}, False, {}),
        # Keys that could never be shown are not stored.
        ({"recordID": "r1", "meta_a b": "x", "meta_<x>": "x", "meta_": "x", "meta_1": "x", "meta_x:y": "x"}, False, {}),
        ({"recordID": "r1", "meta_" + "k" * 3000: "x"}, False, {}),
        ({"recordID": "r1", "meta_straße": "ü" * 5000}, True, {"straße": "ü" * 5000}),
        ({"recordID": "r1", "meta_a": "'; DROP TABLE metadata; --"}, True, {"a": "'; DROP TABLE metadata; --"}),
        ({"recordID": "r1", "meta_a": "%s %(x)s :y ? \\"}, True, {"a": "%s %(x)s :y ? \\"}),
        # Without tenants, nothing is theirs.
        ({"recordID": "r1", "meta_tenant-id": "t"}, True, {"tenant-id": "t"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_counts_as_updated(
    database_url: str, tmp_path: Path, params: dict[str, str], updated: bool, metadata: dict[str, str]
) -> None:
    async with library(database_url, tmp_path) as shelf:
        await shelf.add("r1")

        assert done(await shelf.balancer.call("updateRecordings", **params), "updated", updated)
        assert await shelf.metadata("r1") == metadata
        assert (await shelf.row("r1")).protected is False


@pytest_twisted.ensureDeferred
async def test_deleted_recordings_can_be_updated(shelf: Library) -> None:
    await shelf.add("r1", state="deleted")

    assert done(await shelf.balancer.call("updateRecordings", recordID="r1", meta_a="b"), "updated", True)


@pytest.mark.parametrize(
    ("value", "protected"),
    [("true", True), ("1", True), ("yes", True), ("no", True), ("False", True)]
    + [(value, False) for value in ("0", "f", "F", "false", "FALSE", "off", "OFF")],
)
@pytest_twisted.ensureDeferred
async def test_protection_is_set_on_all_recordings(
    sqlite_url: str, tmp_path: Path, value: str, protected: bool
) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1", protected=not protected)
        await shelf.add("r2", protected=not protected)

        answer = await shelf.balancer.call("updateRecordings", recordID="r1,r2", protect=value)
        assert done(answer, "updated", True)
        assert [(await shelf.row(record_id)).protected for record_id in ("r1", "r2")] == [protected, protected]


@pytest_twisted.ensureDeferred
async def test_update_may_come_in_a_form(shelf: Library) -> None:
    await shelf.add("r1")

    assert done(await post(shelf.balancer, "updateRecordings", b"recordID=r1&meta_a=b", FORM), "updated", True)
    assert await shelf.metadata("r1") == {"a": "b"}


@pytest_twisted.ensureDeferred
async def test_tenants_change_their_own_recordings_only(database_url: str, tmp_path: Path) -> None:
    async with library(database_url, tmp_path, tenants=True) as shelf:
        await shelf.add("r1", tenant="id-of-one")
        await shelf.add("r2", tenant="id-of-two")
        await shelf.add("r3")

        for record_id in ("r1", "r3"):
            assert (await shelf.as_tenant("two", "deleteRecordings", recordID=record_id)).key == "notFound"
            foreign = await shelf.as_tenant("two", "publishRecordings", recordID=record_id, publish="false")
            assert foreign.key == "notFound"
            foreign = await shelf.as_tenant("two", "updateRecordings", recordID=record_id, meta_a="b", protect="true")
            assert done(foreign, "updated", False)
        # Beside its own, others are left aside, or keep all from being changed.
        foreign = await shelf.as_tenant("two", "updateRecordings", recordID="r2,r1", meta_a="b", protect="true")
        assert done(foreign, "updated", False)
        own = await shelf.as_tenant("two", "publishRecordings", recordID="r1,r2,r3", publish="false")
        assert done(own, "published", False)
        assert done(await shelf.as_tenant("two", "deleteRecordings", recordID="r1,r2,r3"), "deleted", True)

        assert [(await shelf.row(record_id)).state for record_id in ("r1", "r2", "r3")] == [
            "published", "deleted", "published",
        ]  # fmt: skip
        assert (shelf.kept("r1"), shelf.kept("r2")) == (["published/presentation"], [])
        assert await shelf.metadata("r1") == {"tenant-id": "id-of-one"}
        assert not (await shelf.row("r1")).protected
        # What was deleted is nobody's any more.
        assert (await shelf.as_tenant("two", "deleteRecordings", recordID="r2")).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_no_tenant_gives_its_recording_away(database_url: str, tmp_path: Path) -> None:
    async with library(database_url, tmp_path, tenants=True) as shelf:
        await shelf.add("r1", tenant="id-of-one", metadata={"tenant-name": "one"})
        for params in (
            {"meta_tenant-id": "id-of-two"}, {"meta_Tenant-ID": ""}, {"meta_tenant-name": "two"}, {"meta_tenant-id": ""}
        ):  # fmt: skip
            answer = await shelf.as_tenant("one", "updateRecordings", recordID="r1", **params)
            assert done(answer, "updated", False), params
        answer = await shelf.as_tenant(
            "one", "updateRecordings", recordID="r1", **{"meta_tenant-id": "x", "meta_a": "b"}
        )
        assert done(answer, "updated", True)

        assert await shelf.metadata("r1") == {"tenant-id": "id-of-one", "tenant-name": "one", "a": "b"}
        assert record_ids(await shelf.as_tenant("two", "getRecordings")) == []


@pytest_twisted.ensureDeferred
async def test_players_notice_changes_at_once(shelf: Library) -> None:
    await shelf.add("r1")
    page = f"http://127.0.0.1:{shelf.balancer.port}/presentation/r1/index.html"

    async def code() -> int:
        return (await shelf.balancer.request("GET", page)).code

    assert await code() == 200
    await shelf.balancer.call("publishRecordings", recordID="r1", publish="false")
    assert await code() == 404
    await shelf.balancer.call("publishRecordings", recordID="r1", publish="true")
    assert await code() == 200
    await shelf.balancer.call("deleteRecordings", recordID="r1")
    assert await code() == 404


@pytest_twisted.ensureDeferred
async def test_changes_of_the_same_recordings_at_once_are_all_done(shelf: Library) -> None:
    for record_id in ("r1", "r2"):
        await shelf.add(record_id)
    calls = []
    for number in range(6):
        order = "r1,r2" if number % 2 else "r2,r1"
        publish = "true" if number % 2 else "false"
        calls.append(
            shelf.balancer.call("updateRecordings", recordID=order, **{f"meta_k{number}": "v", "meta_k": str(number)})
        )
        calls.append(shelf.balancer.call("publishRecordings", recordID=order, publish=publish))
    answers: list[Any] = await defer.gatherResults([defer.ensureDeferred(call) for call in calls])

    assert [answer.returncode for answer in answers] == ["SUCCESS"] * 12
    for record_id in ("r1", "r2"):
        assert await shelf.metadata(record_id) | {"k": ""} == {f"k{number}": "v" for number in range(6)} | {"k": ""}
        published, state, _ = await state_of(shelf, record_id)
        assert state == ("published" if published else "unpublished")
        assert shelf.kept(record_id) == [f"{state}/presentation"]


@pytest_twisted.ensureDeferred
async def test_slow_files_hold_up_nobody_else(shelf: Library) -> None:
    await shelf.add("r1")
    await shelf.add("r2")
    archive = shelf.balancer.parts.archive
    assert archive is not None
    publish = archive.storage.publish
    gate = threading.Event()

    def slow(*args: Any, **options: Any) -> None:
        gate.wait(60)
        publish(*args, **options)

    object.__setattr__(archive.storage, "publish", slow)
    pending = defer.ensureDeferred(shelf.balancer.call("publishRecordings", recordID="r1", publish="false"))
    assert record_ids(await shelf.balancer.call("getRecordings")) == ["r2", "r1"]
    assert not pending.called
    await deferToThread(gate.set)
    assert done(await pending, "published", False)


@pytest_twisted.ensureDeferred
async def test_rows_that_were_deleted_meanwhile_are_not_published(shelf: Library) -> None:
    await shelf.add("r1")
    await shelf.add("r2")
    archive = shelf.balancer.parts.archive
    assert archive is not None
    read = archive.database.read

    async def late(work: Any, **options: Any) -> Any:
        found = await read(work, **options)
        await shelf.sql(
            lambda connection: connection.execute(
                update(recordings).where(recordings.c.record_id == "r1").values(state="deleted", published=False)
            )
        )
        return found

    archive.database.read = late  # type: ignore[method-assign]
    assert done(await shelf.balancer.call("publishRecordings", recordID="r1,r2", publish="false"), "published", False)
    assert (await shelf.row("r1")).state == "deleted"
    assert shelf.kept("r1") == ["published/presentation"]
    assert shelf.kept("r2") == ["unpublished/presentation"]
