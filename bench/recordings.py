"""getRecordings beside fetching the same rows by hand, by size of the database, and what it does to join."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import attrs

from bench import calls
from bench import recordings_data as data
from bench.load import Run, asked_of, wrk
from bench.postgres import PostgreSQL
from bench.processes import Balancer, BenchError, Redis, Simulator, host_of
from bench.recordings_scene import Kind, Raw, adopted_database, balancer_over, check_found, kinds, say
from bench.report import Figure

SIZES, QUICK = (10_000, 1_000_000), (10_000, 50_000)
#: What of a fetch by hand is allowed, and what of the cost with few recordings.
TIMES_RAW, TIMES_SMALL, TIMES_ALONE = 3.0, 1.5, 2.0
#: The steady load on recordings: connections, and the milliseconds each rests after an answer; and where the answers
#: are long.
STEADY, STEADY_LONG = (2, 50), (1, 500)
JOINING, JOIN_PAUSE = 8, 5
KNOWN = 200


@attrs.frozen
class Side:
    """A database of one size, seen through the balancer and by hand."""

    layout: data.Layout
    balancer: Balancer
    raw: Raw
    kinds: tuple[Kind, ...]


def measure(
    rounds: int, seconds: int, *, quick: bool = False, kept: Path | None = None
) -> Iterator[tuple[str, list[Figure]]]:
    """Two tables: costs of calls, and join's latency meanwhile. `kept`: a folder for the databases."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgreSQL(kept))
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(10))
        sides = [_side(stack, postgres, redis, simulator, size) for size in (QUICK if quick else SIZES)]
        yield from _costs(postgres, sides, rounds, seconds)
        # It is on wrk's core: to hold up the one that takes the time is not the balancer's doing.
        postgres.give_way()
        yield from _joins(sides[-1], rounds, seconds)


def _side(stack: ExitStack, postgres: PostgreSQL, redis: Redis, simulator: Simulator, size: int) -> Side:
    layout = data.Layout.of(size)
    balancer = balancer_over(stack, postgres, redis, simulator, layout)
    raw = stack.enter_context(Raw(postgres.url(adopted_database(postgres, layout))))
    found = tuple(kinds(layout))
    for kind in found:
        check_found(balancer.port, kind)
        answer = raw.ask(kind.case, kind.params, 0.5)
        if answer["found"] != kind.found:
            raise BenchError(f"{kind.name}: by hand {answer['found']} recordings were found")
    return Side(layout, balancer, raw, found)


@attrs.frozen
class Cost:
    """Of one call in µs: CPU of whoever asks the database, CPU of the database, and the time until it was answered."""

    client: float
    database: float
    wall: float

    @property
    def cpu(self) -> float:
        return self.client + self.database


def _costs(postgres: PostgreSQL, sides: list[Side], rounds: int, seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    ours: dict[tuple[int, str], list[Cost]] = defaultdict(list)
    by_hand: dict[tuple[int, str], list[Cost]] = defaultdict(list)
    for number in range(rounds):
        say(f"getRecordings, round {number + 1} of {rounds}")
        for place in range(len(sides[0].kinds)):
            for side in sides:
                kind = side.kinds[place]
                key = side.layout.count, kind.name
                run = wrk(side.balancer, side.balancer.port, kind.paths, seconds, connections=1, others=(postgres,))
                ours[key].append(Cost(run.cpu, run.other_cpu[0], run.p50 * 1e6))
                by_hand[key].append(_by_hand(postgres, side.raw, kind, seconds))
    for side in sides:
        failures = side.balancer.failures()
        if failures:
            raise BenchError(f"{len(failures)} answers were errors, as {failures[0]}")
    figures = []
    small, large = sides[0].layout.count, sides[-1].layout.count
    for kind in sides[0].kinds:
        for side in sides:
            size = side.layout.count
            best, least = _best(ours[size, kind.name]), _best(by_hand[size, kind.name])
            note = (
                f"{best.client:.0f} + {best.database:.0f} / {least.client:.0f} + {least.database:.0f} µs "
                "(client + PostgreSQL)"
            )
            title = f"{kind.name}, of {size:,}"
            figures.append(Figure(f"{title}: CPU / by hand", best.cpu / least.cpu, TIMES_RAW, note=note))
            note = f"{best.wall:.0f} / {least.wall:.0f} µs, medians"
            figures.append(Figure(f"{title}: time / by hand", best.wall / least.wall, TIMES_RAW, note=note))
        few, many = _best(ours[small, kind.name]), _best(ours[large, kind.name])
        figures.append(Figure(f"{kind.name}: CPU of {large:,} / of {small:,}", many.cpu / few.cpu, TIMES_SMALL))
        figures.append(Figure(f"{kind.name}: time of {large:,} / of {small:,}", many.wall / few.wall, TIMES_SMALL))
    yield "getRecordings beside the same rows fetched by psycopg", figures


def _by_hand(postgres: PostgreSQL, raw: Raw, kind: Kind, seconds: int) -> Cost:
    before = postgres.cpu()
    answer: dict[str, Any] = raw.ask(kind.case, kind.params, seconds)
    used = postgres.cpu() - before
    return Cost(answer["cpu"] / answer["count"] * 1e6, used / answer["count"] * 1e6, answer["p50"] * 1e6)


def _best(costs: list[Cost]) -> Cost:
    """The best of each: what other work on the machine has added is left out."""
    return Cost(
        min(cost.client for cost in costs), min(cost.database for cost in costs), min(cost.wall for cost in costs)
    )


def joinable(side: Side) -> tuple[str, ...]:
    """Joins of meetings of one tenant, which are made for it."""
    host = host_of(data.tenant_name(0))
    ids = calls.names("known", KNOWN)
    calls.make_meetings(side.balancer.port, ids, host)
    joins = tuple(asked_of(host, calls.join(one)) for one in ids)
    calls.check(side.balancer.port, joins[0], 302, b"127.0.0.1:")
    return joins


def _joins(side: Side, rounds: int, seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    joins = joinable(side)
    in_turn = chain.from_iterable(zip_longest(*(kind.paths for kind in side.kinds)))
    everything = tuple(
        calls.recordings(host_of(data.tenant_name(tenant))) for tenant in range(min(20, len(side.layout.tenants)))
    )
    loads = {
        "the four kinds in turn": (tuple(path for path in in_turn if path is not None), *STEADY),
        side.kinds[-1].name: (side.kinds[-1].paths, *STEADY),
        "all 5,000 of a tenant": (everything, *STEADY_LONG),
    }

    def join_only() -> Run:
        return wrk(side.balancer, side.balancer.port, joins, seconds, connections=JOINING, pause=JOIN_PAUSE)

    def listing(paths: tuple[str, ...], connections: int, pause: int) -> Run:
        return wrk(side.balancer, side.balancer.port, paths, seconds + 1, connections=connections, pause=pause)

    join_only()
    alone: dict[str, list[Run]] = defaultdict(list)
    meanwhile: dict[str, list[Run]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        say(f"join beside getRecordings, round {number + 1} of {rounds}")
        for name, load in loads.items():
            alone[name].append(join_only())
            with ThreadPoolExecutor(1) as pool:
                beside = pool.submit(listing, *load)
                meanwhile[name].append(join_only())
                rates[name].append(beside.result().rate)
    figures = []
    for name in loads:
        before, during = (min(run.p99 for run in runs[name]) for runs in (alone, meanwhile))
        note = f"{during * 1e3:.2f} / {before * 1e3:.2f} ms; {max(rates[name]):.0f} calls/s"
        figures.append(Figure(f"{name}: p99 of join meanwhile / alone", during / before, TIMES_ALONE, note=note))
    yield f"join beside a steady load on {side.layout.count:,} recordings", figures
