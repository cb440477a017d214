"""What front-ends ask of a balancer, and what must hold of every answer, whatever is broken behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from twisted.internet.defer import Deferred

from scalelite.settings import RedisSettings
from tests.balancer import Answer, Balancer, reactor
from tests.integration.redis_server import RedisServer

PATIENCE = 30.0
"""Seconds after which a call counts as hung; the balancer's own deadlines are below."""

RESPONSE_TIMEOUT = 0.5
REDIS_TIMEOUT = 0.5
GRACE = 2 * RESPONSE_TIMEOUT + REDIS_TIMEOUT

SLIDES = b'<modules><module name="presentation"><document url="https://example.com/a.pdf"/></module></modules>'

Action = Callable[[Balancer], Awaitable[Answer]]


async def _insert(balancer: Balancer) -> Answer:
    url = balancer.url("insertDocument", meetingID="m1")
    return await balancer.request("POST", url, body=SLIDES, headers={"Content-Type": "application/xml"})


ACTIONS: dict[str, Action] = {
    "create new": lambda b: b.call("create", meetingID="new", name="Meeting"),
    "create existing": lambda b: b.call("create", meetingID="m1", name="Meeting"),
    "join": lambda b: b.call("join", meetingID="m1", fullName="Ada", role="VIEWER"),
    "end": lambda b: b.call("end", meetingID="m1", password="mp"),
    "isMeetingRunning": lambda b: b.call("isMeetingRunning", meetingID="m1"),
    "getMeetingInfo": lambda b: b.call("getMeetingInfo", meetingID="m1"),
    "getMeetings": lambda b: b.call("getMeetings"),
    "insertDocument": _insert,
    "sendChatMessage": lambda b: b.call("sendChatMessage", meetingID="m1", message="Hello"),
    "health_check": lambda b: b.request("GET", f"http://127.0.0.1:{b.port}/health_check"),
}
"""Each call of the API, of the meeting m1 where it is about one; m1 was created with the moderator password mp."""


@contextmanager
def fresh(server: RedisServer) -> Iterator[RedisSettings]:
    """A running server with nothing in it, and its settings."""
    server.command("FLUSHALL")
    yield server.settings()


@asynccontextmanager
async def open_balancer(redis: RedisSettings, **overrides: Any) -> AsyncIterator[Balancer]:
    """A balancer over a real Redis, with three servers and the meeting m1, in which a user is."""
    deadlines = {
        "response_timeout": RESPONSE_TIMEOUT,
        "connect_timeout": RESPONSE_TIMEOUT,
        "redis_timeout": REDIS_TIMEOUT,
        **overrides,
    }
    balancer = await Balancer.start(redis=redis, **deadlines)
    try:
        await balancer.add_servers(3)
        created = await balancer.call("create", meetingID="m1", name="Meeting", moderatorPW="mp")
        assert created.returncode == "SUCCESS"
        (holder,) = balancer.living_on("m1")
        balancer.nodes[holder].add_users("m1", 1)
        yield balancer
    finally:
        await balancer.stop()


async def ask(balancer: Balancer, name: str) -> Answer:
    """The answer to an action, which must be one that a front-end understands."""
    answer: Answer = await Deferred.fromCoroutine(_of(ACTIONS[name](balancer))).addTimeout(PATIENCE, reactor)
    for trace in (b"Traceback", b"<html", b'File "', b"<!DOCTYPE", b"redis.call", b"user_script"):
        assert trace not in answer.body, answer.body
    if name == "health_check":
        assert answer.code in (200, 503)
        assert (answer.body == b"success") == (answer.code == 200)
    elif answer.code == 302:
        assert name == "join"
        assert not answer.body
    else:
        assert answer.code == 200
        assert answer.xml.tag == "response"
        assert answer.returncode in ("SUCCESS", "FAILED")
        if answer.returncode == "FAILED":
            assert answer.key
            assert answer.message
    return answer


async def _of(answer: Awaitable[Answer]) -> Answer:
    return await answer


def went_well(name: str, answer: Answer) -> bool:
    """Whether that is what the action answers where nothing is broken."""
    if name == "health_check":
        return answer.code == 200
    if name == "join":
        return answer.code == 302
    if name == "getMeetings":
        return answer.returncode == "SUCCESS" and "x-scalelite-partial" not in answer.headers
    if name == "isMeetingRunning":
        return answer.text("running") == "true"
    return answer.returncode == "SUCCESS"


def usable_on(balancer: Balancer, meeting_id: str) -> list[str]:
    """The servers on which users can be in the meeting: not those where its end has begun."""
    return [name for name in balancer.living_on(meeting_id) if not _ending(balancer, name, meeting_id)]


def _ending(balancer: Balancer, server_id: str, meeting_id: str) -> bool:
    return balancer.nodes[server_id].meetings[meeting_id].forcibly_ended


async def assert_single(balancer: Balancer, meeting_id: str) -> None:
    """The meeting lives on one server, and that is where its record points to."""
    assert [await balancer.where(meeting_id)] == usable_on(balancer, meeting_id)
