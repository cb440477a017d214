"""Keys and values as Scalelite reads them, whatever the ids look like, and in one round trip a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from scalelite.cluster.records import CallbackURLs
from scalelite.store.connection import Redis, connect_memory
from scalelite.store.health import probe
from scalelite.store.meetings import Placement
from scalelite.store.scripts import script
from tests.store.layout import CORDONED, ENABLED, GRACE, Stores

IDS = [
    "007", "1.50", "1e5", "-0", "true", "nil", "", " ", " a b ", "a:b:c", "a\nb", "a\r\nb", "a\tb", "ä-ö", "會議", "🎓",
    '"quoted"', "back\\slash", "%s%d", "{curly}[square]", "*?[a-z]", "x" * 256, "server:s1", "meetings", "a\x1fb",
]  # fmt: skip


@pytest.mark.parametrize("meeting_id", IDS)
@pytest_twisted.ensureDeferred
async def test_meeting_of_any_id_lives_through_all_its_steps(stores: Stores, meeting_id: str) -> None:
    await stores.add("s1", 0)
    await stores.add("s2", 50)
    meeting = await stores.place(meeting_id, password=meeting_id, bridges=("012",), tenant=meeting_id)
    assert (meeting.id, meeting.moderator_pw, meeting.voice_bridge) == (meeting_id, meeting_id, "012")
    assert (await stores.reserve(meeting_id, tenant=meeting_id)).placement is Placement.EXISTING
    assert await stores.meetings.confirm(meeting)
    found = await stores.meetings.find(meeting_id, meeting_id)
    assert found is not None
    assert found.meeting == meeting
    assert [recorded async for recorded in stores.meetings.scan()] == [meeting]
    await stores.poll("s1", meeting_id, load=15)

    await stores.fail("s1", 2)
    moved = await stores.place(meeting_id, password="new", tenant=meeting_id)
    assert (moved.server_id, moved.voice_bridge) == ("s2", "012")
    assert await stores.meetings.confirm(moved)
    copies = (await stores.poll("s1", meeting_id, load=15)).old_copies
    assert [(copy.meeting_id, copy.moderator_pw) for copy in copies] == [(meeting_id, meeting_id)]
    assert {target.id: target.moved for target in await stores.servers.targets()}["s1"] == {meeting_id}
    await stores.servers.forget_old_copy("s1", meeting_id)
    assert await stores.meetings.drop_absent(meeting_id, "s2", await stores.time() + GRACE, GRACE)
    assert await stores.members("meetings") == set()
    assert await stores.hash("voice_bridges") == {}


@pytest.mark.parametrize("server_id", [text for text in IDS if text not in ("", "meetings")])
@pytest_twisted.ensureDeferred
async def test_server_of_any_id_is_kept_polled_and_chosen(stores: Stores, server_id: str) -> None:
    url, secret = f"https://{server_id}/api", f"007:{server_id}"
    await stores.servers.add(server_id, url, secret, 1.5)
    await stores.servers.set_state(server_id, ENABLED)
    await stores.poll(server_id, load=10)
    await stores.servers.set_bbb_version(server_id, "3.0")
    server = await stores.servers.find(server_id)
    assert server is not None
    assert (server.id, server.url, server.secret, server.load) == (server_id, url, secret, 15)
    meeting = await stores.create("m")
    assert meeting.server_id == server_id
    assert [recorded.id for recorded in await stores.meetings.on_server(server_id)] == ["m"]
    await stores.meetings.drop_ended(meeting)
    await stores.servers.set_state(server_id, CORDONED)
    assert (await stores.poll(server_id)).event == "emptied"
    assert await stores.servers.remove(server_id) == 0
    assert await stores.redis.call("KEYS", "*") == []


@pytest.mark.parametrize("password", ["", "007", 'a"b\\c/d', "ä會🎓", "a\nb\x01", "null", "x" * 5000])
@pytest_twisted.ensureDeferred
async def test_password_of_an_old_copy_comes_back_as_it_was(stores: Stores, password: str) -> None:
    await stores.add("s1", 0)
    await stores.create("m", password=password)
    await stores.meetings.clear("m", "s1", may_live=True)
    assert [copy.moderator_pw for copy in (await stores.poll("s1", "m")).old_copies] == [password]


@pytest_twisted.ensureDeferred
async def test_namespace_may_be_empty(new_redis: Redis) -> None:
    stores = Stores(new_redis, "")
    await stores.add("s1")
    await stores.create("m", bridges=("1",))
    assert set(await new_redis.call("KEYS", "*")) == {
        "servers", "server:s1", "server_enabled", "server_load", "s1", "meetings", "meeting:m", "voice_bridges",
        "balancer:recent:s1",
    }  # fmt: skip
    await new_redis.close()


@pytest_twisted.ensureDeferred
async def test_namespaces_do_not_see_each_other(stores: Stores) -> None:
    other = Stores(stores.redis, "scalelite:other:")
    await stores.add("s1")
    assert await other.servers.all() == []
    assert (await other.reserve("m")).placement is Placement.NO_SERVERS


@pytest.mark.parametrize("load", [15, 1, 0, 0.1, 100_000, 1.5])
@pytest_twisted.ensureDeferred
async def test_loads_are_decimals_that_any_reader_understands(new_redis: Redis, load: float) -> None:
    stores = Stores(new_redis, "scalelite:", new_meeting_load=load)
    await stores.add("s1", multiplier=2.0)
    await stores.place("m")
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", await stores.call("ZSCORE", "server_load", "s1"))
    assert await stores.scores("server_load") == {"s1": load * 2}
    await stores.poll("s1", load=115)
    assert await stores.scores("server_load") == {"s1": 230 + load * 2}
    await new_redis.close()


@pytest_twisted.ensureDeferred
async def test_loads_written_by_scalelite_are_read(stores: Stores) -> None:
    await stores.add("s1")
    await stores.call("ZADD", "server_load", "115.0", "s1")
    await stores.call("HSET", "server:s1", "load_multiplier", "2.5")
    server = await stores.servers.find("s1")
    assert server is not None
    assert (server.load, server.load_multiplier) == (115, 2.5)
    await stores.place("m")
    assert await stores.scores("server_load") == {"s1": 115 + 15 * 2.5}


@pytest_twisted.ensureDeferred
async def test_health_probe_is_scalelites(stores: Stores) -> None:
    await probe(stores.redis, stores.prefix)
    assert await stores.call("GET", "__health_check_set__") == "true"
    assert 0 < await stores.call("TTL", "__health_check_set__") <= 10
    await stores.call("DEL", "__health_check_set__")


@pytest_twisted.ensureDeferred
async def test_callback_urls_of_one_meeting_id_are_apart_for_each_tenant(stores: Stores) -> None:
    await stores.callbacks.merge("m", "t1", CallbackURLs(recording_ready="https://one"))
    await stores.callbacks.merge("m", "t1", CallbackURLs(analytics="https://two"))
    await stores.callbacks.merge("m", "", CallbackURLs(analytics=""))
    await stores.callbacks.merge("none", "t1", CallbackURLs())
    assert await stores.callbacks.find("m", "t1") == CallbackURLs("https://one", "https://two")
    assert await stores.callbacks.find("m", "") == CallbackURLs(None, "")
    assert await stores.callbacks.find("none", "t1") == CallbackURLs()


@pytest_twisted.ensureDeferred
async def test_each_step_of_a_request_is_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = connect_memory(reactor, timeout=10)
    stores = Stores(redis, "scalelite:")
    await stores.add("s1")
    await stores.create("known")
    await stores.meetings.release(await stores.place("scripts are loaded"), refused=True)
    sent: list[Any] = []
    call = redis.call

    def counted(*args: Any) -> Deferred[Any]:
        sent.append(args[0])
        return call(*args)

    monkeypatch.setattr(redis, "call", counted)
    meeting = await stores.place("m")
    await stores.meetings.confirm(meeting)
    await stores.meetings.find("m", joining=True)
    await stores.tenants.find("nobody")
    await stores.poll("s1", "m", load=15, asked=1)
    await redis.close()
    assert [name for name in sent if name != "EVAL"] == ["EVALSHA"] * 5


def _scripts() -> Sequence[str]:
    folder = resources.files("scalelite.store").joinpath("lua")
    return sorted(entry.name.removesuffix(".lua") for entry in folder.iterdir() if entry.name.endswith(".lua"))


@pytest.mark.parametrize("name", _scripts())
def test_script_neither_unpacks_without_bound_nor_walks_all_keys(name: str) -> None:
    source = script(name).source if name != "common" else ""
    for word in ("unpack(", "'KEYS'", "'SCAN'", "redis.replicate_commands", "math.random", "os."):
        assert word not in source
