"""Ways for the BBB client to reach servers: plain Agent for proxied calls, treq for the poller, one pool each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet import defer, ssl
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.client import URI, Agent, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from scalelite.bbb.client import Transport


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS without checking the certificate, for pools of servers with self-made ones; only by explicit setting."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._context = ssl.CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not (isIPAddress(self._hostname) or isIPv6Address(self._hostname)):
            connection.set_tlsext_host_name(self._hostname.encode("idna"))
        return connection


@implementer(IOpenSSLTrustRoot)
class _ExtraAuthorities:
    """The system's authorities plus those of a PEM file."""

    def __init__(self, ca_file: Path) -> None:
        self._certificates = [
            ssl.Certificate.loadPEM(certificate.public_bytes(Encoding.PEM))
            for certificate in x509.load_pem_x509_certificates(ca_file.read_bytes())
        ]

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        ssl.platformTrust()._addCACertsToContext(context)
        store = context.get_cert_store()
        assert store is not None
        for certificate in self._certificates:
            store.add_cert(certificate.original)


@implementer(IPolicyForHTTPS)
class _OneContextPerHost:
    """Keeps what was made for each host: the Agent asks before every request, and a TLS context is dear."""

    def __init__(self, make: Callable[[str], IOpenSSLClientConnectionCreator]) -> None:
        self._make = lru_cache(maxsize=4096)(make)

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return self._make(hostname.decode("ascii"))


def https_policy(*, verify: bool, ca_file: Path | None) -> IPolicyForHTTPS:
    """How servers' certificates are checked: by the system's authorities and, if given, those in `ca_file` (PEM).

    Raises OSError or ValueError if `ca_file` can't be read.
    """
    if not verify:
        return _OneContextPerHost(_Unverified)
    trust = ssl.platformTrust() if ca_file is None else _ExtraAuthorities(ca_file)
    return _OneContextPerHost(lambda hostname: ssl.optionsForClientTLS(hostname, trustRoot=trust))


class _QuietFactory(_HTTP11ClientFactory):
    noisy = False


def connection_pool(reactor: Any, *, per_server: int) -> HTTPConnectionPool:
    """Keeps up to `per_server` idle connections to each server, each for half a minute."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    # The client repeats what may be repeated: it must know whether anything was sent before.
    pool.retryAutomatically = False
    pool._factory = _QuietFactory
    pool.maxPersistentPerHost = per_server
    pool.cachedConnectionTimeout = 30
    return pool


@implementer(IAgentEndpointFactory)
class _KeptEndpoints:
    """Keeps the endpoint of each server: an Agent makes a new one, host name codec and all, for every request."""

    def __init__(self, reactor: Any, policy: IPolicyForHTTPS, connect_timeout: float) -> None:
        self._reactor = reactor
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._kept = lru_cache(maxsize=4096)(self._endpoint)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._kept(uri.scheme, uri.host, uri.port)

    def _endpoint(self, scheme: bytes, host: bytes, port: int) -> IStreamClientEndpoint:
        endpoint = self._plain_endpoint(host.decode("ascii"), port)
        if scheme == b"http":
            return endpoint
        if scheme == b"https":
            wrapped: IStreamClientEndpoint = wrapClientTLS(self._policy.creatorForNetloc(host, port), endpoint)
            return wrapped
        raise ValueError("neither http nor https")

    def _plain_endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, timeout=self._connect_timeout)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, timeout=self._connect_timeout)
        # The endpoint tells of a refused connection only after one delay: by default 0.3 s, far over the 0.1 s that
        # RFC 8305 (section 5) gives as the least between attempts.
        return HostnameEndpoint(self._reactor, host, port, timeout=self._connect_timeout, attemptDelay=0.1)


def _agent(reactor: Any, pool: HTTPConnectionPool, policy: IPolicyForHTTPS, connect_timeout: float) -> Agent:
    made: Agent = Agent.usingEndpointFactory(reactor, _KeptEndpoints(reactor, policy, connect_timeout), pool=pool)
    return made


def agent_transports(reactor: Any, pool: HTTPConnectionPool, policy: IPolicyForHTTPS) -> Callable[[float], Transport]:
    """Transports by plain Agent: the cheapest, for calls that a client waits for."""

    def transport(connect_timeout: float) -> Transport:
        request: Transport = _agent(reactor, pool, policy, connect_timeout).request
        return request

    return transport


def treq_transports(reactor: Any, pool: HTTPConnectionPool, policy: IPolicyForHTTPS) -> Callable[[float], Transport]:
    """Transports by treq, for calls that nobody waits for: the poller's."""

    def transport(connect_timeout: float) -> Transport:
        client = HTTPClient(_agent(reactor, pool, policy, connect_timeout))

        def request(
            method: bytes, url: bytes, headers: Headers, body: IBodyProducer | None
        ) -> defer.Deferred[IResponse]:
            sent: defer.Deferred[Any] = client.request(
                method.decode(), url.decode(), headers=headers, data=body, unbuffered=True, allow_redirects=False
            )
            return sent

        return request

    return transport
