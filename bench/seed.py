"""`python -m bench.seed`: puts servers and meetings into Redis, as a JSON object on standard input says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import defer, task

from bench.processes import BACKEND_SECRET, LOAD_CORE, SECRET, BenchError, Redis, Simulator, environment, pinned, python
from scalelite.cluster.records import ServerState
from scalelite.cluster.statistics import PollLimits, ServerStatistics
from scalelite.settings.redis import parse_redis_url
from scalelite.store.connection import connect
from scalelite.store.leases import LeaseStore
from scalelite.store.servers import ServerStore
from scalelite.store.tenants import TenantStore

LEASE = 86400.0
TTL = "86400"
AT_ONCE = 500


def seed(
    redis: Redis,
    namespace: str,
    simulator: Simulator,
    servers: int,
    *,
    meetings: int = 0,
    poller: bool = False,
    tenants: Sequence[tuple[str, str]] = (),
) -> None:
    """Put the first `servers` of a simulator into the pool, enabled and online, and the meetings it was filled with.

    `meetings` more are recorded that no server knows; `tenants` have ids and names, and the secret of all. Unless
    `poller`, no instance that starts after this is let poll, so that it does not get in the way of what is measured.
    """
    ports = simulator.ports[:servers]
    record(redis, namespace, ports, filled=simulator.meetings, meetings=meetings, poller=poller, tenants=tenants)


def record(
    redis: Redis,
    namespace: str,
    ports: Sequence[int],
    *,
    filled: int = 0,
    meetings: int = 0,
    each: Sequence[int] = (),
    poller: bool = False,
    tenants: Sequence[tuple[str, str]] = (),
) -> None:
    """Put servers at these ports into the pool, enabled and online, whatever listens there.

    `filled`: meetings that each of them was filled with; `meetings` that no server knows, spread over all of them;
    `each`: how many more of these each server has. `poller` and `tenants` as in `seed`.
    """
    order = {
        "url": redis.url,
        "namespace": namespace,
        "ports": list(ports),
        "filled": filled,
        "more": meetings,
        "each": list(each),
        "poller": poller,
        "tenants": list(tenants),
    }
    done = subprocess.run(
        pinned(LOAD_CORE, python("bench.seed")),
        input=json.dumps(order), capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"the store could not be filled: {done.stderr}")


def server_id(number: int) -> str:
    """The id of a simulator's server, counted from 0 as in its `ports`."""
    return f"server-{number:04}"


def held_id(server: int, number: int) -> str:
    """The id of one of the meetings that `each` gives a server, both counted from 0."""
    return f"held-{server}-{number}"


async def _fill(reactor: Any, order: dict[str, Any]) -> None:
    settings = attrs.evolve(parse_redis_url(order["url"]), namespace=order["namespace"])
    redis = connect(reactor, settings, timeout=30, data_dir=Path())
    prefix = settings.prefix
    if not order["poller"]:
        taken = await LeaseStore(redis, prefix).take("poller", "bench", LEASE)
        if not taken:
            raise BenchError("an instance polls already: fill the store before it starts")
    store = ServerStore(redis, prefix)
    ports: Sequence[int] = order["ports"]
    for tenant_id, name in order["tenants"]:
        await TenantStore(redis, prefix).add(tenant_id, name, SECRET)
    rows: list[tuple[str, str]] = []
    for number, port in enumerate(ports):
        name = server_id(number)
        await store.add(name, f"http://127.0.0.1:{port}/bigbluebutton/api", BACKEND_SECRET)
        await store.set_state(name, ServerState.ENABLED)
        await store.record_poll(name, 0, ServerStatistics(), PollLimits())
        # The ids that the simulator gives the meetings it is filled with.
        rows += ((f"filled-{number + 1}-{meeting}", name) for meeting in range(order["filled"]))
    rows += ((f"recorded-{number}", server_id(number % len(ports))) for number in range(order["more"]))
    for number, count in enumerate(order["each"]):
        rows += ((held_id(number, meeting), server_id(number)) for meeting in range(count))
    for start in range(0, len(rows), AT_ONCE):
        calls = []
        for number, (meeting_id, name) in enumerate(rows[start : start + AT_ONCE], start):
            key, bridge = f"{prefix}meeting:{meeting_id}", str(10_000_000 + number)
            fields = ("server_id", name, "moderator_pw", "mp", "voice_bridge", bridge, "tenant_id", "")
            calls.append(redis.call("HSET", key, *fields))
            calls.append(redis.call("EXPIRE", key, TTL))
            calls.append(redis.call("SADD", f"{prefix}meetings", meeting_id))
            calls.append(redis.call("HSET", f"{prefix}voice_bridges", bridge, meeting_id))
        await defer.gatherResults(calls)
    await redis.stopService()


def main() -> None:
    order = json.load(sys.stdin)
    task.react(lambda reactor: defer.Deferred.fromCoroutine(_fill(reactor, order)))


if __name__ == "__main__":
    main()
