"""Memory of a balancer that sends all recordings of a tenant, by how many these are."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import calls
from bench import recordings_data as data
from bench.load import taken_apart
from bench.postgres import PostgreSQL
from bench.processes import Balancer, BenchError, Redis, Simulator, host_of, resident_mb
from bench.recordings_scene import balancer_over, say
from bench.report import Figure

#: Recordings of the tenants: what is sent in slices as it is, what is asked for, and more of it.
FEW, MANY, MORE = 500, 5_000, 20_000
ALLOWED = 1.05
#: Bytes that a slow client takes at once, and the seconds it rests then.
SIP, REST = 65_536, 0.02
#: What warms up: everything is imported, and every thread of the database has rendered.
BEFORE = 8


def measure(rounds: int, *, kept: Path | None = None) -> Iterator[tuple[str, list[Figure]]]:
    """The table: peaks of resident memory."""
    layout = data.Layout((FEW, MANY, MORE))
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgreSQL(kept))
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(10))
        balancer = balancer_over(stack, postgres, redis, simulator, layout)
        for _ in range(BEFORE):
            _peak(balancer, 0, FEW, slow=False)
        peaks: dict[tuple[int, bool], list[tuple[float, int]]] = {}
        for number in range(rounds):
            say(f"streams, round {number + 1} of {rounds}")
            for slow in (False, True):
                for tenant, size in enumerate(layout.tenants):
                    peaks.setdefault((size, slow), []).append(_peak(balancer, tenant, size, slow=slow))
    figures = []
    for slow in (False, True):
        least, _ = min(peaks[FEW, slow])
        who = "a slow client" if slow else "a fast client"
        figures.append(Figure(f"peak with {FEW:,}, for {who}", least, unit="MB"))
        for size in (MANY, MORE):
            peak, length = min(peaks[size, slow])
            figures.append(
                Figure(
                    f"peak with {size:,} / with {FEW:,}, for {who}",
                    peak / least,
                    ALLOWED,
                    note=f"{peak:.1f} MB; the answer is of {length / 1e6:.1f} MB",
                )
            )
    yield "All recordings of a tenant: resident memory while they are sent", figures


def _peak(balancer: Balancer, tenant: int, size: int, *, slow: bool) -> tuple[float, int]:
    """The most memory in MB while one client takes all of a tenant's recordings, and the bytes of the answer."""
    path, headers = taken_apart(calls.recordings(host_of(data.tenant_name(tenant))))
    # From here on, the peak is measured anew.
    Path(f"/proc/{balancer.pid}/clear_refs").write_text("5")
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    found = length = 0
    rest = b""
    while part := response.read(SIP):
        found += (rest + part).count(b"<recording>")
        rest = part[-len(b"<recording>") + 1 :]
        length += len(part)
        if slow:
            time.sleep(REST)
    connection.close()
    if found != size:
        raise BenchError(f"{found} recordings came of {size}")
    return resident_mb(balancer.pid, "VmHWM"), length
