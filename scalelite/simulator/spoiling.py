"""Answers that are wrong: pages in place of an answer, and XML that is spoiled."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from scalelite.simulator.faults import Fault, FaultRule
from scalelite.simulator.http import Request, Response
from scalelite.simulator.pages import nginx_page

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["REPLACEMENTS", "SPOILERS"]

Replacement = Callable[["Node", Request, FaultRule], Response]
Spoiler = Callable[[Response, FaultRule], Response]


def _status(status: int, *headers: tuple[str, str]) -> Replacement:
    def answer(_node: Node, _request: Request, _rule: FaultRule) -> Response:
        return Response(nginx_page(status), status, "text/html", headers)

    return answer


def _redirect_https(node: Node, request: Request, _rule: FaultRule) -> Response:
    target = request.target.decode("latin-1")
    location = f"{node.public_url.replace('http:', 'https:', 1)}{target}"
    return Response(nginx_page(301), 301, "text/html", (("Location", location),))


def _too_many(_node: Node, _request: Request, rule: FaultRule) -> Response:
    after = str(rule.options.get("retry_after", 30))
    return Response(nginx_page(429), 429, "text/html", (("Retry-After", after),))


def _html(_node: Node, _request: Request, _rule: FaultRule) -> Response:
    page = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><p>It works!</p></body></html>\n"
    return Response(page, 200, "text/html;charset=utf-8")


def _empty(_node: Node, _request: Request, _rule: FaultRule) -> Response:
    return Response(b"")


REPLACEMENTS: dict[Fault, Replacement] = {
    Fault.HTTP_500: _status(500),
    Fault.HTTP_502: _status(502),
    Fault.HTTP_503: _status(503),
    Fault.HTTP_504: _status(504),
    Fault.HTTP_404: _status(404),
    Fault.REDIRECT_HTTPS: _redirect_https,
    Fault.HTTP_429: _too_many,
    Fault.HTML_200: _html,
    Fault.EMPTY_200: _empty,
}
"""Faults whose answer takes the place of the right one."""

_CODE = b"<returncode>SUCCESS</returncode>"
_ANY_CODE = re.compile(rb"<returncode>[^<]*</returncode>")
_NUMBER = re.compile(rb">([0-9]{4,})<")


def _body(change: Callable[[bytes, FaultRule], bytes]) -> Spoiler:
    def spoil(response: Response, rule: FaultRule) -> Response:
        if "xml" not in response.content_type:
            return response
        return attrs.evolve(response, body=change(response.body, rule))

    return spoil


def _after_code(body: bytes, addition: bytes) -> bytes:
    return body.replace(b"</returncode>", b"</returncode>" + addition, 1)


def _truncated(body: bytes, _rule: FaultRule) -> bytes:
    return body[: len(body) // 2]


def _control_character(body: bytes, _rule: FaultRule) -> bytes:
    return _after_code(body, b"<note>bell \x07 and more</note>")


def _broken_errors(_body: bytes, _rule: FaultRule) -> bytes:
    return (
        b"<response><returncode>FAILED</returncode><errors><error><key>nonUniqueVoiceBridge<key>"
        b"<message>The selected voice bridge is already in use.<message></error><errors></response>"
    )


def _no_returncode(body: bytes, _rule: FaultRule) -> bytes:
    return _ANY_CODE.sub(b"", body, count=1)


def _entity_bomb(body: bytes, _rule: FaultRule) -> bytes:
    entities = [b'<!ENTITY e0 "ha">']
    entities += [b'<!ENTITY e%d "%b">' % (level, b"&e%d;" % (level - 1) * 10) for level in range(1, 10)]
    head = b'<?xml version="1.0"?><!DOCTYPE response [%b]>' % b"".join(entities)
    return head + _after_code(body, b"<note>&e9;</note>")


def _external_entity(body: bytes, rule: FaultRule) -> bytes:
    path = str(rule.options.get("path", "/etc/passwd")).encode()
    head = b'<?xml version="1.0"?><!DOCTYPE response [<!ENTITY file SYSTEM "file://%b">]>' % path
    return head + _after_code(body, b"<note>&file;</note>")


def _latin1(body: bytes, _rule: FaultRule) -> bytes:
    return _after_code(body, "<note>Müller</note>".encode("latin-1"))


def _grouped(body: bytes, _rule: FaultRule) -> bytes:
    return _NUMBER.sub(lambda found: b">%b<" % f"{int(found[1]):,}".encode(), body)


def _unknown(body: bytes, _rule: FaultRule) -> bytes:
    extra = b'<nova version="9"><deep><deeper/></deep></nova>'
    return _after_code(body, extra).replace(b"</meeting>", extra + b"</meeting>")


def _lowercase(body: bytes, _rule: FaultRule) -> bytes:
    return body.replace(_CODE, _CODE.replace(b"SUCCESS", b"success"), 1)


def _wrong_type(response: Response, rule: FaultRule) -> Response:
    wanted = str(rule.options.get("content_type", "application/octet-stream"))
    return attrs.evolve(response, content_type=wanted)


def _gzip(response: Response, _rule: FaultRule) -> Response:
    packed = gzip.compress(response.body, mtime=0)
    return attrs.evolve(response, body=packed, headers=(*response.headers, ("Content-Encoding", "gzip")))


SPOILERS: dict[Fault, Spoiler] = {
    Fault.XML_BROKEN_ERRORS: _body(_broken_errors),
    Fault.XML_CONTROL_CHARACTER: _body(_control_character),
    Fault.XML_GROUPED_NUMBERS: _body(_grouped),
    Fault.XML_UNKNOWN_ELEMENTS: _body(_unknown),
    Fault.XML_LOWERCASE_RETURNCODE: _body(_lowercase),
    Fault.XML_LATIN1: _body(_latin1),
    Fault.XML_ENTITY_BOMB: _body(_entity_bomb),
    Fault.XML_EXTERNAL_ENTITY: _body(_external_entity),
    Fault.XML_NO_RETURNCODE: _body(_no_returncode),
    Fault.XML_TRUNCATED: _body(_truncated),
    Fault.WRONG_CONTENT_TYPE: _wrong_type,
    Fault.GZIP: _gzip,
}
"""Faults that spoil a right answer, in the order they are applied."""
