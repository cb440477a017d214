"""Where the web server listens: `BIND` and its URL forms, those of Puma."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Literal

import attrs

from scalelite.settings.parse import Kind, Malformed

#: Options of Puma's URLs that tune its own sockets; accepted and without effect here.
_WITHOUT_EFFECT = frozenset({"backlog", "low_latency", "optimize_for_latency", "mode"})


@attrs.frozen
class Listen:
    """One endpoint to listen on: TCP `host` and `port` (0 picks a free one), or the UNIX socket at `path`.

    `umask` is the file-creation mask in force while the socket is made, None to leave it alone.
    """

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""
    umask: int | None = None

    @property
    def url(self) -> str:
        """The URL form that reads back as this endpoint."""
        if self.kind == "unix":
            return f"unix://{self.path}" + ("" if self.umask is None else f"?umask={self.umask:04o}")
        return f"tcp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; the port may be missing if there is a default. Raises `Malformed`."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise Malformed("the host or the port cannot be read")
    bracketed, plain, digits = match.groups()
    if bracketed:
        try:
            IPv6Address(bracketed)
        except AddressValueError:
            raise Malformed("the IPv6 address cannot be read") from None
    if digits is None and default_port is None:
        raise Malformed("the port is missing")
    port = default_port if digits is None else int(digits)
    if port is None or port > 65535:
        raise Malformed("the port is above 65535")
    return bracketed or plain, port


def _read_tcp(rest: str) -> Listen:
    place, _, query = rest.partition("?")
    _options(query, frozenset())
    host, port = parse_host_port(place.removesuffix("/"))
    return Listen("tcp", host=host, port=port)


def _read_unix(rest: str) -> Listen:
    path, _, query = rest.partition("?")
    if not path.startswith("/") or path.endswith("/"):
        raise Malformed("the socket's path must be absolute: unix:///run/scalelite.sock")
    umask = _options(query, frozenset({"umask"})).get("umask")
    if umask is not None and not re.fullmatch(r"0?[0-7]{3}", umask):
        raise Malformed("umask must be three octal digits, as 0111")
    return Listen("unix", path=path, umask=None if umask is None else int(umask, 8))


def _options(query: str, known: frozenset[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name in known:
            options[name] = value
        elif name not in _WITHOUT_EFFECT:
            raise Malformed(f"the option {name!r} is unknown")
    return options


def _read_one(url: str) -> Listen:
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "tcp":
        return _read_tcp(rest)
    if separator and scheme == "unix":
        return _read_unix(rest)
    if scheme == "ssl":
        raise Malformed("TLS ends at the proxy in front; use tcp:// or unix://")
    raise Malformed("it must begin with tcp:// or unix://")


def _read_all(text: str) -> tuple[Listen, ...]:
    endpoints = tuple(_read_one(url) for url in re.split(r"[,\s]+", text) if url)
    if not endpoints:
        raise Malformed
    return tuple(dict.fromkeys(endpoints))


listeners: Kind[tuple[Listen, ...]] = Kind(
    "URLs `tcp://host:port` or `unix:///path?umask=0111`, joined by `,`", _read_all
)
