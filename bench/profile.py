"""Where the time of one kind of request goes, by cProfile."""

from __future__ import annotations

import io
import pstats
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import calls
from bench.getmeetings import ATTENDEES, MEETINGS, SERVERS, Caller
from bench.load import API, wrk
from bench.poll import MANY
from bench.polling import Polling
from bench.processes import ROOT, Balancer, Redis, Simulator
from bench.requests import NEW_PER_SECOND
from bench.seed import seed


def _wrk(paths: Callable[[int], tuple[str, ...]]) -> Callable[[Balancer, int], None]:
    def run(balancer: Balancer, seconds: int) -> None:
        wrk(balancer, balancer.port, paths(seconds), seconds)

    return run


def _get_meetings(balancer: Balancer, seconds: int) -> None:
    caller = Caller(balancer.port)
    for _ in range(max(1, seconds * 2)):
        caller.call()


_KNOWN = calls.names("known", 100)

LOADS: dict[str, Callable[[Balancer, int], None]] = {
    "index": _wrk(lambda seconds: (API,)),
    "unknown": _wrk(lambda seconds: tuple(map(calls.running, calls.names("unknown", 100)))),
    "join": _wrk(lambda seconds: tuple(map(calls.join, _KNOWN))),
    "proxied": _wrk(lambda seconds: tuple(map(calls.running, _KNOWN))),
    "create": _wrk(lambda seconds: tuple(map(calls.create, _KNOWN))),
    "create-new": _wrk(lambda seconds: tuple(map(calls.create, calls.names("new", NEW_PER_SECOND * seconds)))),
    "getmeetings": _get_meetings,
}


def _poll(folder: Path, passes: int) -> Path:
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(MANY, meetings=MEETINGS, attendees=ATTENDEES))
        seed(redis, "bench", simulator, MANY)
        with Polling(redis, "bench", MANY, profile=folder / "profile") as polling:
            for _ in range(passes):
                polling.run()
    return folder / "profile"


def _serve(kind: str, folder: Path, seconds: int) -> Path:
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        filled = {"meetings": MEETINGS, "attendees": ATTENDEES} if kind == "getmeetings" else {}
        servers = SERVERS if kind == "getmeetings" else 10
        simulator = stack.enter_context(Simulator(servers, **filled))
        seed(redis, "bench", simulator, servers)
        with Balancer(redis, "bench", profile=folder / "profile") as balancer:
            calls.make_meetings(balancer.port, _KNOWN)
            LOADS[kind](balancer, seconds)
    return folder / "profile"


def run(kind: str, seconds: int, lines: int, order: str) -> str:
    """The functions that cost most, as pstats prints them; `order` is one of pstats' sort keys."""
    text = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = _poll(Path(folder), max(2, seconds)) if kind == "poll" else _serve(kind, Path(folder), seconds)
        pstats.Stats(str(path), stream=text).sort_stats(order).print_stats(lines)
    shown = text.getvalue()
    # Folders of packages say nothing and make the lines long.
    for prefix in sorted({str(ROOT), *filter(None, sys.path)}, key=len, reverse=True):
        shown = re.sub(rf"(?<=\s){re.escape(prefix)}/", "", shown)
    return shown
