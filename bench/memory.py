"""Resident memory of a worker that has done everything for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench import calls
from bench.getmeetings import ATTENDEES, CALLERS, MEETINGS, SERVERS, Caller, at_once
from bench.load import API, wrk
from bench.processes import Balancer, Redis, Simulator, resident_mb
from bench.report import Figure
from bench.requests import NEW_PER_SECOND
from bench.seed import seed

LIMIT = 110.0


def measure(seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    """The table: after the start, after requests of every kind, after getMeetings; the poller runs as well."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(SERVERS, meetings=MEETINGS, attendees=ATTENDEES))
        seed(redis, "bench", simulator, SERVERS, poller=True)
        balancer = stack.enter_context(Balancer(redis, "bench"))
        figures = [Figure("after the start", resident_mb(balancer.pid), unit="MB")]
        ids = calls.names("known", 1000)
        calls.make_meetings(balancer.port, ids)
        new = calls.names("new", NEW_PER_SECOND * seconds)
        unknown = calls.names("unknown", 1000)
        for paths in (
            (API,),
            tuple(map(calls.running, unknown)),
            tuple(map(calls.join, ids)),
            tuple(map(calls.running, ids)),
            tuple(map(calls.create, ids)),
        ):
            wrk(balancer, balancer.port, paths, seconds)
        wrk(balancer, balancer.port, map(calls.create, new), seconds, once=True)
        figures.append(Figure("after index, join, create and the rest", resident_mb(balancer.pid), LIMIT, unit="MB"))
        caller = Caller(balancer.port)
        for _ in range(10):
            caller.call()
            at_once(balancer.port, CALLERS)
        figures.append(
            Figure(
                "after getMeetings, alone and by 16 callers at once",
                resident_mb(balancer.pid),
                LIMIT,
                unit="MB",
                note=f"peak {resident_mb(balancer.pid, 'VmHWM'):.0f} MB",
            )
        )
    yield "Resident memory of a worker", figures
