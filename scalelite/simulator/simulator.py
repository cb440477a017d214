"""Any number of simulated BigBlueButton servers in one process."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.simulator.control import ControlSite
from scalelite.simulator.listening import Listener
from scalelite.simulator.node import Node, NodeOptions
from scalelite.simulator.resolver import NodeResolver

if TYPE_CHECKING:
    from twisted.web.iweb import IAgent

__all__ = ["ISimulatorReactor", "Simulator"]

SHORTEST_EPOCH = 1_000_000_000
FIXED_EPOCH = 1_700_000_000.0


class ISimulatorReactor(IReactorTCP, IReactorTime, IReactorPluggableNameResolver):
    """What the simulator asks of a reactor; `listenSSL` too, if a node has `tls=True`."""


class Simulator:
    """Owns the nodes. `stop` leaves the reactor as it was.

    `seed`: equal seeds give equal ids, passwords and accidents. `clock`: the time meetings live by and faults wait
    by, the reactor unless given; a `task.Clock` starts in November 2023 unless `epoch` (seconds since 1970) says
    otherwise. Deadlines of callbacks run by the reactor. `agent` sends the callbacks.
    """

    log = Logger()

    def __init__(
        self,
        reactor: ISimulatorReactor,
        *,
        seed: int = 1,
        clock: IReactorTime | None = None,
        epoch: float | None = None,
        agent: IAgent | None = None,
        control_secret: str = "",
    ) -> None:
        self.reactor = reactor
        self.seed = seed
        self.clock: IReactorTime = reactor if clock is None else clock
        now = self.clock.seconds()
        self.epoch = epoch if epoch is not None else (now if now > SHORTEST_EPOCH else FIXED_EPOCH)
        self.control_secret = control_secret
        self.nodes: list[Node] = []
        self.resolver = NodeResolver(self)
        self._agent = agent
        self._background: set[Deferred[Any]] = set()
        self._controls: list[Listener] = []
        self._counter = 0

    @property
    def agent(self) -> IAgent:
        """What callbacks are sent with."""
        if self._agent is None:
            from twisted.web.client import Agent, HTTPConnectionPool

            pool = HTTPConnectionPool(self.reactor, persistent=False)
            self._agent = Agent(self.reactor, connectTimeout=5.0, pool=pool)
        return self._agent

    async def add_node(self, **options: Any) -> Node:
        """Make a server and let it listen; the options are those of `NodeOptions`.

        Raises KeyError for a profile that does not exist, CannotListenError for a port that is taken.
        """
        self._counter += 1
        node = Node(self, self._counter, NodeOptions(**options))
        await node.start()
        self.nodes.append(node)
        return node

    async def remove_node(self, node: Node) -> None:
        """Take a server away."""
        self.nodes.remove(node)
        await node.close()

    async def listen_for_control(self, port: int = 0, host: str = "127.0.0.1") -> Listener:
        """Serve the control API on a port of its own, which is there even when all nodes are down."""
        site = ControlSite(self)
        site.listener = listener = Listener(self.reactor, site, host, port)
        await listener.open()
        self._controls.append(listener)
        return listener

    def node_at(self, port: int) -> Node | None:
        """The node of a port."""
        return next((node for node in self.nodes if node.port == port), None)

    def advance(self, seconds: float) -> None:
        """Put the clocks of all nodes forward by virtual seconds."""
        for node in self.nodes:
            node.advance(seconds)

    def background(self, task: Coroutine[Deferred[Any], Any, object]) -> None:
        """Do something nobody waits for; `stop` does."""
        running = Deferred.fromCoroutine(task)
        self._background.add(running)

        def finished(result: object) -> None:
            self._background.discard(running)
            if isinstance(result, Failure):
                self.log.failure("A node of the simulator could not open or close its port", result)

        running.addBoth(finished)

    async def stop(self) -> None:
        """Close everything: no port, connection or delayed call of the simulator is left."""
        self.resolver.uninstall()
        for node in list(self.nodes):
            await self.remove_node(node)
        while self._controls:
            listener = self._controls.pop()
            await listener.close()
            listener.release()
        while self._background:
            await deferLater(self.reactor, 0)
        # Connections that were aborted are closed in the next turns of the reactor.
        await deferLater(self.reactor, 0)
        await deferLater(self.reactor, 0)
