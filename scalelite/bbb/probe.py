"""What a server shows before any call: the time on its clock, and how long its certificate lasts."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from scalelite.bbb.transports import https_policy

_LONGEST_HEAD: Final = 65_536


@attrs.frozen
class Probe:
    """`date` is the server's clock (whole seconds), `expires` when its certificate ends: seconds since the epoch."""

    date: float | None = None
    expires: float | None = None


async def probe(reactor: Any, url: str, seconds: float) -> Probe:
    """Ask what is at `url` for as long as `seconds`; certificates are read and not judged.

    Raises whatever keeps the connection from being made, ValueError for a URL that can't be used.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("the URL can't be used")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    endpoint: Any = HostnameEndpoint(reactor, host.encode("idna"), port, timeout=seconds)
    if secure:
        policy: Any = https_policy(verify=False, ca_file=None)
        endpoint = wrapClientTLS(policy.creatorForNetloc(host.encode("idna"), port), endpoint)
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n\r\n".encode("ascii")
    factory = Factory.forProtocol(lambda: _Head(request))
    factory.noisy = False
    return await Deferred.fromCoroutine(_ask(endpoint, factory)).addTimeout(seconds, reactor)


async def _ask(endpoint: Any, factory: Any) -> Probe:
    protocol = await endpoint.connect(factory)
    found: Probe = await protocol.found
    return found


class _Head(Protocol):
    """Sends the request and reads the head of the answer."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = bytearray()
        self.found: Deferred[Probe] = Deferred(lambda _: self._drop())

    def connectionMade(self) -> None:
        self._transport.write(self._request)

    @property
    def _transport(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > _LONGEST_HEAD:
            self._tell()

    def _tell(self) -> None:
        if not self.found.called:
            self.found.callback(Probe(_date(bytes(self._head)), self._expiry()))
        self._drop()

    def _expiry(self) -> float | None:
        certificate = getattr(self.transport, "getPeerCertificate", lambda: None)()
        if certificate is None:
            return None
        expires: float = certificate.to_cryptography().not_valid_after_utc.timestamp()
        return expires

    def _drop(self) -> None:
        self._transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.found.called:
            self.found.errback(reason)


def _date(head: bytes) -> float | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            try:
                return parsedate_to_datetime(value.decode("ascii").strip()).timestamp()
            except ValueError:
                return None
    return None
