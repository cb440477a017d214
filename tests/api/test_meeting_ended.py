"""The end of a meeting, told by its server: the record goes, and the client's own URL is called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from scalelite.recordings.outbox_memory import MemoryOutbox
from tests.api.support import add_tenant, reactor, record_of, running, the_call
from tests.balancer import Balancer
from tests.recordings.receiver import FrontEnd, front_end

END = "meta_endCallbackUrl"
PATH = "/bigbluebutton/api/meeting_ended"


@implementer(IAgent)
@attrs.define
class Network:
    """What servers' calls go through: those to our public address reach the balancer."""

    balancer: Balancer
    agent: Any = attrs.field(factory=lambda: Agent(reactor))

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[IResponse]:
        scheme, _, rest = uri.partition(b"://")
        host, _, path = rest.partition(b"/")
        if host.endswith(b"lb.example"):
            assert scheme == b"https"
            headers.setRawHeaders(b"Host", [host])
            uri = b"http://127.0.0.1:%d/%b" % (self.balancer.port, path)
        return self.agent.request(method, uri, headers, bodyProducer)


@asynccontextmanager
async def public(servers: int = 1, **settings: Any) -> AsyncIterator[Balancer]:
    """A balancer that its servers reach as lb.example."""
    async with running(url_host="lb.example", **settings) as balancer:
        balancer.sim._agent = Network(balancer)
        await balancer.add_servers(servers)
        yield balancer


async def until(condition: Callable[[], bool]) -> None:
    """Let the reactor turn until it is so."""
    while not condition():
        await deferLater(reactor, 0.005)


async def gone(balancer: Balancer, meeting_id: str) -> None:
    while await balancer.where(meeting_id):
        await deferLater(reactor, 0.005)


async def settled(balancer: Balancer) -> None:
    outbox = balancer.parts.notices.outbox
    assert isinstance(outbox, MemoryOutbox)
    await outbox.settled()


async def create(balancer: Balancer, target: FrontEnd, meeting_id: str = "m 1/ü&", **params: str) -> None:
    answer = await balancer.call(
        "create", meetingID=meeting_id, name="Meeting", **{END: target.url("/ended?x=1"), **params}
    )
    assert answer.returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_the_record_goes_at_once_and_the_client_is_told_as_bbb_tells() -> None:
    async with front_end() as target, public() as balancer:
        await create(balancer, target)
        assert the_call(balancer, "create").query[END].startswith(f"https://lb.example{PATH}?token=")
        node = balancer.nodes["s1"]
        node.end("m 1/ü&", at_once=True)
        await gone(balancer, "m 1/ü&")
        assert await record_of(balancer, "m 1/ü&") == {}
        await target.arrived(1)
        (got,) = target.received
        assert (got.method, got.uri) == (
            "GET", "/ended?x=1&recordingmarks=false&meetingID=m%201%2F%C3%BC%26"
        )  # fmt: skip
        await until(lambda: bool(node.callbacks.log))
        assert [attempt.outcome for attempt in node.callbacks.log] == ["204"]


@pytest_twisted.ensureDeferred
async def test_the_server_is_answered_though_the_client_is_gone() -> None:
    async with front_end() as target, public() as balancer:
        await target.close()
        await create(balancer, target)
        node = balancer.nodes["s1"]
        node.end("m 1/ü&", at_once=True)
        await until(lambda: bool(node.callbacks.log))
        assert node.callbacks.log[0].outcome == "204"
        await gone(balancer, "m 1/ü&")


def called(balancer: Balancer) -> str:
    """The URL that the server was given, as this machine reaches it."""
    url: str = the_call(balancer, "create").query[END]
    return balancer.api.removesuffix("/bigbluebutton/api") + url.removeprefix("https://lb.example")


@pytest_twisted.ensureDeferred
async def test_a_call_for_a_meeting_that_runs_drops_nothing() -> None:
    async with front_end() as target, public() as balancer:
        await create(balancer, target, "m1")
        answer = await balancer.request("GET", called(balancer) + "&recordingmarks=false&meetingID=m1")
        assert answer.code == 204
        await until(lambda: any(seen.action == "getMeetingInfo" for seen in balancer.nodes["s1"].requests))
        assert await balancer.where("m1") == "s1"
        assert balancer.living_on("m1") == ["s1"]
        # BBB says so, and the client hears it: it is the record that needs proof.
        await target.arrived(1)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?token=",
        "?token=x.y&recordingmarks=false&meetingID=m1",
        "?recordingmarks=false&meetingID=m1",
        "TOKEN&recordingmarks=false&meetingID=m2",
        "TOKEN&recordingmarks=false",
        "TOKEN&recordingmarks=false&meetingID=",
        "TOKEN",
        "TOKEN&meetingID=m1&x=" + "y" * 5000,
        "TOKENx&recordingmarks=false&meetingID=m1",
    ],
)
@pytest_twisted.ensureDeferred
async def test_calls_that_no_server_makes_do_nothing(query: str) -> None:
    async with front_end() as target, public() as balancer:
        await create(balancer, target, "m1")
        url = called(balancer)
        asked = query.replace("TOKEN", url[url.index("?") :])
        answer = await balancer.request("GET", f"{balancer.api}/meeting_ended{asked}")
        assert (answer.code, answer.key) == (200, "checksumError")
        await settled(balancer)
        assert target.received == []
        assert not any(seen.action == "getMeetingInfo" for seen in balancer.nodes["s1"].requests)


@pytest_twisted.ensureDeferred
async def test_other_methods_are_no_route() -> None:
    async with front_end() as target, public() as balancer:
        await create(balancer, target, "m1")
        url = called(balancer) + "&recordingmarks=false&meetingID=m1"
        assert (await balancer.request("POST", url, body=b"")).key == "unsupportedRequest"
        assert (await balancer.request("HEAD", url)).code == 200
        await settled(balancer)
        assert target.received == []


@pytest_twisted.ensureDeferred
async def test_clients_see_their_own_url_in_answers() -> None:
    async with front_end() as target, public() as balancer:
        own = target.url("/ended?a=1&b=<2>")
        await create(balancer, target, "m1", **{END: own})
        await create(balancer, target, "m2", **{END: own})
        info = await balancer.call("getMeetingInfo", meetingID="m1")
        assert info.text("metadata/endcallbackurl") == own
        listed = await balancer.call("getMeetings")
        assert [found.text for found in listed.xml.iterfind(".//endcallbackurl")] == [own, own]
        assert b"meeting_ended" not in info.body + listed.body


@pytest_twisted.ensureDeferred
async def test_each_tenants_front_end_hears_of_its_own_meeting() -> None:
    async with front_end() as target, public(multitenancy_enabled=True) as balancer:
        await add_tenant(balancer, "one", secrets="one")
        url = balancer.url("create", secret="one", meetingID="m1", name="Meeting", **{END: target.url("/one")})
        await balancer.request("GET", url, headers={"Host": "one.lb.example"})
        assert the_call(balancer, "create").query[END].startswith(f"https://one.lb.example{PATH}?token=")
        balancer.nodes["s1"].end("m1", at_once=True)
        await gone(balancer, "m1")
        await target.arrived(1)
        assert target.received[0].uri == "/one?recordingmarks=false&meetingID=m1"


@pytest.mark.parametrize("settings", [{}, {"url_host": "lb.example", "secret_key_base": None}])
@pytest_twisted.ensureDeferred
async def test_without_an_address_or_a_key_the_clients_url_is_left_alone(settings: dict[str, Any]) -> None:
    async with front_end() as target, running(1, **settings) as balancer:
        await create(balancer, target, "m1")
        assert the_call(balancer, "create").query[END] == target.url("/ended?x=1")
        balancer.nodes["s1"].end("m1", at_once=True)
        await target.arrived(1)
        answer = await balancer.request("GET", f"{balancer.api}/meeting_ended?token=x&meetingID=m1")
        assert answer.key == "unsupportedRequest"


@pytest_twisted.ensureDeferred
async def test_the_meeting_that_was_created_again_is_not_dropped() -> None:
    async with front_end() as target, public() as balancer:
        await create(balancer, target, "m1")
        node = balancer.nodes["s1"]
        late = called(balancer) + "&recordingmarks=false&meetingID=m1"
        node.vanish("m1")
        await create(balancer, target, "m1")
        assert (await balancer.request("GET", late)).code == 204
        await until(lambda: any(seen.action == "getMeetingInfo" for seen in node.requests))
        assert await balancer.where("m1") == "s1"
