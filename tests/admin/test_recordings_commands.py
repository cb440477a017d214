"""Listing, showing, publishing, protecting and deleting recordings by command, on both engines."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import attrs
import pytest
import pytest_twisted
from sqlalchemy import delete, insert, update

from scalelite.admin.recordings import MOST
from scalelite.recordings.tables import (
    playback_formats,
    recording_metadata,
    recordings,
    text_tracks,
    thumbnails,
)
from tests.admin.desk import Desk, Result, both, spelled
from tests.admin.recordings_desk import Shelf, shelf
from tests.admin.test_progress import on_screen
from tests.balancer import Balancer
from tests.recordings.tars import recording, write_tar

__all__ = ["shelf"]


async def states(shelf: Shelf) -> dict[str, tuple[str, bool, bool]]:
    rows = await shelf.rows(recordings, "record_id", "state", "published", "protected")
    return {row[0]: (row[1], bool(row[2]), bool(row[3])) for row in rows}


async def library(shelf: Shelf) -> None:
    """Five recordings of two tenants."""
    day = datetime(2024, 5, 1, 10)
    await shelf.add("old-1", start=day.replace(year=2020), tenant="t1", meeting_id="algebra")
    await shelf.add("new-2", start=day, formats=("presentation", "video"), protected=True, meeting_id="algebra")
    await shelf.add("hidden-3", start=day.replace(year=2022), state="unpublished", tenant="t2")
    await shelf.add("gone-4", files=False, formats=(), start=day.replace(year=2021), state="deleted")
    await shelf.add("dateless-5", start=None, name="sp\x1bce\n漢")


async def listed(shelf: Shelf, *words: str) -> list[str]:
    result = await shelf.run("recordings:list", *words, "--json")
    assert result.status == 0
    return [row["record_id"] for row in json.loads(result.out)]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ([], ["dateless-5", "new-2", "hidden-3", "old-1"]),
        (["--state", "any"], ["dateless-5", "new-2", "hidden-3", "gone-4", "old-1"]),
        (["--state", "unpublished,deleted"], ["hidden-3", "gone-4"]),
        (["--state=deleted"], ["gone-4"]),
        (["--meeting", "algebra"], ["new-2", "old-1"]),
        (["--meeting", "alg%"], []),
        (["--tenant", "t1"], ["old-1"]),
        (["--tenant", "' OR 1=1 --"], []),
        (["--protected"], ["new-2"]),
        (["--protected", "--meeting", "algebra", "--state", "unpublished"], []),
        (["--limit", "2"], ["dateless-5", "new-2"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_recordings_are_listed_by_what_is_asked_the_newest_first(
    shelf: Shelf, words: list[str], ids: list[str]
) -> None:
    await library(shelf)
    assert await listed(shelf, *words) == ids


@pytest_twisted.ensureDeferred
async def test_a_tenant_may_be_named(shelf: Shelf) -> None:
    await library(shelf)
    await shelf.balancer.parts.tenants.add("t2", "school", "secret")
    assert await listed(shelf, "--tenant", "school") == ["hidden-3"]


@pytest_twisted.ensureDeferred
async def test_the_list_has_a_heading_and_nothing_that_moves_the_cursor(shelf: Shelf) -> None:
    await library(shelf)
    result = await shelf.run("rake", "recordings:list", "--limit=2")
    assert result.out.splitlines() == [
        "RECORD ID   MEETING ID             NAME           STATE      PROTECTED  STARTED               MINUTES  "
        "FORMATS",
        f"dateless-5  meeting of dateless-5  sp\\x1bce\\n漢   published  no{' ' * 40}presentation",
        "new-2       algebra                name of new-2  published  yes        2024-05-01 10:00:00Z       60  "
        "presentation, video",
    ]
    assert result.err == "There are more than 2 recordings: --limit shows more of them\n"


@pytest_twisted.ensureDeferred
async def test_json_tells_all_of_a_row(shelf: Shelf) -> None:
    await shelf.add("new-2", start=datetime(2024, 5, 1, 10, 0, 0, 123000), tenant="t1", name="Ä", participants=7)
    result = await shelf.run("recordings:list", "--json")
    assert json.loads(result.out) == [
        {
            "record_id": "new-2",
            "meeting_id": "meeting of new-2",
            "name": "Ä",
            "state": "published",
            "published": True,
            "protected": False,
            "tenant_id": "t1",
            "started": "2024-05-01T10:00:00.123Z",
            "ended": "2024-05-01T11:00:00.123Z",
            "participants": 7,
            "formats": ["presentation"],
        }
    ]


@pytest_twisted.ensureDeferred
async def test_without_recordings_that_is_said(shelf: Shelf) -> None:
    assert await shelf.run("recordings:list") == Result(0, "", "No recordings found\n")
    assert await shelf.run("recordings:list", "--json") == Result(0, "[]\n", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--limit", "0"], f"--limit must be a whole number from 1 to {MOST}, not '0'"),
        (["--limit", "ten"], f"--limit must be a whole number from 1 to {MOST}, not 'ten'"),
        (
            ["--state", "lost"],
            "--state must be processing, processed, published, unpublished, deleted or any, or several of them joined "
            "by commas, not 'lost'",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_options_that_make_no_sense_are_told(balancer: Balancer, words: list[str], text: str) -> None:
    assert await Desk.of(balancer).run("recordings:list", *words) == Result(2, "", f"ERROR: {text}\n")


@pytest_twisted.ensureDeferred
async def test_info_shows_rows_files_links_and_imports(shelf: Shelf) -> None:
    shelf.desk.settings = attrs.evolve(shelf.desk.settings, url_host="bbb.example.com")
    row_id = await shelf.add(
        "a-1", formats=("presentation", "video"), tenant="t1", metadata={"bbb-origin": "Moodle"}, images=2,
        protected=True, publish_updated=True,
    )  # fmt: skip
    shelf.take_away("video", "a-1")
    shelf.put("podcast", "a-1", published=False)
    track = {"kind": "subtitles", "lang": "de", "label": "Deutsch", "source": "upload", "path": "caption_de.vtt"}
    await shelf.sql(
        lambda connection: connection.execute(
            insert(text_tracks).values(
                recording_id=row_id, content="WEBVTT\n", created_at=datetime(2024, 1, 1), **track
            )
        )
    )
    write_tar(shelf.spool.folder, recording(record_id="a-1"), "a-1")
    result = await shelf.run("recordings:info", "a-1")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        "Record ID: a-1",
        "\tMeeting ID: meeting of a-1",
        "\tName: name of a-1",
        "\tState: published (by hand)",
        "\tPublished: yes",
        "\tProtected: yes",
        "\tTenant: t1",
        "\tStarted: 2021-01-01 00:00:00Z",
        "\tEnded: 2021-01-01 01:00:00Z",
        "\tParticipants: 3",
        "\tFormat: presentation",
        "\t\tLink: https://bbb.example.com/playback/presentation/2.3/a-1",
        "\t\tLength: 60 minutes, 2 thumbnails",
        "\t\tFiles: published",
        "\tFormat: video",
        "\t\tLink: https://bbb.example.com/playback/video/2.3/a-1",
        "\t\tLength: 60 minutes, 2 thumbnails",
        "\t\tFiles: MISSING",
        "\tFiles without a row: unpublished/podcast",
        "\tThe links of a protected recording are those that getRecordings gives: each is good once",
        "\tMetadata:",
        "\t\tbbb-origin: Moodle",
        "\t\ttenant-id: t1",
        "\tText track: de subtitles, Deutsch (upload)",
        f"\tWaits to be imported: {shelf.spool.folder}/a-1.tar",
    ]
    document = json.loads((await shelf.run("recordings:info", "a-1", "--json")).out)
    assert document["recording"]["formats"][1]["files"] == []
    assert document["recording"]["files"] == [
        {"format": "podcast", "side": "unpublished"},
        {"format": "presentation", "side": "published"},
    ]
    assert document["recording"]["metadata"] == {"bbb-origin": "Moodle", "tenant-id": "t1"}
    assert document["recording"]["text_tracks"][0]["lang"] == "de"


@pytest_twisted.ensureDeferred
async def test_info_of_what_failed_to_be_imported_tells_why(shelf: Shelf) -> None:
    path = write_tar(shelf.spool.folder, recording(record_id="a-1"), "a-1")
    claim = shelf.spool.claim(path)
    assert claim is not None
    claim.fail("no room on the disk")
    claim.release()
    result = await shelf.run("recordings:info", "a-1")
    assert result.out.splitlines() == [
        "Record ID: a-1",
        "\tnot imported",
        "\tFailed import: no room on the disk, 1 attempt, next at 2096-10-02 07:07:40Z",
    ]


@pytest.mark.parametrize("record_id", ["nobody", "../../etc/passwd", "a%"])
@pytest_twisted.ensureDeferred
async def test_info_of_an_unknown_recording_fails(shelf: Shelf, record_id: str) -> None:
    await shelf.add("a-1")
    result = await shelf.run("recordings:info", record_id)
    assert result == Result(1, "", f"ERROR: Couldn't find Recording with id={record_id}\n")


@both
@pytest_twisted.ensureDeferred
async def test_recordings_are_unpublished_and_published_with_their_files(shelf: Shelf, spelling: str) -> None:
    await shelf.add("a-1", formats=("presentation", "video"))
    await shelf.add("b-2")
    assert await shelf.run(*spelled(spelling, "recordings:unpublish", "a-1", "b-2")) == Result(0, "OK\n", "")
    assert await states(shelf) == {"a-1": ("unpublished", False, False), "b-2": ("unpublished", False, False)}
    assert shelf.kept("a-1") == [("presentation", False), ("video", False)]
    assert await shelf.run(*spelled(spelling, "recordings:publish", "a-1:b-2")) == Result(0, "OK\n", "")
    assert await states(shelf) == {"a-1": ("published", True, False), "b-2": ("published", True, False)}
    assert shelf.kept("a-1") == [("presentation", True), ("video", True)]
    assert [row[0] for row in await shelf.rows(recordings, "publish_updated")] == [True, True]


@pytest.mark.parametrize("name", ["publish", "unpublish", "protect", "unprotect", "delete"])
@pytest_twisted.ensureDeferred
async def test_of_several_recordings_none_is_changed_if_one_is_unknown(shelf: Shelf, name: str) -> None:
    await shelf.add("a-1", protected=name == "unprotect", state="unpublished" if name == "publish" else "published")
    before = await states(shelf)
    yes = ["--yes"] if name == "delete" else []
    result = await shelf.run(f"recordings:{name}", "a-1", "nobody", *yes)
    assert result == Result(1, "", "ERROR: Couldn't find Recording with id=nobody\n")
    assert await states(shelf) == before


@pytest.mark.parametrize("name", ["publish", "unpublish", "protect", "unprotect", "delete"])
@pytest_twisted.ensureDeferred
async def test_some_recording_must_be_named(balancer: Balancer, name: str) -> None:
    for words in ([f"recordings:{name}"], ["rake", f"recordings:{name}"], ["rake", f"recordings:{name}[]"]):
        assert await Desk.of(balancer).run(*words) == Result(1, "", "Error: Please input a record id!\n")


@pytest_twisted.ensureDeferred
async def test_a_recording_whose_files_are_missing_stays_and_others_are_done(shelf: Shelf) -> None:
    await shelf.add("a-1", files=False)
    await shelf.add("b-2")
    result = await shelf.run("recordings:unpublish", "a-1", "b-2")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines() == [
        "WARNING: Recording id=a-1 is not unpublished: could not unpublish presentation of a-1: there are no files",
        "ERROR: 1 of 2 recordings could not be unpublished",
    ]
    assert await states(shelf) == {"a-1": ("published", True, False), "b-2": ("unpublished", False, False)}


@pytest.mark.parametrize("name", ["publish", "unpublish", "protect", "unprotect"])
@pytest_twisted.ensureDeferred
async def test_a_deleted_recording_is_not_changed(shelf: Shelf, name: str) -> None:
    await shelf.add("a-1", formats=(), state="deleted")
    result = await shelf.run(f"recordings:{name}", "a-1")
    assert result == Result(1, "", "ERROR: Recording id=a-1 is deleted: nothing was changed\n")


@pytest_twisted.ensureDeferred
async def test_deleting_asks_and_leaves_only_that_it_is_deleted(shelf: Shelf) -> None:
    await shelf.add("a-1", formats=("presentation", "video"), metadata={"k": "v"}, images=1)
    shelf.put("notes", "a-1", published=False)
    question = "WARNING: You are trying to delete recording a-1 with all files.\n"
    asked = await shelf.run("recordings:delete", "a-1", answers=("no",), terminal=True)
    assert asked == Result(1, f"{question}If you still wish to continue please enter `yes`\nAborted\n", "")
    assert (await shelf.run("recordings:delete", "a-1")).status == 2
    assert len(shelf.kept("a-1")) == 3
    assert await shelf.run("recordings:delete", "a-1", "--yes") == Result(0, "OK\n", "")
    assert await states(shelf) == {"a-1": ("deleted", False, False)}
    assert shelf.kept("a-1") == []
    for table in (playback_formats, recording_metadata, thumbnails):
        assert await shelf.rows(table, "id") == []


@pytest_twisted.ensureDeferred
async def test_protection_is_switched_for_many_at_once(shelf: Shelf) -> None:
    shelf.desk.settings = attrs.evolve(shelf.desk.settings, protected_recordings_enabled=True)
    for number in range(12):
        await shelf.add(f"a-{number}", files=False)
    ids = [f"a-{number}" for number in range(11)]
    assert await shelf.run("recordings:protect", *ids) == Result(0, "OK\n", "")
    protected = {record_id for record_id, row in (await states(shelf)).items() if row[2]}
    assert protected == set(ids)
    assert await shelf.run("recordings:unprotect", ":".join(ids)) == Result(0, "OK\n", "")
    assert not any(row[2] for row in (await states(shelf)).values())


@pytest_twisted.ensureDeferred
async def test_protecting_warns_where_protection_is_switched_off(shelf: Shelf) -> None:
    await shelf.add("a-1")
    result = await shelf.run("recordings:protect", "a-1")
    assert result.out == "OK\n"
    assert result.err == (
        "WARNING: PROTECTED_RECORDINGS_ENABLED is not true: only the links are protected, not the files\n"
    )


@pytest_twisted.ensureDeferred
async def test_changes_are_in_the_audit_log_and_looks_are_not(shelf: Shelf) -> None:
    await shelf.add("a-1")
    await shelf.run("recordings:list")
    await shelf.run("recordings:info", "a-1")
    await shelf.run("recordings:unpublish", "a-1")
    await shelf.run("recordings:delete", "a-1", "--yes")
    rows = json.loads((await shelf.run("audit", "--json")).out)
    assert [(row["command"], row["target"], row["result"]) for row in rows] == [
        ("recordings:unpublish", "a-1", "ok"),
        ("recordings:delete", "a-1 --yes", "ok"),
    ]


# Tasks of Scalelite


@both
@pytest_twisted.ensureDeferred
async def test_update_moves_unpublished_recordings_and_says_nothing(shelf: Shelf, spelling: str) -> None:
    await shelf.add("hidden-1", formats=("presentation", "video"), state="unpublished", files=False)
    await shelf.add("split-2", formats=("presentation", "video"), state="unpublished", files=False)
    await shelf.add("shown-3")
    await shelf.add("deleted-4", formats=("presentation",), state="deleted", files=False)
    for record_id in ("hidden-1", "split-2"):
        shelf.put("presentation", record_id, published=True)
    shelf.put("video", "hidden-1", published=True)
    shelf.put("video", "split-2", published=False)
    shelf.put("presentation", "deleted-4", published=True)
    assert await shelf.run(*spelled(spelling, "recordings:update")) == Result(0, "", "")
    assert shelf.kept("hidden-1") == [("presentation", False), ("video", False)]
    # Something is on its side already, so it is left as it is.
    assert shelf.kept("split-2") == [("presentation", True), ("video", False)]
    assert shelf.kept("shown-3") == [("presentation", True)]
    assert shelf.kept("deleted-4") == [("presentation", False)]
    assert (await states(shelf))["hidden-1"] == ("unpublished", False, False)


@both
@pytest_twisted.ensureDeferred
async def test_update_tells_what_it_cannot_move_and_goes_on(shelf: Shelf, spelling: str) -> None:
    await shelf.add("a-1", formats=("presentation", "video"), state="unpublished", files=False)
    await shelf.add("b-2", state="unpublished", files=False)
    shelf.put("video", "a-1", published=True)
    shelf.put("presentation", "b-2", published=True)
    result = await shelf.run(*spelled(spelling, "recordings:update"))
    assert result == Result(
        0,
        "",
        "Failed to move recording a-1: could not unpublish presentation of a-1: there are no files\n",
    )
    assert shelf.kept("a-1") == [("video", False)]
    assert shelf.kept("b-2") == [("presentation", False)]


@pytest_twisted.ensureDeferred
async def test_update_leaves_rows_whose_flag_is_null(shelf: Shelf) -> None:
    await shelf.add("a-1", state="unpublished", files=False)
    shelf.put("presentation", "a-1", published=True)
    await shelf.sql(allow_null)
    assert await shelf.run("recordings:update") == Result(0, "", "")
    assert shelf.kept("a-1") == [("presentation", True)]


def allow_null(connection: Any) -> None:
    """As Scalelite's migrations leave `published`, which SQLite can't alter to."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA writable_schema = ON")
        connection.exec_driver_sql(
            "UPDATE sqlite_master SET sql = replace(sql, 'published BOOLEAN DEFAULT 0 NOT NULL', 'published BOOLEAN') "
            "WHERE name = 'recordings'"
        )
        connection.exec_driver_sql("PRAGMA writable_schema = RESET")
    else:
        connection.exec_driver_sql("ALTER TABLE recordings ALTER published DROP NOT NULL")
    connection.execute(update(recordings).values(published=None))


@both
@pytest_twisted.ensureDeferred
async def test_recordings_without_a_tenant_are_linked_to_one(shelf: Shelf, spelling: str) -> None:
    await shelf.balancer.parts.tenants.add("t9", "school", "secret")
    first = await shelf.add("a-1", files=False)
    await shelf.add("b-2", files=False, tenant="t1")
    third = await shelf.add("c-3", files=False, formats=(), state="deleted")
    for _ in range(2):
        result = await shelf.run(*spelled(spelling, "recordings:addToTenant", "t9"))
        assert result == Result(0, "All existing recordings have been successfully linked to tenant t9\n", "")
    rows = await shelf.rows(recording_metadata, "recording_id", "key", "value")
    assert sorted((row[0], row[2]) for row in rows if row[1] == "tenant-id" and row[2] == "t9") == [
        (first, "t9"),
        (third, "t9"),
    ]
    assert ("tenant-id", "t1") in [row[1:] for row in rows]


@pytest_twisted.ensureDeferred
async def test_linking_goes_in_slices_with_a_bar(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalelite.admin.recordings_changes.SLICE", 4)
    for number in range(11):
        await shelf.add(f"a-{number}", files=False)
    await shelf.sql(lambda connection: connection.execute(delete(recordings).where(recordings.c.record_id == "a-5")))
    screen = await on_screen(shelf.desk, ["recordings:addToTenant", "t9"])
    assert screen.bars == ["10/10 recordings looked at", "4/10 recordings looked at", "8/10 recordings looked at"]
    assert screen.rows[-2] == "All existing recordings have been successfully linked to tenant t9"
    assert [row[0] for row in await shelf.rows(recording_metadata, "value")] == ["t9"] * 10


@pytest.mark.parametrize("words", [["recordings:addToTenant"], ["rake", "recordings:addToTenant[]"]])
@pytest_twisted.ensureDeferred
async def test_linking_wants_a_tenant(balancer: Balancer, words: list[str]) -> None:
    assert await Desk.of(balancer).run(*words) == Result(1, "", "No tenant ID was provided\n")


@pytest_twisted.ensureDeferred
async def test_a_tenant_need_not_exist_which_scripts_are_not_told(shelf: Shelf) -> None:
    assert (await shelf.run("rake", "recordings:addToTenant[ghost]")).err == ""
    result = await shelf.run("recordings:addToTenant", "ghost")
    assert (result.status, result.err) == (0, "WARNING: There is no tenant with id=ghost\n")


# Without a database

NEEDS_DATABASE = [
    ["recordings:list"], ["recordings:info", "a"], ["recordings:publish", "a"], ["recordings:unpublish", "a"],
    ["recordings:delete", "a", "--yes"], ["recordings:protect", "a"], ["recordings:unprotect", "a"],
    ["recordings:update"], ["recordings:addToTenant", "t"], ["recordings:failed"], ["recordings:retry", "--all"],
    ["recordings:import", "a"], ["recordings:orphans"], ["recordings:watch"], ["outbox"], ["outbox:retry", "--all"],
    ["outbox:drop", "1", "--yes"], ["db:status"], ["db:upgrade"],
]  # fmt: skip


@pytest.mark.parametrize("words", NEEDS_DATABASE, ids=lambda words: words[0])
@pytest_twisted.ensureDeferred
async def test_without_a_database_its_setting_is_named(balancer: Balancer, words: list[str]) -> None:
    result = await Desk.of(balancer).run(*words)
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "ERROR: There is no database: set DATABASE_URL, as for the service (postgresql://USER:PASSWORD@HOST/DATABASE)\n"
    )


@pytest_twisted.ensureDeferred
async def test_recordings_without_state_or_flags_are_shown_all_the_same(shelf: Shelf) -> None:
    await shelf.add("a-1", state=None, published=False, participants=None, name=None, meeting_id=None)
    result = await shelf.run("recordings:list")
    assert result.out.splitlines()[1].split() == ["a-1", "no", "2021-01-01", "00:00:00Z", "60", "presentation"]
    assert "\tState: none" in (await shelf.run("recordings:info", "a-1")).out.splitlines()
