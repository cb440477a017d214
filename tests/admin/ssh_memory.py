"""An SSH server in memory, on a clock that a test moves, and Conch's client to talk to it, also out of turn."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import x25519
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport, SSHTransportBase
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from scalelite.admin.ssh.service import SSHService
from scalelite.admin.ssh.session import House
from scalelite.admin.ssh.transport import Transport
from scalelite.admin.table import Command
from scalelite.settings import Settings

HYBRID = b"mlkem768x25519-sha256"


class Wire(StringTransport):
    """One end of a connection. `aborted`: it was dropped without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        if self.producer is not None:
            super().unregisterProducer()

    @property
    def ended(self) -> bool:
        return self.aborted or self.disconnecting


class Server:
    """The service, its clock, and the connections that tests make to it."""

    def __init__(
        self,
        folder: Path,
        table: Mapping[str, Command] | None = None,
        reactor: MemoryReactorClock | None = None,
        **settings: Any,
    ) -> None:
        self.reactor = reactor or MemoryReactorClock()
        self.keys = folder / "keys"
        self.keys.touch()
        given = Settings.for_tests(data_dir=folder / "var", ssh_authorized_keys=self.keys, **settings)
        pool: Any = SimpleNamespace(clock=self.reactor)
        self.service = SSHService(self.reactor, House(given, pool, table or {}, lambda: "new"), self.keys)
        self.service.startService()
        self.gate = self.service.gate
        self.factory = self.reactor.tcpServers[0][1] if self.reactor.tcpServers else None

    def connect(self, address: str = "10.0.0.1") -> tuple[Transport | None, Wire]:
        """A connection that says nothing yet."""
        wire = Wire()
        transport: Transport | None = self.factory.buildProtocol(IPv4Address("TCP", address, 40_000))
        if transport is not None:
            transport.makeConnection(wire)
        return transport, wire

    def client(self, key: Key | None = None, address: str = "10.0.0.1", **options: Any) -> Client:
        """A client that has done the key exchange, and logged in if it has a key."""
        transport, wire = self.connect(address)
        assert transport is not None
        client = Client(self, transport, wire, key, **options)
        client.pump()
        return client

    def advance(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(max(1, int(seconds))):
            self.reactor.advance(seconds / max(1, int(seconds)))


class _ClientTransport(SSHClientTransport):
    secure = False
    #: Whether a test speaks for the client from now on.
    raw = False
    received: list[tuple[int, bytes]]

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        return succeed(True)

    def connectionSecure(self) -> None:
        self.secure = True

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.received.append((1, description))

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if messageNum >= 50 or messageNum == 6:
            self.received.append((messageNum, payload))
            if self.raw:
                return
        super().dispatchMessage(messageNum, payload)


class _HybridTransport(_ClientTransport):
    """With the key exchange that Conch's client lacks: ML-KEM-768 and X25519, as OpenSSH prefers it."""

    def ssh_KEXINIT(self, packet: bytes) -> None:
        SSHTransportBase.ssh_KEXINIT(self, packet)
        from cryptography.hazmat.primitives.asymmetric import mlkem

        self._lattice = mlkem.MLKEM768PrivateKey.generate()
        self._curve = x25519.X25519PrivateKey.generate()
        self._offer = self._lattice.public_key().public_bytes_raw() + self._curve.public_key().public_bytes_raw()
        self.sendPacket(30, NS(self._offer))

    def ssh_KEX_DH_GEX_GROUP(self, packet: bytes) -> None:
        host, reply, signature, _ = getNS(packet, 3)
        lattice = self._lattice.decapsulate(reply[:-32])
        curve = self._curve.exchange(x25519.X25519PublicKey.from_public_bytes(reply[-32:]))
        secret = NS(sha256(lattice + curve).digest())
        spoken = (self.ourVersionString, self.otherVersionString, self.ourKexInitPayload, self.otherKexInitPayload)
        exchanged = sha256(b"".join(map(NS, (*spoken, host, self._offer, reply))) + secret).digest()
        assert Key.fromString(host).verify(signature, exchanged)
        self._keySetup(secret, exchanged)


class _Login(SSHUserAuthClient):
    def __init__(self, key: Key, connection: SSHConnection) -> None:
        super().__init__(b"operator", connection)
        self._key = key
        self._asked = False

    def getPublicKey(self) -> Key | None:
        if self._asked:
            return None
        self._asked = True
        return self._key.public()

    def getPrivateKey(self) -> Deferred[Key]:
        return succeed(self._key)


class Client:
    """Conch's client; `received` are the messages from the services, and `(1, why)` for a disconnect."""

    def __init__(
        self,
        server: Server,
        transport: Transport,
        wire: Wire,
        key: Key | None,
        exchanges: list[bytes] | None = None,
    ) -> None:
        self.server = server
        self.transport = transport
        self.wire = wire
        self.received: list[tuple[int, bytes]] = []
        self.connection = SSHConnection()
        self.ssh = _HybridTransport() if exchanges == [HYBRID] else _ClientTransport()
        self.ssh.received = self.received
        if exchanges is not None:
            self.ssh.supportedKeyExchanges = exchanges
        self._own = Wire()
        self._lost = False
        self.ssh.makeConnection(self._own)
        if key is not None:
            self.pump()
            self.ssh.requestService(_Login(key, self.connection))

    @property
    def logged_in(self) -> bool:
        return any(number == 52 for number, _ in self.received)

    def pump(self) -> None:
        """Carry messages to and fro until nobody has more to say."""
        while True:
            self.server.reactor.advance(0)
            to_client, to_server = self.wire.value(), self._own.value()
            if not to_client and not to_server:
                break
            self.wire.clear()
            self._own.clear()
            if to_client:
                self.ssh.dataReceived(to_client)
            if to_server and not self.wire.ended:
                self.transport.dataReceived(to_server)
        if self.wire.ended:
            self.hang_up()

    def hang_up(self) -> None:
        """The connection is gone."""
        if not self._lost:
            self._lost = True
            self.transport.connectionLost(Failure(connectionDone.value))

    def send(self, number: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Send any message; what comes back."""
        self.ssh.raw = True
        self.received.clear()
        self.ssh.sendPacket(number, payload)
        self.pump()
        return list(self.received)

    def open(self, kind: bytes = b"session", window: int = 2**20, packet: int = 2**15) -> Channel:
        """Open a channel."""
        channel = Channel(self, kind, window, packet)
        self.connection.openChannel(channel)
        self.pump()
        return channel


class Channel(SSHChannel):
    """A channel of the client: `out`, `errors` and `status` are what the server has sent."""

    def __init__(self, client: Client, kind: bytes, window: int, packet: int) -> None:
        super().__init__(localWindow=window, localMaxPacket=packet)
        self.name = kind
        self.client = client
        self.opened: bool | None = None
        self.out = b""
        self.errors = b""
        self.status: int | None = None
        self.events: list[str] = []

    def channelOpen(self, specificData: bytes) -> None:
        self.opened = True

    def openFailed(self, reason: Any) -> None:
        self.opened = False

    def dataReceived(self, data: bytes) -> None:
        self.out += data
        self.events.append("data")

    def extReceived(self, dataType: int, data: bytes) -> None:
        self.errors += data
        self.events.append("errors")

    def eofReceived(self) -> None:
        self.events.append("eof")

    def closed(self) -> None:
        self.events.append("closed")

    def request_exit_status(self, data: bytes) -> bool:
        (self.status,) = struct.unpack(">L", data)
        self.events.append("status")
        return True

    def ask(self, kind: bytes, data: bytes = b"") -> bool | None:
        """Send a request; whether it was granted, None without an answer."""
        answer: list[Any] = []
        self.conn.sendRequest(self, kind, data, wantReply=1).addBoth(answer.append)
        self.client.pump()
        return None if not answer else not isinstance(answer[0], Failure)

    def run(self, line: str) -> None:
        """Run a command."""
        assert self.ask(b"exec", NS(line.encode()))


def commands(**given: Callable[..., Any]) -> dict[str, Command]:
    """A table of commands from coroutine functions of context and call; they change nothing."""
    return {name: Command(name, run, "For tests.", name, changes=False) for name, run in given.items()}
