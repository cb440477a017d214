"""The one connection to Redis: many callers, implicit pipelining, a deadline on every call.

txredisapi's protocol parses the replies; its pool and handler are not used: they cost more than the command
itself, queue without limit of time while Redis is down, and give up for ever after a refused password. Commands
leave in the order of the calls, on one connection, and Redis answers them in that order.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import hiredis
import txredisapi
from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.store.embedded import EmbeddedServer, find_server
from scalelite.store.endpoints import Login, always, data_endpoint
from scalelite.store.errors import StoreError, StoreReplyError, StoreUnavailable
from scalelite.store.sentinel import sentinel_locator

if TYPE_CHECKING:
    from scalelite.settings.redis import RedisSettings

__all__ = ["Login", "Redis", "Script", "StoreError", "StoreReplyError", "StoreUnavailable", "connect"]

Argument = str | bytes | int | float

# Typed here, because hiredis's own stub describes a tuple of one item.
_pack: Final[Callable[[tuple[Argument, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment]

#: Calls that may wait at one time; the next one fails at once.
MAX_PENDING: Final = 10_000
#: Seconds between two attempts to connect, at most.
MAX_BACKOFF: Final = 1.0

# Seconds by which a deadline may be missed, so that a stalled Redis does not cost a timer for each call.
_GRAIN: Final = 0.005
# They would block the connection that everybody shares, or change what the next caller's command means.
_REFUSED: Final = frozenset(
    {"AUTH", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "QUIT", "RESET", "SELECT", "SHUTDOWN", "UNWATCH", "WATCH"}
    | {"PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE", "PSYNC", "SYNC"}
    | {"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "WAIT", "WAITAOF"}
)
# After these the connection leads to the wrong server, or is no longer logged in.
_STALE: Final = frozenset({"READONLY", "NOAUTH", "MASTERDOWN"})


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


class _Call:
    """A command, or several in one write, that waits for its replies; settled once `deferred` is None."""

    __slots__ = ("deferred", "expected", "payload", "replies", "started")

    def __init__(self, payload: bytes, started: float, expected: int = 1) -> None:
        self.payload = payload
        self.started = started
        self.expected = expected
        self.replies: list[Any] | None = None if expected == 1 else []
        self.deferred: Deferred[Any] | None = Deferred()


class _Nested:
    """The first error found inside a list reply, in place of that reply."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Wire(txredisapi.HiredisProtocol):  # type: ignore[misc]
    """One connection to a Redis or Sentinel: commands out, replies to their callers in order.

    `finished` fires when the connection is lost, or has been retired: it takes no new calls, but those under way
    may still be answered. `gone` fires once it is lost.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(convertNumbers=False)
        self._clock = clock
        self.waiting: deque[_Call] = deque()
        self.finished: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.heard = 0.0
        self.retired = False
        self.reason: BaseException = ConnectionDone()

    def connectionMade(self) -> None:
        self.heard = self._clock.seconds()
        if isinstance(self.transport.getPeer(), IPv4Address | IPv6Address):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)

    def send(self, call: _Call) -> None:
        """Write the call's commands."""
        self.waiting.append(call)
        self.transport.write(call.payload)

    def ask(self, *args: Argument) -> Deferred[Any]:
        """Send one command outside the queue of `Redis`; it has no deadline of its own."""
        call = _Call(_pack(args), self._clock.seconds())
        answer = call.deferred
        assert answer is not None
        if self.connected:
            self.send(call)
        else:
            call.deferred = None
            answer.errback(StoreUnavailable(f"the connection to Redis was lost: {self.reason}"))
        return answer

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self.heard = self._clock.seconds()
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData as error:
            self.fall(error)

    def tryConvertData(self, data: Any) -> Any:
        # Twice as quick as the inherited one, which also lets an error inside a list pass as a value.
        if type(data) is bytes:
            return _text(data)
        if type(data) is not list:
            return data
        try:
            return [item.decode() if type(item) is bytes else _convert(item) for item in data]
        except UnicodeDecodeError:
            pass
        except txredisapi.ResponseError as error:
            return _Nested(error)
        try:
            return [_convert(item) for item in data]
        except txredisapi.ResponseError as error:
            return _Nested(error)

    def replyReceived(self, reply: Any) -> None:
        if not self.waiting:
            self.fall(txredisapi.InvalidData("a reply nobody asked for"))
            return
        call = self.waiting[0]
        if call.replies is not None:
            call.replies.append(reply)
            if len(call.replies) < call.expected:
                return
            reply = next((item for item in call.replies if isinstance(item, _ERRORS)), call.replies)
        self.waiting.popleft()
        deferred = call.deferred
        if deferred is not None:
            call.deferred = None
            if isinstance(reply, _ERRORS):
                self._refuse(deferred, reply)
            else:
                deferred.callback(reply)
        if self.retired and not self.waiting:
            self.transport.abortConnection()

    def _refuse(self, deferred: Deferred[Any], reply: Exception | _Nested) -> None:
        cause = reply.error if isinstance(reply, _Nested) else reply
        error = StoreReplyError(str(cause))
        if error.code in _STALE:
            self.retire(error)
        deferred.errback(error)

    def retire(self, reason: BaseException) -> None:
        """Take no more calls; close once the last one is answered."""
        if self.retired:
            return
        self.retired = True
        self.reason = reason
        if not self.waiting:
            self.transport.abortConnection()
        self._finish()

    def fall(self, reason: BaseException) -> None:
        """Drop the connection now; what is under way fails."""
        self.reason = reason
        self.transport.abortConnection()

    def connectionLost(self, why: Failure) -> None:
        super().connectionLost(why)
        if isinstance(self.reason, ConnectionDone):
            self.reason = why.value or self.reason
        self.retired = True
        self._finish()
        error = StoreUnavailable(f"the connection to Redis was lost: {self.reason}")
        waiting, self.waiting = self.waiting, deque()
        for call in waiting:
            deferred, call.deferred = call.deferred, None
            if deferred is not None:
                deferred.errback(error)
        self.gone.callback(None)

    def _finish(self) -> None:
        if not self.finished.called:
            self.finished.callback(None)


_ERRORS: Final = (txredisapi.RedisError, _Nested)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _convert(item: Any) -> Any:
    """One element of a list reply. Raises the error that it is, or holds."""
    if isinstance(item, bytes):
        return _text(item)
    if isinstance(item, list):
        return [_convert(inner) for inner in item]
    if isinstance(item, txredisapi.ResponseError):
        raise item
    return item


class WireFactory(Factory):
    """Makes the `Wire` of one attempt to connect."""

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Wire:
        return Wire(self._clock)


async def open_wire(clock: IReactorTime, endpoint: IStreamClientEndpoint, login: Login) -> Wire:
    """Connect and log in. Raises StoreError, or what the endpoint raises; has no deadline of its own."""
    wire = cast(Wire, await endpoint.connect(WireFactory(clock)))
    try:
        await _log_in(wire, login)
    except BaseException as error:
        wire.fall(error)
        raise
    return wire


async def _log_in(wire: Wire, login: Login) -> None:
    if login.password is not None:
        await _authenticate(wire, login.username, login.password)
    if login.db:
        await wire.ask("SELECT", login.db)
    if login.master:
        role = await wire.ask("ROLE")
        if role[0] != "master":
            raise StoreUnavailable(f"the server named by Sentinel is a {role[0]}")
    # A server that is still loading its data, or wants a password, is not up.
    await wire.ask("PING")


async def _authenticate(wire: Wire, username: str | None, password: str) -> None:
    if username is None:
        await wire.ask("AUTH", password)
        return
    try:
        await wire.ask("AUTH", username, password)
    except StoreReplyError as error:
        # redis-rb 4 takes URLs that put any user name before the password of the default user, and so do
        # servers older than Redis 6, which know no user names.
        if error.code != "WRONGPASS" and "wrong number of arguments" not in str(error):
            raise
        try:
            await wire.ask("AUTH", password)
        except StoreReplyError:
            raise error from None


class Redis(Service):
    """The store's Redis: `call`, `run` and `many`, each answered or failed within `timeout` seconds.

    Connects with the first call or with `startService`, and again for as long as it is not closed. `companion` is
    a service that lives exactly as long, such as the embedded server. Nothing is ever sent twice.
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
        companion: IService | None = None,
        embedded: str | None = None,
    ) -> None:
        self._clock = clock
        self._locate = locate
        self._login = login
        self.timeout = timeout
        self._companion = companion
        #: `"server"` (a redis-server child), `"memory"` (nothing is kept, one process only), or None.
        self.embedded = embedded
        self._wire: Wire | None = None
        self._wires: set[Wire] = set()
        self._unsent: deque[_Call] = deque()
        self._sweeper: IDelayedCall | None = None
        self._keeper: Deferred[None] | None = None
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
        return self._submit(_Call(_pack(args), self._clock.seconds()))

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
        payload = b"".join([_pack(tuple(command)) for command in commands])
        answer = self._submit(_Call(payload, self._clock.seconds(), len(commands)))
        return answer.addCallback(_as_list) if len(commands) == 1 else answer

    def _submit(self, call: _Call) -> Deferred[Any]:
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
            self._unsent.append(call)
            self._keep()
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
        super().startService()  # type: ignore[no-untyped-call]
        self._keep()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self.close())

    async def close(self) -> None:
        """Drop the connection and stop the companion; calls under way and later ones fail."""
        if self._closed:
            return
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
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
        if self._companion is not None and self._companion.running:
            await maybeDeferred(self._companion.stopService)

    def _keep(self) -> None:
        if self._keeper is not None or self._closed:
            return
        if self._companion is not None and not self._companion.running:
            self._companion.startService()
        self._lost_at = self._clock.seconds()
        self._keeper = Deferred.fromCoroutine(self._maintain())
        self._keeper.addErrback(lambda failure: failure.trap(CancelledError))

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
        self._trouble = None
        self._wire = wire
        unsent, self._unsent = self._unsent, deque()
        for call in unsent:
            # A caller that has given up meanwhile gets nothing done behind its back.
            if call.deferred is not None and not call.deferred.called:
                wire.send(call)

    def _down(self, wire: Wire) -> None:
        self._wire = None
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


def _split(calls: Iterable[_Call], horizon: float) -> tuple[list[_Call], float | None]:
    """The unsettled calls begun at or before `horizon`, and when the first one after them began."""
    overdue: list[_Call] = []
    for call in calls:
        if call.deferred is None:
            continue
        if call.started > horizon:
            return overdue, call.started
        overdue.append(call)
    return overdue, None


def _as_list(reply: Any) -> list[Any]:
    return [reply]


def connect(reactor: Any, settings: RedisSettings, *, timeout: float, data_dir: Path) -> Redis:
    """The `Redis` that the settings name; the embedded one, kept below `data_dir`, where they name none.

    `timeout` is the deadline of every call, in seconds. Nothing happens before the first call or `startService`.
    Raises StoreError where a certificate file or the embedded server's directory cannot be used.
    """
    login = Login(settings.username, settings.password, settings.db, master=bool(settings.sentinels))
    if settings.sentinels:
        locate = sentinel_locator(reactor, settings, timeout, partial(open_wire, reactor))
        return Redis(reactor, locate, login, timeout=timeout)
    if settings.configured:
        endpoint = data_endpoint(reactor, settings, timeout)
        return Redis(reactor, always(endpoint), login, timeout=timeout)
    binary = find_server()
    if binary is not None:
        server = EmbeddedServer(reactor, binary, data_dir / "redis")
        login = Login(db=settings.db)
        return Redis(reactor, server.locate, login, timeout=timeout, companion=server, embedded="server")
    from scalelite.store.memory import MemoryEndpoint

    return Redis(reactor, always(MemoryEndpoint(reactor)), Login(db=settings.db), timeout=timeout, embedded="memory")
