"""Clearing a server: in parallel, under one deadline, and no room is forgotten that may still run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater

from scalelite.bbb import xml
from scalelite.bbb.client import NeverSent, NoAnswer
from scalelite.cluster.operations.servers import (
    Cleared,
    Clearing,
    NotEnded,
    ServerClearance,
    ServerGone,
    change_state,
)
from scalelite.cluster.placement import TagRequest
from scalelite.cluster.records import Server, ServerState
from scalelite.store.connection import connect_memory
from scalelite.store.errors import StoreUnavailable
from scalelite.store.meetings import MeetingStore, NewMeeting, Placement
from scalelite.store.servers import OldCopy, ServerStore

ENDED = xml.parse(b"<response><returncode>SUCCESS</returncode></response>")
UNKNOWN = xml.parse(b"<response><returncode>FAILED</returncode><messageKey>notFound</messageKey></response>")
REFUSED = xml.parse(
    b"<response><returncode>FAILED</returncode><messageKey>invalidPassword</messageKey>"
    b"<message>wrong one</message></response>"
)

Reply = Callable[[str], "Deferred[xml.Answer]"]


def always(answer: xml.Answer) -> Reply:
    return lambda meeting_id: succeed(answer)


def never(meeting_id: str) -> Deferred[xml.Answer]:
    return Deferred()


@attrs.define
class ScriptedClient:
    """Stands for the BBB client: every call is kept, and gets what `reply` says."""

    reply: Reply
    calls: list[tuple[str, str, dict[str, str], bool]] = attrs.field(factory=list)
    under_way: int = 0
    most_at_once: int = 0

    async def call(self, server: Server, action: str, params: dict[str, str], *, hurried: bool) -> xml.Answer:
        self.calls.append((server.id, action, dict(params), hurried))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            return await self.reply(params["meetingID"])
        except Exception as error:
            # As the real one: whatever ends a call is told as a BackendError.
            raise error if isinstance(error, NeverSent) else NoAnswer(type(error).__name__) from error
        finally:
            self.under_way -= 1


@attrs.define
class Pool:
    """Stores in memory with one enabled server "s1", and a clearance with its own clock."""

    servers: ServerStore
    meetings: MeetingStore
    clock: Clock = attrs.field(factory=Clock)
    events: list[Clearing | NotEnded] = attrs.field(factory=list)

    async def hold(self, *meeting_ids: str) -> None:
        """Record meetings on the server as confirmed creates do."""
        for meeting_id in meeting_ids:
            new = NewMeeting(meeting_id, "", f"pw of {meeting_id}", TagRequest((), False, ""), (f"1{meeting_id}",))
            reservation = await self.meetings.reserve(new)
            assert reservation.placement is Placement.NEW
            assert reservation.meeting is not None
            await self.meetings.confirm(reservation.meeting)

    async def server(self) -> Server:
        found = await self.servers.find("s1")
        assert found is not None
        return found

    async def state(self) -> ServerState:
        return (await self.server()).state

    async def recorded(self) -> list[str]:
        return [meeting.id for meeting in await self.meetings.on_server("s1")]

    async def copies(self) -> dict[str, str]:
        """Passwords of what may still run on the server, by meeting."""
        copies = await old_copies(self.servers)
        return {copy.meeting_id: copy.moderator_pw for copy in copies}

    def clearance(self, client: ScriptedClient, deadline: float = 15.0, pace: float = 0.0) -> ServerClearance:
        handed: Any = client
        return ServerClearance(self.servers, self.meetings, lambda: handed, self.clock, deadline, pace=pace)

    async def panic(self, client: ScriptedClient, **options: bool) -> Cleared:
        return await self.clearance(client).panic(await self.server(), self.events.append, **options)


async def old_copies(servers: ServerStore) -> tuple[OldCopy, ...]:
    from scalelite.cluster.statistics import PollLimits, ServerStatistics

    limits = PollLimits(1, 2, 86400, 15, pending_grace=20)
    return (await servers.record_poll("s1", 0.0, ServerStatistics(), limits)).old_copies


@pytest_twisted.async_yield_fixture
async def pool() -> AsyncIterator[Pool]:
    redis = connect_memory(reactor, timeout=5.0)
    servers = ServerStore(redis, "test:")
    await servers.add("s1", "https://s1.example/api", "secret")
    await servers.set_state("s1", ServerState.ENABLED)
    await old_copies(servers)
    yield Pool(servers, MeetingStore(redis, "test:", ttl=86400, new_meeting_load=15))
    await redis.close()


@pytest.mark.parametrize("state", list(ServerState))
@pytest_twisted.ensureDeferred
async def test_a_state_can_be_set_and_set_again(pool: Pool, state: ServerState) -> None:
    await change_state(pool.servers, "s1", state)
    await change_state(pool.servers, "s1", state)
    assert await pool.state() is state


@pytest_twisted.ensureDeferred
async def test_the_state_of_a_removed_server_can_not_be_set(pool: Pool) -> None:
    with pytest.raises(ServerGone, match="Server with id 'nope' is deleted"):
        await change_state(pool.servers, "nope", ServerState.ENABLED)


@pytest_twisted.ensureDeferred
async def test_every_meeting_is_ended_with_its_own_password(pool: Pool) -> None:
    await pool.hold("b", "a")
    client = ScriptedClient(always(ENDED))
    assert await pool.panic(client) == Cleared(2, 0, 0)
    assert client.calls == [
        ("s1", "end", {"meetingID": "a", "password": "pw of a"}, False),
        ("s1", "end", {"meetingID": "b", "password": "pw of b"}, False),
    ]
    assert pool.events == [Clearing("a"), Clearing("b")]
    assert await pool.recorded() == []
    assert await pool.copies() == {}


@pytest_twisted.ensureDeferred
async def test_the_server_is_disabled_before_the_first_end(pool: Pool) -> None:
    await pool.hold("a")
    states: list[Deferred[ServerState]] = []

    def reply(meeting_id: str) -> Deferred[xml.Answer]:
        states.append(Deferred.fromCoroutine(pool.state()))
        return succeed(ENDED)

    await pool.panic(ScriptedClient(reply))
    assert [await state for state in states] == [ServerState.DISABLED]


@pytest.mark.parametrize(
    ("reply", "may_live", "reason"),
    [
        (always(ENDED), 0, None),
        (always(UNKNOWN), 0, None),
        (always(REFUSED), 1, "invalidPassword: wrong one"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_the_servers_word_proves_that_a_meeting_is_over(
    pool: Pool, reply: Reply, may_live: int, reason: str | None
) -> None:
    await pool.hold("a")
    assert await pool.panic(ScriptedClient(reply)) == Cleared(1, may_live, 0)
    assert pool.events[1:] == ([] if reason is None else [NotEnded("a", reason)])
    assert await pool.recorded() == []
    assert await pool.copies() == ({} if reason is None else {"a": "pw of a"})


@pytest_twisted.ensureDeferred
async def test_one_failing_end_does_not_hold_up_the_others(pool: Pool) -> None:
    await pool.hold("a", "b", "c")

    def reply(meeting_id: str) -> Deferred[xml.Answer]:
        if meeting_id == "b":
            raise NeverSent("no route")
        return succeed(ENDED)

    assert await pool.panic(ScriptedClient(reply)) == Cleared(3, 1, 0)
    assert NotEnded("b", "no route") in pool.events
    assert await pool.copies() == {"b": "pw of b"}


@pytest_twisted.ensureDeferred
async def test_a_dead_server_with_200_meetings_is_cleared_at_the_deadline(pool: Pool) -> None:
    ids = [f"m{number:03}" for number in range(200)]
    await pool.hold(*ids)
    client = ScriptedClient(never)
    cleared = Deferred.fromCoroutine(pool.panic(client))
    while len(client.calls) < 200:
        await deferLater(reactor, 0)
    assert client.most_at_once == 200
    pool.clock.advance(14.9)
    assert client.under_way == 200
    pool.clock.advance(0.2)
    assert client.under_way == 0
    assert await cleared == Cleared(200, 200, 0)
    assert pool.events[200:] == [NotEnded(m, "no answer before the command's time was up") for m in ids]
    assert await pool.recorded() == []
    assert sorted(await pool.copies()) == ids
    assert pool.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("pace", "apart"), [(0.01, 0.01), (60.0, 0.3)])
async def test_calls_begin_and_are_given_up_one_after_another(pool: Pool, pace: float, apart: float) -> None:
    await pool.hold("a", "b", "c", "d", "e")
    client = ScriptedClient(never)
    server = await pool.server()
    cleared = Deferred.fromCoroutine(pool.clearance(client, pace=pace).panic(server, pool.events.append))
    while not client.calls:
        await deferLater(reactor, 0)
    begun = [len(client.calls)]
    for _ in range(4):
        pool.clock.advance(apart)
        begun.append(len(client.calls))
    assert begun == [1, 2, 3, 4, 5]
    pool.clock.advance(15 - 8 * apart - 0.001)
    left = [client.under_way]
    for _ in range(5):
        pool.clock.advance(apart)
        left.append(client.under_way)
    assert left == [5, 4, 3, 2, 1, 0]
    assert await cleared == Cleared(5, 5, 0)


@pytest_twisted.ensureDeferred
async def test_a_server_known_to_be_offline_is_asked_in_a_hurry(pool: Pool) -> None:
    await pool.hold("a")
    offline = attrs.evolve(await pool.server(), online=False)
    client = ScriptedClient(always(ENDED))
    await pool.clearance(client).panic(offline, pool.events.append)
    assert [hurried for *_, hurried in client.calls] == [True]


@pytest_twisted.ensureDeferred
async def test_skipped_calls_leave_the_end_to_the_poller(pool: Pool) -> None:
    await pool.hold("a")
    client = ScriptedClient(never)
    assert await pool.panic(client, skip_end_calls=True) == Cleared(1, 1, 0)
    assert client.calls == []
    assert pool.events == [Clearing("a")]
    assert await pool.copies() == {"a": "pw of a"}


@pytest_twisted.ensureDeferred
async def test_a_kept_state_lets_new_meetings_in_and_they_are_counted(pool: Pool) -> None:
    await pool.hold("a")
    meanwhile: list[Deferred[None]] = []

    def reply(meeting_id: str) -> Deferred[xml.Answer]:
        meanwhile.append(Deferred.fromCoroutine(pool.hold("late")))
        return succeed(ENDED)

    assert await pool.panic(ScriptedClient(reply), keep_state=True) == Cleared(1, 0, 1)
    await meanwhile[0]
    assert await pool.state() is ServerState.ENABLED
    assert await pool.recorded() == ["late"]


@pytest_twisted.ensureDeferred
async def test_a_meeting_placed_anew_meanwhile_keeps_its_record(pool: Pool) -> None:
    await pool.hold("a")
    await pool.servers.add("s2", "https://s2.example/api", "secret")
    await pool.servers.set_state("s2", ServerState.ENABLED)
    from scalelite.cluster.statistics import PollLimits, ServerStatistics

    await pool.servers.record_poll("s2", 0.0, ServerStatistics(), PollLimits(1, 2, 86400, 15, pending_grace=20))

    moving: list[Deferred[None]] = []
    answer: Deferred[xml.Answer] = Deferred()

    def reply(meeting_id: str) -> Deferred[xml.Answer]:
        moving.append(Deferred.fromCoroutine(pool.hold("a")))
        return answer

    cleared = Deferred.fromCoroutine(pool.panic(ScriptedClient(reply)))
    while not moving:
        await deferLater(reactor, 0)
    await moving[0]
    answer.callback(ENDED)
    assert await cleared == Cleared(1, 0, 0)
    found = await pool.meetings.find("a")
    assert found is not None
    assert found.meeting.server_id == "s2"


@pytest_twisted.ensureDeferred
async def test_a_failing_store_is_told_after_all_meetings_have_been_tried(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.hold("a", "b", "c")
    clear = pool.meetings.clear

    async def sometimes(meeting_id: str, server_id: str, *, may_live: bool) -> bool:
        if meeting_id == "a":
            raise StoreUnavailable("Redis did not answer within 3 s")
        return await clear(meeting_id, server_id, may_live=may_live)

    monkeypatch.setattr(pool.meetings, "clear", sometimes)
    with pytest.raises(StoreUnavailable):
        await pool.panic(ScriptedClient(always(ENDED)))
    assert await pool.recorded() == ["a"]
