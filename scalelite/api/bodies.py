"""Bodies of requests: which media types each action takes, and form fields."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import multipart

from scalelite.api.site import Request
from scalelite.bbb import query
from scalelite.bbb.errors import UnsupportedContentType
from scalelite.bbb.query import MalformedQuery, Params

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
FORMS: Final = frozenset((URLENCODED, MULTIPART))
XML: Final = frozenset(("application/xml", "text/xml", "application/x-xml"))
MAX_FORM: Final = 2 * 1024 * 1024
"""Bytes; as much as BBB itself takes."""


class Accepts(Enum):
    """The media types that an action takes in a body."""

    FORM = FORMS
    XML = XML
    FORM_OR_XML = FORMS | XML


def media_type(request: Request) -> str:
    """The media type of the body in lower case, without parameters; "" if none was sent."""
    values = request.requestHeaders.getRawHeaders(b"Content-Type")
    return values[0].partition(b";")[0].strip().lower().decode("latin-1") if values else ""


def read_body(request: Request, accepts: Accepts) -> tuple[Params, bytes]:
    """(form fields, XML body) of a POST; an empty body is never checked.

    Raises UnsupportedContentType, or MalformedQuery for a form that can't be parsed.
    """
    content = request.content
    if request.method != b"POST" or content is None:
        return {}, b""
    body: bytes = content.read()
    if not body:
        return {}, b""
    kind = media_type(request)
    if kind not in accepts.value:
        raise UnsupportedContentType
    if kind in XML:
        return {}, body if body.strip() else b""
    if len(body) > MAX_FORM:
        raise MalformedQuery("the form is too large")
    return (query.parse(body) if kind == URLENCODED else multipart_fields(request, body)), b""


def multipart_fields(request: Request, body: bytes) -> Params:
    """The text fields of a multipart form; files are left aside. Raises MalformedQuery."""
    fields: Params = {}
    for part in _parts(request, len(body)):
        if not part.filename and part.name:
            try:
                fields[part.name] = part.value
            except UnicodeDecodeError:
                raise MalformedQuery("a field is not UTF-8") from None
    if any("\0" in name or "\0" in (value or "") for name, value in fields.items()):
        raise MalformedQuery("NUL")
    return fields


def uploaded_file(request: Request, name: str) -> bytes | None:
    """The content of the file that a multipart form brings under `name`; None without. Raises MalformedQuery."""
    if media_type(request) != MULTIPART:
        return None
    length = request.content.seek(0, 2)
    if length > MAX_FORM:
        raise MalformedQuery("the form is too large")
    content: bytes | None = None
    for part in _parts(request, length):
        if part.name == name:
            content = part.raw
    return content


def _parts(request: Request, length: int) -> Iterator[Any]:
    header = request.requestHeaders.getRawHeaders(b"Content-Type", [b""])[0].decode("latin-1")
    _, options = multipart.parse_options_header(header)
    boundary = options.get("boundary")
    if not boundary:
        raise MalformedQuery("a multipart form without boundary")
    try:
        request.content.seek(0)
        parser = multipart.MultipartParser(
            request.content, boundary, content_length=length, charset="utf-8", strict=True,
            disk_limit=MAX_FORM, memory_limit=MAX_FORM, part_limit=query.MAX_PARAMETERS,
        )  # fmt: skip
        for part in parser:
            yield part
            part.close()
    except (multipart.MultipartError, UnicodeDecodeError) as error:
        raise MalformedQuery(f"a broken multipart form: {type(error).__name__}") from None
