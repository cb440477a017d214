"""`python -m bench.fanout`: the least that a round of GETs over many servers costs, without any of ours.

Standard input: a line of JSON with the URLs, then a line [kind, concurrency] for each round; concurrency 0 is all
at once. Each round is answered by a line: [seconds, seconds of CPU, bytes].
"""

from __future__ import annotations

import gc
import json
import time
from typing import Any

from lxml import etree
from treq.client import HTTPClient
from twisted.internet import defer, reactor, stdio
from twisted.protocols.basic import LineOnlyReceiver
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from bench.processes import SERVER_CORE, Process, environment, python
from scalelite.bbb.query import signed_url


class FanOut(Process):
    """The process, ready to ask the servers at these ports for their meetings."""

    def __init__(self, ports: list[int], secret: str) -> None:
        super().__init__(python("bench.fanout"), SERVER_CORE, environment(), pipes=True)
        roots = [f"http://127.0.0.1:{port}/bigbluebutton/api" for port in ports]
        self.ask(*(signed_url(root, secret, "getMeetings", {}, "SHA256") for root in roots))

    def round(self, kind: str, concurrency: int = 0) -> tuple[float, float, int]:
        """One round of `agent`, `agent+lxml` or `treq+lxml`: seconds, seconds of CPU, bytes."""
        seconds, cpu, size = self.ask(kind, concurrency)
        return seconds, cpu, size


class _Rounds(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self) -> None:
        self._urls: list[str] = []
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 64
        self._agent = Agent(reactor, pool=pool)
        self._treq = HTTPClient(self._agent)

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()

    def lineReceived(self, line: bytes) -> None:
        order = json.loads(line)
        if not self._urls:
            self._urls = order
            gc.collect()
            gc.freeze()
            gc.set_threshold(50000, 50, 50)
            self.sendLine(b"[]")
            return
        defer.Deferred.fromCoroutine(self._round(*order)).addErrback(lambda failure: failure.printTraceback())

    async def _round(self, kind: str, concurrency: int) -> None:
        ask = {"agent": self._by_agent, "agent+lxml": self._by_agent_parsed, "treq+lxml": self._by_treq_parsed}[kind]
        slots = defer.DeferredSemaphore(concurrency or len(self._urls))
        cpu, started = time.process_time(), time.monotonic()
        sizes = await defer.gatherResults([slots.run(ask, url) for url in self._urls])
        spent = [time.monotonic() - started, time.process_time() - cpu, sum(sizes)]
        self.sendLine(json.dumps(spent).encode())

    def _by_agent(self, url: str) -> defer.Deferred[int]:
        return self._agent.request(b"GET", url.encode()).addCallback(readBody).addCallback(len)

    def _by_agent_parsed(self, url: str) -> defer.Deferred[int]:
        return self._agent.request(b"GET", url.encode()).addCallback(readBody).addCallback(_parsed)

    def _by_treq_parsed(self, url: str) -> defer.Deferred[int]:
        # Unbuffered, as the poller uses it: treq's default keeps the body for a second reader, and costs more.
        sent: defer.Deferred[Any] = self._treq.get(url, unbuffered=True)
        return sent.addCallback(lambda response: response.content()).addCallback(_parsed)


def _parsed(body: bytes) -> int:
    if etree.fromstring(body).findtext("returncode") != "SUCCESS":
        raise ValueError(body[:300])
    return len(body)


if __name__ == "__main__":
    stdio.StandardIO(_Rounds())
    reactor.run()
