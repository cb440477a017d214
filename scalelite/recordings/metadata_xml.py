"""A recording's metadata.xml: what BigBlueButton tells of one playback format of one recording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from lxml import etree

from scalelite.cluster.callbacks import MAX_MEETING_ID

#: Bytes. The longest ones list some thousand slides.
MAX_SIZE: Final = 8 * 1024 * 1024
MAX_TAGS: Final = 200_000
#: Characters of a key of metadata and of a tenant's id. They are in indexes, as is the meeting's id, and no entry of an
#: index can be longer than 2,704 bytes in PostgreSQL.
MAX_KEY: Final = 400
MAX_TENANT_ID: Final = 255

#: What record ids and formats are made of; they become parts of paths.
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")

STATES: Final = frozenset({"processing", "processed", "published", "unpublished", "deleted"})

_INT4: Final = 2**31 - 1
_EPOCH: Final = datetime(1970, 1, 1)
_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+)")
_COLUMNS: Final = frozenset({"isBreakout", "meetingId", "meetingName"})
#: Metadata, in lower case, that BigBlueButton repeats from `create` and that nobody is to read in a list of recordings.
PRIVATE_KEY: Final = re.compile(r"secret[-_].*|analytics-callback-url|endcallbackurl|.*-recording-ready-url")


class BadMetadata(Exception):
    """A metadata.xml that can't be used; the text says what is wrong with it."""


@attrs.frozen
class Thumbnail:
    """A preview image; `url` is a path."""

    width: int | None
    height: int | None
    alt: str | None
    url: str


@attrs.frozen
class FormatMetadata:
    """What a metadata.xml says. None: it says nothing of it, and what is stored stays.

    Times are UTC without a zone, `length` is in minutes, `url` is a path with query.
    """

    record_id: str
    meeting_id: str
    name: str | None
    published: bool | None
    state: str | None
    participants: int | None
    starttime: datetime | None
    endtime: datetime | None
    #: Without those that are columns of their own, and without secrets.
    meta: dict[str, str]
    format: str
    url: str | None
    length: int | None
    thumbnails: tuple[Thumbnail, ...]


def read_metadata(document: bytes) -> FormatMetadata:
    """What a metadata.xml says. Raises BadMetadata.

    Names that become parts of paths are checked; whether they are those of the folder is the caller's to check.
    """
    root = _parsed(document)
    meta = _child(root, "meta")
    playback = _child(root, "playback")
    return FormatMetadata(
        record_id=_path_name(root, "id", "id"),
        meeting_id=_short(_required(meta, "meetingId", "meta/meetingId"), MAX_MEETING_ID, "meta/meetingId"),
        name=_text(meta, "meetingName"),
        published=_published(root),
        state=_state(root),
        participants=_participants(root),
        starttime=_time(root, "start_time"),
        endtime=_time(root, "end_time"),
        meta=_meta(meta),
        format=_path_name(playback, "format", "playback/format"),
        url=_link(playback),
        length=_length(playback),
        thumbnails=tuple(_thumbnails(playback)),
    )


def without_secrets(document: bytes) -> bytes:
    """The document without the secrets in its `meta`; the same bytes if there are none.

    It is served with the recording, so what lists hide must not stand in it either. `read_metadata` has taken it.
    """
    root = _parsed(document)
    meta = _child(root, "meta")
    secrets = [element for element in meta.iterchildren(tag=etree.Element) if _is_private(element)]
    if not secrets:
        return document
    for element in secrets:
        meta.remove(element)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _is_private(element: etree._Element) -> bool:
    return PRIVATE_KEY.fullmatch(etree.QName(element).localname.lower()) is not None


def _parsed(document: bytes) -> etree._Element:
    if len(document) > MAX_SIZE:
        raise BadMetadata(f"it is longer than {MAX_SIZE} bytes")
    if document.count(b"<") > MAX_TAGS:
        raise BadMetadata(f"it has more than {MAX_TAGS} tags")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadMetadata(f"it is not XML: {error}") from None
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        raise BadMetadata("it has a document type")
    if root.tag != "recording":
        raise BadMetadata(f"it is a <{root.tag}>, not a <recording>")
    return root


def _child(parent: etree._Element, name: str) -> etree._Element:
    element = parent.find(name)
    if element is None:
        raise BadMetadata(f"it has no {name}")
    return element


def _content(element: etree._Element) -> str:
    """All text below an element."""
    return "".join(str(text) for text in element.itertext())


def _text(parent: etree._Element, name: str) -> str | None:
    element = parent.find(name)
    return None if element is None else _content(element)


def _stated(parent: etree._Element, name: str) -> str | None:
    """The trimmed text of a child; None if that is blank."""
    return (_text(parent, name) or "").strip() or None


def _required(parent: etree._Element, name: str, where: str) -> str:
    text = _text(parent, name)
    if text is None or not text.strip():
        raise BadMetadata(f"it has no {where}")
    return text


def _path_name(parent: etree._Element, name: str, where: str) -> str:
    text = _required(parent, name, where)
    if not NAME.fullmatch(text):
        raise BadMetadata(f"its {where} {text[:80]!r} is not made of letters, digits, _ and - only")
    return text


def _published(root: etree._Element) -> bool | None:
    text = _text(root, "published")
    return None if text is None or not text.strip() else text == "true"


def _state(root: etree._Element) -> str | None:
    state = _stated(root, "state")
    if state == "available":
        return "published"
    if state is not None and state not in STATES:
        raise BadMetadata(f"its state {state[:80]!r} is unknown")
    return state


def _participants(root: etree._Element) -> int | None:
    text = _stated(root, "participants")
    return None if text is None else _leading_integer(text, "participants")


def _leading_integer(text: str, where: str) -> int:
    """The integer that a text begins with, else 0."""
    found = _INTEGER.match(text)
    return 0 if found is None else _int4(found[1], where)


def _int4(digits: str, where: str) -> int:
    if len(digits) > 20 or abs(number := int(digits)) > _INT4:
        raise BadMetadata(f"its {where} is out of range")
    return number


def _time(root: etree._Element, name: str) -> datetime | None:
    text = _stated(root, name)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise BadMetadata(f"its {name} is no time in milliseconds")
    try:
        return _EPOCH + timedelta(milliseconds=int(text))
    except OverflowError:
        raise BadMetadata(f"its {name} is out of range") from None


def _meta(meta: etree._Element) -> dict[str, str]:
    found = {}
    for element in meta.iterchildren(tag=etree.Element):
        key = etree.QName(element).localname
        if key not in _COLUMNS and not _is_private(element):
            found[_short(key, MAX_KEY, "meta has a name that")] = _content(element)
    _short(found.get("tenant-id", ""), MAX_TENANT_ID, "meta/tenant-id")
    return found


def _short(text: str, limit: int, where: str) -> str:
    if len(text) > limit:
        raise BadMetadata(f"its {where} is longer than {limit} characters")
    return text


def _link(playback: etree._Element) -> str | None:
    link = _content(_child(playback, "link")).strip()
    if not link:
        return None
    path, query = _split(link, "playback/link")
    return f"{path}?{query}" if query else path


def _split(url: str, where: str) -> tuple[str, str]:
    """Path and query of an absolute URL."""
    if not url.isprintable() or " " in url:
        raise BadMetadata(f"its {where} is no URL")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadMetadata(f"its {where} is no URL") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise BadMetadata(f"its {where} is no absolute http or https URL")
    return parts.path, parts.query


def _length(playback: etree._Element) -> int | None:
    text = _stated(playback, "duration")
    if text is None:
        return None
    found = _INTEGER.match(text)
    if found is None:
        raise BadMetadata("its playback/duration is no number of milliseconds")
    if len(found[1]) > 20:
        raise BadMetadata("its playback/duration is out of range")
    milliseconds = int(found[1])
    # Half away from zero.
    minutes = (abs(milliseconds) * 2 + 60_000) // 120_000
    return _int4(str(minutes if milliseconds >= 0 else -minutes), "playback/duration")


def _thumbnails(playback: etree._Element) -> Iterator[Thumbnail]:
    for images in playback.findall("extensions/preview/images"):
        for image in images.iterchildren(tag=etree.Element):
            where = "preview image"
            width, height = (_attribute(image, name) for name in ("width", "height"))
            path, _ = _split(_content(image).strip(), where)
            yield Thumbnail(width, height, image.get("alt"), path)


def _attribute(image: etree._Element, name: str) -> int | None:
    text = image.get(name)
    return None if text is None else _leading_integer(text, f"preview image's {name}")
