"""update, loadMultiplier and tag: what they print and which fields they touch."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.admin.desk import Desk, Result, both, spelled
from tests.balancer import Balancer

URL = "https://bbb7.example.net/bigbluebutton/api"
WARNING = "WARNING! Load-multiplier was not readable or 0, so it is now 1\n"


async def fields(balancer: Balancer) -> dict[str, str]:
    flat: Any = await balancer.redis("HGETALL", balancer.key("server:s1"))
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize(
    ("words", "out", "changed"),
    [
        (["servers:update[s1,new]"], "", {"secret": "new"}),
        (["servers:update[s1,,2]"], "", {"load_multiplier": "2.0"}),
        (["servers:update", "s1", "-", "2"], "", {"load_multiplier": "2.0"}),
        (["servers:update[s1,,,silver]"], "", {"tag": "silver"}),
        (["servers:update", "s1", "-", "-", "silver"], "", {"tag": "silver"}),
        (["servers:update[s1,new,1.0]"], "", {"secret": "new", "load_multiplier": "1.0"}),
        (["servers:update[s1,new,1.0,]"], "", {"secret": "new", "load_multiplier": "1.0", "tag": None}),
        (["servers:update", "s1", "-", "-", ""], "", {"tag": None}),
        (["servers:update[s1,,abc]"], WARNING, {"load_multiplier": "1.0"}),
        (["servers:update[s1]"], "", {}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_update_changes_what_is_given_and_nothing_else(
    balancer: Balancer, desk: Desk, words: list[str], out: str, changed: dict[str, str | None]
) -> None:
    await balancer.parts.servers.add("s1", URL, "old", 1.5, "gold")
    before = await fields(balancer)
    assert await desk.run(*words) == Result(0, f"Updating server s1...\n{out}OK\n", "")
    expected = {name: value for name, value in {**before, **changed}.items() if value is not None}
    assert await fields(balancer) == expected


@pytest_twisted.ensureDeferred
async def test_the_secret_may_come_from_standard_input(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("s1", URL, "old")
    assert (await desk.run("servers:update", "s1", "--secret-from-stdin", answers=("new",))).status == 0
    assert (await fields(balancer))["secret"] == "new"
    assert (await desk.run("servers:update", "s1", "--secret-from-stdin")).status == 1
    assert (await fields(balancer))["secret"] == "new"


@pytest.mark.parametrize(
    ("given", "out", "stored"),
    [
        (("2.5",), "", "2.5"),
        ((), "", "1.0"),
        (("0",), WARNING, "1.0"),
        (("x",), WARNING, "1.0"),
        (("1.5x",), "", "1.5"),
    ],
)
@both
@pytest_twisted.ensureDeferred
async def test_load_multiplier_is_read_as_scalelite_does(
    balancer: Balancer, desk: Desk, spelling: str, given: tuple[str, ...], out: str, stored: str
) -> None:
    await balancer.parts.servers.add("s1", URL, "old", 3.0)
    result = await desk.run(*spelled(spelling, "servers:loadMultiplier", "s1", *given))
    assert result == Result(0, f"{out}OK\n", "")
    assert (await fields(balancer))["load_multiplier"] == stored


@pytest.mark.parametrize(("given", "stored"), [(("silver",), "silver"), ((), None), (("",), None)])
@both
@pytest_twisted.ensureDeferred
async def test_tag_is_set_or_removed(
    balancer: Balancer, desk: Desk, spelling: str, given: tuple[str, ...], stored: str | None
) -> None:
    await balancer.parts.servers.add("s1", URL, "old", 1.0, "gold")
    assert await desk.run(*spelled(spelling, "servers:tag", "s1", *given)) == Result(0, "OK\n", "")
    assert (await fields(balancer)).get("tag") == stored


@pytest.mark.parametrize("words", [("servers:tag", "s1", "a\x1bb"), ("servers:update", "s1", "-", "2.0", "a\x1bb")])
@pytest_twisted.ensureDeferred
async def test_a_tag_with_control_characters_changes_nothing(
    balancer: Balancer, desk: Desk, words: tuple[str, ...]
) -> None:
    await balancer.parts.servers.add("s1", URL, "old", 1.0, "gold")
    before = await fields(balancer)
    told = await desk.run(*words)
    assert (told.status, told.err) == (1, "Error: Tag must have no control characters\n")
    assert await fields(balancer) == before


@pytest.mark.parametrize("name", ["servers:update", "servers:loadMultiplier", "servers:tag"])
@both
@pytest_twisted.ensureDeferred
async def test_unknown_servers_are_an_error(balancer: Balancer, desk: Desk, spelling: str, name: str) -> None:
    assert await desk.run(*spelled(spelling, name, "nope")) == Result(1, "", "ERROR: No server found with id: nope\n")
    assert await balancer.redis("EXISTS", balancer.key("server:nope")) == 0


@pytest_twisted.ensureDeferred
async def test_two_operators_at_once_lose_nothing_of_each_other(balancer: Balancer, desk: Desk) -> None:
    await balancer.parts.servers.add("s1", URL, "old")
    lines = [
        ("servers:update", "s1", "new"),
        ("servers:tag", "s1", "gold"),
        ("servers:loadMultiplier", "s1", "2"),
        ("servers:enable", "s1"),
    ]
    await gatherResults([Deferred.fromCoroutine(desk.run(*line)) for line in lines])
    assert await fields(balancer) == {
        "url": URL,
        "secret": "new",
        "online": "false",
        "load_multiplier": "2.0",
        "tag": "gold",
        "state": "enabled",
    }
