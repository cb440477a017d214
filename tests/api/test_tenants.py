"""Tenants: told apart by host, each with secrets, meetings and settings of its own."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import orjson
import pytest
import pytest_twisted
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.api.support import (
    FORM,
    add_tenant,
    add_tenant_setting,
    calls,
    load_of,
    post,
    reactor,
    record_of,
    running,
    the_call,
)
from tests.balancer import Answer, Balancer


class Tenants:
    """A balancer with the tenants "one" (secrets one, uno) and "two" (secret two)."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    @classmethod
    async def of(cls, balancer: Balancer, servers: int = 1, **fields: str) -> Tenants:
        if servers:
            await balancer.add_servers(servers)
        await add_tenant(balancer, "one", secrets="one:uno", fields=fields)
        await add_tenant(balancer, "two", secrets="two")
        return cls(balancer)

    async def call(
        self, host: str, action: str, *, secret: str | None = None, forwarded: str | None = None, **params: str
    ) -> Answer:
        """A call to `host`, signed with the secret of its first label unless told otherwise."""
        url = self.balancer.url(action, secret=host.partition(".")[0] if secret is None else secret, **params)
        headers = {"Host": host, **({"X-Forwarded-Host": forwarded} if forwarded else {})}
        return await self.balancer.request("GET", url, headers=headers)

    async def create(self, host: str, meeting_id: str = "m1", **params: str) -> Answer:
        return await self.call(host, "create", meetingID=meeting_id, name="Meeting", **params)


@pytest_twisted.ensureDeferred
async def test_only_the_tenants_own_secrets_sign() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        for host, secret, key in (
            ("one.lb.example", "one", "noMeetings"),
            ("one.lb.example", "uno", "noMeetings"),
            ("one.lb.example:8080", "one", "noMeetings"),
            ("ONE.lb.example", "one", "noMeetings"),
            ("one", "one", "noMeetings"),
            ("two.lb.example", "two", "noMeetings"),
            ("one.lb.example", "two", "checksumError"),
            ("two.lb.example", "one", "checksumError"),
            # The installation's own secret is not valid for tenants' calls.
            ("one.lb.example", "secret", "checksumError"),
            ("one.lb.example", "", "checksumError"),
            ("one.lb.example", "one:uno", "checksumError"),
            ("lb.example", "secret", "checksumError"),
            ("lb.example", "one", "checksumError"),
            ("three.lb.example", "one", "checksumError"),
            ("127.0.0.1", "secret", "checksumError"),
            ("", "one", "checksumError"),
            (".one.lb.example", "one", "checksumError"),
            ("x.one.lb.example", "one", "checksumError"),
        ):
            assert (await tenants.call(host, "getMeetings", secret=secret)).key == key, (host, secret)


@pytest_twisted.ensureDeferred
async def test_the_last_forwarded_host_names_the_tenant() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        for forwarded, secret, key in (
            ("one.lb.example", "one", "noMeetings"),
            ("two.lb.example, one.lb.example", "one", "noMeetings"),
            ("one.lb.example, two.lb.example", "one", "checksumError"),
            ("one.lb.example:443", "one", "noMeetings"),
        ):
            answer = await tenants.call("two.lb.example", "getMeetings", secret=secret, forwarded=forwarded)
            assert answer.key == key, forwarded


@pytest_twisted.ensureDeferred
async def test_a_tenants_empty_secrets_sign_nothing() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        await add_tenant(balancer, "bare", secrets=":a::b:")
        await add_tenant(balancer, "none", secrets="")
        tenants = Tenants(balancer)
        for host, secret, key in (
            ("bare", "", "checksumError"), ("bare", "a", "noMeetings"), ("bare", "b", "noMeetings"),
            ("none", "", "checksumError"),
        ):  # fmt: skip
            assert (await tenants.call(host, "getMeetings", secret=secret)).key == key


@pytest_twisted.ensureDeferred
async def test_a_changed_secret_counts_at_once() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        assert (await tenants.call("one", "getMeetings")).key == "noMeetings"
        await balancer.redis("HSET", balancer.key("tenant:id-of-one"), "secrets", "new")
        assert (await tenants.call("one", "getMeetings")).key == "checksumError"
        assert (await tenants.call("one", "getMeetings", secret="new")).key == "noMeetings"
        await balancer.redis("DEL", balancer.key("tenant:id-of-one"))
        assert (await tenants.call("one", "getMeetings", secret="new")).key == "checksumError"


@pytest_twisted.ensureDeferred
async def test_the_index_and_health_need_no_tenant() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        assert (await balancer.request("GET", balancer.api)).text("version") == "2.0"
        assert (await balancer.request("GET", f"http://127.0.0.1:{balancer.port}/health_check")).body == b"success"


@pytest_twisted.ensureDeferred
async def test_without_tenants_the_host_does_not_matter(balancer: Balancer) -> None:
    tenants = await Tenants.of(balancer)
    assert (await tenants.call("one.lb.example", "getMeetings", secret="secret")).key == "noMeetings"
    assert (await tenants.call("one.lb.example", "getMeetings", secret="one")).key == "checksumError"


@pytest_twisted.ensureDeferred
async def test_a_meeting_belongs_to_the_tenant_that_created_it() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        assert (
            await tenants.create("one.lb.example", **{"meta_tenant-id": "forged", "meta_tenant-name": "x"})
        ).returncode == "SUCCESS"
        query = the_call(balancer, "create").query
        assert query["meta_tenant-id"] == "id-of-one"
        assert query["meta_tenant-name"] == "one"
        assert (await record_of(balancer, "m1"))["tenant_id"] == "id-of-one"
        again = await tenants.create("one.lb.example")
        assert again.key == "duplicateWarning"


@pytest_twisted.ensureDeferred
async def test_no_spelling_of_the_metadata_gives_a_meeting_to_another_tenant() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        forged = {"meta_tenant-id": "x", "meta_Tenant-ID": "id-of-two", "META_TENANT-NAME": "two", "meta_topic": "y"}
        await tenants.create("one.lb.example", **forged)
        sent = {name: value for name, value in the_call(balancer, "create").query.items() if "meta" in name.lower()}
        assert sent == {"meta_topic": "y", "meta_tenant-id": "id-of-one", "meta_tenant-name": "one"}


@pytest_twisted.ensureDeferred
async def test_nobody_reaches_another_tenants_meeting_by_any_action() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        await tenants.create("one")
        before = await record_of(balancer, "m1"), await load_of(balancer, "s1")
        for action in ("getMeetingInfo", "end", "join", "sendChatMessage"):
            answer = await tenants.call("two", action, meetingID="m1", fullName="Eve", message="x")
            assert (answer.code, answer.key) == (200, "notFound"), action
        assert (await tenants.call("two", "isMeetingRunning", meetingID="m1")).text("running") == "false"
        assert (await tenants.call("two", "getMeetings")).key == "noMeetings"
        query = "meetingID=m1"
        query += f"&checksum={balancer.sign('insertDocument', query, secret='two')}"
        slides = await post(balancer, "insertDocument", b"<m/>", "text/xml", query=query, sign=False, Host="two")
        assert slides.key == "notFound"
        conflict = await tenants.create("two")
        assert (conflict.code, conflict.key) == (200, "internalError")
        assert conflict.message == "Couldn't find Meeting with id=m1 and tenant_id=id-of-two"
        assert (await record_of(balancer, "m1"), await load_of(balancer, "s1")) == before
        asked = {call.action for call in balancer.nodes["s1"].requests}
        assert asked <= {"create", "getMeetings", ""}
        # Its owner still has it.
        assert (await tenants.call("one", "join", meetingID="m1", fullName="Ada")).code == 302
        assert (await tenants.call("one", "getMeetings")).text("meetings/meeting/meetingID") == "m1"
        assert (await tenants.call("one", "end", meetingID="m1")).returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_each_tenant_lists_its_own_meetings() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer, servers=2)
        for number in range(3):
            await tenants.create("one", f"one-{number}")
            await tenants.create("two", f"two-{number}")
        balancer.nodes["s1"].create("of nobody")
        balancer.nodes["s1"].create("of a stranger", **{"meta_tenant-id": "unknown"})
        for name in ("one", "two"):
            answer = await tenants.call(name, "getMeetings")
            assert sorted(e.text or "" for e in answer.xml.iterfind("meetings/meeting/meetingID")) == [
                f"{name}-{number}" for number in range(3)
            ]


@pytest_twisted.ensureDeferred
async def test_without_tenants_only_meetings_of_nobody_are_listed(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    node = balancer.nodes["s1"]
    node.create("plain")
    node.create("blank", **{"meta_tenant-id": " "})
    node.create("owned", **{"meta_tenant-id": "t1"})
    answer = await balancer.call("getMeetings")
    assert sorted(e.text or "" for e in answer.xml.iterfind("meetings/meeting/meetingID")) == ["blank", "plain"]


@pytest_twisted.ensureDeferred
async def test_settings_of_the_tenant_have_their_precedence() -> None:
    async with running(
        multitenancy_enabled=True,
        default_create_params={"logo": "default", "welcome": "default"},
        override_create_params={"record": "override", "copyright": "override"},
        default_join_params={"logo": "default"},
        override_join_params={"record": "override"},
    ) as balancer:
        tenants = await Tenants.of(balancer)
        for param, value, override in (
            ("logo", "tenant", False), ("welcome", "tenant", False), ("bannerText", "tenant", False),
            ("record", "true", True), ("meta_tenant-name", "tenant", True), ("meta_server-tag", "gpu!", False),
        ):  # fmt: skip
            await add_tenant_setting(balancer, "id-of-one", param, value, override=override)
        answer = await tenants.create("one", welcome="mine", **{"meta_server-tag": "none!"})
        assert answer.key != "internalError"
        query = the_call(balancer, "create").query
        assert {
            name: query.get(name)
            for name in ("logo", "welcome", "bannerText", "record", "copyright", "meta_tenant-name", "meta_server-tag")
        } == {
            "logo": "tenant", "welcome": "mine", "bannerText": "tenant", "record": "true", "copyright": "override",
            "meta_tenant-name": "tenant", "meta_server-tag": None,
        }  # fmt: skip
        joined = await tenants.call("one", "join", meetingID="m1", fullName="Ada", welcome="mine")
        assert joined.location_params["logo"] == "tenant"
        assert joined.location_params["record"] == "true"
        assert joined.location_params["welcome"] == "mine"
        assert "meta_server-tag" not in joined.location_params
        # The other tenant has none of it.
        await tenants.create("two", "m2")
        query = calls(balancer, "create")[-1].query
        assert (query["logo"], query["record"], query["meta_tenant-name"]) == ("default", "override", "two")


@pytest_twisted.ensureDeferred
async def test_a_tenants_tag_places_its_meetings() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        await balancer.add_server("plain")
        await balancer.add_server("gpu", tag="gpu")
        await balancer.poll_now()
        tenants = await Tenants.of(balancer, servers=0)
        await add_tenant_setting(balancer, "id-of-one", "meta_server-tag", "gpu!", override=True)
        await tenants.create("one", **{"meta_server-tag": "none!"})
        await tenants.create("two", "m2")
        assert (await balancer.where("m1"), await balancer.where("m2")) == ("gpu", "plain")


@pytest_twisted.ensureDeferred
async def test_a_form_post_belongs_to_the_host_as_well() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        await Tenants.of(balancer)
        checksum = balancer.sign("create", "", secret="one")
        body = f"meetingID=m1&name=Meeting&checksum={checksum}".encode()
        answer = await post(balancer, "create", body, FORM, sign=False, Host="one.lb.example")
        assert answer.returncode == "SUCCESS"
        assert (await post(balancer, "create", body, FORM, sign=False, Host="two.lb.example")).key == "checksumError"


# Learning records.


class TokenEndpoint(Resource):
    """Gives out a token as Keycloak does, or what a test sets."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self.body: bytes | None = b'{"access_token": "tok\xc3\xa9n"}'

    def render_POST(self, request: Any) -> Any:
        from urllib.parse import parse_qsl

        self.forms.append((request.uri, dict(parse_qsl(request.content.read().decode()))))
        request.setResponseCode(self.status)
        return NOT_DONE_YET if self.body is None else self.body


def opened(value: str, secret: str) -> Any:
    data = base64.b64decode(value, validate=True)
    derived = hashlib.pbkdf2_hmac("sha256", secret.encode(), data[8:16], 10000, 48)
    decryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:])).decryptor()
    padded = decryptor.update(data[16:]) + decryptor.finalize()
    return orjson.loads(padded[: -padded[-1]])


@pytest_twisted.ensureDeferred
async def test_a_tenant_with_a_record_store_sends_its_login_encrypted() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        fields = {"lrs_endpoint": "https://lrs.example", "lrs_username": "u", "lrs_password": "p"}
        tenants = await Tenants.of(balancer, **fields)
        await tenants.create("one")
        await tenants.create("two", "m2")
        first, second = calls(balancer, "create")
        assert opened(first.query["meta_secret-lrs-payload"], balancer.nodes["s1"].secret) == fields
        assert "meta_secret-lrs-payload" not in second.query


@pytest.mark.parametrize(
    ("status", "body", "sent"),
    [
        (200, b'{"access_token": "t"}', True),
        (201, b'{"access_token": "t"}', False),
        (401, b'{"error": "no"}', False),
        (200, b"not JSON", False),
        (200, b'{"access_token": 5}', False),
        (200, b"[]", False),
        (200, b"x" * 100_000, False),
        (200, None, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_token_is_fetched_and_any_failure_leaves_the_payload_out(
    status: int, body: bytes | None, sent: bool
) -> None:
    endpoint = TokenEndpoint()
    endpoint.status, endpoint.body = status, body
    site = Site(endpoint)
    site.noisy = False
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        async with running(multitenancy_enabled=True, response_timeout=0.6) as balancer:
            tenants = await Tenants.of(
                balancer, lrs_endpoint="https://lrs.example",
                kc_token_url=f"http://127.0.0.1:{port.getHost().port}/realms/x/token?dropped=1",
                kc_client_id="id", kc_client_secret="cs", kc_username="ku", kc_password="k&p",
            )  # fmt: skip
            assert (await tenants.create("one")).returncode == "SUCCESS"
            ((uri, form),) = endpoint.forms
            assert uri == b"/realms/x/token"
            assert form == {
                "client_id": "id", "client_secret": "cs", "username": "ku", "password": "k&p", "grant_type": "password",
            }  # fmt: skip
            payload = the_call(balancer, "create").query.get("meta_secret-lrs-payload")
            if sent:
                assert payload is not None
                assert opened(payload, balancer.nodes["s1"].secret) == {
                    "lrs_endpoint": "https://lrs.example",
                    "lrs_token": "t",
                }
            else:
                assert payload is None
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_breakout_room_is_made_for_a_meeting_of_its_own_tenant_only() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        tenants = await Tenants.of(balancer)
        assert (await tenants.create("one", "parent")).returncode == "SUCCESS"
        breakout = {"isBreakout": "true", "parentMeetingID": "parent", "sequence": "1"}
        refused = await tenants.create("two", "room", **breakout)
        assert (refused.returncode, refused.key) == ("FAILED", "notFound")
        assert balancer.living_on("room") == []
        assert (await tenants.create("one", "room", **breakout)).returncode == "SUCCESS"
