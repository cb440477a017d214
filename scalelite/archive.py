"""Builds the parts of the recordings: all that needs the database. Everything is handed what it needs.

SQLAlchemy is imported where there is a database only: it takes a while.
"""

from __future__ import annotations

import hmac
import secrets
import shutil
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService
from twisted.internet.threads import deferToThreadPool

from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.storage import Storage
from scalelite.settings import Settings
from scalelite.store.connection import Redis
from scalelite.store.recording_tokens import RecordingTokens
from scalelite.store.servers import ServerStore

if TYPE_CHECKING:
    from scalelite.api.admission import Admission
    from scalelite.api.playback import Playback
    from scalelite.api.playback_files import RecordingFiles
    from scalelite.api.playback_players import Players
    from scalelite.api.recordings import RecordingsAPI
    from scalelite.api.uploads import Uploads
    from scalelite.recordings.database import Database
    from scalelite.recordings.playback_lookup import PlaybackLookup
    from scalelite.recordings.uploads import UploadFolder


@attrs.frozen
class Archive:
    """What the parts of the recordings share; each process has its own."""

    reactor: Any
    settings: Settings
    redis: Redis
    database: Database
    tokens: RecordingTokens
    storage: Storage
    #: Must be told of recordings that change.
    lookup: PlaybackLookup


def build_archive(reactor: Any, settings: Settings, redis: Redis) -> Archive | None:
    """The archive; None where there is no database. Nothing is connected yet."""
    if settings.effective_database_url is None:
        return None
    from scalelite.recordings.playback_lookup import PlaybackLookup

    database = _database(reactor, settings, settings.effective_database_url)
    return Archive(
        reactor,
        settings,
        redis,
        database,
        RecordingTokens(redis, settings.redis.prefix, settings.protected_recordings_token_timeout),
        recording_storage(settings),
        PlaybackLookup(database, reactor, deadline=settings.db_timeout),
    )


def _database(reactor: Any, settings: Settings, url: str) -> Database:
    from scalelite.recordings.database import Database, open_engine

    engine = open_engine(url, pool=settings.db_pool, timeout=settings.db_timeout, prepare=settings.prepared_statements)
    return Database(reactor, engine, settings.db_pool, settings.db_timeout)


def recording_storage(settings: Settings) -> Storage:
    """Where the recordings' files are kept."""
    return FolderStorage(settings.recording_publish_dir, settings.recording_unpublish_dir)


def shared_services(archive: Archive) -> list[IService]:
    """What runs in every process that serves clients, in the order of its start."""
    return [archive.database]


def leading_services(archive: Archive) -> list[IService]:
    """What runs in the first process only, beside the poller: it may elect a leader among several instances."""
    if not (archive.settings.recordings_enabled and archive.settings.upload_enabled):
        return []
    from scalelite.recordings.upload_sweeper import UploadSweeper

    folder = _upload_folder(archive.settings)
    return [UploadSweeper(archive.reactor, partial(_in_thread(archive), folder.sweep))]


def uploads(archive: Archive, servers: ServerStore) -> Uploads | None:
    """The routes by which BBB servers send recordings; None where they are switched off."""
    from scalelite.api.uploads import UploadRules, Uploads

    settings = archive.settings
    if not settings.upload_enabled:
        return None
    return Uploads(
        servers,
        _upload_folder(settings),
        _in_thread(archive),
        archive.reactor,
        time.time,
        UploadRules(settings.upload_max_size, settings.request_timeout),
    )


def _upload_folder(settings: Settings) -> UploadFolder:
    from scalelite.recordings.uploads import UploadFolder

    return UploadFolder(settings.recording_spool_dir, time.time, lambda folder: shutil.disk_usage(folder).free)


def _in_thread(archive: Archive) -> Any:
    return partial(deferToThreadPool, archive.reactor, archive.reactor.getThreadPool())


def playback(archive: Archive, admission: Admission) -> Playback:
    """The routes of playback."""
    from scalelite.api.playback import Playback, PlaybackRules
    from scalelite.api.playback_pages import playback_pages
    from scalelite.recordings.cookies import PlaybackCookies

    settings = archive.settings
    cloudfront = None
    if settings.cloudfront_url and settings.cf_key_pair_id and settings.cf_private_key_b64:
        # The library takes a while to import.
        from scalelite.recordings.cloudfront import CloudFront, read_key

        key = read_key(settings.cf_private_key_b64)
        cloudfront = CloudFront(settings.cloudfront_url, settings.cf_key_pair_id, key, time.time)
    return Playback(
        archive.lookup,
        archive.tokens,
        PlaybackCookies(_cookie_key(settings), settings.protected_recordings_timeout, time.time),
        admission,
        playback_pages(settings.default_locale),
        PlaybackRules(
            settings.recording_playback_formats,
            settings.protected_recordings_enabled,
            secure_only=settings.environment == "production",
        ),
        files=_files(archive, settings.recording_publish_dir) if settings.serve_recordings else None,
        cloudfront=cloudfront,
    )


def players(archive: Archive) -> Players | None:
    """The routes of the players' pages; None where nginx sends them."""
    from scalelite.api.playback_pages import playback_pages
    from scalelite.api.playback_players import Players

    settings = archive.settings
    if not settings.serve_recordings:
        return None
    return Players(_files(archive, settings.recording_publish_dir.parent), playback_pages(settings.default_locale))


def _files(archive: Archive, folder: Path) -> RecordingFiles:
    from scalelite.api.playback_files import RecordingFiles

    def in_thread(work: Any, *args: Any) -> Any:
        return deferToThreadPool(archive.reactor, archive.reactor.getThreadPool(), work, *args)

    return RecordingFiles(folder.absolute(), in_thread)


def _cookie_key(settings: Settings) -> bytes:
    """SECRET_KEY_BASE, which production insists on; else one that all processes can make, or a key of this one's."""
    if settings.secret_key_base:
        return settings.secret_key_base.encode("utf-8", "surrogateescape")
    if settings.loadbalancer_secrets:
        return hmac.digest(settings.loadbalancer_secrets[0], b"playback cookies", "sha256")
    return secrets.token_bytes(32)


def recordings_api(archive: Archive, admission: Admission) -> RecordingsAPI:
    """The BBB API's actions on recordings."""
    from scalelite.api.recordings import RecordingRules, RecordingsAPI
    from scalelite.api.text_tracks import TextTracksAPI
    from scalelite.recordings.changes import RecordingChanges
    from scalelite.recordings.file_work import FileWork
    from scalelite.recordings.listing import RecordingLister
    from scalelite.recordings.text_tracks import TextTracks

    settings, database = archive.settings, archive.database
    files = FileWork(archive.reactor, database)

    def now() -> datetime:
        return datetime.now(UTC).replace(tzinfo=None)

    return RecordingsAPI(
        admission,
        RecordingLister(database, archive.tokens, show_protected=settings.protected_recordings_enabled),
        RecordingChanges(files, database, archive.storage, now, archive.lookup.invalidate),
        TextTracksAPI(admission, TextTracks(files, database, archive.storage, archive.tokens, now)),
        RecordingRules(settings.get_recordings_api_filtered, settings.meta_filter == "and"),
    )
