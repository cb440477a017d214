"""Checksums are checked over the raw bytes, as a real server does it."""

from __future__ import annotations

import hashlib

import pytest
import pytest_twisted

from scalelite.simulator.checksums import digest
from tests.simulator.peer import World, call, fetch, target

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")
FORM = "application/x-www-form-urlencoded"


def path(name: str, query: str) -> str:
    return f"/bigbluebutton/api/{name}?{query}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest_twisted.ensureDeferred
async def test_every_algorithm_is_accepted_wherever_the_checksum_stands(
    world: World, algorithm: str, place: str
) -> None:
    signed = "meetingID=m+1&name=a%20b&welcome=%c3%a9"
    checksum = f"checksum={hashlib.new(algorithm, f'create{signed}s3'.encode()).hexdigest()}"
    first, rest = signed.split("&", 1)
    query = {
        "first": f"{checksum}&{signed}",
        "middle": f"{first}&{checksum}&{rest}",
        "last": f"{signed}&{checksum}",
    }[place]
    answer = await fetch(world.node, "GET", path("create", query))
    assert answer.ok
    assert world.node.meetings["m 1"].name == "a b"


@pytest.mark.parametrize("space", ["+", "%20"])
@pytest_twisted.ensureDeferred
async def test_the_encoding_that_was_signed_is_the_one_that_counts(world: World, space: str) -> None:
    other = "%20" if space == "+" else "+"
    checksum = digest("create", f"meetingID=m1&name=a{space}b".encode(), "s3")
    right = await fetch(world.node, "GET", path("create", f"meetingID=m1&name=a{space}b&checksum={checksum}"))
    wrong = await fetch(world.node, "GET", path("create", f"meetingID=m1&name=a{other}b&checksum={checksum}"))
    assert right.ok
    assert wrong.key == "checksumError"


@pytest.mark.parametrize("query", ["&checksum={}", "checksum={}"])
@pytest_twisted.ensureDeferred
async def test_a_query_of_nothing_but_the_checksum_signs_an_empty_string(world: World, query: str) -> None:
    answer = await fetch(world.node, "GET", path("getMeetings", query.format(digest("getMeetings", b"", "s3"))))
    assert answer.key == "noMeetings"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("meetingID=m1", "You must provide the checksum"),
        ("meetingID=m1&checksum=", "You must provide the checksum"),
        ("meetingID=m1&checksum=" + "0" * 40, "Checksums do not match"),
        ("meetingID=m1&checksum=0", "Checksums do not match"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_with_a_checksum_is_said_with_http_200(world: World, query: str, message: str) -> None:
    answer = await fetch(world.node, "GET", path("getMeetingInfo", query))
    assert (answer.status, answer.key, answer.text("message")) == (200, "checksumError", message)
    assert world.node.requests[-1].verdict == "checksumError"


@pytest_twisted.ensureDeferred
async def test_calls_about_recordings_word_it_otherwise(world: World) -> None:
    answer = await fetch(world.node, "GET", path("getRecordings", "checksum=" + "0" * 40))
    assert answer.text("message") == "You did not pass the checksum security check"


@pytest.mark.parametrize(("profile", "accepted"), [("2.6", True), ("3.0", True), ("3.1", False)])
@pytest_twisted.ensureDeferred
async def test_the_newest_version_refuses_two_checksums(world: World, profile: str, accepted: bool) -> None:
    node = await world.sim.add_node(secret="s3", profile=profile)
    checksum = digest("getMeetings", b"", "s3")
    answer = await fetch(node, "GET", path("getMeetings", f"checksum={checksum}&checksum={checksum}"))
    assert answer.ok is accepted


@pytest.mark.parametrize(("profile", "accepted"), [("2.7", False), ("3.0", True)])
@pytest_twisted.ensureDeferred
async def test_newer_versions_accept_upper_case_hex(world: World, profile: str, accepted: bool) -> None:
    node = await world.sim.add_node(secret="s3", profile=profile)
    checksum = digest("getMeetings", b"", "s3").upper()
    assert (await fetch(node, "GET", path("getMeetings", f"checksum={checksum}"))).ok is accepted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest_twisted.ensureDeferred
async def test_a_node_may_allow_one_algorithm_only(world: World, algorithm: str) -> None:
    node = await world.sim.add_node(secret="s3", algorithms=("sha512",))
    answer = await fetch(node, "GET", target(node, "getMeetings", {}, algorithm))
    assert answer.ok is (algorithm == "sha512")


@pytest_twisted.ensureDeferred
async def test_an_empty_secret_switches_checks_off(world: World) -> None:
    node = await world.sim.add_node(secret="")
    assert (await fetch(node, "GET", path("getMeetings", ""))).ok


@pytest_twisted.ensureDeferred
async def test_older_versions_sign_a_form_over_its_sorted_parameters(world: World) -> None:
    node = await world.sim.add_node(secret="s3", profile="2.7")
    checksum = digest("create", b"meetingID=m1&name=a+b", "s3")
    body = f"name=a%20b&meetingID=m1&checksum={checksum}".encode()
    assert (await fetch(node, "POST", "/bigbluebutton/api/create", body, FORM)).ok
    assert node.meetings["m1"].name == "a b"


@pytest_twisted.ensureDeferred
async def test_newer_versions_sign_the_query_alone_even_if_everything_is_in_the_form(world: World) -> None:
    bare = digest("create", b"", "s3")
    answer = await fetch(
        world.node, "POST", "/bigbluebutton/api/create", f"meetingID=m1&name=ab&checksum={bare}".encode(), FORM
    )
    assert answer.ok
    over_body = digest("create", b"meetingID=m2&name=ab", "s3")
    answer = await fetch(
        world.node, "POST", "/bigbluebutton/api/create", f"meetingID=m2&name=ab&checksum={over_body}".encode(), FORM
    )
    assert answer.key == "checksumError"


@pytest_twisted.ensureDeferred
async def test_a_parameter_in_query_and_form_is_a_checksum_error(world: World) -> None:
    where = target(world.node, "create", {"meetingID": "m1", "name": "ab"})
    assert (await fetch(world.node, "POST", where, b"record=true", FORM)).ok
    assert (await fetch(world.node, "POST", where, b"name=other", FORM)).key == "checksumError"


@pytest_twisted.ensureDeferred
async def test_an_xml_body_is_not_signed(world: World) -> None:
    body = (
        b'<modules><module name="presentation"><document url="https://f.example/a.pdf"/>'
        b'<document name="b.pdf">QUJD</document><document url="http://f.example/c.pdf"/></module></modules>'
    )
    where = target(world.node, "create", {"meetingID": "m1", "name": "ab"})
    assert (await fetch(world.node, "POST", where, body, "application/xml")).ok
    assert world.node.meetings["m1"].documents == ["https://f.example/a.pdf", "b.pdf"]


@pytest.mark.parametrize(
    ("profile", "name", "content_type", "key"),
    [
        ("2.6", "create", "text/plain", ""),
        ("2.7", "create", "text/plain", "unsupportedContentType"),
        ("3.0", "create", "", "unsupportedContentType"),
        ("3.0", "create", "text/xml; charset=utf-8", ""),
        ("3.0", "end", "application/xml", "unsupportedContentType"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_newer_versions_check_the_content_type_of_a_body(
    world: World, profile: str, name: str, content_type: str, key: str
) -> None:
    node = await world.sim.add_node(secret="s3", profile=profile)
    where = target(node, name, {"meetingID": "m1", "name": "ab"})
    assert ((await fetch(node, "POST", where, b"<modules/>", content_type)).key or "") == key


@pytest.mark.parametrize(
    ("profile", "method", "name", "status"),
    [
        ("2.6", "POST", "join", 302),
        ("2.6", "PUT", "getMeetings", 200),
        ("2.7", "POST", "join", 405),
        ("3.0", "GET", "insertDocument", 405),
        ("3.0", "DELETE", "getMeetings", 405),
        ("3.0", "POST", "getMeetings", 200),
        ("3.0", "GET", "enter", 404),
        ("2.7", "GET", "enter", 200),
        ("2.7", "GET", "sendChatMessage", 404),
        ("3.0", "GET", "sendChatMessage", 200),
        ("3.0", "GET", "getmeetings", 404),
        ("3.0", "GET", "setConfigXML", 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_each_version_routes_its_own_calls_and_methods(
    world: World, profile: str, method: str, name: str, status: int
) -> None:
    node = await world.sim.add_node(secret="s3", profile=profile)
    answer = await fetch(node, method, target(node, name, {"meetingID": "m1"}))
    assert answer.status == status
    if status >= 400:
        assert answer.headers["content-type"].startswith("text/html")


@pytest_twisted.ensureDeferred
async def test_a_double_slash_before_the_call_is_accepted(world: World) -> None:
    where = target(world.node, "getMeetings", {}).replace("/api/", "/api//")
    assert (await fetch(world.node, "GET", where)).ok
    assert (await call(world.node, "getMeetings")).headers["cache-control"] == "no-cache"
