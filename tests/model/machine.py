"""Random lives of a balancer: every step is one thing that a client, an operator, a server or time does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scalelite.cluster.records import ServerState
from scalelite.simulator import Fault
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
TIMES = st.sampled_from([0.3, 3.0, 12.0, 30.0, 30.0, 70.0, 400.0, 1000.0])
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
                await self.world.settle()
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

    # Clients.

    @rule(meeting=MEETINGS, params=PARAMS)
    def create(self, meeting: str, params: dict[str, str]) -> None:
        wait_for(self.world.create(meeting, **params))

    @rule(meetings=st.lists(MEETINGS, min_size=2, max_size=4))
    def create_at_once(self, meetings: list[str]) -> None:
        wait_for(self.world.create_at_once(meetings))

    @rule(meeting=MEETINGS, users=st.integers(1, 3), role=st.sampled_from(["VIEWER", "MODERATOR"]))
    def create_and_join(self, meeting: str, users: int, role: str) -> None:
        wait_for(self.world.create(meeting))
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

    @rule(meeting=MEETINGS, password=st.sampled_from([None, None, "wrong-pw"]))
    def end(self, meeting: str, password: str | None) -> None:
        wait_for(self.world.end(meeting, password=password))

    @rule()
    def list_meetings(self) -> None:
        wait_for(checks.check_listing(self.world))

    # Operators.

    @rule(server=SERVERS, state=st.sampled_from(list(ServerState)))
    def set_state(self, server: int, state: ServerState) -> None:
        wait_for(self.world.set_state(self.server(server), state))

    @rule(server=SERVERS, keep_state=st.booleans(), skip_end_calls=st.booleans())
    def panic(self, server: int, keep_state: bool, skip_end_calls: bool) -> None:
        name = self.server(server)
        wait_for(self.world.panic(name, keep_state=keep_state, skip_end_calls=skip_end_calls))

    @rule(meeting=MEETINGS)
    def clear(self, meeting: str) -> None:
        wait_for(self.world.clear(meeting))

    @rule(server=SERVERS, force=st.booleans())
    def exchange_server(self, server: int, force: bool) -> None:
        wait_for(self.world.remove_server(self.server(server), force=force))
        if len(self.world.nodes) < 3:
            wait_for(self.world.add_server())

    # Servers.

    @rule(server=SERVERS)
    def refuse(self, server: int) -> None:
        wait_for(self.node(server).stop())

    @rule(server=SERVERS, polls=st.integers(0, 2))
    def fail_for_long(self, server: int, polls: int) -> None:
        async def fail() -> None:
            await self.node(server).stop()
            for _ in range(polls):
                await self.world.poll()

        wait_for(fail())

    @rule(server=SERVERS, polls=st.integers(0, 1))
    def recover(self, server: int, polls: int) -> None:
        async def recover() -> None:
            node = self.node(server)
            node.faults.clear()
            await node.start()
            for _ in range(polls):
                await self.world.poll()

        wait_for(recover())

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

    @rule(meeting=MEETINGS, how=st.sampled_from(["end", "vanish", "leave"]))
    def leave(self, meeting: str, how: str) -> None:
        for node in self.world.nodes.values():
            if meeting not in node.meetings:
                continue
            if how == "leave":
                node.remove_users(meeting)
            elif how == "end":
                node.end(meeting, at_once=True)
            else:
                node.vanish(meeting)

    # The poller, and time.

    @rule(later=st.sampled_from([0.0, 0.3, 30.0]), count=st.integers(1, 2))
    def poll(self, later: float, count: int) -> None:
        async def poll() -> None:
            for _ in range(count):
                if later:
                    await self.world.advance(later)
                await self.world.poll()

        wait_for(poll())

    @rule(server=SERVERS)
    def begin_poll(self, server: int) -> None:
        wait_for(self.world.begin_poll(self.server(server)))

    @precondition(lambda self: self.world.polling is not None)
    @rule()
    def finish_poll(self) -> None:
        wait_for(self.world.finish_poll())

    @rule(seconds=TIMES)
    def pass_time(self, seconds: float) -> None:
        wait_for(self.world.advance(seconds))
