"""The one connection to Redis: many callers, implicit pipelining, a deadline on every call.

Commands leave in the order of the calls, on one connection, and Redis answers them in that order.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.store.embedded import EmbeddedServer, find_server
from scalelite.store.endpoints import Login, always, data_endpoint
from scalelite.store.errors import StoreError, StoreReplyError, StoreUnavailable
from scalelite.store.sentinel import Sentinels
from scalelite.store.wire import Argument, Call, Wire, open_wire, pack

if TYPE_CHECKING:
    from scalelite.settings.redis import RedisSettings

__all__ = ["Login", "Redis", "Script", "StoreError", "StoreReplyError", "StoreUnavailable", "connect"]

#: Calls that may wait at one time; the next one fails at once.
MAX_PENDING: Final = 10_000
#: Seconds between two attempts to connect, at most.
MAX_BACKOFF: Final = 1.0

#: Seconds between two questions to Sentinel while the connection is up.
LOOK: Final = 2.0
# Seconds by which a deadline may be missed, so that a stalled Redis does not cost a timer for each call.
_GRAIN: Final = 0.005
# They would block the connection that everybody shares, or change what the next caller's command means.
_REFUSED: Final = frozenset(
    {"AUTH", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "QUIT", "RESET", "SELECT", "SHUTDOWN", "UNWATCH", "WATCH"}
    | {"PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE", "PSYNC", "SYNC"}
    | {"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "WAIT", "WAITAOF"}
)


@attrs.frozen
class Script:
    """A Lua script that Redis runs in one atomic step; `sha` is the SHA-1 by which Redis knows it."""

    name: str
    source: str = attrs.field(repr=False)
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Read `scalelite/store/lua/NAME.lua`. Raises FileNotFoundError."""
        path = resources.files("scalelite.store").joinpath("lua", f"{name}.lua")
        return cls.of(name, path.read_text(encoding="utf-8"))

    @classmethod
    def of(cls, name: str, source: str) -> Script:
        """The script with this source."""
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class Redis(Service):
    """The store's Redis: `call`, `run` and `many`, each answered or failed within `timeout` seconds.

    Connects with the first call or with `startService`, and again for as long as it is not closed. `companion` is
    a service that lives exactly as long, such as the embedded server. `moved` is asked now and then whether another
    server is to be used from now on. Once closed, it stays closed. A call that failed is never repeated here.
    """

    name = "redis"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        locate: Callable[[], Awaitable[IStreamClientEndpoint]],
        login: Login,
        *,
        timeout: float,
        moved: Callable[[], Awaitable[bool]] | None = None,
        companion: IService | None = None,
        embedded: str | None = None,
    ) -> None:
        self._clock = clock
        self._locate = locate
        self._login = login
        self.timeout = timeout
        self._moved = moved
        self.companion = companion
        #: `"server"` (a redis-server child), `"memory"` (nothing is kept, one process only), or None.
        self.embedded = embedded
        self._wire: Wire | None = None
        self._wires: set[Wire] = set()
        self._unsent: deque[Call] = deque()
        self._sweeper: IDelayedCall | None = None
        self._keeper: Deferred[None] | None = None
        self._watcher: Deferred[None] | None = None
        self._closed = False
        self._lost_at = 0.0
        self._trouble: str | None = None

    @property
    def pending(self) -> int:
        """Calls in flight: not yet sent, or sent and their reply outstanding."""
        return len(self._unsent) + sum(len(wire.waiting) for wire in self._wires)

    @property
    def connected(self) -> bool:
        """Whether a connection is up and logged in."""
        return self._wire is not None

    def call(self, *args: Argument) -> Deferred[Any]:
        """One command. The reply is str (bytes where it is no UTF-8), int, list or None.

        Fails with StoreReplyError for an error reply, also for one inside a list; with StoreUnavailable otherwise.
        Raises ValueError for a command that would block or change the shared connection.
        """
        if args[0] in _REFUSED:
            raise ValueError(f"{args[0]!r} must not be sent on the shared connection")
        return self._submit(Call(pack(args), self._clock.seconds()))

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument] = ()) -> Deferred[Any]:
        """A script by its hash; where Redis does not know it, once by its source. Errors as in `call`."""
        started = self._clock.seconds()
        answer = self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        return answer.addErrback(self._load, started, script, keys, args)

    def _load(
        self, failure: Failure, started: float, script: Script, keys: Sequence[str], args: Sequence[Argument]
    ) -> Deferred[Any] | Failure:
        if not isinstance(failure.value, StoreReplyError) or failure.value.code != "NOSCRIPT":
            return failure
        left = started + self.timeout - self._clock.seconds()
        answer = self.call("EVAL", script.source, len(keys), *keys, *args)
        return answer.addTimeout(max(0.0, left), self._clock, self._overdue)

    def _overdue(self, _result: Any, _seconds: float) -> Any:
        raise self._late()

    def _late(self) -> StoreUnavailable:
        return StoreUnavailable(f"Redis did not answer within {self.timeout:g} s")

    def many(self, commands: Sequence[Sequence[Any]]) -> Deferred[list[Any]]:
        """Independent commands in one write; not atomic. Fails as a whole if one of them has an error reply."""
        if not commands:
            return succeed([])
        for command in commands:
            if command[0] in _REFUSED:
                raise ValueError(f"{command[0]!r} must not be sent on the shared connection")
        payload = b"".join([pack(tuple(command)) for command in commands])
        answer = self._submit(Call(payload, self._clock.seconds(), len(commands)))
        return answer.addCallback(_as_list) if len(commands) == 1 else answer

    def _submit(self, call: Call) -> Deferred[Any]:
        answer = call.deferred
        assert answer is not None
        wire = self._wire
        if self._closed:
            return fail(StoreUnavailable("the connection to Redis is closed"))
        if wire is not None:
            if len(wire.waiting) >= MAX_PENDING:
                return fail(StoreUnavailable("too many calls are waiting for Redis"))
            wire.send(call)
        else:
            if len(self._unsent) >= MAX_PENDING:
                return fail(StoreUnavailable("too many calls are waiting for Redis"))
            if self._trouble is not None and call.started - self._lost_at >= self.timeout:
                return fail(StoreUnavailable(f"Redis cannot be reached: {self._trouble}"))
            try:
                self._keep()
            except StoreError as error:
                return fail(error)
            self._unsent.append(call)
        if self._sweeper is None:
            self._sweeper = self._clock.callLater(self.timeout, self._sweep)
        return answer

    def _sweep(self) -> None:
        """Fail every call whose deadline has passed, and come back for the next one."""
        self._sweeper = None
        horizon = self._clock.seconds() - self.timeout
        late, head = _split(self._unsent, horizon)
        heads = [] if head is None else [head]
        for _ in late:
            self._unsent.popleft()
        for wire in list(self._wires):
            overdue, head = _split(wire.waiting, horizon)
            late += overdue
            if head is not None:
                heads.append(head)
            if overdue and wire.heard < overdue[0].started:
                # Not a word for a whole deadline: the peer may be gone without a trace.
                wire.retire(self._late())
            if wire.retired and head is None:
                wire.fall(self._late())
        if heads:
            self._sweeper = self._clock.callLater(max(_GRAIN, min(heads) - horizon), self._sweep)
        for call in late:
            deferred, call.deferred = call.deferred, None
            if deferred is not None and not deferred.called:
                deferred.errback(self._late())

    def startService(self) -> None:
        super().startService()
        self._keep()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.close())

    async def close(self) -> None:
        """Drop the connection and stop the companion; calls under way and later ones fail."""
        if self._closed:
            return
        self._closed = True
        for task in (self._keeper, self._watcher):
            if task is not None:
                task.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        closed = StoreUnavailable("the connection to Redis is closed")
        unsent, self._unsent = self._unsent, deque()
        for call in unsent:
            deferred, call.deferred = call.deferred, None
            if deferred is not None and not deferred.called:
                deferred.errback(closed)
        wires = list(self._wires)
        for wire in wires:
            wire.fall(closed)
        for wire in wires:
            await wire.gone
        if self.companion is not None and self.companion.running:
            await maybeDeferred(self.companion.stopService)

    def _keep(self) -> None:
        if self._keeper is not None or self._closed:
            return
        if self.companion is not None and not self.companion.running:
            self.companion.startService()
        if self.embedded == "memory":
            self._log.warn(
                "no Redis is configured and no redis-server is installed: everything is kept in memory, is LOST "
                "when this process ends, and is seen by this process only, so more workers are not possible"
            )
        self._lost_at = self._clock.seconds()
        self._keeper = Deferred.fromCoroutine(self._maintain())
        self._keeper.addErrback(_ignore_cancelled)

    async def _maintain(self) -> None:
        """Keep one connection up."""
        failures = 0
        while not self._closed:
            try:
                wire = await self._open()
            except Exception as error:  # noqa: BLE001 - whatever stopped this attempt, the next must follow
                if self._closed:
                    return
                self._note(error)
                failures += 1
            else:
                opened = self._clock.seconds()
                self._up(wire)
                await wire.finished
                self._down(wire)
                # A connection that never lasts (a replica, a proxy without a backend) is a failure too.
                failures = 0 if self._clock.seconds() - opened >= MAX_BACKOFF else failures + 1
            await deferLater(self._clock, backoff(failures))

    async def _until_moved(self, moved: Callable[[], Awaitable[bool]]) -> None:
        # A master that Sentinel has replaced may go on taking writes, which will be lost, for another ten seconds.
        while True:
            await deferLater(self._clock, LOOK)
            if await moved():
                return

    async def _open(self) -> Wire:
        endpoint = await self._locate()
        opening = Deferred.fromCoroutine(open_wire(self._clock, endpoint, self._login))
        return await opening.addTimeout(self.timeout, self._clock, self._overdue)

    def _up(self, wire: Wire) -> None:
        self._wires.add(wire)
        wire.gone.addCallback(lambda _: self._wires.discard(wire))
        if wire.retired:
            return
        self._log.info("connected to Redis")
        if self._moved is not None:
            self._watcher = Deferred.fromCoroutine(self._until_moved(self._moved))
            self._watcher.addCallbacks(
                lambda _: wire.retire(StoreUnavailable("another server is the master now")), _ignore_cancelled
            )
        self._trouble = None
        self._wire = wire
        unsent, self._unsent = self._unsent, deque()
        for call in unsent:
            # A caller that has given up meanwhile gets nothing done behind its back.
            if call.deferred is not None and not call.deferred.called:
                wire.send(call)

    def _down(self, wire: Wire) -> None:
        self._wire = None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        self._lost_at = self._clock.seconds()
        if not self._closed:
            self._log.warn("lost the connection to Redis: {reason}", reason=str(wire.reason))

    def _note(self, error: Exception) -> None:
        trouble = str(error) or type(error).__name__
        if trouble != self._trouble:
            self._log.warn("cannot reach Redis: {trouble}", trouble=trouble)
        self._trouble = trouble


def backoff(failures: int) -> float:
    """Seconds to wait before the next attempt to connect."""
    return min(MAX_BACKOFF, 0.05 * 2 ** min(failures - 1, 10)) if failures else 0.0


def _split(calls: Iterable[Call], horizon: float) -> tuple[list[Call], float | None]:
    """The unsettled calls begun at or before `horizon`, and when the first one after them began."""
    overdue: list[Call] = []
    for call in calls:
        if call.deferred is None:
            continue
        if call.started > horizon:
            return overdue, call.started
        overdue.append(call)
    return overdue, None


def _ignore_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def _as_list(reply: Any) -> list[Any]:
    return [reply]


def connect(reactor: Any, settings: RedisSettings, *, timeout: float, data_dir: Path) -> Redis:
    """The `Redis` that the settings name; the embedded one, kept below `data_dir`, where they name none.

    `timeout` is the deadline of every call, in seconds. Nothing happens before the first call or `startService`.
    Raises StoreError where a certificate file or the embedded server's directory cannot be used.
    """
    login = Login(settings.username, settings.password, settings.db, master=bool(settings.sentinels))
    if settings.sentinels:
        sentinels = Sentinels(reactor, settings, timeout, partial(open_wire, reactor))
        return Redis(reactor, sentinels.locate, login, timeout=timeout, moved=sentinels.moved)
    if settings.configured:
        endpoint = data_endpoint(reactor, settings, timeout)
        return Redis(reactor, always(endpoint), login, timeout=timeout)
    binary = find_server()
    if binary is not None:
        server = EmbeddedServer(reactor, binary, data_dir / "redis")
        login = Login(db=settings.db)
        return Redis(reactor, server.locate, login, timeout=timeout, companion=server, embedded="server")
    return connect_memory(reactor, db=settings.db, timeout=timeout)


def connect_memory(reactor: Any, *, timeout: float, db: int = 0) -> Redis:
    """A `Redis` in this process's memory: nothing is kept, and no other process sees it."""
    from scalelite.store.memory import MemoryEndpoint

    return Redis(reactor, always(MemoryEndpoint(reactor)), Login(db=db), timeout=timeout, embedded="memory")
