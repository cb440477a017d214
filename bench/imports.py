"""Imports of recordings beside a shell loop that does the least of it, and what they do to join."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs

from bench import calls
from bench.load import Run, wrk
from bench.postgres import PostgreSQL
from bench.processes import BOTH_CORES, Balancer, BenchError, Redis, Simulator, cpu_seconds, environment, pinned
from bench.recordings_scene import say
from bench.report import Figure
from bench.seed import seed
from bench.tars import make_tars

COUNT, QUICK = 1000, 100
#: What of the loop's rate is wanted, and how much longer joins may take meanwhile.
HALF, TWICE = 0.5, 2.0
JOINING, PAUSE, KNOWN = 8, 5, 200
#: Seconds that all imports may take.
PATIENCE = 600.0

#: Unpacked, flushed, put in place: everything else (rows, checks, notifications) the loop leaves out.
LOOP = """
set -e
for tar in "$1"/*.tar; do
    tar -x -C "$2" -f "$tar"
    find "$2"/presentation/* -depth -exec sync {} +
    mv "$2"/presentation/* "$3"/presentation/
    sync "$3"/presentation
    rm "$tar"
done
"""


@attrs.frozen
class Folders:
    """Of one round: what waits, where it is unpacked, where it shall be."""

    spool: Path
    work: Path
    published: Path
    unpublished: Path

    @classmethod
    def new(cls, stack: ExitStack, root: Path) -> Folders:
        """In a folder of their own, which `stack` removes."""
        folder = Path(tempfile.mkdtemp(dir=root))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = cls(*(folder / name for name in ("spool", "work", "published", "unpublished")))
        for path in (made.spool, made.work, made.published / "presentation", made.unpublished):
            path.mkdir(parents=True)
        return made

    def send(self, tars: list[Path]) -> None:
        """Let tars arrive."""
        for tar in tars:
            os.link(tar, self.spool / tar.name)

    def arrived(self) -> int:
        """How many recordings are in place."""
        return sum(not name.startswith(".") for name in os.listdir(self.published / "presentation"))

    def waiting(self) -> int:
        """How many tars are left."""
        return sum(name.endswith(".tar") for name in os.listdir(self.spool))


@attrs.frozen
class Scene:
    """What all rounds share. The tars' first is there to have everything started."""

    root: Path
    postgres: PostgreSQL
    redis: Redis
    simulator: Simulator
    tars: list[Path]


def measure(rounds: int, *, quick: bool = False) -> Iterator[tuple[str, list[Figure]]]:
    """The table: rates of both, and join's latency meanwhile."""
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="bench-imports-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        count = QUICK if quick else COUNT
        (root / "tars").mkdir()
        make_tars(root / "tars", count + 1)
        os.sync()
        postgres = stack.enter_context(PostgreSQL(core=BOTH_CORES))
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(10))
        scene = Scene(root, postgres, redis, simulator, sorted((root / "tars").iterdir()))
        loops: list[float] = []
        imports: list[Import] = []
        beside: list[Import] = []
        for number in range(rounds):
            say(f"{count} imports, round {number + 1} of {rounds}")
            loops.append(_loop(scene))
            imports.append(_import(scene, f"bench{number}"))
            beside.append(_import(scene, f"beside{number}", joins=True))
        loops.append(_loop(scene))
    fastest = count / min(loops)
    rate = max(count / one.seconds for one in imports)
    cpu = min(one.cpu / count for one in imports)
    note = f"{rate:.1f} / {fastest:.1f} a second; {cpu * 1e3:.1f} ms of CPU each, without PostgreSQL's"
    alone, meanwhile = (min(run.p99 for one in beside for run in runs(one)) for runs in (_alone, _meanwhile))
    yield (
        f"Import of {count:,} recordings of 1 MB, on two cores",
        [
            Figure("rate / `tar -x`, fsync, rename in a shell loop", rate / fastest, HALF, at_least=True, note=note),
            Figure(
                "p99 of join meanwhile / alone",
                meanwhile / alone,
                TWICE,
                note=f"{meanwhile * 1e3:.2f} / {alone * 1e3:.2f} ms; "
                f"{max(count / one.seconds for one in beside):.1f} imports a second",
            ),
        ],
    )


def _loop(scene: Scene) -> float:
    """Seconds that the shell loop takes."""
    with ExitStack() as stack:
        folders = Folders.new(stack, scene.root)
        folders.send(scene.tars[1:])
        paths = [str(path) for path in (folders.spool, folders.work, folders.published)]
        started = time.monotonic()
        subprocess.run(pinned(BOTH_CORES, ["sh", "-c", LOOP, "loop", *paths]), check=True, env=environment())
        seconds = time.monotonic() - started
        if folders.arrived() != len(scene.tars) - 1:
            raise BenchError("the shell loop has lost recordings")
        return seconds


@attrs.frozen
class Import:
    """One round: seconds, CPU seconds of the balancer and its import processes, runs of wrk before and meanwhile."""

    seconds: float
    cpu: float
    alone: tuple[Run, ...] = ()
    meanwhile: tuple[Run, ...] = ()


def _alone(one: Import) -> tuple[Run, ...]:
    return one.alone


def _meanwhile(one: Import) -> tuple[Run, ...]:
    return one.meanwhile


def _import(scene: Scene, name: str, *, joins: bool = False) -> Import:
    with ExitStack() as stack:
        folders = Folders.new(stack, scene.root)
        scene.postgres.create(name)
        stack.callback(scene.postgres.drop, name)
        seed(scene.redis, name, scene.simulator, 10)
        settings = {
            "DATABASE_URL": scene.postgres.url(name),
            "RECORDING_SPOOL_DIR": str(folders.spool),
            "RECORDING_WORK_DIR": str(folders.work),
            "RECORDING_PUBLISH_DIR": str(folders.published),
            "RECORDING_UNPUBLISH_DIR": str(folders.unpublished),
            "RECORDING_IMPORT_POLL_INTERVAL": "0.5",
        }
        balancer = stack.enter_context(Balancer(scene.redis, name, settings=settings, core=BOTH_CORES))
        known = calls.names("known", KNOWN)
        calls.make_meetings(balancer.port, known)
        paths = tuple(map(calls.join, known))
        # All that has to be started is.
        folders.send(scene.tars[:1])
        _until(folders, 1, balancer)

        def joined(seconds: int) -> Run:
            return wrk(balancer, balancer.port, paths, seconds, connections=JOINING, pause=PAUSE)

        alone = (joined(1), joined(5))[1:] if joins else ()
        before = _cpu_with_children(balancer)
        started = time.monotonic()
        folders.send(scene.tars[1:])
        meanwhile: list[Run] = []
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(_until, folders, len(scene.tars), balancer)
            # What overlaps the end would flatter.
            while joins and not done.done():
                run = joined(5 if len(scene.tars) > QUICK + 1 else 2)
                if not done.done() or not meanwhile:
                    meanwhile.append(run)
            ended = done.result()
        rows = scene.postgres.query("SELECT count(*) FROM recordings", database=name)[0][0]
        if rows != len(scene.tars):
            raise BenchError(f"{rows} recordings have rows: {balancer.output}")
        return Import(ended - started, _cpu_with_children(balancer) - before, alone, tuple(meanwhile))


def _until(folders: Folders, count: int, balancer: Balancer) -> float:
    """When so many recordings are in place and no tar is left. Raises BenchError."""
    limit = time.monotonic() + PATIENCE
    while folders.waiting() or folders.arrived() < count:
        if time.monotonic() > limit or balancer.popen.poll() is not None:
            raise BenchError(f"{folders.waiting()} tars are left: {balancer.output}")
        time.sleep(0.05)
    return time.monotonic()


def _cpu_with_children(balancer: Balancer) -> float:
    """CPU seconds of it and of its import processes, which last."""
    pids = Path(f"/proc/{balancer.pid}/task/{balancer.pid}/children").read_text().split()
    return balancer.cpu() + sum(cpu_seconds(int(pid)) for pid in pids)
