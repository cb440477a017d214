"""`python -m bench.polling`: the balancer's poller, a pass for each line on standard input.

Each pass is answered by a line: [seconds, seconds of CPU, servers that answered, meetings].
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor, stdio
from twisted.protocols.basic import LineOnlyReceiver

from bench.processes import SERVER_CORE, BenchError, Process, Redis, balancer_settings, python
from scalelite.composition import build_parts, poll_service
from scalelite.poll.poller import Poller
from scalelite.process import raise_file_limit, settle_memory
from scalelite.settings import load_settings


class Polling(Process):
    """The process. `profile`: a file for cProfile's statistics, written at the end."""

    def __init__(self, redis: Redis, namespace: str, servers: int, *, profile: Path | None = None) -> None:
        command = python("bench.polling")
        if profile is not None:
            command = python("cProfile", "-o", str(profile), "-m", "bench.polling")
        super().__init__(command, SERVER_CORE, balancer_settings(redis, namespace), pipes=True)
        self._servers = servers

    def run(self) -> tuple[float, float]:
        """One pass: seconds, seconds of CPU. Raises BenchError if a server did not answer."""
        seconds, cpu, answered, _meetings = self.ask()
        if answered != self._servers:
            raise BenchError(f"{answered} of {self._servers} servers answered: {self.output}")
        return seconds, cpu


class _Passes(LineOnlyReceiver):
    delimiter = b"\n"

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()

    def lineReceived(self, line: bytes) -> None:
        defer.Deferred.fromCoroutine(self._run()).addErrback(lambda failure: failure.printTraceback())

    async def _run(self) -> None:
        cpu, started = time.process_time(), time.monotonic()
        report = await self._poller.run_pass()
        spent = [time.monotonic() - started, time.process_time() - cpu, report.answered, report.meetings]
        self.sendLine(json.dumps(spent).encode())


def main() -> None:
    raise_file_limit()
    parts = build_parts(reactor, load_settings(os.environ, root=Path()))
    parts.redis.startService()
    stdio.StandardIO(_Passes(poll_service(parts, jitter=0).poller))
    reactor.callWhenRunning(settle_memory)
    reactor.run()


if __name__ == "__main__":
    main()
