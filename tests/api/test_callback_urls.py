"""Callback URLs: kept at create, and the analytics reports that come back."""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import jwt
import orjson
import pytest
import pytest_twisted
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from scalelite.cluster.operations.analytics import MAX_REPORT
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings.outbox_memory import MemoryOutbox
from tests.api.support import add_tenant, post, reactor, running, the_call
from tests.balancer import Answer, Balancer

ANALYTICS = "meta_analytics-callback-url"
READY = "meta_bbb-recording-ready-url"


@pytest_twisted.ensureDeferred
async def test_urls_are_kept_and_ours_is_put_in_place() -> None:
    async with running(servers=1, url_host="lb.example") as balancer:
        await balancer.call(
            "create",
            **{
                "meetingID": "m1", "name": "Meeting", ANALYTICS: "https://fe.example/a?x=1", READY: "https://fe.example/r",
                "meta_canvas-recording-ready-url": "https://fe.example/c", "meta_endCallbackUrl": "https://fe.example/e",
            },
        )  # fmt: skip
        query = the_call(balancer, "create").query
        assert query[ANALYTICS] == "https://lb.example/bigbluebutton/api/analytics_callback"
        assert query["meta_endCallbackUrl"].startswith("https://lb.example/bigbluebutton/api/meeting_ended?token=")
        assert not any("recording-ready" in name for name in query)
        kept = await balancer.parts.notices.callbacks.find("m1", "")
        assert kept == CallbackURLs(recording_ready="https://fe.example/r", analytics="https://fe.example/a?x=1")
        # A later create that gives one of them leaves the other.
        await balancer.call("create", **{"meetingID": "m1", "name": "Meeting", ANALYTICS: "https://fe.example/b"})
        kept = await balancer.parts.notices.callbacks.find("m1", "")
        assert kept == CallbackURLs(recording_ready="https://fe.example/r", analytics="https://fe.example/b")


@pytest_twisted.ensureDeferred
async def test_configured_urls_are_none_of_the_rewriters_business() -> None:
    async with running(servers=1, url_host="lb.example", default_create_params={READY: "https://d"}) as balancer:
        await balancer.call("create", meetingID="m1", name="Meeting")
        assert the_call(balancer, "create").query[READY] == "https://d"
        assert await balancer.parts.notices.callbacks.find("m1", "") == CallbackURLs()


@attrs.define
class FrontEnd:
    """Where reports are delivered: notes them, answers with `statuses` one after another (the last for ever)."""

    url: str = ""
    statuses: list[int | None] = attrs.field(factory=lambda: [200])
    reports: list[tuple[dict[str, Any], dict[str, str]]] = attrs.field(factory=list)


@asynccontextmanager
async def front_end(*statuses: int | None) -> AsyncIterator[FrontEnd]:
    state = FrontEnd(statuses=list(statuses) or [200])

    class Receiver(Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> Any:
            headers = {k.decode().lower(): v[0].decode() for k, v in request.requestHeaders.getAllRawHeaders()}
            state.reports.append((orjson.loads(request.content.read()), headers))
            status = state.statuses.pop(0) if len(state.statuses) > 1 else state.statuses[0]
            if status is None:
                return NOT_DONE_YET
            request.setResponseCode(status)
            return b"ok"

    site = Site(Receiver())
    site.noisy = False
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    state.url = f"http://127.0.0.1:{port.getHost().port}/analytics?course=5"
    try:
        yield state
    finally:
        await port.stopListening()


def token(secret: str, *, algorithm: str = "HS512", **claims: Any) -> str:
    """What a server signs its report with; its secret is shorter than the library would have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode({"exp": int(time.time()) + 3600, **claims}, secret, algorithm=algorithm)


def claims_of(headers: dict[str, str], secret: bytes) -> Any:
    """The claims of a bearer token, if that secret signed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.decode(headers["authorization"].removeprefix("Bearer "), secret, algorithms=["HS512"])


async def with_signed_meeting(balancer: Balancer, url: str) -> None:
    """Two servers, and a meeting that wants reports."""
    await balancer.add_server("other", secret="o" * 40)
    await balancer.add_server("s1", secret="s" * 40)
    await balancer.poll_now()
    secret = balancer.settings.loadbalancer_secrets[0].decode()
    created = await balancer.call("create", secret=secret, **{"meetingID": "m1", "name": "Meeting", ANALYTICS: url})
    assert created.returncode == "SUCCESS"


async def report(
    balancer: Balancer,
    authorization: str | None,
    body: bytes = b'{"meeting_id": "m1", "data": {"n": 1, "name": "\xc3\xa9"}}',
    content_type: str | None = "application/json",
    **headers: str,
) -> Answer:
    if authorization is not None:
        headers["Authorization"] = authorization
    answer = await post(balancer, "analytics_callback", body, content_type, sign=False, **headers)
    await settled(balancer)
    return answer


async def settled(balancer: Balancer) -> None:
    """Reports are answered at once, and delivered then."""
    outbox = balancer.parts.notices.outbox
    assert isinstance(outbox, MemoryOutbox)
    await outbox.settled()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest_twisted.ensureDeferred
async def test_a_report_is_passed_on_signed_anew(scheme: str) -> None:
    secret = b"l" * 40
    async with front_end() as target, running(loadbalancer_secrets=(secret,), url_host="lb") as balancer:
        await with_signed_meeting(balancer, target.url)
        answer = await report(balancer, f"{scheme} {token('s' * 40)}")
        assert (answer.code, answer.body) == (204, b"")
        ((got, headers),) = target.reports
        assert got == {"meeting_id": "m1", "data": {"n": 1, "name": "é"}, "customer": "scalelite"}
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"] == "BigBlueButton Analytics Callback"
        kind, _, bearer = headers["authorization"].partition(" ")
        assert kind == "Bearer"
        assert jwt.get_unverified_header(bearer) == {"alg": "HS512", "typ": "JWT"}
        claims = claims_of(headers, secret)
        assert 86_300 < claims["exp"] - time.time() <= 86_400


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer a.b.c",
        f"Basic {token('s' * 40)}",
        f"Bearer {token('s' * 40, exp=1)}",
        f"Bearer {token('x' * 40)}",
        f"Bearer {token('s' * 40, algorithm='HS256')}",
        "Bearer " + jwt.encode({"exp": 9999999999}, None, algorithm="none"),
        token("s" * 40),
    ],
)
@pytest_twisted.ensureDeferred
async def test_reports_without_a_good_token_are_dropped(authorization: str | None) -> None:
    async with front_end() as target, running(loadbalancer_secrets=(b"l" * 40,)) as balancer:
        await with_signed_meeting(balancer, target.url)
        answer = await report(balancer, authorization)
        assert (answer.code, answer.body) == (204, b"")
        assert target.reports == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"meeting_id": 5}',
        b'{"meeting_id": "m\\u00001"}',
        b'{"meeting_id": "%b"}' % (b"m" * 257),
        b'{"meeting_id": "unknown"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_reports_that_make_no_sense_are_dropped(body: bytes) -> None:
    async with front_end() as target, running(loadbalancer_secrets=(b"l" * 40,)) as balancer:
        await with_signed_meeting(balancer, target.url)
        answer = await report(balancer, f"Bearer {token('o' * 40)}", body)
        assert (answer.code, answer.body) == (204, b"")
        assert target.reports == []


@pytest_twisted.ensureDeferred
async def test_any_servers_token_and_any_content_type_will_do() -> None:
    async with front_end() as target, running(loadbalancer_secrets=(b"l" * 40,)) as balancer:
        await with_signed_meeting(balancer, target.url)
        for content_type in ("application/json; charset=utf-8", "text/plain", None):
            assert (await report(balancer, f"Bearer {token('o' * 40)}", content_type=content_type)).code == 204
        assert len(target.reports) == 3


@pytest.mark.parametrize(("statuses", "tries"), [((401, 200), 2), ((500, 404, 200), 2), ((204,), 1), ((302, 200), 2)])
@pytest_twisted.ensureDeferred
async def test_secrets_are_tried_until_one_is_taken(statuses: tuple[int, ...], tries: int) -> None:
    secrets = (b"l" * 40, b"m" * 40)
    async with front_end(*statuses) as target, running(loadbalancer_secrets=secrets) as balancer:
        await with_signed_meeting(balancer, target.url)
        assert (await report(balancer, f"Bearer {token('s' * 40)}")).code == 204
        assert len(target.reports) == tries
        for (_, headers), secret in zip(target.reports, secrets, strict=False):
            claims_of(headers, secret)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "ftp://x/y", "http://[::1", ""])
@pytest_twisted.ensureDeferred
async def test_a_front_end_that_can_not_be_reached_does_no_harm(url: str) -> None:
    async with running(loadbalancer_secrets=(b"l" * 40,)) as balancer:
        await with_signed_meeting(balancer, url)
        assert (await report(balancer, f"Bearer {token('s' * 40)}")).code == 204


@pytest_twisted.ensureDeferred
async def test_a_report_that_is_too_long_is_dropped() -> None:
    async with front_end() as target, running(loadbalancer_secrets=(b"l" * 40,)) as balancer:
        await with_signed_meeting(balancer, target.url)
        body = orjson.dumps({"meeting_id": "m1", "data": "x" * MAX_REPORT})
        assert (await report(balancer, f"Bearer {token('s' * 40)}", body)).code == 204
        assert target.reports == []


@pytest_twisted.ensureDeferred
async def test_tenants_get_their_own_reports_only() -> None:
    async with (
        front_end() as target,
        running(multitenancy_enabled=True, url_host="lb.example") as balancer,
    ):
        for name in ("one", "two"):
            await add_tenant(balancer, name, secrets=name * 12)
        await balancer.add_server("s1", secret="s" * 40)
        await balancer.poll_now()
        url = balancer.url("create", secret="one" * 12, **{"meetingID": "m1", "name": "Meeting", ANALYTICS: target.url})
        await balancer.request("GET", url, headers={"Host": "one.lb.example"})
        assert the_call(balancer, "create").query[ANALYTICS] == (
            "https://one.lb.example/bigbluebutton/api/analytics_callback"
        )
        bearer = f"Bearer {token('s' * 40)}"
        assert (await report(balancer, bearer, Host="two.lb.example")).code == 204
        assert target.reports == []
        unknown = await report(balancer, bearer, Host="three.lb.example")
        assert (unknown.code, unknown.key) == (200, "checksumError")
        assert (await report(balancer, bearer, Host="one.lb.example")).code == 204
        ((got, headers),) = target.reports
        assert got["customer"] == "one"
        claims_of(headers, b"one" * 12)


@pytest_twisted.ensureDeferred
async def test_a_meeting_recorded_without_tenant_is_met_by_a_tenants_create() -> None:
    async with running(multitenancy_enabled=True, url_host="lb.example") as balancer:
        await add_tenant(balancer, "one", secrets="one")
        await balancer.add_servers(1)
        await balancer.redis("HSET", balancer.key("meeting:m1"), "server_id", "s1", "tenant_id", "")
        params = {"meetingID": "m1", "name": "Meeting", READY: "https://fe.example/r"}
        answer = await balancer.request(
            "GET", balancer.url("create", secret="one", **params), headers={"Host": "one.lb.example"}
        )
        assert answer.returncode == "SUCCESS"
        assert the_call(balancer, "create").query["meta_tenant-id"] == "id-of-one"
        kept = await balancer.parts.notices.callbacks.find("m1", "id-of-one")
        assert kept == CallbackURLs(recording_ready="https://fe.example/r")
