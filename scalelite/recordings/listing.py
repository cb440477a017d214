"""getRecordings' answer: rows rendered to bytes, all at once or in slices."""

from __future__ import annotations

import re
from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import quote

import attrs

from scalelite.bbb.xml import NO_RECORDINGS, is_element_name, printable
from scalelite.recordings.database import Database
from scalelite.recordings.fetching import Fetch, Row
from scalelite.recordings.metadata_xml import PRIVATE_KEY
from scalelite.recordings.queries import RecordingQueries, Rows
from scalelite.recordings.selection import Page, Selection
from scalelite.store.recording_tokens import RecordingTokens

#: Recordings that are read and rendered at once; more are sent in slices.
SLICE: Final = 200
_HEAD: Final = b"<response>\n  <returncode>SUCCESS</returncode>\n  <recordings>\n"
_TAIL: Final = b"  </recordings>\n</response>\n"
_TO_ESCAPE: Final = re.compile("[&<>\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_EPOCH: Final = datetime(1970, 1, 1)
_MILLISECOND: Final = timedelta(milliseconds=1)


@attrs.frozen
class View:
    """How the caller sees recordings: URLs begin with `prefix`; whether `<protected>` is shown."""

    prefix: str
    show_protected: bool


@attrs.frozen
class Rendered:
    """Rendered recordings: `pieces`, and between each two of them the token for one of `links` (record id, format)."""

    pieces: list[bytes]
    links: list[tuple[str, str]]

    def document(self, tokens: Sequence[str]) -> bytes:
        """The whole, with one token for each link."""
        parts = [self.pieces[0]]
        for token, piece in zip(tokens, self.pieces[1:], strict=True):
            parts += (token.encode(), piece)
        return b"".join(parts)


class RecordingLister:
    """Answers getRecordings. All work with rows is done in the database's threads."""

    def __init__(
        self, database: Database, tokens: RecordingTokens, *, show_protected: bool, slice_size: int = SLICE
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._show_protected = show_protected
        self._slice = slice_size

    async def list(self, selection: Selection, page: Page | None, prefix: str) -> bytes | AsyncGenerator[bytes, None]:
        """The document, in parts if it is long; URLs in it begin with `prefix`. Raises StoreError.

        The parts are read one by one as they are asked for, each in a transaction of its own: what changes meanwhile
        may be in it or not.
        """
        view = View(prefix, self._show_protected)
        tenants = self._database.complete
        if page is not None:
            rendered, total = await self._database.fetch(
                lambda fetch: _page(RecordingQueries(fetch, tenants=tenants), selection, page, view)
            )
            recordings = await self._with_tokens(rendered) if rendered else None
            return _document(recordings, b"  <totalElements>%d</totalElements>\n" % total)
        size = self._slice
        rendered, rest = await self._database.fetch(
            lambda fetch: _beginning(RecordingQueries(fetch, tenants=tenants), selection, size, view)
        )
        first = await self._with_tokens(rendered) if rendered else None
        if not rest:
            return _document(first)
        return self._parts(selection, view, first or b"", rest)

    async def _parts(
        self, selection: Selection, view: View, first: bytes, rest: array[int]
    ) -> AsyncGenerator[bytes, None]:
        yield _HEAD + first
        for start in range(0, len(rest), self._slice):
            ids = rest[start : start + self._slice]
            rendered = await self._database.fetch(partial(_slice, ids=ids, selection=selection, view=view))
            if rendered is not None:
                yield await self._with_tokens(rendered)
        yield _TAIL

    async def _with_tokens(self, rendered: Rendered) -> bytes:
        tokens = await self._tokens.issue(rendered.links) if rendered.links else ()
        return rendered.document(tokens)


def _page(queries: RecordingQueries, selection: Selection, page: Page, view: View) -> tuple[Rendered | None, int]:
    found = queries.find(selection, limit=page.limit, offset=page.offset)
    return render(queries.rows(found.ids, selection), view), found.total


def _beginning(
    queries: RecordingQueries, selection: Selection, size: int, view: View
) -> tuple[Rendered | None, array[int]]:
    """The first recordings rendered, and the row ids of all others: eight bytes each."""
    ids = queries.find(selection).ids
    return render(queries.rows(ids[:size], selection), view), array("q", ids[size:])


def _slice(fetch: Fetch, *, ids: Sequence[int], selection: Selection, view: View) -> Rendered | None:
    """Others rendered; what was deleted meanwhile is not shown."""
    return render(RecordingQueries(fetch, tenants=False).rows(ids, selection), view)


def _document(recordings: bytes | None, after: bytes = b"") -> bytes:
    if recordings is None:
        return NO_RECORDINGS.replace(b"</response>", after + b"</response>") if after else NO_RECORDINGS
    return b"".join((_HEAD, recordings, b"  </recordings>\n", after, b"</response>\n"))


def render(rows: Rows, view: View) -> Rendered | None:
    """The `<recording>` elements; None if there are none."""
    if not rows.recordings:
        return None
    metadata = _grouped(rows.metadata)
    formats = _grouped(rows.formats)
    pieces: list[bytes] = []
    links: list[tuple[str, str]] = []
    out: list[str] = []
    for row in rows.recordings:
        row_id, record_id, meeting_id, name, published, protected, state, start, end, participants = row
        shown_id = _text(record_id)
        out.append(
            f"    <recording>\n      <recordID>{shown_id}</recordID>\n"
            f"      <meetingID>{_text(meeting_id)}</meetingID>\n"
            f"      <internalMeetingID>{shown_id}</internalMeetingID>\n"
        )
        out.append("      <name/>\n" if name is None else f"      <name>{_text(name)}</name>\n")
        out.append(f"      <published>{'true' if published else 'false'}</published>\n")
        if view.show_protected:
            out.append(f"      <protected>{'true' if protected else 'false'}</protected>\n")
        if state is not None:
            out.append(f"      <state>{_text(state)}</state>\n")
        out.append(
            f"      <startTime>{_milliseconds(start)}</startTime>\n      <endTime>{_milliseconds(end)}</endTime>\n"
        )
        if participants is not None:
            out.append(f"      <participants>{participants}</participants>\n")
        out.append("      <metadata>\n")
        for _, key, value in metadata.get(row_id, ()):
            if _is_shown(key):
                if value is None or not value or value.isspace():
                    out.append(f"        <{key}>\n          <![CDATA[]]>\n        </{key}>\n")
                else:
                    out.append(f"        <{key}>{_text(value)}</{key}>\n")
        out.append("      </metadata>\n      <playback>\n")
        shown = None
        images: list[str] = []
        for _, format_id, kind, url, length, processing_time, image_id, alt, width, height, image in formats.get(
            row_id, ()
        ):
            if format_id != shown:
                if shown is not None:
                    out += (*_preview(images), "        </format>\n")
                    images = []
                shown = format_id
                out.append(f"        <format>\n          <type>{_text(kind)}</type>\n")
                if protected:
                    link = f"{view.prefix}/recording/{quote(record_id, '')}/{quote(kind, '')}"
                    pieces.append("".join((*out, f"          <url>{_text(link)}?token=")).encode())
                    links.append((record_id, kind))
                    out = ["</url>\n"]
                elif url is None:
                    out.append("          <url/>\n")
                else:
                    out.append(f"          <url>{_text(view.prefix + url)}</url>\n")
                out.append("          <length/>\n" if length is None else f"          <length>{length}</length>\n")
                if processing_time is not None:
                    out.append(f"          <processingTime>{processing_time}</processingTime>\n")
            if image_id is not None and not protected:
                images.append(
                    f'              <image alt="{_attribute(alt)}" width="{"" if width is None else width}" '
                    f'height="{"" if height is None else height}">{_text(view.prefix + (image or ""))}</image>\n'
                )
        if shown is not None:
            out += (*_preview(images), "        </format>\n")
        out.append("      </playback>\n    </recording>\n")
    pieces.append("".join(out).encode())
    return Rendered(pieces, links)


@lru_cache(maxsize=4096)
def _is_shown(key: str | None) -> bool:
    """Whether metadata of that key is for everybody, and can be shown at all."""
    return key is not None and is_element_name(key) and PRIVATE_KEY.fullmatch(key.lower()) is None


def _preview(images: list[str]) -> tuple[str, ...]:
    if not images:
        return ()
    return ("          <preview>\n            <images>\n", *images, "            </images>\n          </preview>\n")


def _grouped(rows: Sequence[Row]) -> Mapping[int, Sequence[Row]]:
    """Rows by their first column."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        group = groups.get(row[0])
        if group is None:
            groups[row[0]] = [row]
        else:
            group.append(row)
    return groups


def _text(value: str | None) -> str:
    if value is None:
        return ""
    if _TO_ESCAPE.search(value) is None:
        return value
    return printable(value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _attribute(value: str | None) -> str:
    return _text(value).replace('"', "&quot;")


def _milliseconds(time: Any) -> int:
    """Milliseconds since 1970 of what a driver gives for a time (UTC): a datetime, or text from SQLite; 0 for none."""
    if time is None:
        return 0
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return int((time - _EPOCH) // _MILLISECOND)
