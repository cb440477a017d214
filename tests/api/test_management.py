"""Servers over REST: what each route takes, answers and stores, line by line of Scalelite's contract."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from scalelite.cluster.records import ServerState
from tests.api.rest import Rest, refused, said
from tests.api.support import running
from tests.balancer import Balancer

URL = "https://b9.example.net/bigbluebutton/api"
NEW = {"url": URL, "secret": "k"}
MISSING = "param is missing or the value is empty: server"
FIELDS = ["id", "url", "secret", "tag", "bbb_version", "state", "load", "load_multiplier", "online"]


@pytest.fixture
def rest(balancer: Balancer) -> Rest:
    return Rest(balancer)


def no_server(server_id: str) -> tuple[int, Any]:
    return 404, {"error": f"Couldn't find server with id={server_id}"}


async def add(rest: Rest, **fields: Any) -> str:
    """A new server; its id."""
    status, server = said(await rest.post("addServer", {"server": {**NEW, **fields}}))
    assert status == 201, server
    return str(server["id"])


async def hold(balancer: Balancer, *meeting_ids: str) -> None:
    """One server that holds these meetings."""
    await balancer.add_servers(1)
    for meeting_id in meeting_ids:
        assert (await balancer.call("create", meetingID=meeting_id, name=meeting_id)).returncode == "SUCCESS"


@pytest_twisted.ensureDeferred
async def test_without_servers_there_is_nothing_to_list(rest: Rest) -> None:
    assert said(await rest.get("getServers")) == (404, {"error": "No servers are configured"})


@pytest_twisted.ensureDeferred
async def test_a_server_shows_all_its_fields_in_order(balancer: Balancer, rest: Rest) -> None:
    await balancer.parts.servers.add("srv-1", URL, "x", 1.5, "gold")
    await balancer.parts.servers.set_state("srv-1", ServerState.ENABLED)
    await balancer.redis("HSET", balancer.key("server:srv-1"), "online", "true", "bbb_version", "3.0.4")
    await balancer.redis("ZADD", balancer.key("server_load"), "21", "srv-1")
    await balancer.parts.servers.add("srv-2", "http://10.0.0.1/api", "y")
    first = {
        "id": "srv-1", "url": URL, "secret": "x", "tag": "gold", "bbb_version": "3.0.4", "state": "enabled",
        "load": 21.0, "load_multiplier": "1.5", "online": "online",
    }  # fmt: skip
    second = {
        "id": "srv-2", "url": "http://10.0.0.1/api", "secret": "y", "tag": "", "bbb_version": "", "state": "disabled",
        "load": "unavailable", "load_multiplier": "1.0", "online": "offline",
    }  # fmt: skip
    assert said(await rest.get("getServers")) == (200, [first, second])
    answer = await rest.get("getServerInfo", "id=srv-1")
    assert said(answer) == (200, first)
    assert [pair.partition(":")[0].strip('"{') for pair in answer.body.decode().split(',"')] == FIELDS
    await balancer.parts.servers.set_state("srv-1", ServerState.CORDONED)
    assert said(await rest.get("getServerInfo", "id=srv-1")) == (200, {**first, "state": "cordoned"})


@pytest.mark.parametrize("route", ["getServerInfo", "updateServer", "deleteServer", "panicServer"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_is_not_found(rest: Rest, route: str) -> None:
    ask = rest.get if route.startswith("get") else rest.post
    assert said(await ask(route, query="id=nobody")) == no_server("nobody")
    assert said(await ask(route)) == no_server("")
    if route != "getServerInfo":
        assert said(await rest.post(route, {"id": "a\nb"})) == no_server("a\nb")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"load_multiplier": "1.0"}),
        ({"load_multiplier": 2}, {"load_multiplier": "2.0"}),
        ({"load_multiplier": "1.5abc"}, {"load_multiplier": "1.5"}),
        ({"load_multiplier": "abc"}, {"load_multiplier": "1.0"}),
        ({"load_multiplier": 0}, {"load_multiplier": "1.0"}),
        ({"load_multiplier": " "}, {"load_multiplier": "1.0"}),
        ({"load_multiplier": None}, {"load_multiplier": "1.0"}),
        ({"tag": "gold"}, {"load_multiplier": "1.0", "tag": "gold"}),
        ({"tag": " "}, {"load_multiplier": "1.0"}),
        ({"tag": None, "load": 5, "state": "enabled", "unknown": "x"}, {"load_multiplier": "1.0"}),
        ({"secret": 12345}, {"load_multiplier": "1.0", "secret": "12345"}),
    ],
)
@pytest.mark.parametrize("flat", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_added_server_is_stored_as_scalelite_does(
    rest: Rest, given: dict[str, Any], stored: dict[str, str], flat: bool
) -> None:
    record = {**NEW, **given}
    status, server = said(await rest.post("addServer", record if flat else {"server": record}))
    assert (status, list(server)) == (201, FIELDS)
    assert (server["state"], server["load"], server["online"]) == ("disabled", "unavailable", "offline")
    assert await rest.stored(f"server:{server['id']}") == {"url": URL, "secret": "k", "online": "false", **stored}
    assert await rest.keys() == {"servers", f"server:{server['id']}"}
    assert said(await rest.get("getServerInfo", f"id={server['id']}")) == (200, server)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"server": {"url": URL}}, 400, "Server needs a URL and a secret"),
        ({"server": {"secret": "k"}}, 400, "Server needs a URL and a secret"),
        ({"server": {"url": " ", "secret": "k"}}, 400, "Server needs a URL and a secret"),
        ({"server": {"url": [URL], "secret": "k"}}, 400, "Server needs a URL and a secret"),
        ({"server": {"url": URL, "secret": None}}, 400, "Server needs a URL and a secret"),
        ({"foo": 1}, 400, "Server needs a URL and a secret"),
        ({**NEW, "url": "b6"}, 400, "Server URL must start with http:// or https://"),
        ({**NEW, "url": "ftp://b6/api"}, 400, "Server URL must start with http:// or https://"),
        ({**NEW, "url": "http://u:p@b6/api"}, 400, None),
        ({**NEW, "url": "http:///api"}, 400, None),
        ({**NEW, "url": "http://b6/api?x=1"}, 400, None),
        ({**NEW, "url": "http://b6/a\r\npi"}, 400, None),
        ({**NEW, "secret": "k\r\nSET"}, 400, "secret must have no control characters"),
        ({**NEW, "tag": "a\x00b"}, 400, "tag must have no control characters"),
        ({**NEW, "secret": "k" * 1001}, 400, "secret must have no more than 1000 characters"),
        ({**NEW, "tag": "g" * 1001}, 400, "tag must have no more than 1000 characters"),
        ({**NEW, "load_multiplier": True}, 400, "Load-multiplier must be a number"),
        ({**NEW, "load_multiplier": [2]}, 400, "Load-multiplier must be a number"),
        ({**NEW, "load_multiplier": -1}, 400, "Load-multiplier must not be negative"),
        ({**NEW, "load_multiplier": "-0.5"}, 400, "Load-multiplier must not be negative"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_be_is_refused(rest: Rest, body: Any, status: int, message: str | None) -> None:
    code, content = said(await rest.post("addServer", body))
    assert (code, list(content)) == (status, ["error"])
    assert message in (None, content["error"])
    assert await rest.keys() == set()


@pytest.mark.parametrize("body", [None, {}, {"server": {}}, {"server": None}, {"server": "x"}, {"server": [NEW]}])
@pytest_twisted.ensureDeferred
async def test_without_a_record_there_is_nothing_to_add(rest: Rest, body: Any) -> None:
    assert refused(await rest.post("addServer", body), "internalError", MISSING)
    assert await rest.keys() == set()


@pytest_twisted.ensureDeferred
async def test_ids_are_random_or_the_host_name() -> None:
    async with running(server_id_is_hostname=True) as balancer:
        rest = Rest(balancer)
        assert await add(rest, url="https://B9.Example.net/bigbluebutton/api") == "b9.example.net"
        again = await rest.post("addServer", {**NEW, "secret": "other"})
        assert said(again) == (409, {"error": "Server already exists with id 'b9.example.net'"})
        assert (await rest.stored("server:b9.example.net"))["secret"] == "k"
    async with running() as balancer:
        first, second = await add(Rest(balancer)), await add(Rest(balancer))
        assert first != second
        assert (len(first), first[14]) == (36, "4")


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ({"secret": "new"}, {"secret": "new"}),
        ({"secret": ""}, {}),
        ({"secret": None}, {}),
        ({"tag": "silver"}, {"tag": "silver"}),
        ({"tag": ""}, {"tag": None}),
        ({"tag": None}, {}),
        ({"load_multiplier": 3}, {"load_multiplier": "3.0"}),
        ({"load_multiplier": "0.5x"}, {"load_multiplier": "0.5"}),
        ({"load_multiplier": None}, {}),
        ({"state": ""}, {}),
        ({"state": None}, {}),
        ({"state": "disable"}, {"state": "disabled"}),
        ({"state": "cordon", "tag": "a", "secret": "b"}, {"state": "cordoned", "tag": "a", "secret": "b"}),
        ({"url": "http://other/api", "id": "other", "online": "true", "foo": "x"}, {}),
    ],
)
@pytest.mark.parametrize("form", ["record", "flat", "query"])
@pytest_twisted.ensureDeferred
async def test_update_changes_what_is_given(
    rest: Rest, change: dict[str, Any], stored: dict[str, str | None], form: str
) -> None:
    server_id = await add(rest, tag="gold", load_multiplier=2)
    assert said(await rest.post("updateServer", {"id": server_id, "state": "enable"}))[1]["state"] == "enabled"
    before = await rest.stored(f"server:{server_id}")
    if form == "record":
        answer = await rest.post("updateServer", {"id": server_id, "server": change})
    elif form == "flat":
        answer = await rest.post("updateServer", {**change, "id": server_id})
    else:
        answer = await rest.post("updateServer", {"server": change}, f"id={server_id}")
    status, server = said(answer)
    assert (status, list(server), server["id"]) == (200, FIELDS, server_id)
    after = {field: value for field, value in {**before, **stored}.items() if value is not None}
    assert await rest.stored(f"server:{server_id}") == after
    assert server == said(await rest.get("getServerInfo", f"id={server_id}"))[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "enabled", "secret": "new"}, "Invalid state parameter: enabled"),
        ({"state": "Enable"}, "Invalid state parameter: Enable"),
        ({"load_multiplier": 0, "secret": "new"}, "Load-multiplier must be a non-zero number"),
        ({"load_multiplier": "abc", "state": "disable"}, "Load-multiplier must be a non-zero number"),
        ({"load_multiplier": False}, "Load-multiplier must be a number"),
        ({"load_multiplier": -2}, "Load-multiplier must not be negative"),
        ({"tag": "a\nb", "secret": "new"}, "tag must have no control characters"),
        ({}, MISSING),
        (None, MISSING),
        ("x", MISSING),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nothing_is_changed_if_any_part_is_wrong(rest: Rest, change: Any, message: str) -> None:
    server_id = await add(rest)
    before = await rest.stored(f"server:{server_id}")
    answer = await rest.post("updateServer", {"id": server_id, "server": change})
    assert said(answer) == (400, {"error": message})
    assert await rest.stored(f"server:{server_id}") == before


@pytest_twisted.ensureDeferred
async def test_an_id_alone_changes_nothing(rest: Rest) -> None:
    server_id = await add(rest)
    before = await rest.stored(f"server:{server_id}")
    assert said(await rest.post("updateServer", {"id": server_id}))[0] == 200
    assert await rest.stored(f"server:{server_id}") == before
    # In the query it is no record.
    assert said(await rest.post("updateServer", query=f"id={server_id}")) == (400, {"error": MISSING})


@pytest_twisted.ensureDeferred
async def test_disabling_ends_no_meetings(balancer: Balancer, rest: Rest) -> None:
    await hold(balancer, "m1")
    assert said(await rest.post("updateServer", {"id": "s1", "server": {"state": "disable"}}))[1]["state"] == "disabled"
    assert (balancer.living_on("m1"), await balancer.where("m1")) == (["s1"], "s1")


@pytest_twisted.ensureDeferred
async def test_a_cordoned_server_takes_no_new_meetings_and_an_enabled_one_does(balancer: Balancer, rest: Rest) -> None:
    await balancer.add_servers(2)
    await rest.post("updateServer", {"id": "s1", "state": "cordon"})
    for number in range(3):
        await balancer.call("create", meetingID=f"meeting {number}", name="Meeting")
    assert {await balancer.where(f"meeting {number}") for number in range(3)} == {"s2"}
    await rest.post("updateServer", {"id": "s1", "state": "enable"})
    await balancer.call("create", meetingID="another", name="Meeting")
    assert await balancer.where("another") == "s1"


@pytest.mark.parametrize("place", ["body", "query"])
@pytest_twisted.ensureDeferred
async def test_a_deleted_server_leaves_nothing(rest: Rest, place: str) -> None:
    server_id = await add(rest)
    body, query = ({"id": server_id}, "") if place == "body" else (None, f"id={server_id}")
    answer = await rest.post("deleteServer", body, query)
    assert said(answer) == (200, {"success": f"Server id={server_id} was destroyed"})
    assert await rest.keys() == set()
    assert said(await rest.post("deleteServer", body, query)) == no_server(server_id)


@pytest.mark.parametrize("force", [True, "true", 1])
@pytest.mark.parametrize("place", ["top", "record"])
@pytest_twisted.ensureDeferred
async def test_a_server_with_meetings_is_deleted_only_by_force(
    balancer: Balancer, rest: Rest, force: Any, place: str
) -> None:
    await hold(balancer, "m1", "m2")
    for body in ({"id": "s1"}, {"id": "s1", "force": False}, {"id": "s1", "force": "false"}):
        assert said(await rest.post("deleteServer", body)) == (
            400,
            {
                "error": "Couldn't destroy server id=s1: 2 meetings are recorded there; with force=true, "
                "they are forgotten"
            },
        )
    assert await balancer.where("m1") == "s1"
    forced = {"force": force} if place == "top" else {"server": {"force": force}}
    assert said(await rest.post("deleteServer", {"id": "s1", **forced}))[0] == 200
    assert (await balancer.where("m1"), await rest.keys()) == (None, set())


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "disabled"),
        ({"keep_state": False}, "disabled"),
        ({"keep_state": "false"}, "disabled"),
        ({"keep_state": True}, "enabled"),
        ({"keep_state": "true"}, "enabled"),
        ({"server": {"keep_state": True}}, "enabled"),
        ({"server": {"keep_state": False}}, "disabled"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_panic_ends_and_forgets_all_meetings(
    balancer: Balancer, rest: Rest, more: dict[str, Any], state: str
) -> None:
    await hold(balancer, "m1", "m2", "m3")
    # One that fails does not hold up the others.
    balancer.nodes["s1"].meetings["m2"].moderator_pw = "another one"
    answer = await rest.post("panicServer", {"id": "s1", **more})
    assert said(answer) == (
        200,
        {"success": "Server id=s1 has been disabled and the meetings have been destroyed"},
    )
    assert [await balancer.where(meeting_id) for meeting_id in ("m1", "m2", "m3")] == [None, None, None]
    ended = {name for name, meeting in balancer.nodes["s1"].meetings.items() if meeting.forcibly_ended}
    assert ended == {"m1", "m3"}
    assert said(await rest.get("getServerInfo", "id=s1"))[1]["state"] == state


@pytest_twisted.ensureDeferred
async def test_panic_of_a_server_that_is_down_forgets_its_meetings(balancer: Balancer, rest: Rest) -> None:
    await hold(balancer, "m1", "m2")
    await balancer.nodes["s1"].stop()
    assert said(await rest.post("panicServer", query="id=s1"))[0] == 200
    assert (await balancer.where("m1"), await balancer.where("m2")) == (None, None)


@pytest.mark.parametrize("keep_state", ["maybe", {}, [True], 5])
@pytest_twisted.ensureDeferred
async def test_a_switch_is_true_or_false(balancer: Balancer, rest: Rest, keep_state: Any) -> None:
    await hold(balancer, "m1")
    answer = await rest.post("panicServer", {"id": "s1", "keep_state": keep_state})
    assert said(answer) == (400, {"error": "keep_state must be true or false"})
    assert await balancer.where("m1") == "s1"


@pytest_twisted.ensureDeferred
async def test_two_operators_at_once_lose_nothing_of_each_other(rest: Rest) -> None:
    server_id = await add(rest, tag="gold")
    changes = [{"secret": "new"}, {"tag": "silver"}, {"load_multiplier": 3}, {"state": "enable"}]
    answers = await gatherResults(
        [Deferred.fromCoroutine(rest.post("updateServer", {"id": server_id, "server": change})) for change in changes]
    )
    assert [answer.code for answer in answers] == [200] * 4
    assert await rest.stored(f"server:{server_id}") == {
        "url": URL, "online": "false", "secret": "new", "tag": "silver", "load_multiplier": "3.0", "state": "enabled",
    }  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_a_server_removed_meanwhile_is_not_found_and_does_not_come_back(
    balancer: Balancer, rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = await add(rest)
    find = balancer.parts.servers.find

    async def find_and_lose(wanted: str) -> Any:
        found = await find(wanted)
        await balancer.parts.servers.remove(wanted)
        return found

    monkeypatch.setattr(balancer.parts.servers, "find", find_and_lose)
    for route, body in (
        ("updateServer", {"tag": "x"}), ("updateServer", {"state": "enable"}), ("deleteServer", {}),
        ("panicServer", {}),
    ):  # fmt: skip
        await balancer.parts.servers.add(server_id, URL, "k")
        assert said(await rest.post(route, {"id": server_id, **body})) == no_server(server_id)
        assert await rest.keys() == set()
