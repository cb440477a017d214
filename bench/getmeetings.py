"""getMeetings over a hundred slow servers, and what it does to the other requests."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

from bench import calls
from bench.fanout import FanOut
from bench.load import API, Run, signed, wrk
from bench.processes import BACKEND_SECRET, Balancer, BenchError, Redis, Simulator
from bench.report import Figure
from bench.seed import seed

SERVERS, MEETINGS, ATTENDEES, DELAY = 100, 20, 5, 50.0
CALLERS = 16
#: Connections of wrk while latency is measured, and the milliseconds for which each rests after an answer: a load that
#: leaves the cores time, so that what is seen is the balancer's waiting and not the queue for a full core.
MODERATE, PAUSE = 8, 5
#: RESPONSE_TIMEOUT's default, in seconds.
READ_TIMEOUT = 10.0
PATH = signed("getMeetings")


class Caller:
    """One front-end with a connection of its own."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, at_least: int = SERVERS * MEETINGS) -> float:
        """Ask for the meetings once: seconds until the whole answer is there. Raises BenchError if any are missing."""
        started = time.monotonic()
        self._connection.request("GET", PATH)
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.monotonic() - started
        if response.status != 200 or body.count(b"</meeting>") < at_least:
            raise BenchError(f"{body.count(b'</meeting>')} meetings came: {body[:300]!r}")
        return seconds


def at_once(port: int, callers: int) -> None:
    """Let so many callers ask at the same moment."""
    everybody = [Caller(port) for _ in range(callers)]
    gate = threading.Barrier(callers)
    faults: list[Exception] = []

    def one(caller: Caller) -> None:
        try:
            gate.wait()
            caller.call()
        except Exception as fault:  # noqa: BLE001 - it is raised again by the main thread
            faults.append(fault)

    threads = [threading.Thread(target=one, args=(caller,)) for caller in everybody]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


class Repeating(threading.Thread):
    """A caller that asks again and again until its `with` block ends; `seconds` of each call."""

    def __init__(self, port: int, at_least: int) -> None:
        super().__init__(daemon=True)
        self._caller = Caller(port)
        self._at_least = at_least
        self._over = False
        self.fault: Exception | None = None
        self.seconds: list[float] = []

    def run(self) -> None:
        try:
            while not self._over:
                self.seconds.append(self._caller.call(self._at_least))
        except Exception as fault:  # noqa: BLE001 - it is raised again by the main thread
            self.fault = fault

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.join()
        if self.fault is not None:
            raise self.fault


def measure(rounds: int, seconds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Two tables: the cost of a call, and one server that hangs."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(SERVERS, meetings=MEETINGS, attendees=ATTENDEES, delay=DELAY))
        seed(redis, "bench", simulator, SERVERS)
        balancer = stack.enter_context(Balancer(redis, "bench"))
        bare = stack.enter_context(FanOut(simulator.ports, BACKEND_SECRET))
        yield "getMeetings, 100 servers of 20 meetings, each 50 ms late", list(_cost(balancer, bare, 3 * rounds))
        yield "getMeetings with one of the servers hanging", list(_hanging(balancer, simulator, rounds, seconds))


def _cost(balancer: Balancer, bare: FanOut, rounds: int) -> Iterator[Figure]:
    caller = Caller(balancer.port)
    for _ in range(3):
        caller.call()
        bare.round("agent+lxml")
    at_once(balancer.port, CALLERS)
    ours: list[tuple[float, float]] = []
    parsed: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    shared: list[float] = []
    size = 0
    for _ in range(rounds):
        before = balancer.cpu()
        spent = caller.call()
        ours.append((spent, balancer.cpu() - before))
        *figures, size = bare.round("agent+lxml")
        parsed.append((figures[0], figures[1]))
        plain.append(bare.round("agent")[:2])
        before = balancer.cpu()
        at_once(balancer.port, CALLERS)
        shared.append(balancer.cpu() - before)
    (wall, cpu), (bare_wall, bare_cpu), (plain_wall, plain_cpu) = (
        (min(run[0] for run in runs), min(run[1] for run in runs)) for runs in (ours, parsed, plain)
    )
    yield Figure(
        "one call, time / Agent fan-out + lxml",
        wall / bare_wall,
        2,
        note=f"{wall * 1e3:.0f} ms / {bare_wall * 1e3:.0f} ms; {size / 1e6:.1f} MB of answers",
    )
    yield Figure("the same, CPU", cpu / bare_cpu, note=f"{cpu * 1e3:.0f} ms / {bare_cpu * 1e3:.0f} ms")
    yield Figure(
        "one call, time / Agent fan-out without parsing",
        wall / plain_wall,
        note=f"{plain_wall * 1e3:.0f} ms, {plain_cpu * 1e3:.0f} ms of CPU",
    )
    yield Figure(
        f"CPU of {CALLERS} callers at once / of one",
        min(shared) / cpu,
        3,
        note=f"{min(shared) * 1e3:.0f} ms / {cpu * 1e3:.0f} ms",
    )


def _hanging(balancer: Balancer, simulator: Simulator, rounds: int, seconds: int) -> Iterator[Figure]:
    known = calls.names("known", 100)
    calls.make_meetings(balancer.port, known)
    wanted = {"index": (API,), "join": tuple(map(calls.join, known))}
    alone: dict[str, list[Run]] = {name: [] for name in wanted}
    meanwhile: dict[str, list[Run]] = {name: [] for name in wanted}
    usual = Caller(balancer.port).call()
    answered: list[float] = []
    hung = SERVERS - 1
    # As long as a call takes: each run sees one begin and end.
    length = max(seconds, int(READ_TIMEOUT))
    at_least = (SERVERS - 1) * MEETINGS
    for name, paths in wanted.items():

        def run(seconds: int, paths: tuple[str, ...] = paths) -> Run:
            return wrk(balancer, balancer.port, paths, seconds, connections=MODERATE, pause=PAUSE)

        run(1)
        for _ in range(rounds):
            alone[name].append(run(length))
            simulator.command(hung, "faults/set", endpoint="getMeetings", kind="hang_before_headers")
            with Repeating(balancer.port, at_least) as caller:
                meanwhile[name].append(run(length))
            simulator.command(hung, "faults/clear")
            answered += caller.seconds
    yield Figure(
        "slowest answer",
        max(answered),
        READ_TIMEOUT + 2 * usual,
        unit="s",
        note=f"{len(answered)} calls, none failed; the read time-out is {READ_TIMEOUT:g} s",
    )
    for name in wanted:
        before, during = (min(run.p99 for run in runs[name]) for runs in (alone, meanwhile))
        longest = min(run.longest for run in meanwhile[name])
        note = f"{during * 1e3:.2f} / {before * 1e3:.2f} ms; longest {longest * 1e3:.0f} ms"
        yield Figure(f"p99 of {name} meanwhile / undisturbed", during / before, 1.5, note=note)
