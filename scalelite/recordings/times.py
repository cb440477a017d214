"""Times as the database has them: UTC without a zone."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as the database stores them."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
