"""Who may call the REST API, and what a body may be."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, globalLogPublisher

from scalelite.store.audit import AuditStore
from scalelite.store.errors import StoreUnavailable
from tests.api.rest import JSON, Rest, refused, said
from tests.api.support import exchange, running
from tests.balancer import Balancer

NEW = {"url": "https://b9.example.net/bigbluebutton/api", "secret": "hush-hush"}
READING = ["getServers", "getServerInfo", "getTenants", "getTenantInfo"]
CHANGING = ["addServer", "updateServer", "deleteServer", "panicServer", "addTenant", "updateTenant", "deleteTenant"]
BODY = b'{"url":"https://b9.example.net/api","secret":"k"}'


@pytest.fixture
def rest(balancer: Balancer) -> Rest:
    return Rest(balancer)


async def bare(rest: Rest, route: str, query: str = "", **headers: str) -> Any:
    """A call that is not signed by the test's client."""
    method = "POST" if route in CHANGING else "GET"
    return await rest.balancer.request(method, rest.url(route, query), headers=headers)


@pytest.mark.parametrize("route", READING + CHANGING)
@pytest_twisted.ensureDeferred
async def test_no_route_is_open_to_whoever_does_not_sign(rest: Rest, route: str) -> None:
    message = "You did not pass the checksum security check"
    sign = rest.balancer.sign
    for query in (
        "",
        "checksum=",
        "checksum",
        f"checksum={sign(route, '', secret='wrong')}",
        f"checksum={sign(route, '', secret='')}",
        f"checksum={sign('getMeetings', '')}",
        f"checksum={sign(route, '').upper()}",
        f"checksum={sign(route, '')[:-1]}",
        f"checksum={sign(route, '')}&id=x",
        f"checksum=%00{sign(route, '')}",
    ):
        answer = await bare(rest, route, query)
        if b"%00" in query.encode():
            assert said(answer)[0] == 400
        else:
            assert refused(answer, "checksumError", message), query
    assert await rest.keys() == set()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest_twisted.ensureDeferred
async def test_the_installations_algorithms_sign(algorithm: str) -> None:
    async with running(checksum_algorithms=("SHA256", "SHA512")) as balancer:
        rest = Rest(balancer)
        answer = await bare(rest, "getServers", rest.signed_query("getServers", algorithm=algorithm))
        if algorithm in ("sha256", "sha512"):
            assert said(answer)[0] == 404
        else:
            assert refused(answer, "checksumError")


@pytest_twisted.ensureDeferred
async def test_the_query_is_signed_as_it_is_sent(rest: Rest) -> None:
    for query in ("id=srv-1", "id=a%20b&x=%3D", "id=1&y", "x%5By%5D=z&id=1"):
        assert said(await rest.get("getServerInfo", query))[0] == 404
        first = f"checksum={rest.balancer.sign('getServerInfo', query)}&{query}"
        assert said(await bare(rest, "getServerInfo", first))[0] == 404


@pytest_twisted.ensureDeferred
async def test_the_checksum_may_come_inside_the_body(rest: Rest) -> None:
    checksum = rest.balancer.sign("addServer", "")
    headers = {"Content-Type": JSON}
    for given, status in ((checksum, 201), (rest.balancer.sign("addServer", "", secret="wrong"), 200)):
        body = BODY[:-1] + f',"checksum":"{given}"}}'.encode()
        answer = await rest.balancer.request("POST", rest.url("addServer"), body=body, headers=headers)
        assert answer.code == status


@pytest_twisted.ensureDeferred
async def test_any_of_the_load_balancers_secrets_signs() -> None:
    async with running(loadbalancer_secrets=(b"one", b"two", b"")) as balancer:
        for secret, good in (("one", True), ("two", True), ("three", False), ("", False)):
            answer = await Rest(balancer, secret).get("getServers")
            assert (answer.code == 404) is good, secret


@pytest_twisted.ensureDeferred
async def test_with_a_secret_of_its_own_no_front_ends_secret_signs() -> None:
    async with running(api_secret="operators only") as balancer:
        assert said(await Rest(balancer, "operators only").get("getServers"))[0] == 404
        assert refused(await Rest(balancer, "secret").get("getServers"), "checksumError")
        # And the other way round.
        assert (await balancer.call("getMeetings", secret="operators only")).key == "checksumError"
        assert (await balancer.call("getMeetings")).key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_without_any_secret_nobody_is_let_in() -> None:
    async with running(loadbalancer_secrets=()) as balancer:
        assert refused(await Rest(balancer, "").get("getServers"), "checksumError")
        assert refused(await Rest(balancer, "").hmac_signed("GET", "getServers"), "checksumError")


@pytest_twisted.ensureDeferred
async def test_switched_off_there_is_no_api() -> None:
    async with running(api_disabled=True) as balancer:
        rest = Rest(balancer)
        for path in ("getServers", "openapi.json"):
            assert (await rest.get(path)).key == "unsupportedRequest"
        assert (await rest.post("addServer", NEW)).key == "unsupportedRequest"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "getServers"), ("GET", "addServer"), ("PUT", "addServer"), ("DELETE", "deleteServer"),
        ("GET", "nothing"), ("GET", ""), ("POST", "openapi.json"), ("GET", "getServers/x"), ("GET", "getservers"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_other_verbs_and_paths_are_unsupported(rest: Rest, method: str, path: str) -> None:
    query = rest.signed_query(path)
    answer = await rest.balancer.request(method, rest.url(path, query), headers={"Content-Type": JSON})
    assert (answer.code, answer.key) == (200, "unsupportedRequest")


@pytest.mark.parametrize("path", ["getServers.json", "getServers.xml", "getServers/", "/getServers"])
@pytest_twisted.ensureDeferred
async def test_a_suffix_and_slashes_are_tolerated(rest: Rest, path: str) -> None:
    query = rest.signed_query("getServers")
    assert said(await rest.balancer.request("GET", rest.url(path, query)))[0] == 404


@pytest_twisted.ensureDeferred
async def test_head_is_answered_like_get_without_the_body(rest: Rest) -> None:
    query = rest.signed_query("getServers")
    answer = await rest.balancer.request("HEAD", rest.url("getServers", query))
    assert (answer.code, answer.body) == (404, b"")


# Bodies


@pytest.mark.parametrize(
    ("content_type", "taken"),
    [
        ("application/json", True), ("APPLICATION/JSON; charset=utf-8", True), ("text/x-json", True),
        ("application/jsonrequest", True), ("application/problem+json", True),
        ("application/x-www-form-urlencoded", False), ("text/plain", False), ("application/xml", False), ("", False),
        (None, False),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_a_body_must_be_json(rest: Rest, content_type: str | None, taken: bool) -> None:
    answer = await rest.post("addServer", BODY, content_type=content_type)
    if taken:
        assert said(answer)[0] == 201
    else:
        message = "POST request Content-Type is missing or unsupported"
        assert refused(answer, "unsupportedContentType", message)
        # That comes before the checksum.
        rest.secret = "wrong"
        assert refused(await rest.post("addServer", BODY, content_type=content_type), "unsupportedContentType")


@pytest_twisted.ensureDeferred
async def test_an_empty_body_needs_no_content_type(rest: Rest) -> None:
    assert said(await rest.post("deleteServer", b"", "id=x", content_type=None))[0] == 404


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b'{"a":1}x', b"\xff\xfe", b'{"a": NaN}', b'"\xed\xa0\x80"', b"[" * 5000, b" "]
)
@pytest_twisted.ensureDeferred
async def test_malformed_json_is_told_in_json(rest: Rest, body: bytes) -> None:
    assert said(await rest.post("addServer", body)) == (400, {"error": "The request body is not valid JSON"})


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"true", b'[{"url":"http://x/api"}]'])
@pytest_twisted.ensureDeferred
async def test_a_body_that_is_no_object_is_refused(rest: Rest, body: bytes) -> None:
    assert said(await rest.post("addServer", body)) == (400, {"error": "The request body must be a JSON object"})


@pytest_twisted.ensureDeferred
async def test_a_body_has_a_largest_size(rest: Rest) -> None:
    body = BODY[:-1] + b',"tag":"' + b"x" * 1024 * 1024 + b'"}'
    assert said(await rest.post("addServer", body)) == (413, {"error": "The request is too large."})


@pytest.mark.parametrize("query", ["id=%", "id=%ff", "id=%00", "id=%zz"])
@pytest_twisted.ensureDeferred
async def test_a_malformed_query_is_told_in_json(rest: Rest, query: str) -> None:
    answer = await rest.get("getServerInfo", query)
    assert said(answer) == (400, {"error": "The request could not be parsed."})


@pytest_twisted.ensureDeferred
async def test_the_query_beats_the_body(rest: Rest) -> None:
    answer = await rest.post("deleteServer", {"id": "of the body"}, "id=of+the+query")
    assert said(answer) == (404, {"error": "Couldn't find server with id=of the query"})
    added = await rest.post("addServer", BODY, "server%5Burl%5D=http://q.example/api&server%5Bsecret%5D=q")
    assert said(added)[1]["url"] == "http://q.example/api"


@pytest_twisted.ensureDeferred
async def test_a_get_may_bring_a_body(rest: Rest) -> None:
    url = rest.url("getServerInfo", rest.signed_query("getServerInfo"))
    for content_type, named in ((JSON, "x"), ("text/plain", "")):
        answer = await rest.balancer.request("GET", url, body=b'{"id":"x"}', headers={"Content-Type": content_type})
        assert said(answer) == (404, {"error": f"Couldn't find server with id={named}"})


@pytest_twisted.ensureDeferred
async def test_hosts_are_checked_before_anything_else() -> None:
    async with running(environment="production", url_host="lb.example") as balancer:
        rest = Rest(balancer)
        blocked = await rest.get("getServers", Host="evil.example")
        assert (blocked.code, blocked.key) == (403, "unsupportedRequest")
        assert said(await rest.get("getServers", Host="lb.example"))[0] == 404


@pytest_twisted.ensureDeferred
async def test_no_call_passes_for_a_health_check_which_may_come_by_any_host() -> None:
    async with running(environment="production", url_host="lb.example") as balancer:
        rest = Rest(balancer)
        url = rest.url("getServers.health_check", rest.signed_query("getServers"))
        for host in ("evil.example", "lb.example"):
            assert (await balancer.request("GET", url, headers={"Host": host})).key == "unsupportedRequest"


# The signature that covers body and time


@pytest_twisted.ensureDeferred
async def test_a_signature_over_body_and_time_lets_in(rest: Rest) -> None:
    status, server = said(await rest.hmac_signed("POST", "addServer", "nonce=1", BODY))
    assert status == 201
    assert said(await rest.hmac_signed("GET", "getServerInfo", f"id={server['id']}")) == (200, server)
    assert said(await rest.hmac_signed("POST", "deleteServer", f"id={server['id']}"))[0] == 200


@pytest_twisted.ensureDeferred
async def test_whatever_is_signed_cannot_be_changed(rest: Rest) -> None:
    other = BODY.replace(b"b9", b"evil")
    assert refused(await rest.hmac_signed("POST", "addServer", "", BODY, sent=other), "checksumError")
    assert refused(await rest.hmac_signed("POST", "addServer", "", BODY, sent=BODY + b" "), "checksumError")
    assert refused(await rest.hmac_signed("POST", "addServer", "", b"", sent=BODY), "checksumError")
    moved = await rest.hmac_signed("POST", "addServer", "", BODY, **{"X-Scalelite-Time": str(int(time.time()) + 1)})
    assert refused(moved, "checksumError")
    url = rest.url("deleteServer", "id=x")
    now = str(int(time.time()))
    signed = {"X-Scalelite-Time": now, "X-Scalelite-Signature": "0" * 64}
    assert refused(await rest.balancer.request("POST", url, headers=signed), "checksumError")
    rest.secret = "wrong"
    assert refused(await rest.hmac_signed("POST", "addServer", "", BODY), "checksumError")
    assert await rest.keys() == set()


@pytest.mark.parametrize(
    ("shift", "good"), [(-290, True), (290, True), (-310, False), (310, False), (-1e6, False), (1e10, False)]
)
@pytest_twisted.ensureDeferred
async def test_a_signature_is_good_for_five_minutes(rest: Rest, shift: float, good: bool) -> None:
    answer = await rest.hmac_signed("POST", "addServer", "", BODY, at=time.time() + shift)
    assert (answer.code == 201) is good
    assert good or refused(answer, "checksumError")


@pytest.mark.parametrize("moment", ["", "soon", "-1", "1.5", "1e9", " 17", "9" * 400, "\xb2"])
@pytest_twisted.ensureDeferred
async def test_a_time_that_is_none_lets_nobody_in(rest: Rest, moment: str) -> None:
    assert refused(await rest.hmac_signed("POST", "addServer", "", BODY, at=moment), "checksumError")


@pytest_twisted.ensureDeferred
async def test_a_change_counts_once_and_a_listing_as_often_as_asked(rest: Rest) -> None:
    now = time.time()
    assert said(await rest.hmac_signed("POST", "addServer", "", BODY, at=now))[0] == 201
    assert refused(await rest.hmac_signed("POST", "addServer", "", BODY, at=now), "checksumError")
    assert len(said(await rest.hmac_signed("GET", "getServers", at=now))[1]) == 1
    assert len(said(await rest.hmac_signed("GET", "getServers", at=now))[1]) == 1
    # Anything in the query makes it another call.
    assert said(await rest.hmac_signed("POST", "addServer", "nonce=2", BODY, at=now))[0] == 201
    spent = await rest.balancer.redis("KEYS", rest.balancer.key("balancer:api:signature:*"))
    assert len(spent) == 2
    for key in spent:
        assert 300 < int(await rest.balancer.redis("TTL", key)) <= 601


@pytest_twisted.ensureDeferred
async def test_no_spelling_of_the_method_makes_a_signed_change_twice(rest: Rest) -> None:
    now = time.time()
    answers = [await rest.hmac_signed("Post", "addServer", "", BODY, at=now) for _ in range(2)]
    assert answers[1].key in ("checksumError", "unsupportedRequest")
    assert len(await rest.balancer.parts.servers.all()) <= 1


@pytest_twisted.ensureDeferred
async def test_a_forged_signature_is_not_saved_by_a_good_checksum(rest: Rest) -> None:
    headers = {"X-Scalelite-Time": str(int(time.time())), "X-Scalelite-Signature": "0" * 64}
    assert refused(await rest.get("getServers", **headers), "checksumError")
    assert refused(await rest.get("getServers", **{"X-Scalelite-Signature": "\xe4"}), "checksumError")
    assert refused(await rest.get("getServers", **{"X-Scalelite-Time": "1"}), "checksumError")


@pytest_twisted.ensureDeferred
async def test_a_checksum_is_not_enough_where_only_signatures_are_taken() -> None:
    async with running(api_signed_only=True) as balancer:
        rest = Rest(balancer)
        assert refused(await rest.get("getServers"), "checksumError")
        assert refused(await rest.post("addServer", BODY), "checksumError")
        assert said(await rest.hmac_signed("GET", "getServers"))[0] == 404


# Failures


@pytest_twisted.ensureDeferred
async def test_a_store_that_cannot_be_reached_is_told_in_json(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("Redis did not answer within 3 s")

    for store, names in ((rest.balancer.parts.servers, ("all", "find", "add")),):
        for name in names:
            monkeypatch.setattr(store, name, fail)
    for answer in (
        await rest.get("getServers"),
        await rest.get("getServerInfo", "id=x"),
        await rest.post("addServer", BODY),
    ):
        assert said(answer) == (503, {"error": "Unable to access the data store."})


@pytest_twisted.ensureDeferred
async def test_an_unexpected_failure_shows_nothing_of_itself(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, unhandled_errors: list[LogEvent]
) -> None:
    async def fail() -> None:
        raise RuntimeError("the inside of it")

    monkeypatch.setattr(rest.balancer.parts.servers, "all", fail)
    answer = await rest.get("getServers")
    assert said(answer) == (500, {"error": "An unexpected error occurred."})
    (event,) = unhandled_errors
    assert event["log_failure"].check(RuntimeError)
    unhandled_errors.clear()


@pytest_twisted.ensureDeferred
async def test_every_change_is_kept_in_the_audit_log_and_no_secret_is(rest: Rest) -> None:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(str({key: value for key, value in event.items() if not key.startswith("log_logger")}))

    globalLogPublisher.addObserver(observe)
    try:
        server_id = said(await rest.post("addServer", NEW))[1]["id"]
        await rest.post("updateServer", {"id": server_id, "secret": "hush-new", "state": "enable"})
        await rest.post("deleteServer", {"id": server_id})
        await rest.get("getServers")
    finally:
        globalLogPublisher.removeObserver(observe)
    commands = ["servers:add", "servers:update", "servers:enable", "servers:remove"]
    store = AuditStore(rest.balancer.parts.redis, rest.balancer.key(""))
    kept = await store.last(10)
    assert [entry.command for entry in kept] == commands
    assert {(entry.actor, entry.origin, entry.result) for entry in kept} == {("REST client", "REST, 127.0.0.1", "ok")}
    assert [entry.target.partition(" ")[0] for entry in kept] == [server_id] * 4
    assert "hush" not in repr(kept)
    assert len([line for line in lines if "REST client" in line]) == 4
    assert not any("hush" in line or rest.balancer.sign("addServer", "") in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_change_that_is_refused_is_kept_with_the_reason() -> None:
    async with running(multitenancy_enabled=True, server_id_is_hostname=True) as balancer:
        rest = Rest(balancer)
        await rest.post("addServer", NEW, **{"X-Forwarded-For": "192.0.2.7, 10.0.0.1"})
        await rest.post("addServer", NEW)
        await rest.post("addTenant", {"name": "a.b", "secrets": "hush"})
        kept = await AuditStore(balancer.parts.redis, balancer.key("")).last(10)
        assert [entry.command for entry in kept] == ["servers:add", "servers:add", "tenants:add"]
        assert [entry.result[:30] for entry in kept] == [
            "ok",
            "Server already exists with id ",
            "A tenant's name must be the fi",
        ]
        assert kept[0].origin == "REST, 127.0.0.1 for 192.0.2.7, 10.0.0.1"


@pytest_twisted.ensureDeferred
async def test_raw_requests_get_no_html(balancer: Balancer) -> None:
    query = Rest(balancer).signed_query("addServer")
    for body in (b"", b"<html>", b'{"server": 1}', b"\x00" * 50):
        head = f"POST /scalelite/api/addServer?{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        sent = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        (answer,) = await exchange(balancer.port, sent)
        assert answer.header("Content-Type") in ("application/json; charset=utf-8", "application/xml; charset=utf-8")
        assert b"<html" not in answer.body
