"""Single requests, as ratios to a bare Resource: index, isMeetingRunning, join, create."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import attrs

from bench import calls
from bench.load import API, Run, wrk
from bench.processes import Balancer, Bare, BenchError, Redis, Simulator
from bench.report import Figure
from bench.seed import seed

NEW_PER_SECOND = 6000


@attrs.frozen
class Case:
    """Something to ask for; `wanted` is the ratio to the bare Resource. Without `paths`, each round makes meetings."""

    name: str
    wanted: float
    balancer: Balancer
    simulator: Simulator
    paths: tuple[str, ...] = ()


@attrs.frozen
class Scene:
    """A balancer with 10 servers and one with 100, both with a thousand meetings, and the bare Resource."""

    bare: Bare
    redis: Redis
    small: Balancer
    large: Balancer
    cases: tuple[Case, ...]


def scene(stack: ExitStack) -> Scene:
    """Start everything; `stack` ends it."""
    bare = stack.enter_context(Bare())
    redis = stack.enter_context(Redis())
    simulator = stack.enter_context(Simulator(100))
    for servers in (10, 100):
        seed(redis, f"bench{servers}", simulator, servers)
    small, large = (stack.enter_context(Balancer(redis, f"bench{servers}")) for servers in (10, 100))
    ids = calls.names("known", 1000)
    for balancer in (small, large):
        calls.make_meetings(balancer.port, ids)
    unknown, known = calls.names("unknown", 1000), ids[0]
    success = b"<returncode>SUCCESS</returncode>"
    calls.check(small.port, API, 200, b"<version>2.0</version>")
    calls.check(small.port, calls.running(unknown[0]), 200, b"<running>false</running>")
    calls.check(small.port, calls.running(known), 200, success)
    calls.check(small.port, calls.join(known), 302, f"127.0.0.1:{simulator.ports[0]}".encode()[:10])
    calls.check(small.port, calls.create(known), 200, b"duplicateWarning")
    cases = (
        Case("index", 0.80, small, simulator, (API,)),
        Case("isMeetingRunning, unknown meeting", 0.38, small, simulator, tuple(map(calls.running, unknown))),
        Case("join, known meeting", 0.35, small, simulator, tuple(map(calls.join, ids))),
        Case("isMeetingRunning proxied, equal calls", 0.13, small, simulator, (calls.running(known),)),
        Case("isMeetingRunning proxied, 1,000 meetings", 0.13, small, simulator, tuple(map(calls.running, ids))),
        Case("create, existing meeting", 0.11, small, simulator, tuple(map(calls.create, ids))),
        Case("create, new meeting, 10 servers", 0.10, small, simulator),
        Case("create, new meeting, 100 servers", 0.10, large, simulator),
    )
    return Scene(bare, redis, small, large, cases)


_fresh = count(1)


def run_case(case: Case, redis: Redis, seconds: int) -> Run:
    """One round of a case. Raises BenchError if an answer was an error."""
    once = not case.paths
    paths = case.paths or map(calls.create, calls.names(f"new-{next(_fresh)}", NEW_PER_SECOND * seconds))
    run = wrk(case.balancer, case.balancer.port, paths, seconds, once=once, others=(redis, case.simulator))
    failures = case.balancer.failures()
    if failures:
        raise BenchError(f"{case.name}: {len(failures)} answers of {run.requests} were errors, as {failures[0]}")
    return run


def measure(rounds: int, seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    """The table of ratios: by CPU of the server process, the steadier measure, and by throughput."""
    with ExitStack() as stack:
        made = scene(stack)
        for case in made.cases:
            run_case(case, made.redis, 1)
        bare: list[Run] = []
        runs: dict[str, list[Run]] = {case.name: [] for case in made.cases}
        for _ in range(rounds):
            bare.append(wrk(made.bare, made.bare.port, ("/",), seconds))
            for case in made.cases:
                runs[case.name].append(run_case(case, made.redis, seconds))
            bare.append(wrk(made.bare, made.bare.port, ("/",), seconds))
        bare_cpu, bare_rate = min(run.cpu for run in bare), max(run.rate for run in bare)
        figures = [Figure("bare Resource", 1, note=f"{bare_cpu:.0f} µs of CPU; {bare_rate:.0f}/s")]
        for case in made.cases:
            best = min(runs[case.name], key=lambda run: run.cpu)
            fastest = max(runs[case.name], key=lambda run: run.rate)
            note = (
                f"{best.cpu:.0f} µs of CPU (Redis {best.other_cpu[0]:.0f} µs); {fastest.rate:.0f}/s = "
                f"{fastest.rate / bare_rate:.3f} of bare, its core {fastest.cpu * fastest.rate / 1e4:.0f} % busy"
            )
            figures.append(Figure(case.name, bare_cpu / best.cpu, case.wanted, at_least=True, note=note))
    yield "Requests, 64 connections: ratio to a bare Resource by CPU", figures
