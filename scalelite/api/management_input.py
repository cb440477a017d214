"""What a call of the REST API brings: parameters of its query and of its JSON body, and records within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson

from scalelite.admin.table import Actor
from scalelite.admin.text import LONGEST_VALUE, read_boolean, read_multiplier, value_fault
from scalelite.api.bodies import media_type
from scalelite.api.site import Request
from scalelite.bbb import query
from scalelite.bbb.errors import UnsupportedContentType
from scalelite.bbb.query import Params

JSON_TYPES: Final = frozenset(
    {"application/json", "text/x-json", "application/jsonrequest", "application/problem+json"}
)
MAX_BODY: Final = 1024 * 1024
"""Bytes; a record takes a thousandth of it."""
MAX_TEXT: Final = LONGEST_VALUE
"""Characters of a server's URL, secret or tag, at most."""


class Refusal(Exception):
    """The call is answered with a JSON object `{key: message}` and that HTTP status."""

    def __init__(self, status: int, message: str, key: str = "error") -> None:
        super().__init__(message)
        self.status = status
        self.key = key


def missing_record(name: str) -> str:
    """What is said where a whole record is missing."""
    return f"param is missing or the value is empty: {name}"


@attrs.frozen
class Call:
    """A call: who makes it, the parameters of the query, the JSON body as an object and as it came."""

    actor: Actor
    query: Params = attrs.field(repr=False)
    body: Mapping[str, Any] = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)

    def text(self, name: str) -> str | None:
        """A parameter; what the query says beats what the body says."""
        return self.query[name] if name in self.query else as_text(self.body.get(name))

    def flag(self, name: str, record: str = "") -> bool:
        """A switch, beside `record` or within it; false if it is absent. Raises Refusal for what is neither."""
        values = [self.query.get(name), self.body.get(name), (self.record(record) or {}).get(name) if record else None]
        given = [value for value in values if value is not None and value != ""]
        try:
            return bool(given) and (given[0] if isinstance(given[0], bool) else read_boolean(str(given[0])))
        except ValueError as error:
            raise Refusal(400, f"{name} must be {error}") from None

    def record(self, name: str) -> Mapping[str, Any] | None:
        """The object of that name; a body without it is the object itself. None if there is none, or an empty one."""
        fields = {
            key[len(name) + 1 : -1]: value
            for key, value in self.query.items()
            if key.startswith(f"{name}[") and key.endswith("]")
        }
        if fields:
            return fields
        found = self.body.get(name) if name in self.body else self.body
        return found if isinstance(found, Mapping) and found else None


def read_call(request: Request) -> Call:
    """What a request brings. Raises UnsupportedContentType, MalformedQuery, Refusal."""
    raw: bytes = request.content.read() if request.content is not None else b""
    is_json = media_type(request) in JSON_TYPES
    if raw and not is_json and request.method == b"POST":
        raise UnsupportedContentType
    params = query.parse(request.raw_query)
    return Call(_actor(request), params, _object(raw) if raw and is_json else {}, raw)


def _object(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > MAX_BODY:
        raise Refusal(413, "The request is too large.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refusal(400, "The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "The request body must be a JSON object")
    return body


def _actor(request: Request) -> Actor:
    """The caller: all that is known is where it calls from. What proxies say of it is told, not believed."""
    address = getattr(request.client, "host", "") or "a UNIX socket"
    forwarded = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [b""])[-1].decode("latin-1").strip()
    via = f" for {forwarded[:100]}" if forwarded and forwarded.isprintable() else ""
    return Actor("REST client", f"REST, {address}{via}")


# Fields of a record


def as_text(value: object) -> str | None:
    """A value as text: a number as it is written; None for what is no scalar, which counts as absent."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def printable(name: str, value: object) -> str | None:
    """A text that is to be stored, without blanks around it; None if it is absent.

    Raises Refusal for what no line could show, or is longer than such a text can be.
    """
    text = as_text(value)
    if text is None:
        return None
    text = text.strip()
    fault = value_fault(name, text)
    if fault is not None:
        raise Refusal(400, fault)
    return text


def multiplier(value: object) -> float | None:
    """A load multiplier; None if it is absent or blank, 0.0 if it is not readable.

    Raises Refusal for what is no scalar, and for a negative one.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = as_text(value)
    if text is None:
        raise Refusal(400, "Load-multiplier must be a number")
    number = read_multiplier(text)
    if number < 0:
        raise Refusal(400, "Load-multiplier must not be negative")
    return number
