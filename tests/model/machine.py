"""Random lives of a balancer: every step is one thing that a client, an operator, a server or time does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
from tests.balancer import Answer
from tests.model import checks
from tests.model.house import wait_for
from tests.model.world import World

MEETINGS = st.sampled_from(["m1", "m1", "m2"])
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "moderatorPW": st.sampled_from(["first-pw", "other-pw"]),
        "voiceBridge": st.sampled_from(["70001", "70002"]),
    },
)
SERVERS = st.integers(0, 3)
ENDPOINTS = st.sampled_from(["*", "create", "create", "getMeetings", "getMeetingInfo", "end", "isMeetingRunning"])
TIMES = st.sampled_from([0.3, 3.0, 12.0, 30.0, 70.0])
SPOILED = (
    Fault.HTTP_500,
    Fault.HTML_200,
    Fault.EMPTY_200,
    Fault.XML_TRUNCATED,
    Fault.XML_NO_RETURNCODE,
    Fault.XML_LOWERCASE_RETURNCODE,
    Fault.CONTENT_LENGTH_LONG,
    Fault.WRONG_SECRET,
    Fault.RESET,
    Fault.RESTART,
    Fault.END_SLOW,
    Fault.REAPPEAR_AFTER_END,
)


class BalancerMachine(RuleBasedStateMachine):
    """The steps. Servers are picked by a number, meetings by their id, so that shrinking makes both small."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World = wait_for(World.open())

    def server(self, number: int) -> str:
        names = sorted(self.world.nodes)
        return names[number % len(names)]

    def node(self, number: int) -> Any:
        return self.world.nodes[self.server(number)]

    def teardown(self) -> None:
        async def finish() -> None:
            try:
                await checks.check_quiet(self.world)
            finally:
                await self.world.close()

        wait_for(finish())

    @invariant()
    def holds(self) -> None:
        async def check() -> None:
            await checks.check(self.world)
            await self.world.advance(0.01)

        wait_for(check())

    @initialize(users=st.integers(0, 2))
    def begin(self, users: int) -> None:
        self.create_and_join("m1", users, "VIEWER")

    # Clients.

    @rule(meeting=MEETINGS, params=PARAMS)
    def create(self, meeting: str, params: dict[str, str]) -> None:
        self.created(wait_for(self.world.create(meeting, **params)), meeting)

    def created(self, answer: Answer, meeting: str) -> None:
        """Nothing else happened meanwhile: users can go where the client was told that the meeting is."""
        told = self.world.told.get(meeting)
        if answer.returncode == "SUCCESS" and told is not None:
            server = wait_for(self.world.house.parts.servers.find(told.server_id))
            assert server is not None
            assert server.takes_joins, f"{meeting} was created on a server that takes no joins: {server}"

    @rule(meeting=MEETINGS, carried_out=st.booleans())
    def create_in_doubt(self, meeting: str, carried_out: bool) -> None:
        wait_for(self.world.create_in_doubt(meeting, carried_out=carried_out))

    @rule(meetings=st.lists(MEETINGS, min_size=2, max_size=4))
    def create_at_once(self, meetings: list[str]) -> None:
        wait_for(self.world.create_at_once(meetings))

    @rule(meeting=MEETINGS, users=st.integers(1, 3), role=st.sampled_from(["VIEWER", "MODERATOR"]))
    def create_and_join(self, meeting: str, users: int, role: str) -> None:
        self.created(wait_for(self.world.create(meeting)), meeting)
        for _ in range(users):
            wait_for(self.world.join(meeting, role=role))

    @precondition(lambda self: len(self.world.creates) < 2)
    @rule(meeting=MEETINGS, carried_out=st.booleans(), params=PARAMS)
    def begin_create(self, meeting: str, carried_out: bool, params: dict[str, str]) -> None:
        wait_for(self.world.begin_create(meeting, carried_out=carried_out, **params))

    @precondition(lambda self: self.world.creates)
    @rule(number=st.integers(0, 1), arrives=st.booleans())
    def finish_create(self, number: int, arrives: bool) -> None:
        create = self.world.creates[number % len(self.world.creates)]
        wait_for(self.world.finish_create(create) if arrives else self.world.give_up_create(create))

    @rule(meeting=MEETINGS)
    def join(self, meeting: str) -> None:
        wait_for(self.world.join(meeting))

    @rule()
    def list_meetings(self) -> None:
        wait_for(checks.check_listing(self.world))

    # Operators.

    @rule(server=SERVERS, state=st.sampled_from(list(ServerState)))
    def set_state(self, server: int, state: ServerState) -> None:
        wait_for(self.world.set_state(self.server(server), state))

    @rule(meeting=MEETINGS, back=st.booleans())
    def move(self, meeting: str, back: bool) -> None:
        """A meeting's server is taken out, for a moment at least, and a client creates the meeting again meanwhile."""
        server = wait_for(self.world.house.where(meeting))
        if server in self.world.nodes:
            wait_for(self.world.set_state(server, ServerState.DISABLED))
        self.created(wait_for(self.world.create(meeting)), meeting)
        if server in self.world.nodes and back:
            wait_for(self.world.set_state(server, ServerState.ENABLED))

    @rule(server=SERVERS, meeting=MEETINGS, how=st.sampled_from(["panic", "skip", "keep", "clear", "remove", "force"]))
    def give_up(self, server: int, meeting: str, how: str) -> None:
        """An operator gives up the meetings of a server, a single meeting, or a server."""
        name = self.server(server)
        if how == "clear":
            wait_for(self.world.clear(meeting))
        elif how in ("remove", "force"):
            wait_for(self.world.remove_server(name, force=how == "force"))
            if len(self.world.nodes) < 3:
                wait_for(self.world.add_server())
        else:
            wait_for(self.world.panic(name, keep_state=how == "keep", skip_end_calls=how == "skip"))

    # Servers.

    @rule(server=SERVERS, polls=st.integers(0, 2))
    def fail_for_long(self, server: int, polls: int) -> None:
        wait_for(self.node(server).stop())
        for _ in range(polls):
            self.poll_once(0)

    @rule(server=SERVERS, polls=st.integers(0, 1))
    def recover(self, server: int, polls: int) -> None:
        node = self.node(server)
        node.faults.clear()
        wait_for(node.start())
        for _ in range(polls):
            self.poll_once(0)

    @rule(server=SERVERS)
    def restart(self, server: int) -> None:
        wait_for(self.node(server).restart())

    @rule(
        server=SERVERS,
        endpoint=ENDPOINTS,
        kind=st.sampled_from(SPOILED),
        processed=st.booleans(),
        count=st.sampled_from([1, 2, None]),
    )
    def spoil(self, server: int, endpoint: str, kind: Fault, processed: bool, count: int | None) -> None:
        self.node(server).faults.set(endpoint, kind, count=count, processed=processed)

    @rule(count=st.integers(1, 2))
    def lose_answers(self, count: int) -> None:
        for node in self.world.nodes.values():
            node.faults.set("create", Fault.CREATE_ANSWER_LOST, count=count)

    @rule(meeting=MEETINGS, how=st.sampled_from(["end", "end wrongly", "ends", "vanishes", "users leave"]))
    def end(self, meeting: str, how: str) -> None:
        """A client ends a meeting, or it ends by itself."""
        if how in ("end", "end wrongly"):
            wait_for(self.world.end(meeting, password="wrong-pw" if how == "end wrongly" else None))
            return
        for node in self.world.nodes.values():
            if meeting not in node.meetings:
                continue
            if how == "users leave":
                node.remove_users(meeting)
            elif how == "ends":
                node.end(meeting, at_once=True)
            else:
                node.vanish(meeting)

    # The poller, and time.

    @rule(later=st.sampled_from([0.0, 0.3, 30.0]), count=st.integers(1, 2))
    def poll(self, later: float, count: int) -> None:
        for _ in range(count):
            self.poll_once(later)

    def poll_once(self, later: float) -> None:
        async def poll() -> None:
            await self.world.advance(later)
            await self.world.poll()
            await checks.check(self.world)

        wait_for(poll())

    @rule(server=SERVERS, held=st.sampled_from(["", "", "end", "getMeetingInfo", "getMeetings"]))
    def begin_poll(self, server: int, held: str) -> None:
        name = self.server(server)
        if held == "end":
            # Where there is something to end.
            left = sorted(wait_for(self.world.left_behind()))
            name = left[server % len(left)] if left else name
        wait_for(self.world.begin_poll(name, held=held))

    @precondition(lambda self: self.world.polling is not None)
    @rule()
    def finish_poll(self) -> None:
        wait_for(self.world.finish_poll())

    @rule(seconds=TIMES)
    def pass_time(self, seconds: float) -> None:
        wait_for(self.world.advance(seconds))

    @rule(seconds=st.sampled_from([200.0, 500.0]))
    def pass_long_time(self, seconds: float) -> None:
        """Hours pass, of a meeting's TTL. No server is out of order for as long as that."""

        for node in self.world.nodes.values():
            node.faults.clear()
            wait_for(node.start())
        for _ in range(4):
            self.poll_once(seconds)
