"""Builds the parts of the recordings: all that needs the database. Everything is handed what it needs.

SQLAlchemy is imported where there is a database only: it takes a while.
"""

from __future__ import annotations

import hmac
import secrets
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.application.service import IService
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from scalelite.recordings.folders import FolderStorage
from scalelite.recordings.storage import Storage, StorageError
from scalelite.settings import Settings
from scalelite.store.connection import Redis
from scalelite.store.errors import StoreError, StoreUnavailable
from scalelite.store.recording_tokens import RecordingTokens
from scalelite.store.servers import ServerStore

if TYPE_CHECKING:
    from scalelite.api.admission import Admission
    from scalelite.api.playback import FileSender, Playback
    from scalelite.api.playback_files import RecordingFiles
    from scalelite.api.playback_players import Players
    from scalelite.api.recordings import RecordingsAPI
    from scalelite.api.uploads import Uploads
    from scalelite.recordings.bucket import Bucket, Patience
    from scalelite.recordings.database import Database
    from scalelite.recordings.playback_lookup import PlaybackLookup
    from scalelite.recordings.schema_service import SchemaService
    from scalelite.recordings.uploads import UploadFolder

#: Seconds that the health check waits for the database, at most: whoever asks has not got much more.
PROBE_DEADLINE: Final = 3.0

_log = Logger()


@attrs.frozen
class Archive:
    """What the parts of the recordings share; each process has its own."""

    reactor: Any
    settings: Settings
    redis: Redis
    database: Database
    #: Makes the database's tables, and holds the database until they are there.
    schema: SchemaService
    tokens: RecordingTokens
    storage: Storage
    #: Must be told of recordings that change.
    lookup: PlaybackLookup

    async def probe(self) -> None:
        """Ask the database for an answer. Raises StoreUnavailable, which tells the public no more than that."""
        from scalelite.recordings.database import probe

        try:
            await self.database.read(probe, deadline=min(PROBE_DEADLINE, self.settings.db_timeout))
        except StoreError as error:
            _log.error("the database cannot be used: {error}", error=str(error))
            raise StoreUnavailable("the database cannot be used; the log says why") from error


def build_archive(reactor: Any, settings: Settings, redis: Redis) -> Archive | None:
    """The archive; None where there is no database. Nothing is connected yet. Raises StoreError."""
    url = settings.effective_database_url
    if url is None:
        return None
    from scalelite.recordings.playback_lookup import PlaybackLookup

    if settings.database_url is None:
        # The file of development is ours, and so is its folder.
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"SCALELITE_DATA_DIR={settings.data_dir} cannot be used: {error}") from error
    database = open_database(reactor, settings, url)
    return Archive(
        reactor,
        settings,
        redis,
        database,
        _schema(reactor, settings, url, database),
        RecordingTokens(redis, settings.redis.prefix, settings.protected_recordings_token_timeout),
        recording_storage(settings),
        PlaybackLookup(database, reactor, deadline=settings.db_timeout),
    )


def open_database(reactor: Any, settings: Settings, url: str) -> Database:
    """The database at `url`, which has yet to be started; whether it has its tables is not looked at."""
    from scalelite.recordings.database import Database
    from scalelite.recordings.engines import open_engine

    engine = open_engine(url, pool=settings.db_pool, timeout=settings.db_timeout, prepare=settings.prepared_statements)
    return Database(reactor, engine, settings.db_pool, settings.db_timeout)


def _schema(reactor: Any, settings: Settings, url: str, database: Database) -> SchemaService:
    from scalelite.recordings.schema_service import SchemaService
    from scalelite.recordings.upgrade import Upgrade

    def tell(text: str) -> None:
        reactor.callFromThread(_log.info, "{text}", text=text)

    def upgrade(usable: Callable[[], None]) -> Upgrade:
        return Upgrade(url, timeout=settings.db_timeout, tell=tell, usable=usable)

    return SchemaService(reactor, database, upgrade if settings.db_upgrade else None)


def recording_storage(settings: Settings) -> Storage:
    """Where the recordings' files are kept. Raises StoreError."""
    if settings.s3_recording:
        from scalelite.recordings.bucket import STORING
        from scalelite.recordings.s3 import S3Storage

        return S3Storage(_bucket(settings, STORING))
    return FolderStorage(settings.recording_publish_dir, settings.recording_unpublish_dir)


def _bucket(settings: Settings, patience: Patience) -> Bucket:
    from scalelite.recordings.bucket import Bucket, NoBoto

    assert settings.s3_bucket_name is not None
    try:
        return Bucket.open(settings.s3_bucket_name, patience)
    except (NoBoto, StorageError) as error:
        raise StoreError(str(error)) from error


def shared_services(archive: Archive) -> list[IService]:
    """What runs in every process that serves clients, in the order of its start."""
    return [archive.database, archive.schema]


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
        files=_sender(archive),
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


def _sender(archive: Archive) -> FileSender | None:
    """What sends files; None where nginx does, which it can't from S3."""
    settings = archive.settings
    if settings.s3_recording:
        from scalelite.api.playback_s3 import S3Files
        from scalelite.recordings.bucket import PLAYING

        return S3Files(_bucket(settings, PLAYING), _in_thread(archive))
    return _files(archive, settings.recording_publish_dir) if settings.serve_recordings else None


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
