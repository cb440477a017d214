"""One attempt to deliver a notice, to a real front-end."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.task import Clock

from scalelite.bbb.transports import https_policy
from scalelite.cluster.callbacks import Kind, Notice
from scalelite.recordings.delivery import (
    ATTEMPT_TIMEOUT,
    EXCHANGE_TIMEOUT,
    Deliverer,
    Outcome,
    SigningSecrets,
    Verdict,
)
from scalelite.recordings.targets import TargetRules, guarded_transport
from scalelite.simulator import Simulator
from scalelite.store.connection import connect_memory
from scalelite.store.tenants import TenantStore
from tests.recordings.receiver import front_end

NOW = 1_700_000_000.5
ONE, TWO = b"1" * 64, b"2" * 64
real: Any = reactor


class Fixed:
    def __init__(self, secrets: Sequence[bytes]) -> None:
        self.secrets = secrets

    async def of(self, tenant_id: str) -> Sequence[bytes]:
        return self.secrets


PRIVATE = TargetRules(private=True)


def deliverer(
    *secrets: bytes,
    rules: TargetRules = PRIVATE,
    algorithms: Sequence[str] = ("SHA1", "SHA256", "SHA512"),
    clock: Any = reactor,
) -> Deliverer:
    policy = https_policy(verify=True, ca_file=None)
    transport = guarded_transport(reactor, real.nameResolver, rules, policy, 5)
    return Deliverer(clock, transport, rules, Fixed(secrets or (ONE,)), algorithms, lambda: NOW)


def ready(url: str) -> Notice:
    return Notice(Kind.RECORDING_READY, "", "math ü", url, record_id="r-1")


def analytics(url: str) -> Notice:
    return Notice(Kind.ANALYTICS, "", "m1", url, '{"meeting_id":"m1","customer":"scalelite","ü":1}')


def ended(url: str) -> Notice:
    return Notice(Kind.MEETING_ENDED, "", "a b", url, "recordingmarks=false&meetingID=a%20b")


NOTICES = [ready, analytics, ended]


@pytest.mark.parametrize(
    ("algorithms", "algorithm"),
    [
        (("SHA1", "SHA256", "SHA512"), "HS256"),
        (("SHA512",), "HS512"),
        (("SHA1", "SHA512"), "HS512"),
        (("SHA1",), "HS256"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_recording_ready_is_a_signed_form(algorithms: Sequence[str], algorithm: str) -> None:
    async with front_end() as target:
        made = deliverer(ONE, algorithms=algorithms)
        assert (await made.deliver(ready(target.url("/ready?course=5")))).verdict is Verdict.DONE
        (got,) = target.received
        assert (got.method, got.uri) == ("POST", "/ready?course=5")
        assert got.headers["content-type"] == "application/x-www-form-urlencoded"
        form = parse_qs(got.body.decode())
        assert list(form) == ["signed_parameters"]
        (token,) = form["signed_parameters"]
        head, claims, _ = token.split(".")
        assert base64.urlsafe_b64decode(head + "==") == b'{"alg":"%s"}' % algorithm.encode()
        # In this order, and no others.
        assert base64.urlsafe_b64decode(claims + "==").decode() == '{"meeting_id":"math ü","record_id":"r-1"}'
        jwt.decode(token, ONE, algorithms=[algorithm])


@pytest_twisted.ensureDeferred
async def test_analytics_are_passed_on_under_a_bearer_token() -> None:
    async with front_end() as target:
        assert (await deliverer(ONE).deliver(analytics(target.url("/a?x=1")))).verdict is Verdict.DONE
        (got,) = target.received
        assert (got.method, got.uri, got.body) == (
            "POST", "/a?x=1", '{"meeting_id":"m1","customer":"scalelite","ü":1}'.encode()
        )  # fmt: skip
        assert got.headers["content-type"] == "application/json"
        assert got.headers["user-agent"] == "BigBlueButton Analytics Callback"
        kind, _, token = got.headers["authorization"].partition(" ")
        head, claims, _ = token.split(".")
        assert kind == "Bearer"
        assert base64.urlsafe_b64decode(head + "==") == b'{"typ":"JWT","alg":"HS512"}'
        assert json.loads(base64.urlsafe_b64decode(claims + "==")) == {"exp": int(NOW) + 86400}
        jwt.decode(token, ONE, algorithms=["HS512"], options={"verify_exp": False})


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/end", "/end?recordingmarks=false&meetingID=a%20b"),
        ("/end?x=1", "/end?x=1&recordingmarks=false&meetingID=a%20b"),
        ("/end?meetingID=other", "/end?meetingID=other&recordingmarks=false&meetingID=a%20b"),
        ("", "/?recordingmarks=false&meetingID=a%20b"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_end_is_told_with_bbbs_own_parameters(path: str, asked: str) -> None:
    async with front_end() as target:
        assert (await deliverer(ONE).deliver(ended(target.url(path)))).verdict is Verdict.DONE
        (got,) = target.received
        assert (got.method, got.uri, got.body) == ("GET", asked, b"")
        assert "authorization" not in got.headers


@pytest.mark.parametrize(
    ("kind", "statuses", "verdict", "tries"),
    [
        (ready, (200,), Verdict.DONE, 1),
        (ready, (204,), Verdict.DONE, 1),
        (ready, (401, 200), Verdict.DONE, 2),
        (ready, (302, 200), Verdict.DONE, 2),
        (ready, (500, 500), Verdict.LATER, 2),
        (ready, (401, 401), Verdict.LATER, 2),
        (ready, (404,), Verdict.NEVER, 1),
        (ready, (410,), Verdict.NEVER, 1),
        (ready, (401, 404), Verdict.NEVER, 2),
        (analytics, (401, 200), Verdict.DONE, 2),
        (analytics, (404, 200), Verdict.DONE, 2),
        (analytics, (404, 404), Verdict.NEVER, 2),
        (analytics, (500, 502), Verdict.LATER, 2),
        (ended, (200,), Verdict.DONE, 1),
        (ended, (500,), Verdict.LATER, 1),
        (ended, (404,), Verdict.NEVER, 1),
        (ended, (301,), Verdict.LATER, 1),
    ],
)
@pytest_twisted.ensureDeferred
async def test_statuses_decide(kind: Any, statuses: tuple[int, ...], verdict: Verdict, tries: int) -> None:
    async with front_end(*statuses) as target:
        outcome = await deliverer(ONE, TWO).deliver(kind(target.url()))
        assert outcome.verdict is verdict
        assert len(target.received) == tries


@pytest_twisted.ensureDeferred
async def test_secrets_are_tried_in_order() -> None:
    async with front_end(401, 200) as target:
        await deliverer(ONE, TWO).deliver(ready(target.url()))
        for got, secret in zip(target.received, (ONE, TWO), strict=True):
            jwt.decode(parse_qs(got.body.decode())["signed_parameters"][0], secret, algorithms=["HS256"])


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest_twisted.ensureDeferred
async def test_a_target_in_trouble_counts_as_not_answering(status: int) -> None:
    async with front_end(status) as target:
        assert (await deliverer(ONE).deliver(ready(target.url()))).answered is False
        target.statuses = [403]
        assert (await deliverer(ONE).deliver(ready(target.url()))).answered is True


@pytest.mark.parametrize("kind", NOTICES)
@pytest_twisted.ensureDeferred
async def test_redirects_are_not_followed(kind: Any) -> None:
    async with front_end() as other, front_end(302) as target:
        target.location = other.url("/elsewhere")
        assert (await deliverer(ONE).deliver(kind(target.url()))).verdict is Verdict.LATER
        assert other.received == []


@pytest.mark.parametrize("kind", NOTICES)
@pytest_twisted.ensureDeferred
async def test_a_huge_answer_is_not_read_and_counts_all_the_same(kind: Any) -> None:
    async with front_end() as target:
        target.page = b"x" * 20_000_000
        assert (await deliverer(ONE).deliver(kind(target.url()))).verdict is Verdict.DONE


@pytest_twisted.ensureDeferred
async def test_certificates_are_checked() -> None:
    sim = Simulator(reactor, seed=1)
    node = await sim.add_node(secret="s", tls=True)
    outcome = await deliverer(ONE).deliver(ready(node.url))
    assert outcome == Outcome(Verdict.LATER, "TLS failed, or its certificate is not trusted", answered=False)
    assert list(node.requests) == []
    await sim.stop()


@pytest.mark.parametrize("kind", NOTICES)
@pytest_twisted.ensureDeferred
async def test_nobody_there_is_tried_later_and_ends_the_attempt(kind: Any) -> None:
    async with front_end() as target:
        url = target.url("/path?key=hidden")
    outcome = await deliverer(ONE, TWO).deliver(kind(url))
    assert (outcome.verdict, outcome.answered) == (Verdict.LATER, False)
    assert "hidden" not in outcome.reason


@pytest_twisted.ensureDeferred
async def test_one_that_never_answers_has_its_time_and_no_more() -> None:
    clock = Clock()
    async with front_end(None) as target:
        attempt = defer.Deferred.fromCoroutine(deliverer(ONE, TWO, clock=clock).deliver(ready(target.url())))
        await target.arrived(1)
        clock.advance(EXCHANGE_TIMEOUT - 0.1)
        assert not attempt.called
        clock.advance(0.1)
        assert (await attempt) == Outcome(Verdict.LATER, "no answer in time", answered=False)
        assert len(target.received) == 1


@pytest_twisted.ensureDeferred
async def test_many_secrets_take_no_longer_than_an_attempt_may() -> None:
    clock = Clock()
    async with front_end(500) as target:
        target.on_request = lambda: clock.advance(EXCHANGE_TIMEOUT - 1)
        secrets = [b"%64d" % number for number in range(50)]
        outcome = await deliverer(*secrets, clock=clock).deliver(ready(target.url()))
        assert outcome.verdict is Verdict.LATER
        assert clock.seconds() <= ATTEMPT_TIMEOUT + EXCHANGE_TIMEOUT
        assert len(target.received) == 4


@pytest.mark.parametrize("kind", NOTICES)
@pytest.mark.parametrize("url", ["", "nonsense", "ftp://fe/", "http://u:pw@127.0.0.1/", "http://[::1"])
@pytest_twisted.ensureDeferred
async def test_what_can_not_be_called_is_given_up(kind: Any, url: str) -> None:
    assert (await deliverer(ONE).deliver(kind(url))).verdict is Verdict.NEVER


@pytest.mark.parametrize("kind", NOTICES)
@pytest_twisted.ensureDeferred
async def test_private_targets_get_nothing_unless_allowed(kind: Any) -> None:
    async with front_end() as target:
        for host in ("127.0.0.1", "localhost"):
            outcome = await deliverer(ONE, rules=TargetRules()).deliver(kind(target.url(host=host)))
            assert (outcome.verdict, outcome.answered) == (Verdict.NEVER, None)
        assert target.received == []


@pytest_twisted.ensureDeferred
async def test_each_tenant_has_its_own_secrets_as_they_are_now() -> None:
    redis = connect_memory(reactor, timeout=10)
    redis.startService()
    tenants = TenantStore(redis, "x:")
    await tenants.add("t1", "one", "a:b")
    multitenant = SigningSecrets((b"own", b""), tenants)
    assert await multitenant.of("t1") == (b"a", b"b")
    await tenants.update("t1", {"secrets": "c"})
    assert await multitenant.of("t1") == (b"c",)
    assert await multitenant.of("gone") == ()
    assert await multitenant.of("") == (b"own",)
    alone = SigningSecrets((b"own", b""), None)
    assert await alone.of("") == await alone.of("t1") == (b"own",)
    await redis.stopService()


@pytest_twisted.ensureDeferred
async def test_without_a_secret_nothing_is_sent_unsigned() -> None:
    async with front_end() as target:
        rules = TargetRules(private=True)
        policy = https_policy(verify=True, ca_file=None)
        bare = Deliverer(
            reactor, guarded_transport(reactor, real.nameResolver, rules, policy, 5), rules, Fixed(()), (), lambda: NOW
        )
        for kind in (ready, analytics):
            assert (await bare.deliver(kind(target.url()))).verdict is Verdict.NEVER
        assert target.received == []
