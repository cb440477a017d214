"""What all connections of the SSH server share: keys, limits, and who is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from scalelite.admin.ssh.backoff import Backoff
from scalelite.admin.ssh.channel import Session, SessionChannel
from scalelite.admin.ssh.keys import AuthorizedKey, KeyFile
from scalelite.admin.ssh.slots import Slots
from scalelite.admin.ssh.transport import Transport

#: Seconds from the connection to the login, at most.
LOGIN_TIME: Final = 30.0
#: Connections that have not logged in yet; the next one takes the place of the one that has waited longest.
MAX_STRANGERS: Final = 64
#: Connections for each session that there may be.
CONNECTIONS_PER_SESSION: Final = 5
#: Seconds of a key exchange in a running session, at most.
EXCHANGE_TIME: Final = 30.0
#: Seconds in which no more than one line tells of connections that came to nothing.
_QUIET: Final = 10.0
_BY_APPLICATION: Final = 11

MakeSession = Callable[[SessionChannel, Slots, str | None], Session]


class Gate:
    """Admits connections, and watches them. `make_session` starts what a session channel asks for."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        keys: KeyFile,
        make_session: MakeSession,
        *,
        max_sessions: int,
        idle_timeout: float,
    ) -> None:
        self.clock = clock
        self.keys = keys
        self.backoff = Backoff(clock)
        self.slots = Slots(clock, max_sessions)
        self._make_session = make_session
        self._idle_timeout = idle_timeout
        self._max_connections = MAX_STRANGERS + CONNECTIONS_PER_SESSION * max_sessions
        # In the order of their coming.
        self._strangers: dict[Transport, IDelayedCall] = {}
        self._operators: dict[Transport, str] = {}
        self._exchanging: dict[Transport, float] = {}
        # Connections whose key was not authorised at the last look; an editor may have been half-way through.
        self._suspects: set[Transport] = set()
        self._empty: Deferred[None] | None = None
        self._quiet_until = -_QUIET
        self._unsaid = 0

    @property
    def connections(self) -> list[Transport]:
        """All that are open."""
        return [*self._strangers, *self._operators]

    def admit(self, address: str) -> Transport | None:
        """A transport for a new connection; None if there are too many."""
        if len(self._strangers) + len(self._operators) >= self._max_connections:
            self.dropped(address, "too many are open")
            return None
        if len(self._strangers) >= MAX_STRANGERS:
            next(iter(self._strangers)).abort("others wait to log in")
        transport = Transport(self, address)
        self._strangers[transport] = self.clock.callLater(LOGIN_TIME, transport.abort, "it did not log in in time")
        return transport

    def dropped(self, address: str, why: str) -> None:
        """Tell of a connection that came to nothing, now and then: anybody can make any number of them."""
        now = self.clock.seconds()
        if now < self._quiet_until:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        self._log.info("the SSH connection from {address} is dropped: {why}{more}", address=address, why=why, more=more)
        self._quiet_until, self._unsaid = now + _QUIET, 0

    def logged_in(self, transport: Transport, user: str) -> None:
        """A connection has shown its key."""
        assert transport.key is not None
        self._strangers.pop(transport).cancel()
        self._operators[transport] = user
        self._tell("logs in over SSH", transport, transport.key, user)

    def lost(self, transport: Transport) -> None:
        """A connection is gone."""
        deadline = self._strangers.pop(transport, None)
        if deadline is not None and deadline.active():
            deadline.cancel()
        self._exchanging.pop(transport, None)
        self._suspects.discard(transport)
        user = self._operators.pop(transport, None)
        if user is not None and transport.key is not None:
            self._tell("logs out of SSH", transport, transport.key, user)
        if self._empty is not None and not self.connections:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def _tell(self, what: str, transport: Transport, key: AuthorizedKey, user: str) -> None:
        self._log.info(
            "{name} ({role}, {fingerprint}) " + what + " from {address}, as {user}",
            name=key.name,
            role=str(key.role),
            fingerprint=key.fingerprint,
            address=transport.address,
            user=user,
        )

    def open_session(self, channel: SessionChannel, command: str | None) -> Session:
        """Start what a channel asks for: a command, or None for a shell."""
        return self._make_session(channel, self.slots, command)

    def look(self) -> None:
        """End what has been idle for too long, and those whose key is not authorised any more."""
        now = self.clock.seconds()
        keys = self.keys.keys() if self._operators else {}
        for transport in list(self._operators):
            own = transport.key
            current = None if own is None else keys.get(own.blob)
            if current is None or own is None or current.role is not own.role:
                if transport in self._suspects:
                    self.end(transport, "your key is not authorised any more")
                self._suspects.add(transport)
                continue
            self._suspects.discard(transport)
            sessions = [] if transport.connection is None else transport.connection.sessions()
            if not all(session.idle for session in sessions):
                transport.active_at = now
            if now - transport.active_at >= self._idle_timeout:
                self.end(transport, f"you were idle for {self._idle_timeout:g} seconds")
            self._watch_exchange(transport, now)

    def _watch_exchange(self, transport: Transport, now: float) -> None:
        # Until a key exchange that the client has begun is over, all output is kept.
        if transport.exchanging:
            if now - self._exchanging.setdefault(transport, now) >= EXCHANGE_TIME:
                transport.abort("its key exchange does not end")
        else:
            self._exchanging.pop(transport, None)

    def end(self, transport: Transport, why: str) -> None:
        """Take leave of a connection; clients show why."""
        transport.sendDisconnect(_BY_APPLICATION, why.encode())

    def close(self, why: str) -> None:
        """Take leave of everybody."""
        for transport in self.connections:
            self.end(transport, why)

    async def all_gone(self) -> None:
        """Wait until the last connection is gone; none takes longer than its farewell."""
        if self.connections:
            self._empty = Deferred()
            await self._empty


def peer_address(address: Any) -> str:
    """A peer's address without its port."""
    return str(getattr(address, "host", "") or "unknown")
