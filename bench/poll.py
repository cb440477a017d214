"""One pass of the poller over a thousand servers, against the same GETs by bare treq and lxml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import mean

from bench.fanout import FanOut
from bench.polling import Polling
from bench.processes import BACKEND_SECRET, Redis, Simulator
from bench.report import Figure
from bench.seed import seed
from scalelite.poll.poller import VERSION_EVERY

FEW, MANY, MEETINGS, ATTENDEES = 100, 1000, 20, 5
#: POLLER_THREADS' default.
CONCURRENCY = 64
#: Passes between two that ask all servers for their versions.
STEADY = VERSION_EVERY - 1


def measure(rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """The table. The passes measured are those that do not ask for versions: nine of ten."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(MANY, meetings=MEETINGS, attendees=ATTENDEES))
        passes: dict[int, Polling] = {}
        for servers in (FEW, MANY):
            seed(redis, f"bench{servers}", simulator, servers)
            passes[servers] = stack.enter_context(Polling(redis, f"bench{servers}", servers))
        bare = stack.enter_context(FanOut(simulator.ports, BACKEND_SECRET))
        bare_few = stack.enter_context(FanOut(simulator.ports[:FEW], BACKEND_SECRET))
        ours: dict[int, list[tuple[float, float]]] = {FEW: [], MANY: []}
        treq: list[tuple[float, float]] = []
        treq_few: list[tuple[float, float]] = []
        plain: list[tuple[float, float]] = []
        redis_cpu: list[float] = []
        first, _ = passes[MANY].run()
        passes[FEW].run()
        bare.round("treq+lxml", CONCURRENCY)
        bare_few.round("treq+lxml", CONCURRENCY)
        rounds = min(rounds, STEADY)
        for _ in range(rounds):
            before = redis.cpu()
            ours[MANY].append(passes[MANY].run())
            redis_cpu.append(redis.cpu() - before)
            treq.append(bare.round("treq+lxml", CONCURRENCY)[:2])
            plain.append(bare.round("agent", CONCURRENCY)[:2])
            # Several in a row: a short pass finds a quiet moment more easily than a long one.
            ours[FEW].append(_mean([passes[FEW].run() for _ in range(STEADY // rounds)]))
            treq_few.append(_mean([bare_few.round("treq+lxml", CONCURRENCY)[:2] for _ in range(STEADY // rounds)]))
        few, many, with_treq, with_treq_few, without = map(_best, (ours[FEW], ours[MANY], treq, treq_few, plain))
        yield (
            "One poll pass over 1,000 servers of 20 meetings",
            [
                _ratio("time / treq fan-out + lxml", many[0], with_treq[0], 2),
                _ratio("CPU / treq fan-out + lxml", many[1], with_treq[1], 2),
                _ratio("time / plain Agent without parsing", many[0], without[0]),
                _ratio("CPU / plain Agent without parsing", many[1], without[1]),
                _flat("time per server at 1,000 / at 100", many[0], few[0], 1),
                _flat("CPU per server at 1,000 / at 100", many[1], few[1]),
                _flat("the same of the treq fan-out, time", with_treq[0], with_treq_few[0]),
                _flat("the same of the treq fan-out, CPU", with_treq[1], with_treq_few[1]),
                Figure("CPU of Redis in such a pass", min(redis_cpu), unit="s"),
                Figure("a pass that asks for versions too", first, unit="s"),
            ],
        )


def _ratio(name: str, ours: float, theirs: float, wanted: float | None = None) -> Figure:
    return Figure(name, ours / theirs, wanted, note=f"{ours:.2f} / {theirs:.2f} s")


def _flat(name: str, many: float, few: float, wanted: float | None = None) -> Figure:
    many, few = many / MANY * 1e3, few / FEW * 1e3
    return Figure(name, many / few, wanted, note=f"{many:.2f} / {few:.2f} ms")


def _mean(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return mean(run[0] for run in runs), mean(run[1] for run in runs)


def _best(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(run[0] for run in runs), min(run[1] for run in runs)
