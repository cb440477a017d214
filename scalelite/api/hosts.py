"""Which host names requests may be for, and which tenant a host name stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from scalelite.api.replies import FORBIDDEN_HOST, Reply
from scalelite.api.site import Request

_log = Logger()
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_SUBDOMAIN = r"(?:[a-z0-9-]+\.)?"


def request_host(request: Request) -> str:
    """The host a request is for, as sent, without port: the last of X-Forwarded-Host, else Host; "" if none."""
    headers = request.requestHeaders
    raw = headers.getRawHeaders(b"X-Forwarded-Host") or headers.getRawHeaders(b"Host")
    if not raw:
        return ""
    return without_port(_last(raw))


def url_prefix(request: Request) -> str:
    """`scheme://host` as the client sees us, to begin URLs with: no slash at the end, no default port.

    The scheme is what the first proxy tells (X-Forwarded-Proto). What is no host name becomes `localhost`: the
    text ends up in links.
    """
    headers = request.requestHeaders
    told = headers.getRawHeaders(b"X-Forwarded-Proto") or (b"",)
    scheme = told[0].decode("latin-1").partition(",")[0].strip().lower()
    if scheme not in ("http", "https"):
        scheme = "https" if request.isSecure() else "http"
    raw = headers.getRawHeaders(b"X-Forwarded-Host") or headers.getRawHeaders(b"Host") or (b"",)
    host = _last(raw)
    if not _HOST.fullmatch(host):
        host = "localhost"
    return f"{scheme}://{host.removesuffix(':443' if scheme == 'https' else ':80')}"


def _last(raw: Sequence[bytes]) -> str:
    return raw[-1].decode("latin-1").rpartition(",")[2].strip()


def without_port(host: str) -> str:
    """`host` without `:port`; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return name if colon and (port.isdigit() or not port) and not host.endswith("]") else host


def tenant_names(host: str) -> tuple[str, ...]:
    """Names to look a host's tenant up by: its first label as sent, then in lower case if that differs."""
    label = host.partition(".")[0]
    return (label,) if label == label.lower() else (label, label.lower())


def host_check(url_host: str | None, *, subdomains: bool) -> Callable[[Request], Reply | None]:
    """Admission by host name, against DNS rebinding: `url_host`, and one label before it for tenants.

    Both Host and, if sent, X-Forwarded-Host must pass; letter case and port don't matter. Health checks, which
    come by address, are exempt. Without `url_host` everything passes.
    """
    if not url_host:
        return lambda request: None
    pattern = re.compile((_SUBDOMAIN if subdomains else "") + re.escape(url_host), re.IGNORECASE)

    def admit(request: Request) -> Reply | None:
        headers = request.requestHeaders
        hosts = [without_port(_last(headers.getRawHeaders(b"Host") or [b""]))]
        forwarded = headers.getRawHeaders(b"X-Forwarded-Host")
        if forwarded:
            hosts.append(without_port(_last(forwarded)))
        if all(pattern.fullmatch(host) for host in hosts) or request.plain_path().startswith(b"/health_check"):
            return None
        _log.warn("blocked a request for the host {host}", host=hosts[-1][:255])
        return FORBIDDEN_HOST

    return admit
