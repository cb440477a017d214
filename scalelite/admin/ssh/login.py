"""The login: by a signature with an authorised key, and by nothing else."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from scalelite.admin.ssh.keys import ALGORITHMS, AuthorizedKey, fingerprint
from scalelite.admin.text import shown

if TYPE_CHECKING:
    from scalelite.admin.ssh.transport import Transport

#: Refusals on one connection; the last one ends it.
ATTEMPTS: Final = 3
#: Requests that may wait while an answer is delayed.
_WAITING: Final = 4

_PROTOCOL_ERROR: Final = 2
_NO_MORE_METHODS: Final = 14
_REQUEST: Final = 50
_FAILURE: Final = 51
_SUCCESS: Final = 52
_KEY_IS_FINE: Final = 60
_NEXT: Final = b"ssh-connection"


class Login(SSHService):
    """The service `ssh-userauth` (RFC 4252). The user's name is only logged: it is the key that counts."""

    name = b"ssh-userauth"
    transport: Transport
    _log = Logger()

    def __init__(self) -> None:
        self._refused = 0
        self._requests: deque[bytes] = deque()
        self._answer: IDelayedCall | None = None

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        if messageNum != _REQUEST:
            self.transport.sendUnimplemented()
        elif self._answer is None:
            self._take(packet)
        elif len(self._requests) < _WAITING:
            # RFC 4252, section 5.1: one after another.
            self._requests.append(packet)
        else:
            self.transport.sendDisconnect(_PROTOCOL_ERROR, b"too many requests")

    def serviceStopped(self) -> None:
        self._requests.clear()
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None

    def _take(self, packet: bytes) -> None:
        user, service, method, rest = getNS(packet, 3)
        if service != _NEXT:
            self.transport.sendDisconnect(_PROTOCOL_ERROR, b"no such service")
        elif method == b"publickey":
            self._public_key(packet, user, rest)
        elif method == b"none":
            # How a client asks for the methods; not an attempt.
            self._send_failure()
        else:
            self._refuse(user, f"by the method {shown(method[:40].decode(errors='replace'))}")

    def _public_key(self, packet: bytes, user: bytes, rest: bytes) -> None:
        signed = rest[0] != 0
        algorithm, blob, rest = getNS(rest[1:], 2)
        key = self.transport.gate.keys.find(blob)
        if key is None or ALGORITHMS.get(algorithm) != key.kind:
            why = "is not authorised" if key is None else "was used with an algorithm that is not taken"
            self._refuse(user, f"the key {fingerprint(blob)} {why}")
        elif not signed:
            self.transport.sendPacket(_KEY_IS_FINE, NS(algorithm) + NS(blob))
        elif self._proven(packet, rest, key, algorithm):
            self.transport.gate.backoff.succeeded(self.transport.address)
            self.transport.sendPacket(_SUCCESS, b"")
            self.transport.logged_in(key, shown(user[:64].decode(errors="replace")))
        else:
            self._refuse(user, f"the signature with the key {key.fingerprint} is wrong")

    def _proven(self, packet: bytes, rest: bytes, key: AuthorizedKey, algorithm: bytes) -> bool:
        """Whether the request ends with the key's signature over this session and the request itself."""
        session = self.transport.sessionID
        signature, trailing = getNS(rest)
        if session is None or trailing or getNS(signature)[0] != algorithm:
            return False
        claim = packet[: len(packet) - len(NS(signature))]
        return bool(key.key.verify(signature, NS(session) + bytes([_REQUEST]) + claim))

    def _refuse(self, user: bytes, why: str) -> None:
        self._refused += 1
        delay = self.transport.gate.backoff.failed(self.transport.address)
        self._log.warn(
            "SSH login of {user} from {address} refused: {why}",
            user=shown(user[:64].decode(errors="replace")),
            address=self.transport.address,
            why=why,
        )
        self._answer = self.transport.gate.clock.callLater(delay, self._answered)

    def _answered(self) -> None:
        self._answer = None
        if self._refused >= ATTEMPTS:
            self.transport.sendDisconnect(_NO_MORE_METHODS, b"too many refused attempts to log in")
            return
        self._send_failure()
        while self._requests and self._answer is None and not self.transport.ended:
            self.transport.guarded(self._take, self._requests.popleft())

    def _send_failure(self) -> None:
        self.transport.sendPacket(_FAILURE, NS(b"publickey") + b"\0")
