"""Both ways to a server behave as BBB's contract wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from scalelite.bbb.client import BadAnswer, BBBClient, Timeouts
from scalelite.bbb.transports import agent_transports, connection_pool, https_policy, treq_transports

reactor: Any = _reactor


@attrs.frozen
class Backend:
    url: str
    secret: str = "s"


class Elsewhere(Resource):
    """Sends everybody to a place where a good answer waits."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[bytes] = []

    def render_GET(self, request: Request) -> bytes:
        self.paths.append(request.path)
        if request.path == b"/elsewhere":
            return b"<response><returncode>SUCCESS</returncode></response>"
        request.setResponseCode(301)
        request.setHeader(b"location", b"/elsewhere")
        return b""


@pytest.mark.parametrize("transports", [agent_transports, treq_transports])
@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(transports: Callable[..., Any]) -> None:
    resource = Elsewhere()
    port = reactor.listenTCP(0, Site(resource), interface="127.0.0.1")
    pool = connection_pool(reactor, per_server=2)
    client = BBBClient(
        reactor,
        transports(reactor, pool, https_policy(verify=True, ca_file=None)),
        timeouts=Timeouts(5, 10),
        algorithm="SHA256",
        max_answer_size=1000,
        per_server=2,
    )
    try:
        with pytest.raises(BadAnswer):
            await client.call(Backend(f"http://127.0.0.1:{port.getHost().port}/api"), "getMeetings", {})
    finally:
        await pool.closeCachedConnections()
        await maybeDeferred(port.stopListening)
    assert resource.paths == [b"/api/getMeetings"]
