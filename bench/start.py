"""From start to first answer, against importing the same libraries."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.load import API
from bench.processes import SERVER_CORE, Balancer, BenchError, Redis, Simulator, environment, get, pinned
from bench.report import Figure
from bench.seed import seed

_LIST = """
import json, sys
before = set(sys.modules)
import twisted.scripts.twistd, twisted.internet.reactor, scalelite.service
print(json.dumps([name for name, module in sys.modules.items()
                  if name not in before and name.partition(".")[0] != "scalelite"
                  and getattr(module, "__spec__", None) is not None]))
"""


def libraries() -> list[str]:
    """The modules that the balancer imports before it serves, without its own, in the order of their import."""
    done = subprocess.run([sys.executable, "-c", _LIST], env=environment(), capture_output=True, text=True, check=True)
    names: list[str] = json.loads(done.stdout)
    return names


def import_seconds(names: list[str]) -> float:
    """How long a new Python takes to import these modules and to end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "imports.py"
        lines = ["import importlib", "for name in (", *(f"    {name!r}," for name in names), "):"]
        lines += ["    try:", "        importlib.import_module(name)", "    except ImportError:", "        pass"]
        # Straight out: tearing the modules down is no part of importing them.
        lines += ["import os", "os._exit(0)"]
        file.write_text("\n".join(lines) + "\n")
        command = pinned(SERVER_CORE, [sys.executable, str(file)])
        started = time.monotonic()
        subprocess.run(command, env=environment(), check=True, cwd=folder)
        return time.monotonic() - started


def first_answer_seconds(redis: Redis) -> float:
    """How long twistd takes from its start to its first answer."""
    started = time.monotonic()
    with Balancer(redis, "bench", wait=False) as balancer:
        while True:
            try:
                status, _ = get(balancer.port, API)
            except OSError:
                if balancer.popen.poll() is not None or time.monotonic() - started > 60:
                    raise BenchError(f"did not start: {balancer.output}") from None
                time.sleep(0.002)
                continue
            seconds = time.monotonic() - started
            if status != 200:
                raise BenchError(f"the first answer was {status}")
            return seconds


def measure(rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """The table."""
    names = libraries()
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        simulator = stack.enter_context(Simulator(10))
        seed(redis, "bench", simulator, 10)
        # The first of each finds nothing in the page cache.
        import_seconds(names)
        first_answer_seconds(redis)
        imports, starts = [], []
        for _ in range(rounds + 2):
            imports.append(import_seconds(names))
            starts.append(first_answer_seconds(redis))
    ours, theirs = min(starts), min(imports)
    note = f"{ours:.2f} / {theirs:.2f} s, {len(names)} modules"
    yield "Start", [Figure("start to first answer / importing the same libraries", ours / theirs, 2, note=note)]
