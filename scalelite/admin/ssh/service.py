"""The SSH server as a service of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel

from scalelite.admin.ssh.channel import SessionChannel
from scalelite.admin.ssh.gate import Gate, peer_address
from scalelite.admin.ssh.hostkey import HostKey, HostKeyError, make_host_key
from scalelite.admin.ssh.keys import KeyFile
from scalelite.admin.ssh.login import Login
from scalelite.admin.ssh.session import House, OperatorSession, start_session
from scalelite.admin.ssh.slots import Slots
from scalelite.admin.ssh.transport import Transport

#: Seconds between two looks at idle connections and at the file with the keys.
LOOK: Final = 5.0
BACKLOG: Final = 128


class SSHService(Service):
    """Listens where the settings say, and serves `house` to whoever has a key in the file `keys`.

    A port or a host key that can't be had is told in the log; the program goes on without SSH.
    """

    name = "ssh"
    _log = Logger()

    def __init__(self, reactor: Any, house: House, keys: Path) -> None:
        settings = house.settings
        self._reactor = reactor
        self._house = house
        # Otherwise it is only a convenience of development.
        self._wanted = settings.ssh_authorized_keys is not None
        self._keys = KeyFile(keys, expected=self._wanted)
        self.gate = Gate(
            reactor,
            self._keys,
            self._start_session,
            max_sessions=settings.ssh_max_sessions,
            idle_timeout=settings.ssh_idle_timeout,
        )
        self._factory = _Factory(self.gate)
        self._port: IListeningPort | None = None
        self._watch = LoopingCall(self.gate.look)
        self._watch.clock = reactor

    def _start_session(self, channel: SessionChannel, slots: Slots, command: str | None) -> OperatorSession:
        return start_session(self._house, channel, slots, command)

    @property
    def address(self) -> Any:
        """Where it listens; None if it does not."""
        return None if self._port is None else self._port.getHost()

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        super().startService()
        if self._port is None:
            self._listen()
        if self._port is None:
            return
        try:
            key = make_host_key(self._house.settings.data_dir)
        except HostKeyError as error:
            self._lacking(f"the host key cannot be used: {error}")
            port, self._port = self._port, None
            maybeDeferred(port.stopListening)
            return
        self._factory.use(key)
        host = self.address
        self._log.info(
            "SSH server on {host}:{port}, host key {fingerprint}",
            host=host.host,
            port=host.port,
            fingerprint=key.fingerprint,
        )
        self._keys.keys()
        self._watch.start(LOOK, now=False)

    def _listen(self) -> None:
        settings = self._house.settings
        interface = settings.ssh_bind.strip("[]")
        try:
            self._port = self._reactor.listenTCP(settings.ssh_port, self._factory, backlog=BACKLOG, interface=interface)
        except CannotListenError as error:
            reason = str(getattr(error.socketError, "strerror", None) or error.socketError).lower()
            self._lacking(
                f"cannot listen on {interface}:{settings.ssh_port} (SCALELITE_SSH_BIND, SCALELITE_SSH_PORT): {reason}"
            )

    def _lacking(self, reason: str) -> None:
        level = LogLevel.error if self._wanted else LogLevel.info
        self._log.emit(level, "there is NO SSH server: {reason}", reason=reason)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._watch.running:
            self._watch.stop()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self.gate.close("the service is stopping")
        await self.gate.all_gone()


class _Factory(ServerFactory):
    """Makes transports, and holds what Conch looks for in a factory."""

    noisy = False

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.publicKeys: dict[bytes, Key] = {}
        self.privateKeys: dict[bytes, Key] = {}

    def use(self, key: HostKey) -> None:
        """Be known by this host key; before, nobody is let in."""
        private = Key.fromString(key.private)
        self.privateKeys = {b"ssh-ed25519": private}
        self.publicKeys = {b"ssh-ed25519": private.public()}

    def buildProtocol(self, addr: IAddress | None) -> Transport | None:
        transport = self._gate.admit(peer_address(addr)) if self.privateKeys else None
        if transport is not None:
            transport.factory = self  # type: ignore[assignment]
        return transport

    def getService(self, transport: Transport, name: bytes) -> Any:
        return Login if name == Login.name else None
