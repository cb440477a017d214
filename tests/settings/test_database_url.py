"""`DATABASE_URL` as Rails and SQLAlchemy spell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelite.settings import SettingsError, load_settings
from scalelite.settings.database_url import read_database_url
from scalelite.settings.parse import Malformed

SECRETS = {"SECRET_KEY_BASE": "k" * 64, "LOADBALANCER_SECRET": "s", "URL_HOST": "h", "REDIS_URL": "redis://localhost"}


@pytest.mark.parametrize(
    ("text", "database", "options"),
    [
        ("postgres://u:p@h/d", "d", {"user": "u", "password": "p", "host": "h"}),
        ("postgresql://u:p@h:6432/d", "d", {"user": "u", "password": "p", "host": "h", "port": "6432"}),
        ("POSTGRESQL+psycopg2://u@h/d", "d", {"user": "u", "host": "h"}),
        ("postgres://u:p%40%2F%25%3A%3f@h/d%20e", "d e", {"user": "u", "password": "p@/%:?", "host": "h"}),
        ("postgres://u:p@ss:word@h/d", "d", {"user": "u", "password": "p@ss:word", "host": "h"}),
        ("postgres://u:a+b@h/d", "d", {"user": "u", "password": "a+b", "host": "h"}),
        ("postgres://:p@h/d", "d", {"password": "p", "host": "h"}),
        ("postgres://u:p@h", "scalelite", {"user": "u", "password": "p", "host": "h"}),
        ("postgres://u:p@h/", "scalelite", {"user": "u", "password": "p", "host": "h"}),
        ("postgres://h?dbname=x", "x", {"host": "h"}),
        ("postgres://", "scalelite", {}),
        ("postgres://[::1]:5433/d", "d", {"host": "::1", "port": "5433"}),
        ("postgres:///d?host=/run/postgresql", "d", {"host": "/run/postgresql"}),
        ("postgres:///d?host=/run/postgresql&port=5433", "d", {"host": "/run/postgresql", "port": "5433"}),
        ("postgres://%2Frun%2Fpostgresql/d", "d", {"host": "/run/postgresql"}),
        ("postgres://h1,h2:5433/d", "d", {"host": "h1,h2", "port": ",5433"}),
        ("postgresql+psycopg:///d?host=h1:5432&host=h2:5433", "d", {"host": "h1,h2", "port": "5432,5433"}),
        ("postgres://h/d?host=other&port=9", "d", {"host": "h", "port": "9"}),
        ("postgres://h/d?username=u&password=p", "d", {"host": "h", "user": "u", "password": "p"}),
        ("postgres://h/d?sslmode=verify-full&sslrootcert=/a%20b", "d", {
            "host": "h", "sslmode": "verify-full", "sslrootcert": "/a b"}),
        ("postgres://h/d?connect_timeout=3&application_name=a@b", "d", {
            "host": "h", "connect_timeout": "3", "application_name": "a@b"}),
        ("postgres://h/d?pool=5&encoding=unicode&checkout_timeout=5&statement_limit=9", "d", {"host": "h"}),
    ],
)  # fmt: skip
def test_a_postgresql_url_in_any_spelling(text: str, database: str, options: dict[str, str]) -> None:
    url = read_database_url(text)
    assert (url.engine, url.database, dict(url.options), url.ignored) == ("postgresql", database, options, ())


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite3:db/x.sqlite3", "db/x.sqlite3"),
        ("sqlite3:/srv/x.sqlite3", "/srv/x.sqlite3"),
        ("sqlite3:///srv/x.sqlite3", "/srv/x.sqlite3"),
        ("sqlite3:x.sqlite3?pool=5&timeout=5000", "x.sqlite3"),
        ("sqlite:///x.sqlite3", "x.sqlite3"),
        ("sqlite:////srv/x.sqlite3", "/srv/x.sqlite3"),
        ("sqlite+pysqlite:////srv/x.sqlite3", "/srv/x.sqlite3"),
        ("sqlite:////srv/a%20b", "/srv/a%20b"),
    ],
)
def test_an_sqlite_url_as_rails_and_as_sqlalchemy_write_it(text: str, path: str) -> None:
    url = read_database_url(text)
    assert (url.engine, url.database, url.ignored) == ("sqlite", path, ())


def test_options_of_rails_that_mean_something_are_taken() -> None:
    url = read_database_url("postgres://h/d?prepared_statements=false&schema_search_path=a,public")
    assert (url.prepare, url.search_path, url.ignored) == (False, "a,public", ())
    plain = read_database_url("postgres://h/d?prepared_statements=true")
    assert (plain.prepare, plain.search_path) == (True, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mysql://u:hunter2@h/d", "^$"),
        ("postgres:d", "// is missing"),
        ("postgres://u:hunter2/x@h:port/d", "written by %"),
        ("postgres://u:hunter2#@h:99999999/d", "written by %"),
        ("postgres://u:hunter2@h/d/e", "%2F"),
        ("postgres://u:hunter2@h/d?sslmode=on", "sslmode is one of disable,"),
        ("postgres://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgres://u:hunter2@h/d%00", "NUL"),
        ("postgres://u@/d?host=h:port", "port"),
        ("sqlite://", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("sqlite3::memory:", "memory"),
        ("sqlite3:", "memory"),
        ("sqlite://x.sqlite3", "three slashes"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_secrets(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=reason):
        read_database_url(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({"DATABASE_URL": text}, root=tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("DATABASE_URL='********': ")
    assert "hunter2" not in problem


@pytest.mark.parametrize("text", ["sqlite:///x.sqlite3", "sqlite3:x.sqlite3"])
def test_the_path_of_an_sqlite_file_is_taken_from_the_root(text: str, tmp_path: Path) -> None:
    settings = load_settings({"DATABASE_URL": text}, root=tmp_path)
    assert settings.effective_database_url == f"sqlite:///{tmp_path}/x.sqlite3"
    assert read_database_url(settings.effective_database_url).database == f"{tmp_path}/x.sqlite3"


def test_development_has_a_file_in_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings({}, root=tmp_path)
    assert settings.effective_database_url == f"sqlite:///{settings.data_dir}/scalelite.sqlite3"
    assert load_settings({"DB_DISABLED": "true"}, root=tmp_path).effective_database_url is None


@pytest.mark.parametrize(("environment", "warned"), [("production", True), ("development", False)])
def test_sqlite_in_production_is_warned_of(environment: str, warned: bool, tmp_path: Path) -> None:
    environ = {**SECRETS, "RAILS_ENV": environment, "DATABASE_URL": "sqlite3:/srv/x.sqlite3"}
    warnings = load_settings(environ, root=tmp_path).warnings
    assert any("SQLite" in warning for warning in warnings) is warned
    assert not any("SQLite" in w for w in load_settings({**environ, "DB_DISABLED": "true"}, root=tmp_path).warnings)


def test_production_without_a_database_is_warned_of(tmp_path: Path) -> None:
    environ = {**SECRETS, "RAILS_ENV": "production"}
    assert "DATABASE_URL is unset: no database for recordings is configured." in (
        load_settings(environ, root=tmp_path).warnings
    )


def test_an_unknown_option_is_ignored_and_told(tmp_path: Path) -> None:
    settings = load_settings({"DATABASE_URL": "postgres://h/d?sslmod=require&pool=5"}, root=tmp_path)
    assert [w for w in settings.warnings if "DATABASE_URL" in w] == [
        "DATABASE_URL: unknown options are ignored: 'sslmod'."
    ]
