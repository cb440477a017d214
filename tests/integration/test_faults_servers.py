"""Every call of the API against servers that are broken in every way: an answer in time, and no meeting lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted

from scalelite.simulator import Fault, Node
from scalelite.simulator.http import Response
from tests.balancer import Balancer
from tests.integration.faults import ACTIONS, ask, assert_single, fresh, open_balancer, usable_on, went_well
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration

HUGE = 50 * 1024 * 1024
NEVER_REPEATED = ("insertDocument", "sendChatMessage")
"""Calls that must not be carried out twice: a kept connection that turns out to be closed costs an error."""


@attrs.frozen
class Broken:
    """How a server breaks, and what it takes to be right again."""

    begin: Callable[[Node], Awaitable[None]]
    end: Callable[[Node], Awaitable[None]]
    harmless: bool = False
    """Answers are odd, and yet right."""
    forgets: bool = False
    """Its meetings are gone."""


def fault(kind: Fault, **options: Any) -> Broken:
    """A fault of the simulator, of every call."""

    async def begin(node: Node) -> None:
        node.faults.set("*", kind, **options)

    async def end(node: Node) -> None:
        node.faults.clear()

    harmless = kind in (
        Fault.WRONG_CONTENT_TYPE,
        Fault.XML_UNKNOWN_ELEMENTS,
        Fault.XML_GROUPED_NUMBERS,
        Fault.CLOSE_ON_REUSE,
    )
    return Broken(begin, end, harmless=harmless)


async def _stop(node: Node) -> None:
    await node.stop()


async def _start(node: Node) -> None:
    await node.start()


async def _lose_memory(node: Node) -> None:
    await node.restart()


async def _nothing(node: Node) -> None:
    pass


async def _answer_hugely(node: Node) -> None:
    node.edge.answer = lambda request, name: Response(b"<response>" + b" " * HUGE)  # type: ignore[method-assign]


async def _answer_again(node: Node) -> None:
    del node.edge.answer


BROKEN: dict[str, Broken] = {
    "refuses": Broken(_stop, _start),
    "lost its memory": Broken(_lose_memory, _nothing, forgets=True),
    "answers 50 MB": Broken(_answer_hugely, _answer_again),
    **{
        kind.value: fault(kind)
        for kind in (
            Fault.RESET,
            Fault.BLACKHOLE,
            Fault.CLOSE_ON_REUSE,
            Fault.HANG_BEFORE_HEADERS,
            Fault.HANG_AFTER_HEADERS,
            Fault.DRIP,
            Fault.HTTP_500,
            Fault.HTTP_502,
            Fault.HTTP_404,
            Fault.HTTP_429,
            Fault.REDIRECT_HTTPS,
            Fault.HTML_200,
            Fault.EMPTY_200,
            Fault.WRONG_CONTENT_TYPE,
            Fault.GZIP,
            Fault.CONTENT_LENGTH_LONG,
            Fault.CONTENT_LENGTH_SHORT,
            Fault.ENDLESS_CHUNKED,
            Fault.XML_TRUNCATED,
            Fault.XML_CONTROL_CHARACTER,
            Fault.XML_BROKEN_ERRORS,
            Fault.XML_NO_RETURNCODE,
            Fault.XML_ENTITY_BOMB,
            Fault.XML_EXTERNAL_ENTITY,
            Fault.XML_LATIN1,
            Fault.XML_GROUPED_NUMBERS,
            Fault.XML_UNKNOWN_ELEMENTS,
            Fault.WRONG_SECRET,
        )
    },
    "answers 500, having done it": fault(Fault.HTTP_500, processed=True),
    "hangs, having done it": fault(Fault.HANG_BEFORE_HEADERS, processed=True),
}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def _concerned(balancer: Balancer, action: str) -> str:
    """The server that the action will be about: m1's, or the one that the next meeting is placed on."""
    if action != "create new":
        (holder,) = balancer.living_on("m1")
        return holder
    loads = await balancer.redis("ZRANGE", balancer.key("server_load"), "0", "0")
    return str(loads[0])


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("action", ACTIONS)
@pytest_twisted.ensureDeferred
async def test_broken_server_costs_an_error_at_most(redis_server: RedisServer, action: str, how: str) -> None:
    with fresh(redis_server) as redis:
        async with open_balancer(redis) as balancer:
            broken = BROKEN[how]
            (holder,) = balancer.living_on("m1")
            node = balancer.nodes[await _concerned(balancer, action)]
            await broken.begin(node)
            answer = await ask(balancer, action)
            if action in ("join", "health_check") or (broken.harmless and action not in NEVER_REPEATED):
                assert went_well(action, answer)
            if action == "create new" and how == "refuses":
                # Another server takes it.
                assert went_well(action, answer)
            if usable_on(balancer, "m1"):
                assert await balancer.where("m1") == holder
            await broken.end(node)
            if usable_on(balancer, "m1") or action == "create new":
                assert went_well(action, await ask(balancer, action))
            if action == "create new":
                await assert_single(balancer, "new")
            for name in ACTIONS:
                await ask(balancer, name)
            assert went_well("create existing", await ask(balancer, "create existing"))


@pytest.mark.parametrize("how", BROKEN)
@pytest_twisted.ensureDeferred
async def test_poll_of_a_broken_server_loses_no_meeting(redis_server: RedisServer, how: str) -> None:
    with fresh(redis_server) as redis:
        async with open_balancer(redis) as balancer:
            broken = BROKEN[how]
            (holder,) = balancer.living_on("m1")
            node = balancer.nodes[holder]
            await broken.begin(node)
            for _ in range(2):
                await balancer.poll_now()
            if not broken.forgets:
                assert await balancer.where("m1") == holder
            for name in ACTIONS:
                if name != "end":
                    await ask(balancer, name)
            await broken.end(node)
            await balancer.poll_now()
            created = await ask(balancer, "create existing")
            assert created.returncode == "SUCCESS"
            await assert_single(balancer, "m1")
            assert went_well("join", await ask(balancer, "join"))


@pytest.mark.parametrize("how", [how for how, broken in BROKEN.items() if not broken.harmless])
@pytest_twisted.ensureDeferred
async def test_create_retried_while_servers_break_makes_one_meeting(redis_server: RedisServer, how: str) -> None:
    with fresh(redis_server) as redis:
        async with open_balancer(redis) as balancer:
            broken = BROKEN[how]
            for node in balancer.nodes.values():
                await broken.begin(node)
            await ask(balancer, "create new")
            await ask(balancer, "create new")
            for node in balancer.nodes.values():
                await broken.end(node)
            assert went_well("create new", await ask(balancer, "create new"))
            await assert_single(balancer, "new")
