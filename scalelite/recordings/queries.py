"""The SQL of getRecordings: which recordings match, and their rows.

Statements are text, of few and fixed shapes whatever is asked for: lists travel as one array (PostgreSQL) or as JSON
(SQLite). What callers send is always a parameter, never part of a statement.

Where a page is asked for, a planner would walk through all recordings in their order until the page is full, and be
wrong about how soon. So the narrowest filter is looked up first, as an array, and others are tests of single rows.
"""

# ruff: noqa: S608 - statements are joined from the fixed texts below; what callers send is never part of one

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import orjson

from scalelite.recordings.fetching import Fetch, Row
from scalelite.recordings.selection import TENANT_KEY, MetaFilter, Selection
from scalelite.recordings.tables import INDEXED_TENANT, INDEXED_VALUE

_Test = tuple[str, list[Any]]

#: All recordings.
EVERYTHING: Final = Selection(states=None)

#: Up to so many recordings, metadata filters are looked up before the tenant's recordings are.
NARROW: Final = 1000


@attrs.frozen
class Rows:
    """Recordings in order, and what belongs to them.

    recordings: id, record_id, meeting_id, name, published, protected, state, starttime, endtime, participants.
    metadata: recording_id, key, value.
    formats: recording_id, id, format, url, length, processing_time, and one of its thumbnails: id (None if it has
    none), alt, width, height, url; a format with several is there several times.
    """

    recordings: list[Row]
    metadata: list[Row]
    formats: list[Row]


@attrs.frozen
class Found:
    """Row ids in the order in which they are shown, newest first; `total` of all that match, pages aside."""

    ids: list[int]
    total: int


class RecordingQueries:
    """The statements of one transaction.

    `tenants`: whether the table of tenants' recordings is complete. Where it is, a tenant's are found by it; what they
    really are is looked at in `rows`.
    """

    def __init__(self, fetch: Fetch, *, tenants: bool) -> None:
        self._fetch = fetch
        self._tenants = tenants
        self._sql = _SQLite() if fetch.sqlite else _PostgreSQL()

    def find(self, selection: Selection, *, limit: int | None = None, offset: int = 0) -> Found:
        """What matches: all, or at most `limit` after the first `offset`."""
        source, (where, params) = self._where(selection)
        row_id, order = source.row_id, source.order
        if limit is None:
            rows = self._fetch.rows(f"SELECT {row_id} FROM {source.table} {where} {order}", params)
            return Found([row[0] for row in rows], len(rows))
        page = f"{order} LIMIT {int(limit)} OFFSET {int(offset)}"
        count = (f"SELECT count(*) FROM {source.table} {where}", params)
        if source is not _ALL or attrs.evolve(selection, states=None) == EVERYTHING:
            # What is wanted is found by index, as long as nobody counts the others.
            rows, ((total,),) = self._fetch.all((f"SELECT {row_id} FROM {source.table} {where} {page}", params), count)
            return Found([row[0] for row in rows], total)
        rows = self._fetch.rows(f"SELECT {row_id}, count(*) OVER () FROM {source.table} {where} {page}", params)
        if rows or not offset:
            return Found([row[0] for row in rows], rows[0][1] if rows else 0)
        ((total,),) = self._fetch.rows(*count)
        return Found([], total)

    def rows(self, ids: Sequence[int], selection: Selection = EVERYTHING) -> Rows:
        """The rows of these ids, in their order; of recordings in the selection's states and of its tenant only.

        They are the last ones that are asked for in a transaction.
        """
        if not ids:
            return Rows([], [], [])
        among, listed = self._sql.among("id", ids)
        tests = [(among, listed)]
        if selection.states is not None:
            tests.append(self._sql.one_of("state", selection.states))
        where, params = _all(tests)
        among, listed = self._sql.among("recording_id", ids)
        found, metadata, formats = self._fetch.all(
            (f"{_RECORDINGS} {where}", params),
            (f"{_METADATA} WHERE {among} ORDER BY id", listed),
            (f"{_FORMATS} WHERE f.{among} ORDER BY f.format, f.id, t.sequence NULLS LAST, t.id", listed),
            last=True,
        )
        by_id = {row[0]: row for row in found}
        if selection.tenant_id is not None:
            own = {row[0] for row in metadata if row[1] == TENANT_KEY and row[2] == selection.tenant_id}
            by_id = {row_id: row for row_id, row in by_id.items() if row_id in own}
        return Rows([by_id[row_id] for row_id in ids if row_id in by_id], metadata, formats)

    def _where(self, selection: Selection) -> tuple[_Source, _Test]:
        sql = self._sql
        tests: list[_Test] = []
        leading = selection.record_prefixes is not None or selection.meeting_ids is not None
        if selection.record_prefixes is not None:
            tests.append(sql.begins_with_one_of(selection.record_prefixes))
        if selection.meeting_ids is not None:
            tests.append(sql.one_of("r.meeting_id", selection.meeting_ids))
        if selection.states is not None:
            tests.append(sql.one_of("r.state", selection.states))
        groups = _groups(selection)
        if groups and not leading:
            if selection.tenant_id is None:
                tests.append(sql.having(groups.pop(0)))
            elif (few := self._holders(groups[0])) is not None:
                tests.append(sql.among("r.id", few))
                del groups[0]
                leading = True
        source = _ALL
        if selection.tenant_id is not None:
            if leading:
                tests.append(sql.is_of(selection.tenant_id))
            elif self._tenants:
                source = _OF_TENANTS
                tests.append(sql.one("r.tenant_id", selection.tenant_id))
            else:
                tests.append(sql.all_of(selection.tenant_id))
        tests += [sql.has(group, source.row_id) for group in groups]
        return source, _all(tests)

    def _holders(self, group: Sequence[MetaFilter]) -> list[int] | None:
        """The row ids of all recordings that have that metadata, if they are few."""
        statement, params = self._sql.holders(group)
        rows = self._fetch.rows(f"{statement} LIMIT {NARROW + 1}", params)
        return [row[0] for row in rows] if len(rows) <= NARROW else None


@attrs.frozen
class _Source:
    """Where row ids, with state and time, are found."""

    table: str
    row_id: str

    @property
    def order(self) -> str:
        """Without a second key, recordings that began together could change places from page to page."""
        return f"ORDER BY r.starttime DESC NULLS FIRST, {self.row_id} DESC"


_ALL: Final = _Source("recordings r", "r.id")
_OF_TENANTS: Final = _Source("balancer_tenant_recordings r", "r.recording_id")
_RECORDINGS: Final = (
    "SELECT id, record_id, meeting_id, name, published, protected, state, starttime, endtime, participants "
    "FROM recordings"
)
_METADATA: Final = "SELECT recording_id, key, value FROM metadata"
_FORMATS: Final = (
    "SELECT f.recording_id, f.id, f.format, f.url, f.length, f.processing_time, t.id, t.alt, t.width, t.height, t.url "
    "FROM playback_formats f LEFT JOIN thumbnails t ON t.playback_format_id = f.id"
)


def _all(tests: Sequence[_Test]) -> _Test:
    params = [param for _, params in tests for param in params]
    return (f"WHERE {' AND '.join(test for test, _ in tests)}" if tests else ""), params


def _groups(selection: Selection) -> list[Sequence[MetaFilter]]:
    """Groups of which each must fit, by one of its filters."""
    if selection.meta is None:
        return []
    return [(one,) for one in selection.meta] if selection.all_meta else [selection.meta]


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
    def among(self, column: str, ids: Sequence[int]) -> _Test:
        return f"{column} = ANY(%s::bigint[])", [list(ids)]

    def one_of(self, column: str, values: Sequence[str]) -> _Test:
        return f"{column} = ANY(%s::text[])", [list(values)]

    def one(self, column: str, value: str) -> _Test:
        return f"{column} = %s", [value]

    def begins_with_one_of(self, prefixes: Sequence[str]) -> _Test:
        # These operators compare bytes, whatever the database's collation, and use the index for them.
        test = (
            "r.id = ANY(ARRAY(SELECT p.id FROM unnest(%s::text[], %s::text[]) AS wanted(low, high) "
            "JOIN recordings p ON p.record_id ~>=~ wanted.low AND p.record_id ~<~ wanted.high))"
        )
        return test, [list(prefixes), [after(prefix) for prefix in prefixes]]

    def holders(self, filters: Sequence[MetaFilter]) -> _Test:
        """The row ids of all recordings that have such metadata."""
        pairs = _pairs(filters)
        statement = (
            "SELECT m.recording_id "
            "FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted(key, start, value) "
            f"JOIN metadata m ON m.key = wanted.key AND substr(m.value, 1, {INDEXED_VALUE}) = wanted.start "
            "AND m.value = wanted.value"
        )
        starts = [value[:INDEXED_VALUE] for _, value in pairs]
        return statement, [[key for key, _ in pairs], starts, [value for _, value in pairs]]

    def having(self, filters: Sequence[MetaFilter]) -> _Test:
        """A test for a recording with such metadata, which are looked up first."""
        statement, params = self.holders(filters)
        return f"r.id = ANY(ARRAY({statement}))", params

    def has(self, filters: Sequence[MetaFilter], row_id: str) -> _Test:
        """The same, looked up for each recording. By the OFFSET, the planner leaves it where it is."""
        pairs = _pairs(filters)
        test = (
            "EXISTS (SELECT 1 FROM unnest(%s::text[], %s::text[]) AS wanted(key, value) "
            "JOIN metadata m ON m.key = wanted.key AND m.value = wanted.value "
            f"WHERE m.recording_id = {row_id} OFFSET 0)"
        )
        return test, [[key for key, _ in pairs], [value for _, value in pairs]]

    def all_of(self, tenant_id: str) -> _Test:
        """A test for a recording of that tenant, whose recordings are looked up first."""
        test = (
            "r.id = ANY(ARRAY(SELECT m.recording_id FROM metadata m "
            f"WHERE m.key = '{TENANT_KEY}' AND length(m.value) <= {INDEXED_TENANT} AND m.value = %s))"
        )
        return test, [tenant_id]

    def is_of(self, tenant_id: str) -> _Test:
        """The same, looked up for each recording."""
        return (
            "EXISTS (SELECT 1 FROM metadata m "
            f"WHERE m.recording_id = r.id AND m.key = '{TENANT_KEY}' AND m.value = %s OFFSET 0)"
        ), [tenant_id]


class _SQLite:
    def among(self, column: str, ids: Sequence[int]) -> _Test:
        return f"{column} IN (SELECT value FROM json_each(?))", [_json(list(ids))]

    def one_of(self, column: str, values: Sequence[str]) -> _Test:
        return f"{column} IN (SELECT value FROM json_each(?))", [_json(list(values))]

    def one(self, column: str, value: str) -> _Test:
        return f"{column} = ?", [value]

    def begins_with_one_of(self, prefixes: Sequence[str]) -> _Test:
        # SQLite compares text byte by byte.
        test = (
            "r.id IN (SELECT p.id FROM json_each(?) AS wanted JOIN recordings p "
            "ON p.record_id >= json_extract(wanted.value, '$[0]') AND p.record_id < json_extract(wanted.value, '$[1]'))"
        )
        return test, [_json([(prefix, after(prefix)) for prefix in prefixes])]

    def holders(self, filters: Sequence[MetaFilter]) -> _Test:
        """The row ids of all recordings that have such metadata."""
        statement = (
            "SELECT m.recording_id FROM json_each(?) AS wanted "
            "JOIN metadata m ON m.key = json_extract(wanted.value, '$[0]') "
            f"AND substr(m.value, 1, {INDEXED_VALUE}) = json_extract(wanted.value, '$[1]') "
            "AND m.value = json_extract(wanted.value, '$[2]')"
        )
        return statement, [_json([(key, value[:INDEXED_VALUE], value) for key, value in _pairs(filters)])]

    def having(self, filters: Sequence[MetaFilter]) -> _Test:
        """A test for a recording with such metadata, which are looked up first."""
        statement, params = self.holders(filters)
        return f"r.id IN ({statement})", params

    def has(self, filters: Sequence[MetaFilter], row_id: str) -> _Test:
        """The same, looked up for each recording."""
        test = (
            "EXISTS (SELECT 1 FROM json_each(?) AS wanted JOIN metadata m "
            f"ON m.recording_id = {row_id} AND m.key = json_extract(wanted.value, '$[0]') "
            "AND m.value = json_extract(wanted.value, '$[1]'))"
        )
        return test, [_json(_pairs(filters))]

    def all_of(self, tenant_id: str) -> _Test:
        """A test for a recording of that tenant, whose recordings are looked up first."""
        test = (
            "r.id IN (SELECT m.recording_id FROM metadata m "
            f"WHERE m.key = '{TENANT_KEY}' AND length(m.value) <= {INDEXED_TENANT} AND m.value = ?)"
        )
        return test, [tenant_id]

    def is_of(self, tenant_id: str) -> _Test:
        """The same, looked up for each recording."""
        return (
            f"EXISTS (SELECT 1 FROM metadata m WHERE m.recording_id = r.id AND m.key = '{TENANT_KEY}' AND m.value = ?)"
        ), [tenant_id]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
