"""Text tracks of recordings (captions and subtitles): kept in the database, and beside the player that shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
from sqlalchemy import Connection, func, select

from scalelite.bbb.errors import RecordingsNotFound
from scalelite.recordings.changes import chosen, safe_part
from scalelite.recordings.database import Database
from scalelite.recordings.file_work import FileWork
from scalelite.recordings.sql import upsert
from scalelite.recordings.storage import Storage
from scalelite.recordings.tables import recordings, text_tracks
from scalelite.store.recording_tokens import RecordingTokens

KINDS: Final = ("subtitles", "captions")
#: Tracks that one recording may have.
MAX_TRACKS: Final = 100
MAX_LABEL: Final = 255

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}")
_NAME: Final = re.compile(r"(subtitles|captions)_([A-Za-z0-9-]{2,50})\.vtt")

# The player of this format asks for `captions.json`, a list of locales, and for each of them `caption_<locale>.vtt`.
_PLAYER: Final = "presentation"
_INDEX: Final = "captions.json"


class TooManyTracks(Exception):
    """The recording has as many text tracks as it may."""


@attrs.frozen
class Track:
    """A text track; `lang` is a language tag (`en`, `pt-BR`)."""

    kind: str
    lang: str
    label: str
    source: str = "upload"

    @property
    def name(self) -> str:
        """What the track is called in its URL."""
        return f"{self.kind}_{self.lang}.vtt"


@attrs.frozen
class Link:
    """A track, and its token: good once, for an hour or what is set for links of recordings."""

    track: Track
    token: str


def language(tag: str) -> str | None:
    """A language tag in its usual spelling; None if it is none."""
    if not _LANGUAGE.fullmatch(tag):
        return None
    first, *others = tag.split("-")
    spelled = [part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part.lower() for part in others]
    return "-".join((first.lower(), *spelled))


class TextTracks:
    """The text tracks of all recordings. Methods raise StoreError. `now` gives the time in UTC, without a zone."""

    def __init__(
        self,
        files: FileWork,
        database: Database,
        storage: Storage,
        tokens: RecordingTokens,
        now: Callable[[], datetime],
    ) -> None:
        self._files = files
        self._database = database
        self._storage = storage
        self._tokens = tokens
        self._now = now

    async def list(self, record_id: str, tenant_id: str | None) -> list[Link]:
        """The tracks of a recording. Raises RecordingsNotFound."""

        def read(connection: Connection) -> list[Track]:
            row_id = _row_id(connection, record_id, tenant_id)
            columns = text_tracks.c
            rows = connection.execute(
                select(columns.kind, columns.lang, columns.label, columns.source)
                .where(columns.recording_id == row_id)
                .order_by(columns.lang, columns.kind)
            )
            return [Track(*row) for row in rows]

        tracks = await self._database.read(read)
        tokens = await self._tokens.issue([(record_id, track.name) for track in tracks]) if tracks else []
        return [Link(track, token) for track, token in zip(tracks, tokens, strict=True)]

    async def put(self, record_id: str, tenant_id: str | None, track: Track, content: str) -> None:
        """Keep a track, in place of one of the same kind and language.

        Raises RecordingsNotFound, TooManyTracks and StorageError.
        """

        def work(connection: Connection) -> None:
            row_id = _row_id(connection, record_id, tenant_id, lock=True)
            columns = text_tracks.c
            others = connection.scalar(
                select(func.count())
                .select_from(text_tracks)
                .where(columns.recording_id == row_id, (columns.kind != track.kind) | (columns.lang != track.lang))
            )
            if (others or 0) >= MAX_TRACKS:
                raise TooManyTracks
            values = {
                "label": track.label, "source": track.source, "path": _file(track), "content": content,
                "created_at": self._now(),
            }  # fmt: skip
            insert = upsert(connection, text_tracks)
            connection.execute(
                insert.values(recording_id=row_id, kind=track.kind, lang=track.lang, **values).on_conflict_do_update(
                    index_elements=[columns.recording_id, columns.kind, columns.lang], set_=values
                )
            )
            if safe_part(record_id) and self._storage.write_file(_PLAYER, record_id, _file(track), content.encode()):
                index = _with_tracks(self._storage.read_file(_PLAYER, record_id, _INDEX), [track])
                self._storage.write_file(_PLAYER, record_id, _INDEX, index)

        await self._files.run(record_id, work, lambda: None)

    async def follow(self, token: str, record_id: str, name: str, *, spend: bool) -> str | None:
        """The WebVTT for a link that was not followed before, or has but been looked at; None for any other."""
        found = _NAME.fullmatch(name)
        good = self._tokens.spend if spend else self._tokens.holds
        if found is None or not await good(token, record_id, name):
            return None

        def read(connection: Connection) -> str | None:
            columns = text_tracks.c
            return connection.scalar(
                select(columns.content)
                .join(recordings, recordings.c.id == columns.recording_id)
                .where(recordings.c.record_id == record_id, columns.kind == found[1], columns.lang == found[2])
            )

        return await self._database.read(read)


def add_files(connection: Connection, record_id: str, folder: Path) -> None:
    """Put a recording's tracks into the folder of its format `presentation` that is about to be imported.

    Blocks. Raises OSError.
    """
    tracks = _with_contents(connection, record_id)
    if not tracks:
        return
    for track, content in tracks.items():
        (folder / _file(track)).write_text(content, encoding="utf-8")
    index = folder / _INDEX
    former = index.read_bytes() if index.is_file() and not index.is_symlink() else None
    index.write_bytes(_with_tracks(former, tracks))


def restore_files(connection: Connection, storage: Storage, record_id: str) -> None:
    """Write the files of a recording's tracks again, where it has files at all. Blocks. Raises StorageError."""
    tracks = _with_contents(connection, record_id)
    for track, content in tracks.items():
        if not storage.write_file(_PLAYER, record_id, _file(track), content.encode()):
            return
    if tracks:
        index = _with_tracks(storage.read_file(_PLAYER, record_id, _INDEX), tracks)
        storage.write_file(_PLAYER, record_id, _INDEX, index)


def _with_contents(connection: Connection, record_id: str) -> dict[Track, str]:
    columns = text_tracks.c
    rows = connection.execute(
        select(columns.kind, columns.lang, columns.label, columns.source, columns.content)
        .join(recordings, recordings.c.id == columns.recording_id)
        .where(recordings.c.record_id == record_id)
        .order_by(columns.created_at)
    )
    return {Track(*row[:4]): row.content for row in rows}


def _file(track: Track) -> str:
    return f"caption_{track.lang}.vtt"


def _with_tracks(index: bytes | None, tracks: Iterable[Track]) -> bytes:
    """The player's list of captions with these; what others put there stays."""
    try:
        known: Any = orjson.loads(index) if index else []
    except orjson.JSONDecodeError:
        known = []
    entries = {
        str(entry["locale"]): entry
        for entry in (known if isinstance(known, list) else [])
        if isinstance(entry, dict) and "locale" in entry
    }
    for track in tracks:
        entries[track.lang] = {"locale": track.lang, "localeName": track.label}
    return orjson.dumps(list(entries.values()))


def _row_id(connection: Connection, record_id: str, tenant_id: str | None, *, lock: bool = False) -> int:
    """Raises RecordingsNotFound."""
    query = select(recordings.c.id, recordings.c.state).where(*chosen([record_id], tenant_id))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or row.state == "deleted":
        raise RecordingsNotFound
    return int(row.id)
