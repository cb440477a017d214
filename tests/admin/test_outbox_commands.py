"""The outbox by command: what waits, what was given up, trying again, dropping."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import insert

from scalelite.recordings.tables import outbox
from tests.admin.desk import Desk, Result
from tests.admin.recordings_desk import Shelf, shelf
from tests.balancer import Balancer

__all__ = ["shelf"]

NOON = datetime(2026, 11, 1, 12)


async def put(shelf: Shelf, *rows: dict[str, Any]) -> None:
    """Notices with the ids 1, 2 and so on."""
    usual = {
        "kind": "recording_ready", "tenant_id": "", "meeting_id": "algebra", "record_id": "a-1",
        "url": "https://lms.example.com/ready?key=secret", "target": "lms.example.com:443", "payload": "",
        "state": "waiting", "attempts": 0, "last_error": None, "created_at": NOON, "next_attempt_at": NOON,
    }  # fmt: skip
    await shelf.sql(lambda connection: connection.execute(insert(outbox), [usual | row for row in rows]))


DEAD = {"state": "dead", "attempts": 30, "last_error": "status\x1b 500"}


@pytest_twisted.ensureDeferred
async def test_what_waits_and_what_was_given_up_is_listed(shelf: Shelf) -> None:
    assert await shelf.run("outbox") == Result(0, "", "No notice waits\n")
    await put(shelf, {}, {"kind": "analytics", "target": "", **DEAD})
    result = await shelf.run("outbox")
    assert (result.status, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()[1:]] == [
        ["1", "recording_ready", "algebra", "lms.example.com:443", "waiting", "0", "2026-11-01", "12:00:00Z"],
        ["2", "analytics", "algebra", "yet", "to", "be", "looked", "up", "dead", "30", "status\\x1b", "500"],
    ]
    assert "secret" not in result.out


@pytest_twisted.ensureDeferred
async def test_the_dead_ones_alone(shelf: Shelf) -> None:
    assert await shelf.run("outbox", "--dead") == Result(0, "", "No notice was given up\n")
    await put(shelf, {}, DEAD, DEAD)
    rows = json.loads((await shelf.run("outbox", "--dead", "--json", "--limit", "1")).out)
    assert [row["id"] for row in rows] == [2]
    assert rows[0] == {
        "id": 2, "kind": "recording_ready", "tenant_id": "", "meeting_id": "algebra", "record_id": "a-1",
        "target": "lms.example.com:443", "path": "/ready", "state": "dead", "attempts": 30,
        "last_error": "status\x1b 500", "created": "2026-11-01T12:00:00.000Z",
        "next_attempt": "2026-11-01T12:00:00.000Z",
    }  # fmt: skip
    result = await shelf.run("outbox", "--dead", "--limit=1")
    assert result.err == "There are more than 1 notice: --limit shows more of them\n"


@pytest.mark.parametrize(
    ("words", "again"),
    [(["2"], {2}), (["1", "3"], {1, 3}), (["1:3"], {1, 3}), (["--all"], {2, 3})],
)
@pytest_twisted.ensureDeferred
async def test_notices_are_tried_again_for_another_day(shelf: Shelf, words: list[str], again: set[int]) -> None:
    await put(shelf, {"attempts": 7}, DEAD, DEAD)
    result = await shelf.run("outbox:retry", *words)
    number = "1 notice" if len(again) == 1 else f"{len(again)} notices"
    assert result == Result(0, f"{number} will be tried again\nOK\n", "")
    rows = await shelf.rows(outbox, "id", "state", "attempts", "created_at")
    assert {row[0] for row in rows if row[1:3] == ("waiting", 0)} == again
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(now - row[3] < timedelta(minutes=10) for row in rows if row[0] in again)


@pytest.mark.parametrize("name", ["outbox:retry", "outbox:drop"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Name the notices by their ids, as outbox shows them, or say --all"),
        (["1", "--all"], "Name the notices by their ids, as outbox shows them, or say --all"),
        (["one"], "The id of a notice is a number, not 'one'"),
        (["9" * 19], f"The id of a notice is a number, not '{'9' * 19}'"),
        (["²"], "The id of a notice is a number, not '²'"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_notices_must_be_named_by_number(balancer: Balancer, name: str, words: list[str], text: str) -> None:
    assert await Desk.of(balancer).run(name, *words) == Result(1, "", f"ERROR: {text}\n")


@pytest.mark.parametrize("words", [["outbox:retry", "1", "8"], ["outbox:drop", "1", "8", "--yes"]])
@pytest_twisted.ensureDeferred
async def test_a_notice_that_is_not_there_is_told(shelf: Shelf, words: list[str]) -> None:
    await put(shelf, DEAD)
    result = await shelf.run(*words)
    assert result == Result(1, "", "ERROR: 1 notice of 2 could not be found; the others are done\n")


@pytest_twisted.ensureDeferred
async def test_dropping_asks_and_forgets(shelf: Shelf) -> None:
    await put(shelf, {}, DEAD, DEAD)
    question = (
        "WARNING: You are trying to drop 2 notices. Front-ends will never be told.\n"
        "If you still wish to continue please enter `yes`\n"
    )
    refused = await shelf.run("outbox:drop", "--all", answers=("no",), terminal=True)
    assert refused == Result(1, f"{question}Aborted\n", "")
    agreed = await shelf.run("outbox:drop", "--all", answers=("yes",), terminal=True)
    assert agreed == Result(0, f"{question}2 notices dropped\nOK\n", "")
    assert await shelf.rows(outbox, "id", "state") == [(1, "waiting")]
    assert (await shelf.run("rake", "outbox:drop[1]", "--yes")).out == "1 notice dropped\nOK\n"
    assert await shelf.rows(outbox, "id") == []
