"""State that Scalelite left in a real Redis, written command by command, is served, and can be handed back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import attrs
import pytest
import pytest_twisted

from scalelite.simulator import Node
from tests.balancer import Answer, Balancer
from tests.integration.command_line import Shell, dump
from tests.integration.redis_server import RedisServer
from tests.integration.requirements import require
from tests.store.layout import Stores, check_layout

pytestmark = pytest.mark.integration

LEFT = "500"
"""Seconds that the meetings' records had left to live when Scalelite was stopped."""


@attrs.frozen
class Takeover:
    """A balancer started on what Scalelite wrote into `redis` below `prefix`."""

    redis: RedisServer
    prefix: str
    balancer: Balancer

    def put(self, command: str, key: str, *args: str) -> None:
        """A command that Scalelite gave."""
        self.redis.command(command, self.prefix + key, *args)

    async def server(self, server_id: str, **fields: str) -> Node:
        """A server that has been added; it is simulated by the node."""
        node: Node = await self.balancer.sim.add_node(secret=f"secret of {server_id}")
        self.balancer.nodes[server_id] = node
        known = {"url": node.url, "secret": node.secret, "online": "true"} | fields
        self.put("HSET", f"server:{server_id}", *(part for pair in known.items() for part in pair))
        self.put("SADD", "servers", server_id)
        return node

    async def meeting(self, meeting_id: str, server_id: str, bridge: str | None, tenant_id: str = "") -> None:
        """A meeting that was created, recorded and joined; in the oldest form without a `bridge`."""
        bridge_there = bridge or "77777"
        await self.tell(
            server_id, "create",
            meetingID=meeting_id, name="Meeting", attendeePW="ap", moderatorPW="mp", voiceBridge=bridge_there,
        )  # fmt: skip
        joined = await self.tell(server_id, "join", meetingID=meeting_id, fullName="Ann", password="mp")
        await self.balancer.request("GET", joined.location)
        self.record(meeting_id, server_id, bridge, tenant_id)

    def record(self, meeting_id: str, server_id: str, bridge: str | None, tenant_id: str = "") -> None:
        """The record of a meeting, whether or not it runs."""
        fields = ["server_id", server_id, "moderator_pw", "mp"]
        if bridge is not None:
            fields += ["voice_bridge", bridge, "tenant_id", tenant_id]
            self.put("HSET", "voice_bridges", bridge, meeting_id)
        self.put("HSET", f"meeting:{meeting_id}", *fields)
        self.put("EXPIRE", f"meeting:{meeting_id}", LEFT)
        self.put("SADD", "meetings", meeting_id)

    async def tell(self, server_id: str, action: str, **params: str) -> Answer:
        """A call to a server as Scalelite signs it."""
        node, query = self.balancer.nodes[server_id], urlencode(params)
        checksum = hashlib.sha256((action + query + node.secret).encode()).hexdigest()
        answer = await self.balancer.request("GET", f"{node.url}/{action}?{query}&checksum={checksum}")
        assert answer.code == 302 or answer.returncode == "SUCCESS"
        return answer

    async def assert_scalelite_can_read(self) -> None:
        """Every key is of Scalelite's layout, or ours and temporary."""
        assert await check_layout(Stores(self.balancer.parts.redis, self.prefix)) == []

    def state(self) -> dict[str, object]:
        """All that is in Redis, without our own keys, by names without prefix."""
        everything = {key.removeprefix(self.prefix): value for key, value in dump(self.redis).items()}
        return {key: value for key, value in everything.items() if not key.startswith("balancer:")}


@pytest.fixture(autouse=True)
def server_binary() -> None:
    # Here, since pytest-twisted is confused by an async fixture that skips.
    require("redis-server", "redis-cli")


async def take_over(namespace: str, **settings: bool) -> AsyncIterator[Takeover]:
    with RedisServer() as redis:
        place = attrs.evolve(redis.settings(), namespace=namespace)
        balancer = await Balancer.start(redis=place, **settings)
        yield Takeover(redis, place.prefix, balancer)
        await balancer.stop()


@pytest_twisted.async_yield_fixture(params=["scalelite", ""], ids=["namespace", "no namespace"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Takeover]:
    """Four servers, one in each state, of which two in the form that knew no states; five meetings."""
    async for takeover in take_over(request.param):
        put = takeover.put
        await takeover.server("legacy", enabled="true")
        put("SADD", "server_enabled", "legacy")
        put("ZADD", "server_load", "3.0", "legacy")
        await takeover.server(
            "modern", state="enabled", load_multiplier="2.0", meetings="2", users="3", largest_meeting="2", videos="1",
            bbb_version="3.0.12",
        )  # fmt: skip
        put("SADD", "server_enabled", "modern")
        put("ZADD", "server_load", "8.0", "modern")
        put("HSET", "modern", "healthy_counter", "0", "unhealthy_counter", "1")
        await takeover.server("cordoned", state="cordoned", load_multiplier="1.0", tag="gold")
        put("ZADD", "cordoned_server_load", "1.0", "cordoned")
        await takeover.server("idle", online="false", load_multiplier="1.0")

        await takeover.meeting("on legacy", "legacy", "394201124")
        await takeover.meeting("without number", "modern", None)
        await takeover.meeting("on cordoned", "cordoned", "953452953")
        takeover.record("over", "modern", "141757235")
        put("SADD", "meetings", "expired")
        put("HSET", "voice_bridges", "245984251", "expired")
        yield takeover


@pytest.mark.parametrize(
    ("meeting_id", "server_id"),
    [("on legacy", "legacy"), ("without number", "modern"), ("on cordoned", "cordoned")],
)
@pytest_twisted.ensureDeferred
async def test_running_meeting_is_joined_and_looked_at_where_it_runs(
    pool: Takeover, meeting_id: str, server_id: str
) -> None:
    joined = await pool.balancer.call("join", meetingID=meeting_id, fullName="Ben", password="mp")

    assert joined.code == 302
    assert joined.location.startswith(pool.balancer.nodes[server_id].url)
    assert (await pool.balancer.call("isMeetingRunning", meetingID=meeting_id)).text("running") == "true"
    info = await pool.balancer.call("getMeetingInfo", meetingID=meeting_id)
    assert (info.returncode, info.text("participantCount")) == ("SUCCESS", "1")
    await pool.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_meetings_of_all_servers_in_use_are_listed(pool: Takeover) -> None:
    listed = await pool.balancer.call("getMeetings")

    ids = [element.text for element in listed.xml.iterfind("meetings/meeting/meetingID")]
    assert sorted(ids, key=str) == ["on cordoned", "on legacy", "without number"]


@pytest.mark.parametrize(
    ("meeting_id", "server_id", "bridge"),
    [
        ("on legacy", "legacy", "394201124"),
        ("without number", "modern", ""),
        ("on cordoned", "cordoned", "953452953"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_create_of_a_running_meeting_meets_it_with_its_number(
    pool: Takeover, meeting_id: str, server_id: str, bridge: str
) -> None:
    created = await pool.balancer.call(
        "create", meetingID=meeting_id, name="Meeting", attendeePW="ap", moderatorPW="mp"
    )

    assert created.returncode == "SUCCESS"
    assert pool.balancer.living_on(meeting_id) == [server_id]
    asked = [entry for entry in pool.balancer.nodes[server_id].requests if entry.action == "create"][-1]
    assert (asked.query["voiceBridge"], asked.query["moderatorPW"]) == (bridge, "mp")
    await pool.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_new_meeting_goes_to_the_server_that_scalelite_found_least_loaded(pool: Takeover) -> None:
    await pool.balancer.call("create", meetingID="new", name="New", moderatorPW="mp")

    state = pool.state()
    assert pool.balancer.living_on("new") == ["legacy"]
    record = state["meeting:new"]
    assert isinstance(record, dict)
    assert record | {"voice_bridge": "any"} == {
        "server_id": "legacy", "moderator_pw": "mp", "voice_bridge": "any", "tenant_id": "",
    }  # fmt: skip
    assert len(record["voice_bridge"]) == 9
    assert state["voice_bridges"][record["voice_bridge"]] == "new"  # type: ignore[index]
    assert state["server_load"] == ["modern", "8", "legacy", "18"]
    await pool.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_poll_brings_the_state_up_to_date_in_scalelites_own_form(pool: Takeover) -> None:
    before = pool.state()

    await pool.balancer.poll_now()
    await pool.balancer.poll_now()

    after = pool.state()
    counts = {"meetings": "1", "users": "1", "largest_meeting": "1", "videos": "0"}
    for server_id in ("legacy", "modern", "cordoned"):
        version = {"bbb_version": after[f"server:{server_id}"]["bbb_version"]}  # type: ignore[index]
        assert after.pop(f"server:{server_id}") == before.pop(f"server:{server_id}") | counts | version  # type: ignore[operator]
    assert after.pop("server:idle")["online"] == "true"  # type: ignore[index]
    # Each server has one new meeting, which counts 15 users times its multiplier.
    assert after["server_load"] == ["legacy", "15", "modern", "30"]
    assert after["cordoned_server_load"] == ["cordoned", "15"]
    assert after["server_enabled"] == ["legacy", "modern"]
    assert after["modern"] == {"healthy_counter": "0", "unhealthy_counter": "0"}
    # What was over is gone, and what had leaked as well.
    assert after["meetings"] == ["on cordoned", "on legacy", "without number"]
    assert after["voice_bridges"] == {"394201124": "on legacy", "953452953": "on cordoned"}
    assert "meeting:over" not in after
    for meeting_id in ("on legacy", "without number", "on cordoned"):
        assert after[f"meeting:{meeting_id}"] == before[f"meeting:{meeting_id}"]
        assert int(pool.redis.command("TTL", f"{pool.prefix}meeting:{meeting_id}")) > int(LEFT)
    await pool.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_end_removes_what_scalelite_recorded(pool: Takeover) -> None:
    ended = await pool.balancer.call("end", meetingID="on legacy", password="mp")

    state = pool.state()
    assert ended.returncode == "SUCCESS"
    assert "meeting:on legacy" not in state
    assert state["meetings"] == ["expired", "on cordoned", "over", "without number"]
    assert "394201124" not in state["voice_bridges"]  # type: ignore[operator]


@pytest_twisted.ensureDeferred
async def test_meeting_of_a_server_that_went_offline_lives_on_elsewhere_under_its_number(pool: Takeover) -> None:
    pool.put("HSET", "server:legacy", "online", "false")
    pool.put("ZREM", "server_load", "legacy")

    created = await pool.balancer.call("create", meetingID="on legacy", name="Meeting", moderatorPW="mp")
    joined = await pool.balancer.call("join", meetingID="on legacy", fullName="Ben", password="mp")

    assert created.text("voiceBridge") == "394201124"
    assert joined.location.startswith(pool.balancer.nodes["modern"].url)
    assert pool.state()["meeting:on legacy"]["server_id"] == "modern"  # type: ignore[index]
    await pool.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_status_is_told_from_what_scalelite_wrote(pool: Takeover, tmp_path: Path) -> None:
    shell = Shell(tmp_path, REDIS_URL=pool.redis.url)
    if not pool.prefix:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "redis_store.yml").write_text("production:\n  namespace: ''\n")

    rows = [line.split() for line in shell.ok("status").splitlines() if "127.0.0.1" in line]

    by_state = sorted((row[1], row[2]) for row in rows)
    assert by_state == [("cordoned", "online"), ("disabled", "offline"), ("enabled", "online"), ("enabled", "online")]
    assert [row[3:9] for row in rows if "3.0.12" in row] == [["2", "3", "2", "1", "8.0", "3.0.12"]]


@pytest_twisted.async_yield_fixture(params=["scalelite", ""], ids=["namespace", "no namespace"])
async def school(request: pytest.FixtureRequest) -> AsyncIterator[Takeover]:
    """One server, the tenants "school" and "other", and a meeting of each."""
    async for takeover in take_over(request.param, multitenancy_enabled=True):
        put = takeover.put
        for tenant_id, name, secrets in (("t-1", "school", "first:second"), ("t-2", "other", "third")):
            put("SADD", "tenants", tenant_id)
            put("HSET", f"tenant:{tenant_id}", "name", name, "secrets", secrets)
            put("HSET", f"tenant_name:{name}", "id", tenant_id)
        for setting_id, param, value, override in (
            ("x-1", "welcome", "Hello", "true"),
            ("x-2", "maxParticipants", "20", "false"),
        ):
            put("SADD", "tenant_settings:t-1", setting_id)
            put(
                "HSET", f"tenant_setting:{setting_id}", "param", param, "value", value, "override", override,
                "tenant_id", "t-1",
            )  # fmt: skip
        await takeover.server("s1", state="enabled", load_multiplier="1.0")
        put("SADD", "server_enabled", "s1")
        put("ZADD", "server_load", "0.0", "s1")
        await takeover.meeting("class", "s1", "394201124", "t-1")
        await takeover.meeting("elsewhere", "s1", "953452953", "t-2")
        yield takeover


async def call_as_school(pool: Takeover, action: str, **params: str) -> Answer:
    url = pool.balancer.url(action, secret="second", **params)
    return await pool.balancer.request("GET", url, headers={"Host": "school.lb.example"})


@pytest_twisted.ensureDeferred
async def test_tenant_finds_its_own_meetings_only(school: Takeover) -> None:
    before = {key: value for key, value in school.state().items() if key.startswith("tenant")}

    assert (await call_as_school(school, "join", meetingID="class", fullName="Ben", password="mp")).code == 302
    hidden = await call_as_school(school, "getMeetingInfo", meetingID="elsewhere")
    assert hidden.key == "notFound"
    unsigned = await school.balancer.call("getMeetingInfo", secret="third", meetingID="class")
    assert unsigned.key == "checksumError"

    await school.balancer.poll_now()
    assert {key: value for key, value in school.state().items() if key.startswith("tenant")} == before
    assert school.state()["meetings"] == ["class", "elsewhere"]
    await school.assert_scalelite_can_read()


@pytest_twisted.ensureDeferred
async def test_settings_of_a_tenant_reach_the_server(school: Takeover) -> None:
    await call_as_school(
        school, "create", meetingID="new", name="New", moderatorPW="mp", welcome="Hi", maxParticipants="5"
    )

    asked = [entry for entry in school.balancer.nodes["s1"].requests if entry.action == "create"][-1]
    assert (asked.query["welcome"], asked.query["maxParticipants"]) == ("Hello", "5")
    assert (asked.query["meta_tenant-id"], asked.query["meta_tenant-name"]) == ("t-1", "school")
    assert school.state()["meeting:new"]["tenant_id"] == "t-1"  # type: ignore[index]
    await school.assert_scalelite_can_read()
