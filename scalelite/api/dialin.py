"""Dial-in: what FreeSWITCH (mod_xml_curl) asks about a telephone call, answered with a dialplan."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from twisted.logger import Logger

from scalelite.api.bodies import MAX_FORM, MULTIPART, URLENCODED, media_type, multipart_fields
from scalelite.api.replies import NO_CACHE, Reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb import query
from scalelite.bbb.query import MalformedQuery, Params
from scalelite.cluster import dialin
from scalelite.cluster.dialin import Prompts
from scalelite.store.dialin import DialInStore, PinVerdict
from scalelite.store.errors import StoreError

PATH: Final = "/fsapi"
USER: Final = b"fsapi"
_XML: Final = b"application/xml; charset=utf-8"
_DENIED: Final = b"HTTP Basic: Access denied.\n"

_DESTINATION: Final = "Caller-Destination-Number"
_NAME: Final = "Caller-Caller-ID-Name"
_NUMBER: Final = "Caller-Caller-ID-Number"
_HIDE_NAME: Final = "Caller-Privacy-Hide-Name"
_HIDE_NUMBER: Final = "Caller-Privacy-Hide-Number"
_CALL: Final = "Unique-ID"
_FIELDS: Final = frozenset(("section", "variable_pin", _DESTINATION, _NAME, _NUMBER, _HIDE_NAME, _HIDE_NUMBER, _CALL))


class DialIn:
    """The route. An empty `password` lets everybody in; `realm` is the name that a refused client is told."""

    _log = Logger()

    def __init__(self, store: DialInStore, prompts: Prompts, password: bytes, realm: str | None) -> None:
        self._store = store
        self._prompts = prompts
        self._credentials = USER + b":" + password if password else None
        denied = (b"WWW-Authenticate", f'Basic realm="{realm or "scalelite"}"'.encode())
        self._denied = Reply(_DENIED, 401, b"text/plain; charset=utf-8", (denied, *NO_CACHE))

    def register(self, routes: Routes) -> None:
        """Add the route."""
        routes.add(PATH, ("POST",), self.answer)

    async def answer(self, request: Request) -> Reply:
        """The dialplan of a call. FreeSWITCH gets its own kind of document whatever happens."""
        if not self._admits(request):
            request.note = "denied"
            return self._denied
        try:
            fields = _fields(request)
        except MalformedQuery:
            return _rejected(request, "malformed", 400)
        if fields is None:
            return _rejected(request, "content type", 415)
        destination = _text(fields, _DESTINATION)
        if fields.get("section") != "dialplan" or not destination.strip() or len(destination) > dialin.MAX_DESTINATION:
            return _rejected(request, "no dialplan")
        pin = _text(fields, "variable_pin")
        if not pin.strip():
            request.note = "prompt"
            return _dialplan(dialin.prompt(destination, self._prompts))
        try:
            return await self._connect(request, fields, destination, pin)
        except StoreError as error:
            self._log.error("the store failed a dial-in: {error}", error=error)
            return _rejected(request, "store", 503)

    async def _connect(self, request: Request, fields: Params, destination: str, pin: str) -> Reply:
        verdict, found = await self._store.find(dialin.lookup_numbers(pin), _callers(fields))
        if verdict is PinVerdict.LOCKED:
            self._log.warn("dial-in refused: too many wrong PINs")
            return _rejected(request, "locked")
        if found is None:
            request.note = "reprompt"
            return _dialplan(dialin.reprompt(destination, self._prompts))
        host = dialin.sip_host(found.host.url) if found.host is not None else None
        if host is None:
            server_id = found.meeting.server_id
            self._log.error("dial-in failed: no server {id} to be called, or no host in its URL", id=server_id)
            return _rejected(request, "no server", 500)
        request.note = found.meeting.server_id
        name = dialin.shown_name(
            _text(fields, _NAME), hide_name=_is_true(fields, _HIDE_NAME), hide_number=_is_true(fields, _HIDE_NUMBER)
        )
        return _dialplan(dialin.bridge(destination, found.meeting.id, name, pin, host))

    def _admits(self, request: Request) -> bool:
        if self._credentials is None:
            return True
        values = request.requestHeaders.getRawHeaders(b"Authorization") or [b""]
        scheme, _, encoded = values[0].strip().partition(b" ")
        if len(values) > 1 or scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, self._credentials)


def _fields(request: Request) -> Params | None:
    """The fields that matter, of query and form; what can't be decoded is left out. None for another kind of body.

    FreeSWITCH sends some hundred variables of the call, some with what a foreign exchange made of a name: no call
    may fail by those. Raises MalformedQuery for a form that is too large or has no form at all.
    """
    body = request.content.read()
    fields = _decoded(request.raw_query)
    if not body:
        return fields
    if len(body) > MAX_FORM:
        raise MalformedQuery("the form is too large")
    kind = media_type(request)
    if kind == URLENCODED:
        return {**_decoded(body), **fields}
    if kind == MULTIPART:
        return {**multipart_fields(request, body), **fields}
    return None


def _decoded(raw: bytes) -> Params:
    fields: Params = {}
    for piece in raw.split(b"&"):
        name = piece.partition(b"=")[0]
        if len(name) <= 100:
            try:
                parsed = query.parse(piece)
            except MalformedQuery:
                continue
            fields.update((name, value) for name, value in parsed.items() if name in _FIELDS)
    return fields


def _callers(fields: Params) -> list[str]:
    """By what a caller is known: the call, and the number unless it is withheld."""
    call, number = _text(fields, _CALL), _text(fields, _NUMBER)
    digits = "".join(c for c in number if c.isdecimal())
    return [*([f"call {call}"] if call else []), *([f"number {digits}"] if digits else [])]


def _text(fields: Params, name: str) -> str:
    return fields.get(name) or ""


def _is_true(fields: Params, name: str) -> bool:
    return fields.get(name) == "true"


def _dialplan(document: bytes) -> Reply:
    return Reply(document, 200, _XML)


def _rejected(request: Request, note: str, status: int = 200) -> Reply:
    request.note = note
    return Reply(dialin.REJECT, status, _XML)
