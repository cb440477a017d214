"""What clients, operators and servers do to a balancer, and what the clients were told meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.web.client import ResponseFailed

from scalelite.cluster.operations.servers import ServerClearance
from scalelite.cluster.records import ServerState
from scalelite.composition import bbb_client
from scalelite.simulator import Fault, Node
from scalelite.simulator.records import Meeting
from tests.balancer import Answer
from tests.model.house import HeldCall, House

TTL = 1500
LATE = 4.0
"""Seconds by which an answer is late that is to be out of date; within the deadline."""

SLOWEST_END = 30
"""Seconds that a server takes to end a meeting, at most."""


@attrs.frozen
class Told:
    """The copy of a meeting that a client was told of last, and when that was."""

    server_id: str
    copy: Meeting
    at: float

    @property
    def alive(self) -> bool:
        return alive(self.copy)


def alive(copy: Meeting) -> bool:
    """Whether users can be in it: an `end` makes it unusable at once, though it is listed for some moments."""
    return not copy.ended and not copy.forcibly_ended


@attrs.define(eq=False)
class Create:
    """A create call that is under way."""

    meeting_id: str
    done: Deferred[Any]
    held: HeldCall | None
    since: float


@attrs.define(eq=False)
class World:
    """A house with its pool. `told`: by meeting id. `forgiven`: ids of the meetings that a client ended just now.

    `in_doubt`: ids of meetings that a create may have moved, without a client having been told.
    `given_up`: when an operator gave up a meeting on a server; what creates before that say of it does not count.
    """

    house: House
    told: dict[str, Told] = attrs.field(factory=dict)
    forgiven: set[str] = attrs.field(factory=set)
    in_doubt: set[str] = attrs.field(factory=set)
    given_up: dict[tuple[str, str], float] = attrs.field(factory=dict)
    creates: list[Create] = attrs.field(factory=list)
    polling: Deferred[Any] | None = None
    held_poll: tuple[HeldCall, float] | None = None
    removed: dict[str, Node] = attrs.field(factory=dict)
    _clearance: ServerClearance = attrs.field(init=False)
    _number: int = 0

    @classmethod
    async def open(cls, servers: int = 3, **overrides: Any) -> World:
        """A world with some enabled and polled servers. Deadlines: 10 s to servers, 5 s to the store."""
        settings = {
            "response_timeout": 10,
            "redis_timeout": 5,
            "default_meeting_ttl": TTL,
            "use_external_voice_bridge": True,
            **overrides,
        }
        world = cls(await House.open(**settings))
        for _ in range(servers):
            await world.add_server()
        await world.poll()
        return world

    def __attrs_post_init__(self) -> None:
        parts = self.house.parts
        client = bbb_client(parts)
        self._clearance = ServerClearance(parts.servers, parts.meetings, lambda: client, parts.reactor, deadline=10)

    async def close(self) -> None:
        for create in self.creates:
            if create.held is not None:
                create.held.call_off()
        self.held_poll = None
        await self.house.stop()

    @property
    def nodes(self) -> dict[str, Node]:
        """The servers that are in the pool."""
        return self.house.nodes

    def now(self) -> float:
        return self.house.clock.seconds()

    def copies(self, meeting_id: str) -> dict[str, Meeting]:
        """The living copies of a meeting on the pool's servers."""
        found = {server_id: node.meetings.get(meeting_id) for server_id, node in self.nodes.items()}
        return {server_id: copy for server_id, copy in found.items() if copy is not None and alive(copy)}

    # Clients.

    async def create(self, meeting_id: str, **params: str) -> Answer:
        """A create call, and what its answer tells the client."""
        began = self.now()
        answer = await self.house.call("create", meetingID=meeting_id, name=f"Meeting {meeting_id}", **params)
        await self._learn(meeting_id, answer, began)
        return answer

    async def create_in_doubt(self, meeting_id: str, *, carried_out: bool) -> Answer:
        """A create call whose server answers with a page that tells nothing."""
        rules = [
            node.faults.set("create", Fault.HTTP_500, processed=carried_out, count=1) for node in self.nodes.values()
        ]
        answer = await self.create(meeting_id)
        for node in self.nodes.values():
            node.faults.rules = [rule for rule in node.faults.rules if rule not in rules]
        return answer

    async def create_at_once(self, meeting_ids: Sequence[str]) -> list[Answer]:
        """Several create calls in parallel, of one meeting or of several."""
        calls = [Deferred.fromCoroutine(self.create(meeting_id)) for meeting_id in meeting_ids]
        answers: list[Answer] = await gatherResults(calls)
        return answers

    async def begin_create(self, meeting_id: str, *, carried_out: bool, **params: str) -> Create:
        """A create call that stays under way: before it is carried out, or while its answer is late."""
        holds: list[HeldCall] = []
        for node in self.nodes.values():
            if carried_out:
                node.faults.set("create", Fault.DELAY, count=1, seconds=LATE)
            else:
                holds.append(HeldCall(node, "create"))
        done = Deferred.fromCoroutine(self.create(meeting_id, **params))
        for _ in range(2000):
            await self.house.turn()
            struck = any(not _is_delayed(node) for node in self.nodes.values())
            if done.called or (struck if carried_out else any(hold.arrived for hold in holds)):
                break
        for node in self.nodes.values():
            node.faults.clear(Fault.DELAY, "create")
        for hold in holds:
            hold.call_off()
        await self.house.quiet()
        held = next((hold for hold in holds if hold.arrived), None)
        create = Create(meeting_id, done, held, self.now())
        self.creates.append(create)
        return create

    async def finish_create(self, create: Create) -> None:
        """Let the call that was held be carried out now, and the answer come."""
        self.creates.remove(create)
        if create.held is not None:
            create.held.let_go()
        else:
            await self.advance(LATE)
        await create.done

    async def give_up_create(self, create: Create) -> None:
        """The call that was held never arrives: the balancer's deadline passes."""
        create.held = None
        await self.advance(self.house.settings.response_timeout + 1)
        self.creates.remove(create)
        await create.done

    async def _learn(self, meeting_id: str, answer: Answer, began: float) -> None:
        if answer.returncode != "SUCCESS":
            return
        internal = answer.text("internalMeetingID")
        known = {
            server_id: node.meetings[meeting_id]
            for server_id, node in self.nodes.items()
            if meeting_id in node.meetings and node.meetings[meeting_id].internal_id == internal
        }
        if len(known) > 1:
            holder = await self.house.where(meeting_id)
            known = {server_id: copy for server_id, copy in known.items() if server_id == holder}
        self.told.pop(meeting_id, None)
        self.in_doubt.discard(meeting_id)
        for server_id, copy in known.items():
            if alive(copy) and self.given_up.get((meeting_id, server_id), -1) < began:
                self.told[meeting_id] = Told(server_id, copy, self.now())

    async def look_again(self, meeting_id: str) -> Told:
        """Clients learn that the meeting has moved, if it has."""
        told = self.told[meeting_id]
        holder = await self.house.where(meeting_id)
        copy = self.copies(meeting_id).get(holder or "")
        if holder is not None and copy is not None and holder != told.server_id:
            told = self.told[meeting_id] = Told(holder, copy, self.now())
        return told

    async def join(self, meeting_id: str, *, role: str = "VIEWER") -> Answer:
        """A user follows the balancer's redirect, as far as servers let them."""
        answer = await self.house.call("join", meetingID=meeting_id, fullName="Ada", role=role)
        if answer.code == 302:
            try:
                client = await self.house.request("GET", answer.location)
                if client.code == 302 and "/html5client" in client.location:
                    await self.house.request("GET", client.location)
            except (ConnectError, ResponseFailed):
                pass
        return answer

    async def redirect(self, meeting_id: str) -> str:
        """The server that a join would be sent to, without counting one; or why to none."""
        url = self.house.url("join", meetingID=meeting_id, fullName="Ada", role="VIEWER")
        answer = await self.house.request("HEAD", url)
        if answer.code != 302:
            refusal = await self.house.request("GET", url)
            return f"nowhere: {refusal.key}"
        everywhere = {**self.removed, **self.nodes}
        return next(name for name, node in everywhere.items() if answer.location.startswith(node.url + "/"))

    async def end(self, meeting_id: str, *, password: str | None = None) -> Answer:
        """An end call, by default with the right password."""
        found = await self.house.parts.meetings.find(meeting_id)
        if password is None:
            password = (found.meeting.moderator_pw if found else None) or "none"
        self.forgiven.add(meeting_id)
        answer = await self.house.call("end", meetingID=meeting_id, password=password)
        told = self.told.get(meeting_id)
        if answer.returncode == "SUCCESS" and found and told and told.server_id != found.meeting.server_id:
            # Where a create in doubt had moved it; the copy that clients were told of goes with it.
            del self.told[meeting_id]
        return answer

    async def listed(self) -> list[str] | None:
        """The ids that getMeetings lists, as often as it does; None if it fails."""
        answer = await self.house.call("getMeetings")
        if answer.returncode != "SUCCESS":
            return None
        return [element.text or "" for element in answer.xml.iterfind("meetings/meeting/meetingID")]

    # Operators.

    async def add_server(self, **options: Any) -> str:
        """A new server joins the pool; it is enabled."""
        self._number += 1
        server_id = f"s{self._number}"
        await self.house.add_server(server_id, load_multiplier=(1.0, 2.0, 0.5)[self._number % 3], **options)
        return server_id

    async def set_state(self, server_id: str, state: ServerState) -> None:
        await self.house.parts.servers.set_state(server_id, state)

    async def panic(self, server_id: str, *, keep_state: bool = False, skip_end_calls: bool = False) -> None:
        """The operator gives up all meetings of a server."""
        server = await self.house.parts.servers.find(server_id)
        assert server is not None
        for meeting in await self.house.parts.meetings.on_server(server_id):
            self._give_up(meeting.id, server_id)
        await self._clearance.panic(server, lambda progress: None, keep_state=keep_state, skip_end_calls=skip_end_calls)

    def _give_up(self, meeting_id: str, server_id: str) -> None:
        self.given_up[meeting_id, server_id] = self.now()
        told = self.told.get(meeting_id)
        if told is not None and told.server_id == server_id:
            del self.told[meeting_id]

    async def clear(self, meeting_id: str) -> None:
        """The operator gives up a meeting."""
        server_id = await self.house.where(meeting_id)
        if server_id is not None:
            await self.house.parts.meetings.clear(meeting_id, server_id, may_live=True)
            self._give_up(meeting_id, server_id)

    async def remove_server(self, server_id: str, *, force: bool) -> bool:
        """Take a server out of the pool for good; whether it went."""
        count = await self.house.parts.servers.remove(server_id, force=force)
        if count and not force:
            return False
        self.removed[server_id] = self.nodes.pop(server_id)
        self.told = {meeting_id: told for meeting_id, told in self.told.items() if told.server_id != server_id}
        return True

    # The poller.

    async def left_behind(self) -> set[str]:
        """The servers on which a living copy of a meeting runs that is recorded elsewhere, or nowhere."""
        found = set()
        for server_id, node in self.nodes.items():
            for meeting_id, copy in node.meetings.items():
                if alive(copy) and await self.house.where(meeting_id) != server_id:
                    found.add(server_id)
        return found

    async def poll(self) -> Any:
        """A whole pass."""
        await self.finish_poll()
        return await self.house.poll_now()

    async def begin_poll(self, server_id: str, *, held: str = "") -> None:
        """A pass in which that server's list is late, and out of date when it comes; or a call of it is held back."""
        await self.finish_poll()
        node = self.nodes[server_id]
        call = HeldCall(node, held) if held else None
        rule = None if held else node.faults.set("getMeetings", Fault.DELAY, count=1, seconds=LATE)
        self.polling = Deferred.fromCoroutine(self.house.poll_now())
        for _ in range(2000):
            await self.house.turn()
            if self.polling.called or (call.arrived if call else rule and rule.struck):
                break
        node.faults.clear(Fault.DELAY, "getMeetings")
        if call is not None:
            call.call_off()
            self.held_poll = (call, self.now())
        await self.house.quiet()

    async def finish_poll(self) -> None:
        """Let what is late come."""
        polling, self.polling = self.polling, None
        if self.held_poll is not None:
            self.held_poll[0].let_go()
            self.held_poll = None
        if polling is not None:
            await self.advance(LATE + 0.1)
            await polling

    # Time.

    async def advance(self, seconds: float) -> None:
        """Let time pass. What was held too long to be carried out ever is dropped."""
        for create in self.creates:
            if create.held is not None and self.now() + seconds > create.since + self.house.grace - 2:
                create.held = None
        if self.held_poll is not None and self.now() + seconds > self.held_poll[1] + self.house.grace - 2:
            self.held_poll = None
        busy = bool(self.creates) or self.polling is not None
        await self.house.advance(min(seconds, 30), in_strides=busy)
        if seconds > 30:
            await self.house.advance(seconds - 30)

    async def settle(self, check: Callable[[World], Awaitable[object]]) -> None:
        """Faults end, calls under way too, and the poller gets the passes it needs; `check` after each of them."""
        for node in self.nodes.values():
            node.faults.clear()
            await node.start()
        for create in list(self.creates):
            await self.finish_create(create)
        await self.finish_poll()
        # In the second pass it turns out where meetings are, in the third copies of them are ended.
        for later in (0, self.house.grace + 1, 0, self.house.grace + SLOWEST_END):
            await self.advance(later)
            await self.poll()
            await check(self)

    # The store.

    async def snapshot(self) -> dict[str, Any]:
        """Everything in the store: key without namespace to str, hash, set or sorted set."""
        prefix = self.house.key("")
        reply = await self.house.redis("EVAL", _READ_ALL, "1", prefix)
        found: dict[str, Any] = {}
        for key, kind, value in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
            name = key.removeprefix(prefix)
            if kind in ("hash", "zset"):
                found[name] = dict(zip(value[::2], value[1::2], strict=True))
            else:
                found[name] = set(value) if kind == "set" else value
        return found


_READ_ALL = """
local read = {
  string = { 'GET' }, hash = { 'HGETALL' }, set = { 'SMEMBERS' }, zset = { 'ZRANGE', 0, -1, 'WITHSCORES' }
}
local reply = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local call = read[kind]
  reply[#reply + 1] = key
  reply[#reply + 1] = kind
  reply[#reply + 1] = redis.call(call[1], key, unpack(call, 2))
end
return reply
"""


def _is_delayed(node: Node) -> bool:
    return any(rule.kind is Fault.DELAY and rule.endpoint == "create" for rule in node.faults.rules)
