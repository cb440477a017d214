"""`DATABASE_URL` for SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL

from scalelite.settings.database_url import DatabaseURL


def engine_url(url: DatabaseURL) -> URL:
    """The SQLAlchemy URL; PostgreSQL's connection options are not in it, but in `connect_arguments`."""
    if url.engine == "sqlite":
        return URL.create("sqlite+pysqlite", database=url.database)
    return URL.create("postgresql+psycopg", database=url.database)


def connect_arguments(url: DatabaseURL, timeout: float) -> dict[str, Any]:
    """What a PostgreSQL connection is opened with.

    `timeout`, in seconds, bounds connecting, and how long a dead peer goes unnoticed.
    """
    seconds = max(2, round(timeout))
    wanted = int(url.options.get("connect_timeout", "0"))
    arguments: dict[str, Any] = {
        # A server that is gone without a word is noticed by the kernel.
        "keepalives_idle": seconds,
        "keepalives_interval": max(1, seconds // 3),
        "keepalives_count": 3,
        "tcp_user_timeout": seconds * 1000,
        "application_name": "scalelite",
        **url.options,
        # libpq takes less than two seconds for two; 0 would be without end.
        "connect_timeout": min(wanted, seconds) if wanted else seconds,
        "client_encoding": "utf8",
    }
    if url.search_path is not None:
        path = url.search_path.replace("\\", "\\\\").replace(" ", "\\ ")
        arguments["options"] = f"{arguments.get('options', '')} -c search_path={path}".strip()
    return arguments
