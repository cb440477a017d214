"""A database as Scalelite 1.8 leaves it, in both variants that are found, written from its schema's description."""

from __future__ import annotations

from sqlalchemy import text

from scalelite.recordings.engines import open_engine

#: How `recordings` came to be: by `db:schema:load`, or by `db:migrate` on a database that was there before.
VARIANTS = ("schema_load", "migrations")

_FLAGS = {
    "schema_load": dict.fromkeys(("published", "protected", "publish_updated"), "boolean DEFAULT false NOT NULL"),
    "migrations": {"published": "boolean", "protected": "boolean", "publish_updated": "boolean DEFAULT false"},
}
VERSIONS = ("20181123180008", "20210425184558", "20210630205630", "20210725200414", "20221111194252", "20230627141045")


def scalelite_statements(engine: str, variant: str) -> list[str]:
    """The statements that make it."""
    flags = _FLAGS[variant]
    if engine == "postgresql":
        key, string, moment, precise = "bigserial PRIMARY KEY", "character varying", "timestamp", "timestamp(6)"
    else:
        key, string, moment, precise = (
            "integer PRIMARY KEY AUTOINCREMENT NOT NULL",
            "varchar",
            "datetime",
            "datetime(6)",
        )
    loaded = [f"INSERT INTO ar_internal_metadata VALUES ('schema_sha1', 'c0ffee', '{_DAY}', '{_DAY}')"]
    return [
        f"CREATE TABLE recordings (id {key}, record_id {string}, meeting_id {string}, name {string}, "
        f"published {flags['published']}, participants integer, state {string}, starttime {moment}, endtime {moment}, "
        f"deleted_at {moment}, protected {flags['protected']}, publish_updated {flags['publish_updated']})",
        "CREATE UNIQUE INDEX index_recordings_on_record_id ON recordings (record_id)",
        "CREATE INDEX index_recordings_on_meeting_id ON recordings (meeting_id)",
        f"CREATE TABLE metadata (id {key}, recording_id bigint, key {string}, value {string})",
        "CREATE UNIQUE INDEX index_metadata_on_recording_id_and_key ON metadata (recording_id, key)",
        f"CREATE TABLE playback_formats (id {key}, recording_id bigint, format {string}, url {string}, "
        "length integer, processing_time integer)",
        "CREATE UNIQUE INDEX index_playback_formats_on_recording_id_and_format "
        "ON playback_formats (recording_id, format)",
        f"CREATE TABLE thumbnails (id {key}, playback_format_id bigint, width integer, height integer, alt {string}, "
        f"url {string}, sequence integer)",
        "CREATE INDEX index_thumbnails_on_playback_format_id ON thumbnails (playback_format_id)",
        f"CREATE TABLE callback_data (id {key}, meeting_id {string}, recording_id integer, callback_attributes text, "
        f"created_at {precise} NOT NULL, updated_at {precise} NOT NULL)",
        f"CREATE TABLE schema_migrations (version {string} NOT NULL PRIMARY KEY)",
        "INSERT INTO schema_migrations VALUES " + ", ".join(f"('{version}')" for version in VERSIONS),
        f"CREATE TABLE ar_internal_metadata (key {string} NOT NULL PRIMARY KEY, value {string}, "
        f"created_at {precise} NOT NULL, updated_at {precise} NOT NULL)",
        f"INSERT INTO ar_internal_metadata VALUES ('environment', 'production', '{_DAY}', '{_DAY}')",
        *(loaded if variant == "schema_load" else []),
        "INSERT INTO recordings (record_id, meeting_id, name, published, state, starttime) VALUES "
        f"('r1', 'm1', 'One', {'true' if variant == 'schema_load' else 'NULL'}, 'published', '{_DAY}')",
        "INSERT INTO metadata (recording_id, key, value) VALUES (1, 'gl-listed', 'true')",
        "INSERT INTO callback_data (meeting_id, callback_attributes, created_at, updated_at) "
        f"VALUES ('m1', NULL, '{_DAY}', '{_DAY}')",
    ]


_DAY = "2024-05-06 07:08:09.123456"


def execute(url: str, *statements: str) -> None:
    """Carry out these statements, in one transaction."""
    engine = open_engine(url, pool=1, timeout=30)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def make_scalelite(url: str, variant: str = "schema_load") -> None:
    """Make of an empty database one as Scalelite left it, with one recording."""
    execute(url, *scalelite_statements(url.partition(":")[0], variant))
