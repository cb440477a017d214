"""Databases full of recordings, as Scalelite leaves them: its schema, and rows by COPY.

`python -m bench.recordings_data URL COUNT` fills an empty database.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import attrs
import psycopg

#: Recordings of a meeting, and of a course (a metadata key of the front-end).
PER_MEETING = PER_COURSE = 20
PER_TENANT = 5000
THUMBNAILS = 3
#: The first recording's beginning in ms since 1970, and the time between two of them.
FIRST, BETWEEN = 1_600_000_000_000, 97_000

TABLES = """
CREATE TABLE recordings (id bigserial PRIMARY KEY, record_id character varying, meeting_id character varying,
  name character varying, published boolean DEFAULT false NOT NULL, participants integer, state character varying,
  starttime timestamp, endtime timestamp, deleted_at timestamp, publish_updated boolean DEFAULT false NOT NULL,
  protected boolean DEFAULT false NOT NULL);
CREATE TABLE metadata (id bigserial PRIMARY KEY, recording_id bigint, key character varying, value character varying);
CREATE TABLE playback_formats (id bigserial PRIMARY KEY, recording_id bigint, format character varying,
  url character varying, length integer, processing_time integer);
CREATE TABLE thumbnails (id bigserial PRIMARY KEY, playback_format_id bigint, width integer, height integer,
  alt character varying, url character varying, sequence integer);
CREATE TABLE callback_data (id bigserial PRIMARY KEY, meeting_id character varying, recording_id integer,
  callback_attributes text, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE TABLE schema_migrations (version character varying PRIMARY KEY);
CREATE TABLE ar_internal_metadata (key character varying PRIMARY KEY, value character varying,
  created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
INSERT INTO schema_migrations VALUES ('20181123180008'), ('20210425184558'), ('20210630205630'), ('20210725200414'),
  ('20221111194252'), ('20230627141045');
INSERT INTO ar_internal_metadata VALUES ('environment', 'production', now(), now());
"""

INDEXES = """
CREATE UNIQUE INDEX index_recordings_on_record_id ON recordings (record_id);
CREATE INDEX index_recordings_on_meeting_id ON recordings (meeting_id);
CREATE UNIQUE INDEX index_metadata_on_recording_id_and_key ON metadata (recording_id, key);
CREATE UNIQUE INDEX index_playback_formats_on_recording_id_and_format ON playback_formats (recording_id, format);
CREATE INDEX index_thumbnails_on_playback_format_id ON thumbnails (playback_format_id);
"""

SEQUENCES = "".join(
    f"SELECT setval('{table}_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM {table}), false);"
    for table in ("recordings", "metadata", "playback_formats", "thumbnails", "callback_data")
)


@attrs.frozen
class Recording:
    """What a recording is made of; all follows from its number, counted from 0."""

    number: int
    meeting: int
    tenant: int

    @property
    def meeting_id(self) -> str:
        return meeting_id(self.meeting)

    @property
    def began(self) -> int:
        """In ms since 1970."""
        return FIRST + BETWEEN * self.number

    @property
    def record_id(self) -> str:
        return f"{hashlib.sha1(self.meeting_id.encode()).hexdigest()}-{self.began}"


@attrs.frozen
class Layout:
    """How recordings belong to meetings and tenants: `tenants[i]` recordings are of tenant i, in whole meetings.

    Each meeting is held as often as any other, and in turn: what belongs together lies far apart in the tables.
    """

    tenants: tuple[int, ...]

    @classmethod
    def of(cls, count: int) -> Layout:
        """So many recordings, of tenants with 5,000 each (or one with all, if there are fewer)."""
        return cls((PER_TENANT,) * (count // PER_TENANT) or (count,))

    @property
    def count(self) -> int:
        return sum(self.tenants)

    @property
    def owners(self) -> list[int]:
        """The tenant of each meeting."""
        owners = [tenant for tenant, size in enumerate(self.tenants) for _ in range(size // PER_MEETING)]
        random.Random(1).shuffle(owners)
        return owners

    def recordings(self) -> Iterator[Recording]:
        """All, the oldest first."""
        owners = self.owners
        for number in range(self.count):
            meeting = number % len(owners)
            yield Recording(number, meeting, owners[meeting])


def meeting_id(meeting: int) -> str:
    """As front-ends make them."""
    return hashlib.md5(str(meeting).encode(), usedforsecurity=False).hexdigest() + f"-{meeting % 1000}-1"


def course(meeting: int) -> str:
    """The value of a meeting's metadata `course`."""
    return f"course-{meeting:08}"


def tenant_name(tenant: int) -> str:
    """The tenant's name, the first label of its host."""
    return f"tenant-{tenant}"


def tenant_id(tenant: int) -> str:
    """The id by which its recordings belong to it."""
    return f"7e4a{tenant:04x}-0000-4000-8000-00000000{tenant:04x}"


_EPOCH = datetime(1970, 1, 1)


def _recording(row: int, one: Recording) -> str:
    start = _EPOCH + timedelta(milliseconds=one.began)
    end = start + timedelta(minutes=50)
    name = f"Lecture {one.number} of <{one.meeting}>" if one.number % 50 == 0 else f"Lecture {one.number}"
    return f"{row}\t{one.record_id}\t{one.meeting_id}\t{name}\tt\t{one.number % 40}\tpublished\t{start}\t{end}\n"


def _metadata(row: int, one: Recording) -> str:
    number = row * 6 - 5
    return (
        f"{number}\t{row}\tbbb-origin\tMoodle\n"
        f"{number + 1}\t{row}\tbbb-origin-server-name\tmoodle.example.com\n"
        f"{number + 2}\t{row}\tbbb-context\tAn introduction to subject {one.meeting % 977}\n"
        f"{number + 3}\t{row}\tcourse\t{course(one.meeting)}\n"
        f"{number + 4}\t{row}\ttenant-id\t{tenant_id(one.tenant)}\n"
        f"{number + 5}\t{row}\ttenant-name\t{tenant_name(one.tenant)}\n"
    )


def _formats(row: int, one: Recording) -> str:
    number = row * 2 - 1
    text = f"{number}\t{row}\tpresentation\t/playback/presentation/2.3/{one.record_id}\t50\n"
    return text + f"{number + 1}\t{row}\tvideo\t/playback/video/{one.record_id}/\t50\n" if row % 2 else text


def _thumbnails(row: int, one: Recording) -> str:
    number = row * THUMBNAILS - THUMBNAILS
    return "".join(
        f"{number + image}\t{row * 2 - 1}\t176\t136\tSlide {image}\t"
        f"/presentation/{one.record_id}/presentation/d{one.meeting}/thumbnails/thumb-{image}.png\t{image - 1}\n"
        for image in range(1, THUMBNAILS + 1)
    )


_COPIES = (
    ("recordings (id, record_id, meeting_id, name, published, participants, state, starttime, endtime)", _recording),
    ("metadata (id, recording_id, key, value)", _metadata),
    ("playback_formats (id, recording_id, format, url, length)", _formats),
    ("thumbnails (id, playback_format_id, width, height, alt, url, sequence)", _thumbnails),
)
_AT_ONCE = 1000


def fill(url: str, layout: Layout) -> None:
    """Make of an empty database Scalelite's, with these recordings, settled and known to the planner."""
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute(TABLES)
            for table, lines in _COPIES:
                with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    waiting = []
                    for row, one in enumerate(layout.recordings(), 1):
                        waiting.append(lines(row, one))
                        if len(waiting) == _AT_ONCE:
                            copy.write("".join(waiting))
                            waiting.clear()
                    copy.write("".join(waiting))
            connection.execute(SEQUENCES)
            connection.execute(INDEXES)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def main(args: Sequence[str]) -> None:
    url, count = args
    fill(url, Layout.of(int(count)))


if __name__ == "__main__":
    main(sys.argv[1:])
