"""What the comparisons of getRecordings need: PostgreSQL with recordings, and a balancer over them for all tenants."""

from __future__ import annotations

import http.client
import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from bench import recordings_data as data
from bench.load import asked_of, signed, taken_apart
from bench.postgres import PostgreSQL
from bench.processes import SERVER_CORE, Balancer, BenchError, Process, Redis, Simulator, environment, host_of, python
from bench.seed import seed
from scalelite.recordings.upgrade import Upgrade

#: Different calls of each kind that are asked in turn.
VARIANTS = 200
#: Record ids in a list, and recordings on a page.
LISTED, PAGE = 50, 100


def say(text: str) -> None:
    """Tell of a step that takes its time."""
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}] {text}", flush=True)


def scalelite_database(postgres: PostgreSQL, layout: data.Layout) -> str:
    """The name of a database as Scalelite leaves it; made unless it is there."""
    name = f"scalelite-{layout.count}"
    if not postgres.has(name):
        say(f"filling a database with {layout.count:,} recordings")
        postgres.create(f"{name}-unfinished")
        data.fill(postgres.url(f"{name}-unfinished"), layout)
        postgres.query(f'ALTER DATABASE "{name}-unfinished" RENAME TO "{name}"')
    return name


def adopted_database(postgres: PostgreSQL, layout: data.Layout) -> str:
    """The name of the same database after its migration; made unless it is there.

    One that was kept by an earlier version is brought to the present one.
    """
    name = f"adopted-{layout.count}"
    if postgres.has(name):
        Upgrade(postgres.url(name), timeout=60).run()
    else:
        postgres.create(f"{name}-unfinished", scalelite_database(postgres, layout))
        say(f"migrating {layout.count:,} recordings")
        Upgrade(postgres.url(f"{name}-unfinished"), timeout=60).run()
        postgres.query("VACUUM", database=f"{name}-unfinished")
        postgres.query("CHECKPOINT")
        postgres.query(f'ALTER DATABASE "{name}-unfinished" RENAME TO "{name}"')
    return name


class Raw(Process):
    """psycopg alone, on the core of what is measured."""

    def __init__(self, url: str) -> None:
        super().__init__(python("bench.raw_rows", url), SERVER_CORE, environment(), pipes=True)
        self.line()


@attrs.frozen
class Kind:
    """A kind of call: `paths` to ask for, `params` of the same fetches by hand, and how many recordings each finds."""

    name: str
    case: str
    paths: tuple[str, ...]
    params: tuple[dict[str, Any], ...]
    found: int


def kinds(layout: data.Layout) -> list[Kind]:
    """The calls of the comparison, each in many variants, spread over tenants and meetings."""
    chance = random.Random(layout.count)
    owners = layout.owners
    meetings = chance.sample(range(len(owners)), min(VARIANTS, len(owners)))
    tenants = chance.sample(range(len(layout.tenants)), min(50, len(layout.tenants)))
    of_tenant = {
        tenant: [meeting for meeting, owner in enumerate(owners) if owner == tenant] for tenant in set(tenants)
    }

    def call(tenant: int, **params: str) -> str:
        return asked_of(host_of(data.tenant_name(tenant)), signed("getRecordings", **params))

    by_meeting, by_meta = [], []
    for meeting in meetings:
        tenant = owners[meeting]
        known = {"tenant": data.tenant_id(tenant)}
        by_meeting.append(
            (call(tenant, meetingID=data.meeting_id(meeting)), {**known, "value": data.meeting_id(meeting)})
        )
        by_meta.append((call(tenant, meta_course=data.course(meeting)), {**known, "value": data.course(meeting)}))
    by_list = []
    for number in range(VARIANTS):
        tenant = tenants[number % len(tenants)]
        chosen = chance.sample(of_tenant[tenant], LISTED)
        ids = [
            data.Recording(len(owners) * chance.randrange(data.PER_MEETING) + meeting, meeting, tenant).record_id
            for meeting in chosen
        ]
        by_list.append((call(tenant, recordID=",".join(ids)), {"tenant": data.tenant_id(tenant), "value": ids}))
    by_page = [(call(tenant, offset="0", limit=str(PAGE)), {"tenant": data.tenant_id(tenant)}) for tenant in tenants]

    def kind(name: str, case: str, asked: Sequence[tuple[str, dict[str, Any]]], found: int) -> Kind:
        return Kind(name, case, tuple(path for path, _ in asked), tuple(params for _, params in asked), found)

    return [
        kind("by meetingID, 20 found", "meetingID", by_meeting, data.PER_MEETING),
        kind("by a list of 50 recordIDs", "recordID", by_list, LISTED),
        kind("by a meta key, 20 found", "meta", by_meta, data.PER_COURSE),
        kind("first page of 100 of a tenant", "page", by_page, PAGE),
    ]


def tenants_of(layout: data.Layout) -> list[tuple[str, str]]:
    """Ids and names."""
    return [(data.tenant_id(tenant), data.tenant_name(tenant)) for tenant in range(len(layout.tenants))]


def balancer_over(
    stack: ExitStack,
    postgres: PostgreSQL,
    redis: Redis,
    simulator: Simulator,
    layout: data.Layout,
    *,
    profile: Path | None = None,
) -> Balancer:
    """A balancer with 10 servers and the database's tenants; `stack` ends it. Raises BenchError."""
    database = adopted_database(postgres, layout)
    namespace = f"bench{layout.count}"
    seed(redis, namespace, simulator, 10, tenants=tenants_of(layout))
    settings = {
        "MULTITENANCY_ENABLED": "true",
        "DATABASE_URL": postgres.url(database),
        "SCALELITE_IMPORTER": "false",
    }
    return stack.enter_context(Balancer(redis, namespace, settings=settings, profile=profile))


def check_found(port: int, kind: Kind) -> None:
    """Make sure that each call finds what it should. Raises BenchError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for asked in kind.paths:
        path, headers = taken_apart(asked)
        connection.request("GET", path, headers=headers)
        body = connection.getresponse().read()
        if body.count(b"<recording>") != kind.found:
            raise BenchError(f"{kind.name}: {body.count(b'<recording>')} recordings: {body[:300]!r}")
    connection.close()
