"""`DATABASE_URL`, as Rails and as SQLAlchemy spell it, for SQLAlchemy."""

from __future__ import annotations

import re


def engine_url(url: str) -> str:
    """The SQLAlchemy URL for a `DATABASE_URL`."""
    return re.sub(r"^(postgres|postgresql):", "postgresql+psycopg:", url)
