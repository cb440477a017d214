"""What operators wait for: commands over SSH and on the command line, by the size of the pool."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import attrs

from bench.openssh import Client, Sshd, wait_for_greeting
from bench.processes import (
    SERVER_CORE,
    Addressed,
    Balancer,
    BenchError,
    Redis,
    balancer_settings,
    free_port,
    pinned,
)
from bench.relay import Relay
from bench.report import Figure
from bench.seed import record
from bench.start import import_seconds

#: Commands that list the whole pool.
LISTINGS = (("status",), ("servers", "--json"))
#: Listings in one connection while their cost is measured.
IN_A_ROW = 30
#: The first port of servers that nobody asks.
SILENT = 20_000


@attrs.frozen
class Size:
    """A pool of `servers`, with `meetings` on record."""

    servers: int
    meetings: int

    @property
    def namespace(self) -> str:
        return f"bench{self.servers}x{self.meetings}"

    @property
    def name(self) -> str:
        return f"{self.servers} with {self.meetings:,} meetings" if self.meetings else str(self.servers)


FEW, MORE, MANY = Size(50, 0), Size(500, 0), Size(500, 10_000)
SIZES = (FEW, MORE, MANY)
SIZE_NAMES = f"{FEW.name}, {MORE.name}, and {MANY.name}"

_COMMAND = "import sys; from scalelite.admin.cli import main; sys.exit(main())"
_LIST = """
import json, os, sys
before = set(sys.modules)
from scalelite.admin.cli import main
words, sys.stdout = sys.argv[1:], open(os.devnull, "w")
status = main(words)
assert status == 0, status
print(json.dumps([name for name, module in sys.modules.items()
                  if name not in before and name.partition(".")[0] != "scalelite"
                  and getattr(module, "__spec__", None) is not None]), file=sys.__stdout__)
"""


class SSHBalancer(Balancer):
    """A balancer with its SSH server at `ssh_port`, for one client."""

    def __init__(self, redis: Addressed, namespace: str, client: Client, folder: Path, **settings: str) -> None:
        self.ssh_port = free_port()
        keys, data = folder / "authorized_keys", folder / "data"
        keys.write_text(client.public)
        data.mkdir(exist_ok=True)
        doors = {
            "SCALELITE_SSH_PORT": str(self.ssh_port),
            "SCALELITE_SSH_AUTHORIZED_KEYS": str(keys),
            "SCALELITE_DATA_DIR": str(data),
        }
        super().__init__(redis, namespace, settings={**doors, **settings})
        wait_for_greeting(self, self.ssh_port)


def new_folder(stack: ExitStack) -> Path:
    """A folder that is gone with `stack`."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-ssh-")))


def run_command(redis: Addressed, namespace: str, *words: str, **settings: str) -> tuple[float, str]:
    """A command line in a process of its own: seconds, and what it printed. Raises BenchError."""
    command = pinned(SERVER_CORE, [sys.executable, "-c", _COMMAND, *words])
    started = time.monotonic()
    done = subprocess.run(
        command, env=balancer_settings(redis, namespace, **settings), capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise BenchError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, done.stdout


def measure(rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Three tables: a command over SSH, the cost of a listing, the start of the command line."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        for size in SIZES:
            ports = range(SILENT, SILENT + size.servers)
            record(redis, size.namespace, ports, meetings=size.meetings)
        client = Client(new_folder(stack))
        balancers = {
            size: stack.enter_context(SSHBalancer(redis, size.namespace, client, new_folder(stack))) for size in SIZES
        }
        with Sshd(client) as sshd:
            yield "`ssh host status` with 500 servers", list(_over_ssh(client, balancers[MANY], sshd, 10 * rounds))
        trips = list(_round_trips(stack, client, redis))
        cost = list(_cost(client, redis, balancers, 2 * rounds))
        yield f"Listing the servers: {SIZE_NAMES}", [*trips, *cost]
    with Redis() as redis:
        record(redis, "bench", range(SILENT, SILENT + 10))
        yield "Start of the command line", list(_start(redis, 4 * rounds))


def _over_ssh(client: Client, balancer: SSHBalancer, sshd: Sshd, rounds: int) -> Iterator[Figure]:
    lines = client.run(balancer.ssh_port, "status")[1].count("127.0.0.1")
    if lines != MANY.servers:
        raise BenchError(f"`status` shows {lines} servers")
    wanted = {"status": balancer.ssh_port, "help status": balancer.ssh_port, "true": sshd.port}
    times: dict[str, list[float]] = {command: [] for command in wanted}
    for command, port in wanted.items():
        client.run(port, command)
    spent = 0.0
    for _ in range(rounds):
        for command, port in wanted.items():
            before = balancer.cpu()
            times[command].append(client.run(port, command)[0])
            spent += balancer.cpu() - before if command == "status" else 0.0
    ours, idle, theirs = (min(times[command]) for command in wanted)
    note = f"{ours * 1e3:.0f} / {theirs * 1e3:.0f} ms; {spent / rounds * 1e3:.0f} ms of the balancer's CPU"
    yield Figure("time / `ssh host true` with OpenSSH's server", ours / theirs, 2, note=note)
    halfway = [median(times[command]) for command in ("status", "true")]
    note = f"{halfway[0] * 1e3:.0f} / {halfway[1] * 1e3:.0f} ms; medians of {rounds}"
    yield Figure("the same, by medians", halfway[0] / halfway[1], note=note)
    yield Figure("a command that lists nothing (`help status`)", idle / theirs, note=f"{idle * 1e3:.0f} ms")


def _round_trips(stack: ExitStack, client: Client, redis: Redis) -> Iterator[Figure]:
    seen: dict[tuple[str, Size], tuple[int, int]] = {}
    for size in SIZES:
        with Relay(redis) as relay:
            for words in LISTINGS:
                seen["scalelite " + " ".join(words), size] = _counted(
                    relay, lambda words=words, relay=relay, size=size: run_command(relay, size.namespace, *words)
                )
            with SSHBalancer(relay, size.namespace, client, new_folder(stack)) as balancer:
                for words in LISTINGS:
                    seen["ssh host " + " ".join(words), size] = _counted(
                        relay, lambda words=words, port=balancer.ssh_port: client.run(port, *words)
                    )
    for name in dict.fromkeys(name for name, _ in seen):
        trips, commands = zip(*(seen[name, size] for size in SIZES), strict=True)
        note = f"{' / '.join(map(str, trips))} round trips, {' / '.join(map(str, commands))} commands"
        yield Figure(f"round trips of `{name}`, most / fewest", max(trips) / min(trips), 1, note=note)


def _counted(relay: Relay, work: object) -> tuple[int, int]:
    """Round trips and commands of `work`; the least of some times, since a balancer has its own to do now and then."""
    assert callable(work)
    work()
    found = []
    for _ in range(3):
        relay.reset()
        work()
        found.append((relay.trips, relay.commands))
    return min(found)


def _cost(client: Client, redis: Redis, balancers: dict[Size, SSHBalancer], rounds: int) -> Iterator[Figure]:
    """Per server, over one SSH connection, so that neither a start nor a log-in counts."""
    for words in LISTINGS:
        line = " ".join(words) + "\n"
        costs: dict[Size, list[tuple[float, float, float]]] = {size: [] for size in SIZES}
        for _ in range(rounds + 1):
            for size, balancer in balancers.items():
                before = balancer.cpu(), redis.cpu()
                empty = client.run(balancer.ssh_port, lines="\n")[0]
                between = balancer.cpu(), redis.cpu()
                full = client.run(balancer.ssh_port, lines=line * IN_A_ROW)[0]
                after = balancer.cpu(), redis.cpu()
                login, ours, theirs = between[0] - before[0], after[0] - between[0], after[1] - between[1]
                each = IN_A_ROW * size.servers / 1e6
                costs[size].append(((full - empty) / each, (ours - login) / each, theirs / each))
        # The first round warms up.
        best = {size: [min(values) for values in zip(*runs[1:], strict=True)] for size, runs in costs.items()}
        for size in (MORE, MANY):
            for what, values in (
                ("time", [best[size][0], best[FEW][0]]),
                ("CPU (ours and Redis')", [sum(best[size][1:]), sum(best[FEW][1:])]),
            ):
                yield Figure(
                    f"{what} of `{line.strip()}` per server: {size.name} / {FEW.servers}",
                    values[0] / values[1],
                    1 if what == "time" else None,
                    note=f"{values[0]:.1f} / {values[1]:.1f} µs",
                )


def command_modules(redis: Redis, *words: str) -> list[str]:
    """The modules that a command imports but its own, in the order of their import."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST, *words],
        env=balancer_settings(redis, "bench"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    names: list[str] = json.loads(done.stdout)
    return names


def _start(redis: Redis, rounds: int) -> Iterator[Figure]:
    for words in (("servers",), ("status",)):
        names = command_modules(redis, *words)
        imports: list[float] = []
        runs: list[float] = []
        for _ in range(rounds + 1):
            imports.append(import_seconds(names))
            runs.append(run_command(redis, "bench", *words)[0])
        yield _ratio(f"`scalelite {words[0]}` / importing the same libraries", runs, imports, len(names))


def _ratio(name: str, ours: Sequence[float], theirs: Sequence[float], modules: int) -> Figure:
    best, bare = min(ours[1:]), min(theirs[1:])
    return Figure(name, best / bare, 2, note=f"{best * 1e3:.0f} / {bare * 1e3:.0f} ms, {modules} modules")
