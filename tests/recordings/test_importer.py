"""Importing one tar: rows, files and notification together, and what a repetition changes. On both databases."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, repeat
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update

from scalelite.cluster.callbacks import MAX_MEETING_ID
from scalelite.recordings import importer as importer_module
from scalelite.recordings.database import DatabaseUnavailable
from scalelite.recordings.importer import Result
from scalelite.recordings.metadata_xml import MAX_KEY, MAX_TENANT_ID
from scalelite.recordings.recording_rows import remember_import
from scalelite.recordings.spool import fingerprint
from scalelite.recordings.storage import StorageError
from scalelite.recordings.tables import (
    callback_data,
    outbox,
    playback_formats,
    recording_metadata,
    recordings,
    text_tracks,
)
from tests.recordings.importing import NOON, Site
from tests.recordings.tars import RECORD, metadata_xml, recording


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    made = Site(tmp_path / "bigbluebutton", database_url)
    yield made
    made.engine.dispose()


def both(**options: str) -> list:
    """A tar of two formats."""
    return recording({name: metadata_xml(name) for name in ("presentation", "video")}, **options)


def test_files_that_are_served_hold_no_secrets(site: Site) -> None:
    document = metadata_xml(meta={"bbb-origin": "Moodle", "secret-lrs-payload": "hush"})
    site.run(recording({"presentation": document}))
    served = (site.root / "published" / "presentation" / RECORD / "metadata.xml").read_bytes()
    assert b"hush" not in served
    assert b"Moodle" in served


def test_a_recording_appears_with_all_its_formats(site: Site) -> None:
    outcome = site.run(
        recording(
            {
                "presentation": metadata_xml(
                    meta={"bbb-origin": "Moodle", "gl-listed": "", "secret-lrs-payload": "hush"},
                    thumbnails=["/presentation/a.png", "/presentation/b.png"],
                ),
                "video": metadata_xml("video", playback={"duration": "60000"}),
            }
        )
    )
    assert (outcome.result, outcome.record_id, outcome.formats) == (
        Result.IMPORTED,
        RECORD,
        ("presentation", "video"),
    )
    row = site.recording
    row.pop("id")
    assert row == {
        "record_id": RECORD,
        "meeting_id": "algebra-1",
        "name": "Algebra",
        "published": True,
        "participants": 3,
        "state": "published",
        "starttime": datetime(2021, 1, 1, 0, 0, 0, 123000),
        "endtime": datetime(2021, 1, 1, 1, 0, 0, 456000),
        "deleted_at": None,
        "publish_updated": False,
        "protected": False,
    }
    assert site.meta == {"bbb-origin": "Moodle", "gl-listed": ""}
    assert {name: (found["url"], found["length"]) for name, found in site.formats.items()} == {
        "presentation": (f"/playback/presentation/2.3/{RECORD}", 60),
        "video": (f"/playback/video/2.3/{RECORD}", 1),
    }
    assert [(image["sequence"], image["url"], image["width"], image["alt"]) for image in site.thumbnails] == [
        (0, "/presentation/a.png", 176, "0"),
        (1, "/presentation/b.png", 176, "1"),
    ]
    assert site.files() == {"published/presentation": "text", "published/video": "text"}
    assert [(notice["kind"], notice["meeting_id"], notice["record_id"]) for notice in site.notices] == [
        ("recording_ready", "algebra-1", RECORD)
    ]
    assert site.left() == []
    assert site.noted == []


def test_importing_again_changes_rows_in_place(site: Site) -> None:
    site.run(recording({"presentation": metadata_xml(thumbnails=["/a.png", "/b.png", "/c.png"], meta={"a": "1"})}))
    before = site.recording, site.formats, site.thumbnails
    site.change(update(recording_metadata).where(recording_metadata.c.key == "a").values(key="set-by-hand"))
    document = metadata_xml(name="Algebra II", thumbnails=["/a.png", "/z.png"], meta={"b": "2"})
    site.run(recording({"presentation": document}, text="new"))
    assert site.recording == {**before[0], "name": "Algebra II"}
    assert site.formats == before[1]
    assert [(image["id"], image["url"]) for image in site.thumbnails] == [
        (before[2][0]["id"], "/a.png"),
        (before[2][1]["id"], "/z.png"),
    ]
    assert site.meta == {"set-by-hand": "1", "b": "2"}
    assert site.files() == {"published/presentation": "new"}
    assert site.left() == []


def test_what_a_later_tar_does_not_say_stays(site: Site) -> None:
    site.run(recording())
    before = site.recording, site.formats
    nothing = dict.fromkeys(("state", "published", "start_time", "end_time", "participants"), " ")
    site.run(recording({"presentation": metadata_xml(fields=nothing, playback={"link": " ", "duration": None})}))
    assert (site.recording, site.formats) == before


def test_a_later_format_joins_the_others(site: Site) -> None:
    site.run(recording({"presentation": metadata_xml()}))
    site.run(recording({"video": metadata_xml("video")}, text="film"))
    assert sorted(site.formats) == ["presentation", "video"]
    assert site.files() == {"published/presentation": "text", "published/video": "film"}


@pytest.mark.parametrize(
    ("published", "state", "rule", "expected"),
    [
        ("true", "published", False, (True, "published")),
        ("true", "available", False, (True, "published")),
        ("false", "unpublished", False, (False, "unpublished")),
        ("false", "published", False, (False, "unpublished")),
        (None, "published", False, (False, "unpublished")),
        ("true", "published", True, (False, "unpublished")),
        ("true", "processed", True, (False, "processed")),
        ("true", None, False, (True, None)),
    ],
)
def test_where_a_new_recording_lands(site: Site, published, state, rule, expected) -> None:
    document = metadata_xml(fields={"published": published, "state": state})
    outcome = site.run(recording({"presentation": document}), unpublished=rule)
    assert outcome.published is expected[0]
    assert (site.recording["published"], site.recording["state"]) == expected
    assert list(site.files()) == ["published/presentation" if expected[0] else "unpublished/presentation"]


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("rule", [True, False])
def test_what_was_published_or_unpublished_by_hand_stays(site: Site, by_hand, rule) -> None:
    site.run(recording())
    state = "published" if by_hand else "unpublished"
    site.change(update(recordings).values(published=by_hand, state=state, publish_updated=True))
    site.storage.publish("presentation", RECORD, published=by_hand)
    document = metadata_xml(fields={"published": str(not by_hand).lower(), "state": "published"})
    site.run(recording({"presentation": document, "video": metadata_xml("video")}), unpublished=rule)
    assert (site.recording["published"], site.recording["state"]) == (by_hand, state)
    assert sorted(site.files()) == [f"{state}/presentation", f"{state}/video"]


def test_formats_that_are_not_in_the_tar_follow_the_others(site: Site) -> None:
    site.run(both())
    document = metadata_xml(fields={"published": "false", "state": "unpublished"})
    site.run(recording({"presentation": document}, text="new"))
    assert site.files() == {"unpublished/presentation": "new", "unpublished/video": "text"}


@pytest.mark.parametrize("rule", [True, False])
def test_new_recordings_are_protected_by_the_rule(site: Site, rule) -> None:
    site.run(recording(), protected=rule)
    assert site.recording["protected"] is rule


@pytest.mark.parametrize("chosen", [True, False])
def test_chosen_protection_stays(site: Site, chosen) -> None:
    site.run(recording())
    site.change(update(recordings).values(protected=chosen))
    site.run(recording(), protected=not chosen)
    assert site.recording["protected"] is chosen


def test_a_deleted_recording_stays_deleted(site: Site) -> None:
    site.run(both())
    site.change(update(recordings).values(state="deleted"))
    for table in (playback_formats, recording_metadata):
        site.change(delete(table))
    site.storage.remove(RECORD)
    before = site.recording, site.notices
    outcome = site.run(both())
    assert outcome.result is Result.DELETED
    assert (site.recording, site.notices) == before
    assert (site.formats, site.files(), site.left()) == ({}, {}, [])


def test_a_deleted_recording_comes_back_by_force(site: Site) -> None:
    site.run(recording())
    site.change(update(recordings).values(state="deleted", published=False, publish_updated=True, deleted_at=NOON))
    site.storage.remove(RECORD)
    outcome = site.run(recording(text="again"), force=True, protected=True)
    assert outcome.result is Result.IMPORTED
    row = site.recording
    assert (row["state"], row["published"], row["publish_updated"]) == ("published", True, False)
    assert (row["deleted_at"], row["protected"]) == (None, True)
    assert site.files() == {"published/presentation": "again"}


def test_null_flags_of_an_old_database_are_read_as_false(site: Site) -> None:
    if site.engine.dialect.name == "sqlite":
        pytest.skip("a column of SQLite can't be made nullable")
    for name in ("published", "protected", "publish_updated"):
        site.change(text(f"ALTER TABLE recordings ALTER {name} DROP NOT NULL"))
    site.add(recordings, record_id=RECORD, published=None, protected=None, publish_updated=None)
    site.run(recording({"presentation": metadata_xml(fields={"published": None})}))
    row = site.recording
    assert (row["published"], row["protected"]) == (False, False)


def test_the_tenant_is_that_of_the_rows_even_if_metadata_xml_has_none(site: Site) -> None:
    site.run(recording({"presentation": metadata_xml(meta={"tenant-id": "t1"})}))
    site.run(recording())
    assert {notice["tenant_id"] for notice in site.notices} == {"t1"}


def test_callback_data_learn_the_row_of_the_recording(site: Site) -> None:
    for meeting_id in ("algebra-1", "biology"):
        site.add(callback_data, meeting_id=meeting_id, created_at=NOON, updated_at=NOON)
    site.run(recording())
    found = {row["meeting_id"]: row["recording_id"] for row in site.rows(callback_data)}
    assert found == {"algebra-1": site.recording["id"], "biology": None}


def test_every_sort_of_text_is_stored_as_it_is(site: Site) -> None:
    text = "Größe 漢字 \U0001f600 '; DROP TABLE recordings; -- % _ \\ \" <&>"
    site.run(recording({"presentation": metadata_xml(meeting_id=text, name=text, meta={"k": text})}))
    assert (site.recording["meeting_id"], site.recording["name"], site.meta) == (text, text, {"k": text})
    assert [notice["meeting_id"] for notice in site.notices] == [text]


def test_the_longest_ids_and_names_fit_into_every_index(site: Site) -> None:
    # Of four bytes each, and nothing that an index could make shorter.
    noise = "".join(chr(0x10000 + number * 7919 % 0xEFFF) for number in range(MAX_KEY))
    meta = {noise: noise, "tenant-id": noise[:MAX_TENANT_ID]}
    site.run(recording({"presentation": metadata_xml(meeting_id=noise[:MAX_MEETING_ID], meta=meta)}))
    assert site.meta == meta
    assert [notice["tenant_id"] for notice in site.notices] == [noise[:MAX_TENANT_ID]]


def test_text_tracks_that_were_uploaded_stay_with_the_player(site: Site) -> None:
    site.run(both())
    track = {"kind": "subtitles", "lang": "de", "label": "Deutsch", "source": "upload", "path": "caption_de.vtt"}
    site.add(text_tracks, recording_id=site.recording["id"], content="WEBVTT\n", created_at=NOON, **track)
    site.run(both(text="new"))
    folder = site.storage.path("presentation", RECORD, published=True)
    assert (folder / "caption_de.vtt").read_text() == "WEBVTT\n"
    assert json.loads((folder / "captions.json").read_bytes()) == [{"locale": "de", "localeName": "Deutsch"}]
    assert site.files()["published/presentation"] == "new"


BROKEN = [
    (metadata_xml("video", "other-1"), f"video/{RECORD}/metadata.xml: its id 'other-1' is not that of its folder"),
    (metadata_xml("notes"), "its playback/format 'notes' is not that of its folder"),
    (metadata_xml("video", fields={"state": "lost"}), "its state 'lost' is unknown"),
    (b"<recording>", "it is not XML"),
    (b"<!DOCTYPE r><recording/>", "it has a document type"),
]


@pytest.mark.parametrize(("document", "reason"), BROKEN)
def test_one_bad_format_fails_the_whole_tar_and_changes_nothing(site: Site, document, reason) -> None:
    site.run(recording(text="old"))
    before = site.recording, site.formats, site.notices
    site.time += 1000
    outcome = site.run(recording({"presentation": metadata_xml(name="new"), "video": document}))
    assert outcome.result is Result.FAILED
    assert reason in (outcome.reason or "")
    assert (site.recording, site.formats, site.notices) == before
    assert site.files() == {"published/presentation": "old"}
    assert site.left() == [f"spool/failed/{RECORD}.json", f"spool/failed/{RECORD}.tar"]
    (failed,) = site.spool.failures.all()
    assert (failed.name, failed.attempts, failed.reason) == (RECORD, 1, outcome.reason)
    assert failed.next_retry_at == outcome.retry_at == site.time + 60


def test_a_tar_under_another_name_is_imported(site: Site) -> None:
    outcome = site.run(recording(), name="copy of Übung (2)")
    assert (outcome.result, outcome.record_id) == (Result.IMPORTED, RECORD)
    assert site.left() == []


def test_a_tar_of_a_recording_that_is_being_imported_is_left_alone(site: Site) -> None:
    lock = site.spool.lock(RECORD)
    assert lock is not None
    outcome = site.run(recording(), name="copy")
    assert outcome.result is Result.TAKEN
    assert site.rows(recordings) == []
    lock.release()
    assert site.importer().run(site.spool.folder / "copy.tar", site.notes).result is Result.IMPORTED


def test_a_tar_that_is_still_being_written_is_left_alone(site: Site) -> None:
    path = site.put(recording())
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    site.time = path.stat().st_mtime + 1
    assert site.importer().run(path, site.notes).result is Result.UNFINISHED
    path.write_bytes(whole)
    assert site.importer().run(path, site.notes).result is Result.IMPORTED


def test_a_tar_that_is_cut_off_fails_after_a_while(site: Site) -> None:
    path = site.put(recording())
    path.write_bytes(path.read_bytes()[:2000])
    site.time = path.stat().st_mtime + 61
    outcome = site.importer().run(path, site.notes)
    assert outcome.result is Result.FAILED
    assert "it is no whole tar" in (outcome.reason or "")


def test_a_tar_that_was_imported_before_a_crash_is_only_removed(site: Site) -> None:
    site.run(recording(text="old"))
    before = site.recording, site.notices
    path = site.put(recording(text="new"))
    with site.engine.begin() as connection:
        remember_import(connection, RECORD, fingerprint(path.lstat()), NOON)
    outcome = site.importer().run(path, site.notes)
    assert (outcome.result, outcome.record_id) == (Result.REPEATED, RECORD)
    assert (site.recording, site.notices, site.files()) == (*before, {"published/presentation": "old"})
    assert (site.left(), site.noted) == ([], [])


def test_a_file_outside_the_spool_is_imported_and_stays(site: Site, tmp_path: Path) -> None:
    path = site.put(recording()).rename(tmp_path / "backup.tar")
    assert site.importer().run(path, site.notes).result is Result.IMPORTED
    assert path.exists()
    assert site.left() == []


def test_failures_of_the_database_are_met_with_patience(site: Site, monkeypatch) -> None:
    transact, failures = importer_module.transact, chain([False, False, True, True, True], repeat(False))

    def failing(engine, work):
        if next(failures):
            raise DatabaseUnavailable("gone")
        return transact(engine, work)

    monkeypatch.setattr(importer_module, "transact", failing)
    assert site.run(recording(), retries=3).result is Result.IMPORTED
    assert site.pauses == [0.5, 1.0, 2.0]
    assert len(site.notices) == 1


def test_a_database_that_stays_away_leaves_the_tar_where_it_is(site: Site, monkeypatch) -> None:
    transact, calls = importer_module.transact, []

    def failing(engine, work):
        calls.append(work)
        if len(calls) > 2:
            raise DatabaseUnavailable("gone")
        return transact(engine, work)

    monkeypatch.setattr(importer_module, "transact", failing)
    with pytest.raises(DatabaseUnavailable):
        site.run(recording(), retries=2)
    assert len(calls) == 5
    assert (site.files(), site.left()) == ({}, [f"spool/{RECORD}.tar"])


@pytest.mark.parametrize("lost", ["before the commit", "after the commit"])
def test_a_lost_answer_to_the_commit_does_not_import_twice(site: Site, monkeypatch, lost) -> None:
    site.run(recording(text="old"))
    transact, calls = importer_module.transact, []

    def failing(engine, work):
        calls.append(work)
        if len(calls) != 3:
            return transact(engine, work)
        if lost == "after the commit":
            transact(engine, work)
            raise DatabaseUnavailable("gone")

        def interrupted(connection):
            work(connection)
            raise DatabaseUnavailable("gone")

        return transact(engine, interrupted)

    monkeypatch.setattr(importer_module, "transact", failing)
    site.change(delete(outbox))
    outcome = site.run(recording(text="new"))
    assert (outcome.result, outcome.published) == (Result.IMPORTED, True)
    assert len(site.notices) == 1
    assert site.files() == {"published/presentation": "new"}
    assert (site.left(), site.noted) == ([], [])


@pytest.mark.parametrize("failing", ["place", "stage"])
def test_files_that_cannot_be_placed_undo_everything(site: Site, monkeypatch, failing) -> None:
    site.run(both(text="old"))
    before = site.recording, site.formats, site.notices
    stage = site.storage.stage

    def refusing(playback_format, record_id, source, *, published):
        staged = stage(playback_format, record_id, source, published=published)
        if playback_format == "video":
            if failing == "stage":
                staged.undo()
                raise StorageError("could not store video: No space left on device")
            monkeypatch.setattr(staged, "place", refuse)
        return staged

    def refuse(*, published):
        raise StorageError("could not put video in place: Permission denied")

    monkeypatch.setattr(site.storage, "stage", refusing)
    document = metadata_xml(name="new", fields={"published": "false"})
    outcome = site.run(recording({"presentation": document, "video": metadata_xml("video")}, text="new"))
    assert outcome.result is Result.FAILED
    assert "could not" in (outcome.reason or "")
    assert (site.recording, site.formats, site.notices) == before
    assert site.files() == {"published/presentation": "old", "published/video": "old"}
    assert site.left() == [f"spool/failed/{RECORD}.json", f"spool/failed/{RECORD}.tar"]


def test_a_full_disk_is_told_and_the_tar_is_tried_again(site: Site, monkeypatch) -> None:
    def write(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scalelite.recordings.extraction.os.write", write)
        outcome = site.run(recording())
    assert (outcome.result, site.rows(recordings)) == (Result.FAILED, [])
    assert "No space left on device" in (outcome.reason or "")
    assert site.spool.waiting() == []
    site.time += 60
    (path,) = site.spool.waiting()
    assert site.importer().run(path, site.notes).result is Result.IMPORTED
    assert site.left() == []
