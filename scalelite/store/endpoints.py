"""Where a Redis is and how to log in: the endpoint of a host, of a host behind TLS, or of a UNIX socket."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
from cryptography import x509
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from zope.interface import implementer

from scalelite.store.errors import StoreError

if TYPE_CHECKING:
    from scalelite.settings.redis import RedisSettings

# sun_path holds 108 bytes on Linux, the last of them a zero.
_MAX_SOCKET_PATH = 107


def data_endpoint(reactor: Any, settings: RedisSettings, timeout: float) -> IStreamClientEndpoint:
    """The endpoint of the server that the settings name. Raises StoreError for an unusable CA file."""
    if settings.unix_path is not None:
        return UnixEndpoint(reactor, settings.unix_path, timeout)
    return host_endpoint(reactor, settings, settings.host, settings.port, timeout)


def host_endpoint(reactor: Any, settings: RedisSettings, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """TCP to this place, and over it TLS with a verified certificate where the settings ask for TLS."""
    endpoint = HostnameEndpoint(reactor, host, port, timeout=timeout)
    if not settings.tls:
        return endpoint
    return wrapClientTLS(tls_options(host, settings.ca_file), endpoint)


def tls_options(host: str, ca_file: str | None) -> IOpenSSLClientConnectionCreator:
    """TLS to `host`, verified against the system's authorities or those in `ca_file` (PEM) alone."""
    if ca_file is None:
        return optionsForClientTLS(host, trustRoot=platformTrust())
    try:
        with open(ca_file, "rb") as file:
            certificates = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError) as error:
        raise StoreError(f"the authorities for Redis cannot be read from {ca_file}: {error}") from error
    roots = [Certificate(X509.from_cryptography(certificate)) for certificate in certificates]
    return optionsForClientTLS(host, trustRoot=trustRootFromCertificates(roots))


@attrs.frozen
class Login:
    """What a new connection says before the first command."""

    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    db: int = 0
    #: Refuse a server that is not a master (Sentinel may still name the old one).
    master: bool = False


@implementer(IStreamClientEndpoint)
class UnixEndpoint:
    """A UNIX socket whose path may be longer than the kernel's 107 bytes, where /proc is mounted."""

    def __init__(self, reactor: Any, path: str, timeout: float) -> None:
        self._reactor = reactor
        self._path = path
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if len(os.fsencode(self._path)) <= _MAX_SOCKET_PATH:
            return self._connect(self._path, protocolFactory)
        folder, name = os.path.split(self._path)
        try:
            held = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            return fail(StoreError(f"{folder}: {error.strerror}"))

        def release(result: Any) -> Any:
            os.close(held)
            return result

        return self._connect(f"/proc/self/fd/{held}/{name}", protocolFactory).addBoth(release)

    def _connect(self, path: str, protocol_factory: IProtocolFactory) -> Deferred[IProtocol]:
        endpoint = UNIXClientEndpoint(self._reactor, path, self._timeout)
        connecting: Deferred[IProtocol] = endpoint.connect(protocol_factory)
        return connecting


def always(endpoint: IStreamClientEndpoint) -> Callable[[], Awaitable[IStreamClientEndpoint]]:
    """A locator that always names this endpoint."""

    async def locate() -> IStreamClientEndpoint:
        return endpoint

    return locate
