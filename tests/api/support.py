"""Helpers of these tests: balancers with other settings, tenants, raw HTTP over a socket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
from lxml import etree
from twisted.internet import defer
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site

from scalelite.cluster.records import ServerState
from tests.balancer import Answer, Balancer

reactor: Any = _reactor
FORM = "application/x-www-form-urlencoded"


@asynccontextmanager
async def running(servers: int = 0, **settings: Any) -> AsyncIterator[Balancer]:
    """A balancer with these settings and so many servers."""
    balancer = await Balancer.start(**settings)
    try:
        if servers:
            await balancer.add_servers(servers)
        yield balancer
    finally:
        await balancer.stop()


async def add_tenant(
    balancer: Balancer, name: str, *, secrets: str, tenant_id: str = "", fields: dict[str, str] | None = None
) -> str:
    """Record a tenant as Scalelite does; its id."""
    tenant_id = tenant_id or f"id-of-{name}"
    pairs = {"name": name, "secrets": secrets, **(fields or {})}
    await balancer.redis("SADD", balancer.key("tenants"), tenant_id)
    await balancer.redis("HSET", balancer.key(f"tenant:{tenant_id}"), *[x for pair in pairs.items() for x in pair])
    await balancer.redis("HSET", balancer.key(f"tenant_name:{name}"), "id", tenant_id)
    return tenant_id


async def add_tenant_setting(balancer: Balancer, tenant_id: str, param: str, value: str, *, override: bool) -> None:
    """Record a setting of a tenant as Scalelite does."""
    setting_id = f"{tenant_id}-{param}-{override}"
    await balancer.redis("SADD", balancer.key(f"tenant_settings:{tenant_id}"), setting_id)
    await balancer.redis(
        "HSET", balancer.key(f"tenant_setting:{setting_id}"),
        "param", param, "value", value, "override", str(override).lower(), "tenant_id", tenant_id,
    )  # fmt: skip


async def post(
    balancer: Balancer,
    action: str,
    body: bytes,
    content_type: str | None = FORM,
    *,
    query: str = "",
    sign: bool = True,
    **headers: str,
) -> Answer:
    """POST a body; the checksum goes last into the query."""
    if sign:
        query += f"{'&' if query else ''}checksum={balancer.sign(action, query)}"
    sent = {"Content-Type": content_type} if content_type is not None else {}
    return await balancer.request(
        "POST", f"{balancer.api}/{action}{'?' if query else ''}{query}", body=body, headers={**sent, **headers}
    )


def calls(balancer: Balancer, action: str, server_id: str | None = None) -> list[Any]:
    """What servers were asked for: all logged requests of an action."""
    return [
        logged
        for name, node in balancer.nodes.items()
        if server_id in (None, name)
        for logged in node.requests
        if logged.action == action
    ]


def the_call(balancer: Balancer, action: str) -> Any:
    """The only request of an action that servers got."""
    (only,) = calls(balancer, action)
    return only


@attrs.frozen
class RawAnswer:
    """One HTTP response as it came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        found = re.search(rb"(?im)^%b: ?(.*?)\r$" % re.escape(name.encode()), self.head)
        return found[1].decode() if found else None

    @property
    def key(self) -> str | None:
        return etree.fromstring(self.body).findtext("messageKey")


class _Collect(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.closed: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def connect(port: int) -> _Collect:
    """A connection over which raw bytes can be sent."""
    endpoint = HostnameEndpoint(reactor, b"127.0.0.1", port)
    connected: _Collect = await connectProtocol(endpoint, _Collect())
    return connected


async def exchange(port: int, *sent: bytes) -> list[RawAnswer]:
    """Send raw bytes and read until the server closes; the responses."""
    peer = await connect(port)
    for data in sent:
        peer.transport.write(data)  # type: ignore[union-attr]
    await peer.closed.addTimeout(20, reactor)
    return list(responses(peer.data))


def responses(data: bytes, *, head: bool = False) -> Iterator[RawAnswer]:
    """The responses in `data`; those to HEAD have no body."""
    while data:
        top, _, data = data.partition(b"\r\n\r\n")
        status = int(top.split(b" ")[1])
        length = re.search(rb"(?im)^content-length: ?(\d+)", top)
        size = 0 if head or length is None else int(length[1])
        assert len(data) >= size, (top, data)
        yield RawAnswer(status, top + b"\r\n", data[:size])
        data = data[size:]


async def load_of(balancer: Balancer, server_id: str) -> float | None:
    """A server's load as it counts for new meetings; None if it takes none."""
    score = await balancer.redis("ZSCORE", balancer.key("server_load"), server_id)
    return None if score is None else float(score)


async def record_of(balancer: Balancer, meeting_id: str) -> dict[str, str]:
    """A meeting's record as Scalelite would read it; empty if there is none."""
    flat = await balancer.redis("HGETALL", balancer.key(f"meeting:{meeting_id}"))
    return dict(flat) if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


async def bridges(balancer: Balancer) -> dict[str, str]:
    """Voice bridges given out: number to meeting id."""
    flat = await balancer.redis("HGETALL", balancer.key("voice_bridges"))
    return dict(flat) if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


async def bookkeeping(balancer: Balancer) -> set[str]:
    """Names of all keys about meetings: nothing of a meeting is left if there are none."""
    names = {name.removeprefix(balancer.key("")) for name in await balancer.redis("KEYS", "*")}
    return {
        name
        for name in names
        if name.startswith(("meeting:", "meetings", "voice_bridges", "balancer:pending", "balancer:old_copies"))
    }


class _Fixed(Resource):
    isLeaf = True

    def __init__(self, answers: dict[str, bytes], requests: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.answers = answers
        self.requests = requests

    def render(self, request: Any) -> bytes:
        action = request.path.decode().rpartition("/")[2]
        self.requests.append((action, request.uri))
        request.setHeader(b"Content-Type", b"text/xml")
        return self.answers[action]


@attrs.define
class Scripted:
    """A server that answers what a test says; `answers` by action."""

    answers: dict[str, bytes]
    requests: list[tuple[str, bytes]]
    port: Any


@asynccontextmanager
async def scripted_server(balancer: Balancer, server_id: str, **answers: bytes) -> AsyncIterator[Scripted]:
    """Add a server to the pool, enabled and online with load 0, that gives fixed answers."""
    requests: list[tuple[str, bytes]] = []
    site = Site(_Fixed(answers, requests))
    site.noisy = False
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/bigbluebutton/api"
    await balancer.parts.servers.add(server_id, url, "secret of it")
    await balancer.parts.servers.set_state(server_id, ServerState.ENABLED)
    await balancer.redis("HSET", balancer.key(f"server:{server_id}"), "online", "true")
    await balancer.redis("ZADD", balancer.key("server_load"), "0", server_id)
    try:
        yield Scripted(answers, requests, port)
    finally:
        for pool in balancer.parts.pools:
            await pool.closeCachedConnections()
        await port.stopListening()
