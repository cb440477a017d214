"""`python -m bench.raw_rows URL`: fetches recordings' rows by psycopg alone, and does nothing with them.

The least that getRecordings could cost: the statements one would write by hand, on one connection that prepares them.
Reads lines of JSON, [case, parameters, seconds], and answers each with what the fetches cost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import psycopg

_COLUMNS = (
    "r.id, r.record_id, r.meeting_id, r.name, r.published, r.protected, r.state, r.starttime, r.endtime, r.participants"
)
_STATES = "r.state IN ('published', 'unpublished')"
_ORDER = "ORDER BY r.starttime DESC, r.id DESC"
#: Each is asked with the tenant's id as well: what it finds must be that tenant's.
_TENANT = (
    "EXISTS (SELECT 1 FROM metadata t WHERE t.recording_id = r.id AND t.key = 'tenant-id' AND t.value = %(tenant)s)"
)
CASES = {
    "meetingID": f"SELECT {_COLUMNS} FROM recordings r WHERE r.meeting_id = %(value)s AND {_STATES} "
    f"AND {_TENANT} {_ORDER}",
    "recordID": f"SELECT {_COLUMNS} FROM recordings r WHERE r.record_id = ANY(%(value)s::text[]) AND {_STATES} "
    f"AND {_TENANT} {_ORDER}",
    "meta": f"SELECT {_COLUMNS} FROM metadata c JOIN recordings r ON r.id = c.recording_id "
    f"WHERE c.key = 'course' AND c.value = %(value)s AND substr(c.value, 1, 64) = %(value)s "
    f"AND {_STATES} AND {_TENANT} {_ORDER}",
    # Without the total, which the call counts besides.
    "page": f"SELECT {_COLUMNS} FROM (SELECT recording_id FROM balancer_tenant_recordings "
    "WHERE tenant_id = %(tenant)s AND state IN ('published', 'unpublished') "
    "ORDER BY starttime DESC, recording_id DESC LIMIT 100) AS shown "
    f"JOIN recordings r ON r.id = shown.recording_id {_ORDER}",
}
_BELONGING = (
    "SELECT recording_id, key, value FROM metadata WHERE recording_id = ANY(%s)",
    "SELECT id, recording_id, format, url, length, processing_time FROM playback_formats WHERE recording_id = ANY(%s)",
)
_THUMBNAILS = (
    "SELECT playback_format_id, alt, width, height, url FROM thumbnails WHERE playback_format_id = ANY(%s) "
    "ORDER BY sequence"
)


def fetch(connection: psycopg.Connection[Any], case: str, params: dict[str, Any]) -> int:
    """All rows of the recordings that a call shows; how many recordings."""
    with connection.transaction(), connection.cursor() as cursor:
        recordings = cursor.execute(CASES[case].encode(), params).fetchall()
        ids = [row[0] for row in recordings]
        cursor.execute(_BELONGING[0], (ids,)).fetchall()
        formats = cursor.execute(_BELONGING[1], (ids,)).fetchall()
        cursor.execute(_THUMBNAILS, ([row[0] for row in formats],)).fetchall()
    return len(recordings)


def repeat(connection: psycopg.Connection[Any], case: str, params: Sequence[dict[str, Any]], seconds: float) -> Any:
    """Fetch for that long, with one after another of `params`: times, recordings each time, and CPU seconds."""
    walls: list[float] = []
    found = 0
    cpu = time.process_time()
    limit = time.perf_counter() + seconds
    while (started := time.perf_counter()) < limit or not walls:
        found += fetch(connection, case, params[len(walls) % len(params)])
        walls.append(time.perf_counter() - started)
    cpu = time.process_time() - cpu
    walls.sort()
    return {"count": len(walls), "found": found / len(walls), "cpu": cpu, "p50": walls[len(walls) // 2]}


def main() -> None:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        connection.execute("SET jit = off")
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(repeat(connection, *json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
