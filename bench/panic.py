"""`servers:panic` of servers that are dead in different ways, and what it does to requests meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import attrs

from bench import calls
from bench.administration import SSHBalancer, new_folder, run_command
from bench.getmeetings import MODERATE, PAUSE, READ_TIMEOUT
from bench.load import API, Run, wrk
from bench.openssh import Client
from bench.processes import BenchError, Redis, Simulator, free_port
from bench.report import Figure
from bench.seed import held_id, record, server_id

ALIVE, HELD = 10, 500
#: Meetings of each server that is alive, which clients join.
KNOWN = 10
#: Seconds that a command may wait for servers, all its calls together.
DEADLINE = 15.0
#: Seconds for which requests are measured where the panic is over at once.
SHORT = 3


@attrs.frozen
class Death:
    """A way to be dead: its name, the simulator's fault that makes it, if one does, and whether calls wait in vain."""

    name: str
    fault: str = ""
    waits: bool = True


REFUSES = Death("refuses connections", waits=False)
UNREACHABLE = Death("answers no SYN")
DEATHS = (
    REFUSES,
    UNREACHABLE,
    Death("accepts and reads nothing", "blackhole"),
    Death("hangs before the headers", "hang_before_headers"),
    Death("hangs after the headers", "hang_after_headers"),
    Death("drips its answer", "drip"),
)


class BlackHole:
    """A port at which no SYN is answered: its queue of connections is full for as long as the `with` block lasts."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _ in range(8):
            caller = socket.socket()
            caller.settimeout(0.2)
            self._waiting.append(caller)
            try:
                caller.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return self
        raise BenchError("the kernel goes on accepting connections for a full queue")

    def __exit__(self, *_: object) -> None:
        for one in (*self._waiting, self._listener):
            one.close()


class Load:
    """wrk on index and on join at the same time, each with half of the connections."""

    def __init__(self, balancer: SSHBalancer) -> None:
        self._balancer = balancer
        known = [held_id(server, number) for server in range(ALIVE) for number in range(KNOWN)]
        self.paths = {"index": (API,), "join": tuple(map(calls.join, known))}
        calls.check(balancer.port, self.paths["join"][0], 302, b"127.0.0.1:")

    def run(self, seconds: int) -> dict[str, Run]:
        """So many seconds of it."""
        with ThreadPoolExecutor(len(self.paths)) as pool:
            runs = {
                name: pool.submit(
                    wrk, self._balancer, self._balancer.port, paths, seconds, connections=MODERATE // 2, pause=PAUSE
                )
                for name, paths in self.paths.items()
            }
            return {name: run.result() for name, run in runs.items()}


class Panic(threading.Thread):
    """One panic over SSH, beside what else goes on; `seconds` it took."""

    def __init__(self, client: Client, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self._ask = client, port, name
        self.seconds = 0.0
        self.output = ""
        self.fault: Exception | None = None

    def run(self) -> None:
        client, port, name = self._ask
        # The load is there first.
        time.sleep(0.5)
        try:
            self.seconds, self.output = client.run(port, "servers:panic", name, "--yes")
        except Exception as fault:  # noqa: BLE001 - it is raised again by the main thread
            self.fault = fault

    def result(self) -> float:
        """Seconds; raises BenchError if a meeting was left out."""
        self.join()
        if self.fault is not None:
            raise self.fault
        cleared = self.output.count("Clearing Meeting id=")
        if cleared != HELD:
            raise BenchError(f"{cleared} meetings were cleared: {self.output[-500:]}")
        return self.seconds


def measure(rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Two tables: panics that end by the calls' own time-out, and those that only their deadline ends."""
    yield "Panic of a server with 500 meetings over SSH, RESPONSE_TIMEOUT 10 s", list(_panics(rounds))
    yield "The same with RESPONSE_TIMEOUT 50 s, on the command line", list(_deadlines())


@attrs.frozen
class Scene:
    """A pool whose first servers are alive; the others are dead, and hold 500 meetings each."""

    redis: Redis
    simulator: Simulator
    ports: tuple[int, ...]

    @classmethod
    def enter(cls, stack: ExitStack, copies: int) -> Scene:
        """Each death so many times, one after another; `stack` ends it."""
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(ALIVE + len(DEATHS)))
        hole = stack.enter_context(BlackHole())
        dead = []
        for number, death in enumerate(DEATHS, ALIVE):
            if death.fault:
                endpoint = "*" if death.fault == "blackhole" else "end"
                simulator.command(number, "faults/set", endpoint=endpoint, kind=death.fault)
            dead.append({REFUSES: free_port(), UNREACHABLE: hole.port}.get(death, simulator.ports[number]))
        ports = (*simulator.ports[:ALIVE], *dead * copies)
        record(redis, "bench", ports, each=[KNOWN] * ALIVE + [HELD] * len(dead) * copies)
        return cls(redis, simulator, ports)


def _panics(rounds: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        scene = Scene.enter(stack, rounds)
        client = Client(new_folder(stack))
        balancer = stack.enter_context(SSHBalancer(scene.redis, "bench", client, new_folder(stack)))
        load = Load(balancer)
        load.run(1)
        alone: dict[Death, list[dict[str, Run]]] = {death: [] for death in DEATHS}
        meanwhile: dict[Death, list[dict[str, Run]]] = {death: [] for death in DEATHS}
        times: dict[Death, list[float]] = {death: [] for death in DEATHS}
        dead = iter(range(ALIVE, len(scene.ports)))
        for _ in range(rounds):
            for death in DEATHS:
                length = int(READ_TIMEOUT) + 2 if death.waits else SHORT
                alone[death].append(load.run(length))
                panic = Panic(client, balancer.ssh_port, server_id(next(dead)))
                panic.start()
                meanwhile[death].append(load.run(length))
                times[death].append(panic.result())
        for death in DEATHS:
            note = f"{min(times[death]):.2f} s at best"
            yield Figure(f"{death.name}: time", max(times[death]), DEADLINE, unit="s", note=note)
            for name in load.paths:
                before, during = (min(run[name].p99 for run in runs[death]) for runs in (alone, meanwhile))
                longest = min(run[name].longest for run in meanwhile[death])
                note = f"{during * 1e3:.2f} / {before * 1e3:.2f} ms; longest {longest * 1e3:.0f} ms"
                yield Figure(f"{death.name}: p99 of {name} meanwhile / undisturbed", during / before, 1.5, note=note)


def _deadlines() -> Iterator[Figure]:
    with ExitStack() as stack:
        scene = Scene.enter(stack, 1)

        def panic(number: int) -> float:
            seconds, output = run_command(
                scene.redis, "bench", "servers:panic", server_id(number), "--yes", RESPONSE_TIMEOUT="50"
            )
            if output.count("Clearing Meeting id=") != HELD:
                raise BenchError(f"not all meetings were cleared: {output[-500:]}")
            return seconds

        for number, death in enumerate(DEATHS, ALIVE):
            yield Figure(f"{death.name}: time", panic(number), DEADLINE, unit="s")
