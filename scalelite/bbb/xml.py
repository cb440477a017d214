"""BBB's XML: the one hardened parser for what servers answer, the one writer for what clients get."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

import attrs
from lxml import etree

from scalelite.bbb.errors import BBBError

CONTENT_TYPE = b"text/xml; charset=utf-8"
MAX_TAGS = 500_000
"""Opening and closing tags in one answer; more than ten thousand attendees need.

A tree of tiny elements takes forty times the room of its text, and long to make.
"""

DECLARATION = b'<?xml version="1.0"?>\n'
_UTF8_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'

# One parser serves every answer: the reactor runs in one thread, and lxml resets it for each document.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False)


class NotBBB(Exception):
    """An answer that is no BBB XML: HTML, empty, truncated, with a DOCTYPE, or without a returncode."""


@attrs.frozen
class Answer:
    """A parsed answer of a BBB server: its `<response>` element, the code in it, and the bytes as they came."""

    root: etree._Element
    returncode: str
    raw: bytes = attrs.field(repr=False)

    @property
    def success(self) -> bool:
        """Whether the server carried the call out; any other code than exactly SUCCESS is a failure."""
        return self.returncode == "SUCCESS"

    def text(self, name: str) -> str | None:
        """Text of the direct child `name`; "" if the element is empty, None if there is none."""
        element = self.root.find(name)
        return None if element is None else (element.text or "")

    def document(self) -> bytes:
        """The whole answer again, in UTF-8 and without character references."""
        return _UTF8_DECLARATION + etree.tostring(self.root, encoding="UTF-8", xml_declaration=False) + b"\n"


def parse(body: bytes) -> Answer:
    """Parse a server's answer. Raises NotBBB if it is not a `<response>` with a returncode.

    Entities are never expanded and no document type is accepted, so an answer can't grow while it is read.
    """
    if body.count(b"<") > MAX_TAGS:
        raise NotBBB(f"it has more than {MAX_TAGS} tags")
    try:
        root = etree.fromstring(body, _PARSER)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise NotBBB(f"not XML: {error}") from None
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        raise NotBBB("it has a document type")
    if root.tag != "response":
        raise NotBBB(f"it is a <{root.tag}>, not a <response>")
    code = root.find("returncode")
    if code is None or not code.text:
        raise NotBBB("Response did not include returncode")
    return Answer(root, code.text, body)


def element(name: str, text: str) -> str:
    """One element with escaped text. Characters that XML 1.0 can't hold become U+FFFD."""
    return f"<{name}>{escape(printable(text))}</{name}>"


def printable(text: str) -> str:
    """`text` with every character that XML 1.0 can't hold replaced by U+FFFD."""
    if text.isprintable():
        return text
    return "".join(
        c if (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") or c in "\t\n\r" else "\ufffd"
        for c in text
    )


@lru_cache(maxsize=4096)
def is_element_name(name: str | None) -> bool:
    """Whether an XML element can be called so, by the strictest reading: XML 1.0's first editions, and no prefix."""
    if not name or len(name) > 255:
        return False
    seen: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda tag, attributes: seen.append(tag)
    try:
        parser.Parse(f"<{name}/>", True)
    except (expat.ExpatError, ValueError):
        return False
    return seen == [name]


def render(elements: Iterable[tuple[str, str]]) -> bytes:
    """A `<response>` of flat text elements, indented as Scalelite prints it."""
    lines = "".join(f"  {element(name, text)}\n" for name, text in elements)
    return DECLARATION + f"<response>\n{lines}</response>\n".encode()


def render_error(error: BBBError) -> bytes:
    """The FAILED answer that tells a client of `error`."""
    return render((("returncode", "FAILED"), ("messageKey", error.message_key), ("message", error.message)))


NO_MEETINGS = (
    DECLARATION + b"<response>\n  <returncode>SUCCESS</returncode>\n  <messageKey>noMeetings</messageKey>\n"
    b"  <message>no meetings were found on this server</message>\n  <meetings/>\n</response>\n"
)
NOT_RUNNING = render((("returncode", "SUCCESS"), ("running", "false")))
NO_RECORDINGS = (
    b"<response>\n  <returncode>SUCCESS</returncode>\n  <recordings>\n  </recordings>\n"
    b"  <messageKey>noRecordings</messageKey>\n"
    b"  <message>There are not recordings for the meetings</message>\n</response>\n"
)


def render_index(build_number: str | None) -> bytes:
    """The answer of the API root: the version of the API, and the build where one is configured."""
    build = (("build", build_number),) if build_number else ()
    return render((("returncode", "SUCCESS"), ("version", "2.0"), *build))


def render_meetings(meetings: Iterable[bytes]) -> bytes:
    """getMeetings' answer: `<meeting>` elements that are serialised already, in UTF-8."""
    return b"".join(
        (
            DECLARATION + b"<response>\n  <returncode>SUCCESS</returncode>\n  <meetings>\n",
            *meetings,
            b"  </meetings>\n</response>\n",
        )
    )
