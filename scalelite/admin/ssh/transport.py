"""The SSH transport: modern algorithms only, and every wait, size and count bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.conch.ssh import _kex
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.admin.ssh.channel import CONCHS_LOG, Connection
from scalelite.admin.ssh.keys import ALGORITHMS, AuthorizedKey
from scalelite.admin.ssh.login import Login

if TYPE_CHECKING:
    from scalelite.admin.ssh.gate import Gate

KEY_EXCHANGES: Final[list[bytes]] = [
    name
    for name in (b"mlkem768x25519-sha256", b"curve25519-sha256", b"curve25519-sha256@libssh.org")
    if name in _kex.getSupportedKeyExchanges()
]
CIPHERS: Final = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
MACS: Final = [b"hmac-sha2-512", b"hmac-sha2-256"]

#: Bytes of a client's version line, its end included (RFC 4253, section 4.2).
_VERSION_LINE: Final = 255
#: Seconds that a peer has to take our last words.
_FAREWELL: Final = 5.0
_PROTOCOL_ERROR: Final = 2
#: What may come before there are keys: disconnect, ignore, unimplemented, debug, and the key exchange itself.
_IN_CLEAR: Final = frozenset({1, 2, 3, 4, 20, 21, 30})

_log = Logger()


class Transport(SSHServerTransport):
    """One client's connection. `key` is whom it belongs to, None until the login."""

    ourVersionString = b"SSH-2.0-Scalelite"
    supportedKeyExchanges = KEY_EXCHANGES
    supportedCiphers = CIPHERS
    supportedMACs = MACS
    supportedCompressions: Any = (b"none",)
    supportedPublicKeys: Any = (b"ssh-ed25519",)

    def __init__(self, gate: Gate, address: str) -> None:
        self._log = CONCHS_LOG
        self.gate = gate
        self.address = address
        self.key: AuthorizedKey | None = None
        self.connected_at = gate.clock.seconds()
        #: When the operator last did something, in the clock's seconds.
        self.active_at = self.connected_at
        #: Whether the peer is to be spoken to no more.
        self.ended = False
        #: Whether the peer does not take what is sent.
        self.paused = False
        self._abort: IDelayedCall | None = None

    @property
    def connection(self) -> Connection | None:
        """The service with the channels, after the login."""
        return self.service if isinstance(self.service, Connection) else None

    @property
    def exchanging(self) -> bool:
        """Whether a key exchange is under way."""
        return bool(self._keyExchangeState != self._KEY_EXCHANGE_NONE)

    # What the peer sends

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        transport.registerProducer(_Valve(self), True)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        if not self.gotVersion:
            head = self.buf + data
            if not b"SSH-".startswith(head[:4]) and not head.startswith(b"SSH-"):
                self.abort("it does not speak SSH")
                return
            if b"\n" not in head[:_VERSION_LINE] and len(head) >= _VERSION_LINE:
                self.abort("its version line does not end")
                return
        self.guarded(super().dataReceived, data)

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.ended:
            return
        if messageNum not in _IN_CLEAR and self.sessionID is None:
            self.sendDisconnect(_PROTOCOL_ERROR, b"the key exchange comes first")
            return
        super().dispatchMessage(messageNum, payload)

    def guarded(self, act: Callable[[bytes], Any], data: bytes) -> None:
        """Let `act` read what the peer has sent; where it stumbles, the connection ends and nothing else does."""
        try:
            act(data)
        except Exception as error:  # noqa: BLE001 - Conch lets whatever a malformed packet leads to come through
            if self.key is None:
                self.abort(f"what it sent cannot be read ({type(error).__name__})")
            else:
                _log.failure("an SSH session broke", Failure())
                self.abort("its session broke")

    def ssh_SERVICE_REQUEST(self, packet: bytes) -> None:
        # Conch would let a client log in a second time, as somebody else.
        if self.service is not None or getNS(packet)[0] != Login.name:
            self.sendDisconnect(_PROTOCOL_ERROR, b"no such service")
            return
        super().ssh_SERVICE_REQUEST(packet)

    # What we send

    def sendExtInfo(self, extensions: Any) -> None:
        # Conch would name the algorithms of our host key, and a client without such a key would not try its own.
        super().sendExtInfo([(b"server-sig-algs", b",".join(ALGORITHMS))])

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        if self.ended or self.transport is None:
            return
        _log.debug("disconnecting {address}: {reason}", address=self.address, reason=str(desc))
        super().sendDisconnect(reason, desc)
        self.ended = True
        # With a producer that is paused, the socket would not be closed once everything is written.
        transport: Any = self.transport
        transport.unregisterProducer()
        self._abort = self.gate.clock.callLater(_FAREWELL, self._abort_now)

    def abort(self, why: str) -> None:
        """Drop the connection without a word; `why` goes on with "the connection from ... is dropped: "."""
        if self.ended:
            return
        self.ended = True
        self.gate.dropped(self.address, why)
        self._abort_now()

    def _abort_now(self) -> None:
        self._abort = None
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    # What Conch would log, at levels and with text of the peer's choosing

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        _log.debug("{address} disconnects with reason {code}", address=self.address, code=reasonCode)

    def receiveUnimplemented(self, seqnum: int) -> None:
        _log.debug("{address} does not know our packet {number}", address=self.address, number=seqnum)

    def receiveDebug(self, alwaysDisplay: bool, message: bytes, lang: bytes) -> None:
        pass

    # Login, activity and end

    def logged_in(self, key: AuthorizedKey, user: str) -> None:
        """Called once, by the login."""
        self.key = key
        self.active_at = self.gate.clock.seconds()
        self.gate.logged_in(self, user)
        self.setService(Connection())

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self.ended = True
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None
        if self.service is not None:
            self.service.serviceStopped()
            self.service = None
        self.gate.lost(self)


class _Valve:
    """Told by the socket whether the peer takes what is sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def pauseProducing(self) -> None:
        self._transport.paused = True

    def resumeProducing(self) -> None:
        self._transport.paused = False
        if self._transport.connection is not None:
            self._transport.connection.flush()

    def stopProducing(self) -> None:
        pass
