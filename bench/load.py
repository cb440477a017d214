"""wrk: load on one server, and what it measured."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_plus

import attrs

from bench.processes import LOAD_CORE, SECRET, BenchError, Process, environment, pinned

API = "/bigbluebutton/api"
CONNECTIONS = 64
SCRIPT = Path(__file__).with_name("paths.lua")


def signed(action: str, **params: str) -> str:
    """The path of a signed call to the balancer."""
    query = "&".join(f"{name}={quote_plus(value)}" for name, value in params.items())
    checksum = hashlib.sha256((action + query + SECRET).encode()).hexdigest()
    return f"{API}/{action}?{query}{'&' if query else ''}checksum={checksum}"


def asked_of(host: str, path: str) -> str:
    """A path that `wrk` and `bench.calls` ask this host for: the name by which a tenant is known."""
    return f"{path}\t{host}"


def taken_apart(call: str) -> tuple[str, dict[str, str]]:
    """The path of a call, and headers for its host if it names one."""
    path, _, host = call.partition("\t")
    return path, {"Host": host} if host else {}


@attrs.frozen
class Run:
    """One run of wrk: answers a second, CPU of the server for each in µs, latency in seconds.

    `other_cpu` is that of the other processes that were watched, in the order given, in µs a request.
    """

    requests: int
    rate: float
    cpu: float
    other_cpu: tuple[float, ...]
    p50: float
    p99: float
    longest: float


def wrk(
    server: Process,
    port: int,
    paths: Iterable[str],
    seconds: int,
    *,
    connections: int = CONNECTIONS,
    once: bool = False,
    pause: int = 0,
    others: Iterable[Process] = (),
) -> Run:
    """Ask `server` for the paths, round and round, or each of them `once` at most.

    Each connection rests for `pause` milliseconds after an answer.

    Raises BenchError if an answer was missing or neither 2xx nor 3xx, or if the paths did not suffice for `once`.
    """
    watched = [server, *others]
    with tempfile.NamedTemporaryFile("w", prefix="bench-paths-") as file:
        file.writelines(path + "\n" for path in paths)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout=30s", "-s", str(SCRIPT)]
        before = [process.cpu() for process in watched]
        started = time.monotonic()
        done = subprocess.run(
            pinned(LOAD_CORE, [*command, f"http://127.0.0.1:{port}", "--", file.name]),
            capture_output=True, text=True, env=environment(BENCH_PAUSE=str(pause)), check=False,
        )  # fmt: skip
        elapsed = time.monotonic() - started
        used = [process.cpu() - spent for process, spent in zip(watched, before, strict=True)]
    text = done.stdout
    found = re.search(r"^BENCH((?: -?\d+){8})$", text, re.MULTILINE)
    if done.returncode or found is None:
        raise BenchError(f"wrk failed: {text} {done.stderr}")
    requests, micros, p50, p99, longest, bad, broken, left = map(int, found[1].split())
    if bad or broken or not requests:
        raise BenchError(f"{bad} answers of {requests} were errors, {broken} were missing: {text}")
    if once and left < 0:
        raise BenchError(f"the calls did not suffice for {elapsed:.1f} s: {-left} came twice")
    per_request = [seconds_used / requests * 1e6 for seconds_used in used]
    return Run(
        requests, requests / micros * 1e6, per_request[0], tuple(per_request[1:]), p50 / 1e6, p99 / 1e6, longest / 1e6
    )
