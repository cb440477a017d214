"""The outbox: notices to front-ends in SQL until they are delivered. Plain functions over a connection.

Times are UTC without a zone. A claimed row stays in the table, and is due again once its claim has run out: what a
crash interrupts is delivered again. What came of a claim is recorded only while `attempts` is what the claim made it,
so that an event that comes in meanwhile is not lost with the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from sqlalchemy import Connection, Row, and_, delete, exists, func, select, update

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.recordings.sql import bulk, upsert
from scalelite.recordings.tables import callbacks, outbox

WAITING: Final = "waiting"
DEAD: Final = "dead"

CLAIM: Final = timedelta(seconds=60)
"""How long a claimed notice is left alone; longer than an attempt may take."""

CANDIDATES: Final = 200
"""How many due rows a claim looks at."""

DEAD_KEPT: Final = timedelta(days=14)


@attrs.frozen
class Claimed:
    """A notice to be delivered now. `attempts`: how many there were, this one included."""

    id: int
    attempts: int
    created_at: datetime
    target: str
    notice: Notice


@attrs.frozen
class OutboxEntry:
    """A notice as an operator sees it. `target`: host and port, "" where the URL is not looked up yet."""

    id: int
    kind: str
    tenant_id: str
    meeting_id: str
    record_id: str | None
    target: str
    #: The path of the URL, without its query, which may hold secrets.
    path: str
    state: str
    attempts: int
    last_error: str | None
    created_at: datetime
    next_attempt_at: datetime


def enqueue(connection: Connection, notice: Notice, now: datetime) -> None:
    """Put a notice into the outbox; one that waits there already, or is dead, starts anew."""
    fresh = {
        "url": notice.url,
        "target": target_of(notice.url),
        "state": WAITING,
        "attempts": 0,
        "last_error": None,
        "created_at": now,
        "next_attempt_at": now,
    }
    statement = upsert(connection, outbox).values(
        kind=notice.kind.value,
        tenant_id=notice.tenant_id,
        meeting_id=notice.meeting_id,
        record_id=notice.record_id,
        payload=notice.payload,
        event_key=notice.key,
        **fresh,
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["event_key"], set_=fresh))


def enqueue_recording_ready(
    connection: Connection, *, meeting_id: str, tenant_id: str, record_id: str, now: datetime
) -> None:
    """Have the front-end told that a recording is ready, if it asked for that at create.

    Within the transaction that imports the recording, so that neither is there without the other. `tenant_id` is
    the recording's, "" without one; `now` is UTC without a zone.
    """
    row = connection.execute(
        select(callbacks.c.recording_ready_url).where(
            callbacks.c.meeting_id == meeting_id, callbacks.c.tenant_id == tenant_id
        )
    ).first()
    # Where SQL has none, Redis may (the database was down at create), or Scalelite's table: the delivery looks there.
    url = (row.recording_ready_url if row else None) or ""
    enqueue(connection, Notice(Kind.RECORDING_READY, tenant_id, meeting_id, url, record_id=record_id), now)


def target_of(url: str) -> str:
    """Host and port of a URL, by which targets are told apart; "" for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.hostname}:{port}"[:300] if parts.hostname else ""
    except ValueError:
        return ""


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether there is anything to be claimed, unless its target has no room."""
    due = select(outbox.c.id).where(outbox.c.state == WAITING, outbox.c.next_attempt_at <= now).limit(1)
    return connection.execute(due).first() is not None


def claim(
    connection: Connection, now: datetime, *, limit: int, room: Mapping[str, int], default_room: int
) -> list[Claimed]:
    """Up to `limit` notices that are due, marked so that no other process takes them until the claim runs out.

    No more of each target than it has `room`. Of a meeting's notices to one target, the first one only.
    """
    earlier = outbox.alias("earlier")
    blocked = exists().where(
        earlier.c.meeting_id == outbox.c.meeting_id,
        earlier.c.tenant_id == outbox.c.tenant_id,
        earlier.c.target == outbox.c.target,
        earlier.c.state == WAITING,
        earlier.c.id < outbox.c.id,
    )
    query = select(outbox).where(outbox.c.state == WAITING, outbox.c.next_attempt_at <= now, ~blocked)
    full = [target for target, places in room.items() if places <= 0]
    if full:
        query = query.where(outbox.c.target.not_in(full))
    # SQLite has one writer at a time and knows no locks on rows; SQLAlchemy leaves the clause out there.
    query = query.order_by(outbox.c.next_attempt_at, outbox.c.id).limit(CANDIDATES).with_for_update(skip_locked=True)
    taken: list[Row[Any]] = []
    used: Counter[str] = Counter()
    for row in connection.execute(query):
        if len(taken) < limit and used[row.target] < room.get(row.target, default_room):
            used[row.target] += 1
            taken.append(row)
    if taken:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([row.id for row in taken]))
            .values(attempts=outbox.c.attempts + 1, next_attempt_at=now + CLAIM)
        )
    return [_claimed(row) for row in taken]


def _claimed(row: Row[Any]) -> Claimed:
    notice = Notice(Kind(row.kind), row.tenant_id, row.meeting_id, row.url, row.payload, row.record_id)
    return Claimed(row.id, row.attempts + 1, row.created_at, row.target, notice)


def remove(connection: Connection, claimed: Claimed) -> None:
    """It is delivered, or there is nobody to tell."""
    connection.execute(delete(outbox).where(_unchanged(claimed)))


def postpone(connection: Connection, claimed: Claimed, error: str, until: datetime) -> None:
    """It was not delivered; the next attempt is at `until`."""
    connection.execute(update(outbox).where(_unchanged(claimed)).values(last_error=error, next_attempt_at=until))


def bury(connection: Connection, claimed: Claimed, error: str, now: datetime) -> None:
    """It will not be delivered; it is kept for an operator."""
    connection.execute(
        update(outbox).where(_unchanged(claimed)).values(state=DEAD, last_error=error, next_attempt_at=now)
    )


def resolve(connection: Connection, claimed: Claimed, url: str, now: datetime) -> None:
    """Its URL is known by now: it is due, and has not been tried yet."""
    connection.execute(
        update(outbox)
        .where(_unchanged(claimed))
        .values(url=url, target=target_of(url), attempts=0, next_attempt_at=now)
    )


def bury_target(connection: Connection, target: str, created_before: datetime, now: datetime, limit: int) -> int:
    """Give up what has waited too long for a target that does not answer. How many, `limit` at most."""
    overdue = (
        select(outbox.c.id)
        .where(outbox.c.state == WAITING, outbox.c.target == target)
        .where(outbox.c.created_at < created_before, outbox.c.next_attempt_at <= now)
        .limit(limit)
    )
    return bulk(
        connection,
        update(outbox)
        .where(outbox.c.id.in_(overdue))
        .values(state=DEAD, last_error="its target did not answer for a day", next_attempt_at=now),
    )


def purge(connection: Connection, now: datetime, limit: int) -> int:
    """Remove dead letters older than two weeks. How many, `limit` at most."""
    old = select(outbox.c.id).where(outbox.c.state == DEAD, outbox.c.next_attempt_at < now - DEAD_KEPT).limit(limit)
    return bulk(connection, delete(outbox).where(outbox.c.id.in_(old)))


def list_outbox(connection: Connection, *, state: str | None = None, limit: int = 100) -> list[OutboxEntry]:
    """What waits or is dead (`state`: WAITING or DEAD, both if None), oldest first."""
    query = select(outbox).order_by(outbox.c.id).limit(limit)
    if state is not None:
        query = query.where(outbox.c.state == state)
    return [
        OutboxEntry(
            row.id, row.kind, row.tenant_id, row.meeting_id, row.record_id, row.target, _path(row.url), row.state,
            row.attempts, row.last_error, row.created_at, row.next_attempt_at,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def count_outbox(connection: Connection) -> dict[str, int]:
    """How many notices are WAITING, and how many DEAD."""
    counts = dict.fromkeys((WAITING, DEAD), 0)
    for state, count in connection.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state)):
        counts[state] = count
    return counts


def retry(connection: Connection, ids: Sequence[int] | None, now: datetime) -> int:
    """Have notices tried again now, for another day: those of `ids`, or all dead ones if None. How many."""
    chosen = outbox.c.state == DEAD if ids is None else outbox.c.id.in_(ids)
    return bulk(
        connection,
        update(outbox).where(chosen).values(state=WAITING, attempts=0, created_at=now, next_attempt_at=now),
    )


def drop(connection: Connection, ids: Sequence[int]) -> int:
    """Remove notices, dead or waiting. How many."""
    return bulk(connection, delete(outbox).where(outbox.c.id.in_(ids)))


def _unchanged(claimed: Claimed) -> Any:
    return and_(outbox.c.id == claimed.id, outbox.c.attempts == claimed.attempts, outbox.c.state == WAITING)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
