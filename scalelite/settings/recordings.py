"""The settings of recordings: database, folders, importer, playback, notifications."""

# ruff: noqa: RUF009 - the calls declare fields, as attrs.field does; they are no shared defaults

from __future__ import annotations

from pathlib import Path

import attrs

from scalelite.settings import parse
from scalelite.settings.database_url import database_url_kind, sqlite_url
from scalelite.settings.doors import DoorSettings
from scalelite.settings.parse import Kind, decimal, whole
from scalelite.settings.variables import MIB, computed, setting_in

_database = setting_in("Database")
_recordings = setting_in("Recordings")
_importer = setting_in("Importer")
_playback = setting_in("Playback")
_callbacks = setting_in("Callbacks")

GIB = 1024 * MIB
_SCALELITE_ROOT = Path("/var/bigbluebutton")


def _folder(*parts: str) -> object:
    """Scalelite's folder in production, one below the data folder elsewhere."""

    def path(settings: RecordingSettings) -> Path:
        root = _SCALELITE_ROOT if settings.environment == "production" else settings.data_dir / "bigbluebutton"
        return root.joinpath(*parts)

    return computed(path)


def _default_serving(settings: RecordingSettings) -> bool:
    return settings.environment != "production"


def _default_private(settings: RecordingSettings) -> bool:
    return settings.environment != "production"


@attrs.frozen(kw_only=True)
class RecordingSettings(DoorSettings):
    """Settings of everything about recordings, those of the doors and the pool included."""

    #: None: `sqlite_file` in development, elsewhere no database.
    database_url: str | None = _database(
        "DATABASE_URL",
        database_url_kind,
        "The SQL database of recordings and callbacks.",
        default=None,
        default_text="in development the SQLite file `scalelite.sqlite3` in `SCALELITE_DATA_DIR`; elsewhere no "
        "database, and recording calls answer as with `RECORDING_DISABLED`",
        secret=True,
    )
    db_disabled: bool = _database(
        "DB_DISABLED",
        parse.boolean,
        "No database, whatever `DATABASE_URL` says: recording calls answer as with `RECORDING_DISABLED`.",
        default=False,
        note="Scalelite reads it, yet uses its database all the same.",
    )
    db_upgrade: bool = _database(
        "SCALELITE_DB_UPGRADE",
        parse.boolean,
        "Create or upgrade the database's tables at start; else `scalelite db:upgrade` does it.",
        default=True,
        ours=True,
    )
    db_pool: int = _database(
        "SCALELITE_DB_POOL", whole(1, 100), "Connections to the database, per process.", default=4, ours=True
    )
    db_timeout: float = _database(
        "SCALELITE_DB_TIMEOUT",
        decimal(0.1, 3600),
        "Wait for an answer of the database.",
        default=10.0,
        unit="seconds",
        ours=True,
    )
    prepared_statements: bool = _database(
        "PREPARED_STATEMENT",
        parse.boolean,
        "Prepare statements in PostgreSQL; `false` behind a pooler that shares connections between transactions.",
        default=True,
    )

    recording_disabled: bool = _recordings(
        "RECORDING_DISABLED", parse.boolean, "Recording calls answer as if there were none.", default=False
    )
    get_recordings_api_filtered: bool = _recordings(
        "GET_RECORDINGS_API_FILTERED",
        parse.boolean,
        "`getRecordings` needs a `meetingID` or `recordID`.",
        default=False,
    )
    meta_filter: str = _recordings(
        "SCALELITE_META_FILTER",
        Kind("`or` or `and`", parse.one_of("or", "and")),
        "Whether one of several `meta_` filters of `getRecordings` must fit, as in Scalelite, or all, as in "
        "BigBlueButton.",
        default="or",
        ours=True,
    )
    recording_publish_dir: Path = _recordings(
        "RECORDING_PUBLISH_DIR",
        parse.path_value,
        "Folder of published recordings, which nginx serves.",
        default=_folder("published"),
        default_text="`/var/bigbluebutton/published`; outside production `bigbluebutton/published` in "
        "`SCALELITE_DATA_DIR`",
    )
    recording_unpublish_dir: Path = _recordings(
        "RECORDING_UNPUBLISH_DIR",
        parse.path_value,
        "Folder of unpublished recordings, never served.",
        default=_folder("unpublished"),
        default_text="as above, `unpublished`",
    )
    protected_recordings_enabled: bool = _recordings(
        "PROTECTED_RECORDINGS_ENABLED",
        parse.boolean,
        "New recordings are protected, and protection is shown and checked.",
        default=False,
    )
    #: True where `S3_RECORDING` is set.
    s3_recording: bool = _recordings(
        "S3_RECORDING",
        Kind("any text; `false`, `no`, `off` and `0` mean no", parse.switched_on),
        "Keep the recordings' files in S3; region and credentials by AWS' own variables.",
        default=False,
        note="Scalelite takes every value, `false` as well, for yes.",
    )
    s3_bucket_name: str | None = _recordings(
        "S3_BUCKET_NAME", parse.text_value, "Bucket for `S3_RECORDING`.", default=None
    )

    import_enabled: bool = _importer(
        "SCALELITE_IMPORTER",
        parse.boolean,
        "Import recordings in this program; `false` where `scalelite recordings:watch` runs on its own.",
        default=True,
        ours=True,
    )
    recording_spool_dir: Path = _importer(
        "RECORDING_SPOOL_DIR",
        parse.path_value,
        "Folder into which BigBlueButton servers put recordings as tar files.",
        default=_folder("spool"),
        default_text="`/var/bigbluebutton/spool`; outside production `bigbluebutton/spool` in `SCALELITE_DATA_DIR`",
    )
    recording_work_dir: Path = _importer(
        "RECORDING_WORK_DIR",
        parse.path_value,
        "Folder in which they are unpacked; best on the same filesystem as the published ones.",
        default=_folder("recording", "scalelite"),
        default_text="as above, `recording/scalelite`",
    )
    recording_import_unpublished: bool = _importer(
        "RECORDING_IMPORT_UNPUBLISHED", parse.boolean, "New recordings are unpublished.", default=False
    )
    recording_import_poll_interval: float = _importer(
        "RECORDING_IMPORT_POLL_INTERVAL",
        decimal(0.1, 86_400),
        "Time from one look into the spool folder to the next.",
        default=60.0,
        unit="seconds",
        note="RECORDING_IMPORT_POLL is without effect, as in Scalelite.",
    )
    db_connection_retry_count: int = _importer(
        "DB_CONNECTION_RETRY_COUNT",
        whole(0, 1000),
        "How often an import is repeated at once after a failure of the database.",
        default=3,
        note="Scalelite repeats without end.",
    )
    import_workers: int = _importer(
        "SCALELITE_IMPORT_WORKERS", whole(1, 64), "Recordings imported at once.", default=2, ours=True
    )
    import_max_size: int = _importer(
        "SCALELITE_IMPORT_MAX_SIZE",
        whole(1024, 1024 * 1024 * GIB),
        "Most that one recording may unpack to.",
        default=64 * GIB,
        unit="bytes",
        ours=True,
    )
    import_max_files: int = _importer(
        "SCALELITE_IMPORT_MAX_FILES",
        whole(1, 10_000_000),
        "Most files that one recording may unpack to.",
        default=100_000,
        ours=True,
    )
    upload_enabled: bool = _importer(
        "SCALELITE_UPLOAD",
        parse.boolean,
        "Take recordings from BigBlueButton servers by HTTPS (docs/recordings.md).",
        default=False,
        ours=True,
    )
    upload_max_size: int = _importer(
        "SCALELITE_UPLOAD_MAX_SIZE",
        whole(1024, 1024 * 1024 * GIB),
        "Longest tar file taken by HTTPS.",
        default=32 * GIB,
        unit="bytes",
        ours=True,
    )

    recording_playback_formats: tuple[str, ...] = _playback(
        "RECORDING_PLAYBACK_FORMATS",
        parse.formats,
        "Formats that have playback routes.",
        default=("presentation", "video", "screenshare", "podcast", "notes", "capture"),
    )
    #: Minutes.
    protected_recordings_token_timeout: int = _playback(
        "PROTECTED_RECORDINGS_TOKEN_TIMEOUT",
        whole(1, 525_600),
        "How long a link to a protected recording may be followed.",
        default=60,
        unit="minutes",
    )
    #: Minutes.
    protected_recordings_timeout: int = _playback(
        "PROTECTED_RECORDINGS_TIMEOUT",
        whole(1, 525_600),
        "How long a protected recording may be watched then.",
        default=360,
        unit="minutes",
    )
    serve_recordings: bool = _playback(
        "SCALELITE_SERVE_RECORDINGS",
        parse.boolean,
        "Send the recordings' files ourselves, instead of telling nginx to (`X-Accel-Redirect`).",
        default=computed(_default_serving),
        default_text="`false` in production, else `true`",
        ours=True,
    )
    default_locale: str = _playback(
        "DEFAULT_LOCALE",
        parse.text_value,
        "Language of the page shown for a recording that is not there.",
        default="en",
    )
    cloudfront_url: str | None = _playback(
        "CLOUDFRONT_URL", parse.web_url, "CloudFront distribution that serves the recordings.", default=None
    )
    cf_key_pair_id: str | None = _playback(
        "CF_KEY_PAIR_ID",
        parse.text_value,
        "Id of the key that signs CloudFront's cookies; required with `CLOUDFRONT_URL`.",
        default=None,
    )
    cf_private_key_b64: str | None = _playback(
        "CF_PRIVATE_KEY_B64",
        parse.rsa_key,
        "That key; required with `CLOUDFRONT_URL`.",
        default=None,
        secret=True,
    )

    callback_hosts: frozenset[str] = _callbacks(
        "SCALELITE_CALLBACK_HOSTS",
        parse.names,
        "Hosts that front-ends may have called back, `*.example.com` with all below; unset: any.",
        default=frozenset(),
        ours=True,
    )
    callback_private: bool = _callbacks(
        "SCALELITE_CALLBACK_PRIVATE",
        parse.boolean,
        "Whether callbacks may go to private and loopback addresses.",
        default=computed(_default_private),
        default_text="`false` in production, else `true`",
        ours=True,
    )

    @property
    def effective_database_url(self) -> str | None:
        """The database to use: the one that is set, in development a file of ours, else None."""
        if self.db_disabled:
            return None
        if self.database_url is None and self.environment == "development":
            return sqlite_url(self.data_dir.absolute() / "scalelite.sqlite3")
        return self.database_url

    @property
    def recordings_enabled(self) -> bool:
        """Whether there are recordings at all: they are not switched off, and there is a database."""
        return not self.recording_disabled and self.effective_database_url is not None
