"""Where callbacks may go: clients name the URLs, and must not reach through us what they could not reach themselves."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import quote, urlsplit

import attrs
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from scalelite.bbb.client import Transport

MAX_URL: Final = 8192
MAX_ADDRESSES: Final = 4
"""How many addresses of a name are tried."""

# Addresses that carry an IPv4 address, to which a gateway would pass the connection on: NAT64 and SIIT.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::ffff:0:0:0/96"))
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


class Refused(Exception):
    """No callback may go there; the text says why, without the URL."""


@attrs.frozen
class Target:
    """A URL fit to be called: `url` in ASCII, `name` host and port."""

    url: bytes = attrs.field(repr=False)
    name: str


@attrs.frozen
class TargetRules:
    """`hosts`: which are allowed, `*.example.com` for all below; empty: any. `private`: any address at all."""

    hosts: frozenset[str] = frozenset()
    private: bool = False

    def target(self, url: str) -> Target:
        """The target that `url` names. Raises Refused for one that is not allowed, or no HTTP URL."""
        url = url.strip()
        if len(url) > MAX_URL or not url.isprintable() or any(c.isspace() for c in url) or "\\" in url:
            raise Refused("its URL can't be used")
        try:
            parts = urlsplit(url)
            port = parts.port
            host = _host(parts.hostname or "")
        except ValueError:
            raise Refused("its URL can't be used") from None
        if parts.scheme not in ("http", "https"):
            raise Refused("its URL is neither http nor https")
        if "@" in parts.netloc:
            raise Refused("its URL names a user")
        if port == 0:
            raise Refused("its URL can't be used")
        if self.hosts and not self.allows(host):
            raise Refused(f"{host} is not among SCALELITE_CALLBACK_HOSTS")
        literal = _address(host)
        if literal is not None and not self.private and not is_public(literal):
            raise Refused(f"{host} is a private address")
        shown = f"[{host}]" if ":" in host else host
        netloc = shown if port is None else f"{shown}:{port}"
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~[]")
        query = f"?{quote(parts.query, safe='/?%:@!$&()*+,;=-._~[]|^{}')}" if parts.query else ""
        name = f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
        return Target(f"{parts.scheme}://{netloc}{path}{query}".encode("ascii"), name)

    def allows(self, host: str) -> bool:
        """Whether the allow-list has `host`, or a wildcard above it."""
        labels = host.split(".")
        return host in self.hosts or any(f"*.{'.'.join(labels[i:])}" in self.hosts for i in range(1, len(labels)))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address can be reached by everybody; false for what leads to one that can't."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in network for network in _TRANSLATED):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            return False
        if inner is None and int(address) >> 32 == 0:
            # ::a.b.c.d, deprecated; some systems connect to the IPv4 address.
            inner = IPv4Address(int(address))
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def _host(host: str) -> str:
    """A host in the spelling by which it is looked up. Raises ValueError."""
    host = host.rstrip(".")
    if _address(host) is not None:
        return host
    ascii_host = host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    if len(ascii_host) > 253 or not all(_LABEL.fullmatch(label) for label in ascii_host.split(".")):
        raise ValueError("no host name")
    return ascii_host


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


@implementer(IResolutionReceiver)
class _Collected:
    """The addresses of a name; `done` fires once they are all there."""

    def __init__(self) -> None:
        self.addresses: list[TCP4Address | TCP6Address] = []
        self._resolution: IHostResolution | None = None
        self.done: Deferred[None] = Deferred(self._cancel)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, TCP4Address | TCP6Address):
            self.addresses.append(address)

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(None)

    def _cancel(self, _: Deferred[None]) -> None:
        if self._resolution is not None:
            self._resolution.cancel()


@implementer(IStreamClientEndpoint)
class GuardedEndpoint:
    """Looks a host up, and connects to one of the very addresses that were found and may be reached.

    A name that is looked up once to be checked, and again to connect, could lead elsewhere the second time.
    """

    def __init__(
        self, reactor: Any, resolver: IHostnameResolver, host: str, port: int, rules: TargetRules, timeout: float
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._host = host
        self._port = port
        self._rules = rules
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        allowed = [address for address in await self._addresses() if self._allowed(address)]
        if not allowed:
            raise Refused(f"{self._host} has private addresses only")
        for address in allowed[:MAX_ADDRESSES]:
            endpoint = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            try:
                connected: IProtocol = await endpoint(
                    self._reactor, address, self._port, timeout=self._timeout
                ).connect(factory)
            except ConnectError as error:
                failed = error
            else:
                return connected
        raise failed

    async def _addresses(self) -> list[str]:
        if _address(self._host) is not None:
            return [self._host]
        found = _Collected()
        self._resolver.resolveHostName(found, self._host, self._port)
        await found.done
        if not found.addresses:
            raise DNSLookupError(f"no address of {self._host} was found")
        return list(dict.fromkeys(address.host for address in found.addresses))

    def _allowed(self, address: str) -> bool:
        # An address of a network interface may carry a zone, which only a link-local one needs.
        return self._rules.private or is_public(ip_address(address.partition("%")[0]))


@implementer(IAgentEndpointFactory)
class _GuardedEndpoints:
    def __init__(
        self, reactor: Any, resolver: IHostnameResolver, rules: TargetRules, policy: IPolicyForHTTPS, timeout: float
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._rules = rules
        self._policy = policy
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        endpoint = GuardedEndpoint(self._reactor, self._resolver, host, uri.port, self._rules, self._timeout)
        if uri.scheme == b"https":
            wrapped: IStreamClientEndpoint = wrapClientTLS(
                self._policy.creatorForNetloc(host.encode("ascii"), uri.port), endpoint
            )
            return wrapped
        return endpoint


def guarded_transport(
    reactor: Any, resolver: IHostnameResolver, rules: TargetRules, policy: IPolicyForHTTPS, connect_timeout: float
) -> Transport:
    """Sends requests to targets only that `rules` allow; follows no redirect, keeps no connection."""
    endpoints = _GuardedEndpoints(reactor, resolver, rules, policy, connect_timeout)
    request: Transport = Agent.usingEndpointFactory(reactor, endpoints).request
    return request
