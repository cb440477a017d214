"""A whole balancer in this process: the real edge, store scripts, client and poller, over simulated BBB servers."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import attrs
import treq
from lxml import etree
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool

from scalelite import service
from scalelite.api.listening import bind
from scalelite.api.service import WebService
from scalelite.archive import shared_services
from scalelite.cluster.records import ServerState
from scalelite.poll.service import PollService
from scalelite.settings import RedisSettings, Settings
from scalelite.simulator import Node, Simulator

SECRET = "secret"
reactor: Any = _reactor


@attrs.frozen
class Answer:
    """What the balancer answered."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> etree._Element:
        return etree.fromstring(self.body)

    def text(self, path: str) -> str | None:
        """Text of the element at `path` below `<response>`."""
        return self.xml.findtext(path)

    @property
    def returncode(self) -> str | None:
        return self.text("returncode")

    @property
    def key(self) -> str | None:
        return self.text("messageKey")

    @property
    def message(self) -> str | None:
        return self.text("message")

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def location_params(self) -> dict[str, str]:
        """Parameters of the redirect's URL."""
        return dict(parse_qsl(urlsplit(self.location).query, keep_blank_values=True))


@attrs.define
class Balancer:
    """`settings`, stores (`parts`), `port` and the simulator `sim` of a running balancer."""

    settings: Settings
    parts: service.Parts
    web: WebService
    poll: PollService
    sim: Simulator
    pool: HTTPConnectionPool
    nodes: dict[str, Node] = attrs.field(factory=dict)

    @classmethod
    async def start(cls, *, redis: RedisSettings | None = None, **overrides: Any) -> Balancer:
        """Start one with `Settings.for_tests(**overrides)`; `redis` names a real server instead of fakeredis."""
        settings = Settings.for_tests(**overrides)
        if redis is not None:
            settings = attrs.evolve(settings, redis=redis)
        parts = service.build_parts(reactor, settings, memory_store=redis is None)
        parts.redis.startService()
        if parts.archive is not None:
            for shared in shared_services(parts.archive):
                shared.startService()
        for delivering in parts.notices.services:
            delivering.startService()
        web = WebService(reactor, service.web_site(parts), bind(settings.bind), settings.drain_timeout)
        web.startService()
        poll = service.poll_service(parts, jitter=0)
        return cls(settings, parts, web, poll, Simulator(reactor, seed=1), HTTPConnectionPool(reactor))

    async def stop(self) -> None:
        await self.pool.closeCachedConnections()
        await self.web.stopService()
        await self.sim.stop()
        for pool in self.parts.pools:
            await pool.closeCachedConnections()
        for delivering in self.parts.notices.services:
            await maybeDeferred(delivering.stopService)
        if self.parts.archive is not None:
            for shared in reversed(shared_services(self.parts.archive)):
                await maybeDeferred(shared.stopService)
        await self.parts.redis.stopService()

    async def schema_settled(self) -> None:
        """Wait until the database's tables have been looked at: only then it stays held if a test holds it."""
        assert self.parts.archive is not None
        while self.parts.archive.schema.working:
            await deferLater(reactor, 0.001)

    @property
    def port(self) -> int:
        return int(self.web.addresses[0].port)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/bigbluebutton/api"

    async def add_server(
        self, server_id: str, *, enabled: bool = True, tag: str = "", load_multiplier: float = 1.0, **node: Any
    ) -> Node:
        """Add a simulated server to the pool (`poll_now` makes it eligible). `node` goes to `Simulator.add_node`."""
        added = await self.sim.add_node(**{"secret": f"secret of {server_id}", **node})
        self.nodes[server_id] = added
        await self.parts.servers.add(server_id, added.url, added.secret, load_multiplier, tag)
        if enabled:
            await self.parts.servers.set_state(server_id, ServerState.ENABLED)
        return added

    async def add_servers(self, count: int, **options: Any) -> list[Node]:
        """Add and poll `count` enabled servers, "s1", "s2" and so on."""
        nodes = [await self.add_server(f"s{i + 1}", **options) for i in range(count)]
        await self.poll_now()
        return nodes

    async def poll_now(self) -> Any:
        """Run one pass of the poller; its report."""
        return await self.poll.poller.run_pass()

    def sign(self, action: str, query: str, *, secret: str = SECRET, algorithm: str = "sha256") -> str:
        """The checksum of a call."""
        return hashlib.new(algorithm, (action + query + secret).encode()).hexdigest()

    def url(self, action: str, *, secret: str = SECRET, algorithm: str = "sha256", **params: str) -> str:
        """A signed URL of the balancer's API."""
        query = "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in params.items())
        checksum = self.sign(action, query, secret=secret, algorithm=algorithm)
        return f"{self.api}/{action}?{query}{'&' if query else ''}checksum={checksum}"

    async def call(self, action: str, *, secret: str = SECRET, algorithm: str = "sha256", **params: str) -> Answer:
        """GET a signed call."""
        return await self.request("GET", self.url(action, secret=secret, algorithm=algorithm, **params))

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Any request; redirects are not followed."""
        client = treq.client.HTTPClient(Agent(reactor, pool=self.pool))
        response = await client.request(
            method, url, data=body, headers=headers or {}, allow_redirects=False, unbuffered=True
        )
        content = await response.content()
        return Answer(
            response.code,
            {k.decode().lower(): v[-1].decode() for k, v in response.headers.getAllRawHeaders()},
            content,
        )

    async def redis(self, *command: str) -> Any:
        """A raw command to the store; keys are without namespace here, and get it by `key`."""
        return await self.parts.redis.call(*command)

    def key(self, name: str) -> str:
        """A key of Scalelite's layout with the namespace."""
        return self.settings.redis.prefix + name

    async def where(self, meeting_id: str) -> str | None:
        """The id of the server that holds a meeting's record."""
        found = await self.parts.meetings.find(meeting_id)
        return found.meeting.server_id if found else None

    def living_on(self, meeting_id: str) -> list[str]:
        """The ids of the servers on which the meeting exists and is not ended."""
        return sorted(
            server_id
            for server_id, node in self.nodes.items()
            if meeting_id in node.meetings and not node.meetings[meeting_id].ended
        )
