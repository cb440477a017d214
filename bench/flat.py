"""join and create cost the same with few and with many servers and meetings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import attrs

from bench import calls
from bench.load import wrk
from bench.processes import Balancer, BenchError, Redis, Simulator
from bench.report import Figure
from bench.requests import NEW_PER_SECOND
from bench.seed import seed

MADE = 100
ACTIONS = ("join", "create, existing meeting", "create, new meeting")


@attrs.frozen
class Size:
    """A pool of `servers`, with `meetings` on record."""

    servers: int
    meetings: int

    @property
    def name(self) -> str:
        return f"{self.servers:,} servers, {self.meetings:,} meetings"


BASE = Size(10, 100)
SIZES = (BASE, Size(500, 100), Size(10, 20_000), Size(500, 20_000))
_fresh = count(1)


def _paths(action: str, size: Size, seconds: int) -> Iterator[str]:
    if action == "join":
        return (calls.join(f"recorded-{number}") for number in range(size.meetings))
    if action == "create, existing meeting":
        return map(calls.create, calls.names("known", MADE))
    return map(calls.create, calls.names(f"new-{next(_fresh)}", NEW_PER_SECOND * seconds))


def measure(rounds: int, seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    """The table: CPU of the balancer and of Redis together, as ratios to the smallest pool."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(500))
        balancers: dict[Size, Balancer] = {}
        for size in SIZES:
            namespace = f"bench{size.servers}x{size.meetings}"
            seed(redis, namespace, simulator, size.servers, meetings=size.meetings)
            balancers[size] = stack.enter_context(Balancer(redis, namespace))
            calls.make_meetings(balancers[size].port, calls.names("known", MADE))
        costs: dict[tuple[str, Size], list[tuple[float, float]]] = {(a, s): [] for a in ACTIONS for s in SIZES}
        for _ in range(rounds):
            for action in ACTIONS:
                for size, balancer in balancers.items():
                    once = action == "create, new meeting"
                    # Connections to the servers are kept for half a minute only: they are opened before the clock runs.
                    for length in (2, seconds):
                        paths = _paths(action, size, length)
                        run = wrk(balancer, balancer.port, paths, length, once=once, others=(redis,))
                    failures = balancer.failures()
                    if failures:
                        raise BenchError(f"{action}, {size.name}: {failures[0]}")
                    costs[action, size].append((run.cpu, run.other_cpu[0]))
        figures = []
        for action in ACTIONS:
            base = min(map(sum, costs[action, BASE]))
            for size in SIZES:
                ours, theirs = min(costs[action, size], key=sum)
                figures.append(
                    Figure(
                        f"{action}: {size.name}",
                        (ours + theirs) / base,
                        None if size is BASE else 1.15,
                        note=f"{ours:.0f} µs + Redis {theirs:.0f} µs",
                    )
                )
    yield "Cost by size of the pool, to that of 10 servers and 100 meetings", figures
