"""The end: what was asked is answered, to the last byte."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet import defer
from twisted.internet import reactor as _reactor

from tests.api.support import connect, responses, running

reactor: Any = _reactor


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_slowly_gets_the_whole_of_a_large_answer() -> None:
    async with running(servers=1) as balancer:
        node = balancer.nodes["s1"]
        for i in range(300):
            node.create(f"meeting-{i}", name="Name", welcome="w", meta_text="x" * 20_000)
        peer = await connect(balancer.port)
        peer.transport.pauseProducing()  # type: ignore[union-attr]
        target = balancer.url("getMeetings").removeprefix(f"http://127.0.0.1:{balancer.port}")
        peer.transport.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())  # type: ignore[union-attr]
        site = balancer.web.site
        while not site.active:
            await turn()
        while site.active:
            await turn()
        drained = defer.Deferred.fromCoroutine(site.drain(20))
        await turn()
        assert not drained.called
        peer.transport.resumeProducing()  # type: ignore[union-attr]
        assert await drained
        await peer.closed
    (answer,) = responses(peer.data)
    assert answer.header("Content-Length") == str(len(answer.body))
    assert len(answer.body) > 6_000_000


def turn() -> defer.Deferred[None]:
    """One turn of the reactor."""
    passed: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(0, passed.callback, None)
    return passed
