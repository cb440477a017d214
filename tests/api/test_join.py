"""join: users are sent to their meeting's server with a link signed for it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import pytest_twisted

from scalelite.bbb.checksum import digest
from scalelite.cluster.records import ServerState
from tests.api.support import calls, load_of, running
from tests.balancer import Balancer


async def meeting(balancer: Balancer, servers: int = 1) -> None:
    await balancer.add_servers(servers)
    created = await balancer.call("create", meetingID="m1", name="Meeting", moderatorPW="mp", attendeePW="ap")
    assert created.returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_the_link_is_signed_for_the_server_and_works_there(balancer: Balancer) -> None:
    await meeting(balancer)
    node = balancer.nodes["s1"]
    joined = await balancer.call("join", meetingID="m1", fullName="Ada Löve", password="ap")
    assert (joined.code, joined.body) == (302, b"")
    assert joined.headers["content-type"].startswith("text/html")
    assert joined.headers["cache-control"] == "no-cache"
    query = "meetingID=m1&fullName=Ada+L%C3%B6ve&password=ap"
    checksum = digest("SHA256", "join", query.encode(), node.secret.encode())
    assert joined.location == f"{node.url}/join?{query}&checksum={checksum}"
    assert calls(balancer, "join") == []
    followed = await balancer.request("GET", joined.location)
    assert followed.code == 302
    assert "sessionToken=" in followed.location


@pytest_twisted.ensureDeferred
async def test_an_unknown_meeting_is_not_found(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    answer = await balancer.call("join", meetingID="m1", fullName="Ada")
    assert (answer.code, answer.key) == (200, "notFound")
    assert answer.message == (
        "We could not find a meeting with that meeting ID - perhaps the meeting is not yet running?"
    )


@pytest.mark.parametrize(
    ("how", "key"),
    [("offline", "serverUnavailable"), ("disabled", "serverUnavailable"), ("removed", "notFound"), ("cordoned", None)],
)
@pytest_twisted.ensureDeferred
async def test_the_state_of_the_server_decides(balancer: Balancer, how: str, key: str | None) -> None:
    await meeting(balancer)
    server = balancer.key("server:s1")
    if how == "offline":
        await balancer.redis("HSET", server, "online", "false")
    elif how == "removed":
        await balancer.redis("DEL", server)
    else:
        await balancer.parts.servers.set_state("s1", ServerState(how))
    answer = await balancer.call("join", meetingID="m1", fullName="Ada")
    if key is None:
        assert answer.code == 302
    else:
        assert (answer.code, answer.key) == (200, key)
    if key == "serverUnavailable":
        assert answer.message == "The server for this meeting is disabled/offline."


@pytest_twisted.ensureDeferred
async def test_a_join_counts_into_the_load_and_a_head_request_does_not(balancer: Balancer) -> None:
    await balancer.add_server("s1", load_multiplier=2.5)
    await balancer.poll_now()
    await balancer.call("create", meetingID="m1", name="Meeting")
    before = await load_of(balancer, "s1")
    assert before is not None
    url = balancer.url("join", meetingID="m1", fullName="Ada")
    for _ in range(2):
        assert (await balancer.request("GET", url)).code == 302
    assert await load_of(balancer, "s1") == before + 5.0
    head = await balancer.request("HEAD", url)
    assert (head.code, head.body) == (302, b"")
    assert head.location.startswith(balancer.nodes["s1"].url)
    assert await load_of(balancer, "s1") == before + 5.0


@pytest_twisted.ensureDeferred
async def test_a_join_to_a_server_that_takes_none_counts_nothing(balancer: Balancer) -> None:
    await meeting(balancer)
    await balancer.parts.servers.set_state("s1", ServerState.CORDONED)
    assert (await balancer.call("join", meetingID="m1", fullName="Ada")).code == 302
    assert await load_of(balancer, "s1") is None


@pytest.mark.parametrize(
    "name",
    [
        "Ada\r\nSet-Cookie: a=b", "\r\n\r\n<html>", "O'Neil & \"Co\" <x>", "李小龍", "👩‍🏫🏳️‍🌈", "مرحبا", "a+b c%20d~*",
        "tab\tname", "\u202eevil", "\ufeffbom", "a" * 5000, "=&=", "#fragment?x",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_names_survive_the_redirect(balancer: Balancer, name: str) -> None:
    await meeting(balancer)
    joined = await balancer.call("join", meetingID="m1", fullName=name, role="VIEWER")
    assert joined.code == 302
    assert joined.location.isascii()
    assert joined.location.isprintable()
    assert urlsplit(joined.location).fragment == ""
    assert joined.location_params["fullName"] == name
    assert "set-cookie" not in joined.headers
    if len(name) < 1000:
        assert (await balancer.request("GET", joined.location)).code == 302
        assert [user.name for user in balancer.nodes["s1"].meetings["m1"].users.values()] == [name]


@pytest_twisted.ensureDeferred
async def test_all_parameters_pass_in_order(balancer: Balancer) -> None:
    await meeting(balancer)
    query = (
        "userdata-x=1&meetingID=m1&userdata-x=2&fullName=A&bare&empty=&userdata%5Ba%5D=b&meta_server-tag=t"
        "&createTime=5&redirect=false&format=xml&action=x&controller=y"
    )
    answer = await balancer.request("GET", f"{balancer.api}/join?{query}&checksum={balancer.sign('join', query)}")
    assert urlsplit(answer.location).query.rpartition("&checksum=")[0] == (
        "userdata-x=2&meetingID=m1&fullName=A&bare&empty=&userdata%5Ba%5D=b&meta_server-tag=t&createTime=5&redirect=false"
    )


@pytest_twisted.ensureDeferred
async def test_defaults_excludes_and_overrides_have_their_precedence() -> None:
    async with running(
        default_join_params={"avatarURL": "default", "guest": "default", "meta_server-tag": "d"},
        override_join_params={"role": "VIEWER", "userdata-a": "override"},
        join_exclude_params=frozenset(("guest", "userdata-secret", "role")),
    ) as balancer:
        await meeting(balancer)
        joined = await balancer.call(
            "join",
            **{
                "meetingID": "m1", "fullName": "A", "avatarURL": "mine", "guest": "false", "role": "MODERATOR",
                "userdata-secret": "x",
            },
        )  # fmt: skip
        params = joined.location_params
        params.pop("checksum")
        assert list(params.items()) == [
            ("avatarURL", "mine"),
            ("guest", "default"),
            ("meta_server-tag", "d"),
            ("meetingID", "m1"),
            ("fullName", "A"),
            ("role", "VIEWER"),
            ("userdata-a", "override"),
        ]


@pytest_twisted.ensureDeferred
async def test_a_servers_url_may_end_with_a_slash(balancer: Balancer) -> None:
    await meeting(balancer)
    url = balancer.nodes["s1"].url
    await balancer.redis("HSET", balancer.key("server:s1"), "url", url + "/")
    joined = await balancer.call("join", meetingID="m1", fullName="Ada")
    assert joined.location.startswith(f"{url}/join?")
