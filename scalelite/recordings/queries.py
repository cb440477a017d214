"""The SQL of getRecordings: which recordings match, and their rows.

Statements are text, for few and fixed shapes whatever is asked for: lists travel as one array (PostgreSQL) or as JSON
(SQLite). What callers send is always a parameter, never part of a statement.
"""

# ruff: noqa: S608 - statements are joined from the fixed texts below; what callers send is never part of one

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import orjson
from sqlalchemy import Connection

from scalelite.recordings.selection import TENANT_KEY, MetaFilter, Selection
from scalelite.recordings.tables import INDEXED_VALUE

Row = tuple[Any, ...]


@attrs.frozen
class Rows:
    """Recordings in order, and what belongs to them, by the recording's (or format's) row id.

    recordings: id, record_id, meeting_id, name, published, protected, state, starttime, endtime, participants.
    metadata: recording_id, key, value. formats: recording_id, id, format, url, length, processing_time.
    thumbnails: playback_format_id, alt, width, height, url.
    """

    recordings: list[Row]
    metadata: list[Row]
    formats: list[Row]
    thumbnails: list[Row]


class RecordingQueries:
    """The statements of one connection's database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = _SQLite() if connection.dialect.name == "sqlite" else _PostgreSQL()

    def rows(self, selection: Selection, *, limit: int, ids: Sequence[int] | None = None, offset: int = 0) -> Rows:
        """The first `limit` matches after `offset`, newest first; of the row ids `ids` only, if given."""
        where, params = self._where(selection, ids)
        recordings = self._fetch(
            "SELECT r.id, r.record_id, r.meeting_id, r.name, r.published, r.protected, r.state, r.starttime, "
            f"r.endtime, r.participants {where} {_ORDER} {self._limit(limit, offset)}",
            params,
        )
        found = [row[0] for row in recordings]
        if not found:
            return Rows([], [], [], [])
        among, listed = self._dialect.among("recording_id", found)
        metadata = self._fetch(f"SELECT recording_id, key, value FROM metadata WHERE {among} ORDER BY id", listed)
        formats = self._fetch(
            "SELECT recording_id, id, format, url, length, processing_time FROM playback_formats "
            f"WHERE {among} ORDER BY format, id",
            listed,
        )
        thumbnails: list[Row] = []
        if formats:
            among, listed = self._dialect.among("playback_format_id", [row[1] for row in formats])
            thumbnails = self._fetch(
                f"SELECT playback_format_id, alt, width, height, url FROM thumbnails WHERE {among} "
                "ORDER BY sequence NULLS LAST, id",
                listed,
            )
        return Rows(recordings, metadata, formats, thumbnails)

    def ids(self, selection: Selection, *, limit: int | None = None, offset: int = 0) -> list[int]:
        """Row ids of the matches, in the order of `rows`."""
        where, params = self._where(selection, None)
        return [row[0] for row in self._fetch(f"SELECT r.id {where} {_ORDER} {self._limit(limit, offset)}", params)]

    def count(self, selection: Selection) -> int:
        """How many recordings match."""
        where, params = self._where(selection, None)
        total: int = self._fetch(f"SELECT count(*) {where}", params)[0][0]
        return total

    def _where(self, selection: Selection, ids: Sequence[int] | None) -> tuple[str, list[Any]]:
        dialect = self._dialect
        tests: list[str] = []
        params: list[Any] = []

        def add(test: tuple[str, list[Any]]) -> None:
            tests.append(test[0])
            params.extend(test[1])

        if ids is not None:
            add(dialect.among("r.id", ids))
        if selection.record_prefixes is not None:
            add(dialect.begins_with_one_of(selection.record_prefixes))
        if selection.meeting_ids is not None:
            add(dialect.one_of("r.meeting_id", selection.meeting_ids))
        if selection.states is not None:
            add(dialect.one_of("r.state", selection.states))
        if selection.tenant_id is not None:
            add(dialect.has_metadata([MetaFilter((TENANT_KEY,), (selection.tenant_id,))]))
        if selection.meta is not None:
            for filters in [(one,) for one in selection.meta] if selection.all_meta else [selection.meta]:
                add(dialect.has_metadata(filters))
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        return f"FROM recordings r {where}", params

    def _limit(self, limit: int | None, offset: int) -> str:
        if limit is None:
            return ""
        return f"LIMIT {int(limit)} OFFSET {int(offset)}"

    def _fetch(self, statement: str, params: Sequence[Any]) -> list[Row]:
        # The driver's own rows: SQLAlchemy's cost more than the query.
        result = self._connection.exec_driver_sql(statement, tuple(params))
        try:
            cursor: Any = result.cursor
            return list(cursor.fetchall())
        finally:
            result.close()


# Without a second key, recordings that began together could change places from page to page.
_ORDER: Final = "ORDER BY r.starttime DESC NULLS FIRST, r.id DESC"


def after(prefix: str) -> str | None:
    """The least text that is greater than all that begin with `prefix`, by code points; None if there is none."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1])
        if code < 0x10FFFF:
            # Surrogates are no characters.
            return prefix[: end - 1] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


def _pairs(filters: Sequence[MetaFilter]) -> list[tuple[str, str]]:
    return [(key, value) for one in filters for key in one.keys for value in one.values]


class _PostgreSQL:
    def among(self, column: str, ids: Sequence[int]) -> tuple[str, list[Any]]:
        return f"{column} = ANY(%s::bigint[])", [list(ids)]

    def one_of(self, column: str, values: Sequence[str]) -> tuple[str, list[Any]]:
        return f"{column} = ANY(%s::text[])", [list(values)]

    def begins_with_one_of(self, prefixes: Sequence[str]) -> tuple[str, list[Any]]:
        # These operators compare bytes, whatever the database's collation, and use the index for them.
        test = (
            "r.id IN (SELECT p.id FROM unnest(%s::text[], %s::text[]) AS wanted(low, high) "
            "JOIN recordings p ON p.record_id ~>=~ wanted.low AND p.record_id ~<~ wanted.high)"
        )
        return test, [list(prefixes), [after(prefix) for prefix in prefixes]]

    def has_metadata(self, filters: Sequence[MetaFilter]) -> tuple[str, list[Any]]:
        pairs = _pairs(filters)
        if len(pairs) == 1:
            test = (
                "EXISTS (SELECT 1 FROM metadata m WHERE m.recording_id = r.id AND m.key = %s "
                f"AND substr(m.value, 1, {INDEXED_VALUE}) = %s AND m.value = %s)"
            )
            ((key, value),) = pairs
            return test, [key, value[:INDEXED_VALUE], value]
        test = (
            "r.id IN (SELECT m.recording_id "
            "FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted(key, start, value) "
            f"JOIN metadata m ON m.key = wanted.key AND substr(m.value, 1, {INDEXED_VALUE}) = wanted.start "
            "AND m.value = wanted.value)"
        )
        return test, [
            [key for key, _ in pairs], [value[:INDEXED_VALUE] for _, value in pairs], [value for _, value in pairs]
        ]  # fmt: skip


class _SQLite:
    def among(self, column: str, ids: Sequence[int]) -> tuple[str, list[Any]]:
        return f"{column} IN (SELECT value FROM json_each(?))", [_json(list(ids))]

    def one_of(self, column: str, values: Sequence[str]) -> tuple[str, list[Any]]:
        return f"{column} IN (SELECT value FROM json_each(?))", [_json(list(values))]

    def begins_with_one_of(self, prefixes: Sequence[str]) -> tuple[str, list[Any]]:
        # SQLite compares text byte by byte.
        test = (
            "r.id IN (SELECT p.id FROM json_each(?) AS wanted JOIN recordings p "
            "ON p.record_id >= json_extract(wanted.value, '$[0]') AND p.record_id < json_extract(wanted.value, '$[1]'))"
        )
        return test, [_json([(prefix, after(prefix)) for prefix in prefixes])]

    def has_metadata(self, filters: Sequence[MetaFilter]) -> tuple[str, list[Any]]:
        test = (
            "r.id IN (SELECT m.recording_id FROM json_each(?) AS wanted "
            "JOIN metadata m ON m.key = json_extract(wanted.value, '$[0]') "
            f"AND substr(m.value, 1, {INDEXED_VALUE}) = json_extract(wanted.value, '$[1]') "
            "AND m.value = json_extract(wanted.value, '$[2]'))"
        )
        return test, [_json([(key, value[:INDEXED_VALUE], value) for key, value in _pairs(filters)])]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
