"""Where callbacks may go."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver
from twisted.web.http_headers import Headers
from zope.interface import implementer

from scalelite.bbb.client import Transport
from scalelite.bbb.transports import https_policy
from scalelite.recordings.targets import Refused, TargetRules, guarded_transport, is_public
from tests.recordings.receiver import front_end

ANY = TargetRules()


@pytest.mark.parametrize(
    ("url", "asked", "name"),
    [
        ("https://fe.example/a/b?c=d&e", b"https://fe.example/a/b?c=d&e", "fe.example:443"),
        (" http://FE.example. ", b"http://fe.example/", "fe.example:80"),
        ("HTTP://fe.example:8080?x", b"http://fe.example:8080/?x", "fe.example:8080"),
        ("https://münchen.example/ü?ß=%2F#part", b"https://xn--mnchen-3ya.example/%C3%BC?%C3%9F=%2F",
         "xn--mnchen-3ya.example:443"),
        ("http://8.8.8.8/", b"http://8.8.8.8/", "8.8.8.8:80"),
        ("http://[2606:4700::1111]:81/", b"http://[2606:4700::1111]:81/", "2606:4700::1111:81"),
        ("http://fe.example/?meeting={a}|[b]", b"http://fe.example/?meeting={a}|[b]", "fe.example:80"),
    ],
)  # fmt: skip
def test_urls_are_made_fit_for_a_request(url: str, asked: bytes, name: str) -> None:
    target = ANY.target(url)
    assert (target.url, target.name) == (asked, name)


@pytest.mark.parametrize(
    "url",
    [
        "", "nonsense", "//fe.example/", "/path", "ftp://fe.example/", "file:///etc/passwd", "gopher://fe.example/",
        "http://", "http:///x", "http://fe.example:99999/", "http://fe.example:0/", "http://[::1", "http://a b/",
        "http://fe.example/a b", "http://fe.example/\r\nX: y", "http://fe.example/\0", "http://user:pw@fe.example/",
        "http://fe.example\\@other/", "http://fe..example/", "http://-x.example/", "http://fe.example/" + "x" * 9000,
        "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_usable_url_is_refused(url: str) -> None:
    with pytest.raises(Refused) as refused:
        ANY.target(url)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        ({"fe.example"}, "fe.example", True),
        ({"fe.example"}, "FE.Example.", True),
        ({"fe.example"}, "x.fe.example", False),
        ({"*.fe.example"}, "x.fe.example", True),
        ({"*.fe.example"}, "y.x.fe.example", True),
        ({"*.fe.example"}, "fe.example", False),
        ({"*.fe.example"}, "evilfe.example", False),
        ({"*.fe.example", "fe.example"}, "fe.example", True),
        ({"fe.example"}, "fe.example.evil.example", False),
        ({"8.8.8.8"}, "8.8.8.8", True),
        ({"*.example"}, "8.8.8.8", False),
    ],
)
def test_only_listed_hosts_are_allowed(hosts: set[str], host: str, allowed: bool) -> None:
    rules = TargetRules(frozenset(hosts))
    if allowed:
        assert rules.target(f"https://{host}/").url.startswith(b"https://")
    else:
        with pytest.raises(Refused, match="SCALELITE_CALLBACK_HOSTS"):
            rules.target(f"https://{host}/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "::ffff:0:7f00:1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:c0a8:101::1", "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(Refused):
        ANY.target(f"http://{shown}/")
    assert TargetRules(private=True).target(f"http://{shown}/").name == f"{address}:80"


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_are_not(address: str) -> None:
    assert is_public(ip_address(address))


@implementer(IHostnameResolver)
@attrs.define
class Names:
    """A resolver that gives, for each question, the next of its lists of addresses; the last for ever."""

    answers: list[list[str]]
    asked: int = 0

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any) -> Any:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        receiver.resolutionBegan(self)
        for address in found:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """There is nothing to cancel."""


def transport(names: Names, rules: TargetRules) -> Transport:
    return guarded_transport(reactor, names, rules, https_policy(verify=True, ca_file=None), 5)


@pytest_twisted.ensureDeferred
async def test_it_connects_to_the_address_that_was_found_and_asks_once() -> None:
    async with front_end() as target:
        names = Names([["127.0.0.1"], ["203.0.113.1"]])
        url = target.url("/x?y", host="fe.example").encode()
        response = await transport(names, TargetRules(private=True))(b"GET", url, Headers({}), None)
        assert response.code == 200
        (got,) = target.received
        assert (got.uri, got.headers["host"]) == ("/x?y", f"fe.example:{target.number}")
        assert names.asked == 1


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1"], ["10.0.0.1", "127.0.0.1"], ["::ffff:127.0.0.1"]])
@pytest_twisted.ensureDeferred
async def test_a_name_that_leads_to_private_addresses_is_refused(addresses: list[str]) -> None:
    async with front_end() as target:
        url = target.url(host="rebound.example").encode()
        with pytest.raises(Refused):
            await transport(Names([addresses]), ANY)(b"GET", url, Headers({}), None)
        assert target.received == []


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f000001", "127.1"])
@pytest_twisted.ensureDeferred
async def test_other_spellings_of_the_loopback_address_are_refused(host: str) -> None:
    async with front_end() as target:
        url = ANY.target(target.url(host=host)).url
        real: Any = reactor
        guarded = guarded_transport(reactor, real.nameResolver, ANY, https_policy(verify=True, ca_file=None), 5)
        with pytest.raises((Refused, DNSLookupError)):
            await guarded(b"GET", url, Headers({}), None)
        assert target.received == []


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with front_end() as target:
        url = target.url(host="fe.example").encode()
        send = transport(Names([["127.0.0.2", "127.0.0.1"]]), TargetRules(private=True))
        assert (await send(b"GET", url, Headers({}), None)).code == 200


@pytest_twisted.ensureDeferred
async def test_a_name_without_addresses_is_not_found() -> None:
    with pytest.raises(DNSLookupError):
        await transport(Names([[]]), ANY)(b"GET", b"http://gone.example/", Headers({}), None)
