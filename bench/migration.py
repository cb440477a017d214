"""Migration of Scalelite's database beside building the same indexes by hand, and whom it keeps waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs
import psycopg
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from bench import recordings_data as data
from bench.postgres import PostgreSQL
from bench.recordings_scene import say, scalelite_database
from bench.report import Figure
from scalelite.recordings.tables import OWN_INDEXES
from scalelite.recordings.upgrade import Upgrade

COUNT, QUICK = 1_000_000, 50_000
TIMES_HAND = 3.0
#: Seconds for which nobody may be kept waiting.
LONGEST = 1.0
#: Seconds between two looks at the locks, and between two transactions of those that use the database meanwhile.
LOOK, USE = 0.02, 0.02

T = TypeVar("T")

#: Locks that keep writers out, on any table of Scalelite's.
LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND c.relname IN ('recordings', 'metadata', 'playback_formats', 'thumbnails', 'callback_data')
AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


class Watch(threading.Thread):
    """Does something again and again, on a connection of its own, until its `with` block ends. Raises what that did."""

    def __init__(self, url: str, act: Callable[[psycopg.Connection[Any]], None], every: float) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._act = act
        self._every = every
        self._over = threading.Event()
        self._fault: Exception | None = None
        #: Seconds that each time took.
        self.times: list[float] = []

    def run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                while not self._over.wait(self._every):
                    started = time.monotonic()
                    self._act(connection)
                    self.times.append(time.monotonic() - started)
        except Exception as fault:  # noqa: BLE001 - it is raised again by the main thread
            self._fault = fault

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        if self._fault is not None:
            raise self._fault


class Locks:
    """How long locks that keep writers out were held, by looking again and again."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}
        self.longest = 0.0
        self.which = "none seen"

    def look(self, connection: psycopg.Connection[Any]) -> None:
        held = set(connection.execute(LOCKS.encode()).fetchall())
        now = time.monotonic()
        self._since = {one: self._since.get(one, now) for one in held}
        for one, since in self._since.items():
            if now - since + LOOK > self.longest:
                self.longest = now - since + LOOK
                self.which = f"{one[1]} on {one[0]}"


class Writer:
    """What an importer of Scalelite's would do meanwhile: a recording with its metadata, and a change of another."""

    def __init__(self) -> None:
        self._number = 0

    def write(self, connection: psycopg.Connection[Any]) -> None:
        self._number += 1
        with connection.transaction():
            (row,) = connection.execute(
                "INSERT INTO recordings (record_id, meeting_id, state, starttime) "
                "VALUES (%s, 'meanwhile', 'published', now()) RETURNING id",
                (f"meanwhile-{self._number}",),
            ).fetchall()
            connection.execute("INSERT INTO metadata (recording_id, key, value) VALUES (%s, 'course', 'x')", row)
            connection.execute("INSERT INTO playback_formats (recording_id, format) VALUES (%s, 'video')", row)
            connection.execute("UPDATE recordings SET published = true WHERE id = %s", (self._number * 7,))


def read(connection: psycopg.Connection[Any]) -> None:
    """What Scalelite would do meanwhile for one meeting."""
    connection.execute("SELECT * FROM recordings WHERE meeting_id = %s", (data.meeting_id(1),)).fetchall()


@attrs.frozen
class Migration:
    """One migration: seconds, and the longest that others had to wait, in seconds."""

    seconds: float
    write: float
    read: float
    lock: float
    which: str
    writes: int


def measure(rounds: int, *, quick: bool = False, kept: Path | None = None) -> Iterator[tuple[str, list[Figure]]]:
    """The table. `kept`: a folder for the databases."""
    layout = data.Layout.of(QUICK if quick else COUNT)
    by_hand: list[float] = []
    ours: list[Migration] = []
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgreSQL(kept))
        original = scalelite_database(postgres, layout)
        for number in range(rounds):
            say(f"indexes by hand, round {number + 1} of {rounds}")
            by_hand.append(_with_copy(postgres, original, _by_hand))
            say(f"migration, round {number + 1} of {rounds}")
            ours.append(_with_copy(postgres, original, _migrate))
    seconds, hand = min(one.seconds for one in ours), min(by_hand)
    lock = max(ours, key=lambda one: one.lock)
    writes = sum(one.writes for one in ours)
    yield (
        f"Migration of a Scalelite database with {layout.count:,} recordings",
        [
            Figure(
                "time / the same indexes built by hand",
                seconds / hand,
                TIMES_HAND,
                note=f"{seconds:.1f} / {hand:.1f} s",
            ),
            Figure("longest lock that keeps writers out", lock.lock, LONGEST, unit="s", note=lock.which),
            Figure(
                "longest wait of a writer meanwhile",
                max(one.write for one in ours),
                LONGEST,
                unit="s",
                note=f"{writes} transactions",
            ),
            Figure("longest wait of a reader meanwhile", max(one.read for one in ours), LONGEST, unit="s"),
        ],
    )


def _with_copy(postgres: PostgreSQL, original: str, work: Callable[[PostgreSQL, str], T]) -> T:
    postgres.create("copy", original)
    try:
        postgres.query("CHECKPOINT")
        return work(postgres, "copy")
    finally:
        postgres.drop("copy")


def _by_hand(postgres: PostgreSQL, database: str) -> float:
    statements = [str(CreateIndex(index).compile(dialect=postgresql.dialect())) for index in OWN_INDEXES]
    with postgres.connect(database) as connection:
        started = time.monotonic()
        for statement in statements:
            connection.execute(statement.encode())
        return time.monotonic() - started


def _migrate(postgres: PostgreSQL, database: str) -> Migration:
    url = postgres.url(database)
    locks = Locks()
    writing = Watch(url, Writer().write, USE)
    reading = Watch(url, read, USE)
    with Watch(url, locks.look, LOOK), writing, reading:
        started = time.monotonic()
        Upgrade(url, timeout=60).run()
        seconds = time.monotonic() - started
    return Migration(seconds, max(writing.times), max(reading.times), locks.longest, locks.which, len(writing.times))
