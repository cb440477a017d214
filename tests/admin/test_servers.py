"""The commands around servers: every line they print, in both spellings, and what they leave in the store."""

from __future__ import annotations

import json

import attrs
import pytest
import pytest_twisted

from scalelite.cluster.records import ServerState
from scalelite.store.errors import StoreUnavailable
from tests.admin.desk import Desk, Result, both, hold_meetings, meetings_on, spelled, state_of
from tests.balancer import Balancer

URL = "https://bbb7.example.net/bigbluebutton/api"


@pytest_twisted.ensureDeferred
async def test_servers_are_listed_line_by_line_as_scalelite_does(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("7c0f8f6e", URL, "0f3c", 2.0, "gold")
    await balancer.parts.servers.set_state("7c0f8f6e", ServerState.ENABLED)
    await balancer.redis("HSET", balancer.key("server:7c0f8f6e"), "online", "true", "bbb_version", "3.0.4")
    await balancer.redis("ZADD", balancer.key("server_load"), "21", "7c0f8f6e")
    await balancer.parts.servers.add("new", "http://10.0.0.1/api", "s")
    result = await desk.run("rake", "servers")
    assert result == Result(
        0,
        "id: 7c0f8f6e\n"
        "\turl: https://bbb7.example.net/bigbluebutton/api\n"
        "\tsecret: 0f3c\n"
        "\tenabled\n"
        "\tload: 21.0\n"
        "\tload multiplier: 2.0\n"
        "\tbbb version: 3.0.4\n"
        "\ttag: gold\n"
        "\tonline\n"
        "id: new\n"
        "\turl: http://10.0.0.1/api\n"
        "\tsecret: s\n"
        "\tdisabled\n"
        "\tload: unavailable\n"
        "\tload multiplier: 1.0\n"
        "\tbbb version: \n"
        "\ttag: \n"
        "\toffline\n",
        "",
    )


@pytest.mark.parametrize(
    ("words", "clear"),
    [
        (["servers"], False),
        (["servers", "--json"], False),
        (["servers", "--show-secrets"], True),
        (["servers", "--json", "--show-secrets"], True),
        (["servers[]"], True),
        (["rake", "servers"], True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_secrets_are_masked_unless_asked_for_or_spelled_as_rake(
    balancer: Balancer, desk: Desk, words: list[str], clear: bool
) -> None:
    await balancer.parts.servers.add("one", URL, "0f3c")
    result = await desk.run(*words)
    assert ("0f3c" in result.out, "*****" in result.out) == (clear, not clear)


@pytest_twisted.ensureDeferred
async def test_an_empty_pool_is_no_error(desk: Desk) -> None:
    assert await desk.run("servers") == Result(0, "", "No servers are configured\n")
    assert await desk.run("servers", "--json") == Result(0, "[]\n", "")


@pytest_twisted.ensureDeferred
async def test_json_lists_every_field(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("one", URL, "0f3c", 1.5, "gold")
    result = await desk.run("servers", "--json")
    assert json.loads(result.out) == [
        {
            "id": "one",
            "url": URL,
            "secret": "*****",
            "state": "disabled",
            "load": None,
            "load_multiplier": 1.5,
            "bbb_version": "",
            "tag": "gold",
            "online": False,
        }
    ]


@pytest_twisted.ensureDeferred
async def test_a_stored_tag_cannot_forge_a_line_of_the_listing(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("one", URL, "s", 1.0, "x\nid: forged\x1b[2J")
    assert "\ttag: x\\nid: forged\\x1b[2J\n" in (await desk.run("servers")).out


# servers:add


@pytest.mark.parametrize("words", [["servers", "--json", "--show-secrets"], ["status", "--json"], ["servers:\x1b[1m"]])
@pytest_twisted.ensureDeferred
async def test_no_control_characters_reach_a_terminal(balancer: Balancer, desk: Desk, words: list[str]) -> None:
    await balancer.parts.servers.add("s1", URL, "\x9b31m", 1.0, "\x1b]0;title\x07\u202e\x7f")
    told = await desk.run(*words)
    assert all(line.isprintable() for line in (told.out + told.err).split("\n"))


@both
@pytest_twisted.ensureDeferred
async def test_an_added_server_is_disabled_and_offline(balancer: Balancer, desk: Desk, spelling: str) -> None:
    result = await desk.run(*spelled(spelling, "servers:add", URL, "0f3c"))
    assert result == Result(0, "OK\nid: new-1\n", "")
    fields = await balancer.redis("HGETALL", balancer.key("server:new-1"))
    assert dict(zip(fields[::2], fields[1::2], strict=True)) == {
        "url": URL,
        "secret": "0f3c",
        "online": "false",
        "load_multiplier": "1.0",
    }
    assert await balancer.redis("SMEMBERS", balancer.key("servers")) == ["new-1"]
    assert await balancer.redis("EXISTS", balancer.key("server_enabled")) == 0


@both
@pytest_twisted.ensureDeferred
async def test_multiplier_and_tag_are_stored(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await desk.run(*spelled(spelling, "servers:add", URL, "0f3c", "2.5", "gold"))
    server = await balancer.parts.servers.find("new-1")
    assert server is not None
    assert (server.load_multiplier, server.tag) == (2.5, "gold")


@pytest.mark.parametrize("text", ["abc", "0", "0.0"])
@both
@pytest_twisted.ensureDeferred
async def test_an_unreadable_multiplier_becomes_one_with_a_warning(
    balancer: Balancer, desk: Desk, spelling: str, text: str
) -> None:
    result = await desk.run(*spelled(spelling, "servers:add", URL, "s", text))
    assert result.out == "WARNING! Load-multiplier was not readable or 0, so it is now 1\nOK\nid: new-1\n"
    assert await balancer.redis("HGET", balancer.key("server:new-1"), "load_multiplier") == "1.0"


@pytest.mark.parametrize(
    ("words", "status", "err"),
    [
        (["servers:add"], 1, "Error: Please input at least a URL and a secret!\n"),
        (["servers:add", URL], 1, "Error: Please input at least a URL and a secret!\n"),
        (["servers:add", URL, ""], 1, "Error: Please input at least a URL and a secret!\n"),
        (["rake", "servers:add"], 1, "Error: Please input at least a URL and a secret!\n"),
        (["servers:add[,s]"], 1, "Error: Please input at least a URL and a secret!\n"),
        (["servers:add[ftp://x,s]"], 1, "Error: Server URL must start with http:// or https://\n"),
        (["servers:add", "HTTP://x/api", "s"], 1, "Error: Server URL must start with http:// or https://\n"),
        (
            ["servers:add", "https:///api", "s"],
            1,
            "Error: Server URL must have a host name or an address, and no user, after http:// or https://\n",
        ),
        (["servers:add", URL, "a\x1b[31m"], 1, "Error: Secret must have no control characters\n"),
        (["servers:add", URL, "s", "1", "a\nb"], 1, "Error: Tag must have no control characters\n"),
        ([f"servers:add[{URL},s,1,{'g' * 1001}]"], 1, "Error: Tag must have no more than 1000 characters\n"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_server_is_not_added(
    balancer: Balancer, desk: Desk, words: list[str], status: int, err: str
) -> None:
    assert await desk.run(*words) == Result(status, "", err)
    assert await balancer.redis("KEYS", "*") in ([], [balancer.key("balancer:audit")])


@pytest_twisted.ensureDeferred
async def test_odd_urls_and_multipliers_are_accepted_with_a_warning(balancer: Balancer, desk: Desk) -> None:
    assert (await desk.run("servers:add", "https://h/", "s")).err == (
        "WARNING: Server URL does not end in /api; `bbb-conf --secret` shows the whole URL\n"
    )
    assert (await desk.run("servers:add", URL, "s", "--", "-2")).err == (
        "WARNING: With a negative load-multiplier, a server seems the emptier the fuller it is\n"
    )
    again = await desk.run("servers:add", URL + "/", "s")
    assert again == Result(0, "OK\nid: new-3\n", "WARNING: Server new-2 has the same URL\n")
    assert len(await balancer.parts.servers.all()) == 3


@both
@pytest_twisted.ensureDeferred
async def test_a_secret_can_be_read_from_standard_input(balancer: Balancer, desk: Desk, spelling: str) -> None:
    result = await desk.run(*spelled(spelling, "servers:add", URL, "-"), answers=(" 0f3c ",))
    assert result == Result(0, "OK\nid: new-1\n", "")
    assert await balancer.redis("HGET", balancer.key("server:new-1"), "secret") == "0f3c"


@pytest.mark.parametrize("answers", [(), ("",), ("  ",)])
@pytest_twisted.ensureDeferred
async def test_no_secret_on_standard_input_adds_nothing(
    balancer: Balancer, desk: Desk, answers: tuple[str, ...]
) -> None:
    result = await desk.run("servers:add", URL, "-", answers=answers)
    assert result == Result(1, "", "Error: Please input at least a URL and a secret!\n")
    assert await balancer.parts.servers.all() == []


@pytest_twisted.ensureDeferred
async def test_host_names_as_ids_are_in_lower_case_and_taken_once(balancer: Balancer, desk: Desk) -> None:
    desk.settings = attrs.evolve(desk.settings, server_id_is_hostname=True)
    assert (await desk.run("servers:add", "https://BBB2.Example.net:8443/api", "s")).out == "OK\nid: bbb2.example.net\n"
    again = await desk.run("servers:add[https://bbb2.example.net/api,other]")
    assert again == Result(1, "", "ERROR: Server already exists with id 'bbb2.example.net'\n")
    assert await balancer.redis("HGET", balancer.key("server:bbb2.example.net"), "secret") == "s"


# What all commands on one server have in common

ON_ONE = ["servers:remove", "servers:enable", "servers:cordon", "servers:disable", "servers:panic"]


@both
@pytest.mark.parametrize("name", ON_ONE)
@pytest_twisted.ensureDeferred
async def test_an_unknown_server_is_named(desk: Desk, name: str, spelling: str) -> None:
    result = await desk.run(*spelled(spelling, name, "nope"))
    assert result == Result(1, "", "ERROR: No server found with id: nope\n")


@pytest.mark.parametrize("name", ON_ONE)
@pytest_twisted.ensureDeferred
async def test_without_an_id_there_is_no_server(desk: Desk, name: str) -> None:
    assert await desk.run(f"{name}[]") == Result(1, "", "ERROR: No server found with id: \n")
    assert await desk.run(name, "") == await desk.run(name)
    assert (await desk.run(name)).status == 2


@pytest.mark.parametrize("name", [*ON_ONE, "servers", "status"])
@pytest_twisted.ensureDeferred
async def test_a_store_that_fails_is_one_line_and_status_1(desk: Desk, name: str) -> None:
    class Broken:
        async def find(self, server_id: str) -> None:
            raise StoreUnavailable("Redis cannot be reached: it burns")

        async def all(self) -> None:
            raise StoreUnavailable("Redis cannot be reached: it burns")

        async def begin(self, entry: object) -> None:
            raise StoreUnavailable("Redis cannot be reached: it burns")

    class BrokenPool:
        servers = Broken()
        audit = Broken()

    desk.pool = BrokenPool()
    words = [name, "s1"] if name in ON_ONE else [name]
    assert await desk.run(*words) == Result(1, "", "ERROR: Redis cannot be reached: it burns\n")


# enable and cordon


@both
@pytest_twisted.ensureDeferred
async def test_enable_and_cordon_say_what_they_do(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await balancer.parts.servers.add("s1", URL, "s")
    result = await desk.run(*spelled(spelling, "servers:enable", "s1"))
    assert result == Result(0, "Enabling server s1...\nOK\n", "")
    assert await state_of(balancer, "s1") == "enabled"
    result = await desk.run(*spelled(spelling, "servers:cordon", "s1"))
    assert result == Result(0, "Cordoning server s1...\nOK\n", "")
    assert await state_of(balancer, "s1") == "cordoned"


@both
@pytest_twisted.ensureDeferred
async def test_several_servers_are_switched_at_once_or_none_if_one_is_unknown(
    balancer: Balancer, desk: Desk, spelling: str
) -> None:
    for server_id in ("s1", "s2"):
        await balancer.parts.servers.add(server_id, URL, "s")
    refused = await desk.run(*spelled(spelling, "servers:enable", "s1", "s3"))
    assert refused == Result(1, "", "ERROR: No server found with id: s3\n")
    assert await state_of(balancer, "s1") == "disabled"
    result = await desk.run(*spelled(spelling, "servers:enable", "s1", "s2"))
    assert result == Result(0, "Enabling server s1...\nOK\nEnabling server s2...\nOK\n", "")
    assert [await state_of(balancer, s) for s in ("s1", "s2")] == ["enabled", "enabled"]


@pytest_twisted.ensureDeferred
async def test_commands_of_a_rake_line_run_in_order_up_to_the_first_that_fails(balancer: Balancer, desk: Desk) -> None:
    for server_id in ("s1", "s2", "s3"):
        await balancer.parts.servers.add(server_id, URL, "s")
    result = await desk.run("servers:enable[s1]", "servers:cordon[s2]", "servers:enable[x]", "servers:enable[s3]")
    assert result == Result(
        1,
        "Enabling server s1...\nOK\nCordoning server s2...\nOK\n",
        "ERROR: No server found with id: x\n",
    )
    assert [await state_of(balancer, s) for s in ("s1", "s2", "s3")] == ["enabled", "cordoned", "disabled"]


@pytest.mark.parametrize(
    ("name", "out", "err"),
    [
        ("servers:enable", "Enabling server s1...\n", "ERROR: Server with id 's1' is deleted\n"),
        (
            "servers:cordon",
            "Cordoning server s1...\n",
            "ERROR: Failed to cordon server s1 - Server with id 's1' is deleted\n",
        ),
        ("servers:disable", "Disabling server s1...\n", "ERROR: Server with id 's1' is deleted\n"),
        (
            "servers:panic",
            "Panicking server s1...\n",
            "ERROR: Failed to panic server s1 - Server with id 's1' is deleted\n",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_server_removed_under_the_command_is_an_error(
    balancer: Balancer, desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, out: str, err: str
) -> None:
    await balancer.parts.servers.add("s1", URL, "s")

    async def gone(server_id: str, state: ServerState) -> None:
        return None

    monkeypatch.setattr(balancer.parts.servers, "set_state", gone)
    assert await desk.run(name, "s1") == Result(1, out, err)


# remove


@both
@pytest_twisted.ensureDeferred
async def test_a_server_without_meetings_is_removed_with_all_its_keys(
    balancer: Balancer, desk: Desk, spelling: str
) -> None:
    await balancer.add_server("s1")
    await balancer.poll_now()
    result = await desk.run(*spelled(spelling, "servers:remove", "s1"))
    assert result == Result(0, "Removing server s1...\nOK\n", "")
    assert await balancer.redis("KEYS", "*") in ([], [balancer.key("balancer:audit")])


@both
@pytest_twisted.ensureDeferred
async def test_a_server_with_meetings_is_not_removed(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await hold_meetings(balancer, "m1", "m2")
    result = await desk.run(*spelled(spelling, "servers:remove", "s1"))
    assert (result.status, result.out) == (1, "Removing server s1...\n")
    assert result.err.startswith("ERROR: Server s1 was not removed: 2 meetings recorded there.")
    assert await state_of(balancer, "s1") == "enabled"
    assert await meetings_on(balancer, "s1") == ["m1", "m2"]


@both
@pytest_twisted.ensureDeferred
async def test_a_forced_removal_leaves_no_orphans(balancer: Balancer, desk: Desk, spelling: str) -> None:
    await hold_meetings(balancer, "m1")
    result = await desk.run(*spelled(spelling, "servers:remove", "s1"), "--force")
    assert result == Result(0, "Removing server s1...\nOK\n", "WARNING: 1 meeting forgotten, and may still run there\n")
    assert await state_of(balancer, "s1") is None
    assert await balancer.where("m1") is None
    assert await balancer.redis("EXISTS", balancer.key("meetings"), balancer.key("voice_bridges")) == 0
