"""Every call of the API while Sentinel makes another Redis the master."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import pytest_twisted

from scalelite.settings.redis import parse_redis_url
from scalelite.store.errors import StoreError
from tests.balancer import Answer, Balancer
from tests.integration.faults import ACTIONS, ask, assert_single, open_balancer, went_well
from tests.integration.redis_server import RedisSentinel, RedisServer, eventually

pytestmark = pytest.mark.integration


@attrs.frozen
class House:
    """A master, its replica and a Sentinel that watches both."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisSentinel

    async def replicated(self) -> bool | None:
        """True once the replica has all that the master has, and Sentinel knows of it."""
        seen = self.sentinel.command("SENTINEL", "REPLICAS", "mymaster")
        linked = "master_link_status:up" in self.replica.command("INFO", "replication")
        same = self.master.command("DBSIZE") == self.replica.command("DBSIZE")
        return True if linked and same and "master-link-status\nok" in seen else None


@pytest.fixture
def house() -> Iterator[House]:
    with (
        RedisServer() as master,
        RedisServer([f"replicaof 127.0.0.1 {master.port}"]) as replica,
        RedisSentinel(master) as sentinel,
    ):
        yield House(master, replica, sentinel)


@pytest.mark.parametrize("how", ["killed", "hangs", "planned"])
@pytest_twisted.ensureDeferred
async def test_everything_is_answered_during_a_failover_and_nothing_is_lost_by_it(house: House, how: str) -> None:
    settings = parse_redis_url(f"redis+sentinel://127.0.0.1:{house.sentinel.port}/mymaster")
    async with open_balancer(settings) as balancer:
        (holder,) = balancer.living_on("m1")
        await eventually(house.replicated)
        if how == "killed":
            house.master.kill()
        elif how == "hangs":
            house.master.pause()
        else:
            house.sentinel.command("SENTINEL", "FAILOVER", "mymaster")

        async def moved() -> Answer | None:
            for name in ACTIONS:
                if name != "end":
                    answer = await ask(balancer, name)
            done = await _master(balancer) == house.replica.port
            return answer if done else None

        await eventually(moved, StoreError)
        if how == "killed":
            house.master.start()
        elif how == "hangs":
            house.master.resume()
        await eventually(lambda: _healthy(balancer))
        for name in ACTIONS:
            if name != "end":
                assert went_well(name, await ask(balancer, name)), name
        assert await balancer.where("m1") == holder
        await assert_single(balancer, "m1")
        await assert_single(balancer, "new")
        await balancer.poll_now()
        assert went_well("end", await ask(balancer, "end"))
        assert await _master(balancer) == house.replica.port


async def _master(balancer: Balancer) -> int:
    reply = await balancer.redis("CONFIG", "GET", "port")
    return int(reply[1])


async def _healthy(balancer: Balancer) -> bool | None:
    return True if (await ask(balancer, "health_check")).code == 200 else None
