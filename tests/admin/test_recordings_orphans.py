"""recordings:orphans: each thing that it finds, what --fix makes of it, and that it only reads without."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, delete, insert

from scalelite.recordings.tables import recordings, text_tracks
from tests.admin.desk import Result
from tests.admin.recordings_desk import Shelf, shelf

__all__ = ["shelf"]


def add_track(connection: Connection, row_id: int) -> None:
    connection.execute(
        insert(text_tracks).values(
            recording_id=row_id, kind="captions", lang="de", label="Deutsch", source="upload", path="caption_de.vtt",
            content="WEBVTT\n\nhallo\n", created_at=datetime(2024, 1, 1),
        )
    )  # fmt: skip


async def forget(shelf: Shelf, record_id: str) -> None:
    await shelf.sql(
        lambda connection: connection.execute(delete(recordings).where(recordings.c.record_id == record_id))
    )


async def sound(shelf: Shelf) -> None:
    """Recordings with which nothing is wrong."""
    row_id = await shelf.add("good-1", formats=("presentation", "video"))
    await shelf.sql(partial(add_track, row_id=row_id))
    (shelf.root / "published/presentation/good-1/caption_de.vtt").write_text("WEBVTT\n")
    await shelf.add("good-2", state="unpublished")
    await shelf.add("gone-3", formats=(), state="deleted")


def files(shelf: Shelf) -> list[str]:
    return sorted(str(path.relative_to(shelf.root)) for path in shelf.root.rglob("*") if path.is_file())


@pytest_twisted.ensureDeferred
async def test_where_all_fits_that_is_said(shelf: Shelf) -> None:
    await sound(shelf)
    assert await shelf.run("recordings:orphans") == Result(0, "Nothing is wrong: 3 recordings, 3 folders\n", "")
    assert await shelf.run("recordings:orphans", "--json") == Result(0, "[]\n", "")
    assert (await shelf.run("recordings:orphans", "--fix")).status == 0


async def wrong_side(shelf: Shelf) -> None:
    await shelf.add("a-1", state="unpublished", files=False)
    shelf.put("presentation", "a-1", published=True)


async def split(shelf: Shelf) -> None:
    await shelf.add("a-1", formats=("presentation", "video"))
    shelf.take_away("video", "a-1")
    shelf.put("video", "a-1", published=False)


async def both_sides(shelf: Shelf) -> None:
    await shelf.add("a-1")
    shelf.put("presentation", "a-1", published=False)


async def left_by_deletion(shelf: Shelf) -> None:
    await shelf.add("a-1", formats=(), state="deleted")
    shelf.put("presentation", "a-1", published=False)
    shelf.put("video", "a-1", published=False)


async def uncaptioned(shelf: Shelf) -> None:
    row_id = await shelf.add("a-1")
    await shelf.sql(partial(add_track, row_id=row_id))


async def lost_track(shelf: Shelf) -> None:
    await shelf.sql(partial(add_track, row_id=999))


MENDED: list[tuple[Any, str, list[str]]] = [
    (
        wrong_side,
        "a-1 is unpublished, and its files of presentation are published; --fix moves them",
        ["unpublished/presentation/a-1/metadata.xml"],
    ),
    (
        split,
        "a-1 is published, and its files of video are unpublished; --fix moves them",
        ["published/presentation/a-1/metadata.xml", "published/video/a-1/metadata.xml"],
    ),
    (
        both_sides,
        "a-1 is published, and has files of presentation on both sides; --fix removes the unpublished ones",
        ["published/presentation/a-1/metadata.xml"],
    ),
    (left_by_deletion, "a-1 is deleted, and has files; --fix removes the files", []),
    (
        uncaptioned,
        "a-1 has a text track in de, and no file of it; --fix writes it again",
        [f"published/presentation/a-1/{name}" for name in ("caption_de.vtt", "captions.json", "metadata.xml")],
    ),
    (lost_track, "999 is the number of a recording that is gone, and has text tracks; --fix removes them", []),
]


@pytest.mark.parametrize(("damage", "line", "left"), MENDED, ids=lambda value: getattr(value, "__name__", ""))
@pytest_twisted.ensureDeferred
async def test_what_is_safe_is_mended_when_agreed_to(shelf: Shelf, damage: Any, line: str, left: list[str]) -> None:
    await damage(shelf)
    before = files(shelf)
    assert await shelf.run("recordings:orphans") == Result(1, f"{line}\n", "")
    assert (await shelf.run("recordings:orphans", "--fix")).status == 2
    refused = await shelf.run("recordings:orphans", "--fix", answers=("no",), terminal=True)
    assert refused.out.startswith(f"{line}\nWARNING: You are trying to mend 1 thing, as shown.\n")
    assert files(shelf) == before
    fixed = await shelf.run("recordings:orphans", "--fix", "--yes")
    assert (fixed.status, fixed.err) == (0, "")
    assert fixed.out.splitlines()[-1] == f"{line.partition(';')[0]}: fixed"
    assert [name for name in files(shelf) if not name.startswith("spool/")] == left
    assert (await shelf.run("recordings:orphans")).status == 0


async def without_files(shelf: Shelf) -> None:
    await shelf.add("a-1", formats=("presentation", "video"))
    shelf.take_away("video", "a-1")


async def without_row(shelf: Shelf) -> None:
    await shelf.add("a-1")
    await forget(shelf, "a-1")


async def without_format(shelf: Shelf) -> None:
    await shelf.add("a-1")
    shelf.put("notes", "a-1", published=True)


LEFT: list[tuple[Any, str]] = [
    (without_files, "a-1 has no files of video"),
    (without_row, "a-1 has published files of presentation, and no row"),
    (without_format, "a-1 has files of notes, and no row of that format"),
]


@pytest.mark.parametrize(("damage", "line"), LEFT, ids=lambda value: getattr(value, "__name__", ""))
@pytest_twisted.ensureDeferred
async def test_what_only_an_operator_can_decide_is_left(shelf: Shelf, damage: Any, line: str) -> None:
    await damage(shelf)
    before = files(shelf)
    assert await shelf.run("recordings:orphans", "--fix", "--yes") == Result(1, f"{line}\n", "")
    assert files(shelf) == before
    assert len(await shelf.rows(recordings, "id")) == (0 if damage is without_row else 1)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_not_mounted_is_suspected(shelf: Shelf) -> None:
    await shelf.add("a-1", files=False)
    result = await shelf.run("recordings:orphans", "--fix", "--yes")
    assert result == Result(
        1,
        "a-1 has no files of presentation\n",
        "WARNING: There are no files at all: is the disk of the recordings mounted?\n",
    )


@pytest_twisted.ensureDeferred
async def test_json_tells_what_was_mended(shelf: Shelf) -> None:
    await wrong_side(shelf)
    await shelf.add("b-2", files=False)
    result = await shelf.run("recordings:orphans", "--fix", "--yes", "--json")
    assert result.status == 1
    assert json.loads(result.out) == [
        {
            "kind": "wrong_side",
            "record_id": "a-1",
            "format": "presentation",
            "problem": "is unpublished, and its files of presentation are published",
            "fix": "moves them",
            "fixed": True,
        },
        {
            "kind": "no_files",
            "record_id": "b-2",
            "format": "presentation",
            "problem": "has no files of presentation",
            "fix": None,
            "fixed": False,
        },
    ]


@pytest_twisted.ensureDeferred
async def test_all_slices_are_looked_at(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalelite.recordings.orphans.SLICE", 2)
    for number in range(5):
        await shelf.add(f"a-{number}")
    shelf.take_away("presentation", "a-4")
    shelf.put("presentation", "stray-9", published=False)
    assert (await shelf.run("recordings:orphans")).out.splitlines() == [
        "a-4 has no files of presentation",
        "stray-9 has unpublished files of presentation, and no row",
    ]


@pytest_twisted.ensureDeferred
async def test_names_that_no_recording_could_have_are_not_followed(shelf: Shelf) -> None:
    await shelf.add("../../etc", files=False)
    (shelf.root / "published/presentation/lost+found").mkdir(parents=True)
    result = await shelf.run("recordings:orphans", "--fix", "--yes")
    assert (result.status, result.out) == (1, "../../etc has an id that no folder can have\n")
    assert result.err.startswith("WARNING: There are no files at all")


@pytest_twisted.ensureDeferred
async def test_looking_is_not_in_the_audit_log_and_mending_is(shelf: Shelf) -> None:
    await wrong_side(shelf)
    await shelf.run("recordings:orphans")
    await shelf.run("recordings:orphans", "--fix", "--yes")
    rows = json.loads((await shelf.run("audit", "--json")).out)
    assert [(row["command"], row["target"]) for row in rows] == [("recordings:orphans", "--fix --yes")]
